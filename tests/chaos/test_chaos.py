"""A short walk in fast motion, on a new seed each time. `make chaos` walks far."""

from __future__ import annotations

import random

import pytest

from tests.chaos import run

STEPS = 300


@pytest.mark.lasts(15)
def test_whatever_happens_all_is_right_again_at_the_next_quiet_point() -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    try:
        run.walk(seed, STEPS)
    except AssertionError as error:
        error.add_note(run.again(seed, STEPS))
        raise
