"""The daemon's clock, and how it notices that the host was suspended.

The event loop's clock (CLOCK_MONOTONIC) stands still while the host is suspended or hibernated, as
an EC2 instance can be. CLOCK_BOOTTIME goes on, so ages and time-outs by it are right at once, and
by how much it got ahead one knows how long the host slept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# s. Between the readings of the two clocks the process may be preempted, and a virtual machine may
# be paused: less than this is no sleep.
SLEEP: Final = 1.0


def now() -> float:
    """Seconds since the boot, with the time that the host was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Sleep:
    """Notices that the host was suspended. `clock` counts that time, and `awake` does not."""

    def __init__(
        self,
        clock: Callable[[], float] = now,
        awake: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._awake = awake
        self._ahead = clock() - awake()

    def __call__(self) -> float:
        """How long the host was suspended since the last call [s]; 0: it was not."""
        ahead = self._clock() - self._awake()
        slept = ahead - self._ahead
        if slept < SLEEP:
            return 0.0  # the sum of many short ones counts
        self._ahead = ahead
        return slept
