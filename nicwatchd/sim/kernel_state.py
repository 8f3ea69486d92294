"""The state of the in-memory kernel, and how it answers each change: errno and side effects.

Each method returns the kernel's errno (0: success) and reports events to `emit`. The contract tests
compare it with a real network namespace.
"""

from __future__ import annotations

from dataclasses import replace
from errno import (
    EACCES,
    EADDRNOTAVAIL,
    EEXIST,
    ENODEV,
)
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

from nicwatchd.core.model import (
    ERRORS,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_KERNEL,
    SCOPE_LINK,
    UNICAST,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    Link,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    RemoveRuleset,
    Route,
    Rule,
    SetGroup,
    SetRuleset,
    SetUp,
)
from nicwatchd.core.port import AddressEvent, Ipv6Event, LinkEvent
from nicwatchd.sim.kernel_routing import V6_CONNECTED_METRIC, Routing, lacks_ipv6

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from nicwatchd.core.model import IPAddress, IPNetwork, Operation


class KernelState(Routing):
    """The links, addresses, routes and rules of one network namespace, and our nftables table."""

    ruleset: str | None = None  # its text, which stands for the kernel's seal on it

    def run(self, operation: Operation, pid: int) -> int:
        """Carry out an operation of nicwatchd, which has this port id."""
        match operation:
            case SetGroup(index, group):
                return self._change_link(index, group=group)
            case SetUp(index, mtu):
                changes = {} if mtu is None else {"mtu": mtu}
                return self._change_link(index, up=True, running=True, **changes)
            case AddAddress():
                return self._add_address(operation, pid)
            case RemoveAddress(index, ip, prefixlen):
                return self.remove_address(index, ip, prefixlen, pid)
            case AddRoute(route, replacing):
                return self.add_route(route, pid, replacing=replacing)
            case RemoveRoute(route):
                return self.remove_route(route, pid)
            case AddRule(rule):
                return self.add_rule(rule, pid, exclusive=False)
            case RemoveRule(rule):
                return self.remove_rule(rule, pid)
            case SetRuleset() | RemoveRuleset():
                self.ruleset = operation.text if isinstance(operation, SetRuleset) else None
                return 0

    def put(
        self,
        thing: Address | Route | Rule,
        pid: int,
        *,
        replacing: bool = False,
        beside: bool = False,
    ) -> int:
        """Add an object of another program, or change an address; the rest as in `add_route`."""
        match thing:
            case Address():
                return self.put_address(thing, pid)
            case Route():
                return self.add_route(thing, pid, replacing=replacing, beside=beside)
            case Rule():
                return self.add_rule(thing, pid, exclusive=True)

    def drop(self, thing: Address | Route | Rule, pid: int) -> int:
        """Remove an object, of another program or ours."""
        match thing:
            case Address(index, ip, prefixlen):
                return self.remove_address(index, ip, prefixlen, pid)
            case Route():
                return self.remove_route(thing, pid)
            case Rule():
                return self.remove_rule(thing, pid)

    # --- links ---------------------------------------------------------------------------------

    def set_link(self, link: Link) -> None:
        """Add a link, or replace the one with the same index."""
        before = self.links.get(link.index)
        self.links[link.index] = link
        self._emit(LinkEvent(link.index, link.name, link.kind, down=not link.up))
        if before and before.up and not link.up:
            self._lose(before)
        elif lacks_ipv6(link):
            self._lose_ipv6(before or link)
        if before and link.up and not before.up:
            for address in self.addresses:
                if address.index == link.index:
                    self._connect(address)

    def _change_link(self, index: int, **changes: Any) -> int:
        if index not in self.links:
            return ENODEV
        self.set_link(replace(self.links[index], **changes))
        return 0

    def remove_link(self, index: int) -> None:
        """Remove a link, with its addresses and routes. Rules that name it stay."""
        self._lose(self.links[index])
        self.addresses = [address for address in self.addresses if address.index != index]
        del self.links[index]
        self._emit(LinkEvent(index, gone=True))

    def _lose(self, before: Link) -> None:
        """A link goes down: it loses all its routes, and its IPv6 addresses.

        The kernel reports the loss of IPv6 addresses and routes, but not of IPv4 routes.
        """
        self._lose_ipv6(before)
        for route in self._only_through(before.index):
            self.routes.remove(route)

    def _only_through(self, index: int) -> list[Route]:
        """The routes that go with a link. With a next hop on another link that is up, one stays."""
        up = {link.index for link in self.links.values() if link.up} - {index}
        return [route for route in self.routes if index in route.links and not route.links & up]

    def _lose_ipv6(self, before: Link) -> None:
        """A link loses IPv6, which was on it if it was up. Its routes go before its addresses."""
        index = before.index
        if before.up and not lacks_ipv6(before):
            self._emit(Ipv6Event(index))
        for route in self._only_through(index):
            if route.family is Family.V6:
                self.routes.remove(route)
                self._report(route, deleted=True, pid=0)
        for address in [a for a in self.addresses if a.index == index]:
            if address.family is Family.V6:
                self.addresses.remove(address)
                self._emit(AddressEvent(index, deleted=True, ip=address.ip))

    def disable_ipv6(self, index: int, *, disabled: bool) -> None:
        """Set the sysctl of this name. The kernel reports only what goes with it."""
        before = self.links[index]
        self.links[index] = replace(before, disable_ipv6=disabled)
        if disabled:
            self._lose_ipv6(before)
        else:
            self._emit(LinkEvent(index))

    # --- addresses -----------------------------------------------------------------------------

    def put_address(self, address: Address, pid: int) -> int:
        """Add an address, or change its flags and lifetimes."""
        if address.index not in self.links:
            return ENODEV
        if address.family is Family.V6 and lacks_ipv6(self.links[address.index]):
            return EACCES
        known = self.same_address(address.index, address.ip, address.prefixlen)
        if known:
            self.addresses[self.addresses.index(known)] = address
        else:
            self.addresses.append(address)
        self._emit(AddressEvent(address.index, pid, link_local=address.ip.is_link_local))
        self._connect(address)
        return 0

    def _add_address(self, add: AddAddress, pid: int) -> int:
        ip = add.ip
        if self.same_address(add.index, ip, ip.max_prefixlen) and not add.replace:
            return EEXIST
        late = Family(ip.version) is Family.V6 and not add.preferred
        added = Address(add.index, ip, ip.max_prefixlen, deprecated=late, protocol=PROTOCOL)
        return self.put_address(added, pid)

    def host_routes(self, addresses: AbstractSet[IPAddress]) -> dict[IPAddress, frozenset[int]]:
        """The main table's host routes to these: the links that they lead through."""
        found: dict[IPAddress, frozenset[int]] = {}
        for route in self.routes:
            ip = route.dst.network_address
            alone = route.dst.prefixlen == route.dst.max_prefixlen
            if route.table == MAIN_TABLE and route.kind == UNICAST and alone and ip in addresses:
                found[ip] = found.get(ip, frozenset()) | route.links
        return found

    def closed_main(self, but: AbstractSet[int]) -> dict[Family, tuple[Route, ...]]:
        """The main table where a wide error route is in it, but narrow routes by these links."""
        main = [route for route in self.routes if route.table == MAIN_TABLE]
        closed = {route.family for route in main if route.kind in ERRORS and route.is_wide}
        of_interest = [r for r in main if r.is_wide or r.kind != UNICAST or not r.links <= but]
        return {f: tuple(r for r in of_interest if r.family is f) for f in closed}

    def defaults(self) -> tuple[Route, ...]:
        """The main table's default routes."""
        main = (route for route in self.routes if route.table == MAIN_TABLE)
        return tuple(r for r in main if r.kind == UNICAST and not r.dst.prefixlen)

    def remove_address(self, index: int, ip: IPAddress, prefixlen: int, pid: int) -> int:
        """Remove an address. Routes with this source lose it (IPv6) or go (IPv4, only in main)."""
        if index not in self.links:
            return ENODEV
        address = self.same_address(index, ip, prefixlen)
        if address is None or address.prefixlen != prefixlen:
            return EADDRNOTAVAIL
        self.addresses.remove(address)
        culprit = f"port id {pid}" if address.protocol == PROTOCOL and pid else ""
        event = AddressEvent(index, pid, True, culprit, ip.is_link_local, ip)  # noqa: FBT003
        self._emit(event)
        connected = self._connected(address)
        if connected in self.routes:
            self.remove_route(connected, 0)
            # Another address of the subnet takes its place (IPv4: promote_secondaries, which
            # systemd sets; without it, the kernel removes that address too).
            for heir in [a for a in self.addresses if a.index == index]:
                if self._connected(heir).dst == connected.dst:
                    self._connect(heir)
        if all(other.ip != ip for other in self.addresses):
            self._forget_source(ip)
        left = [a for a in self.addresses if a.index == index and a.family is Family.V4]
        if address.family is Family.V4 and not left:  # the link no longer has IPv4 at all
            self.routes = [r for r in self.routes if r.links != {index} or r.family is Family.V6]
        return 0

    def same_address(self, index: int, ip: IPAddress, prefixlen: int) -> Address | None:
        """The existing address. IPv4 only: 10.0.0.5/24 and 10.0.0.5/32 are two addresses."""
        for address in self.addresses:
            if (address.index, address.ip) == (index, ip) and (
                address.family is Family.V6 or address.prefixlen == prefixlen
            ):
                return address
        return None

    def _forget_source(self, ip: IPAddress) -> None:
        for position, route in reversed(list(enumerate(self.routes))):
            if route.prefsrc != ip:
                continue
            if route.family is Family.V4:
                if route.table == MAIN_TABLE:
                    del self.routes[position]
            else:
                self.routes[position] = replace(route, prefsrc=None)

    def _connect(self, address: Address) -> None:
        """Add the kernel's route to the subnet of an address. Our addresses are noprefixroute."""
        alone = address.family is Family.V4 and address.prefixlen == address.ip.max_prefixlen
        if address.protocol != PROTOCOL and not alone and self.links[address.index].up:
            self.add_route(self._connected(address), 0)

    @staticmethod
    def _connected(address: Address) -> Route:
        dst = _network(address.ip, address.prefixlen)
        route = Route(dst, MAIN_TABLE, address.index, RTPROT_KERNEL, metric=V6_CONNECTED_METRIC)
        if address.family is Family.V4:
            return replace(route, prefsrc=address.ip, metric=0, scope=SCOPE_LINK)
        return route


def _network(ip: IPAddress, prefixlen: int) -> IPNetwork:
    make = IPv4Network if Family(ip.version) is Family.V4 else IPv6Network
    return make((ip.packed, prefixlen), strict=False)
