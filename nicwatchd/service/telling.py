"""What observers are told: the journal, the event streams and the counters get the same value."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from nicwatchd.core.news import News
from nicwatchd.core.view import View
from nicwatchd.imds.condition import Condition
from nicwatchd.service.status import InterfaceStatus, of_view


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon has started."""

    version: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The daemon is stopping."""


@dataclass(frozen=True, slots=True)
class ImdsChanged:
    """The state of IMDS has changed."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class KernelTrouble:
    """A request to the kernel failed."""

    text: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """The host was suspended for so many seconds."""

    slept: float


Reported: TypeAlias = News | Started | Stopped | ImdsChanged | KernelTrouble | Resumed


@dataclass(frozen=True, slots=True)
class Told:
    """One event. `status`: the interface at that time, if the event is about one."""

    news: Reported
    status: InterfaceStatus | None = None


Observer: TypeAlias = Callable[[Told], None]


class Teller:
    """Calls every observer for each event, in order."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._observers: list[Observer] = []
        self._last: tuple[View, float, InterfaceStatus] | None = None

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Add an observer; returns a function that unsubscribes it."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    @property
    def epoch(self) -> float:
        """The Unix time at 0 of the monotonic clock, according to the current time of day."""
        return time.time() - self._clock()

    def tell(self, news: Reported) -> None:
        """Report one event to all observers. Raises what one of them raised, after all had it."""
        view = getattr(news, "view", None)
        told = Told(news, self._status(view) if view else None)
        errors: list[Exception] = []
        for observer in list(self._observers):
            try:
                observer(told)
            except Exception as error:  # noqa: BLE001 (raised below)
                errors.append(error)
        if errors:
            raise errors[0]

    def _status(self, view: View) -> InterfaceStatus:
        """The status to a view. Much of the news of one decision is about the same one."""
        epoch = self.epoch
        at = round(epoch, 2)  # the clock of the wall may be set meanwhile
        if self._last is None or self._last[0] is not view or self._last[1] != at:
            self._last = (view, at, of_view(view, epoch))
        return self._last[2]
