"""Who asked the kernel for a change, as far as /proc still tells: for people, never for decisions.

The port id of a program's first netlink socket is its pid; later sockets have random numbers, and a
pid from another namespace means another process here. So the words say "perhaps". A short-lived
`ip` can still be looked up when its event arrives, but no longer 5 ms later. Behind a random number
is most likely the one process with a socket for routes that has just started, if there is one: a
flush by `ip` opens a socket for each rule.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
UNITS: Final = (".service", ".scope")  # of systemd, which name a cgroup
YOUNG: Final = 0.2  # s; an older process is no command that a script has just run
STARTED: Final = 20  # the place of the start, in ticks, behind the name in /proc/PID/stat
NETLINK_ROUTE: Final = "0"  # in the column of protocols
# They lead the host's own connections: they are to be configured, not stopped.
MANAGERS: Final = ("systemd-network", "NetworkManager", "dhcpcd", "connmand", "netplan")
# Whose end would end more than what was found there.
SHARED: Final = (
    "cron",
    "crond",
    "ssh",
    "sshd",
    "user@",
    "init",
    "systemd-",
    "containerd",
    "docker",
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a process comes from: its parent, and the systemd unit whose cgroup it is in."""

    parent: str = ""
    parent_pid: int = 0
    unit: str = ""

    def __str__(self) -> str:
        parts = [f"child of {self.parent}, pid {self.parent_pid}"] if self.parent else []
        parts += [f"unit {self.unit}"] if self.unit else []
        return f" ({', '.join(parts)})" if parts else ""


def culprit(port: int, proc: Path = PROC) -> str:
    """Whom a notification names by its port id: process, parent and systemd unit if known."""
    if not port:
        return "the kernel"
    pid = behind(port, proc)
    return words(port, process_name(pid, proc), proc, pid) if pid else words(port, "", proc)


def words(port: int, process: str, proc: Path = PROC, pid: int = 0) -> str:
    """The same, for a process whose name is known already; empty: there is none.

    `pid`: its number, if that is not the port id.
    """
    if not process:
        return f"port id {port}"
    return f"port id {port}, perhaps {process}{origin(pid or port, proc)}"


def stop(port: int, proc: Path = PROC) -> str:
    """What ends what the process behind a port id does: a command, or words; "" if not known."""
    pid = behind(port, proc) if port else 0
    name, its = process_name(pid, proc) if pid else "", origin(pid, proc) if pid else Origin()
    if not name:
        return ""
    if name.startswith(MANAGERS) or its.unit.startswith(MANAGERS):
        return f"configure {name} to leave protocol 236 alone (systemd-networkd: nicwatchd doctor)"
    if its.unit.endswith(".service") and not its.unit.startswith(SHARED):
        return f"sudo systemctl stop {its.unit}"
    if age(pid, proc) >= YOUNG:
        return f"sudo kill {pid}  # {name}"
    return f"sudo kill {its.parent_pid}  # {its.parent}" if its.parent_pid > 1 else ""


@lru_cache(maxsize=16)  # a flush is many events of one process; `forget` ends that
def process_name(pid: int, proc: Path = PROC) -> str:
    """The name of a process; empty where there is none."""
    return _read(proc / str(pid) / "comm")


@lru_cache(maxsize=16)
def behind(port: int, proc: Path = PROC) -> int:
    """The process that a port id stands for, most likely; 0: not known."""
    if process_name(port, proc):
        return port
    young = [pid for pid in _with_sockets(proc) if age(pid, proc) < YOUNG]
    return young[0] if len(young) == 1 else 0


def _with_sockets(proc: Path) -> Iterator[int]:
    """The processes of this network namespace whose first netlink socket is one for routes."""
    for line in _read(proc / "net" / "netlink").splitlines()[1:]:
        _, protocol, port, *_ = line.split()
        is_ours = port == str(os.getpid())
        if protocol == NETLINK_ROUTE and not is_ours and process_name(int(port), proc):
            yield int(port)


def age(pid: int, proc: Path = PROC) -> float:
    """For how many seconds a process has been there; 0 where there is none."""
    fields = _read(proc / str(pid) / "stat").rpartition(")")[2].split()
    uptime = _read(proc / "uptime").split()
    if len(fields) < STARTED or not uptime:
        return 0.0
    return float(uptime[0]) - int(fields[STARTED - 1]) / os.sysconf("SC_CLK_TCK")


@lru_cache(maxsize=16)
def origin(pid: int, proc: Path = PROC) -> Origin:
    """Where a process comes from, as far as /proc still tells."""
    lines = _read(proc / str(pid) / "status").splitlines()
    parent = next((line.split()[-1] for line in lines if line.startswith("PPid:")), "0")
    cgroup = _read(proc / str(pid) / "cgroup").replace("\n", "/").split("/")
    unit = next((part for part in reversed(cgroup) if part.endswith(UNITS)), "")
    return Origin(_read(proc / parent / "comm"), int(parent), unit)


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def forget() -> None:
    """From now on a pid may be another process."""
    process_name.cache_clear()
    behind.cache_clear()
    origin.cache_clear()
