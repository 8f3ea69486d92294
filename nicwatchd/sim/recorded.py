"""A recording as the simulator needs it: IMDS at a time, steps of the kernel, what the daemon said.

What nicwatchd itself did while the recording was made is left out, since the turn that is replayed
does it anew: only what of ours others removed is removed in the replay, too.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

from nicwatchd.core.metadata import ABSENT, Answer, Unknown, Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_KERNEL,
    Address,
    Link,
    Route,
    Rule,
    ours,
)
from nicwatchd.imds.client import MACS, ImdsClient, ImdsOptions
from nicwatchd.recording.format import Header, ImdsAnswer, Line, Outside, read
from nicwatchd.sim.memory_kernel import FakeKernel

OK: Final = 200
NOT_FOUND: Final = 404

Object: TypeAlias = Address | Route | Rule


@dataclass(frozen=True)
class Recording:
    """A recording, as it was read."""

    name: str
    header: Header
    lines: tuple[Line, ...]

    @property
    def duration(self) -> float:
        """Seconds until the last line."""
        return self.lines[-1].t if self.lines else 0.0

    @property
    def daemon_since(self) -> float | None:
        """When the daemon started, or 0.0 if it was running before; None: there was none."""
        since = (line.daemon_since for line in self.lines if line.daemon_since is not None)
        first = next(since, None)
        return None if first is None else max(0.0, first)


def load(path: Path) -> Recording:
    """Read a recording. Raises RecordingError, and OSError."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return Recording(path.name, *read(lines, path.name))


class RecordedImds(ImdsClient):
    """The client of an IMDS that says what a recording has for the time of the clock."""

    def __init__(self, recording: Recording, clock: Callable[[], float]) -> None:
        super().__init__(ImdsOptions(), clock=clock)
        self._now = clock
        self._answers: dict[str, tuple[list[float], list[ImdsAnswer]]] = {}
        for line in recording.lines:
            if line.imds:
                times, answers = self._answers.setdefault(line.imds.path, ([], []))
                times.append(line.t)
                answers.append(line.imds)

    async def get(self, path: str) -> Answer[str]:
        """See `ImdsClient`. What was asked later for the first time was so from the beginning."""
        key = path.removeprefix(MACS).partition("/")[2] or path
        if path not in self._answers:
            return Unknown(f"{key}: not in the recording")
        times, answers = self._answers[path]
        said = answers[max(0, bisect_right(times, self._now()) - 1)]
        if said.status == OK:
            return Value(said.body)
        if said.status == NOT_FOUND:
            return ABSENT
        return Unknown(f"{key}: {said.failure or said.status}")


class KernelSteps:
    """Does to a kernel in memory what the lines of a recording say."""

    def __init__(self, recording: Recording, kernel: FakeKernel) -> None:
        self.outside = Outside()
        self.refused: list[str] = []  # what the kernel in memory did not take
        self._kernel = kernel
        self._links: dict[int, Link] = {}  # as recorded
        self._routes: set[Route] = set()  # likewise
        self._group = recording.header.policy.numbers.group
        self._others = _by_others(recording.lines)
        first = (line.t for line in recording.lines if line.is_of_kernel)
        self._first_at = next(first, 0.0)

    async def take(self, lines: Iterable[Line]) -> None:
        """Do what the lines of one moment say."""
        for line in lines:
            self.outside = line.outside or self.outside
            self._kernel.published_ports = self.outside.published
            if line.link:
                await self._set_link(line.link)
            elif line.link_gone is not None:
                self._links.pop(line.link_gone, None)
                with suppress(KeyError):
                    self._kernel.remove_link(line.link_gone)
            self._take_object(line)
        for route in await self._kernel.table_routes(MAIN_TABLE):
            if route.protocol == RTPROT_KERNEL and route not in self._routes:
                self._kernel.drop(route)  # of an address with `noprefixroute`

    def _take_object(self, line: Line) -> None:
        if isinstance(line.route, Route):
            self._routes.add(line.route)
        if isinstance(line.route_gone, Route):
            self._routes.discard(line.route_gone)
        if line.new and (line.t == self._first_at or not is_ours(line.new)):
            self._put(line.new)
        if line.gone and (not is_ours(line.gone) or id(line) in self._others):
            with suppress(OSError):  # it went with its link, or was not put back yet
                self._kernel.drop(line.gone, pid=line.pid)

    async def _set_link(self, link: Link) -> None:
        """Change what changed; but for our group, which nicwatchd sets itself."""
        before = self._links.get(link.index)
        self._links[link.index] = link
        known = await self._kernel.link(link.index)
        if before is None or known is None:
            self._kernel.set_link(link)
            return
        names = (name for name in Link.__slots__ if getattr(before, name) != getattr(link, name))
        changes = {name: getattr(link, name) for name in names}
        if changes.get("group") == self._group:
            del changes["group"]
        changed = replace(known, **changes)
        if changed != known:
            self._kernel.set_link(changed)

    def _put(self, thing: Object) -> None:
        try:
            if isinstance(thing, Route):
                self._kernel.put(thing, beside=True)
            else:
                self._kernel.put(thing)
        except FileExistsError:
            pass  # the kernel has it from the start, or made it itself for an address
        except OSError as error:
            self.refused.append(str(error))


def is_ours(thing: Object) -> bool:
    """Whether nicwatchd made an object."""
    return ours(thing) if isinstance(thing, Address) else thing.protocol == PROTOCOL


def _by_others(lines: Sequence[Line]) -> frozenset[int]:
    """The lines, by `id`, in which others removed an object of ours.

    Nobody but nicwatchd adds such objects, and that tells which netlink port is its own. Where the
    port is not known, it was others if the object is there again later.
    """
    mine = {line.pid for line in lines if line.new and line.pid}
    found: set[int] = set()
    later: set[Object] = set()
    for line in reversed(lines):
        if line.new:
            later.add(line.new)
        if line.gone and (line.pid not in mine if line.pid else line.gone in later):
            found.add(id(line))
    return frozenset(found)
