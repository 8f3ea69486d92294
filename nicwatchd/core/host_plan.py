"""The plans of all interfaces. Each depends on the others' subnets, and all share a link group.

Reads: the interfaces with their treatment and verdicts, and the rules in the kernel. Gives: a plan
for each, and the exceptions that planning raised; such an interface keeps its previous plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Final

from nicwatchd.core import primary
from nicwatchd.core.addresses import as_network
from nicwatchd.core.closed_main import ClosedMain
from nicwatchd.core.earlier import Made
from nicwatchd.core.eni_plan import Subject, group_for, groups_of, nothing_for, plan
from nicwatchd.core.eni_routes import Main
from nicwatchd.core.evidence import Status
from nicwatchd.core.forwarding import NO_FORWARDING, Forwarding
from nicwatchd.core.interface import Interface
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    Family,
    IPAddress,
    IPNetwork,
    Item,
    Plan,
    Reason,
    Rule,
)
from nicwatchd.core.neighbourhood import Neighbourhood
from nicwatchd.core.ownership import SHARED_TABLES, Owners, Undecided, selector
from nicwatchd.core.policy import Policy
from nicwatchd.core.primary import NO_PROTECTION, Protection
from nicwatchd.core.rule_chains import by_selector
from nicwatchd.core.treatment import Managed, Primary, Released, Unmanaged

TABLE_TAKEN: Final = Reason(
    "table-taken",
    "the routing table of this interface still has another interface's routes, which nicwatchd "
    "made with former numbers",
)


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What the plans are made from: all interfaces with their verdicts, and the kernel's rules.

    Nothing may be removed of what is `undecided`. The interfaces `without_table` wait until what
    another one has in their table, by former numbers, is removed; meanwhile they are undecided.
    `enis` are the links that the guards hide, by ifindex. `taken`: what another VPC's ENI has, too,
    as in `first_come`. `clients`: the DHCP clients that are waited for by name, by ifindex. `made`
    has the last plans: one is made anew only if what it is made from changes. `errors` has the
    exceptions by ifindex.
    """

    interfaces: Mapping[int, Interface]
    rules: tuple[Rule, ...]
    owners: Owners
    undecided: Undecided
    knows_primary: bool
    without_table: AbstractSet[int]
    now: float
    neighbourhood: Neighbourhood
    enis: frozenset[int]
    closed: ClosedMain
    taken: Mapping[int, Mapping[Item, int]] = field(default_factory=dict)
    protection: Protection = NO_PROTECTION
    forwarding: Forwarding = NO_FORWARDING
    clients: Mapping[int, str] = field(default_factory=dict)
    made: Made = field(default_factory=Made)
    errors: dict[int, Exception] = field(default_factory=dict)

    def plans(self, policy: Policy) -> dict[int, Plan]:
        """Plan every interface. The link group changes in steps, each of which routes correctly.

        A packet that one guard suppresses may pass another, so there must not be guards with two
        groups at the same time, and the links cannot all change group at the same moment. Until
        they have, detours replace the guards: they send packets for another ENI's subnet to the
        interface's own table. First they come, then the new guards replace the old ones, then the
        links change their group. Until all have, an old guard stays behind each rule, where no
        packet meets it: after a crash, only this tells that the old group was ours.
        """
        final = self._all(policy)
        former = groups_of(self.rules) - {policy.numbers.group}
        if not former or self._are_grouped(final):
            return final
        before = replace(policy, numbers=replace(policy.numbers, group=max(former)))
        wanted = {selector(rule) for each in final.values() for rule in each.rules}
        surplus = [rule for rule in self._guards(former) if selector(rule) not in wanted]
        if any(self.owners.protects(rule, self.undecided) for rule in self._left(final)):
            return self._all(before)  # what is still being judged needs the old group
        bridged = _remembering(self._all(policy, detour=True), former)
        standing = frozenset(self.rules)
        rules = [rule for each in bridged.values() for rule in each.rules]
        detours = [rule for rule in rules if rule.dst is not None and rule.table != MAIN_TABLE]
        if not standing.issuperset(detours):
            return _remembering(self._all(before, detour=True), former)
        own = by_selector(rule for rule in self.rules if rule.protocol == PROTOCOL)
        if surplus or any(own.get(key) != chain for key, chain in by_selector(rules).items()):
            return {index: _without_group(each, policy) for index, each in bridged.items()}
        return final  # what the plans lack now is removed once the links are in their group

    def _are_grouped(self, plans: Mapping[int, Plan]) -> bool:
        """Whether every link is in its group."""
        return all(
            self._group_of(wanted.index) == wanted.group
            for each in plans.values()
            for wanted in each.groups
        )

    def _group_of(self, index: int) -> int | None:
        """The group that a link is in."""
        interface = self.interfaces.get(index)
        return interface.link.group if interface else self.neighbourhood.stack.group_of(index)

    def _left(self, plans: Mapping[int, Plan]) -> Iterator[Rule]:
        """Our rules that are in none of the plans, but for the guards of those that are."""
        wanted = {rule for each in plans.values() for rule in each.rules}
        chains = {selector(rule) for rule in wanted}
        for rule in self.rules:
            is_guard = rule.table in SHARED_TABLES and selector(rule) in chains
            if rule.protocol == PROTOCOL and rule not in wanted and not is_guard:
                yield rule

    def _guards(self, groups: AbstractSet[int]) -> Iterator[Rule]:
        """Our guards with these groups."""
        return (
            rule
            for rule in self.rules
            if rule.protocol == PROTOCOL and rule.suppress_ifgroup in groups
        )

    def _all(self, policy: Policy, *, detour: bool = False) -> dict[int, Plan]:
        near = self.neighbourhood
        common = self.made.common.get(
            (
                *(policy.numbers, detour, self.knows_primary, self.enis),
                *(self.protection, self.forwarding, near.behind_local, near.stack.basis),
            ),
            object,
        )
        return {
            index: self._whole(interface, policy, common, detour=detour)
            for index, interface in self.interfaces.items()
        }

    def _whole(self, interface: Interface, policy: Policy, common: object, *, detour: bool) -> Plan:
        """The plan of one interface, if what it is made from changed; else the last one."""
        own = interface.own.policy
        if own.numbers != policy.numbers:
            own = replace(own, numbers=policy.numbers)

        def anew() -> Plan:
            return self._with_others(interface, own, self._one(interface, own, detour=detour))

        index = interface.link.index
        try:
            basis = (common, own, *self._basis(interface, own, detour=detour))
            return self.made.whole.get(index, basis, anew)
        except Exception as error:  # noqa: BLE001 (an odd interface must not cost the others)
            self.errors[index] = error
            return self._with_others(interface, own, interface.plan)

    def _basis(self, interface: Interface, policy: Policy, *, detour: bool) -> Iterator[object]:
        """What the plan of an interface is made from, beside what is common to all."""
        facts, index = interface.facts, interface.link.index
        client = self.clients.get(index, "")
        yield from (interface.treatment, interface.own, interface.groups, interface.verdicts)
        yield from (facts.link, facts.addresses, facts.routes, facts.memory)
        yield from (facts.elsewhere, facts.behind, facts.to_bring_up, facts.udev_is_over(self.now))
        yield facts.first_is_due(self.now, policy, client)
        yield facts.dhcpcd_is_due(self.now, client)
        yield index in self.without_table
        yield self.neighbourhood.alone(index)
        yield self._still_whole(interface)
        yield self._detours(interface, detour=detour)
        yield self.closed.of(index)
        yield tuple(self._shares(index))

    def _with_others(self, interface: Interface, policy: Policy, its: Plan) -> Plan:
        """The plan of an interface with what the others add to it."""
        index, stack, group = interface.link.index, self.neighbourhood.stack, policy.numbers.group
        remarks = (
            *interface.own.notes,
            *stack.remarks(index, group),
            *self._shares(index),
            *self.forwarding.remarks(index),
        )
        return replace(
            its,
            elsewhere=frozenset(as_network(item) for item in interface.facts.elsewhere),
            away=frozenset(_away(interface, policy)),
            housed=frozenset(ip for ip, home in interface.facts.behind.items() if home.is_usable),
            standing=stack.groups_on(index, group),
            remarks=remarks,
        )

    def _shares(self, index: int) -> Iterator[Reason]:
        """A note for each item that another ENI has, too, and has the rule for."""
        here = self.interfaces[index].link.name
        for item, other in self.taken.get(index, {}).items():
            name = self.interfaces[other].link.name
            text = f"{name} has {item} too, in another VPC; what is sent from it leaves by {name}, "
            text += f"unless the socket is bound to {here}"
            yield Reason("same-address", text, family=Family(item.version))

    def _one(self, interface: Interface, policy: Policy, *, detour: bool) -> Plan:
        link, groups = interface.link, interface.groups
        match interface.treatment:
            case Unmanaged() if not self.knows_primary:
                return Plan(link.index)  # it may be the primary, which others do not own
            case Released() | Unmanaged(asked=False):
                return nothing_for(link, groups)
            case Primary() if self.protection.families and link.index not in self.without_table:
                its = self._plan(self._primary(interface, policy, detour=detour), policy)
                rules = (*its.rules, *self._to_main(its, policy))
                return replace(its, rules=rules, notes=(*self.protection.reasons, *its.notes))
            case Primary():
                group = group_for(link, policy.numbers.group, groups)
                rules = self.forwarding.to_main(link.index, policy.numbers)
                return Plan(link.index, group=group, rules=rules, notes=self.protection.reasons)
            case Managed() if interface.own.awaits:
                return Plan(link.index)
            case Managed() if link.index in self.without_table:
                return Plan(link.index, unfinished=(TABLE_TAKEN,))
            case Managed() if interface.verdicts and self.knows_primary:
                return self._plan(self._subject(interface, policy, detour=detour), policy)
            case Managed() | Unmanaged():
                return Plan(link.index)

    def _to_main(self, its: Plan, policy: Policy) -> Iterator[Rule]:
        """The rules for the primary's mark in the families in which it has no table."""
        led = {rule.family for rule in its.rules if rule.fwmark is not None}
        for rule in self.forwarding.to_main(its.index, policy.numbers):
            if rule.family not in led:
                yield rule

    def _plan(self, subject: Subject, policy: Policy) -> Plan:
        index = subject.link.index
        return self.made.bare.get(index, (subject, policy), lambda: plan(subject, policy))

    def _still_whole(self, interface: Interface) -> frozenset[IPNetwork]:
        """The subnets that are selected as a whole, of families that still wait for something."""
        waiting = {f for f, each in interface.verdicts.items() if each.status is Status.WAITING}
        if not waiting:
            return frozenset()
        standing = self.neighbourhood.standing(interface.link.index)
        return frozenset(subnet for subnet in standing if Family(subnet.version) in waiting)

    def _detours(self, interface: Interface, *, detour: bool) -> tuple[IPNetwork, ...]:
        """The subnets for which it needs rules, because no guard hides main's routes there."""
        index = interface.link.index
        main = Main(index, interface.facts.routes)
        everywhere = {family for family in Family if detour or main.has_too_many(family)}
        return self.neighbourhood.detours(index, everywhere)

    def _primary(self, interface: Interface, policy: Policy, *, detour: bool) -> Subject:
        """The input of the primary's plan."""
        subject = self._subject(interface, policy, detour=detour)
        facts, protection = interface.facts, self.protection
        usable = primary.usable(interface.verdicts, facts.addresses, facts.routes, protection)
        its = replace(subject, usable=usable, is_primary=True)
        return replace(its, bring_up=False, waits_for_udev=False)

    def _subject(self, interface: Interface, policy: Policy, *, detour: bool) -> Subject:
        """The input of an interface's plan."""
        facts = interface.facts
        # A link that is perhaps excluded stays as it was found.
        is_time = facts.udev_is_over(self.now) and not interface.may_be_excluded(policy)
        index = facts.link.index
        client = self.clients.get(index, "")
        return Subject(
            link=facts.link,
            usable={family: verdict.usable for family, verdict in interface.verdicts.items()},
            addresses=facts.addresses,
            routes=facts.routes,
            first_due=facts.first_is_due(self.now, policy, client),
            dhcpcd_due=facts.dhcpcd_is_due(self.now, client),
            bring_up=facts.to_bring_up and is_time,
            waits_for_udev=facts.to_bring_up and not is_time,
            away=_away(interface, policy),
            groups=interface.groups,
            alone=self.neighbourhood.alone(index),
            still_whole=self._still_whole(interface),
            detours=self._detours(interface, detour=detour),
            kept=self.neighbourhood.stack.kept,
            taken=frozenset(self.taken.get(index, ())),
            behind_local=self.neighbourhood.behind_local,
            enis=self.enis,
            closed=self.closed.of(index),
            mark=self.forwarding.mark(index),
        )


