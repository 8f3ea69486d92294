"""When IMDS is asked about one interface, and for how much."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.core.backoff import Schedule, Share
from nicwatchd.core.policy import Policy
from nicwatchd.core.polling import (
    HINT_BURST,
    HINT_INTERVAL,
    SWEEP_INTERVAL,
    WATCH,
    WATCH_INTERVAL,
    Depth,
    Polling,
    Progress,
)

YOUNG = Progress(age=0.0, complete=False, doubted=False, is_slow=False)
OLD = replace(YOUNG, age=1000.0)  # and overdue
SETTLED = replace(OLD, complete=True, requests=2.5)
DOUBTED = replace(SETTLED, doubted=True)
MISSING, AWAITED, ROTA, EVERYTHING = Depth
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


def test_the_first_poll_is_at_once() -> None:
    polling = Polling(0.5)
    assert not polling.is_due(0.4)
    assert polling.is_due(0.5)
    assert polling.send(0.5) is MISSING
    assert polling.in_flight
    assert not polling.is_due(100.0), "one at a time"


@pytest.mark.parametrize(
    ("before", "progress", "policy", "interval", "depth"),
    [
        pytest.param(0.0, YOUNG, Policy(), 0.12, MISSING, id="most often at first"),
        pytest.param(
            0.12, replace(YOUNG, age=10.0), Policy(), 0.25, AWAITED, id="then fewer, for more"
        ),
        pytest.param(0.25, replace(YOUNG, age=35.0), Policy(), 0.5, AWAITED, id="... and fewer"),
        pytest.param(2.0, replace(YOUNG, age=35.0), Policy(), 4.0, AWAITED, id="... and fewer yet"),
        pytest.param(
            4.0, replace(YOUNG, age=35.0), Policy(), 5.0, EVERYTHING, id="slow enough for all"
        ),
        pytest.param(5.0, OLD, Policy(), 60.0, EVERYTHING, id="out of patience"),
        pytest.param(
            5.0, replace(SETTLED, age=59.9), Policy(), 5.0, EVERYTHING, id="it may still grow"
        ),
        pytest.param(5.0, replace(SETTLED, age=60.0), Policy(), 10.0, ROTA, id="at rest"),
        pytest.param(
            5.0,
            replace(SETTLED, age=20.0),
            Policy(schedule=Schedule(patience=20.0)),
            10.0,
            ROTA,
            id="at rest, with little patience",
        ),
        pytest.param(
            10.0, replace(SETTLED, requests=1.5), Policy(), 6.0, ROTA, id="fewer keys, more often"
        ),
        pytest.param(
            10.0, replace(SETTLED, share=Share(0, 64)), Policy(), 40.0, ROTA, id="one of 64"
        ),
        pytest.param(
            10.0, replace(SETTLED, listed=False), Policy(), 60.0, EVERYTHING, id="IMDS is silent"
        ),
        pytest.param(
            0.0, replace(YOUNG, is_slow=True, requests=2.5), Policy(), 10.0, ROTA, id="the primary"
        ),
        pytest.param(10.0, DOUBTED, Policy(), 15.0, EVERYTHING, id="a doubt"),
        pytest.param(
            0.25,
            replace(YOUNG, doubted=True),
            Policy(),
            0.12,
            MISSING,
            id="a doubt, polled fast",
        ),
        pytest.param(
            10.0,
            DOUBTED,
            Policy(doubt_span=2.0),
            1.0,
            EVERYTHING,
            id="a short doubt is read whole all the same",
        ),
        pytest.param(10.0, DOUBTED, Policy(doubts=1), 30.0, EVERYTHING, id="one doubt is enough"),
        pytest.param(
            10.0,
            DOUBTED,
            Policy(doubt_span=500.0),
            60.0,
            EVERYTHING,
            id="a doubt slower than the refresh",
        ),
        pytest.param(
            0.0, OLD, Policy(schedule=Schedule(refresh=1.0)), 1.0, EVERYTHING, id="a fast refresh"
        ),
    ],
)
def test_the_next_poll(
    before: float, progress: Progress, policy: Policy, interval: float, depth: Depth
) -> None:
    polling = Polling(0.0)
    polling.interval = before
    polled(polling, progress, policy)
    assert polling.interval == interval
    due = polling.next_at
    if depth is ROTA:
        assert due == progress.share.next_at(NOW, interval)
    else:
        assert due == NOW + interval
    assert not polling.is_due(due - 0.01)
    assert polling.is_due(due)
    assert polling.send(due) is depth


def test_a_first_answer_that_came_late_is_followed_by_short_intervals() -> None:
    assert polled(Polling(0.0), replace(YOUNG, age=40.0)).interval == 0.5


def test_jitter_only_shortens() -> None:
    polling = Polling(0.0)
    polling.heard(NOW, OLD, Policy(), lambda: 0.5)
    assert polling.interval == 60.0
    assert polling.next_at == pytest.approx(NOW + 57.0)


def test_the_readings_of_a_doubt_span_its_time_whatever_the_jitter() -> None:
    """A third reading after 29 s would be one too few: the next is 15 s later."""
    polling = Polling(0.0)
    times = [NOW]
    for _ in range(2):
        polling.heard(times[-1], DOUBTED, Policy(), lambda: 0.9)
        times.append(polling.next_at)
    assert times == [NOW, NOW + 15.0, NOW + 30.0]


def test_what_others_took_away_is_watched_for_a_minute() -> None:
    polling = polled(Polling(0.0), SETTLED)
    polling.watch(55.0)
    times = []
    while polling.next_at < 55.0 + WATCH + 20.0:
        now = polling.next_at
        times.append((now, polling.send(now)))
        polling.heard(now, SETTLED, Policy(), no_jitter)
    watched = [(55.0 + WATCH_INTERVAL * n, EVERYTHING) for n in range(13)]
    assert times == [*watched, (120.0, ROTA), (130.0, ROTA)]


def test_what_is_asked_for_meanwhile_is_asked_once_more() -> None:
    polling = polled(Polling(0.0))
    polling.send(110.0)
    polling.at(110.2)
    polling.at(110.1)
    polling.at(110.3)
    assert not polling.is_due(111.0)
    polling.heard(110.5, YOUNG, Policy(), no_jitter)
    assert polling.is_due(110.5)
    assert polling.send(110.5) is EVERYTHING
    polling.heard(110.6, YOUNG, Policy(), no_jitter)
    assert not polling.is_due(110.6), "once"


def test_an_earlier_poll_is_for_every_key() -> None:
    polling = polled(Polling(0.0), YOUNG)
    polling.at(NOW + 0.1)
    polling.at(NOW + 0.2)
    assert polling.next_at == NOW + 0.1
    assert polling.send(NOW + 0.1) is EVERYTHING


def test_what_is_due_before_is_no_larger_for_it() -> None:
    polling = polled(Polling(0.0), YOUNG)
    polling.at(NOW + 1.0)
    assert polling.next_at == NOW + 0.12
    assert polling.send(NOW + 0.12) is MISSING


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
            assert polling.send(now) is EVERYTHING
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
    polling = polled(Polling(0.0))
    hinted(polling, 100.0, 100.1, 100.2)
    polling.hint(100.3)
    due = polling.next_at
    assert due == pytest.approx(110.0)
    polling.at(105.0)
    assert polling.send(105.0) is EVERYTHING
    polling.heard(105.1, OLD, Policy(), no_jitter)
    assert polling.next_at == due
    assert polling.send(due) is EVERYTHING
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
