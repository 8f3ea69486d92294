"""Whose rule wins, and by which link packets leave: what to look up, and what the answers mean.

Reads: the interfaces and their plans, all rules, and the kernel's answers. Gives: a step of
look-ups, and each interface's shadows and reach.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import inf
from typing import Final

from nicwatchd.core import reach, shadow
from nicwatchd.core.diagnosis import in_use, is_judged
from nicwatchd.core.host import Host
from nicwatchd.core.interface import Interface
from nicwatchd.core.kept import WHOLE, Kept, KeptOf
from nicwatchd.core.kernel_proof import leased
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    IPAddress,
    IPNetwork,
    Item,
    Key,
    Operation,
    Reason,
    RemoveAddress,
    RemoveRule,
    Route,
    Rule,
)
from nicwatchd.core.policy import PrimaryMode
from nicwatchd.core.reach import NOTHING_AMISS, Path, Reached, Sources, Ways
from nicwatchd.core.several import Several
from nicwatchd.core.shadow import Probe
from nicwatchd.core.steps import LookedUp, LookUp
from nicwatchd.core.treatment import Primary

# Of more changes than that, it is not asked whom each concerns: that would cost more than to look.
MANY: Final = 64


@dataclass(frozen=True, slots=True)
class _Place:
    """What one interface has in use, in each family that is judged; and its VPC subnets."""

    addresses: Mapping[Family, tuple[IPAddress, ...]]
    subnets: tuple[IPNetwork, ...]


class Lookups:
    """The look-ups of one host.

    What was looked up for an interface is looked up again when something may lead its packets
    otherwise. What is changed for one interface does not concern the others.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._last: Mapping[int, tuple[object, ...]] = {}  # what each was looked up for, by ifindex
        self._rules: tuple[Rule, ...] = ()  # all, at that time
        self._written: set[int] = set()  # the interfaces for which something was written since
        self._all_written = False  # or perhaps for any
        self._at = -inf  # when everything was looked up last
        self._ways: dict[int, tuple[Ways, ...]] = {}  # by ifindex
        self._paths: dict[int, tuple[tuple[Ways, tuple[Path, ...]], ...]] = {}
        self._found: KeptOf[Key, tuple[Ways, ...]] = KeptOf()
        self._numbers: KeptOf[int, Mapping[int, list[int]]] = KeptOf()  # by ifindex
        self._sources: Kept[Sources] = Kept()
        self._own = Several()
        self._ips: KeptOf[int, frozenset[IPAddress]] = KeptOf()  # by ifindex
        self._places: KeptOf[Key, _Place] = KeptOf()
        self._asked: frozenset[int] = frozenset()  # the interfaces that the last step is about
        self.destinations: frozenset[IPAddress] = frozenset()  # what is looked up leads there
        self.reached: Mapping[tuple[int, Family], Reached] = {}  # by ifindex

    @property
    def is_asking(self) -> bool:
        """Whether the last step was about any interface."""
        return bool(self._asked)

    def wrote(self, operations: Iterable[Operation]) -> None:
        """Operations of ours were carried out."""
        operations = tuple(operations)
        if len(operations) > MANY:
            self._all_written = True
            return
        for operation in operations:
            match operation:
                case AddAddress(index=index) | RemoveAddress(index=index):
                    self._written.add(index)
                case AddRoute(route=Route(table=table, oif=index)) if table != MAIN_TABLE:
                    self._written.add(index)
                case AddRule(rule=rule) | RemoveRule(rule=rule) if rule.fwmark is None:
                    self._written |= self._concerned(rule)
                case _:
                    self._all_written = True

    def wanted(self, now: float, *, changed: bool, held: bool) -> LookUp:
        """What to look up, where the answer may be another than before; else nothing.

        `changed`: routes of others came or went, or more than that. `held`: nothing else can have
        changed but what was written, since the last decision still holds.
        """
        interfaces = self._host.interfaces
        anew = changed or self._all_written or now >= self._at + WHOLE
        amiss = {i for i, each in interfaces.items() if each.shadows}
        amiss |= {i for (i, _), reached in self.reached.items() if reached != NOTHING_AMISS}
        if held and not (anew or amiss or self._written):
            self._asked = frozenset()
            return LookUp(())
        self._ways = self._all_ways()
        present = {
            index: (each.plan.rules, bool(each.plan.routes), self._ways.get(index, ()))
            for index, each in interfaces.items()
        }
        by_rules = self._concerned_by_rules()
        if anew or by_rules is None:
            asked, self._at = set(interfaces), now
        else:
            differ = {i for i, its in present.items() if its != self._last.get(i)}
            asked = (amiss | differ | by_rules | self._written) & interfaces.keys()
        gone = self._last.keys() - interfaces.keys()
        self._numbers.keep_only(interfaces)
        self._last, self._rules = present, self._host.rules
        self._written, self._all_written = set(), False
        self._asked = frozenset(asked)
        step = LookUp(tuple(self._probes()))
        if not step.probes and (asked or gone):
            self.take(step, LookedUp(()))  # there is nothing left to win over
        return step

    def _concerned_by_rules(self) -> set[int] | None:
        """The interfaces that rules of ours are about that came or went; None: others' did.

        The same rules are the same objects in each dump: a cheap way to see which ones differ.
        """
        last, rules = self._rules, self._host.rules
        if last is rules:
            return set()
        others = [rule for rule in rules if rule.protocol != PROTOCOL]
        if others != [rule for rule in last if rule.protocol != PROTOCOL]:
            return None
        known, there = {id(rule): rule for rule in last}, {id(rule): rule for rule in rules}
        differ = [
            *(known[i] for i in known.keys() - there),
            *(there[i] for i in there.keys() - known),
        ]
        if len(differ) > MANY:
            return None
        priorities = {rule.priority for rule in others}
        if any(rule.fwmark is not None or rule.priority in priorities for rule in differ):
            return None
        return {i for rule in differ for i in self._concerned(rule)}

    def _concerned(self, rule: Rule) -> set[int]:
        """The interfaces whose packets a rule of ours may take."""
        interfaces, src = self._host.interfaces, rule.src
        if rule.oif is not None:
            return {i for i, each in interfaces.items() if each.link.name == rule.oif}
        if src is None:
            return set(interfaces)
        first = int(src.network_address)
        last = first + src.num_addresses - 1
        found: set[int] = set()
        for index, interface in interfaces.items():
            numbers = self._numbers_of(interface).get(src.version, [])
            place = bisect_left(numbers, first)
            if place < len(numbers) and numbers[place] <= last:
                found.add(index)
        return found

    def _numbers_of(self, interface: Interface) -> Mapping[int, list[int]]:
        """The addresses of an ENI as numbers, in order, by version: there may be thousands."""
        addresses, housed = interface.facts.addresses, interface.plan.housed

        def anew() -> dict[int, list[int]]:
            ips = {*(address.ip for address in addresses), *housed}
            return {v: sorted(int(ip) for ip in ips if ip.version == v) for v in (4, 6)}

        return self._numbers.get(interface.link.index, (addresses, housed), anew)

    def _probes(self) -> Iterator[Probe]:
        host, own = self._host, self._addresses()
        interfaces = [(i, each) for i, each in host.interfaces.items() if i in self._asked]
        for _, interface in interfaces:
            yield from shadow.probes(interface.plan, interface.facts.addresses)
        sources = self._sources.get((host.rules,), lambda: Sources.of(host.rules))
        self._paths = {i: paths for i, paths in self._paths.items() if i in self._ways}
        for index, _ in interfaces:
            found = (
                (ways, tuple(reach.paths(ways, sources, own))) for ways in self._ways.get(index, ())
            )
            self._paths[index] = tuple(found)
            for _, paths in self._paths[index]:
                for path in paths:
                    yield Probe(index, None, path.group[0], path.to)
        every = (path for of in self._paths.values() for _, paths in of for path in paths)
        self.destinations = frozenset(path.to for path in every)

    def take(self, step: LookUp, found: LookedUp) -> None:
        """Take the kernel's answers, in the order of the step."""
        host, own = self._host, self._addresses()
        shadows: dict[int, list[Reason]] = {index: [] for index in self._asked}
        answers = {}
        for probe, answer in zip(step.probes, found.answers, strict=True):
            if probe.rule is None:
                answers[(probe.src, probe.dst)] = answer
                continue
            reason = shadow.shadow(probe, answer, host.rules)
            if reason:
                shadows[probe.index].append(reason)
        for index, reasons in shadows.items():
            host.interfaces[index].shadow(tuple(dict.fromkeys(reasons)))
        reached = {
            (ways.index, ways.family): reach.conclude(
                ways, host.rules, paths, answers, own, host.name_of
            )
            for index in self._asked
            for ways, paths in self._paths.get(index, ())
        }
        left = host.interfaces.keys() - self._asked
        reached |= {key: before for key, before in self.reached.items() if key[0] in left}
        if reached != self.reached:
            self.reached = reached

    # --- the addresses -----------------------------------------------------------------------

    def _all_ways(self) -> dict[int, tuple[Ways, ...]]:
        host, keys = self._host, self._host.keys
        self._places.keep_only(keys)
        self._found.keep_only(keys)
        known = {index: self._place_of(each) for index, each in host.interfaces.items()}
        # Hosts of one ENI's subnet call another ENI: the primary is called by all of them. That
        # secondaries call each other is not looked up: that would grow with their square.
        interfaces, drivers = host.interfaces, host.policy.drivers
        every = [i for i, each in interfaces.items() if each.link.driver in drivers]
        primary = [i for i in every if isinstance(interfaces[i].treatment, Primary)]
        found: dict[int, tuple[Ways, ...]] = {}
        for index, place in known.items():
            interface = interfaces[index]
            if place.addresses and interface.link.up and interface.link.running:
                around = dict.fromkeys((index, *(every if index in primary else primary)))
                places = tuple(known[i] for i in around)
                found[index] = self._ways_of(interface, places, is_primary=index in primary)
        return found

    def _ways_of(
        self, interface: Interface, places: tuple[_Place, ...], *, is_primary: bool
    ) -> tuple[Ways, ...]:
        """What was concluded last, if from the same. Of the `places` the first is its own."""
        index, routes = interface.link.index, interface.plan.routes
        table, links = interface.numbers.table_of(index), self._links_of(index)
        is_left = is_primary and self._host.policy.primary is PrimaryMode.LEAVE

        def anew() -> tuple[Ways, ...]:
            subnets = dict.fromkeys(subnet for place in places for subnet in place.subnets)
            led = {route.family for route in routes if route.table == table}
            return tuple(
                Ways(
                    index,
                    family,
                    addresses,
                    links,
                    subnets=tuple(subnet for subnet in subnets if subnet.version == family),
                    table=table if family in led else None,
                    is_primary=is_primary,
                    is_left=is_left,
                )
                for family, addresses in places[0].addresses.items()
            )

        basis = (places, routes, table, links, is_primary, is_left)
        return self._found.get(interface.key, basis, anew)

    def _place_of(self, interface: Interface) -> _Place:
        """What was concluded last, if from the same."""
        facts, plan = interface.facts, interface.plan
        basis = (
            *(interface.treatment, interface.lifecycle.state, interface.verdicts, facts.memory),
            *(facts.addresses, facts.routes, facts.elsewhere),
            *(plan.away, plan.housed, interface.leaves_addresses),
        )
        return self._places.get(interface.key, basis, lambda: _place(interface))

    def _addresses(self) -> AbstractSet[Item]:
        """The addresses of the host that are known, on whatever link."""
        own = {index: each.facts.addresses for index, each in self._host.interfaces.items()}
        every = {**self._host.foreign_addresses, **own}
        self._ips.keep_only(every)
        self._own.follow({index: self._ips_of(index, on) for index, on in every.items()})
        return self._own.every

    def _ips_of(self, index: int, addresses: tuple[Address, ...]) -> frozenset[IPAddress]:
        return self._ips.get(index, (addresses,), lambda: frozenset(a.ip for a in addresses))

    def _links_of(self, index: int) -> frozenset[int]:
        """The link of an ENI, and those that stand on it."""
        above = (i for i, enis in self._host.above.beneath.items() if index in enis)
        return frozenset({index, *above})


def _place(interface: Interface) -> _Place:
    facts, view = interface.facts, interface.view()
    found = {family: in_use(view, family) for family in Family if is_judged(view, family)}
    brought = leased(facts.addresses)
    told = (facts.memory.believed.of(family).cidrs for family in Family)
    known = {subnet for answer in told if isinstance(answer, Value) for subnet in answer.value}
    return _Place(
        {family: addresses for family, addresses in found.items() if addresses},
        # An operator's network on the link is no part of the VPC.
        tuple(n for n in facts.subnets if n in known or any(ip in n for ip in brought)),
    )
