"""Fast motion in a rough world: the kernel refuses, links go half-way, IMDS dawdles.

What the service's driver makes of that is done here in the same way, so that the turn meets the
sequences which it meets there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from heapq import heappush

from nicwatchd.core.interface import Interface
from nicwatchd.core.metadata import EniMetadata
from nicwatchd.core.model import (
    AddRoute,
    AddRule,
    Numbers,
    Operation,
    RemoveRoute,
    RemoveRule,
    RemoveRuleset,
    SetRuleset,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Outcome, Result
from nicwatchd.core.steps import Reading
from tests.core.build import UNLISTED
from tests.core.comparing_turn import ComparingTurn
from tests.core.fast_motion import ROUND_TRIP, FastMotion
from tests.core.strict_kernel import StrictKernel


class Died(Exception):  # noqa: N818 - it is what happened, and no error of ours
    """The daemon was killed."""


class RoughMotion(FastMotion):
    """`watch` is called before and after each batch of operations, with the batch."""

    kind = ComparingTurn

    def __init__(self, policy: Policy, kernel: StrictKernel) -> None:
        super().__init__(policy, kernel)
        self.lag = ROUND_TRIP  # of IMDS's next answers
        self.refusing: dict[type[Operation], Result] = {}
        self.dies_after: int | None = None  # so many operations of the next batch
        self.unplugs: tuple[int, int] | None = None  # ... after so many, this link goes
        self.open_questions: list[tuple[int, str]] = []
        # What IMDS told the daemon that lives, of each interface that lives.
        self.words: defaultdict[Interface, list[tuple[float, EniMetadata]]] = defaultdict(list)
        self.watch: Callable[[Sequence[Operation], bool], None] = lambda _batch, _done: None
        self._troubled = False  # something was refused, so what builds on it fails, too

    def restart(self, policy: Policy | None = None) -> None:
        """A new daemon on the same kernel. Questions of the old one are not answered."""
        self.turn = self.begin(policy or self.host.policy)
        self.words.clear()
        self.open_questions.clear()

    # --- what the service does ---------------------------------------------------------------

    def _take_turn(self) -> None:
        self._troubled = False
        try:
            self._drive()
        except Died:
            self.restart()
        assert self._troubled or self.turn.settled, f"it does not converge: {self.wanted}"

    def _drive(self) -> None:
        turn = self.turn
        turn.start(self.now)
        while turn.step:
            turn.answer(self._carry_out(turn.step), self.now)
            turn.news()

    def _apply(self, operations: tuple[Operation, ...]) -> list[Outcome]:
        self.watch(operations, False)
        outcomes = []
        for done, operation in enumerate(operations):
            if done == self.dies_after:
                self.dies_after, self._troubled = None, True
                self.watch(operations, True)
                raise Died
            if self.unplugs and done == self.unplugs[1]:
                if self.unplugs[0] in self.kernel.links:
                    self.kernel.unplug(self.unplugs[0])
                self.unplugs, self._troubled = None, True
                self.at(self.now, lambda: None)  # the kernel tells of that
            foreign = self.kernel.foreign
            outcomes.append(Outcome(operation, self._try(operation)))
            assert self.kernel.foreign == foreign, f"touches what is others': {operation}"
        self.watch(operations, True)
        return outcomes

    def _try(self, operation: Operation) -> Result:
        if type(operation) in self.refusing:
            self._troubled = True
            return self.refusing[type(operation)]
        # What went with its link is removed, and cannot be added. Rules need no link.
        needs_link = not isinstance(operation, AddRule | RemoveRule)
        if needs_link and self._troubled and link_of(operation) not in self.kernel.links:
            return Result.DONE if isinstance(operation, RemoveRoute) else Result.GONE
        try:
            self.kernel.run([operation])
        except AssertionError:
            if not self._troubled:
                raise
            return Result.RETRY
        return Result.DONE

    def _answer(self, index: int, mac: str) -> None:
        said = [reading for when, reading in self._readings.get(mac, []) if when <= self.now]
        reading, turn = said[-1] if said else UNLISTED, self.turn
        self.open_questions.append((index, mac))

        def deliver() -> None:
            if self.turn is not turn:
                return
            self.open_questions.remove((index, mac))
            interface = self.host.interfaces.get(index)
            if interface and interface.link.mac == mac:
                self.words[interface].append((self.now, reading))
            self.turn.take_reading(Reading(index, mac, reading), self.now)

        heappush(self._agenda, (self.now + self.lag, next(self._order), deliver))


def link_of(operation: Operation) -> int:
    """The ifindex of the link that an operation is about; a guard's says nothing (negative)."""
    match operation:
        case AddRoute(route=route) | RemoveRoute(route=route):
            return route.oif
        case AddRule(rule=rule) | RemoveRule(rule=rule):
            return Numbers().index_of(rule.table) or -1
        case SetRuleset() | RemoveRuleset():
            return -1
        case _:
            return operation.index
