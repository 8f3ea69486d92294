"""The sim's kernel, strict: what it refuses, and what changes nothing, fails the test.

A plan that leads to such an operation is wrong, or was made from facts that are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from errno import EINVAL, errorcode
from types import MappingProxyType

from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_KERNEL,
    UNICAST,
    Address,
    AddRoute,
    Family,
    IPAddress,
    Link,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetUp,
    ours,
)
from nicwatchd.core.ownership import Snapshot
from nicwatchd.core.port import RouteAnswer
from nicwatchd.core.shadow import Probe
from nicwatchd.sim.kernel_lookup import lookup
from nicwatchd.sim.kernel_state import KernelState
from nicwatchd.sim.memory_kernel import PORT_ID

OTHERS_PORT_ID = 77
Foreign = tuple[set[Rule], set[Route], set[Address]]


class StrictKernel:
    """One host's kernel. Whatever is in it came by a verb, so the kernel's own rules apply."""

    def __init__(self, *links: Link) -> None:
        self.state = KernelState(lambda _event: None)
        for link in links:
            self.state.set_link(link)

    # --- what others do --------------------------------------------------------------------

    def set_link(self, link: Link) -> None:
        """Add a link, or put it in the place of the one with its index."""
        self.state.set_link(link)

    def unplug(self, index: int) -> None:
        """Remove a link with its addresses and routes. Rules stay."""
        self.state.remove_link(index)

    def put(self, *things: Address | Route | Rule) -> None:
        """Add things of others; an address that is there already is changed."""
        for thing in things:
            _accepted(self.state.put(thing, OTHERS_PORT_ID), thing)

    def drop(self, *things: Address | Route | Rule) -> None:
        """Others remove things, whosever they are."""
        for thing in things:
            _accepted(self.state.drop(thing, OTHERS_PORT_ID), thing)

    def flush_rules(self) -> None:
        """As `ip rule flush` does: all rules but those of priority 0."""
        self.drop(*(rule for rule in self.rules if rule.priority))

    # --- what nicwatchd does ---------------------------------------------------------------

    def run(self, operations: Iterable[Operation]) -> None:
        """Carry out, in order."""
        for operation in operations:
            self._run(operation)

    def _run(self, operation: Operation) -> None:
        before, foreign = self._holds(), self._foreign(operation)
        routes, rules = {*self.routes}, [*self.rules]
        _accepted(self.state.run(operation, PORT_ID), operation)
        assert self._holds() != before, f"changes nothing: {operation}"
        assert self._foreign(operation) == foreign, f"touches what is others': {operation}"
        match operation:
            case AddRoute(route, replace=True):
                assert route.key in {known.key for known in routes}, (
                    f"replaces nothing: {operation}"
                )
            case RemoveRoute(route):
                assert route in routes - {*self.routes}, f"removes another: {operation}"
            case RemoveRule(rule):
                first = rules.index(rule) if rule in rules else len(rules)
                assert [*self.rules] == rules[:first] + rules[first + 1 :], (
                    f"removes another: {operation}"
                )

    def _holds(self) -> tuple[object, ...]:
        return dict(self.links), self.addresses, self.routes, self.rules, self.state.ruleset

    # --- what there is ---------------------------------------------------------------------

    @property
    def links(self) -> Mapping[int, Link]:
        return MappingProxyType(self.state.links)

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(self.state.addresses)

    @property
    def routes(self) -> tuple[Route, ...]:
        """Those of all tables and protocols."""
        return tuple(self.state.routes)

    @property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(self.state.rules)

    @property
    def own_routes(self) -> tuple[Route, ...]:
        return tuple(route for route in self.state.routes if route.protocol == PROTOCOL)

    @property
    def own_rules(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.state.rules if rule.protocol == PROTOCOL)

    @property
    def foreign(self) -> Foreign:
        """All that is not nicwatchd's, and so must never change by its doing.

        But for routes that the kernel brings and takes: its own, which come as a link goes up, and
        IPv4 ones where nobody but nicwatchd has an IPv4 address, which go with the last address.
        """
        rules, routes, addresses = self._all_foreign()
        theirs = {address.index for address in addresses if address.family is Family.V4}
        lasting = {route for route in routes if route.family is Family.V6 or route.oif in theirs}
        return rules, {route for route in lasting if route.protocol != RTPROT_KERNEL}, addresses

    def _foreign(self, operation: Operation) -> Foreign:
        """What an operation must not change."""
        moves_routes = isinstance(operation, SetUp | RemoveAddress)
        return self.foreign if moves_routes else self._all_foreign()

    def _all_foreign(self) -> Foreign:
        return (
            {rule for rule in self.state.rules if rule.protocol != PROTOCOL},
            {route for route in self.state.routes if route.protocol != PROTOCOL},
            {address for address in self.state.addresses if not ours(address)},
        )

    def addresses_of(self, index: int) -> tuple[Address, ...]:
        return tuple(address for address in self.state.addresses if address.index == index)

    def all_addresses(self) -> dict[int, tuple[Address, ...]]:
        return {
            index: tuple(a for a in self.addresses_of(index) if not a.ip.is_link_local)
            for index in self.links
        }

    def main_routes_of(self, index: int) -> tuple[Route, ...]:
        main = (r for r in self.state.routes if r.table == MAIN_TABLE and r.kind == UNICAST)
        return tuple(route for route in main if index in route.links)

    def table_routes(self, table: int) -> tuple[Route, ...]:
        return tuple(route for route in self.state.routes if route.table == table)

    def defaults(self) -> tuple[Route, ...]:
        """Main's default routes."""
        return self.state.defaults()

    def closed_main(self, but: AbstractSet[int]) -> dict[Family, tuple[Route, ...]]:
        return self.state.closed_main(but)

    def host_routes(self, addresses: AbstractSet[IPAddress]) -> dict[IPAddress, frozenset[int]]:
        return self.state.host_routes(addresses)

    def route_get(self, probe: Probe) -> RouteAnswer | int:
        """As the kernel of the sim answers."""
        local = {address.ip for address in self.state.addresses}
        return lookup(self.state, probe.src, probe.dst, probe.oif) if probe.src in local else EINVAL

    def snapshot(self) -> Snapshot:
        """As the service reads it."""
        addresses = {index: self.addresses_of(index) for index in self.links}
        return Snapshot(dict(self.links), addresses, self.own_routes, self.rules)

    def without_ours(self) -> StrictKernel:
        """The same host, had nicwatchd never run on it; links keep their group."""
        other = StrictKernel(*self.links.values())
        other.state.rules = [rule for rule in self.rules if rule.protocol != PROTOCOL]
        other.state.routes = [route for route in self.routes if route.protocol != PROTOCOL]
        other.state.addresses = [address for address in self.addresses if not ours(address)]
        return other


def _accepted(errno: int, thing: object) -> None:
    assert not errno, f"{errorcode[errno]}: {thing}"
