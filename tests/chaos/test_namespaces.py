"""A short walk on a real kernel, on a new seed each time. `make chaos` walks far."""

from __future__ import annotations

import random

import pytest

from tests.chaos.actions import Action, Attach, ImdsCatchesUp, Overrun, Quiet, Start
from tests.chaos.judge import differences
from tests.chaos.namespaces import Namespaces, walk_in_namespaces
from tests.chaos.truth import Truth

pytestmark = pytest.mark.long


STEPS = 24
ENI = "02:00:00:00:00:02"


@pytest.mark.lasts(20)
async def test_whatever_happens_to_a_real_host_all_is_right_again_at_the_next_quiet_point() -> None:
    await walk_in_namespaces(random.SystemRandom().randrange(1_000_000), STEPS)


async def test_what_nobody_heard_in_an_overrun_is_put_back() -> None:
    """The kernel drops events until the daemon listens again; all of its rules go meanwhile."""
    path: list[Action] = [
        Start(),
        Attach(ENI, "eth1"),
        ImdsCatchesUp(),
        Quiet(),
        Overrun(),
        Quiet(),
    ]
    async with Namespaces(Truth()) as world:
        for action in path:
            await world.do(action, world.truth.after(action))
        assert world.wrongs() == []
        assert differences(world.truth, await world.look(world.truth)) == []
        await world.daemon.stop()
