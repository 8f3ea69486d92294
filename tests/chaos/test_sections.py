"""Walks on hosts whose settings have sections that change, and where a container network comes."""

from __future__ import annotations

import random

import pytest

from tests.chaos import run
from tests.chaos.propose_sections import action

STEPS = 200


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_walks_with_sections(seed: int) -> None:
    run.walk(seed, STEPS, proposed=action)


def test_whatever_sections_say_all_is_right_again_at_the_next_quiet_point() -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    try:
        run.walk(seed, STEPS, proposed=action)
    except AssertionError as error:
        error.add_note(f"seed {seed}, with the actions of tests.chaos.propose_sections")
        raise
