"""A short walk on a real kernel, on a new seed each time. `make chaos` walks far."""

from __future__ import annotations

import random

from tests.chaos.namespaces import walk_in_namespaces

STEPS = 24


async def test_whatever_happens_to_a_real_host_all_is_right_again_at_the_next_quiet_point() -> None:
    await walk_in_namespaces(random.SystemRandom().randrange(1_000_000), STEPS)
