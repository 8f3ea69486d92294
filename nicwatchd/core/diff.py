"""Compares the plans with the kernel: the operations that make the kernel as planned.

Reads: the plans, the kernel's objects, and what is undecided. Gives: the operations, and what is
protected from removal. Nothing is removed of an interface and family that is still being judged;
otherwise each restart would begin by removing everything.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from nicwatchd.core import rule_chains
from nicwatchd.core.addresses import as_network
from nicwatchd.core.kept import Kept, KeptOf
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
Present: TypeAlias = tuple[rule_chains.Chains, rule_chains.Overtaken]


@dataclass(frozen=True, slots=True)
class _Addresses:
    """What of one link's addresses differs."""

    missing: tuple[AddAddress, ...]
    surplus: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class _Routes:
    """What of our routes differs; the surplus in the kernel's order."""

    missing: tuple[AddRoute, ...]
    surplus: tuple[Route, ...]


class Differ:
    """Compares again and again: what is equal to the last time is not compared anew."""

    def __init__(self) -> None:
        self._addresses: KeptOf[int, _Addresses] = KeptOf()  # by ifindex
        self._routes: Kept[_Routes] = Kept()
        self._wanted: Kept[rule_chains.Chains] = Kept()
        self._standing: Kept[Present] = Kept()
        self._chains: Kept[Chains] = Kept()

    def diff(
        self,
        plans: Iterable[Plan],
        kernel: Snapshot,
        undecided: Undecided,
        owners: Owners | None = None,
    ) -> tuple[Operation, ...]:
        """The operations, in their order: all adds before all removals, and those in reverse.

        `owners` are those of this kernel; without them, the default numbers are assumed.
        """
        plans = tuple(plans)
        owners = owners or Owners(kernel, Numbers())
        chains = self._chains_of(plans, kernel)
        routes = self._routes_of(plans, kernel)
        addresses = self._addresses_of(plans, kernel)
        elsewhere = _elsewhere(plans)
        return (
            *_links(plans, kernel),
            *(each for on in addresses for each in on.missing),
            *routes.missing,
            *(AddRule(rule) for rule in rule_chains.missing(*chains)),
            *_rules_to_remove(chains, elsewhere, owners, undecided),
            *_routes_to_remove(routes, undecided),
            *_addresses_to_remove(plans, addresses, undecided),
            *_groups_to_give_back(plans, kernel),
        )

    def _addresses_of(self, plans: tuple[Plan, ...], kernel: Snapshot) -> list[_Addresses]:
        """What of the addresses differs, link by link; that of links with a plan comes first."""
        of = {plan.index: plan for plan in plans}
        indices = dict.fromkeys((*of, *kernel.addresses))
        self._addresses.keep_only(indices)
        return [self._addresses_on(i, of.get(i, Plan(i)), kernel) for i in indices]

    def _addresses_on(self, index: int, plan: Plan, kernel: Snapshot) -> _Addresses:
        there = kernel.addresses.get(index, ())
        basis = (plan.addresses, plan.preferred, there)
        return self._addresses.get(index, basis, lambda: _compare_addresses(plan, there))

    def _routes_of(self, plans: tuple[Plan, ...], kernel: Snapshot) -> _Routes:
        wanted = tuple(plan.routes for plan in plans)
        return self._routes.get((wanted, kernel.routes), lambda: _compare_routes(wanted, kernel))

    def _chains_of(self, plans: tuple[Plan, ...], kernel: Snapshot) -> Chains:
        """Those chains that differ, or have to stand further behind: mostly none."""
        rules, there = tuple(plan.rules for plan in plans), kernel.rules
        wanted = self._wanted.get(rules, lambda: _chains(rules))
        standing = self._standing.get((there,), lambda: _standing(kernel))
        return self._chains.get((rules, there), lambda: _differing(wanted, *standing, kernel))

    def protected(
        self,
        plans: Iterable[Plan],
        kernel: Snapshot,
        operations: Iterable[Operation],
        undecided: Undecided,
    ) -> tuple[Object, ...]:
        """What is in no plan, but stays because its interface is still being judged.

        `operations` are those of `diff`: what they remove is not protected.
        """
        if not undecided:
            return ()
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
        surplus = (a for on in self._addresses_of(plans, kernel) for a in on.surplus)
        addresses = (a for a in surplus if (a.index, a.ip) not in gone)
        routes = (r for r in self._routes_of(plans, kernel).surplus if r not in gone)
        rules = (rule for rule in _surplus_rules(plans, kernel) if rule not in gone)
        return (*addresses, *routes, *rules)


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


