"""The kernel over rtnetlink: implements `nicwatchd.core.port.Kernel` with one request socket."""

from __future__ import annotations

from dataclasses import replace
from errno import EACCES, EHOSTUNREACH, EINVAL
from functools import lru_cache, partial
from ipaddress import IPv4Address
from itertools import groupby, starmap
from typing import TYPE_CHECKING, Final

from pyroute2.netlink.rtnl import RTM_GETADDR, RTM_GETLINK, RTM_GETROUTE, RTM_GETRULE

from nicwatchd.core.model import (
    BLACKHOLE,
    ERRORS,
    MAIN_TABLE,
    PROHIBIT,
    PROTOCOL,
    RTPROT_DHCP,
    RTPROT_KERNEL,
    RTPROT_RA,
    UNREACHABLE,
    WIDE,
    Family,
    OfNftables,
    Route,
)
from nicwatchd.core.port import Outcome, RouteAnswer, judge
from nicwatchd.netlink import programs
from nicwatchd.netlink.constants import (
    IFLA_EXT_MASK,
    RTA_DST,
    RTA_OIF,
    RTA_SRC,
    RTA_TABLE,
    RTEXT_FILTER_SKIP_STATS,
    RTM_F_LOOKUP_TABLE,
    RTM_GETNEXTHOP,
    RTN_UNICAST,
)
from nicwatchd.netlink.decode import (
    decode_any_route,
    decode_link,
    decode_route,
    decode_rule,
    read_address,
    read_route,
)
from nicwatchd.netlink.driver import Drivers
from nicwatchd.netlink.encode import Request, encode
from nicwatchd.netlink.hops import NEXTHOP, Nexthops, decode_nexthop
from nicwatchd.netlink.nftables import MISSING, Nftables
from nicwatchd.netlink.published import PublishedPorts
from nicwatchd.netlink.request import Brief, RequestSocket, read
from nicwatchd.netlink.wire import (
    ADDRESS_FAMILY,
    FAMILY_OF_VERSION,
    IFADDR,
    IFINFO,
    ROUTE,
    RULE,
    attribute,
    attribute_u32,
    find_attribute,
    u32,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from nicwatchd.core.firewall import Published
    from nicwatchd.core.model import (
        Address,
        IPAddress,
        Link,
        OfKernel,
        Operation,
        Reason,
        Rule,
    )
    from nicwatchd.core.port import Asked

# The errno of what a route of this kind ends.
ERROR_ROUTES: Final = {BLACKHOLE: EINVAL, UNREACHABLE: EHOSTUNREACH, PROHIBIT: EACCES}
NO_STATISTICS: Final = attribute_u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)

# Routes of a link that are read in full. All routes of the internet may lead there by BGP: of what
# comes after so many, only what the kernel and address configuration made, and defaults.
READ_IN_FULL: Final = 1024
LOOPBACK: Final = 1  # the ifindex of `lo`, in every network namespace
HOST_BITS: Final = {ADDRESS_FAMILY[Family.V4]: 32, ADDRESS_FAMILY[Family.V6]: 128}
EVIDENCE: Final = (RTPROT_KERNEL, RTPROT_RA, RTPROT_DHCP)


