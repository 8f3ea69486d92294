"""The plans against what the kernel has: the operations that lead from one to the other.

What belongs to one interface is found again by its table, whose number has the ifindex in it.
Nothing is removed of an interface and family that is still being judged: a restart would begin
with taking everything away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from nicwatchd.core.model import (
    DEFAULT_GROUP,
    MAIN_TABLE,
    PROTOCOL,
    TABLE_BASE,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    IPNetwork,
    Link,
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


def diff(plans: Iterable[Plan], kernel: Snapshot, held: Held) -> tuple[Operation, ...]:
    """The operations, in their order: all adds before all removals, and those in reverse."""
    plans = tuple(plans)
    return (
        *_links(plans, kernel),
        *_addresses_to_add(plans, kernel),
        *_routes_to_add(plans, kernel),
        *_rules_to_add(plans, kernel),
        *_rules_to_remove(plans, kernel, held),
        *_routes_to_remove(plans, kernel, held),
        *_addresses_to_remove(plans, kernel, held),
        *_groups_to_give_back(plans, kernel),
    )


def _links(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    for plan in plans:
        if plan.group and kernel.links[plan.index].group != plan.group:
            yield SetGroup(plan.index, plan.group)
    for plan in plans:
        if plan.bring_up and not kernel.links[plan.index].up:
            yield SetUp(plan.index)


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
    for index, addresses in kernel.addresses.items():
        for address in addresses:
            surplus = ours(address) and (index, address.ip) not in wanted
            if surplus and (index, address.family) not in held:
                yield RemoveAddress(index, address.ip, address.prefixlen)


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
        if route.key not in wanted and (route.table - TABLE_BASE, route.family) not in held:
            yield RemoveRoute(route)


def _own(kernel: Snapshot) -> tuple[Rule, ...]:
    return tuple(rule for rule in kernel.rules if rule.protocol == PROTOCOL)


def _rules_to_add(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    present = set(_own(kernel))
    wanted = dict.fromkeys(rule for plan in plans for rule in plan.rules)
    missing = [rule for rule in wanted if rule not in present]
    return [AddRule(rule) for rule in sorted(missing, key=lambda rule: rule.priority)]


def _rules_to_remove(plans: tuple[Plan, ...], kernel: Snapshot, held: Held) -> Iterable[Operation]:
    wanted = {rule for plan in plans for rule in plan.rules}
    own = _own(kernel)
    surplus = [rule for rule in own if rule not in wanted and not _is_held(rule, kernel, own, held)]
    return [RemoveRule(rule) for rule in sorted(surplus, key=lambda rule: -rule.priority)]


Selector = tuple[Family, IPNetwork | None, str | None, str | None]


def _selector(rule: Rule) -> Selector:
    return (rule.family, rule.src, rule.iif, rule.oif)


def _is_held(rule: Rule, kernel: Snapshot, own: tuple[Rule, ...], held: Held) -> bool:
    """Whether a rule belongs to what is held; a guard belongs to the rule that it guards."""
    if rule.table != MAIN_TABLE:
        index = rule.table - TABLE_BASE
        if (index, rule.family) not in held:
            return False
        # A name that its link has no more may be another's soon: that is no doubt.
        return rule.oif is None or rule.oif == kernel.links[index].name
    guarded = [r for r in own if r.table != MAIN_TABLE and _selector(r) == _selector(rule)]
    if not guarded:  # its rule is gone: whose it was cannot be told
        return any(family is rule.family for _, family in held)
    return any(_is_held(r, kernel, own, held) for r in guarded)