def _compare_addresses(plan: Plan, there: tuple[Address, ...]) -> _Addresses:
    present, wanted = {address.ip: address for address in there}, frozenset(plan.addresses)
    missing: list[AddAddress] = []
    for ip in plan.addresses:
        found, preferred = present.get(ip), ip == plan.preferred
        if found is None:
            missing.append(AddAddress(plan.index, ip, preferred))
        elif found.family is Family.V6 and ours(found) and found.deprecated is preferred:
            missing.append(AddAddress(plan.index, ip, preferred, replace=True))
    surplus = (address for address in there if ours(address) and address.ip not in wanted)
    return _Addresses(tuple(missing), tuple(surplus))


def _addresses_to_remove(
    plans: tuple[Plan, ...], addresses: Iterable[_Addresses], undecided: Undecided
) -> Iterable[Operation]:
    surplus = [address for on in addresses for address in on.surplus]
    if not surplus:
        return  # nearly always
    elsewhere = _elsewhere(plans) | {(p.index, as_network(ip)) for p in plans for ip in p.away}
    for address in surplus:
        index = address.index
        moved = bool(elsewhere) and (index, as_network(address.ip)) in elsewhere
        if moved or (index, address.family) not in undecided:
            yield RemoveAddress(index, address.ip, address.prefixlen)


def _elsewhere(plans: tuple[Plan, ...]) -> Elsewhere:
    return {(plan.index, source) for plan in plans for source in plan.elsewhere}


def _compare_routes(wanted: tuple[tuple[Route, ...], ...], kernel: Snapshot) -> _Routes:
    present = set(kernel.routes)
    there = {route.key for route in kernel.routes}
    every = [route for routes in wanted for route in routes]
    missing = (AddRoute(r, replace=r.key in there) for r in every if r not in present)
    keys = {route.key for route in every}
    surplus = (route for route in kernel.routes if route.key not in keys)
    return _Routes(tuple(missing), tuple(surplus))


def _routes_to_remove(routes: _Routes, undecided: Undecided) -> Iterable[Operation]:
    for route in reversed(routes.surplus):
        if (route.oif, route.family) not in undecided:
            yield RemoveRoute(route)


def _rules_to_remove(
    chains: Chains, elsewhere: Elsewhere, owners: Owners, undecided: Undecided
) -> Iterable[Operation]:
    wanted, own, late = chains
    rules = rule_chains.surplus(
        wanted, own, lambda rule: owners.protects(rule, undecided, elsewhere), late
    )
    return [RemoveRule(rule) for rule in rules]


def _chains(rules: tuple[tuple[Rule, ...], ...]) -> rule_chains.Chains:
    """The rules that there should be."""
    every = dict.fromkeys(rule for its in rules for rule in its)
    # What comes first by its mark is added first.
    return rule_chains.by_selector(sorted(every, key=lambda rule: rule.fwmark is None))


def _standing(kernel: Snapshot) -> Present:
    """The rules of ours that there are, and which of them others' have behind them."""
    return rule_chains.by_selector(own_rules(kernel)), rule_chains.overtaken(kernel.rules)


def _differing(
    wanted: rule_chains.Chains,
    own: rule_chains.Chains,
    late: rule_chains.Overtaken,
    kernel: Snapshot,
) -> Chains:
    """Of the chains that there should be and those that there are, the ones to do something about.

    With them, how many rules of each stand too early.
    """
    late = {**late, **rule_chains.before_marks(wanted, own_rules(kernel), late)}
    here = {key: chain for key, chain in wanted.items() if key in late or own.get(key) != chain}
    there = {
        key: chain for key, chain in own.items() if key in here or key in late or key not in wanted
    }
    return here, there, late


def _surplus_rules(plans: tuple[Plan, ...], kernel: Snapshot) -> list[Rule]:
    wanted = {rule for plan in plans for rule in plan.rules}
    return [rule for rule in own_rules(kernel) if rule not in wanted]
