"""What is only ever counted up: for metrics."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Operation
from nicwatchd.core.news import StateChanged
from nicwatchd.core.port import Outcome, Result
from nicwatchd.service.telling import Told


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


class Counters:
    """Counts what it is told, and what was asked of the kernel."""

    def __init__(self) -> None:
        self.transitions: Counter[State] = Counter()
        self.operations: Counter[tuple[str, Result]] = Counter()

    def observe(self, told: Told) -> None:
        """Count one happening."""
        if isinstance(told.news, StateChanged):
            self.transitions[told.news.transition.state] += 1

    def carried_out(self, outcomes: Iterable[Outcome]) -> None:
        """Count what became of operations."""
        self.operations.update((verb(o.operation), o.result) for o in outcomes)


def verb(operation: Operation) -> str:
    """What kind of operation it is: add_rule."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(operation).__name__).lower()
