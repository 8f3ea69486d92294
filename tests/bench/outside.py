"""The probe outside: what is in the host's kernel, read by a socket of our own.

It asks again and again and subscribes to nothing, and knows nothing of the daemon but the marks
that the README documents. What ought to be there is written down here once more, from the README's
table, and not taken from the daemon's planner.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final

from nicwatchd.core.model import (
    IPV6_DEFAULT_METRIC,
    LINK_GROUP,
    MAIN_TABLE,
    SCOPE_LINK,
    TABLE_BASE,
    Family,
    IPAddress,
    IPNetwork,
    Route,
    Rule,
)
from nicwatchd.netlink.kernel import NetlinkKernel
from nicwatchd.netlink.request import RequestSocket, open_request_socket
from nicwatchd.sim import netns
from nicwatchd.sim.parts import ROUTER_V6, Eni

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERVAL: Final = 0.002  # s between two looks: what a figure may be too long by
PATIENCE: Final = 20.0  # s after which something will not come any more
ANY: Final[dict[Family, IPNetwork]] = {
    Family.V4: ip_network("0.0.0.0/0"),
    Family.V6: ip_network("::/0"),
}


class NeverCameError(Exception):
    """What was waited for did not come; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Objects that are to be in the kernel for one ENI."""

    index: int
    rules: frozenset[Rule]
    routes: frozenset[Route]
    addresses: frozenset[IPAddress]


def expected(eni: Eni, index: int) -> Expected:
    """All that the README promises for an ENI that shares its subnet with no other.

    Preferred sources are left out: which address is there first is the DHCP client's to say.
    """
    base = Route(ANY[Family.V4], TABLE_BASE + index, index)
    rules: set[Rule] = set()
    routes: set[Route] = set()
    if eni.ipv4 and eni.subnet.ipv4:
        prefixes = eni.ipv4_prefixes
        rules |= _rules(Family.V4, eni.name, base.table, prefixes, (eni.subnet.ipv4,))
        routes.add(replace(base, gateway=eni.subnet.gateway, onlink=True))
        routes.add(replace(base, dst=eni.subnet.ipv4, scope=SCOPE_LINK))
    if eni.ipv6:
        rules |= _rules(Family.V6, eni.name, base.table, eni.ipv6_prefixes, eni.subnet.ipv6)
        ours = replace(base, dst=ANY[Family.V6], metric=IPV6_DEFAULT_METRIC)
        routes.add(replace(ours, gateway=ROUTER_V6))
        on_link = (IPv6Network((IPv6Address("fe80::"), 64)), *eni.subnet.ipv6)
        routes |= {replace(ours, dst=network) for network in on_link}
    return Expected(index, frozenset(rules), frozenset(routes), frozenset(eni.addresses()))


def _rules(
    family: Family,
    name: str,
    table: int,
    prefixes: tuple[IPNetwork, ...],
    subnets: tuple[IPNetwork, ...],
) -> set[Rule]:
    rules = {Rule(family, 32601, table, oif=name)}
    rules |= {Rule(family, 32601, table, src=prefix) for prefix in prefixes}
    rules |= {Rule(family, 32602, table, src=subnet, iif="lo") for subnet in subnets}
    guards = {
        replace(
            rule,
            priority=32600,
            table=MAIN_TABLE,
            suppress_prefixlength=0,
            suppress_ifgroup=LINK_GROUP,
        )
        for rule in rules
    }
    return rules | guards


class Outside:
    """Looks into one network namespace."""

    def __init__(self, kernel: NetlinkKernel, requests: RequestSocket) -> None:
        self.kernel = kernel
        self.requests = requests

    async def missing(self, wanted: Expected) -> str:
        """What is not in the kernel yet; "" when all is there."""
        lacking: frozenset[object] = wanted.rules - frozenset(await self.kernel.rules())
        if not lacking:
            routes = await self.kernel.own_routes()
            lacking = wanted.routes - {replace(route, prefsrc=None) for route in routes}
        if not lacking:
            there = {address.ip for address in await self.kernel.addresses(wanted.index)}
            lacking = wanted.addresses - there
        return ", ".join(map(str, lacking))

    async def complete(
        self, wanted: Expected, within: float = PATIENCE, interval: float = INTERVAL
    ) -> float:
        """The monotonic time at which everything wanted was seen in the kernel."""
        return await self.until(lambda: self.missing(wanted), within, interval)

    async def until(
        self,
        missing: Callable[[], Awaitable[str]],
        within: float = PATIENCE,
        interval: float = INTERVAL,
    ) -> float:
        """The monotonic time of the first look in which nothing is missing (to `interval`)."""
        give_up = time.monotonic() + within
        while lacking := await missing():
            if time.monotonic() > give_up:
                raise NeverCameError(f"not there after {within:g} s: {lacking}")
            await asyncio.sleep(interval)
        return time.monotonic()


@contextmanager
def look_into(namespace: str) -> Iterator[Outside]:
    """A probe of a namespace."""

    def connect() -> socket.socket:
        with netns.inside(namespace):
            return open_request_socket()

    requests = RequestSocket(connect)
    kernel = NetlinkKernel(requests)
    try:
        yield Outside(kernel, requests)
    finally:
        kernel.close()
