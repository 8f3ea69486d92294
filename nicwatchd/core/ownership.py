"""Which of the kernel's objects are ours, and which interface each was made for.

What belongs to one interface is found again by its table, whose number has the ifindex in it; where
the settings had another number before, by what leads there or away.

Reads: a snapshot of the kernel. Gives: whose a rule is, and whether it is protected.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from nicwatchd.core.model import (
    LOCAL_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    TABLE_STEP,
    Address,
    Family,
    IPNetwork,
    Link,
    Numbers,
    Route,
    Rule,
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the kernel has: the ENIs' links and addresses, all routes of ours, and all rules."""

    links: Mapping[int, Link] = field(default_factory=dict)
    addresses: Mapping[int, tuple[Address, ...]] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()


Undecided = AbstractSet[tuple[int, Family]]
"""Interfaces (by ifindex) and families that nothing may be removed of."""

Elsewhere = AbstractSet[tuple[int, IPNetwork | None]]
"""... but for these: another ENI has the address or the prefix, which is no doubt."""


def own_rules(kernel: Snapshot) -> tuple[Rule, ...]:
    """The rules of ours, in the order in which the kernel walks them."""
    return tuple(rule for rule in kernel.rules if rule.protocol == PROTOCOL)


SHARED_TABLES: Final = (MAIN_TABLE, LOCAL_TABLE)  # nobody's: what leads there is a guard

Selector = tuple[Family, IPNetwork | None, str | None, str | None]


def selector(rule: Rule) -> Selector:
    """What a rule selects by, which it shares with those that stand before it."""
    return (rule.family, rule.src, rule.iif, rule.oif)


class Owners:
    """Which interfaces the rules in the kernel were made for, whatever the numbers were then."""

    def __init__(self, kernel: Snapshot, numbers: Numbers) -> None:
        self._kernel = kernel
        self._numbers = numbers
        self._chains: dict[Selector, list[Rule]] = {}
        self._by_table: dict[int, list[Rule]] = {}
        for rule in own_rules(kernel):
            self._chains.setdefault(selector(rule), []).append(rule)
            self._by_table.setdefault(rule.table, []).append(rule)
        self._away: dict[int, set[int]] = {}
        for route in kernel.routes:
            self._away.setdefault(route.table, set()).add(route.oif)
        self._known: dict[int, frozenset[int]] = dict.fromkeys(SHARED_TABLES, frozenset())

    def of(self, table: int) -> frozenset[int]:
        """The ifindices that rules of ours look up a table for; none where it cannot be told."""
        if table not in self._known:
            self._known[table] = self._find(table)
        return self._known[table]

    def _find(self, table: int) -> frozenset[int]:
        """By the routes that lead away, for numbers of two settings may mean two interfaces."""
        if table in self._away:
            return frozenset(self._away[table])
        links = self._kernel.links
        index = self._numbers.index_of(table)
        is_near = table < self._numbers.table_base + TABLE_STEP  # else it may be of another base
        if index is not None and (is_near or index in links):
            return frozenset({index})
        rules = self._by_table.get(table, [])
        names = {rule.oif for rule in rules}
        sources = [rule.src for rule in rules if rule.src is not None]
        named = {index for index, link in links.items() if link.name in names}
        addressed = {
            index
            for index, addresses in self._kernel.addresses.items()
            if any(address.ip in source for address in addresses for source in sources)
        }
        return frozenset(named | addressed)

    def protects(
        self, rule: Rule, undecided: Undecided, elsewhere: Elsewhere = frozenset()
    ) -> bool:
        """Whether a rule is of what is undecided; a guard belongs to the rule that it guards."""
        if rule.table in SHARED_TABLES:
            chain = self._chains.get(selector(rule), [])
            guarded = [each for each in chain if each.table not in SHARED_TABLES]
            if guarded:
                return any(self.protects(each, undecided, elsewhere) for each in guarded)
        owners = self.of(rule.table)
        if not owners:  # whose it was cannot be told
            return any(family is rule.family for _, family in undecided)
        protecting = {
            index
            for index in owners
            if (index, rule.family) in undecided and (index, rule.src) not in elsewhere
        }
        names = {self._kernel.links[index].name for index in protecting}
        # A name that its link has no more may be another's soon: that is no doubt.
        return bool(names) if rule.oif is None else rule.oif in names
