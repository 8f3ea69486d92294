"""What the kernel proves about an ENI without IMDS.

EC2's DHCP server hands out only addresses that belong to the ENI. So a leased address, with an
on-link prefix or a router advertisement, is proof enough for routes and rules.

Reads: a link, its addresses, and main's routes through it. Gives: what DHCP configured, the on-link
prefixes, and what of them is proven.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Final

from nicwatchd.core.bounds import within
from nicwatchd.core.model import (
    RTPROT_KERNEL,
    RTPROT_RA,
    SCOPE_UNIVERSE,
    Address,
    Family,
    IPAddress,
    IPNetwork,
    Link,
    Route,
)

# DHCPv4 hands these out in IPv6-only subnets; they are not routed.
IPV4_LINK_LOCAL: Final = IPv4Network("169.254.0.0/16")


def leased(addresses: tuple[Address, ...]) -> tuple[IPAddress, ...]:
    """The addresses from DHCP. A permanent address is the operator's and proves nothing."""
    return tuple(
        address.ip
        for address in addresses
        if address.dynamic
        and not address.from_ra
        and not address.tentative
        and address.scope == SCOPE_UNIVERSE
        and not (isinstance(address.ip, IPv4Address) and address.ip in IPV4_LINK_LOCAL)
    )


def on_link_prefixes(
    family: Family, addresses: tuple[Address, ...], routes: tuple[Route, ...]
) -> tuple[IPNetwork, ...]:
    """The on-link prefixes according to the kernel, without host routes and link-local ones."""
    said = [_network(address) for address in _in_subnets(addresses) if address.family is family]
    said += [
        route.dst
        for route in routes
        if route.family is family
        and route.is_on_link
        and route.protocol in (RTPROT_KERNEL, RTPROT_RA)
    ]
    usable = (
        p for p in said if p.prefixlen < p.max_prefixlen and not p.is_link_local and p.prefixlen
    )
    return tuple(dict.fromkeys(usable))


def proven(
    family: Family,
    link: Link,
    addresses: tuple[Address, ...],
    routes: tuple[Route, ...],
    leases: tuple[IPAddress, ...],
) -> tuple[tuple[IPAddress, ...], tuple[IPNetwork, ...]]:
    """The leased addresses of a family that can be used now, and their subnets."""
    in_subnets = _in_subnets(addresses)
    leased = {_network(address) for address in in_subnets if address.ip in leases}
    # The network of an operator's own address may be far larger than the ENI's subnet.
    operators = {_network(address) for address in in_subnets if not address.dynamic} - leased
    subnets = tuple(
        prefix
        for prefix in on_link_prefixes(family, addresses, routes)
        if prefix not in operators and any(ip in prefix for ip in leases)
    )
    # The kernel sets ra_received only if it had solicited the RA, but ra_managed in any case.
    advertised = family is Family.V6 and (link.ra_received or link.ra_managed)
    return tuple(ip for ip in leases if advertised or within(ip, subnets)), subnets


def _in_subnets(addresses: tuple[Address, ...]) -> list[Address]:
    """The addresses that prove an on-link network; those that we add (/32, /128) do not."""
    return [address for address in addresses if address.prefixlen < address.ip.max_prefixlen]


def _network(address: Address) -> IPNetwork:
    make = IPv4Network if address.family is Family.V4 else IPv6Network
    return make((int(address.ip), address.prefixlen), strict=False)
