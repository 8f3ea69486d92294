"""The host's request budget, with a simulated clock."""

from __future__ import annotations

from typing import Any

import pytest

from nicwatchd.imds.budget import Budget


def test_a_burst_then_the_rate(clock: Any) -> None:
    budget = Budget(rate=50, burst=3, clock=clock)
    delays = [budget.reserve(patience=1) for _ in range(5)]
    assert delays == pytest.approx([0, 0, 0, 0.02, 0.04])


def test_it_fills_up_with_time_and_no_further_than_the_burst(clock: Any) -> None:
    budget = Budget(rate=50, burst=3, clock=clock)
    for _ in range(3):
        budget.reserve(patience=1)
    clock.now += 3600
    assert [budget.reserve(patience=1) for _ in range(4)] == pytest.approx([0, 0, 0, 0.02])


def test_beyond_the_patience_nothing_is_taken(clock: Any) -> None:
    budget = Budget(rate=1, burst=1, clock=clock)
    assert budget.reserve(patience=0.5) == 0
    assert budget.reserve(patience=0.5) is None
    assert budget.reserve(patience=0.5) is None
    clock.now += 0.75
    assert budget.reserve(patience=0.5) == pytest.approx(0.25)