def _remembering(plans: Mapping[int, Plan], groups: AbstractSet[int]) -> dict[int, Plan]:
    """The plans, with a guard of each of these groups behind every rule."""
    return {
        index: replace(
            each,
            rules=(
                *each.rules,
                *(
                    replace(rule, suppress_ifgroup=group)
                    for rule in each.rules
                    for group in sorted(groups)
                    if rule.suppress_ifgroup not in (None, group)
                ),
            ),
        )
        for index, each in plans.items()
    }


def _away(interface: Interface, policy: Policy) -> dict[IPAddress, Reason]:
    """The addresses of an interface that must not be on its link, and why."""
    facts, name = interface.facts, interface.link.name
    left = {
        ip: Reason("left-alone", f"{ip} is left to others by `leave_addresses` in the settings")
        for ip in (facts.candidates if policy.leave_addresses else ())
        if any(ip in network for network in policy.leave_addresses)
    }
    behind = {
        ip: Reason(
            "lives-elsewhere",
            f"{ip} lives elsewhere on this host, so nicwatchd keeps it off {name}: {home.sign};"
            f" what it sends leaves by {name}",
        )
        for ip, home in facts.behind.items()
        if ip not in facts.elsewhere
    }
    return dict(sorted({**left, **behind}.items(), key=lambda each: str(each[0])))


def _without_group(its: Plan, policy: Policy) -> Plan:
    standing = tuple(each for each in its.standing if each.group != policy.numbers.group)
    own = None if its.group == policy.numbers.group else its.group
    return replace(its, group=own, standing=standing)
