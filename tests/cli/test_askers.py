"""Who asks IMDS: what connections and processes come to, by a /proc of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

import nicwatchd.cli.diagnosis.askers
from nicwatchd.cli.diagnosis.askers import LISTED, LOOKS, MANY, askers
from nicwatchd.cli.diagnosis.facts import Asker
from nicwatchd.netlink import culprit

HERE, ELSEWHERE = "net:[1]", "net:[2]"
ENDPOINTS = (ip_address("169.254.169.254"), ip_address("fd00:ec2::254"))
V4, V6 = "FEA9FEA9:0050", "C20E00FD000000000000000054020000:0050"
OTHER = "0100007F:0050"
HEADING = "  sl  local_address rem_address st tx rx tr tm retrnsmt uid timeout inode\n"


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    culprit.forget()
    yield
    culprit.forget()


class Proc:
    """A /proc in which connections and processes come and go from one look to the next."""

    def __init__(self, path: Path) -> None:
        self.path, self.looks = path, 0
        self._inodes = 1000
        (path / "net").mkdir()
        (path / "uptime").write_text("1000.00 3000.00\n")
        self._link("self", HERE)

    def _link(self, name: str, namespace: str) -> None:
        (self.path / name / "ns").mkdir(parents=True)
        (self.path / name / "ns" / "net").symlink_to(namespace)

    def process(
        self, pid: int, name: str, parent: int = 4000, *, namespace: str = HERE, age: float = 100.0
    ) -> None:
        self._link(str(pid), namespace)
        directory = self.path / str(pid)
        (directory / "fd").mkdir()
        (directory / "comm").write_text(f"{name}\n")
        (directory / "cmdline").write_bytes(f"{name}\0-v\0".encode())
        (directory / "status").write_text(f"PPid:\t{parent}\n")
        (directory / "cgroup").write_text("0::/\n")
        ticks = int((1000.0 - age) * os.sysconf("SC_CLK_TCK"))
        (directory / "stat").write_text(f"{pid} (x) S {'0 ' * 18}{ticks} 0\n")

    def connects(self, pid: int, times: int = 1, to: str = V4) -> None:
        """By new connections of a process."""
        table = self.path / "net" / ("tcp6" if to == V6 else "tcp")
        lines = table.read_text() if table.exists() else HEADING
        for _ in range(times):
            self._inodes += 1
            (self.path / str(pid) / "fd" / str(self._inodes)).symlink_to(f"socket:[{self._inodes}]")
            lines += f"0: 0A00020A:{self._inodes:04X} {to} 01 0:0 0:0 0 0 0 {self._inodes} 1\n"
        table.write_text(lines)

    def between(self, _: float) -> None:
        self.looks += 1

    def askers(self, *but: int) -> tuple[Asker, ...]:
        return askers(ENDPOINTS, self.path, but=but, pause=self.between)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


def test_nobody_asks(proc: Proc) -> None:
    proc.process(4711, "quiet")
    proc.connects(4711, 20, OTHER)
    assert proc.askers() == ()
    assert proc.looks == LOOKS


@pytest.mark.parametrize("to", [V4, V6])
def test_the_busiest_come_first_and_who_asks_little_is_not_told(proc: Proc, to: str) -> None:
    for pid, name, times in ((1, "a", MANY - 1), (2, "b", MANY), (3, "c", 9), (4, "d", 7)):
        proc.process(4710 + pid, name)
        proc.connects(4710 + pid, times, to)
    assert proc.askers() == (
        Asker("c", 9, "sudo kill 4713  # c"),
        Asker("d", 7, "sudo kill 4714  # d"),
        Asker("b", MANY, "sudo kill 4712  # b"),
    )
    proc.process(4715, "e")
    proc.connects(4715, 20, to)
    assert [each.name for each in proc.askers()] == ["e", "c", "d"]
    assert LISTED == 3


def test_a_connection_is_counted_once_however_often_it_is_seen(proc: Proc) -> None:
    proc.process(4711, "patient")
    proc.connects(4711, 1)
    assert proc.askers() == ()


def test_the_daemon_and_this_command_are_not_told(proc: Proc) -> None:
    for pid, name in ((4711, "nicwatchd"), (4712, "doctor"), (4713, "agent")):
        proc.process(pid, name)
        proc.connects(pid, 10)
    assert [each.name for each in proc.askers(4711, 4712)] == ["agent"]


def test_processes_of_other_namespaces_are_not_looked_at(proc: Proc) -> None:
    """Their sockets are in tables of their own."""
    proc.process(4711, "contained", namespace=ELSEWHERE)
    proc.connects(4711, 10)
    assert proc.askers() == ()


def test_a_loop_that_runs_a_command_each_time_is_one(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at, and not ended: it may do more than that."""
    proc.process(4000, "agent", 1)
    born = iter(range(4711, 4711 + 12))

    def between(_: float) -> None:
        if (pid := next(born, None)) is not None:
            proc.process(pid, "curl", age=0.05)
            proc.connects(pid)

    monkeypatch.setattr(proc, "between", between)
    (found,) = proc.askers()
    assert found.name.startswith("curl (child of agent, pid 4000)")
    assert found.connections == 12
    assert found.stop == "ps -wwfp 4000  # agent runs curl: stop or configure it"


def test_who_is_not_to_be_ended_is_told_without_a_remedy(proc: Proc) -> None:
    proc.process(4711, "sshd", 1)
    proc.connects(4711, 10)
    assert proc.askers() == (Asker("sshd", 10, ""),)


def test_connections_whose_process_has_ended_are_nobodys(proc: Proc) -> None:
    proc.process(4711, "gone")
    proc.connects(4711, 10)
    for each in (proc.path / "4711" / "fd").iterdir():
        each.unlink()
    assert proc.askers() == ()


def test_connections_that_end_while_the_kernel_lists_them(
    proc: Proc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that asked is looked at before the list, too; a list takes a while."""
    proc.process(4711, "agent")
    lists = nicwatchd.cli.diagnosis.askers._lines

    def one_that_takes_long(path: Path) -> list[str]:
        lines = lists(path)
        if proc.looks:  # the first is found after its list
            for each in (proc.path / "4711" / "fd").iterdir():
                each.unlink()
        return lines

    def between(_: float) -> None:
        proc.looks += 1
        proc.connects(4711)

    monkeypatch.setattr(nicwatchd.cli.diagnosis.askers, "_lines", one_that_takes_long)
    monkeypatch.setattr(proc, "between", between)
    proc.connects(4711)
    assert proc.askers() == (Asker("agent", LOOKS, "sudo kill 4711  # agent"),)
