"""When to come back, and why."""

from __future__ import annotations

from typing import Any

import pytest

from nicwatchd.core.agenda import (
    HEARTBEAT,
    KERNEL_PAUSE,
    REST_CAP,
    RETRY_CAP,
    RETRY_FIRST,
    UDEV_POLL,
    Agenda,
    Appointment,
    Why,
)
from nicwatchd.core.metadata import Value
from nicwatchd.core.picture import AT_ONCE, COALESCE
from nicwatchd.core.policy import Policy
from nicwatchd.core.steps import LinksRead, ObjectsRead, PrimaryReading, Reading
from nicwatchd.core.turn import ROUNDS, Turn
from tests.core.build import ETH1, MAC, PRIMARY
from tests.core.scenes import FULL

NOW = 100.0
CALM: dict[str, Any] = {"settled": True, "deadline": None, "waits_for_udev": False}


def rested(took: float = 0.0, **how: Any) -> Agenda:
    """After a turn that ended at 100 s."""
    agenda = Agenda(0.0)
    agenda.turned(NOW - took, NOW, **CALM | how)
    return agenda


def test_the_pace_is_the_one_that_docs_turn_md_tells() -> None:
    assert (HEARTBEAT, KERNEL_PAUSE, REST_CAP) == (5.0, 1.0, 1.0)
    assert (RETRY_FIRST, RETRY_CAP) == (0.1, 5.0)
    assert (UDEV_POLL, COALESCE, AT_ONCE) == (0.1, 0.1, 0.0)
    assert ROUNDS == 4


def test_the_first_turn_is_due_at_once() -> None:
    assert Agenda(7.0).next == Appointment(7.0, Why.START)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        pytest.param({}, Appointment(NOW + HEARTBEAT, Why.HEARTBEAT), id="nothing"),
        pytest.param({"deadline": 102.0}, Appointment(102.0, Why.DEADLINE), id="a time runs out"),
        pytest.param({"deadline": NOW}, Appointment(NOW, Why.DEADLINE), id="it ran out meanwhile"),
        pytest.param(
            {"deadline": 180.0}, Appointment(NOW + HEARTBEAT, Why.HEARTBEAT), id="... some day"
        ),
        pytest.param(
            {"settled": False}, Appointment(NOW + RETRY_FIRST, Why.RETRY), id="not accepted"
        ),
        pytest.param(
            {"settled": False, "deadline": 100.05},
            Appointment(100.05, Why.DEADLINE),
            id="not accepted, and a time runs out before",
        ),
        pytest.param(
            {"settled": False, "deadline": 102.0},
            Appointment(NOW + RETRY_FIRST, Why.RETRY),
            id="... and later",
        ),
        pytest.param(
            {"waits_for_udev": True}, Appointment(NOW + UDEV_POLL, Why.UDEV), id="udev is at it"
        ),
        pytest.param(
            {"waits_for_udev": True, "deadline": 100.05},
            Appointment(100.05, Why.DEADLINE),
            id="... and its time runs out",
        ),
    ],
)
def test_after_a_turn(how: dict[str, Any], expected: Appointment) -> None:
    assert rested(**how).next == expected


@pytest.mark.parametrize(
    ("took", "at", "delay", "due"),
    [
        pytest.param(0.0, 100.0, 0.0, 100.0, id="at once"),
        pytest.param(0.0, 100.5, 0.1, 100.6, id="others of its kind are waited for"),
        pytest.param(0.5, 100.25, 0.0, 100.5, id="as long a rest as the turn took"),
        pytest.param(0.5, 100.25, 0.125, 100.5, id="that wait is in the rest"),
        pytest.param(0.5, 100.25, 1.0, 101.25, id="... or goes beyond it"),
        pytest.param(0.5, 103.0, 0.0, 103.0, id="after the rest"),
        pytest.param(60.0, 100.0, 0.0, NOW + REST_CAP, id="no rest is longer"),
    ],
)
def test_news(took: float, at: float, delay: float, due: float) -> None:
    agenda = rested(took)
    agenda.news(at, delay)
    assert agenda.next == Appointment(due, Why.NEWS)


def test_the_earliest_counts() -> None:
    agenda = rested()
    agenda.news(100.0, 0.5)
    agenda.news(100.25)
    assert agenda.next == Appointment(100.25, Why.NEWS)
    agenda.news(100.25, 0.5)
    assert agenda.next == Appointment(100.25, Why.NEWS)
    agenda = rested(deadline=100.0)
    agenda.news(100.0)
    assert agenda.next == Appointment(100.0, Why.DEADLINE)