class NetlinkKernel:
    """The kernel of the network namespace in which it was created. The caller closes it."""

    def __init__(self, requests: RequestSocket | None = None) -> None:
        self._requests = requests or RequestSocket()
        self._drivers = Drivers()
        self._nftables = Nftables()
        self._published = PublishedPorts()
        self._known_drivers: dict[tuple[int, str], str] = {}
        self._all_rows: list[Address] = []
        self._all: dict[int, tuple[Address, ...]] = {}

    def close(self) -> None:
        """Close the sockets."""
        self._requests.close()
        self._drivers.close()
        self._nftables.close()
        self._published.close()

    @property
    def port_id(self) -> int | None:
        """See `Kernel`."""
        return self._requests.port_id

    async def links(self) -> dict[int, Link]:
        """See `Kernel`."""
        body = IFINFO.pack(0, 0, 0, 0, 0) + NO_STATISTICS
        links = await self._requests.dump(Request(RTM_GETLINK, 0, body), decode_link)
        present = {(link.index, link.mac) for link in links}
        self._known_drivers = {k: d for k, d in self._known_drivers.items() if k in present}
        return {link.index: self._with_driver(link) for link in links}

    async def link(self, index: int) -> Link | None:
        """See `Kernel`."""
        body = IFINFO.pack(0, 0, index, 0, 0) + NO_STATISTICS
        answer = await self._requests.get(Request(RTM_GETLINK, 0, body))
        return None if isinstance(answer, int) else self._with_driver(read(decode_link, answer))

    def _with_driver(self, link: Link) -> Link:
        """The link with its driver. Looks up only hardware: there may be thousands of others."""
        if link.driver is not None:
            return link
        key = (link.index, link.mac)
        # If the link was just renamed, the lookup fails; the event of the rename makes us retry.
        driver = self._known_drivers.get(key) or self._drivers.driver(link.index, link.name)
        if driver:
            self._known_drivers[key] = driver
        return replace(link, driver=driver)

    async def addresses(self, index: int) -> tuple[Address, ...]:
        """See `Kernel`."""
        request = Request(RTM_GETADDR, 0, IFADDR.pack(0, 0, 0, 0, index))
        addresses = await self._requests.dump(request, read_address)
        return tuple(address for address in addresses if address.index == index)

    async def all_addresses(self) -> dict[int, tuple[Address, ...]]:
        """See `Kernel`."""
        request = Request(RTM_GETADDR, 0, IFADDR.pack(0, 0, 0, 0, 0))
        rows = await self._requests.dump(request, read_address)
        if rows != self._all_rows:  # a glance, while nothing changes: they are the same objects
            self._all_rows, self._all = rows, _by_link(rows)
        return dict(self._all)

    async def link_routes(self, index: int) -> tuple[Route, ...]:
        """See `Kernel`."""
        wanted = attribute_u32(RTA_TABLE, MAIN_TABLE) + attribute_u32(RTA_OIF, index)
        routes = await self._routes(0, wanted, in_full=READ_IN_FULL)
        return tuple(r for r in routes if r.table == MAIN_TABLE and index in r.links)

    async def host_routes(
        self, addresses: AbstractSet[IPAddress]
    ) -> dict[IPAddress, frozenset[int]]:
        """See `Kernel`. The kernel cannot filter by destination: most is skipped unread."""
        families, wanted = _packed(frozenset(addresses))
        found: dict[IPAddress, frozenset[int]] = {}

        def decode(body: bytes) -> Route | bytes | None:
            return read_route(body) if _host_of(body) in wanted else None

        for route in await self._of_main(families, decode):
            ip = route.dst.network_address
            found[ip] = found.get(ip, frozenset()) | route.links
        return found

    async def _of_main(
        self, families: Iterable[Family], decode: Callable[[bytes], Route | bytes | None]
    ) -> list[Route]:
        """Main's unicast routes of these families, without those that `decode` maps to None."""
        rows: list[Route | bytes] = []
        for family in families:
            body = ROUTE.pack(ADDRESS_FAMILY[family], 0, 0, 0, 0, 0, 0, RTN_UNICAST, 0)
            request = Request(RTM_GETROUTE, 0, body + attribute_u32(RTA_TABLE, MAIN_TABLE))
            rows += await self._requests.dump(request, decode)
        return [route for route in await self._resolved(rows) if route.table == MAIN_TABLE]

    async def closed_main(self, but: AbstractSet[int]) -> dict[Family, tuple[Route, ...]]:
        """See `Kernel`. The kernel filters what nearly always is all there is to read: nothing."""

        def skips(body: bytes) -> bool:
            narrow = not _is_wide(body)
            return narrow and u32(find_attribute(body, ROUTE.size, RTA_OIF)) in but

        def decode(body: bytes) -> Route | bytes | None:
            return None if skips(body) else decode_any_route(body)

        found: dict[Family, tuple[Route, ...]] = {}
        for family, number in ADDRESS_FAMILY.items():
            if not await self._has_wide_errors(family):
                continue
            body = ROUTE.pack(number, 0, 0, 0, 0, 0, 0, 0, 0)
            request = Request(RTM_GETROUTE, 0, body + attribute_u32(RTA_TABLE, MAIN_TABLE))
            brief = Brief(READ_IN_FULL, _is_wide)
            rows: list[Route | bytes] = await self._requests.dump(request, decode, brief)
            routes = await self._resolved(rows)
            found[family] = tuple(route for route in routes if route.table == MAIN_TABLE)
        return found

    async def _has_wide_errors(self, family: Family) -> bool:
        """Whether main has any. IPv6 lists them with `lo`; IPv4 only those of next-hop objects."""
        kinds = (0, *ERRORS) if family is Family.V4 else (0,)
        for kind in kinds:
            body = ROUTE.pack(ADDRESS_FAMILY[family], 0, 0, 0, 0, 0, 0, kind, 0)
            body += attribute_u32(RTA_TABLE, MAIN_TABLE)
            body += b"" if kind else attribute_u32(RTA_OIF, LOOPBACK)
            request = Request(RTM_GETROUTE, 0, body)
            rows = await self._requests.dump(request, _decode_wide_error)
            if any(route.table == MAIN_TABLE for route in rows):
                return True
        return False

    async def defaults(self) -> tuple[Route, ...]:
        """See `Kernel`. The kernel cannot filter by destination: most is skipped unread."""
        return tuple(await self._of_main(Family, _decode_default))

    async def own_routes(self) -> tuple[Route, ...]:
        """See `Kernel`."""
        return tuple(r for r in await self._routes(PROTOCOL, b"") if r.protocol == PROTOCOL)

    async def table_routes(self, table: int) -> tuple[Route, ...]:
        """See `Kernel`."""
        routes = await self._routes(0, attribute_u32(RTA_TABLE, table))
        return tuple(route for route in routes if route.table == table)

    async def _routes(
        self, protocol: int, filters: bytes, in_full: int | None = None
    ) -> list[Route]:
        """Routes of both families, filtered by the kernel (since 4.20; older ones send all).

        Of what exceeds `in_full` in a family, only the essential ones.
        """
        rows: list[Route | bytes] = []
        for number in ADDRESS_FAMILY.values():
            body = ROUTE.pack(number, 0, 0, 0, 0, protocol, 0, 0, 0) + filters
            request = Request(RTM_GETROUTE, 0, body)
            brief = None if in_full is None else Brief(in_full, _is_essential)
            rows += await self._requests.dump(request, read_route, brief)
        return await self._resolved(rows)

    async def _resolved(self, rows: Sequence[Route | bytes]) -> list[Route]:
        """The routes, with the next hops of those that name but an object's number."""
        if not any(isinstance(row, bytes) for row in rows):
            return [row for row in rows if isinstance(row, Route)]
        nexthops = await self._nexthops()
        decode = partial(decode_route, nexthops=nexthops)
        known = (read(decode, r) if isinstance(r, bytes) else r for r in rows)
        return [route for route in known if route is not None]

    async def _nexthops(self) -> Nexthops:
        request = Request(RTM_GETNEXTHOP, 0, NEXTHOP.pack(0, 0, 0, 0))
        return Nexthops.of(await self._requests.dump(request, decode_nexthop))

    async def rules(self) -> tuple[Rule, ...]:
        """See `Kernel`."""
        rules: list[Rule] = []
        for number in ADDRESS_FAMILY.values():
            body = RULE.pack(number, 0, 0, 0, 0, 0, 0, 0, 0)
            rules += await self._requests.dump(Request(RTM_GETRULE, 0, body), decode_rule)
        return tuple(rules)

    async def run(self, operations: Sequence[Operation]) -> list[Outcome]:
        """See `Kernel`."""
        outcomes: list[Outcome] = []
        for is_nft, some in groupby(operations, lambda each: isinstance(each, OfNftables)):
            if is_nft:
                outcomes += [await self._nftables.run(o) for o in some if isinstance(o, OfNftables)]
            else:
                outcomes += await self._run([o for o in some if not isinstance(o, OfNftables)])
        return outcomes

    async def _run(self, operations: Sequence[OfKernel]) -> list[Outcome]:
        replies = await self._requests.batch(encode(operation) for operation in operations)
        return [
            judge(operation, reply.errno, reply.message)
            for operation, reply in zip(operations, replies, strict=True)
        ]

    async def ruleset(self) -> str | Reason | None:
        """See `Kernel`."""
        return await self._nftables.seal()

    async def published(self) -> tuple[Published, ...]:
        """See `Kernel`."""
        return await self._published.read()

    async def nft_problem(self) -> Reason | None:
        """See `Kernel`."""
        return None if programs.find("nft") else MISSING

    async def route_get(
        self, src: IPAddress | None, dst: IPAddress, *, oif: int = 0
    ) -> RouteAnswer | int:
        """See `Kernel`."""
        return (await self.route_gets(((src, dst, oif),)))[0]

    async def route_gets(self, asked: Sequence[Asked]) -> list[RouteAnswer | int]:
        """See `Kernel`."""
        return [_route_answer(a) for a in await self._requests.ask([*starmap(_look_up, asked)])]


