"""Who asks IMDS: the processes of this network namespace that make many connections to it.

Connections are short, so they are looked at again and again for a moment. Without root, only the
caller's own processes can be told from their sockets. Containers have namespaces of their own, and
who keeps one connection for many questions is not seen.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from collections.abc import Set as AbstractSet
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
    owners = Owners(proc)
    seen: dict[Connection, str] = {}  # and the process, once it was found; "" is one of `but`
    stops: dict[str, str] = {}
    for _ in range(LOOKS):
        for table in TABLES:
            owners.look_ahead()
            new = {each for each in _connections(endpoints, proc, table) if each not in seen}
            for each, pid in owners.of(new).items():
                seen[each] = "" if pid in but else _named(pid, proc, stops)
        pause(PAUSE)
    counts = Counter(name for name in seen.values() if name)
    busy = ((name, n) for name, n in counts.most_common(LISTED) if n >= MANY)
    return tuple(Asker(name, n, stops[name]) for name, n in busy)


class Owners:
    """Which process of this network namespace has which socket, or had it a moment ago.

    The kernel walks through its whole table of connections to list some, which takes milliseconds
    on a large host: a connection may begin and end within one list. So those who are likely to ask
    are looked at before a list, and all of them after it, the likeliest first.
    """

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._is_here: dict[int, bool] = {}  # processes, and whether they are in this namespace
        self._asked: set[int] = set()
        self._sockets: dict[str, int] = {}  # by their inodes, which are not used again so soon

    def look_ahead(self) -> None:
        """Look at those that have asked before, and at those that are new."""
        self._look(self._asked)
        self._look(self._arrivals())

    def of(self, connections: Collection[Connection]) -> dict[Connection, int]:
        """Whose these connections are, as far as that can be seen."""
        wanted = {each.inode for each in connections} - {"0"}
        self._look(self._asked, until=wanted)
        # The latest come first: a loop runs a new command each time.
        here = (pid for pid, is_here in self._is_here.items() if is_here)
        self._look(sorted({*here, *self._arrivals()}, reverse=True), until=wanted)
        found = {
            each: self._sockets[each.inode] for each in connections if each.inode in self._sockets
        }
        self._asked.update(found.values())
        return found

    def _arrivals(self) -> list[int]:
        """The processes of this namespace that were not there when we looked last."""
        pids = {int(each.name) for each in self._proc.iterdir() if each.name.isdecimal()}
        ours = _namespace("self", self._proc)
        new = {pid: _namespace(pid, self._proc) == ours for pid in pids - self._is_here.keys()}
        self._is_here |= new
        return sorted((pid for pid, is_here in new.items() if is_here), reverse=True)

    def _look(self, pids: Iterable[int], until: AbstractSet[str] | None = None) -> None:
        """Learn the sockets of these processes; no more of them once all of `until` are known."""
        for pid in pids:
            if until is not None and self._sockets.keys() >= until:
                break
            self._sockets |= dict.fromkeys(_sockets(self._proc / str(pid) / "fd"), pid)


def _named(pid: int, proc: Path, stops: dict[str, str]) -> str:
    """A process in words. Those that one remedy ends are one: a loop runs a command each time."""
    stop = culprit.stop_process(pid, proc)
    name = f"{culprit.process_name(pid, proc)}{culprit.origin(pid, proc)}"
    known = next((words for words, its in stops.items() if stop and its == stop), name)
    stops.setdefault(known, stop)
    return known


def _connections(endpoints: Collection[IPAddress], proc: Path, table: str) -> Iterator[Connection]:
    for line in _lines(proc / "net" / table):
        _, local, remote, *rest = line.split()
        if _address(remote) in endpoints:
            yield Connection(local, rest[6])


def _namespace(pid: int | str, proc: Path) -> str | None:
    try:
        return str((proc / str(pid) / "ns" / "net").readlink())
    except OSError:  # it has ended, or is another user's
        return None


def _sockets(directory: Path) -> Iterator[str]:
    """The inodes of the sockets among a process's files; none if it has ended or is not ours."""
    for target in _targets(directory):
        kind, _, inode = target.partition(":")
        if kind == "socket":
            yield inode.strip("[]")


def _targets(directory: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for each in directory.iterdir():
            with contextlib.suppress(OSError):  # that file was closed meanwhile
                yield str(each.readlink())


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
