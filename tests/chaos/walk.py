"""The chaos walk: a seed leads to the same actions on whatever world they are done.

    walk = Walk(seed)
    while ...:
        action = walk.step()
        await world.do(action, walk.truth)

Each action is possible when it comes. After a few of them everything that was wrong ends, and at
the quiet point that follows `judge.differences` must find nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final, Protocol, TypeAlias

from tests.chaos import propose_all
from tests.chaos.actions import (
    Action,
    Detach,
    FaultsEnd,
    ImdsCatchesUp,
    Item,
    LeaseExpires,
    Pass,
    Quiet,
    Start,
    Unassign,
)
from tests.chaos.judge import Seen, differences
from tests.chaos.truth import Truth

MOMENT: Final = Pass(0.1)
BUSY: Final = (3, 9)  # actions between two quiet points, from and to
Proposed: TypeAlias = Callable[[Truth, Random], Action]


class World(Protocol):
    """What a walk happens on."""

    async def do(self, action: Action, truth: Truth) -> None:
        """Let it happen; `truth` is the one after it. `Quiet`: until nothing is due any more."""

    async def look(self, truth: Truth) -> Seen:
        """What is there. Called at quiet points."""

    def wrongs(self) -> list[str]:
        """What the world saw go wrong since the last call, between quiet points too."""


class AstrayError(AssertionError):
    """The walk found something wrong; the text has the trace since the last quiet point."""


class Walk:
    """The actions of one seed, and the truth after those that were taken."""

    def __init__(self, seed: int, proposed: Proposed = propose_all.action) -> None:
        self.truth = Truth()
        self._proposed = proposed
        self._random = Random(seed)
        self._agenda: list[Action] = [Start(), Quiet()]

    def step(self) -> Action:
        """The next action; the truth is now the one after it."""
        if not self._agenda:
            self._plan()
        action = self._agenda.pop(0)
        self.truth = self.truth.after(action)
        return action

    def _plan(self) -> None:
        """Actions up to and with the next quiet point."""
        truth = self.truth
        for _ in range(self._random.randint(*BUSY)):
            action = self._proposed(truth, self._random)
            truth = truth.after(action)
            self._agenda.append(action)
        self._agenda += [*calm(truth), Quiet()]


def calm(truth: Truth) -> list[Action]:
    """What has to happen so that everything can be right: all that is late comes."""

    def is_assigned(mac: str, item: Item) -> bool:
        return item in truth.items(mac)

    late: list[Action] = [] if truth.running else [Start()]
    for begins in late:
        truth = truth.after(begins)
    if truth.faults:
        late.append(FaultsEnd())
    # What a manager took away is not the host's until EC2 has taken it, too; that comes later.
    late += [MOMENT] if truth.departed else []
    late += [Unassign(*each) for each in sorted(truth.departed, key=str) if is_assigned(*each)]
    late.append(ImdsCatchesUp())
    late += [
        LeaseExpires(lease)
        for lease in sorted(truth.leases, key=str)
        if lease.address.ip not in truth.items(lease.mac)
    ]
    # A daemon that has begun since does not know what subnet the rest of an ENI was in.
    late += [Detach(mac, listed=False) for mac in truth.dead if truth.ports[mac].forgotten]
    return late


async def wander(
    world: World, seed: int, steps: int, proposed: Proposed = propose_all.action
) -> None:
    """Walk so many steps, and on to the next quiet point. Raises AstrayError."""
    walk = Walk(seed, proposed)
    trace: list[str] = []
    for number in range(1, 2 * steps + 2 * BUSY[1]):
        action = walk.step()
        trace.append(f"{number:6}  {action}")
        await world.do(action, walk.truth)
        wrong = world.wrongs()
        if isinstance(action, Quiet):
            wrong += differences(walk.truth, await world.look(walk.truth))
        if wrong:
            said = [f"seed {seed}, step {number}:", *wrong, "since the last quiet point:", *trace]
            raise AstrayError("\n".join(said))
        if isinstance(action, Quiet):
            trace.clear()
            if number >= steps:
                return
