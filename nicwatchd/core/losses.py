"""Counts what others removed of ours, as opposed to what was never there, for the fights.

Reads: each decision's plans and operations, their outcomes, and whom notifications name. Gives: the
number of heals of each kind, the losses of each interface, and what to tell of them. A decision
opens the books, and its outcomes close them: until then, none of its operations counts as done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from nicwatchd.core.episodes import Episodes
from nicwatchd.core.facts import Facts
from nicwatchd.core.fights import KINDS, Fights, Place, Thing, has, place, thing, things
from nicwatchd.core.model import AddAddress, AddRoute, AddRule, Operation, Plan, Rule


class Loser(Protocol):
    """What the books need of an interface."""

    @property
    def facts(self) -> Facts:
        """Tell what the kernel itself takes."""

    @property
    def fights(self) -> Fights:
        """Count what others take."""

    @property
    def plan(self) -> Plan:
        """Tell what it should have now."""


class Losses:
    """The books on the losses of one host."""

    def __init__(self) -> None:
        self.heals: Counter[str] = Counter()  # what others removed and we put back, by kind
        self.of_link: Counter[int] = Counter()  # likewise, by ifindex of the interfaces present
        self.episodes = Episodes()
        self.lost: AbstractSet[Thing] = frozenset()  # what others took, and is not back yet
        self.noticed = 0.0  # when we heard of the first thing that this turn is about
        self._missing: frozenset[Thing] = frozenset()  # what we know to be missing already
        self._throttled: frozenset[Thing]  # of the open decision
        self._suspects: dict[Place, tuple[str, str]] = {}  # who, and what stops it

    def suspect(self, where: Place, who: str, stop: str = "") -> None:
        """Record whom a notification names for the removal of something of ours, what stops it.

        One rule of a flush may name the process, and those that follow at once its sockets alone.
        """
        if stop or not self._suspects.get(where, ("", ""))[1]:
            self._suspects[where] = (who, stop)
        self.episodes.suspect(where, who)

    def forget(self, index: int) -> None:
        """A link is gone: forget who was suspected there, what was lost, and its count."""
        self.episodes.forget(index)
        del self.of_link[index]
        self._suspects = {
            where: who
            for where, who in self._suspects.items()
            if where.kind is AddRule or where.number != index
        }

    def count(
        self,
        before: Mapping[int, Plan],
        operations: Sequence[Operation],
        interfaces: Mapping[int, Loser],
        owners: Mapping[Operation, int | None],
        rules: AbstractSet[Rule],
        now: float,
    ) -> None:
        """Count what the kernel had as planned and what is still planned, but is now missing.

        Others have removed it. `before` are the plans until now; `owners` gives the ifindex of the
        interface that each operation is for. `rules` are in the kernel: a rule that is added once
        more, to stand behind its guard, is not lost.
        """
        for interface in interfaces.values():
            interface.fights.forget(now)
        for operation in operations:
            lost, index = thing(operation), owners[operation]
            if lost is None or index is None or lost in self._missing:
                continue
            if isinstance(lost, AddRule) and lost.rule in rules:
                continue
            interface = interfaces[index]
            if has(before[index], lost) and not _is_by_kernel(interface, lost):
                who, stop = self._suspects.get(place(lost), (None, ""))
                interface.fights.lose(lost, who, now, stop)
                if not interface.fights.over(lost):
                    self.episodes.lose(index, lost, who)
                self.heals[KINDS[type(lost)]] += 1
                self.of_link[index] += 1
                self.lost |= {lost}
        for interface in interfaces.values():
            interface.facts.count_begins_anew()
        self._suspects.clear()  # of this turn: who does it the next time is not known yet
        plans = {index: interface.plan for index, interface in interfaces.items()}
        wanted = things(operations)
        self.lost &= wanted
        self.episodes.seal(wanted, plans, min(self.noticed, now), now)

    def open(self, operations: Iterable[Operation], allowed: Iterable[Operation]) -> None:
        """A decision was made: what its operations add is missing until `close`."""
        self._missing = things(operations)
        self._throttled = self._missing - things(allowed)

    def close(self, failed: AbstractSet[Thing], now: float) -> None:
        """Its operations were carried out: all but `failed` is in the kernel from now on."""
        missing = self._throttled | failed
        self.episodes.back(self._missing - missing, now)
        self._missing = missing
        self.lost &= missing


def _is_by_kernel(interface: Loser, lost: Thing) -> bool:
    """Whether the kernel itself took it, as with a link that went down."""
    return isinstance(lost, AddRoute | AddAddress) and interface.facts.was_taken_by_kernel(lost)
