"""Whose rule wins, and by which link packets leave: what to look up, and what the answers mean.

Reads: the interfaces and their plans, all rules, and the kernel's answers. Gives: a step of
look-ups, and each interface's shadows and reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from nicwatchd.core import reach, shadow
from nicwatchd.core.diagnosis import is_judged, on_link
from nicwatchd.core.host import Host
from nicwatchd.core.interface import Interface
from nicwatchd.core.kernel_proof import leased
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import Family, IPAddress, IPNetwork, Key, Reason, Rule
from nicwatchd.core.policy import PrimaryMode
from nicwatchd.core.reach import NOTHING_AMISS, Path, Reached, Sources, Ways
from nicwatchd.core.shadow import Probe
from nicwatchd.core.steps import LookedUp, LookUp
from nicwatchd.core.treatment import Primary

# However little we heard, look again now and then: a bound for what we have not thought of.
ANEW: Final = 60.0  # s


@dataclass(frozen=True, slots=True)
class _Place:
    """What one interface has on its link, in each family that is judged; and its VPC subnets."""

    addresses: Mapping[Family, tuple[IPAddress, ...]]
    subnets: tuple[IPNetwork, ...]


class Lookups:
    """The look-ups of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._planned: list[tuple[Rule, ...]] = []  # the rules that the last look-ups were for
        self._ways: tuple[Ways, ...] = ()  # ... and the addresses
        self._paths: tuple[tuple[Ways, tuple[Path, ...]], ...] = ()  # ... and what of each
        self._paths_of: object = None  # and from what these were found
        self._own: tuple[object, frozenset[IPAddress]] = ((), frozenset())  # and from what
        self._at = -inf  # when they were
        self.destinations: frozenset[IPAddress] = frozenset()  # what was looked up last leads there
        self._places: dict[Key, tuple[object, _Place]] = {}  # and from what
        self.reached: Mapping[tuple[int, Family], Reached] = {}  # by ifindex

    def wanted(self, now: float, *, changed: bool, held: bool) -> LookUp:
        """What to look up, where the answer may be another than before; else nothing.

        `changed`: something was written, or rules or routes came or went. `held`: nothing else can
        have changed, since the last decision still holds.
        """
        interfaces = self._host.interfaces.values()
        amiss = any(i.is_shadowed for i in interfaces) or self._is_amiss or now >= self._at + ANEW
        if held and not changed and not amiss:
            return LookUp(())
        planned = [i.plan.rules for i in interfaces]  # a restart may adopt them without a write
        ways = tuple(self._all_ways())
        changed |= planned != self._planned or ways != self._ways
        self._planned, self._ways = planned, ways
        if not (changed or amiss):
            return LookUp(())
        self._at = now
        step = LookUp(tuple(self._probes()))
        self.destinations = frozenset(probe.dst for probe in step.probes)
        if not step.probes:
            self.take(step, LookedUp(()))  # there is nothing left to win over
        return step

    def _probes(self) -> Iterator[Probe]:
        for interface in self._host.interfaces.values():
            yield from shadow.probes(interface.plan, interface.facts.addresses)
        self._find_paths()
        for ways, paths in self._paths:
            for path in paths:
                yield Probe(ways.index, None, path.group[0], path.to)

    def _find_paths(self) -> None:
        """What to look up: as last, if from the same."""
        rules, own = self._host.rules, self._addresses()
        if self._paths_of != (basis := (self._ways, rules, own)):
            self._paths_of, sources = basis, Sources.of(rules)
            self._paths = tuple(
                (ways, tuple(reach.paths(ways, sources, own))) for ways in self._ways
            )

    def take(self, step: LookUp, found: LookedUp) -> None:
        """Take the kernel's answers, in the order of the step."""
        shadows: dict[int, list[Reason]] = {index: [] for index in self._host.interfaces}
        answers = {}
        for probe, answer in zip(step.probes, found.answers, strict=True):
            if probe.rule is None:
                answers[(probe.src, probe.dst)] = answer
                continue
            reason = shadow.shadow(probe, answer, self._host.rules)
            if reason:
                shadows[probe.index].append(reason)
        for index, reasons in shadows.items():
            self._host.interfaces[index].shadow(tuple(dict.fromkeys(reasons)))
        rules, own, name_of = self._host.rules, self._addresses(), self._host.name_of
        reached = {
            (ways.index, ways.family): reach.conclude(ways, rules, paths, answers, own, name_of)
            for ways, paths in self._paths
        }
        if reached != self.reached:
            self.reached = reached

    @property
    def _is_amiss(self) -> bool:
        return any(each != NOTHING_AMISS for each in self.reached.values())

    # --- the addresses -----------------------------------------------------------------------

    def _all_ways(self) -> Iterator[Ways]:
        host = self._host
        keys = host.keys
        self._places = {key: its for key, its in self._places.items() if key in keys}
        known = {index: self._place_of(each) for index, each in host.interfaces.items()}
        # Hosts of one ENI's subnet call another ENI: the primary is called by all of them. That
        # secondaries call each other is not looked up: that would grow with their square.
        interfaces, drivers = host.interfaces, host.policy.drivers
        every = [i for i, each in interfaces.items() if each.link.driver in drivers]
        primary = [i for i in every if isinstance(interfaces[i].treatment, Primary)]
        for index, place in known.items():
            interface = interfaces[index]
            if not (place.addresses and interface.link.up and interface.link.running):
                continue
            is_primary = index in primary
            around = dict.fromkeys((index, *(every if is_primary else primary)))
            subnets = dict.fromkeys(subnet for i in around for subnet in known[i].subnets)
            table = interface.numbers.table_of(index)
            for family, its in place.addresses.items():
                led = any((r.table, r.family) == (table, family) for r in interface.plan.routes)
                yield Ways(
                    index,
                    family,
                    its,
                    links=self._links_of(index),
                    subnets=tuple(subnet for subnet in subnets if subnet.version == family),
                    table=table if led else None,
                    is_primary=is_primary,
                    is_left=is_primary and host.policy.primary is PrimaryMode.LEAVE,
                )

    def _place_of(self, interface: Interface) -> _Place:
        """What was concluded last, if from the same."""
        facts, plan = interface.facts, interface.plan
        basis = (
            *(interface.treatment, interface.lifecycle.state, interface.verdicts, facts.memory),
            *(facts.addresses, facts.routes, facts.elsewhere),
            *(plan.away, interface.leaves_addresses),
        )
        known = self._places.get(interface.key)
        if known is None or known[0] != basis:
            known = self._places[interface.key] = (basis, _place(interface))
        return known[1]

    def _addresses(self) -> frozenset[IPAddress]:
        """The addresses of the host that are known, on whatever link."""
        own = (interface.facts.addresses for interface in self._host.interfaces.values())
        every = (*own, *self._host.foreign_addresses.values())
        if every != self._own[0]:
            ips = frozenset(address.ip for addresses in every for address in addresses)
            self._own = (every, ips)
        return self._own[1]

    def _links_of(self, index: int) -> frozenset[int]:
        """The link of an ENI, and those that stand on it."""
        above = (i for i, enis in self._host.above.beneath.items() if index in enis)
        return frozenset({index, *above})


def _place(interface: Interface) -> _Place:
    facts, view = interface.facts, interface.view()
    found = {family: on_link(view, family) for family in Family if is_judged(view, family)}
    brought = leased(facts.addresses)
    told = (facts.memory.believed.of(family).cidrs for family in Family)
    known = {subnet for answer in told if isinstance(answer, Value) for subnet in answer.value}
    return _Place(
        {family: addresses for family, addresses in found.items() if addresses},
        # An operator's network on the link is no part of the VPC.
        tuple(n for n in facts.subnets if n in known or any(ip in n for ip in brought)),
    )
