"""When IMDS is asked: often at first, then less and less, and never not at all."""

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.backoff import FEW, JITTER, REQUESTS, Limiter, Schedule, Share, jittered

DEFAULT = Schedule()


def test_the_figures() -> None:
    """How long the lag may last, and how long polls go on often, is what AWS's users reported."""
    assert Schedule(0.12, 10.0, 0.25, 35.0, 2.0, 5.0, 60.0, 180.0, 60.0) == DEFAULT
    assert JITTER == 0.1
    assert (REQUESTS, FEW) == (15, 16)


@pytest.mark.parametrize(
    ("previous", "age", "expected"),
    [
        pytest.param(0.0, 0.0, 0.12, id="first"),
        pytest.param(0.12, 9.99, 0.12, id="most lags end in this time"),
        pytest.param(0.12, 10.0, 0.25, id="then fewer"),
        pytest.param(0.25, 34.99, 0.25, id="fast while the lag may last"),
        pytest.param(5.0, 10.0, 0.25, id="fast again after a pause"),
        pytest.param(0.25, 35.0, 0.5, id="doubles"),
        pytest.param(0.5, 36.0, 1.0, id="and again"),
        pytest.param(2.0, 40.0, 4.0, id="below the cap"),
        pytest.param(4.0, 45.0, 5.0, id="to the cap"),
        pytest.param(0.0, 50.0, 0.5, id="never from nothing"),
        pytest.param(5.0, 179.9, 5.0, id="until the patience is over"),
        pytest.param(5.0, 180.0, 60.0, id="then slowly"),
    ],
)
def test_the_schedule(*, previous: float, age: float, expected: float) -> None:
    assert DEFAULT.after(previous, age) == expected


@pytest.mark.parametrize(
    ("requests", "interfaces", "expected"),
    [
        pytest.param(1.0, 1, 4.0, id="15 requests a minute"),
        pytest.param(2.5, 1, 10.0, id="a poll that costs more is rarer"),
        pytest.param(2.5, 16, 10.0, id="each on its own"),
        pytest.param(2.5, 32, 20.0, id="many share what 16 may ask"),
        pytest.param(2.5, 64, 40.0, id="64"),
    ],
)
def test_the_interval_at_rest(requests: float, interfaces: int, expected: float) -> None:
    assert DEFAULT.at_rest(requests, interfaces) == expected


def moments(share: Share, interval: float, start: float, until: float) -> list[float]:
    """When an interface is polled whose polls are answered at once."""
    found = [share.next_at(start, interval)]
    while found[-1] < until:
        found.append(share.next_at(found[-1], interval))
    return found


def test_up_to_16_that_rest_are_polled_at_the_same_moments() -> None:
    """Whenever they came to rest."""
    for number in range(16):
        assert moments(Share(number, 16), 10.0, 103.0 + 0.3 * number, 130.0) == [110, 120, 130]


def test_64_that_rest_are_polled_in_four_groups() -> None:
    polled = Counter[float]()
    for number in range(64):
        polled.update(m for m in moments(Share(number, 64), 40.0, 1000.0, 1160.0) if m <= 1160.0)
    assert polled == dict.fromkeys([1010.0 + 10 * n for n in range(16)], 16)


@given(
    st.integers(1, 64).flatmap(lambda of: st.builds(Share, st.integers(0, of - 1), st.just(of))),
    st.floats(0, 1e7),
    st.floats(0.01, 1e4),
)
def test_at_rest_the_next_poll_is_within_an_interval(
    share: Share, now: float, interval: float
) -> None:
    assert now < share.next_at(now, interval) <= now + interval * (1 + 1e-6) + 1e-6


def polls(schedule: Schedule, until: float) -> Iterator[float]:
    age, interval = 0.0, 0.0
    while age < until:
        yield age
        interval = schedule.after(interval, age)
        age += interval


def test_a_long_wait_costs_this_many_polls() -> None:
    ages = list(polls(DEFAULT, 600.0))
    assert len([age for age in ages if age < 10]) == 84
    assert len([age for age in ages if 10 <= age < 35]) == 100
    assert len([age for age in ages if 35 <= age < 180]) == 32
    assert len([age for age in ages if age >= 185]) == 6


def test_settings_are_obeyed() -> None:
    schedule = Schedule(0.5, 1, 1, 3, growth=3, cap=7, keep=10, patience=20, refresh=100)
    assert list(polls(schedule, 300)) == [0, 0.5, 1, 2, 3, 6, 13, 20, 120, 220]
    assert Schedule(first_interval=2.0, interval=1.0).after(0, 0) == 1.0, "never slower at first"


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
