"""Who asked the kernel for a change, as far as /proc still tells: for people, never for decisions.

The port id of a program's first netlink socket is its pid; later sockets have random numbers, and a
pid from another namespace means another process here. So the words say "perhaps". A short-lived
`ip` can still be looked up when its event arrives, but no longer 5 ms later.
"""

from __future__ import annotations

import contextlib
from functools import lru_cache
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
UNITS: Final = (".service", ".scope")  # of systemd, which name a cgroup


def culprit(pid: int, proc: Path = PROC) -> str:
    """Whom a notification names by its port id: process, parent and systemd unit if known."""
    return words(pid, process_name(pid, proc), proc) if pid else "the kernel"


def words(pid: int, process: str, proc: Path = PROC) -> str:
    """The same, for a process whose name is known already; empty: there is none."""
    if not process:
        return f"port id {pid}"
    return f"port id {pid}, perhaps {process}{_origin(pid, proc)}"


@lru_cache(maxsize=16)  # a flush is many events of one process; `forget` ends that
def process_name(pid: int, proc: Path = PROC) -> str:
    """The name of a process; empty where there is none."""
    return _read(proc / str(pid) / "comm")


@lru_cache(maxsize=16)
def _origin(pid: int, proc: Path) -> str:
    """Its parent and its unit, in parentheses."""
    lines = _read(proc / str(pid) / "status").splitlines()
    parent = next((line.split()[-1] for line in lines if line.startswith("PPid:")), "0")
    name = _read(proc / parent / "comm")
    parts = [f"child of {name}, pid {parent}"] if name else []
    cgroup = _read(proc / str(pid) / "cgroup").replace("\n", "/").split("/")
    unit = next((part for part in reversed(cgroup) if part.endswith(UNITS)), "")
    parts += [f"unit {unit}"] if unit else []
    return f" ({', '.join(parts)})" if parts else ""


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


def forget() -> None:
    """From now on a pid may be another process."""
    process_name.cache_clear()
    _origin.cache_clear()
