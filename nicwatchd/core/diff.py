"""The plans against what the kernel has: the operations that lead from one to the other.

Nothing is removed of an interface and family that is still being judged: a restart would begin
with taking everything away. What belongs to one interface is found again by its table, whose number
has the ifindex in it; where the settings had another number before, by what leads there or away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from ipaddress import ip_network

from nicwatchd.core.model import (
    DEFAULT_GROUP,
    MAIN_TABLE,
    PROTOCOL,
    TABLE_STEP,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    IPNetwork,
    Link,
    Numbers,
    Operation,
    Plan,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
    ours,
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the kernel has: the ENIs' links and addresses, all routes of ours, and all rules."""

    links: Mapping[int, Link] = field(default_factory=dict)
    addresses: Mapping[int, tuple[Address, ...]] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()


Held = AbstractSet[tuple[int, Family]]
"""Interfaces (by ifindex) and families that nothing may be removed of."""

Elsewhere = AbstractSet[tuple[int, IPNetwork | None]]
"""... but for these: another ENI has the address or the prefix, which is no doubt."""


def diff(
    plans: Iterable[Plan], kernel: Snapshot, held: Held, owners: Owners | None = None
) -> tuple[Operation, ...]:
    """The operations, in their order: all adds before all removals, and those in reverse.

    `owners` are those of this kernel; without any, the numbers are taken to be the defaults.
    """
    plans = tuple(plans)
    owners = owners or Owners(kernel, Numbers())
    return (
        *_links(plans, kernel),
        *_addresses_to_add(plans, kernel),
        *_routes_to_add(plans, kernel),
        *_rules_to_add(plans, kernel),
        *_rules_to_remove(plans, kernel, owners, held),
        *_routes_to_remove(plans, kernel, held),
        *_addresses_to_remove(plans, kernel, held),
        *_groups_to_give_back(plans, kernel),
    )


def _links(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    """The group comes last: a link that has it was set up before, and whoever died says no more."""
    for plan in plans:
        if plan.bring_up and not kernel.links[plan.index].up:
            yield SetUp(plan.index)
    for plan in plans:
        if plan.group and kernel.links[plan.index].group != plan.group:
            yield SetGroup(plan.index, plan.group)


def _groups_to_give_back(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    for plan in plans:
        if plan.group == DEFAULT_GROUP != kernel.links[plan.index].group:
            yield SetGroup(plan.index, DEFAULT_GROUP)


def _addresses_to_add(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    for plan in plans:
        present = {address.ip for address in kernel.addresses.get(plan.index, ())}
        yield from (AddAddress(plan.index, ip) for ip in plan.addresses if ip not in present)


def _addresses_to_remove(
    plans: tuple[Plan, ...], kernel: Snapshot, held: Held
) -> Iterable[Operation]:
    wanted = {(plan.index, ip) for plan in plans for ip in plan.addresses}
    elsewhere = _elsewhere(plans)
    for index, addresses in kernel.addresses.items():
        for address in addresses:
            if not ours(address) or (index, address.ip) in wanted:
                continue
            moved = (index, ip_network(address.ip)) in elsewhere
            if moved or (index, address.family) not in held:
                yield RemoveAddress(index, address.ip, address.prefixlen)


def _elsewhere(plans: tuple[Plan, ...]) -> Elsewhere:
    return {(plan.index, source) for plan in plans for source in plan.elsewhere}


def _routes_to_add(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    present = set(kernel.routes)
    keys = {route.key for route in kernel.routes}
    for plan in plans:
        for route in plan.routes:
            if route not in present:
                yield AddRoute(route, replace=route.key in keys)


def _routes_to_remove(plans: tuple[Plan, ...], kernel: Snapshot, held: Held) -> Iterable[Operation]:
    wanted = {route.key for plan in plans for route in plan.routes}
    for route in reversed(kernel.routes):
        if route.key not in wanted and (route.oif, route.family) not in held:
            yield RemoveRoute(route)


def _own(kernel: Snapshot) -> tuple[Rule, ...]:
    return tuple(rule for rule in kernel.rules if rule.protocol == PROTOCOL)


def _rules_to_add(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    present = set(_own(kernel))
    wanted = dict.fromkeys(rule for plan in plans for rule in plan.rules)
    missing = [rule for rule in wanted if rule not in present]
    return [AddRule(rule) for rule in sorted(missing, key=lambda rule: rule.priority)]


def _rules_to_remove(
    plans: tuple[Plan, ...], kernel: Snapshot, owners: Owners, held: Held
) -> Iterable[Operation]:
    wanted = {rule for plan in plans for rule in plan.rules}
    elsewhere = _elsewhere(plans)
    own = [rule for rule in _own(kernel) if rule not in wanted]
    surplus = [rule for rule in own if not owners.hold(rule, held, elsewhere)]
    return [RemoveRule(rule) for rule in sorted(surplus, key=lambda rule: -rule.priority)]


# --- whose a rule is ---------------------------------------------------------------------------

Selector = tuple[Family, IPNetwork | None, str | None, str | None]


def selector(rule: Rule) -> Selector:
    """What a rule selects by, which it shares with its guard."""
    return (rule.family, rule.src, rule.iif, rule.oif)


class Owners:
    """Which interfaces the rules in the kernel were made for, whatever the numbers were then."""

    def __init__(self, kernel: Snapshot, numbers: Numbers) -> None:
        self._kernel = kernel
        self._base = numbers.table_base
        self._own = _own(kernel)
        self._known: dict[int, frozenset[int]] = {MAIN_TABLE: frozenset()}

    def of(self, table: int) -> frozenset[int]:
        """The ifindices that rules of ours look up a table for; none where it cannot be told."""
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

    def hold(self, rule: Rule, held: Held, elsewhere: Elsewhere = frozenset()) -> bool:
        """Whether a rule belongs to what is held; a guard belongs to the rule that it guards."""
        if rule.table == MAIN_TABLE:
            of = selector(rule)
            guarded = [r for r in self._own if r.table != MAIN_TABLE and selector(r) == of]
            if guarded:
                return any(self.hold(r, held, elsewhere) for r in guarded)
        owners = self.of(rule.table)
        if not owners:  # whose it was cannot be told
            return any(family is rule.family for _, family in held)
        holding = {i for i in owners if (i, rule.family) in held and (i, rule.src) not in elsewhere}
        names = {self._kernel.links[i].name for i in holding}
        # A name that its link has no more may be another's soon: that is no doubt.
        return bool(names) if rule.oif is None else rule.oif in names
