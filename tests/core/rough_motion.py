"""Fast motion in a rough world: the kernel refuses, links go half-way, IMDS dawdles.

What the service around the core does about that (its retries, what it makes of an outcome) is
done here in the same way, so that the core meets the sequences which it meets there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from heapq import heappush
from typing import Final

from nicwatchd.core.host import Failure, Host
from nicwatchd.core.interface import Interface
from nicwatchd.core.metadata import EniMetadata
from nicwatchd.core.model import TABLE_BASE, AddRoute, AddRule, Operation, RemoveRoute, RemoveRule
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Result
from tests.core.build import UNLISTED
from tests.core.fast_motion import ROUND_TRIP, ROUNDS, FastMotion
from tests.core.strict_kernel import StrictKernel

RETRY: Final = 1.0  # after what the kernel did not accept


class Died(Exception):  # noqa: N818 - it is what happened, and no error of ours
    """The daemon was killed."""


class RoughMotion(FastMotion):
    """`watch` is called before and after each batch of operations, with the batch."""

    def __init__(self, policy: Policy, kernel: StrictKernel) -> None:
        super().__init__(policy, kernel)
        self.lag = ROUND_TRIP  # of IMDS's next answers
        self.refusing: dict[type[Operation], Result] = {}
        self.dies_after: int | None = None  # so many operations of the next batch
        self.unplugs: tuple[int, int] | None = None  # ... after so many, this link goes
        self.retry_at: float | None = None
        self.open_questions: list[tuple[int, str]] = []
        # What IMDS told the daemon that lives, of each interface that lives.
        self.words: defaultdict[Interface, list[tuple[float, EniMetadata]]] = defaultdict(list)
        self.watch: Callable[[Sequence[Operation], bool], None] = lambda _batch, _done: None
        self._troubled = False  # something was refused, so what builds on it fails, too

    def restart(self, policy: Policy | None = None) -> None:
        """A new daemon on the same kernel. Questions of the old one are not answered."""
        self.host = Host(policy or self.host.policy, lambda: 0.0, strict=True)
        self.words.clear()
        self.open_questions.clear()
        self.retry_at = None

    # --- what the service does ---------------------------------------------------------------

    def _turn(self) -> None:
        before: tuple[Operation, ...] = ()
        self._troubled = False
        for _ in range(ROUNDS):
            self.look()
            operations = self.host.decide(self.now)
            self.host.transitions()
            if not operations or operations == before:
                break
            before = operations
            try:
                self._carry_out(operations)
            except Died:
                self.restart()
        else:
            assert self._troubled, f"it does not converge: {operations}"
        self.retry_at = self.now + RETRY if operations else None
        if self.retry_at is not None:
            self.at(self.retry_at, lambda: None)

    def _carry_out(self, operations: tuple[Operation, ...]) -> None:
        self.watch(operations, False)
        failures = []
        for done, operation in enumerate(operations):
            if done == self.dies_after:
                self.dies_after, self._troubled = None, True
                self.watch(operations, True)
                raise Died
            if self.unplugs and done == self.unplugs[1]:
                if self.unplugs[0] in self.kernel.links:
                    self.kernel.unplug(self.unplugs[0])
                self.unplugs, self._troubled = None, True
            foreign = self.kernel.foreign
            result = self._try(operation)
            assert self.kernel.foreign == foreign, f"touches what is others': {operation}"
            if result not in (Result.DONE, Result.GONE):
                failures.append(Failure(operation, result.value))
        self.watch(operations, True)
        self.host.failed(failures)

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
        reading, host = said[-1] if said else UNLISTED, self.host
        self.open_questions.append((index, mac))

        def deliver() -> None:
            if self.host is not host:
                return
            self.open_questions.remove((index, mac))
            interface = self.host.interfaces.get(index)
            if interface and interface.link.mac == mac:
                self.words[interface].append((self.now, reading))
            self._news |= self.host.hear(index, mac, reading, self.now)

        heappush(self._agenda, (self.now + self.lag, next(self._order), deliver))


def link_of(operation: Operation) -> int:
    """The ifindex of the link that an operation is about; a guard's says nothing (negative)."""
    match operation:
        case AddRoute(route=route) | RemoveRoute(route=route):
            return route.oif
        case AddRule(rule=rule) | RemoveRule(rule=rule):
            return rule.table - TABLE_BASE
        case _:
            return operation.index
