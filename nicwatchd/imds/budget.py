"""The request budget of the whole host: a token bucket that queues what exceeds it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Budget:
    """At most `burst` requests at once and `rate` per second after that, first come first served.

    EC2 drops packets beyond 1024 per second and ENI, including those for DNS and NTP. The budget
    keeps this daemon, with all its interfaces, at a fraction of that.
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = burst
        self._filled_at = clock()

    def reserve(self, patience: float) -> float | None:
        """Seconds to wait before sending; None, reserving nothing, if that exceeds `patience`."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        delay = max(0.0, (1.0 - self._tokens) / self._rate)
        if delay > patience:
            return None
        self._tokens -= 1.0
        return delay
