"""When to poll IMDS again.

AWS offers no ready signal and no long poll. So we poll often while the interface is younger than
the longest lag that was ever reported (30 s), most often at first, then less and less. About what
waits for nothing so many requests are sent a minute, for ever.

Reads: ages and intervals. Gives: the next interval, jitter, and limiters of
bursts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor
from typing import Final

JITTER: Final = 0.1  # of each interval, so that hosts and interfaces do not poll in step
REQUESTS: Final = 15  # about one interface at rest in each `refresh`, which is a minute
FEW: Final = 16  # interfaces; more of them share what so many may ask


@dataclass(frozen=True, slots=True)
class Schedule:
    """The polling schedule of one interface; all figures but `growth` are seconds.

    Below the age `first_for`, the interval is `first_interval`, and below `fast_for` `interval`;
    then it grows by `growth` with each poll, up to `cap`. From the age `patience` on it is
    `refresh`. An interface of which nothing is missing from the age `keep` on is at rest.
    """

    # With the reads when the MAC is first listed these are below 100 requests in the first 10 s.
    first_interval: float = 0.12
    first_for: float = 10.0  # most lags are 3 to 6 s
    interval: float = 0.25
    fast_for: float = 35.0  # the longest lag that was ever reported is 30 s
    growth: float = 2.0
    cap: float = 5.0
    keep: float = 60.0  # lists arrive in parts: a first complete answer may still grow
    patience: float = 180.0
    refresh: float = 60.0

    def after(self, previous: float, age: float) -> float:
        """The next interval, given the previous one and the age of an interface that waits."""
        if age >= self.patience:
            return self.refresh
        if age < self.first_for:
            return min(self.first_interval, self.interval)
        if age < self.fast_for:
            return self.interval
        return min(max(previous, self.interval) * self.growth, self.cap)

    def at_rest(self, requests: float, interfaces: int) -> float:
        """The interval between polls of what is at rest that cost so many requests each.

        `interfaces`: so many are polled on this host.
        """
        return self.refresh / REQUESTS * requests * max(1.0, interfaces / FEW)


@dataclass(frozen=True, slots=True)
class Share:
    """Which of the interfaces of its host that are polled one is, and how many they are."""

    number: int = 0
    of: int = 1

    def next_at(self, now: float, interval: float) -> float:
        """When it is polled next, if it is at rest: the next of moments that are `interval` apart.

        So that one wake-up serves several interfaces, FEW of them have the same moments.
        """
        groups = ceil(self.of / FEW)
        offset = interval * (self.number % groups) / groups
        moment = offset + interval * (floor((now - offset) / interval) + 1)
        return moment if moment > now else moment + interval  # times are floats


def jittered(interval: float, random: Callable[[], float]) -> float:
    """`interval`, at most JITTER shorter; `random` returns a float in [0, 1).

    Never longer: the interval is the longest time for which a change may go unnoticed.
    """
    return interval * (1.0 - JITTER * random())


class Limiter:
    """Allows `burst` things at once, and then one every `interval` seconds."""

    def __init__(self, burst: int, interval: float) -> None:
        self._burst = burst
        self._interval = interval
        self._allowed_from: float | None = None  # when the bucket would be full again

    def delay(self, now: float) -> float:
        """Count one more thing; returns the seconds until it is allowed."""
        full = now if self._allowed_from is None else max(self._allowed_from, now)
        self._allowed_from = full + self._interval
        return max(0.0, self._allowed_from - now - self._burst * self._interval)


class Pace:
    """Allows `burst` things within any `span` seconds; what it refuses does not count."""

    def __init__(self, burst: int, span: float) -> None:
        self._span = span
        self._allowed: deque[float] = deque(maxlen=burst)

    def allows(self, now: float) -> bool:
        """Whether one more is allowed now; if so, it counts."""
        full = len(self._allowed) == self._allowed.maxlen
        if full and now - self._allowed[0] < self._span:
            return False
        self._allowed.append(now)
        return True
