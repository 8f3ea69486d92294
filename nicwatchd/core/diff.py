"""Compares the plans with the kernel: the operations that make the kernel as planned.

Reads: the plans, the kernel's objects, and what is undecided. Gives: the operations, and what is
protected from removal. Nothing is removed of an interface and family that is still being judged;
otherwise each restart would begin by removing everything.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from ipaddress import ip_network
from typing import Final, TypeAlias

from nicwatchd.core import rule_chains
from nicwatchd.core.model import (
    DEFAULT_GROUP,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    Numbers,
    Object,
    Operation,
    Plan,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    RemoveRuleset,
    Route,
    Rule,
    SetGroup,
    SetUp,
    ours,
)
from nicwatchd.core.ownership import Elsewhere, Owners, Snapshot, Undecided, own_rules

REMOVALS: Final = (RemoveAddress, RemoveRoute, RemoveRule, RemoveRuleset)
Chains: TypeAlias = tuple[rule_chains.Chains, rule_chains.Chains, rule_chains.Overtaken]


def diff(
    plans: Iterable[Plan], kernel: Snapshot, undecided: Undecided, owners: Owners | None = None
) -> tuple[Operation, ...]:
    """The operations, in their order: all adds before all removals, and those in reverse.

    `owners` are those of this kernel; without them, the default numbers are assumed.
    """
    plans = tuple(plans)
    owners = owners or Owners(kernel, Numbers())
    chains = _chains(plans, kernel)
    return (
        *_links(plans, kernel),
        *_addresses_to_add(plans, kernel),
        *_routes_to_add(plans, kernel),
        *(AddRule(rule) for rule in rule_chains.missing(*chains)),
        *_rules_to_remove(chains, _elsewhere(plans), owners, undecided),
        *_routes_to_remove(plans, kernel, undecided),
        *_addresses_to_remove(plans, kernel, undecided),
        *_groups_to_give_back(plans, kernel),
    )


def is_removal(operation: Operation) -> bool:
    """Whether an operation takes something away; those come last."""
    gives_back = isinstance(operation, SetGroup) and operation.group == DEFAULT_GROUP
    return gives_back or isinstance(operation, REMOVALS)


def _links(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    """The group is set last: it records, also across a crash, that the link was set up."""
    for plan in plans:
        if plan.bring_up and not kernel.links[plan.index].up:
            yield SetUp(plan.index, plan.mtu)
    yield from (each for each in _groups(plans, kernel) if each.group != DEFAULT_GROUP)


def _groups_to_give_back(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    return (each for each in _groups(plans, kernel) if each.group == DEFAULT_GROUP)


def _groups(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[SetGroup]:
    """The link groups that differ. Two plans may have that of one link."""
    wanted = dict.fromkeys(each for plan in plans for each in plan.groups)
    return (each for each in wanted if kernel.links[each.index].group != each.group)


def _addresses_to_add(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    for plan in plans:
        present = {address.ip: address for address in kernel.addresses.get(plan.index, ())}
        for ip in plan.addresses:
            there, preferred = present.get(ip), ip == plan.preferred
            if there is None:
                yield AddAddress(plan.index, ip, preferred)
            elif there.family is Family.V6 and ours(there) and there.deprecated is preferred:
                yield AddAddress(plan.index, ip, preferred, replace=True)


def _addresses_to_remove(
    plans: tuple[Plan, ...], kernel: Snapshot, undecided: Undecided
) -> Iterable[Operation]:
    elsewhere = _elsewhere(plans) | {(p.index, ip_network(ip)) for p in plans for ip in p.away}
    for address in _surplus_addresses(plans, kernel):
        index = address.index
        moved = (index, ip_network(address.ip)) in elsewhere
        if moved or (index, address.family) not in undecided:
            yield RemoveAddress(index, address.ip, address.prefixlen)


def _surplus_addresses(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Address]:
    wanted = {(plan.index, ip) for plan in plans for ip in plan.addresses}
    for index, addresses in kernel.addresses.items():
        for address in addresses:
            if ours(address) and (index, address.ip) not in wanted:
                yield address


def _elsewhere(plans: tuple[Plan, ...]) -> Elsewhere:
    return {(plan.index, source) for plan in plans for source in plan.elsewhere}


def _routes_to_add(plans: tuple[Plan, ...], kernel: Snapshot) -> Iterable[Operation]:
    present = set(kernel.routes)
    keys = {route.key for route in kernel.routes}
    for plan in plans:
        for route in plan.routes:
            if route not in present:
                yield AddRoute(route, replace=route.key in keys)


def _routes_to_remove(
    plans: tuple[Plan, ...], kernel: Snapshot, undecided: Undecided
) -> Iterable[Operation]:
    for route in reversed(_surplus_routes(plans, kernel)):
        if (route.oif, route.family) not in undecided:
            yield RemoveRoute(route)


def _surplus_routes(plans: tuple[Plan, ...], kernel: Snapshot) -> list[Route]:
    wanted = {route.key for plan in plans for route in plan.routes}
    return [route for route in kernel.routes if route.key not in wanted]


def _rules_to_remove(
    chains: Chains, elsewhere: Elsewhere, owners: Owners, undecided: Undecided
) -> Iterable[Operation]:
    wanted, own, late = chains
    rules = rule_chains.surplus(
        wanted, own, lambda rule: owners.protects(rule, undecided, elsewhere), late
    )
    return [RemoveRule(rule) for rule in rules]


def _chains(plans: tuple[Plan, ...], kernel: Snapshot) -> Chains:
    """The rules that there should be, those that there are, and what of these stands too early."""
    rules = dict.fromkeys(rule for plan in plans for rule in plan.rules)
    # What comes first by its mark is added first.
    wanted = rule_chains.by_selector(sorted(rules, key=lambda rule: rule.fwmark is None))
    own = rule_chains.by_selector(own_rules(kernel))
    late = rule_chains.overtaken(kernel.rules)
    return wanted, own, late | rule_chains.before_marks(wanted, own_rules(kernel), late)


def _surplus_rules(plans: tuple[Plan, ...], kernel: Snapshot) -> list[Rule]:
    wanted = {rule for plan in plans for rule in plan.rules}
    return [rule for rule in own_rules(kernel) if rule not in wanted]


def protected(
    plans: Iterable[Plan], kernel: Snapshot, operations: Iterable[Operation]
) -> tuple[Object, ...]:
    """What is in no plan, but stays because its interface is still being judged.

    `operations` are those of `diff`: what they remove is not protected.
    """
    plans = tuple(plans)
    gone: set[Hashable] = set()
    for operation in operations:
        match operation:
            case RemoveRule(rule=rule):
                gone.add(rule)
            case RemoveRoute(route=route):
                gone.add(route)
            case RemoveAddress(index=index, ip=ip):
                gone.add((index, ip))
    addresses = (a for a in _surplus_addresses(plans, kernel) if (a.index, a.ip) not in gone)
    routes = (route for route in _surplus_routes(plans, kernel) if route not in gone)
    rules = (rule for rule in _surplus_rules(plans, kernel) if rule not in gone)
    return (*addresses, *routes, *rules)
