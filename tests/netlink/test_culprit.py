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


def process(
    proc: Path,
    pid: int,
    name: bytes,
    parent: int = 0,
    cgroup: str = "0::/\n",
    *,
    command: bytes = b"command",
    started: float = 0.0,
    may: str = "000001ffffffffff",
) -> None:
    """`started`: in s since the boot, which was 1000 s ago. `may`: its capabilities."""
    directory = proc / str(pid)
    directory.mkdir(exist_ok=True)
    (directory / "comm").write_bytes(name + b"\n")
    status = f"Name:\tx\nPid:\t{pid}\nPPid:\t{parent}\nCapEff:\t{may}\n"
    (directory / "status").write_text(status)
    (directory / "cgroup").write_text(cgroup)
    (directory / "cmdline").write_bytes(command + b"\0" if command else b"")
    ticks = int(started * os.sysconf("SC_CLK_TCK"))
    (directory / "stat").write_text(f"{pid} (a) b) S {'0 ' * 18}{ticks} 0 0\n")
    (proc / "uptime").write_text("1000.00 3000.00\n")


def test_of_this_process_it_knows_at_least_the_name_and_the_parent() -> None:
    name = Path("/proc/self/comm").read_text().strip()
    text = culprit.culprit(os.getpid())
    assert text.startswith(f"port id {os.getpid()}, perhaps {name} (child of ")
    assert f", pid {os.getppid()}" in text


def test_who_is_unknown_is_said_to_be(tmp_path: Path) -> None:
    assert culprit.culprit(0, tmp_path) == "the kernel"
    assert culprit.culprit(STRANGER, tmp_path) == f"port id {STRANGER}"


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


# --- what ends it --------------------------------------------------------------------------------

YOUNG = 999.9  # s: when it started
UNIT = "0::/system.slice/{}\n"
SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
REPLICA = "replica.service"
DISPATCHER = "NetworkManager-dispatcher.service"


def test_a_process_that_has_been_there_and_was_named_itself_is_ended(tmp_path: Path) -> None:
    process(tmp_path, 4711, b"flusher", 4700)
    assert culprit.stop(4711, tmp_path) == "sudo kill 4711  # flusher"
    process(tmp_path, 4712, b"flusher", 1, UNIT.format(REPLICA))
    assert culprit.stop(4712, tmp_path) == "sudo systemctl stop replica.service  # flusher"
    process(tmp_path, 4713, b"python3", 4700, SESSION)  # left running by somebody
    assert culprit.stop(4713, tmp_path) == "sudo kill 4713  # python3"


@pytest.mark.parametrize(
    ("pid", "name", "unit"),
    [
        (1, b"flusher", ""),
        *((4711, name, "") for name in (b"init", b"systemd", b"systemd-udevd", b"sshd", b"cron")),
        *((4711, name, "") for name in (b"crond", b"atd", b"login", b"agetty", b"bash", b"sh")),
        *((4711, name, "") for name in (b"sudo", b"su", b"tmux: server", b"nicwatchd")),
        *((4711, name, "") for name in (b"dockerd", b"containerd-shim", b"kubelet")),
        *((4711, b"flusher", unit) for unit in ("cron.service", "ssh.service", "docker.service")),
        *((4711, b"flusher", unit) for unit in ("getty@tty1.service", "user@1000.service")),
        (4711, b"worker", "amazon-ssm-agent.service"),
    ],
)
def test_what_others_depend_on_is_never_ended(
    tmp_path: Path, pid: int, name: bytes, unit: str
) -> None:
    process(tmp_path, pid, name, 4700, UNIT.format(unit) if unit else "0::/\n")
    assert culprit.stop(pid, tmp_path) == ""
    assert culprit.stop_process(pid, tmp_path) == ""


def test_the_daemon_itself_is_never_ended(tmp_path: Path) -> None:
    process(tmp_path, os.getpid(), b"python3", 4700)
    assert culprit.stop(os.getpid(), tmp_path) == ""
    assert culprit.stop_process(os.getpid(), tmp_path) == ""


def test_names_that_only_begin_like_those_are_no_exception(tmp_path: Path) -> None:
    for pid, name in enumerate((b"supervise", b"suricata", b"initrules", b"cronicle"), 4711):
        process(tmp_path, pid, name)
        assert culprit.stop(pid, tmp_path) == f"sudo kill {pid}  # {name.decode()}"


@pytest.mark.parametrize("name", [b"NetworkManager", b"systemd-network", b"keepalived", b"bird"])
def test_a_network_manager_is_to_be_configured(tmp_path: Path, name: bytes) -> None:
    process(tmp_path, 4711, name, 1, UNIT.format("any.service"))
    told = f"configure {name.decode()} to leave protocol 236 alone"
    how = ": nicwatchd doctor tells how" if name == b"systemd-network" else ""
    assert culprit.stop(4711, tmp_path) == f"{told}{how}"
    assert culprit.stop_process(4711, tmp_path) == "", "there may be other things amiss"


def test_what_a_network_manager_runs_is_to_be_configured_there(tmp_path: Path) -> None:
    process(tmp_path, 4700, b"sh", 1, UNIT.format(DISPATCHER), command=SCRIPT)
    process(tmp_path, 4711, b"ip", 4700, UNIT.format(DISPATCHER), started=YOUNG)
    assert culprit.stop(4711, tmp_path) == f"configure {DISPATCHER} to leave protocol 236 alone"


