"""What is only ever counted up: for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from nicwatchd.core.lifecycle import State
from nicwatchd.core.port import Result


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the daemon's start. `heals` are by kind, `imds` requests by their outcome.

    `since_pass` is the seconds since everything was last looked at and found in order, or not.
    """

    transitions: Counter[State] = field(default_factory=Counter)
    heals: Counter[str] = field(default_factory=Counter)
    operations: Counter[tuple[str, Result]] = field(default_factory=Counter)
    imds: Counter[str] = field(default_factory=Counter)
    overruns: int = 0
    since_pass: float = 0.0
