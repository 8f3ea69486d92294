"""Python imports this at its start where it is on the path: the daemon's profile, phase by phase.

SIGUSR2 ends a phase. What was counted since the last one is written to PROFILED.0, PROFILED.1, ...
"""

from __future__ import annotations

import cProfile
import itertools
import os
import signal
import time
from types import FrameType
from typing import Final

BASE: Final = os.environ.get("PROFILED", "")


def _begin() -> cProfile.Profile:
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    return profile


def _run() -> None:
    number, profile = itertools.count(), _begin()

    def end(_signal: int, _frame: FrameType | None) -> None:
        nonlocal profile
        profile.disable()
        profile.dump_stats(f"{BASE}.{next(number)}")
        profile = _begin()

    signal.signal(signal.SIGUSR2, end)


if BASE:
    _run()