def _by_link(addresses: Iterable[Address]) -> dict[int, tuple[Address, ...]]:
    """By ifindex, without link-local ones."""
    found: dict[int, list[Address]] = {}
    for address in addresses:
        if not address.ip.is_link_local:
            found.setdefault(address.index, []).append(address)
    return {index: tuple(its) for index, its in found.items()}


def _look_up(src: IPAddress | None, dst: IPAddress, oif: int) -> Request:
    family, bits = FAMILY_OF_VERSION[dst.version], dst.max_prefixlen
    # IPv6 always reports the table, and refuses the flag (strict checks).
    flags = RTM_F_LOOKUP_TABLE if isinstance(dst, IPv4Address) else 0
    body = ROUTE.pack(family, bits, 0 if src is None else bits, 0, 0, 0, 0, 0, flags)
    body += attribute(RTA_DST, dst.packed)
    if src is not None:
        body += attribute(RTA_SRC, src.packed)
    if oif:
        body += attribute_u32(RTA_OIF, oif)
    return Request(RTM_GETROUTE, 0, body)


def _route_answer(answer: bytes | int) -> RouteAnswer | int:
    return answer if isinstance(answer, int) else read(_decode_answer, answer)


def _decode_answer(answer: bytes) -> RouteAnswer | int:
    # IPv6 answers with the route that ends the lookup where IPv4 answers with its errno.
    kind = ROUTE.unpack_from(answer)[7]
    if kind in ERROR_ROUTES:
        return ERROR_ROUTES[kind]
    table, oif = (find_attribute(answer, ROUTE.size, wanted) for wanted in (RTA_TABLE, RTA_OIF))
    return RouteAnswer(u32(table), u32(oif))


