"""What should be in the kernel for an ENI, written independently from the README's table.

It shares nothing with the daemon's planner except the marks that the README documents, so the
benchmarks and the chaos walk cannot repeat a mistake of the code that they judge.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from typing import Final

from nicwatchd.core.model import (
    IPV6_DEFAULT_METRIC,
    LINK_GROUP,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_KERNEL,
    SCOPE_LINK,
    Family,
    IPAddress,
    IPNetwork,
    Numbers,
    Route,
    Rule,
)
from nicwatchd.sim.parts import ROUTER_V6, Eni

ANY: Final[dict[Family, IPNetwork]] = {
    Family.V4: ip_network("0.0.0.0/0"),
    Family.V6: ip_network("::/0"),
}
LAST_METRIC: Final = 4_000_000_000  # so that who reads all tables finds main's default first
LINK_LOCAL: Final = IPv6Network((IPv6Address("fe80::"), 64))


@dataclass(frozen=True, slots=True)
class Expected:
    """The objects that should be in the kernel for one ENI.

    `routes` have no preferred sources, because which address comes first depends on the DHCP
    client. `sourced` are the same routes once all addresses exist.
    """

    index: int
    rules: frozenset[Rule]
    routes: frozenset[Route]
    sourced: frozenset[Route]
    addresses: frozenset[IPAddress]


def expected(
    eni: Eni,
    index: int,
    others: Collection[IPNetwork] = (),
    operators: Iterable[Route] = (),
    *,
    foreign: Collection[IPAddress] = (),
    up: bool = True,
    away: Collection[object] = (),
    on_link: Collection[IPNetwork] = (),
) -> Expected:
    """Everything that the README promises for an ENI.

    `others` are the CIDRs of the host's other ENIs; `operators` are main's routes through this
    ENI, which are copied if the ENI has the family, with its first address as the source;
    `foreign` are permanent addresses that others put on its link, `away` those that containers
    have, `on_link` networks that main reaches on the link, beside the subnet. A link that is down
    has no routes and no IPv6 addresses.
    """
    rules: set[Rule] = set()
    routes: set[Route] = set()
    sourced: set[Route] = set()
    table = Numbers().table_of(index)
    for family in Family:
        addresses, prefixes, cidrs = _parts(eni, family)
        if not addresses and not prefixes:
            continue
        alone = [cidr for cidr in cidrs if not any(cidr.overlaps(other) for other in others)]
        theirs = [ip for ip in foreign if ip.version == family]
        base = Rule(family, 32765, table)
        rules |= _rules(base, eni.name, addresses, prefixes, alone, theirs, away)
        addresses = tuple(ip for ip in addresses if ip not in away)
        if up:
            beside = [network for network in on_link if network.version == family]
            plain = _routes(eni, family, index, beside)
            routes |= plain
            copied = (route for route in operators if route.family is family)
            copies = {replace(route, table=table, protocol=PROTOCOL) for route in copied}
            routes |= copies
            source = addresses[0] if addresses else None
            both = plain | copies
            sourced |= {
                r if r.dst == LINK_LOCAL else replace(r, prefsrc=r.prefsrc or source) for r in both
            }
    here = eni.addresses() if up else eni.addresses(Family.V4)
    return Expected(
        index,
        frozenset(rules),
        frozenset(routes),
        frozenset(sourced),
        frozenset(ip for ip in here if ip not in away),
    )


def of_primary(
    eni: Eni,
    index: int,
    others: Collection[IPNetwork],
    main: Iterable[Route],
    foreign: Collection[IPAddress] = (),
) -> Expected:
    """Everything that the README promises for the primary while there is an ENI beside it.

    Its table has what main has through its link (`main`), and what others put there has rules like
    its own. Its first addresses are its manager's.
    """
    ipv4 = dict.fromkeys((*eni.ipv4, *(ip for ip in foreign if isinstance(ip, IPv4Address))))
    ipv6 = dict.fromkeys((*eni.ipv6, *(ip for ip in foreign if isinstance(ip, IPv6Address))))
    whole = replace(eni, ipv4=tuple(ipv4), ipv6=tuple(ipv6))
    made = [route for route in main if route.protocol == RTPROT_KERNEL]
    on_link = [r.dst for r in made if 0 < r.dst.prefixlen < r.dst.max_prefixlen]
    beside = [network for network in on_link if not network.is_link_local]
    operators = [route for route in main if route not in made]
    found = expected(whole, index, others, operators, on_link=beside)
    added = frozenset[IPAddress]((*eni.ipv4[1:], *eni.ipv6[1:]))
    return replace(found, addresses=added - {*foreign})


def _parts(
    eni: Eni, family: Family
) -> tuple[tuple[IPAddress, ...], tuple[IPNetwork, ...], tuple[IPNetwork, ...]]:
    if family is Family.V4:
        return eni.ipv4, eni.ipv4_prefixes, (eni.subnet.ipv4,) if eni.subnet.ipv4 else ()
    return eni.ipv6, eni.ipv6_prefixes, eni.subnet.ipv6


def _routes(eni: Eni, family: Family, index: int, beside: Collection[IPNetwork]) -> set[Route]:
    base = Route(ANY[family], Numbers().table_of(index), index)
    cidrs = {*_parts(eni, family)[2], *beside}
    if family is Family.V4:
        default = replace(base, gateway=eni.subnet.gateway, onlink=True, metric=LAST_METRIC)
        return {default} | {replace(base, dst=cidr, scope=SCOPE_LINK) for cidr in cidrs}
    on_link = replace(base, metric=IPV6_DEFAULT_METRIC)
    default = replace(base, gateway=ROUTER_V6, metric=LAST_METRIC)
    return {default} | {replace(on_link, dst=network) for network in (LINK_LOCAL, *cidrs)}


def _rules(
    base: Rule,
    name: str,
    addresses: Collection[IPAddress],
    prefixes: Collection[IPNetwork],
    alone: Collection[IPNetwork],
    foreign: Collection[IPAddress],
    away: Collection[object],
) -> set[Rule]:
    """The rules for sources: by address up to four, and wherever ENIs share a subnet."""
    if len(addresses) <= 4:
        alone = ()
    every = (*addresses, *foreign)
    by_address = [ip for ip in every if ip in away or not any(ip in cidr for cidr in alone)]
    rules = {replace(base, oif=name)}
    rules |= {replace(base, src=source) for source in (*prefixes, *map(ip_network, by_address))}
    rules |= {replace(base, src=cidr, iif="lo") for cidr in alone}
    guards = {
        replace(
            rule,
            table=MAIN_TABLE,
            suppress_prefixlength=0,
            suppress_ifgroup=LINK_GROUP,
        )
        for rule in rules
    }
    return rules | guards
