"""The state of one interface.

Everything that moves the state is in one table, `TRANSITIONS`: state x event -> state. An event
that the table does not have is a bug: it raises `OffTheTableError` and changes nothing. The diagram
in docs/states.md is made from this table.

Events are conclusions, not messages: each decision judges everything anew, and tells each machine
the conclusion. So no order of netlink messages or IMDS answers can confuse a machine.

Reads: conclusions, as events, with reasons. Gives: the state, and each transition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from nicwatchd.core.model import Reason


class State(StrEnum):
    """How far our work on an interface has got."""

    DETECTED = "detected"  # the kernel has a link that qualifies; IMDS has not been read yet
    AWAITING = "awaiting-imds"  # a fact is missing, contradicts another, or could not be read
    VALIDATED = "validated"  # the facts are complete; the plan is being programmed
    APPLIED = "applied"  # the kernel, read back, equals the plan
    IGNORED = "ignored"  # not ours to program; the reason says why
    GONE = "gone"  # the link went; the machine ends


class Event(StrEnum):
    """What a decision concluded about an interface."""

    INCOMPLETE = "incomplete"  # a family still waits for something
    COMPLETE = "complete"  # each family is ready or absent
    CONFIRMED = "confirmed"  # the kernel equals the plan
    DIFFERS = "differs"  # ... or not: new facts, or somebody changed the kernel
    DISQUALIFIED = "disqualified"  # not ours to program
    QUALIFIED = "qualified"  # ... ours after all
    REMOVED = "removed"  # the link is gone


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.DETECTED: {
        Event.INCOMPLETE: State.AWAITING,
        Event.COMPLETE: State.VALIDATED,
        Event.DISQUALIFIED: State.IGNORED,
        Event.REMOVED: State.GONE,
    },
    State.AWAITING: {
        Event.INCOMPLETE: State.AWAITING,
        Event.COMPLETE: State.VALIDATED,
        Event.DISQUALIFIED: State.IGNORED,
        Event.REMOVED: State.GONE,
    },
    State.VALIDATED: {
        Event.INCOMPLETE: State.AWAITING,
        Event.COMPLETE: State.VALIDATED,
        Event.CONFIRMED: State.APPLIED,
        Event.DIFFERS: State.VALIDATED,
        Event.DISQUALIFIED: State.IGNORED,
        Event.REMOVED: State.GONE,
    },
    State.APPLIED: {
        Event.INCOMPLETE: State.AWAITING,
        Event.COMPLETE: State.APPLIED,
        Event.CONFIRMED: State.APPLIED,
        Event.DIFFERS: State.VALIDATED,
        Event.DISQUALIFIED: State.IGNORED,
        Event.REMOVED: State.GONE,
    },
    State.IGNORED: {
        Event.QUALIFIED: State.DETECTED,
        Event.DISQUALIFIED: State.IGNORED,
        Event.REMOVED: State.GONE,
    },
    State.GONE: {},
}


class OffTheTableError(Exception):
    """An event without an entry in the table: a bug, whatever the kernel or IMDS did."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A machine's state, reasons or overdue mark changed. Times are seconds, monotonic."""

    previous: State | None  # None for the first
    state: State
    reasons: tuple[Reason, ...]
    overdue: bool
    at: float
    elapsed: float  # since the link was first seen


class Lifecycle:
    """The machine of one interface. `patience` is how long it may wait before it is overdue."""

    def __init__(self, now: float, patience: float) -> None:
        self.state = State.DETECTED
        self.seen = now
        self.since = now  # when the present state began
        self.reasons: tuple[Reason, ...] = ()
        self.overdue = False
        self.patience = patience
        self._pending = [Transition(None, self.state, (), overdue=False, at=now, elapsed=0.0)]

    def handle(self, event: Event, now: float, reasons: tuple[Reason, ...] = ()) -> None:
        """Take one conclusion. `reasons` replace the former; other codes make a transition."""
        try:
            state = TRANSITIONS[self.state][event]
        except KeyError:
            raise OffTheTableError(f"{event} while {self.state}") from None
        previous, codes = self.state, self._codes()
        if state is not previous:
            self.state, self.since = state, now
        self.reasons = reasons
        was_overdue, self.overdue = self.overdue, self._is_overdue(now)
        changed = state is not previous or codes != self._codes() or was_overdue != self.overdue
        if changed:
            elapsed = now - self.seen
            self._pending.append(
                Transition(previous, state, reasons, self.overdue, at=now, elapsed=elapsed)
            )

    def drain(self) -> list[Transition]:
        """The transitions since the last call."""
        pending, self._pending = self._pending, []
        return pending

    def next_deadline(self) -> float | None:
        """When waiting becomes overdue, if that is still to come."""
        if self.state is State.AWAITING and not self.overdue:
            return self.since + self.patience
        return None

    def _is_overdue(self, now: float) -> bool:
        return self.state is State.AWAITING and now - self.since >= self.patience

    def _codes(self) -> frozenset[str]:
        return frozenset(reason.code for reason in self.reasons)
