"""A kernel in memory that implements the contract of `nicwatchd.core.port`, for tests.

It is faithful where decisions depend on it: the errno of each request, and the side effects when a
link goes down, a link is deleted, or an address is removed. The contract tests compare it with a
real network namespace. Its state can be printed in the syntax of `ip`.

The program uses it through `Kernel`; the rest of the world (DHCP, operators, other daemons) through
`add_link`, `set_link`, `remove_link`, `put` and `drop`, inside a running event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from errno import EINVAL
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    UNICAST,
    Address,
    Family,
    Link,
    Operation,
    Reason,
    Route,
    Rule,
)
from nicwatchd.core.port import (
    Event,
    FirewallEvent,
    Heeded,
    Outcome,
    Overrun,
    RouteAnswer,
    RouteEvent,
    RuleEvent,
    judge,
)
from nicwatchd.sim import ip_syntax
from nicwatchd.sim.kernel_lookup import lookup
from nicwatchd.sim.kernel_routing import LOCAL_TABLE
from nicwatchd.sim.kernel_state import KernelState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from nicwatchd.core.firewall import Published
    from nicwatchd.core.model import IPAddress
    from nicwatchd.core.port import Asked

UNSPECIFIED: Final[Mapping[Family, IPAddress]] = {
    Family.V4: IPv4Address(0),
    Family.V6: IPv6Address(0),
}
PORT_ID: Final = 4242  # of nicwatchd; `put` and `drop` take the port ids of other programs


class FakeEvents:
    """One listener; see `nicwatchd.core.port.EventSource`."""

    def __init__(self, listeners: list[FakeEvents]) -> None:
        self._listeners = listeners
        self._notify: Callable[[Event], None] | None = None
        self.heeded = Heeded()
        self._unheard: int | None = None
        self._undelivered: deque[Event] = deque()

    def start(self, notify: Callable[[Event], None]) -> None:
        """See `EventSource`."""
        self._notify = notify
        self._listeners.append(self)

    def heed(self, heeded: Heeded) -> None:
        """See `EventSource`."""
        self.heeded = heeded

    def drop_echoes(self, port_id: int | None) -> None:
        """See `EventSource`."""
        self._unheard = port_id

    def drain(self) -> None:
        """See `EventSource`."""
        while self._undelivered:
            self._deliver(self._undelivered.popleft())

    def close(self) -> None:
        """See `EventSource`."""
        self._notify = None
        self._listeners.remove(self)

    def emit(self, event: Event) -> None:
        """Deliver an event in the next iteration of the event loop, as a socket would."""
        self._undelivered.append(event)
        asyncio.get_running_loop().call_soon(self.drain)

    def _deliver(self, event: Event) -> None:
        is_echo = isinstance(event, RouteEvent | RuleEvent) and event.pid == self._unheard
        if self._notify and not is_echo:
            self._notify(event)


class FakeKernel:
    """One network namespace with a loopback link. `writes` counts the operations that it ran."""

    def __init__(self) -> None:
        self.writes = 0
        self._published: tuple[Published, ...] = ()
        self.nft_fails: Reason | None = None  # why, as `Kernel.nft_problem` says it
        self._state = KernelState(self._emit)
        self._state.heeds = self._heeds
        self._last_index = 1
        self._listeners: list[FakeEvents] = []

    # --- the program's side: `Kernel` ----------------------------------------------------------

    @property
    def port_id(self) -> int:
        """See `Kernel`."""
        return PORT_ID

    async def links(self) -> dict[int, Link]:
        """See `Kernel`."""
        return dict(self._state.links)

    async def link(self, index: int) -> Link | None:
        """See `Kernel`."""
        return self._state.links.get(index)

    async def addresses(self, index: int) -> tuple[Address, ...]:
        """See `Kernel`."""
        return tuple(address for address in self._state.addresses if address.index == index)

    async def all_addresses(self) -> dict[int, tuple[Address, ...]]:
        """See `Kernel`."""
        found: dict[int, list[Address]] = {}
        for address in self._state.addresses:
            if not address.ip.is_link_local:
                found.setdefault(address.index, []).append(address)
        return {index: tuple(addresses) for index, addresses in found.items()}

    async def link_routes(self, index: int) -> tuple[Route, ...]:
        """See `Kernel`."""
        routes = self._state.routes
        in_main = (r for r in routes if r.table == MAIN_TABLE and r.kind == UNICAST)
        return tuple(route for route in in_main if index in route.links)

    async def host_routes(
        self, addresses: AbstractSet[IPAddress]
    ) -> dict[IPAddress, frozenset[int]]:
        """See `Kernel`."""
        return self._state.host_routes(addresses)

    async def closed_main(self, but: AbstractSet[int]) -> dict[Family, tuple[Route, ...]]:
        """See `Kernel`."""
        return self._state.closed_main(but)

    async def defaults(self) -> tuple[Route, ...]:
        """See `Kernel`."""
        return self._state.defaults()

    async def own_routes(self) -> tuple[Route, ...]:
        """See `Kernel`."""
        return tuple(route for route in self._state.routes if route.protocol == PROTOCOL)

    async def table_routes(self, table: int) -> tuple[Route, ...]:
        """See `Kernel`."""
        routes = self._state.routes
        return tuple(r for r in routes if r.table == table and r.kind == UNICAST)

    async def rules(self) -> tuple[Rule, ...]:
        """See `Kernel`."""
        return tuple(self._state.rules)

    async def ruleset(self) -> str | Reason | None:
        """See `Kernel`."""
        return self._state.ruleset

    async def published(self) -> tuple[Published, ...]:
        """See `Kernel`."""
        return self._published

    async def nft_problem(self) -> Reason | None:
        """See `Kernel`."""
        return self.nft_fails

    async def run(self, operations: Sequence[Operation]) -> list[Outcome]:
        """See `Kernel`."""
        return [judge(operation, self._run_one(operation)) for operation in operations]

    async def route_get(
        self, src: IPAddress | None, dst: IPAddress, *, oif: int = 0
    ) -> RouteAnswer | int:
        """See `Kernel`."""
        local = {address.ip for address in self._state.addresses}
        if src is None:
            src = UNSPECIFIED[Family(dst.version)]
        elif src not in local:
            return EINVAL
        if dst in local:
            return RouteAnswer(LOCAL_TABLE, 1)
        return lookup(self._state, src, dst, oif)

    async def route_gets(self, asked: Sequence[Asked]) -> list[RouteAnswer | int]:
        """See `Kernel`."""
        return [await self.route_get(src, dst, oif=oif) for src, dst, oif in asked]

    # --- the world's side ----------------------------------------------------------------------

    def events(self) -> FakeEvents:
        """A new event source."""
        return FakeEvents(self._listeners)

    def overrun(self) -> None:
        """Tell every listener that events were lost."""
        self._emit(Overrun())

    def add_link(self, name: str, mac: str, *, kind: str | None = None, driver: str = "ena") -> int:
        """Plug in a link, which is down at first. Returns its index, which is never reused."""
        self._last_index += 1
        driver = kind or driver
        link = Link(self._last_index, mac, name, up=False, running=False, kind=kind, driver=driver)
        self._state.set_link(link)
        return link.index

    def set_link(self, link: Link) -> None:
        """Replace the link with the same index: rename it, flap it, enslave it, ..."""
        self._state.set_link(link)

    def disable_ipv6(self, index: int, *, disabled: bool = True) -> None:
        """Set the link's sysctl of this name. There is no event of the link when it is set."""
        self._state.disable_ipv6(index, disabled=disabled)

    def remove_link(self, index: int) -> None:
        """Unplug a link, with its addresses and routes. Rules that name it stay."""
        self._state.remove_link(index)

    def put(
        self,
        thing: Address | Route | Rule,
        *,
        pid: int = 0,
        replacing: bool = False,
        beside: bool = False,
    ) -> None:
        """Add an object of another program, or change an address; `OSError` as from the kernel.

        `replacing` and `beside` are for routes: replace the one with the same key, even if it is
        ours; or append it to those that there are.
        """
        _raise(self._state.put(thing, pid, replacing=replacing, beside=beside), thing)

    def flush_ruleset(self, left: str | None = None) -> None:
        """As `nft flush ruleset`; `left`: what is there instead."""
        self._state.ruleset = left
        self._tell_of_firewall()

    @property
    def published_ports(self) -> tuple[Published, ...]:
        """What containers publish."""
        return self._published

    @published_ports.setter
    def published_ports(self, ports: tuple[Published, ...]) -> None:
        if ports != self._published:
            self._published = ports
            self._tell_of_firewall()

    def drop(self, thing: Address | Route | Rule, *, pid: int = 0) -> None:
        """Remove an object, of another program or ours; `OSError` as from the kernel."""
        _raise(self._state.drop(thing, pid), thing)

    # --- its state, as `ip` prints it ----------------------------------------------------------

    def ip_rule(self, family: Family) -> str:
        """`ip -4|-6 rule`."""
        return ip_syntax.rules(rule for rule in self._state.rules if rule.family is family)

    def ip_route(self, family: Family, table: int = MAIN_TABLE) -> str:
        """`ip -4|-6 route show table N`."""
        chosen = (r for r in self._state.routes if r.family is family and r.table == table)
        return ip_syntax.routes(chosen, self._state.links)

    def ip_addr(self, index: int) -> str:
        """`ip -oneline addr show dev NAME`, without lifetimes."""
        chosen = (address for address in self._state.addresses if address.index == index)
        return ip_syntax.addresses(chosen, self._state.links)

    # -------------------------------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        for listener in self._listeners:
            listener.emit(event)

    def _heeds(self, route: Route) -> bool:
        return any(ip in route.dst for each in self._listeners for ip in each.heeded.destinations)

    def _tell_of_firewall(self) -> None:
        if any(listener.heeded.firewall for listener in self._listeners):
            self._emit(FirewallEvent())

    def _run_one(self, operation: Operation) -> int:
        self.writes += 1
        return self._state.run(operation, PORT_ID)


def _raise(errno: int, thing: object) -> None:
    if errno:
        raise OSError(errno, f"{os.strerror(errno)}: {thing}")
