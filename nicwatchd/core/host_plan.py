"""The plans of all interfaces: each knows of the others' subnets, and all share a link group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network

from nicwatchd.core.eni_plan import group_for, groups_of, nothing_for, plan
from nicwatchd.core.interface import Interface
from nicwatchd.core.model import PROTOCOL, IPNetwork, Plan, Rule
from nicwatchd.core.ownership import Held, Owners, selector
from nicwatchd.core.policy import Policy
from nicwatchd.core.releases import Releases


@dataclass(frozen=True, slots=True)
class Planner:
    """What the plans are made from: all interfaces, concluded, and the rules that there are.

    Of what is `held` nothing may be removed.
    """

    interfaces: Mapping[int, Interface]
    releases: Releases
    rules: tuple[Rule, ...]
    owners: Owners
    held: Held
    knows_primary: bool
    now: float

    def plans(self, policy: Policy) -> dict[int, Plan]:
        """Plan every interface; another link group than before in steps, so that none is wrong.

        A packet that one guard suppresses may pass the next, so guards of two groups cannot stand
        side by side, nor can all links change at one moment. While they do, rules stand in for
        the guards that send what is for another ENI's subnet to the interface's own table.
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
        if any(selector(g) not in wanted and self.owners.hold(g, self.held) for g in guards):
            return self._all(before)  # what is still being judged needs the old group
        bridge = _before(min(numbers.priority, *(g.priority for g in guards)), self.rules)
        bridged = self._all(policy, bridge)
        rules = {rule for each in bridged.values() for rule in each.rules}
        if {rule for rule in rules if rule.dst is not None} <= set(self.rules):
            return bridged
        return self._all(before, bridge)

    def _all(self, policy: Policy, bridge: int | None = None) -> dict[int, Plan]:
        subnets = {index: i.subnets for index, i in self.interfaces.items()}
        plans = {}
        for index, interface in self.interfaces.items():
            others = tuple(s for other, of in subnets.items() if other != index for s in of)
            elsewhere = frozenset(ip_network(item) for item in interface.elsewhere)
            its = self._one(interface, tuple(dict.fromkeys(others)), policy, bridge)
            plans[index] = replace(its, elsewhere=elsewhere)
        return plans

    def _one(
        self,
        interface: Interface,
        neighbours: tuple[IPNetwork, ...],
        policy: Policy,
        bridge: int | None,
    ) -> Plan:
        link = interface.link
        if interface.key in self.releases:
            return nothing_for(link, interface.groups)
        if interface.is_primary:
            return Plan(link.index, group=group_for(link, policy.numbers.group, interface.groups))
        if not interface.verdicts or not self.knows_primary:
            return Plan(link.index)
        return plan(interface.subject(neighbours, self.now, policy, bridge), policy)


def _before(priority: int, rules: Iterable[Rule]) -> int:
    """A priority before this one: that of the rules which stand in already, if there are any."""
    standing = (r.priority for r in rules if r.protocol == PROTOCOL and r.dst is not None)
    return max((p for p in standing if p < priority), default=priority - 1)
