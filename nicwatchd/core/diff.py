"""The plans against what the kernel has: the operations that lead from one to the other.

Nothing is removed of an interface and family that is still being judged: a restart would begin
with taking everything away. What belongs to one interface is found again by its table, whose number
has the ifindex in it; where the settings had another number before, by what leads there or away.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

from nicwatchd.core.model import (
    DEFAULT_GROUP,
    AddAddress,
    AddRoute,
    AddRule,
    Numbers,
    Operation,
    Plan,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    SetGroup,
    SetUp,
    ours,
)
from nicwatchd.core.ownership import Elsewhere, Held, Owners, Snapshot, own_rules


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


def _rules_to_add(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    present = set(own_rules(kernel))
    wanted = dict.fromkeys(rule for plan in plans for rule in plan.rules)
    missing = [rule for rule in wanted if rule not in present]
    return [AddRule(rule) for rule in sorted(missing, key=lambda rule: rule.priority)]


def _rules_to_remove(
    plans: tuple[Plan, ...], kernel: Snapshot, owners: Owners, held: Held
) -> Iterable[Operation]:
    wanted = {rule for plan in plans for rule in plan.rules}
    elsewhere = _elsewhere(plans)
    own = [rule for rule in own_rules(kernel) if rule not in wanted]
    surplus = [rule for rule in own if not owners.hold(rule, held, elsewhere)]
    return [RemoveRule(rule) for rule in sorted(surplus, key=lambda rule: -rule.priority)]
