"""What is told: one value for the journal, the streams of events and the counters alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from nicwatchd.core.news import News
from nicwatchd.imds.condition import Condition
from nicwatchd.service.status import InterfaceStatus, of_view


@dataclass(frozen=True, slots=True)
class Started:
    """The daemon began to serve."""

    version: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The daemon ends."""


@dataclass(frozen=True, slots=True)
class ImdsChanged:
    """IMDS answers in another way than before."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class KernelTrouble:
    """The kernel did not answer as agreed."""

    text: str


@dataclass(frozen=True, slots=True)
class Told:
    """One happening, and the interface that it is about as it was then, if it is about one."""

    news: News | Started | Stopped | ImdsChanged | KernelTrouble
    status: InterfaceStatus | None = None


Observer: TypeAlias = Callable[[Told], None]


class Teller:
    """Tells every observer everything, in order."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._observers: list[Observer] = []

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell this observer too; returns a function that unsubscribes it."""
        self._observers.append(observer)
        return lambda: self._observers.remove(observer)

    @property
    def epoch(self) -> float:
        """The Unix time at the monotonic clock's 0, by the time of day as it is set now."""
        return time.time() - self._clock()

    def tell(self, news: News | Started | Stopped | ImdsChanged | KernelTrouble) -> None:
        """Tell one happening."""
        view = getattr(news, "view", None)
        told = Told(news, of_view(view, self.epoch) if view else None)
        for observer in list(self._observers):
            observer(told)
