"""Counters for the metrics."""

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
    """Counters since the daemon's start. `heals` are by kind, `imds` requests by their outcome.

    `since_turn` is the time in seconds since the last turn ended.
    """

    transitions: Counter[State] = field(default_factory=Counter)
    heals: Counter[str] = field(default_factory=Counter)
    operations: Counter[tuple[str, Result]] = field(default_factory=Counter)
    imds: Counter[str] = field(default_factory=Counter)
    overruns: int = 0
    since_turn: float = 0.0


class Counters:
    """Counts transitions, and operations on the kernel."""

    def __init__(self) -> None:
        self.transitions: Counter[State] = Counter()
        self.operations: Counter[tuple[str, Result]] = Counter()

    def observe(self, told: Told) -> None:
        """Count an event, if it is a transition."""
        if isinstance(told.news, StateChanged):
            self.transitions[told.news.transition.state] += 1

    def count_outcomes(self, outcomes: Iterable[Outcome]) -> None:
        """Count operations by their result."""
        self.operations.update((verb(o.operation), o.result) for o in outcomes)


def verb(operation: Operation) -> str:
    """The operation's name in metrics, such as add_rule."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(operation).__name__).lower()
