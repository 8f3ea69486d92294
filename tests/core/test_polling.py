"""When IMDS is asked about one interface, and whether for every key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.policy import Policy
from nicwatchd.core.polling import HINT_BURST, HINT_INTERVAL, SWEEP_INTERVAL, Polling, Progress

YOUNG = Progress(age=0.0, complete=False, doubted=False, is_slow=False)
OLD = replace(YOUNG, age=1000.0)
NOW = 50.0  # when the readings of these tests arrive


def no_jitter() -> float:
    return 0.0


def polled(polling: Polling, progress: Progress = OLD, policy: Policy | None = None) -> Polling:
    """Asked and answered, at 50 s."""
    polling.send(NOW)
    polling.heard(NOW, progress, policy or Policy(), no_jitter)
    return polling


def test_how_much_a_host_may_ask_at_the_most() -> None:
    """Of IMDS, which others need too: every key at most each 5 s, and 3 hints, then one in 10 s."""
    assert SWEEP_INTERVAL == 5.0
    assert (HINT_BURST, HINT_INTERVAL) == (3, 10.0)


def test_the_first_poll_is_at_once_and_for_everything() -> None:
    polling = Polling(0.5)
    assert not polling.is_due(0.4)
    assert polling.is_due(0.5)
    assert polling.send(0.5) is True
    assert polling.in_flight
    assert not polling.is_due(100.0), "one at a time"


@pytest.mark.parametrize(
    ("before", "progress", "policy", "interval", "whole"),
    [
        pytest.param(0.0, YOUNG, Policy(), 0.25, False, id="fast polls only probe"),
        pytest.param(0.25, replace(YOUNG, age=35.0), Policy(), 0.5, False, id="then fewer"),
        pytest.param(2.0, replace(YOUNG, age=35.0), Policy(), 4.0, False, id="... and fewer"),
        pytest.param(4.0, replace(YOUNG, age=35.0), Policy(), 5.0, True, id="slow enough for all"),
        pytest.param(
            5.0, replace(YOUNG, age=60.0, complete=True), Policy(), 60.0, True, id="complete"
        ),
        pytest.param(5.0, replace(YOUNG, age=180.0), Policy(), 60.0, True, id="out of patience"),
        pytest.param(0.0, replace(YOUNG, is_slow=True), Policy(), 60.0, True, id="the primary"),
        pytest.param(60.0, replace(OLD, doubted=True), Policy(), 15.0, True, id="a doubt"),
        pytest.param(
            0.25, replace(YOUNG, doubted=True), Policy(), 0.25, False, id="a doubt, polled fast"
        ),
        pytest.param(
            60.0,
            replace(OLD, doubted=True),
            Policy(doubt_span=2.0),
            1.0,
            True,
            id="a short doubt is read whole all the same",
        ),
        pytest.param(
            60.0, replace(OLD, doubted=True), Policy(doubts=1), 30.0, True, id="one doubt is enough"
        ),
        pytest.param(
            60.0,
            replace(OLD, doubted=True),
            Policy(doubt_span=500.0),
            60.0,
            True,
            id="a doubt slower than the refresh",
        ),
        pytest.param(
            0.0, OLD, Policy(schedule=Schedule(refresh=1.0)), 1.0, True, id="a fast refresh"
        ),
    ],
)  # fmt: skip
def test_the_next_poll(
    before: float, progress: Progress, policy: Policy, interval: float, whole: bool
) -> None:
    polling = Polling(0.0)
    polling.interval = before
    polled(polling, progress, policy)
    assert (polling.interval, polling.next_at) == (interval, NOW + interval)
    assert not polling.is_due(NOW + interval - 0.01)
    assert polling.is_due(NOW + interval)
    assert polling.send(NOW + interval) is whole


def test_a_first_answer_that_came_late_is_followed_by_short_intervals() -> None:
    assert polled(Polling(0.0), replace(YOUNG, age=40.0)).interval == 0.5


def test_jitter_only_shortens() -> None:
    polling = Polling(0.0)
    polling.heard(NOW, OLD, Policy(), lambda: 0.5)
    assert polling.interval == 60.0
    assert polling.next_at == pytest.approx(NOW + 57.0)


def test_what_is_asked_for_meanwhile_is_asked_once_more() -> None:
    polling = polled(Polling(0.0))
    polling.send(110.0)
    polling.at(110.2)
    polling.at(110.1)
    polling.at(110.3)
    assert not polling.is_due(111.0)
    polling.heard(110.5, YOUNG, Policy(), no_jitter)
    assert polling.is_due(110.5)
    assert polling.send(110.5) is True
    polling.heard(110.6, YOUNG, Policy(), no_jitter)
    assert not polling.is_due(110.6), "once"


def test_an_earlier_poll_is_for_every_key() -> None:
    polling = polled(Polling(0.0), YOUNG)
    polling.at(NOW + 0.1)
    polling.at(NOW + 0.2)
    assert polling.next_at == NOW + 0.1
    assert polling.send(NOW + 0.1) is True


def test_what_is_due_before_is_no_larger_for_it() -> None:
    polling = polled(Polling(0.0), YOUNG)
    polling.at(NOW + 1.0)
    assert polling.next_at == NOW + 0.25
    assert polling.send(NOW + 0.25) is False


def test_answers_are_as_old_as_their_question() -> None:
    polling = Polling(0.0)
    assert polling.as_of == float("-inf")
    polling.send(3.0)
    assert polling.as_of == float("-inf"), "a question is no answer"
    polling.heard(5.0, YOUNG, Policy(), no_jitter)
    assert (polling.as_of, polling.in_flight) == (3.0, False)
    polling.heard(6.0, YOUNG, Policy(), no_jitter)
    assert polling.as_of == 3.0, "nobody asked since"


def test_hints_ask_at_once_in_measure() -> None:
    """A loose cable: an event every 100 ms, for a minute."""
    polling, times = polled(Polling(0.0)), []
    for tick in range(601):
        now = 100.0 + tick / 10
        polling.hint(now)
        if polling.is_due(now):
            assert polling.send(now) is True
            polling.heard(now, OLD, Policy(), no_jitter)
            times.append(now)
    burst = [100.0, 100.1, 100.2]
    assert times[:HINT_BURST] == pytest.approx(burst)
    rest = [100.0 + HINT_INTERVAL * n for n in range(1, 7)]
    assert times[HINT_BURST:] == pytest.approx(rest, abs=0.11)
    polling.hint(160.5)
    assert polling.next_at == pytest.approx(160.0 + HINT_INTERVAL), "so is what comes last"


def hinted(polling: Polling, *times: float) -> None:
    """Hints that are polled for at once."""
    for at in times:
        polling.hint(at)
        polling.send(at)
        polling.heard(at, OLD, Policy(), no_jitter)


def test_a_hint_that_has_to_wait_outlives_the_polls_before_it() -> None:
    polling = Polling(0.0)
    hinted(polling, 100.0, 100.1, 100.2)
    polling.hint(100.3)
    due = polling.next_at
    assert due == pytest.approx(110.0)
    polling.at(105.0)
    assert polling.send(105.0) is True
    polling.heard(105.1, OLD, Policy(), no_jitter)
    assert polling.next_at == due
    assert polling.send(due) is True
    polling.heard(due, OLD, Policy(), no_jitter)
    assert polling.next_at == due + 60.0


def test_a_hint_during_a_poll_asks_once_more() -> None:
    """The answer on its way may be of before."""
    polling = polled(Polling(0.0))
    polling.send(110.0)
    polling.hint(110.1)
    polling.heard(110.2, OLD, Policy(), no_jitter)
    assert polling.is_due(110.2)


def test_hints_of_one_moment_are_one() -> None:
    polling = polled(Polling(0.0))
    for _ in range(10):
        polling.hint(100.0)
    hinted(polling, 100.0, 100.1, 100.2)
    assert polling.next_at == 160.2
