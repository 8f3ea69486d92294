"""What the core reports, as values: for the journal, the event streams and the counters.

Reads: nothing; the host makes them. Gives: values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nicwatchd.core.health import FamilyHealth
from nicwatchd.core.lifecycle import Transition
from nicwatchd.core.model import Family
from nicwatchd.core.view import View


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The state, the reasons or the overdue mark of an interface changed; `view` is as of then."""

    view: View
    transition: Transition


@dataclass(frozen=True, slots=True)
class FightChanged:
    """Others have begun to remove the same things of ours repeatedly, or have stopped."""

    view: View
    began: bool


@dataclass(frozen=True, slots=True)
class HealthChanged:
    """A family of an interface works, or does not any more, or for other causes; `view` as of now.

    `before` and `after` are None where it has no verdict. `at`: monotonic seconds.
    """

    view: View
    family: Family
    before: FamilyHealth | None
    after: FamilyHealth | None
    at: float


@dataclass(frozen=True, slots=True)
class Surprised:
    """An exception was caught: a bug. `where` is the work that raised it, `trace` the traceback."""

    view: View | None  # None: it is about no interface
    where: str
    error: str
    trace: str


News: TypeAlias = StateChanged | FightChanged | HealthChanged | Surprised