def test_a_number_of_another_namespace_means_nobody_here(tmp_path: Path) -> None:
    """It is a part of the kernel, or a process that cannot have removed anything."""
    process(tmp_path, 17, b"ksoftirqd/0", 2, command=b"")
    process(tmp_path, 4711, b"postgres", 1, UNIT.format("postgresql.service"), may="0")
    assert culprit.stop(17, tmp_path) == culprit.stop(4711, tmp_path) == ""
    assert culprit.stop(STRANGER, tmp_path) == culprit.stop(0, tmp_path) == ""


SCRIPT = b"sh\0/opt/flush"
PS = "ps -wwfp 4700  # {} runs ip: stop or configure it"
WHO = "who -u  # somebody who is logged in runs ip"
CRON = "sudo grep -rw ip /etc/cron* /var/spool/cron  # a job of cron runs it"


@pytest.mark.parametrize(
    ("parent", "command", "unit", "told"),
    [
        pytest.param(b"sh", SCRIPT, "", PS.format("sh"), id="a script"),
        pytest.param(b"sh", b"sh\0-c\0ip", "session-3.scope", PS.format("sh"), id="in a session"),
        pytest.param(b"agent", b"agent", "", PS.format("agent"), id="a program"),
        pytest.param(
            b"agent",
            b"agent",
            REPLICA,
            "systemctl status replica.service  # it runs ip: stop or configure it",
            id="a service",
        ),
        pytest.param(b"bash", b"-bash", "", WHO, id="a login shell"),
        pytest.param(b"bash", b"bash", "session-3.scope", WHO, id="a prompt"),
        pytest.param(b"zsh", b"/bin/zsh\0-i", "", WHO, id="a prompt, by its option"),
        pytest.param(b"sshd", b"sshd: ubuntu", "ssh.service", WHO, id="by ssh"),
        pytest.param(b"cron", b"/usr/sbin/cron", "cron.service", CRON, id="cron"),
        pytest.param(b"sh", b"sh\0-c\0ip", "crond.service", CRON, id="cron's shell"),
        pytest.param(b"sudo", b"sudo\0ip", "session-3.scope", "", id="sudo"),
        pytest.param(b"systemd", b"systemd", "", "", id="systemd"),
        pytest.param(b"ssm-worker", b"ssm", "amazon-ssm-agent.service", "", id="an agent"),
        pytest.param(b"containerd-shim", b"shim", "docker.service", "", id="a container"),
    ],
)
def test_whoever_runs_a_command_is_shown_and_not_ended(
    tmp_path: Path, parent: bytes, command: bytes, unit: str, told: str
) -> None:
    cgroup = UNIT.format(unit) if unit else "0::/\n"
    process(tmp_path, 4700, parent, 1, cgroup, command=command)
    process(tmp_path, 4711, b"ip", 4700, cgroup, started=YOUNG)
    assert culprit.stop(4711, tmp_path) == told
    assert culprit.stop_process(4711, tmp_path) == told


def test_without_a_parent_nobody_is_known(tmp_path: Path) -> None:
    process(tmp_path, 1, b"systemd")
    for pid, parent in ((4711, 0), (4712, 1), (4713, 4700)):  # the last one's has ended
        process(tmp_path, pid, b"ip", parent, started=YOUNG)
        assert culprit.stop(pid, tmp_path) == ""
        culprit.forget()


# --- who is behind a random number ---------------------------------------------------------------

NETLINK = "sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\n"


def sockets(proc: Path, *pids: int, protocol: int = 0) -> None:
    (proc / "net").mkdir(exist_ok=True)
    lines = "".join(f"0 {protocol} {pid} 0 0 0 0 2 0 1\n" for pid in pids)
    (proc / "net" / "netlink").write_text(NETLINK + lines)


def test_the_one_that_has_just_started_is_behind_a_random_number(tmp_path: Path) -> None:
    process(tmp_path, 4700, b"sh", 1, command=SCRIPT)
    process(tmp_path, 4711, b"ip", 4700, started=YOUNG)
    process(tmp_path, 500, b"networkd")
    sockets(tmp_path, 0, 500, 4711, STRANGER, os.getpid())
    assert culprit.behind(STRANGER, tmp_path) == 4711
    text = f"port id {STRANGER}, perhaps ip (child of sh, pid 4700)"
    assert culprit.culprit(STRANGER, tmp_path) == text
    assert culprit.stop(STRANGER, tmp_path) == PS.format("sh")
    assert culprit.behind(500, tmp_path) == 500, "a number that is a process is that process"


def test_of_several_or_of_none_nobody_is_behind_it(tmp_path: Path) -> None:
    for pid in (4711, 4712):
        process(tmp_path, pid, b"ip", 4700, started=YOUNG)
    process(tmp_path, 500, b"networkd")
    for some in ((4711, 4712), (500,), ()):
        sockets(tmp_path, *some)
        culprit.forget()
        assert culprit.behind(STRANGER, tmp_path) == 0
        assert culprit.stop(STRANGER, tmp_path) == ""
        assert culprit.culprit(STRANGER, tmp_path) == f"port id {STRANGER}"
    sockets(tmp_path, 4711, protocol=15)  # udev's
    culprit.forget()
    assert culprit.behind(STRANGER, tmp_path) == 0
