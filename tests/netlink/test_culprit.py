"""Whom a notification names, by what /proc still has of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nicwatchd.netlink import culprit

STRANGER = 2**32 - 5  # a port id that is nobody's pid
SERVICE = "0::/system.slice/netplan.service\n"
HYBRID = "12:pids:/user.slice\n1:name=systemd:/user.slice/session-3.scope\n0::/\n"


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    culprit.forget()
    yield
    culprit.forget()


def process(proc: Path, pid: int, name: bytes, parent: int = 0, cgroup: str = "0::/\n") -> None:
    directory = proc / str(pid)
    directory.mkdir(exist_ok=True)
    (directory / "comm").write_bytes(name + b"\n")
    (directory / "status").write_text(f"Name:\tx\nPid:\t{pid}\nPPid:\t{parent}\n")
    (directory / "cgroup").write_text(cgroup)


def test_of_this_process_it_knows_at_least_the_name_and_the_parent() -> None:
    name = Path("/proc/self/comm").read_text().strip()
    text = culprit.culprit(os.getpid())
    assert text.startswith(f"port id {os.getpid()}, perhaps {name} (child of ")
    assert f", pid {os.getppid()}" in text


def test_who_is_unknown_is_said_to_be() -> None:
    assert culprit.culprit(0) == "the kernel"
    assert culprit.culprit(STRANGER) == f"port id {STRANGER}"


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        (SERVICE, ", unit netplan.service"),
        (HYBRID, ", unit session-3.scope"),
        ("0::/system.slice/a.service/payload\n", ", unit a.service"),
        ("0::/docker/0123\n", ""),
        ("", ""),
    ],
)
def test_the_parent_and_the_unit_are_told(tmp_path: Path, cgroup: str, unit: str) -> None:
    process(tmp_path, 4700, b"bash", 1)
    process(tmp_path, 4711, b"ip", 4700, cgroup)
    text = culprit.culprit(4711, tmp_path)
    assert text == f"port id 4711, perhaps ip (child of bash, pid 4700{unit})"


def test_a_process_that_ends_meanwhile_leaves_its_name(tmp_path: Path) -> None:
    process(tmp_path, 4711, b"ip", 4700)
    for gone in ("status", "cgroup"):
        (tmp_path / "4711" / gone).unlink()
    assert culprit.culprit(4711, tmp_path) == "port id 4711, perhaps ip"


def test_any_bytes_can_be_a_name(tmp_path: Path) -> None:
    process(tmp_path, 4711, b"\xff\x1b[31m")
    assert culprit.culprit(4711, tmp_path).startswith("port id 4711, perhaps \ufffd")


def test_a_pid_is_another_process_later(tmp_path: Path) -> None:
    process(tmp_path, 4711, b"ip")
    assert "perhaps ip" in culprit.culprit(4711, tmp_path)
    process(tmp_path, 4711, b"nft")
    assert "perhaps ip" in culprit.culprit(4711, tmp_path), "of one batch of events"
    culprit.forget()
    assert "perhaps nft" in culprit.culprit(4711, tmp_path)
