"""What the core tells, as values: whoever journals, streams or counts observes these.

Reads: nothing; the host makes them. Gives: values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from nicwatchd.core.lifecycle import Transition
from nicwatchd.core.view import View


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The state, the reasons or the overdue mark of an interface changed; `view` is as of then."""

    view: View
    transition: Transition


@dataclass(frozen=True, slots=True)
class FightChanged:
    """Others began to remove the same things of ours again and again, or have ceased to."""

    view: View
    began: bool


@dataclass(frozen=True, slots=True)
class Surprised:
    """An exception was caught: a bug. `where` says what was done, `trace` is its traceback."""

    view: View | None  # None: it is about no interface
    where: str
    error: str
    trace: str


News: TypeAlias = StateChanged | FightChanged | Surprised
