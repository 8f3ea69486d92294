"""`GET /v1/events`: what happens to the interfaces, one line of JSON each.

Each line is made once, however many clients read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Family
from nicwatchd.core.news import FightChanged, HealthChanged, StateChanged, Surprised
from nicwatchd.service.answers import EventAnswer
from nicwatchd.service.readiness import NAMES
from nicwatchd.service.status import FamilyStatus, HostStatus, InterfaceStatus, ReasonStatus
from nicwatchd.service.telling import Observer, Told

PENDING: Final = 1000  # lines for a client that reads too slowly
PRESENT: Final = "present"
# The types of what is told about an interface.
TYPES: Final[Mapping[type, str]] = {
    StateChanged: "transition",
    FightChanged: "fight",
    HealthChanged: "health",
    Surprised: "internal-error",
}

Lines = asyncio.Queue[bytes]


class Source(Protocol):
    """Where the events come from."""

    def status(self) -> HostStatus:
        """The current status of the host."""

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell this observer what happens; returns a function that unsubscribes it."""


class EventStreams:
    """The open streams of one socket."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open: list[Lines] = []
        self._unsubscribe: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> Lines:
        """Begin a stream: its queue, which has a line for each interface as it is now."""
        lines = Lines(maxsize=PENDING)
        for interface in self._source.status().interfaces:
            lines.put_nowait(_encode(present(interface)))
        if self._unsubscribe is None:
            self._unsubscribe = self._source.subscribe(self._observe)
        self._open.append(lines)
        return lines

    def close(self, lines: Lines) -> None:
        """End a stream."""
        self._open.remove(lines)
        if not self._open and self._unsubscribe:
            self._unsubscribe()
            self._unsubscribe = None

    def _observe(self, told: Told) -> None:
        if told.status is None:
            return
        line = _encode(event(told, told.status))
        for lines in self._open:
            with contextlib.suppress(asyncio.QueueFull):  # it is disconnected, see the reader
                lines.put_nowait(line)


def present(status: InterfaceStatus) -> EventAnswer:
    """The line for an interface at the beginning of a stream."""
    return EventAnswer(**dict(status), type=PRESENT, time=_now(), cause=_cause(status))


def event(told: Told, status: InterfaceStatus) -> EventAnswer:
    """The line for what was told about an interface."""
    news = told.news
    previous: str | None = status.state
    cause, family = _cause(status), None
    match news:
        case StateChanged(transition=transition):
            previous = transition.previous
        case FightChanged():
            cause = status.fight
        case HealthChanged(family=changed, before=before):
            previous, family = before.health if before else None, NAMES[changed]
            cause = _first_cause(status.ipv4 if changed is Family.V4 else status.ipv6)
        case Surprised(where=where, error=error):
            cause = ReasonStatus(code="internal-error", text=f"{where}: {error}")
    return EventAnswer(
        **dict(status),
        type=TYPES.get(type(news), "other"),
        time=_now(),
        previous=previous,
        cause=cause,
        family=family,
    )


def _first_cause(family: FamilyStatus | None) -> ReasonStatus | None:
    return next(iter(family.causes), None) if family else None


def _cause(status: InterfaceStatus) -> ReasonStatus | None:
    """Why an interface is as it is; None: it works, or nothing is known."""
    reasons = [] if status.state is State.APPLIED else status.reasons
    found = (status.fight, _first_cause(status.ipv4), _first_cause(status.ipv6), *reasons)
    return next((cause for cause in found if cause), None)


def _now() -> float:
    return round(time.time(), 3)


def _encode(line: EventAnswer) -> bytes:
    return line.model_dump_json().encode() + b"\n"
