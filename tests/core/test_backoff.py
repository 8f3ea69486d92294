"""When IMDS is asked: often at first, then less and less, and never not at all."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.backoff import JITTER, Limiter, Schedule, jittered

DEFAULT = Schedule()


def test_the_figures() -> None:
    """How long the lag may last, and how long polls go on often, is what AWS's users reported."""
    assert Schedule(0.25, 35.0, 2.0, 5.0, 60.0, 180.0, 60.0) == DEFAULT
    assert JITTER == 0.1


@pytest.mark.parametrize(
    ("previous", "age", "complete", "expected"),
    [
        pytest.param(0.0, 0.0, False, 0.25, id="first"),
        pytest.param(0.25, 34.99, False, 0.25, id="fast while the lag may last"),
        pytest.param(5.0, 10.0, False, 0.25, id="fast again after a pause"),
        pytest.param(0.25, 35.0, False, 0.5, id="doubles"),
        pytest.param(0.5, 36.0, False, 1.0, id="and again"),
        pytest.param(2.0, 40.0, False, 4.0, id="below the cap"),
        pytest.param(4.0, 45.0, False, 5.0, id="to the cap"),
        pytest.param(0.0, 50.0, False, 0.5, id="never from nothing"),
        pytest.param(5.0, 179.9, False, 5.0, id="until the patience is over"),
        pytest.param(5.0, 180.0, False, 60.0, id="then slowly"),
        pytest.param(0.25, 10.0, True, 0.25, id="complete, but lists come in parts"),
        pytest.param(5.0, 59.9, True, 5.0, id="complete, within the first minute"),
        pytest.param(5.0, 60.0, True, 60.0, id="complete, after the first minute"),
    ],
)
def test_the_schedule(*, previous: float, age: float, complete: bool, expected: float) -> None:
    assert DEFAULT.after(previous, age, complete=complete) == expected


def polls(schedule: Schedule, until: float) -> Iterator[float]:
    age, interval = 0.0, 0.0
    while age < until:
        yield age
        interval = schedule.after(interval, age, complete=False)
        age += interval


def test_a_long_wait_costs_this_many_polls() -> None:
    ages = list(polls(DEFAULT, 600.0))
    assert len([age for age in ages if age < 35]) == 140
    assert len([age for age in ages if 35 <= age < 180]) == 32
    assert len([age for age in ages if age >= 185]) == 6


def test_settings_are_obeyed() -> None:
    schedule = Schedule(interval=1, fast_for=2, growth=3, cap=7, keep=10, patience=20, refresh=100)
    ages = list(polls(schedule, 300))
    assert ages == [0, 1, 2, 5, 12, 19, 26, 126, 226]
    assert schedule.after(7, 10, complete=True) == 100


@given(st.floats(0, 1, exclude_max=True), st.floats(0.01, 100))
def test_jitter_only_shortens(random: float, interval: float) -> None:
    assert interval * (1 - JITTER) <= jittered(interval, lambda: random) <= interval


def test_jitter_spreads() -> None:
    assert jittered(10, lambda: 0.0) == 10
    assert jittered(10, lambda: 0.5) == 9.5


def test_a_limiter_allows_a_burst_then_a_pace() -> None:
    limiter = Limiter(burst=3, interval=5.0)
    assert [limiter.delay(100.0) for _ in range(5)] == [0.0, 0.0, 0.0, 5.0, 10.0]
    assert limiter.delay(110.0) == 5.0
    assert [limiter.delay(200.0) for _ in range(4)] == [0.0, 0.0, 0.0, 5.0]


@given(st.lists(st.floats(0, 20), max_size=50))
def test_a_limiter_never_allows_more(waits: list[float]) -> None:
    limiter, now = Limiter(burst=3, interval=5.0), 0.0
    allowed = []
    for wait in waits:
        now += wait
        allowed.append(now + limiter.delay(now))
    for i, start in enumerate(allowed):
        assert len([t for t in allowed[i:] if t <= start + 9.99]) <= 3 + 2
