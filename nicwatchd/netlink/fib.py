"""The kernel's own look-up of a packet: which route of which table, and where it leads.

The kernel is asked twice. The first answer is the route that it found, by which one can tell what
rule led there (RTM_F_FIB_MATCH, since 4.13). The second is what it does with the packet: of several
next hops it takes one, and a route says nothing of the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyroute2.netlink.rtnl import RTM_GETROUTE

from nicwatchd.core.addresses import address, network
from nicwatchd.core.model import LOCAL_TABLE, RTPROT_KERNEL, Family, Route
from nicwatchd.netlink.constants import (
    RTA_DST,
    RTA_GATEWAY,
    RTA_IIF,
    RTA_MARK,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_SRC,
    RTA_TABLE,
    RTA_VIA,
    RTM_F_FIB_MATCH,
    RTM_F_LOOKUP_TABLE,
    RTN_LOCAL,
    RTN_UNICAST,
)
from nicwatchd.netlink.encode import Request
from nicwatchd.netlink.request import read
from nicwatchd.netlink.wire import (
    ADDRESS_FAMILY,
    FAMILY,
    ROUTE,
    attribute,
    attribute_u32,
    attributes,
    u32,
)

if TYPE_CHECKING:
    from nicwatchd.core.model import IPAddress
    from nicwatchd.netlink.request import RequestSocket


@dataclass(frozen=True, slots=True)
class Found:
    """What the kernel does with a packet.

    `route` is the route that it found, without the next hops. The packet leaves by `oif`, to the
    router `gateway` (None: to a neighbour, or it stays on this host).
    """

    route: Route
    oif: int
    gateway: IPAddress | None


async def look_up(
    requests: RequestSocket, src: IPAddress, dst: IPAddress, *, mark: int = 0, iif: int = 0
) -> Found | int:
    """Ask the kernel about a packet; an errno where nothing lets it pass. Raises KernelError.

    `iif` is the link by which it comes in; 0: this host sends it, so the source must be its own.
    """
    matched = await _ask(requests, src, dst, mark, iif, RTM_F_FIB_MATCH)
    if isinstance(matched, int):
        return matched
    taken = await _ask(requests, src, dst, mark, iif, 0)
    if isinstance(taken, int):
        return taken
    oif, gateway = read(_way, taken)
    return Found(read(_route, matched), oif, gateway)


async def _ask(
    requests: RequestSocket, src: IPAddress, dst: IPAddress, mark: int, iif: int, flags: int
) -> bytes | int:
    family, bits = Family(dst.version), dst.max_prefixlen
    # IPv6 always reports the table, and refuses the flag (strict checks).
    flags |= RTM_F_LOOKUP_TABLE if family is Family.V4 else 0
    body = ROUTE.pack(ADDRESS_FAMILY[family], bits, bits, 0, 0, 0, 0, 0, flags)
    body += attribute(RTA_DST, dst.packed) + attribute(RTA_SRC, src.packed)
    if iif:
        body += attribute_u32(RTA_IIF, iif)
    if mark:
        body += attribute_u32(RTA_MARK, mark)
    return await requests.get(Request(RTM_GETROUTE, 0, body))


def _route(body: bytes) -> Route:
    """The route that matched, of whatever kind: also of kinds that the model has no names for."""
    of, dst_len, _, tos, table, protocol, scope, kind, _ = ROUTE.unpack_from(body)
    family = FAMILY[of]
    found = attributes(body, ROUTE.size)
    prefsrc = found.get(RTA_PREFSRC)
    number = u32(found.get(RTA_TABLE), table)
    if kind == RTN_LOCAL and protocol == RTPROT_KERNEL:
        number = LOCAL_TABLE  # IPv4 says main while the two are one, until there is a rule
    return Route(
        dst=network(family, found.get(RTA_DST), dst_len),
        table=number,
        oif=u32(found.get(RTA_OIF)),
        protocol=protocol,
        gateway=_gateway(found) if kind == RTN_UNICAST else None,
        prefsrc=address(prefsrc) if prefsrc else None,
        metric=u32(found.get(RTA_PRIORITY)),
        scope=scope if family is Family.V4 else 0,
        tos=tos,
        kind=kind,
    )


def _way(body: bytes) -> tuple[int, IPAddress | None]:
    way = attributes(body, ROUTE.size)
    return u32(way.get(RTA_OIF)), _gateway(way)


def _gateway(found: dict[int, bytes]) -> IPAddress | None:
    if RTA_VIA in found:
        return address(found[RTA_VIA][2:])  # after the family
    gateway = found.get(RTA_GATEWAY)
    return address(gateway) if gateway else None
