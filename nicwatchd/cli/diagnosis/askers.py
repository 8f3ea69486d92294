"""Who asks IMDS: the processes of this network namespace that make many connections to it.

Connections are short, so they are looked at again and again for a moment. Without root, only the
caller's own processes can be told from their sockets. Containers have namespaces of their own, and
who keeps one connection for many questions is not seen.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from nicwatchd.cli.diagnosis.facts import Asker
from nicwatchd.core.model import IPAddress
from nicwatchd.netlink import culprit

LOOKS: Final = 100
PAUSE: Final = 0.02  # s between two looks
TABLES: Final = ("tcp", "tcp6")  # of /proc/net
MANY: Final = 5  # connections that are seen: nobody who asks less is to be stopped
LISTED: Final = 3


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection to IMDS: its local end, which is another for each, and its socket's inode."""

    local: str
    inode: str


def askers(
    endpoints: Collection[IPAddress],
    proc: Path,
    *,
    but: Collection[int] = (),
    pause: Callable[[float], None] = time.sleep,
) -> tuple[Asker, ...]:
    """Who asks IMDS most, without the processes `but`, the busiest first."""
    seen: dict[Connection, str] = {}  # and the process, once it was found; "" is one of `but`
    stops: dict[str, str] = {}
    neighbours: dict[int, bool] = {}  # processes, and whether they are in this network namespace
    for _ in range(LOOKS):
        new = {each for each in _connections(endpoints, proc) if each not in seen}
        for pid in set(_pids(proc)) - neighbours.keys():
            neighbours[pid] = _namespace(pid, proc) == _namespace("self", proc)
        here = [pid for pid, is_here in neighbours.items() if is_here]
        owners = _owners({each.inode for each in new}, here, proc)
        for each in [each for each in new if each.inode in owners]:
            pid = owners[each.inode]
            seen[each] = "" if pid in but else _named(pid, proc, stops)
        pause(PAUSE)
    counts = Counter(name for name in seen.values() if name)
    busy = ((name, n) for name, n in counts.most_common(LISTED) if n >= MANY)
    return tuple(Asker(name, n, stops[name]) for name, n in busy)


def _named(pid: int, proc: Path, stops: dict[str, str]) -> str:
    """A process in words. Those that one remedy ends are one: a loop runs a command each time."""
    stop = culprit.stop_process(pid, proc)
    name = f"{culprit.process_name(pid, proc)}{culprit.origin(pid, proc)}"
    known = next((words for words, its in stops.items() if stop and its == stop), name)
    stops.setdefault(known, stop)
    return known


def _connections(endpoints: Collection[IPAddress], proc: Path) -> Iterator[Connection]:
    for table in TABLES:
        for line in _lines(proc / "net" / table):
            _, local, remote, *rest = line.split()
            if _address(remote) in endpoints:
                yield Connection(local, rest[6])


def _namespace(pid: int | str, proc: Path) -> str | None:
    try:
        return str((proc / str(pid) / "ns" / "net").readlink())
    except OSError:  # it has ended, or is another user's
        return None


def _owners(inodes: Collection[str], pids: Collection[int], proc: Path) -> dict[str, int]:
    """Those of the processes that have these sockets. The latest are looked at first."""
    names = {f"socket:[{inode}]": inode for inode in inodes if inode != "0"}
    found: dict[str, int] = {}
    for pid in sorted(pids, reverse=True):
        if len(found) == len(names):
            break
        try:
            targets = {str(each.readlink()) for each in (proc / str(pid) / "fd").iterdir()}
        except OSError:  # it has ended, or is another user's
            continue
        found |= {names[target]: pid for target in targets & names.keys()}
    return found


def _pids(proc: Path) -> list[int]:
    return [int(each.name) for each in proc.iterdir() if each.name.isdecimal()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return []


def _address(end: str) -> IPAddress:
    """The address of one end of a connection: words of four bytes, in the host's order."""
    packed = bytes.fromhex(end.partition(":")[0])
    if sys.byteorder == "little":
        packed = b"".join(packed[n : n + 4][::-1] for n in range(0, len(packed), 4))
    return ip_address(packed)
