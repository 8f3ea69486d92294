"""Which of the kernel's objects are ours, and which interface each was made for.

The objects of an interface are recognised by their table, whose number contains the ifindex. A
table with a number from former settings is recognised by its routes and by the rules for it.

Reads: a snapshot of the kernel. Gives: which interfaces a rule is for, and whether it is protected;
and which rules are others'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from nicwatchd.core.model import (
    LOCAL_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_KERNEL,
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


# Priorities and tables of the rules that the kernel makes at the boot. Before Linux 4.17 they have
# no protocol; with its own it also marks those for VRFs.
BOOT_RULES: Final = ((0, 255), (32766, 254), (32767, 253))


def is_of_kernel(rule: Rule) -> bool:
    """Whether the kernel itself made a rule."""
    if rule.src is not None or rule.dst is not None:
        return False
    is_unmarked = rule.protocol == 0 and (rule.priority, rule.table) in BOOT_RULES
    return rule.protocol == RTPROT_KERNEL or is_unmarked


def foreign(rules: Iterable[Rule]) -> Iterator[Rule]:
    """The rules that others made: neither we nor the kernel."""
    return (rule for rule in rules if rule.protocol != PROTOCOL and not is_of_kernel(rule))


SHARED_TABLES: Final = (MAIN_TABLE, LOCAL_TABLE)  # nobody's: what leads there is a guard

Selector = tuple[Family, IPNetwork | None, str | None, str | None, int | None, int | None]


def selector(rule: Rule) -> Selector:
    """What a rule matches on. A rule and what stands before it have the same selector."""
    return (rule.family, rule.src, rule.iif, rule.oif, rule.fwmark, rule.fwmask)


class Owners:
    """Which interfaces the rules in the kernel were made for, whatever numbers they have.

    `marks_end`: the settings ask for no marks, so no fact is awaited to remove what leads them.
    """

    def __init__(self, kernel: Snapshot, numbers: Numbers, *, marks_end: bool = False) -> None:
        self._kernel = kernel
        self._marks_end = marks_end
        self._numbers = numbers
        self._away: dict[int, set[int]] = {}
        for route in kernel.routes:
            self._away.setdefault(route.table, set()).add(route.oif)
        self._known: dict[int, frozenset[int]] = dict.fromkeys(SHARED_TABLES, frozenset())

    def of(self, table: int) -> frozenset[int]:
        """The ifindices of the interfaces that a table is for; empty if not known."""
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

    @cached_property
    def _own(self) -> tuple[Rule, ...]:
        return own_rules(self._kernel)

    @cached_property
    def _by_table(self) -> Mapping[int, list[Rule]]:
        found: dict[int, list[Rule]] = {}
        for rule in self._own:
            found.setdefault(rule.table, []).append(rule)
        return found

    @cached_property
    def _guarded(self) -> Mapping[Selector, list[Rule]]:
        """The rules that lead to a table of ours, by what they share with their guards."""
        found: dict[Selector, list[Rule]] = {}
        for rule in self._own:
            if rule.table not in SHARED_TABLES:
                found.setdefault(selector(rule), []).append(rule)
        return found

    def of_guard(self, guard: Rule) -> frozenset[int]:
        """The interfaces of the rules that a guard stands before; empty if there are none."""
        guarded = self._guarded.get(selector(guard), [])
        return frozenset().union(*(self.of(each.table) for each in guarded))

    def protects(
        self, rule: Rule, undecided: Undecided, elsewhere: Elsewhere = frozenset()
    ) -> bool:
        """Whether a rule belongs to what is undecided; a guard belongs to the rule it guards."""
        if rule.fwmark is not None and self._marks_end:
            return False
        if rule.table in SHARED_TABLES:
            guarded = self._guarded.get(selector(rule), [])
            # Without the rule that it guards, a guard decides nothing: it is in nobody's way to go.
            # What leads the primary's mark to main is no guard, and guards nothing.
            if guarded or rule.fwmark is None:
                return any(self.protects(each, undecided, elsewhere) for each in guarded)
        owners = self.of(rule.table)
        if not owners:  # it is not known whose rule it was
            return any(family is rule.family for _, family in undecided)
        protecting = {
            index
            for index in owners
            if (index, rule.family) in undecided and (index, rule.src) not in elsewhere
        }
        names = {self._kernel.links[index].name for index in protecting}
        # A rule with a former name of its link may match another link soon: it is not protected.
        return bool(names) if rule.oif is None else rule.oif in names