@lru_cache(maxsize=2)  # nearly always asked for the same
def _packed(addresses: frozenset[IPAddress]) -> tuple[frozenset[Family], frozenset[bytes]]:
    """The families of addresses, and their bytes."""
    families = frozenset(map(Family, {ip.version for ip in addresses}))
    return families, frozenset(ip.packed for ip in addresses)


def _host_of(body: bytes) -> bytes | None:
    """The destination, packed, if a route is to one address."""
    number, dst_len, *_ = ROUTE.unpack_from(body)
    bits = HOST_BITS.get(number)
    return find_attribute(body, ROUTE.size, RTA_DST) if dst_len == bits else None


def _decode_default(body: bytes) -> Route | bytes | None:
    return None if ROUTE.unpack_from(body)[1] else read_route(body)


def _is_wide(body: bytes) -> bool:
    return int(ROUTE.unpack_from(body)[1]) <= WIDE


def _decode_wide_error(body: bytes) -> Route | None:
    route = decode_any_route(body) if _is_wide(body) else None
    return route if isinstance(route, Route) and route.kind in ERRORS else None


def _is_essential(body: bytes) -> bool:
    _, dst_len, _, _, _, protocol, *_ = ROUTE.unpack_from(body)
    return not dst_len or protocol in EVIDENCE
