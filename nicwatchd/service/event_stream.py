"""`GET /v1/events`: what happens to the interfaces, one line of JSON each.

Each line is made once, however many clients read it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Family
from nicwatchd.core.news import (
    Bypassed,
    EgressMoved,
    FamilyGivenUp,
    FightChanged,
    HealthChanged,
    LinkChanged,
    Lost,
    Restored,
    StateChanged,
    Surprised,
    Wrote,
)
from nicwatchd.core.view import View
from nicwatchd.service import entries, writes
from nicwatchd.service.answers import EventAnswer
from nicwatchd.service.readiness import NAMES
from nicwatchd.service.status import (
    FamilyStatus,
    HostStatus,
    InterfaceStatus,
    ReasonStatus,
    reason_statuses,
    shown,
)
from nicwatchd.service.telling import Observer, Reported, Told

PENDING: Final = 1000  # lines for a client that reads too slowly
PENDING_BYTES: Final = 1 << 20
PRESENT: Final = "present"
# The types of what is told about an interface.
TYPES: Final[Mapping[type, str]] = {
    StateChanged: "transition",
    FightChanged: "fight",
    HealthChanged: "health",
    LinkChanged: "link",
    Lost: "lost",
    Restored: "restored",
    Wrote: "changed",
    Bypassed: "bypassed",
    FamilyGivenUp: "family-given-up",
    EgressMoved: "egress",
    Surprised: "internal-error",
}


class Source(Protocol):
    """Where the events come from."""

    def status(self) -> HostStatus:
        """The current status of the host."""

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell this observer what happens; returns a function that unsubscribes it."""


class Stream:
    """What one client has still to get: how the interfaces are, and what has happened since.

    Of a client that reads too slowly, all of that is dropped. It gets the interfaces anew, as they
    are once it reads on, and the first of these lines says how many it missed.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._present = deque(source.status().interfaces)
        self._lines: deque[bytes] = deque()
        self._size = 0  # bytes of these
        self._missed = 0
        self._begins_anew = False
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._present) + len(self._lines)

    def put(self, line: bytes) -> None:
        """Something has happened."""
        self._lines.append(line)
        self._size += len(line)
        if len(self._lines) > PENDING or self._size > PENDING_BYTES:
            self._missed += len(self)
            self._begins_anew = True
            self._present.clear()
            self._forget()
        self._news.set()

    def _forget(self) -> None:
        self._lines.clear()
        self._size = 0

    async def wait(self) -> None:
        """Return once there is a line."""
        while not self._is_there():
            self._news.clear()
            await self._news.wait()

    def _is_there(self) -> bool:
        if self._begins_anew:
            self._begins_anew = False
            self._present.extend(self._source.status().interfaces)
            self._forget()  # what has happened since the drop is in there
        return bool(self._present or self._lines)

    @property
    def is_made(self) -> bool:
        """Whether the next line is there already; to make one takes a tenth of a millisecond."""
        return not self._present

    def next(self) -> bytes:
        """The next line; there is one: see `wait`."""
        if self._present:
            missed, self._missed = self._missed, 0
            return _encode(present(self._present.popleft(), missed))
        line = self._lines.popleft()
        self._size -= len(line)
        return line


class EventStreams:
    """The open streams of one socket."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open: list[Stream] = []
        self._unsubscribe: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> Stream:
        """Begin a stream, with a line for each interface as it is now."""
        stream = Stream(self._source)
        if self._unsubscribe is None:
            self._unsubscribe = self._source.subscribe(self._observe)
        self._open.append(stream)
        return stream

    def close(self, stream: Stream) -> None:
        """End a stream."""
        self._open.remove(stream)
        if not self._open and self._unsubscribe:
            self._unsubscribe()
            self._unsubscribe = None

    def _observe(self, told: Told) -> None:
        if told.status is None:
            return
        line = _encode(event(told, told.status))
        for stream in self._open:
            stream.put(line)


def present(status: InterfaceStatus, missed: int = 0) -> EventAnswer:
    """The line for an interface at the beginning of a stream, or after so many missed lines."""
    cause = _cause(status)
    return EventAnswer(**dict(status), type=PRESENT, time=_now(), cause=cause, missed=missed)


def event(told: Told, status: InterfaceStatus) -> EventAnswer:
    """The line for what was told about an interface."""
    news = told.news
    changed: Family | None = getattr(news, "family", None)
    return EventAnswer(
        **dict(status),
        type=TYPES.get(type(news), "other"),
        time=_now(),
        previous=_previous(news, status),
        cause=_cause_of(news, status),
        changed=writes.summary(news.operations) if isinstance(news, Wrote) else None,
        family=NAMES[changed] if changed else None,
    )


def _previous(news: Reported, status: InterfaceStatus) -> str | None:
    match news:
        case StateChanged(transition=transition):
            return transition.previous
        case HealthChanged(before=before):
            return before.health if before else None
        case EgressMoved(before=links):
            return shown(" ".join(links)) or None
    return status.state


def _cause_of(news: Reported, status: InterfaceStatus) -> ReasonStatus | None:
    match news:
        case FightChanged():
            return status.fight
        case HealthChanged(family=changed):
            return _first_cause(status.ipv4 if changed is Family.V4 else status.ipv6)
        case Bypassed(by=by, view=view):
            return next(iter(reason_statuses(by, view)), None)
        case FamilyGivenUp(reason=reason, view=view) | Wrote(why=reason, view=View() as view):
            return reason_statuses((reason,), view)[0]
        case Surprised(where=where, error=error):
            return ReasonStatus(code="internal-error", text=f"{where}: {error}")
        case Lost() | Restored() | LinkChanged() | EgressMoved():
            return _by_journal(news, status)
    return _cause(status)


def _by_journal(
    news: Lost | Restored | LinkChanged | EgressMoved, status: InterfaceStatus
) -> ReasonStatus:
    """What the journal says is the cause."""
    match news:
        case Lost():
            entry = entries.lost(news, status)
        case Restored():
            entry = entries.restored(news, status)
        case LinkChanged():
            entry = entries.link(news, status)
        case EgressMoved():
            entry = entries.egress(news, status)
    return ReasonStatus(code=TYPES[type(news)], text=entry[2]["NICWATCHD_CAUSE"])


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
