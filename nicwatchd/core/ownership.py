"""Which of the kernel's objects are ours, and which interface each was made for.

The objects of an interface are recognised by their table, whose number contains the ifindex. A
table with a number from former settings is recognised by its routes and by the rules for it.

Reads: a snapshot of the kernel. Gives: which interfaces a rule is for, and whether it is protected.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property

from nicwatchd.core.model import (
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
    """What the kernel has: the ENIs' links and addresses, all our routes, and all rules."""

    links: Mapping[int, Link] = field(default_factory=dict)
    addresses: Mapping[int, tuple[Address, ...]] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()


Undecided = AbstractSet[tuple[int, Family]]
"""Interfaces (by ifindex) and families of which nothing may be removed."""

Elsewhere = AbstractSet[tuple[int, IPNetwork | None]]
"""Exceptions from `Undecided`: addresses and prefixes that certainly belong to another ENI."""


def own_rules(kernel: Snapshot) -> tuple[Rule, ...]:
    """Our rules, in the order in which the kernel evaluates them."""
    return tuple(rule for rule in kernel.rules if rule.protocol == PROTOCOL)


Selector = tuple[Family, IPNetwork | None, str | None, str | None]


def selector(rule: Rule) -> Selector:
    """What a rule matches on. A rule and its guard have the same selector."""
    return (rule.family, rule.src, rule.iif, rule.oif)


class Owners:
    """Which interfaces the rules in the kernel were made for, whatever numbers they have."""

    def __init__(self, kernel: Snapshot, numbers: Numbers) -> None:
        self._kernel = kernel
        self._base = numbers.table_base
        self._own = own_rules(kernel)
        self._known: dict[int, frozenset[int]] = {MAIN_TABLE: frozenset()}

    def of(self, table: int) -> frozenset[int]:
        """The ifindices of the interfaces that a table is for; empty if not known."""
        if table not in self._known:
            self._known[table] = self._find(table)
        return self._known[table]

    def _find(self, table: int) -> frozenset[int]:
        links = self._kernel.links
        index = table - self._base
        if 0 < index < TABLE_STEP or index in links:
            return frozenset({index})
        leading_away = frozenset(r.oif for r in self._kernel.routes if r.table == table)
        if leading_away:
            return leading_away
        rules = [rule for rule in self._own if rule.table == table]
        names = {rule.oif for rule in rules}
        sources = [rule.src for rule in rules if rule.src is not None]
        named = {index for index, link in links.items() if link.name in names}
        addressed = {
            index
            for index, addresses in self._kernel.addresses.items()
            if any(address.ip in source for address in addresses for source in sources)
        }
        return frozenset(named | addressed)

    @cached_property
    def _guarded(self) -> Mapping[Selector, list[Rule]]:
        """The rules that lead to a table of ours, by what they share with their guards."""
        found: dict[Selector, list[Rule]] = {}
        for rule in self._own:
            if rule.table != MAIN_TABLE:
                found.setdefault(selector(rule), []).append(rule)
        return found

    def protects(
        self, rule: Rule, undecided: Undecided, elsewhere: Elsewhere = frozenset()
    ) -> bool:
        """Whether a rule belongs to what is undecided; a guard belongs to the rule it guards."""
        if rule.table == MAIN_TABLE:
            guarded = self._guarded.get(selector(rule))
            if guarded:
                return any(self.protects(r, undecided, elsewhere) for r in guarded)
        owners = self.of(rule.table)
        if not owners:  # it is not known whose rule it was
            return any(family is rule.family for _, family in undecided)
        holding = {
            i for i in owners if (i, rule.family) in undecided and (i, rule.src) not in elsewhere
        }
        names = {self._kernel.links[i].name for i in holding}
        # A rule with a former name of its link may match another link soon: it is not protected.
        return bool(names) if rule.oif is None else rule.oif in names
