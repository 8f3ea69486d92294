"""When the next turn is due, and why. Times are monotonic seconds of the caller's clock.

Reads: what happened and what is due. Gives: one appointment, the earliest, with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HEARTBEAT: Final = 5.0  # s; the longest time between two turns; WatchdogSec is several times that
RETRY_FIRST, RETRY_CAP = 0.1, 5.0  # s, between two tries of what the kernel refused
KERNEL_PAUSE: Final = 1.0  # after the kernel did not answer
REST_CAP: Final = 1.0  # between two turns, at the most
UDEV_POLL: Final = 0.1  # s; there is no event to wait for when udev updates its database


class Why(StrEnum):
    """Why the next turn, or poll, is due."""

    START = "start"
    NEWS = "news"  # an event of the kernel, news from IMDS, settings, a request
    DEADLINE = "deadline"  # a time runs out: settling, patience, a DHCP client's, a throttle's
    RETRY = "retry"  # the kernel refused something
    UDEV = "udev"  # a link is set up as soon as udev has finished with it
    KERNEL = "kernel"  # the kernel did not answer
    HEARTBEAT = "heartbeat"
    POLL = "poll"  # of IMDS


@dataclass(frozen=True, slots=True)
class Appointment:
    """When something is due, and why."""

    at: float
    why: Why


class Agenda:
    """When the next turn is due."""

    def __init__(self, now: float) -> None:
        self.next = Appointment(now, Why.START)
        self._rested_at = now  # when news may make a turn due
        self._news: Appointment | None = None  # what the next turn will cover
        self._noticed: float | None = None  # when the first of it happened
        self._retry = RETRY_FIRST

    def news(self, now: float, delay: float = 0.0) -> None:
        """Something happened: a turn is due after `delay`."""
        self._noticed = now if self._noticed is None else self._noticed
        news = Appointment(max(now + delay, self._rested_at), Why.NEWS)
        if self._news is None or news.at < self._news.at:
            self._news = news
        self._earlier(news)

    def started(self, now: float) -> float:
        """A turn begins. It covers the news so far; what comes meanwhile is for the next turn.

        Returns when the first of its news came; `now` if there was none.
        """
        noticed = now if self._noticed is None else self._noticed
        self._news = self._noticed = None
        return noticed

    def turned(
        self,
        began: float,
        now: float,
        *,
        settled: bool,
        deadline: float | None,
        waits_for_udev: bool,
    ) -> None:
        """A turn ended. `settled`: the kernel is as planned; `deadline`: the earliest time-out.

        News then waits for as long as the turn took, REST_CAP at most. This leaves time for other
        work on a host where turns take long and events never end.
        """
        self._rested_at = now + min(now - began, REST_CAP)
        self.next = Appointment(now + HEARTBEAT, Why.HEARTBEAT)
        if deadline is not None:
            self._earlier(Appointment(deadline, Why.DEADLINE))
        if not settled:
            self._earlier(Appointment(now + self._retry, Why.RETRY))
        self._retry = RETRY_FIRST if settled else min(self._retry * 2, RETRY_CAP)
        if waits_for_udev:
            self._earlier(Appointment(now + UDEV_POLL, Why.UDEV))
        if self._news:
            self._earlier(self._news)

    def failed(self, now: float) -> None:
        """A turn was aborted, because the kernel did not answer or deciding failed."""
        self.next = Appointment(now + KERNEL_PAUSE, Why.KERNEL)

    def _earlier(self, appointment: Appointment) -> None:
        if appointment.at < self.next.at:
            self.next = appointment
