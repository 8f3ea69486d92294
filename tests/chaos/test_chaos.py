"""Short walks in fast motion, on a new seed each time. `make chaos` walks far."""

from __future__ import annotations

import random

import pytest

from nicwatchd.core.policy import Policy
from tests.chaos import fast, propose_narrow, run

pytestmark = pytest.mark.long


STEPS = 300


def go(policy: Policy) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    try:
        run.walk(seed, STEPS, proposed=propose_narrow.action, policy=policy)
    except AssertionError as error:
        error.add_note(f"with {policy}")
        error.add_note(run.again(seed, STEPS))
        raise


@pytest.mark.lasts(15)
def test_whatever_happens_all_is_right_again_at_the_next_quiet_point() -> None:
    go(fast.POLICY)


@pytest.mark.lasts(15)
def test_so_it_is_where_containers_publish_ports() -> None:
    go(fast.PUBLISHED)
