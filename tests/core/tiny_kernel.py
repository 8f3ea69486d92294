"""A kernel of a hundred lines: it does what operations say, and refuses what no kernel would do.

Operations that are impossible, or that change nothing, fail the test: a plan that leads to one
is wrong, or was made from facts that are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    Link,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
    ours,
)
from nicwatchd.core.ownership import Snapshot


class TinyKernel:
    """Links, addresses, routes and rules of one host; foreign ones are put in by the test."""

    def __init__(self, *links: Link) -> None:
        self.links = {link.index: link for link in links}
        self.addresses: list[Address] = []
        self.routes: list[Route] = []  # of all tables and protocols
        self.rules: list[Rule] = []

    # --- what others do --------------------------------------------------------------------

    def set_link(self, link: Link) -> None:
        """Add a link, or change one; going down costs what it costs on Linux."""
        self.links[link.index] = link
        if not link.up:
            self.routes = [route for route in self.routes if route.oif != link.index]
            self.addresses = [
                address
                for address in self.addresses
                if address.index != link.index or address.family is Family.V4
            ]

    def unplug(self, index: int) -> None:
        """Remove a link with its addresses and routes. Rules stay."""
        del self.links[index]
        self.routes = [route for route in self.routes if route.oif != index]
        self.addresses = [address for address in self.addresses if address.index != index]

    # --- what nicwatchd does ---------------------------------------------------------------

    def run(self, operations: Iterable[Operation]) -> None:
        """Carry out, in order."""
        for operation in operations:
            self._run(operation)

    def _run(self, operation: Operation) -> None:
        match operation:
            case SetGroup(index, group):
                assert self.links[index].group != group
                self.links[index] = replace(self.links[index], group=group)
            case SetUp(index):
                assert not self.links[index].up
                self.links[index] = replace(self.links[index], up=True)
            case AddAddress() | RemoveAddress():
                self._run_address(operation)
            case AddRoute() | RemoveRoute():
                self._run_route(operation)
            case AddRule(rule):
                assert rule not in self.rules, f"EEXIST {rule}"
                self.rules.append(rule)
            case RemoveRule(rule):
                self.rules.remove(rule)

    def _run_address(self, operation: AddAddress | RemoveAddress) -> None:
        match operation:
            case AddAddress(index, ip):
                v6 = ip.version == 6
                address = Address(index, ip, ip.max_prefixlen, deprecated=v6, protocol=PROTOCOL)
                same = [a for a in self.addresses if (a.index, a.ip) == (index, ip)]
                assert not same, f"EEXIST {operation}"
                assert self.links[index].up or not v6, "EACCES: link down"
                self.addresses.append(address)
            case RemoveAddress(index, ip, length):
                key = (index, ip, length)
                (it,) = [a for a in self.addresses if (a.index, a.ip, a.prefixlen) == key]
                assert ours(it), f"not ours: {it}"
                self.addresses.remove(it)
                # IPv4 routes go with their preferred source.
                if ip not in {address.ip for address in self.addresses}:
                    self.routes = [route for route in self.routes if route.prefsrc != ip]

    def _run_route(self, operation: AddRoute | RemoveRoute) -> None:
        route = operation.route
        assert route.protocol == PROTOCOL
        same = [r for r in self.routes if r.key == route.key]
        if isinstance(operation, RemoveRoute):
            assert same == [route], f"ESRCH {route}"
            self.routes.remove(route)
            return
        assert bool(same) == operation.replace, f"EEXIST or ENOENT {operation}"
        assert all(r.protocol == PROTOCOL for r in same), f"replaces a foreign route: {operation}"
        assert route not in self.routes, f"changes nothing: {route}"
        assert self.links[route.oif].up, f"ENETDOWN {route}"
        present = {address.ip for address in self.addresses}
        assert route.prefsrc is None or route.prefsrc in present, f"EINVAL {route}"
        self.routes = [r for r in self.routes if r.key != route.key] + [route]

    # --- what there is ---------------------------------------------------------------------

    @property
    def own_routes(self) -> tuple[Route, ...]:
        return tuple(route for route in self.routes if route.protocol == PROTOCOL)

    @property
    def own_rules(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.protocol == PROTOCOL)

    @property
    def foreign(self) -> tuple[set[Rule], set[Route], set[Address]]:
        """All that is not nicwatchd's, and so must never change by its doing."""
        return (
            {rule for rule in self.rules if rule.protocol != PROTOCOL},
            {route for route in self.routes if route.protocol != PROTOCOL},
            {address for address in self.addresses if not ours(address)},
        )

    def addresses_of(self, index: int) -> tuple[Address, ...]:
        return tuple(address for address in self.addresses if address.index == index)

    def main_routes_of(self, index: int) -> tuple[Route, ...]:
        return tuple(r for r in self.routes if (r.table, r.oif) == (MAIN_TABLE, index))

    def table_routes(self, table: int) -> tuple[Route, ...]:
        return tuple(route for route in self.routes if route.table == table)

    def snapshot(self) -> Snapshot:
        """As the service reads it."""
        addresses = {index: self.addresses_of(index) for index in self.links}
        return Snapshot(dict(self.links), addresses, self.own_routes, tuple(self.rules))
