"""What the settings want for the primary and for the host's own traffic, on this host.

Reads: the host with its treatments and verdicts, and its settings. Gives: what of the primary to
protect, and the plans with our default routes of main.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from nicwatchd.core import eni_routes
from nicwatchd.core.egress import Egress, Leader, egress
from nicwatchd.core.eni_routes import Main
from nicwatchd.core.evidence import Usable
from nicwatchd.core.interface import Interface
from nicwatchd.core.lead import Lead, leads
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import (
    IPV6_DEFAULT_METRIC,
    MAIN_TABLE,
    Family,
    Plan,
    Reason,
    Route,
    Rule,
)
from nicwatchd.core.policy import LEAVE_EGRESS, PRIMARY_EGRESS, Policy, PrimaryMode
from nicwatchd.core.primary import NO_PROTECTION, Protection, Protector, families_of, usable
from nicwatchd.core.stack import Above
from nicwatchd.core.treatment import Primary


class HostFacts(Protocol):
    """What of a host matters here: see `Host`."""

    policy: Policy
    defaults: tuple[Route, ...]
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...]
    above: Above

    @property
    def interfaces(self) -> Mapping[int, Interface]:
        """By ifindex."""

    @property
    def enis(self) -> frozenset[int]:
        """The links that are ENIs of this host, by ifindex."""


def primary_leads(host: HostFacts) -> dict[Family, bool]:
    """By family, whether main's best default route is the primary's.

    Empty where the settings want another ENI's, or none in particular.
    """
    interfaces = host.interfaces.items()
    own = frozenset(index for index, i in interfaces if isinstance(i.treatment, Primary))
    if not own or host.policy.egress != PRIMARY_EGRESS:
        return {}
    return leads(host.defaults, own | host.above.on_top_of(own))


class Leadership:
    """Decides, once in each decision, what the primary needs, and who leads the host's traffic."""

    def __init__(self, host: HostFacts) -> None:
        self._host = host
        self._lead = Lead()
        self._protector = Protector()

    def protection(self, container_network: str | None) -> Protection:
        """What of the primary to protect; `container_network` owns the ENIs of the host."""
        host, primary = self._host, self._primary
        self._lead.look(host.defaults, self._links_of(primary), host.enis)
        wanted = host.policy.primary is PrimaryMode.PROTECT and self._has_secondaries
        for interface in host.interfaces.values():
            is_one = wanted and interface is primary
            interface.is_protected = is_one and not interface.link.master
        if primary is None or not wanted:
            self._protector.end()
            return NO_PROTECTION
        standing = families_of(host.rules, host.policy.numbers.table_of(primary.link.index))
        found = self._protector.decide(primary.link, self._lead, host.enis, standing)
        return replace(found, has_pods=container_network is not None)

    def with_egress(self, plans: Mapping[int, Plan]) -> dict[int, Plan]:
        """The plan of the ENI that leads the host's own traffic, with default routes of main."""
        leader = self._leader
        if leader is None or self._host.policy.every_link:
            return {}
        index = leader.link.index
        found = self._egress(leader)
        return {
            index: replace(
                plans[index],
                routes=(*plans[index].routes, *found.routes),
                notes=(*plans[index].notes, *found.notes, *self._absent),
            )
        }

    @property
    def _primary(self) -> Interface | None:
        interfaces = self._host.interfaces.values()
        return next((i for i in interfaces if isinstance(i.treatment, Primary)), None)

    def _links_of(self, interface: Interface | None) -> frozenset[int]:
        """The link of an ENI, and those that stand on it."""
        if interface is None:
            return frozenset()
        own = frozenset({interface.link.index})
        return own | self._host.above.on_top_of(own)

    @property
    def _has_secondaries(self) -> bool:
        """Whether there is an ENI beside the primary that we configure."""
        host = self._host
        return not host.policy.every_link and any(i.is_secondary for i in host.interfaces.values())

    @property
    def _named(self) -> Interface | None:
        """The ENI that the settings name, if it is there and has what it needs."""
        wanted = self._host.policy.egress.lower()
        for interface in self._host.interfaces.values():
            eni = interface.facts.memory.believed.interface_id
            names = {interface.link.name.lower(), interface.link.mac}
            if isinstance(eni, Value):
                names.add(eni.value.lower())
            if wanted in names:
                return interface
        return None

    @property
    def _leader(self) -> Interface | None:
        """The ENI that is to lead: while a named one is not there, main decides."""
        match self._host.policy.egress:
            case "primary":
                return self._primary
            case "leave":
                return None
        named = self._named
        fit = named and (named.is_secondary or named is self._primary)
        return named if fit else self._primary

    @property
    def _absent(self) -> tuple[Reason, ...]:
        wanted = self._host.policy.egress
        if wanted in (PRIMARY_EGRESS, LEAVE_EGRESS) or self._leader is self._named:
            return ()
        text = f"the settings name {wanted!r} for the host's own traffic, and there is no such ENI"
        return (Reason("egress-absent", f"{text}: main decides"),)

    def _egress(self, leader: Interface) -> Egress:
        host = self._host
        if self._absent:
            return Egress()
        links = self._links_of(leader)
        in_main = (route for route in host.routes if route.table == MAIN_TABLE)
        standing = {route.family: route for route in in_main if route.oif in links}
        named = host.policy.egress != PRIMARY_EGRESS
        # Seldom does another ENI's default route lead, and only then is a router needed.
        beaten = [f for f in Family if self._lead.defaults(f).elsewhere(links)]
        routers = {f: r for f in beaten if (r := self._router(leader, f))}
        alone = not self._has_secondaries
        its = Leader(leader.link, links, named, routers, host.enis, alone)
        return egress(its, self._lead, standing)

    def _router(self, leader: Interface, family: Family) -> Route | None:
        """A default route by the VPC's router, if the ENI's own link has the family's routes."""
        facts, policy = leader.facts, self._host.policy
        only = Protection(frozenset({family}))
        certain = usable(leader.verdicts, facts.addresses, facts.routes, only)
        its = certain.get(family, Usable())
        if not its or leader.link.master:
            return None
        metric = 0 if family is Family.V4 else IPV6_DEFAULT_METRIC
        base = Route(eni_routes.ANY[family], MAIN_TABLE, leader.link.index, metric=metric)
        main = Main(leader.link.index, facts.routes)
        return eni_routes.default(family, its, base, main, policy.ipv6_router)