def test_a_turn_is_for_all_news_before_it() -> None:
    agenda = rested()
    agenda.news(101.0)
    agenda.news(101.2)
    assert agenda.started(101.5) == 101.0, "when the first of it happened"
    agenda.turned(101.0, 101.0, **CALM)
    assert agenda.next == Appointment(101.0 + HEARTBEAT, Why.HEARTBEAT)


def test_retries_become_rare() -> None:
    agenda, waits = Agenda(0.0), []
    for _ in range(9):
        agenda.turned(NOW, NOW, **CALM | {"settled": False})
        waits.append(agenda.next.at - NOW)
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, RETRY_CAP, RETRY_CAP, RETRY_CAP])
    agenda.turned(NOW, NOW, **CALM)
    assert agenda.next.why is Why.HEARTBEAT
    agenda.turned(NOW, NOW, **CALM | {"settled": False})
    assert agenda.next == Appointment(NOW + RETRY_FIRST, Why.RETRY)


def test_a_kernel_that_does_not_answer_has_a_pause() -> None:
    agenda = rested(settled=False, deadline=100.0, waits_for_udev=True)
    agenda.failed(100.0)
    assert agenda.next == Appointment(100.0 + KERNEL_PAUSE, Why.KERNEL)
    agenda.news(100.5)
    assert agenda.next == Appointment(100.5, Why.NEWS), "perhaps it answers by now"


# --- of the whole turn ---------------------------------------------------------------------------


def take_turn(turn: Turn, now: float) -> None:
    turn.start(now)
    turn.answer(LinksRead({3: ETH1}), now)
    turn.answer(ObjectsRead({3: ()}, {3: ()}, own=(), rules=()), now)
    assert turn.step is None


def test_a_turn_or_a_poll_whichever_is_first() -> None:
    turn = Turn(Policy(), lambda: 0.0, 0.0)
    assert turn.next_at() == Appointment(0.0, Why.START)
    assert turn.questions(0.0) == [], "no interface is known yet"
    take_turn(turn, 0.0)
    assert turn.next_at() == Appointment(0.0, Why.POLL)
    assert not turn.is_due(0.0), "a poll is no turn"
    assert len(turn.questions(0.0)) == 1
    assert turn.questions(0.0) == [], "each is given once"
    assert turn.next_at() == Appointment(HEARTBEAT, Why.HEARTBEAT), "a poll is under way"
    turn.take_reading(Reading(3, MAC, FULL), 0.5)
    assert turn.next_at() == Appointment(0.5, Why.NEWS)
    assert turn.is_due(0.5)
    take_turn(turn, 0.5)
    assert turn.next_at() == Appointment(0.5 + 0.12, Why.POLL)
    assert len(turn.questions(0.75)) == 1
    turn.take_reading(Reading(3, MAC, FULL), 0.8)
    assert not turn.is_due(0.8), "that is no news"


def test_the_primary_is_asked_for_until_it_is_known() -> None:
    turn = Turn(Policy(), lambda: 0.0, 0.0)
    assert not turn.asks_primary, "there is no interface"
    take_turn(turn, 0.0)
    assert turn.asks_primary
    turn.take_reading(PrimaryReading(Value(PRIMARY)), 1.0)
    assert not turn.asks_primary
    assert turn.is_due(1.0)


def test_a_time_that_runs_out_makes_a_turn_due() -> None:
    """Here a DHCP client's; what it wakes is past its end, by no matter how little."""
    turn = Turn(Policy(address_wait=3.0), lambda: 0.0, 0.0)
    take_turn(turn, 0.0)
    turn.questions(0.0)
    due = turn.next_at()
    assert due.why is Why.DEADLINE
    assert 3.0 < due.at < 3.001
    assert not turn.is_due(3.0)
    take_turn(turn, due.at)
    due = turn.next_at()
    assert due.why is Why.DEADLINE, "udev had its time"
    assert 5.0 < due.at < 5.001


def test_news_that_comes_while_a_turn_is_under_way_is_for_the_next_one() -> None:
    agenda = Agenda(0.0)
    agenda.news(0.0)
    assert agenda.started(0.0) == 0.0
    agenda.news(0.1, delay=0.5)
    agenda.turned(0.0, 0.2, settled=True, deadline=None, waits_for_udev=False)
    assert agenda.next == Appointment(0.6, Why.NEWS)
    assert agenda.started(0.6) == 0.1
    agenda.turned(0.6, 0.6, settled=True, deadline=None, waits_for_udev=False)
    assert agenda.next == Appointment(0.6 + HEARTBEAT, Why.HEARTBEAT)
    assert agenda.started(9.0) == 9.0, "of nothing"
