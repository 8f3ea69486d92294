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
SHELLS: Final = ("sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh")
# They lead the host's own connections: they are to be configured, not stopped.
MANAGERS: Final = (
    *("systemd-network", "NetworkManager", "dhcpcd", "dhclient", "connmand", "netplan", "networkd"),
    *("keepalived", "bird", "zebra", "frr", "wpa_supplicant", "tailscaled"),
)
CRON: Final = ("cron", "crond", "anacron")
LOGINS: Final = ("ssh", "login", "getty", "agetty", "session-", "user@", "serial-getty")
# Whose end would end more than what was found there: they run what others gave them.
SHARED: Final = (
    *("systemd", "(sd-pam)", "screen", "tmux", "nicwatchd", "dbus", "supervisord"),
    *("containerd", "docker", "kubelet", "amazon-ssm", "ssm-", "snap."),
)
ALSO_SHARED: Final = ("init", "su", "sudo", "atd")  # whole names
NET_ADMIN: Final = 1 << 12  # in the mask of what a process may do: who has it not removes nothing


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
    """What ends what the process behind a port id does, as `stop_process`; "" if not known.

    A command that ends a process is given for the very process that has this number, has been there
    for a while, and may remove something: a number from another namespace is mostly none of these.
    """
    pid = behind(port, proc) if port else 0
    names = (process_name(pid, proc), origin(pid, proc).unit) if pid else ()
    for manager in (name for name in names if name.startswith(MANAGERS)):
        how = ": nicwatchd doctor tells how" if manager.startswith("systemd-network") else ""
        return f"configure {manager} to leave protocol 236 alone{how}"
    if pid and age(pid, proc) >= YOUNG and not _may_remove(pid, proc):
        return ""
    return stop_process(pid, proc) if pid else ""


def stop_process(pid: int, proc: Path = PROC) -> str:
    """A command that ends a process; if it is better looked at first, one that shows who runs it.

    A process that has been there for a while is ended, or its unit. A command that has just begun
    was run by somebody, who may do more than that: a person decides what is to be ended. Empty:
    not known.
    """
    name, its = process_name(pid, proc), origin(pid, proc)
    if not name or not _command(pid, proc):  # it has ended, or is a part of the kernel
        return ""
    if age(pid, proc) < YOUNG:
        return _who_runs(name, its, proc)
    is_service = its.unit.endswith(".service")
    names = (name, its.unit.removesuffix(".service")) if is_service else (name,)
    if pid in (1, os.getpid()) or name in SHELLS or _is_left(*names):
        return ""
    return f"sudo {f'systemctl stop {its.unit}' if is_service else f'kill {pid}'}  # {name}"


def _who_runs(name: str, its: Origin, proc: Path) -> str:
    """A command that shows who runs a program again and again."""
    if its.parent in CRON or its.unit.partition(".")[0] in CRON:
        return f"sudo grep -rw {name} /etc/cron* /var/spool/cron  # a job of cron runs it"
    if _is_prompt(its, proc) or its.parent.startswith(LOGINS):
        return f"who -u  # somebody who is logged in runs {name}"
    unit = its.unit.removesuffix(".service")
    if unit != its.unit and not _is_left(unit):
        return f"systemctl status {its.unit}  # it runs {name}: stop or configure it"
    if its.parent_pid <= 1 or not its.parent or _is_left(its.parent):
        return ""
    return f"ps -wwfp {its.parent_pid}  # {its.parent} runs {name}: stop or configure it"


def _is_left(*names: str) -> bool:
    """Whether nobody is told to stop one of these."""
    begins = (*SHARED, *MANAGERS, *LOGINS)
    return any(name.startswith(begins) or name in (*CRON, *ALSO_SHARED) for name in names)


def _is_prompt(its: Origin, proc: Path) -> bool:
    """Whether the parent is a shell in which somebody types: it has no script and no command."""
    command = _command(its.parent_pid, proc)
    if its.parent not in SHELLS or not command:
        return False
    return command[0].startswith("-") or all(word in ("-i", "-l") for word in command[1:])


def _command(pid: int, proc: Path) -> list[str]:
    """The words of its command line; none of a part of the kernel."""
    text = _read(proc / str(pid) / "cmdline").rstrip("\0")
    return text.split("\0") if text else []


def _may_remove(pid: int, proc: Path) -> bool:
    lines = _read(proc / str(pid) / "status").splitlines()
    return any(int(line.split()[1], 16) & NET_ADMIN for line in lines if line.startswith("CapEff:"))


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
