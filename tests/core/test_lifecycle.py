"""The table of states, and the machine that walks it."""

from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicwatchd.core.lifecycle import (
    TRANSITIONS,
    Event,
    Lifecycle,
    OffTheTableError,
    State,
    Transition,
)
from nicwatchd.core.model import Reason

START, PATIENCE = 1000.0, 180.0
WAITS = (Reason("no-ipv6s", "IMDS lists no ipv6s yet"),)

# The shortest way into each state, from the start.
WAY: dict[State, tuple[Event, ...]] = {
    State.DETECTED: (),
    State.AWAITING: (Event.INCOMPLETE,),
    State.VALIDATED: (Event.COMPLETE,),
    State.APPLIED: (Event.COMPLETE, Event.CONFIRMED),
    State.IGNORED: (Event.DISQUALIFIED,),
    State.GONE: (Event.REMOVED,),
}

# state, then where each event leads; a dot is off the table.
COLUMNS = "incomplete complete confirmed differs disqualified qualified removed"
TABLE = """
detected       awaiting-imds validated     .         .          ignored  .         gone
awaiting-imds  awaiting-imds validated     .         .          ignored  .         gone
validated      awaiting-imds validated     applied   validated  ignored  .         gone
applied        awaiting-imds applied       applied   validated  ignored  .         gone
ignored        .             .             .         .          ignored  detected  gone
gone           .             .             .         .          .        .         .
"""
ROWS = {
    (State(line.split()[0]), Event(event)): cell
    for line in TABLE.strip().splitlines()
    for event, cell in zip(COLUMNS.split(), line.split()[1:], strict=True)
}


def machine(state: State = State.DETECTED) -> Lifecycle:
    """A machine in a state, which was reached at START; its past is drained."""
    lifecycle = Lifecycle(START, PATIENCE)
    for event in WAY[state]:
        lifecycle.handle(event, START)
    lifecycle.drain()
    assert lifecycle.state is state
    return lifecycle


@pytest.mark.parametrize(
    ("state", "event"), [pytest.param(s, e, id=f"{s}-{e}") for s, e in product(State, Event)]
)
def test_every_cell_of_the_table(state: State, event: Event) -> None:
    lifecycle, cell = machine(state), ROWS[state, event]
    before = (lifecycle.state, lifecycle.since, lifecycle.reasons, lifecycle.overdue)
    if cell == ".":
        assert event not in TRANSITIONS[state]
        with pytest.raises(OffTheTableError, match=f"{event} while {state}"):
            lifecycle.handle(event, START + 1000.0, WAITS)
        now = (lifecycle.state, lifecycle.since, lifecycle.reasons, lifecycle.overdue)
        assert now == before
        assert lifecycle.drain() == []
    else:
        lifecycle.handle(event, START + 1.0, WAITS)
        assert lifecycle.state is State(cell)
        moved = lifecycle.state is not state
        assert lifecycle.since == (START + 1.0 if moved else START)
        assert lifecycle.reasons == WAITS


def test_every_state_can_be_reached_and_left() -> None:
    assert TRANSITIONS.keys() == set(State) == WAY.keys()
    for state in set(State) - {State.GONE}:
        assert TRANSITIONS[state][Event.REMOVED] is State.GONE
        assert set(TRANSITIONS[state].values()) - {state, State.GONE}, "no way on"


def test_the_first_transition_is_the_detection() -> None:
    lifecycle = Lifecycle(START, PATIENCE)
    first = Transition(None, State.DETECTED, (), overdue=False, at=START, elapsed=0.0)
    assert lifecycle.drain() == [first]
    assert lifecycle.drain() == []
    assert (lifecycle.seen, lifecycle.since, lifecycle.overdue) == (START, START, False)


def test_transitions_tell_when() -> None:
    lifecycle = machine()
    lifecycle.handle(Event.INCOMPLETE, START + 0.5, WAITS)
    lifecycle.handle(Event.COMPLETE, START + 8.0)
    assert lifecycle.drain() == [
        Transition(
            State.DETECTED, State.AWAITING, WAITS, overdue=False, at=START + 0.5, elapsed=0.5
        ),
        Transition(State.AWAITING, State.VALIDATED, (), overdue=False, at=START + 8.0, elapsed=8.0),
    ]


def test_only_new_codes_are_told() -> None:
    lifecycle = machine()
    lifecycle.handle(Event.INCOMPLETE, START, WAITS)
    lifecycle.drain()
    reworded = (Reason("no-ipv6s", "still none"),)
    lifecycle.handle(Event.INCOMPLETE, START + 1.0, reworded)
    assert lifecycle.drain() == []
    assert lifecycle.reasons == reworded
    lifecycle.handle(Event.INCOMPLETE, START + 2.0, (*reworded, Reason("unread-mac", "503")))
    (told,) = lifecycle.drain()
    assert (told.previous, told.state) == (State.AWAITING, State.AWAITING)
    assert [reason.code for reason in told.reasons] == ["no-ipv6s", "unread-mac"]


def test_waiting_becomes_overdue_once() -> None:
    lifecycle = machine(State.AWAITING)
    assert lifecycle.next_deadline() == START + PATIENCE
    lifecycle.handle(Event.INCOMPLETE, START + PATIENCE - 0.1)
    assert not lifecycle.overdue
    assert lifecycle.drain() == []
    lifecycle.handle(Event.INCOMPLETE, START + PATIENCE)
    assert lifecycle.overdue
    assert [told.overdue for told in lifecycle.drain()] == [True]
    lifecycle.handle(Event.INCOMPLETE, START + PATIENCE + 1.0)
    assert lifecycle.drain() == []
    assert lifecycle.next_deadline() is None


def test_overdue_ends_with_the_wait_and_begins_anew() -> None:
    lifecycle = machine(State.AWAITING)
    lifecycle.handle(Event.INCOMPLETE, START + PATIENCE)
    lifecycle.handle(Event.COMPLETE, START + 200.0)
    assert not lifecycle.overdue
    assert lifecycle.next_deadline() is None
    lifecycle.handle(Event.INCOMPLETE, START + 500.0)
    assert not lifecycle.overdue
    assert lifecycle.next_deadline() == START + 500.0 + PATIENCE


def test_patience_can_change() -> None:
    lifecycle = machine(State.AWAITING)
    lifecycle.patience = 10.0
    assert lifecycle.next_deadline() == START + 10.0
    lifecycle.handle(Event.INCOMPLETE, START + 10.0)
    assert lifecycle.overdue


@pytest.mark.parametrize("state", sorted(set(State) - {State.AWAITING}))
def test_only_waiting_has_a_deadline(state: State) -> None:
    assert machine(state).next_deadline() is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Event), st.floats(0, 300))))
def test_any_walk(steps: list[tuple[Event, float]]) -> None:
    lifecycle, now, told = Lifecycle(START, PATIENCE), START, list[Transition]()
    for event, wait in steps:
        now += wait
        allowed = event in TRANSITIONS[lifecycle.state]
        try:
            lifecycle.handle(event, now)
        except OffTheTableError:
            assert not allowed
        else:
            assert allowed
        told += lifecycle.drain()
        assert told[-1].state is lifecycle.state
        assert told[-1].overdue is lifecycle.overdue
        assert lifecycle.overdue <= (lifecycle.state is State.AWAITING)
        deadline = lifecycle.next_deadline()
        assert (deadline is not None) == (
            lifecycle.state is State.AWAITING and not lifecycle.overdue
        )
    # What is told is a walk without gaps, in time.
    for before, after in pairwise(told):
        assert after.previous is before.state
        assert after.at >= before.at
