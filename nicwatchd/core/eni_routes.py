"""The routing table of one ENI: its subnets, its default route, and copies of main's routes.

Main's unicast routes through the ENI's link are copied, whoever made them, so that what an operator
or a routing daemon says of that link holds for its own addresses too. Not what the kernel makes for
addresses: that is said by the subnets.

Reads: what is certain of one family, and main's routes through the link. Gives: the routes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from nicwatchd.core.evidence import Usable
from nicwatchd.core.model import (
    COPIED_AT_MOST,
    IPV6_DEFAULT_METRIC,
    LAST_METRIC,
    PROTOCOL,
    RTPROT_DHCP,
    RTPROT_KERNEL,
    RTPROT_RA,
    SCOPE_LINK,
    Family,
    IPNetwork,
    Reason,
    Route,
)
from nicwatchd.core.policy import Ipv6Router

EC2_ROUTER: Final = IPv6Address("fe80:ec2::1")  # EC2's fixed router address, in every subnet
LINK_LOCAL: Final = IPv6Network("fe80::/64")
ANY: Final[Mapping[Family, IPNetwork]] = {
    Family.V4: IPv4Network("0.0.0.0/0"),
    Family.V6: IPv6Network("::/0"),
}


@dataclass(frozen=True, slots=True)
class Main:
    """The main table's routes through one link, of both families."""

    index: int  # of the link
    routes: Sequence[Route]
    # Whether main's word on the link is its manager's: of the primary, DHCP's default route is.
    is_mirrored: bool = False

    def copied(self, family: Family) -> tuple[Route, ...]:
        """The routes to copy, as far as they lead through the link; on-link ones first.

        A default route is the operator's unless DHCP or a router advertisement brought it. Of the
        primary, either is copied.
        """
        routes = self._all(family)
        if self.has_too_many(family):
            routes = [route for route in routes if not route.dst.prefixlen]
        narrowed = [through(self.index, route) for route in routes]
        return tuple(sorted(narrowed, key=lambda route: not route.is_on_link))

    def has_too_many(self, family: Family) -> bool:
        """Whether there are more routes than are copied."""
        if len(self.routes) <= COPIED_AT_MOST:
            return False  # nearly always
        return sum(bool(r.dst.prefixlen) for r in self._all(family)) > COPIED_AT_MOST

    def _all(self, family: Family) -> list[Route]:
        return [r for r in self.routes if r.family is family and self._is_to_copy(r)]

    def _is_to_copy(self, route: Route) -> bool:
        learned = () if route.dst.prefixlen or self.is_mirrored else (RTPROT_DHCP, RTPROT_RA)
        return route.protocol not in (RTPROT_KERNEL, *learned)

    def learned(self, protocol: int, family: Family) -> Route | None:
        """The default route that this protocol brought, as far as it leads through the link."""
        found = (r for r in self.routes if r.dst == ANY[family] and r.protocol == protocol)
        found = (through(self.index, route) for route in found)
        return next((route for route in found if not route.is_on_link), None)


def through(index: int, route: Route) -> Route:
    """The route with those of its next hops that are on this link."""
    if not route.hops:
        return route
    hops = tuple(hop for hop in route.hops if hop.oif == index)
    if len(hops) > 1:
        return replace(route, oif=index, hops=hops)
    (hop,) = hops
    return replace(route, oif=index, gateway=hop.gateway, onlink=hop.onlink, hops=())


def routes(
    family: Family, usable: Usable, base: Route, main: Main, router: Ipv6Router
) -> list[Route]:
    """The routes of one family. `base` has the table, the link, and the source of the ENI."""
    v4 = family is Family.V4
    base = replace(base, dst=ANY[family], metric=0 if v4 else IPV6_DEFAULT_METRIC)
    scope = SCOPE_LINK if v4 else base.scope
    made = [replace(base, dst=subnet, scope=scope) for subnet in usable.subnets]
    if not v4:
        made.append(replace(base, dst=LINK_LOCAL, prefsrc=None))
    way = default(family, usable, replace(base, metric=LAST_METRIC), main, router)
    if way:
        made.append(way)
    unique = {route.key: route for route in made}
    for route in main.copied(family):
        copy = _copy(route, base)
        unique.setdefault(copy.key, copy)
    return list(unique.values())


def _copy(route: Route, base: Route) -> Route:
    """A copy of main's route. Without its next-hop object, which would take it along."""
    is_default = not route.dst.prefixlen
    return replace(
        route,
        table=base.table,
        protocol=PROTOCOL,
        # Ours is the last resort, whatever metric the operator's has.
        metric=min(route.metric, LAST_METRIC - 1) if is_default else route.metric,
        prefsrc=route.prefsrc or (None if route.dst.is_link_local else base.prefsrc),
    )


def default(
    family: Family, usable: Usable, base: Route, main: Main, router: Ipv6Router
) -> Route | None:
    """The way to the VPC router: a fixed address for IPv6, the subnet's base + 1 for IPv4.

    `base` has all else. None where no router is known.
    """
    if family is Family.V6:
        if router is Ipv6Router.EC2:
            return replace(base, gateway=EC2_ROUTER)
        learned = main.learned(RTPROT_RA, family)
        if learned is None:
            return None
        return replace(base, gateway=learned.gateway, onlink=learned.onlink, hops=learned.hops)
    home = _home(usable)
    if home is None:
        return None
    return replace(base, gateway=_router(home, usable, main), onlink=True)


def _router(home: IPv4Network, usable: Usable, main: Main) -> IPv4Address:
    """EC2's router of a subnet that IMDS knows. Of another, DHCP's own, where it names one."""
    learned = main.learned(RTPROT_DHCP, Family.V4)
    said = learned.gateway if learned else None
    if (
        isinstance(said, IPv4Address)
        and said in home
        and not any(ip in home for ip in usable.listed)
    ):
        return said
    return home.network_address + 1


def _home(usable: Usable) -> IPv4Network | None:
    """The subnet of the first address."""
    first = usable.addresses[0] if usable.addresses else None
    subnets = [s for s in usable.subnets if isinstance(s, IPv4Network)]
    home = next((s for s in subnets if isinstance(first, IPv4Address) and first in s), None)
    return home or next(iter(subnets), None)


# --- what is to be told ----------------------------------------------------------------------


def notes(main: Main, enis: AbstractSet[int]) -> Iterator[Reason]:
    """What is not as main has it. `enis` are the links that the guards hide, by ifindex."""
    for family in Family:
        if main.has_too_many(family):
            text = f"main has more than {COPIED_AT_MOST} {family.label} routes through this link"
            yield Reason(
                "routes-not-copied", f"{text}: none but the default is copied, and main decides"
            )
    # Of an IPv4 route the guards look at the first next hop alone. Of an IPv6 route at the one that
    # the kernel has chosen for the packet.
    split = [r for r in main.routes if r.family is Family.V4 and r.links - enis - {main.index}]
    if split:
        more = f" (and {len(split) - 1} more)" if len(split) > 1 else ""
        text = f"main's route to {split[0].dst}{more} leads through this link and one that is no"
        yield Reason(
            "split-route", f"{text} ENI, side by side: traffic of ENIs may leave by the wrong one"
        )


def unfinished(family: Family, made: Sequence[Route]) -> Iterator[Reason]:
    """Why the routes of one family are not all that it needs."""
    if all(route.dst.prefixlen for route in made):
        text = f"there is no {family.label} router: none was advertised on the link"
        yield Reason(
            "no-router", f"{text}, and main has no default route through it", family=family
        )
