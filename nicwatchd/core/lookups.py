"""Whose rule wins, and by which link packets leave: what to look up, and what the answers mean.

Reads: the interfaces and their plans, all rules, and the kernel's answers. Gives: a step of
look-ups, and each interface's shadows and reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nicwatchd.core import reach, shadow
from nicwatchd.core.diagnosis import is_judged, on_link
from nicwatchd.core.host import Host
from nicwatchd.core.model import Family, Reason, Rule
from nicwatchd.core.reach import NOTHING_AMISS, Reached, Ways
from nicwatchd.core.shadow import Probe
from nicwatchd.core.steps import LookedUp, LookUp
from nicwatchd.core.treatment import Primary


class Lookups:
    """The look-ups of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._planned: list[tuple[Rule, ...]] = []  # the rules that the last look-ups were for
        self._ways: tuple[Ways, ...] = ()  # ... and the addresses
        self.reached: Mapping[tuple[int, Family], Reached] = {}  # by ifindex

    def wanted(self, *, changed: bool, held: bool = False) -> LookUp:
        """What to look up, where the answer may be another than before; else nothing.

        `changed`: something was written, or rules or routes came or went. `held`: nothing else can
        have changed, since the last decision still holds.
        """
        interfaces = self._host.interfaces.values()
        amiss = any(i.is_shadowed for i in interfaces) or self._is_amiss
        if held and not changed and not amiss:
            return LookUp(())
        planned = [i.plan.rules for i in interfaces]  # a restart may adopt them without a write
        ways = tuple(self._all_ways())
        changed |= planned != self._planned or ways != self._ways
        self._planned, self._ways = planned, ways
        if not (changed or amiss):
            return LookUp(())
        step = LookUp(tuple(self._probes()))
        if not step.probes:
            self.take(step, LookedUp(()))  # there is nothing left to win over
        return step

    def _probes(self) -> Iterator[Probe]:
        host = self._host
        for interface in host.interfaces.values():
            yield from shadow.probes(interface.plan, interface.facts.addresses)
        own = host.all_addresses
        for ways in self._ways:
            yield from reach.probes(ways, host.rules, own)

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
        host = self._host
        own = host.all_addresses
        self.reached = {
            (ways.index, ways.family): reach.conclude(ways, host.rules, answers, own, host.name_of)
            for ways in self._ways
        }

    @property
    def _is_amiss(self) -> bool:
        return any(each != NOTHING_AMISS for each in self.reached.values())

    # --- the addresses -----------------------------------------------------------------------

    def _all_ways(self) -> Iterator[Ways]:
        host = self._host
        enis = {i: each for i, each in host.interfaces.items() if i in host.enis}
        primary = {i for i, each in enis.items() if isinstance(each.treatment, Primary)}
        for index, interface in enis.items():
            if not any(is_judged(view := interface.view(), family) for family in Family):
                continue
            # Hosts of one ENI's subnet call another ENI: the primary is called by all of them. That
            # secondaries call each other is not looked up: that would grow with their square.
            others = enis.keys() - {index} if index in primary else primary - {index}
            places = [interface, *(enis[i] for i in sorted(others))]
            subnets = tuple(dict.fromkeys(n for place in places for n in place.facts.subnets))
            for family in Family:
                addresses = on_link(view, family)
                if addresses and interface.link.up:
                    its = tuple(subnet for subnet in subnets if subnet.version == family)
                    yield Ways(index, family, addresses, self._links_of(index), its)

    def _links_of(self, index: int) -> frozenset[int]:
        """The link of an ENI, and those that stand on it."""
        above = (i for i, enis in self._host.above.beneath.items() if index in enis)
        return frozenset({index, *above})
