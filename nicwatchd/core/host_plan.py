"""The plans of all interfaces. Each depends on the others' subnets, and all share a link group.

Reads: the interfaces with their treatment and verdicts, and the rules in the kernel. Gives: a plan
for each, and the exceptions that planning raised; such an interface keeps its previous plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_network

from nicwatchd.core.eni_plan import Subject, group_for, groups_of, nothing_for, plan
from nicwatchd.core.interface import Interface
from nicwatchd.core.model import PROTOCOL, IPAddress, IPNetwork, Plan, Reason, Rule
from nicwatchd.core.ownership import Owners, Undecided, selector
from nicwatchd.core.policy import Policy
from nicwatchd.core.treatment import Managed, Primary, Released, Unmanaged


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What the plans are made from: all interfaces with their verdicts, and the kernel's rules.

    Nothing may be removed of what is `undecided`. `made` has the last plan of each interface, by
    ifindex, with its input; the plan is made anew only if that changes. `errors` has the exceptions
    by ifindex.
    """

    interfaces: Mapping[int, Interface]
    rules: tuple[Rule, ...]
    owners: Owners
    undecided: Undecided
    knows_primary: bool
    now: float
    made: dict[int, tuple[Subject, Policy, Plan]] = field(default_factory=dict)
    errors: dict[int, Exception] = field(default_factory=dict)

    def plans(self, policy: Policy) -> dict[int, Plan]:
        """Plan every interface. The link group changes in steps, each of which routes correctly.

        A packet that one guard suppresses may pass another, so there must not be guards with two
        groups at the same time, and the links cannot all change group at the same moment. Until
        they have, bridge rules replace the guards: they send packets for another ENI's subnet to
        the interface's own table.
        """
        numbers = policy.numbers
        final = self._all(policy)
        of_now = (None, numbers.group)
        guards = [
            rule
            for rule in self.rules
            if rule.suppress_ifgroup not in of_now and rule.protocol == PROTOCOL
        ]
        if not guards:
            return final
        wanted = {selector(rule) for each in final.values() for rule in each.rules}
        before = replace(policy, numbers=replace(numbers, group=max(groups_of(guards))))
        surplus = (guard for guard in guards if selector(guard) not in wanted)
        if any(self.owners.protects(guard, self.undecided) for guard in surplus):
            return self._all(before)  # what is still being judged needs the old group
        bridge = _before(min(numbers.priority, *(g.priority for g in guards)), self.rules)
        bridged = self._all(policy, bridge)
        standing = frozenset(self.rules)
        rules = (rule for each in bridged.values() for rule in each.rules)
        if all(rule in standing for rule in rules if rule.dst is not None):
            return bridged
        return self._all(before, bridge)

    def _all(self, policy: Policy, bridge: int | None = None) -> dict[int, Plan]:
        subnets = {index: i.facts.subnets for index, i in self.interfaces.items()}
        plans = {}
        for index, interface in self.interfaces.items():
            others = tuple(s for other, of in subnets.items() if other != index for s in of)
            neighbours = tuple(dict.fromkeys(others))
            elsewhere = frozenset(ip_network(item) for item in interface.facts.elsewhere)
            away = frozenset(self._away(interface, policy))
            try:
                its = self._one(interface, neighbours, policy, bridge)
            except Exception as error:  # noqa: BLE001 (an odd interface must not cost the others)
                self.errors[index] = error
                its = interface.plan
            plans[index] = replace(its, elsewhere=elsewhere, away=away)
        return plans

    def _one(
        self,
        interface: Interface,
        neighbours: tuple[IPNetwork, ...],
        policy: Policy,
        bridge: int | None,
    ) -> Plan:
        link, groups = interface.link, interface.groups
        match interface.treatment:
            case Released():
                return nothing_for(link, groups)
            case Primary():
                return Plan(link.index, group=group_for(link, policy.numbers.group, groups))
            case Managed() if interface.verdicts and self.knows_primary:
                return self._plan(self._subject(interface, neighbours, policy, bridge), policy)
            case Managed() | Unmanaged():
                return Plan(link.index)

    def _plan(self, subject: Subject, policy: Policy) -> Plan:
        index = subject.link.index
        before = self.made.get(index)
        if before is None or before[:2] != (subject, policy):
            before = self.made[index] = (subject, policy, plan(subject, policy))
        return before[2]

    @staticmethod
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
                f"{ip} lives elsewhere on this host, so nicwatchd keeps it off {name}: {sign};"
                f" what it sends leaves by {name}",
            )
            for ip, sign in facts.behind.items()
        }
        return dict(sorted({**left, **behind}.items(), key=lambda each: str(each[0])))

    def _subject(
        self,
        interface: Interface,
        neighbours: tuple[IPNetwork, ...],
        policy: Policy,
        bridge: int | None,
    ) -> Subject:
        """The input of an interface's plan."""
        facts = interface.facts
        udev_is_over = facts.udev_is_over(self.now)
        return Subject(
            link=facts.link,
            usable={family: verdict.usable for family, verdict in interface.verdicts.items()},
            addresses=facts.addresses,
            routes=facts.routes,
            neighbours=neighbours,
            first_due=facts.age(self.now) >= policy.address_wait,
            bring_up=facts.to_bring_up and udev_is_over,
            waits_for_udev=facts.to_bring_up and not udev_is_over,
            away=self._away(interface, policy),
            groups=interface.groups,
            bridge=bridge,
            enis=frozenset(
                i
                for i, each in self.interfaces.items()
                if isinstance(each.treatment, Managed | Primary)
            ),
        )


def _before(priority: int, rules: Iterable[Rule]) -> int:
    """A priority before this one: that of the bridge rules in the kernel, if there are any."""
    standing = (r.priority for r in rules if r.protocol == PROTOCOL and r.dst is not None)
    return max((p for p in standing if p < priority), default=priority - 1)
