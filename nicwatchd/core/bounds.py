"""What an address, a prefix or a subnet of an ENI can be at all, whatever IMDS says.

A value of IMDS becomes rules and routes of a live host, so one that no VPC can give is refused, by
name. Networks are compared by overlap: 169.0.0.0/8 is not link-local, but it holds what is.

Reads: one item, or the items of one list with the subnets that they lie in. Gives: why not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from typing import Final

from nicwatchd.core.model import Family, IPAddress, IPNetwork, Item, contains

# EC2's limits are 64 addresses and prefixes of an ENI, and 5 CIDRs of a subnet.
MOST_ITEMS: Final = 256
MOST_CIDRS: Final = 16

# The lengths of EC2's subnets, and the longest prefix of more than one address: EC2 delegates /28
# and /80.
WIDEST: Final = {Family.V4: 16, Family.V6: 44}
NARROWEST: Final = {Family.V4: 28, Family.V6: 64}
LONGEST: Final = {Family.V4: 31, Family.V6: 127}
# EC2 keeps these of each subnet, in both families: the network, the router, DNS, one for later.
FIRST_RESERVED: Final = 4

# No ENI has an address in these; the last is EC2's own (IMDS, DNS and NTP over IPv6).
NEVER: Final[dict[Family, tuple[IPNetwork, ...]]] = {
    Family.V4: tuple(
        map(ip_network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))
    ),
    Family.V6: tuple(
        map(ip_network, ("::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8", "fd00:ec2::/32"))
    ),
}

REFUSED_PER_KEY: Final = 4  # a garbage body may have thousands of lines; a few show what it is
NO_ADDRESS: Final = "not an address that an interface can have in a VPC"


def never(item: Item) -> bool:
    """Whether a part of it is what no interface can have in a VPC."""
    if isinstance(item, IPv4Address | IPv6Address):
        return any(item in net for net in NEVER[Family(item.version)])
    return any(overlap(item, net) for net in NEVER[Family(item.version)])


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    """Whether two networks have an address in common; never, across families."""
    return contains(one, other) or contains(other, one)


def within(item: Item, networks: Iterable[IPNetwork]) -> bool:
    """Whether an address or a prefix lies in one of the networks."""
    if isinstance(item, IPv4Address | IPv6Address):
        return any(item in network for network in networks)
    return any(contains(network, item) for network in networks)


def no_subnet(network: IPNetwork) -> str | None:
    """Why a network cannot be a subnet's CIDR; None if it can."""
    family = Family(network.version)
    if network.prefixlen < WIDEST[family]:
        return "too wide for a subnet"
    if network.prefixlen > NARROWEST[family]:
        return "too narrow for a subnet"
    return NO_ADDRESS if never(network) else None


def no_prefix(network: IPNetwork) -> str | None:
    """Why a network cannot be a delegated prefix; None if it can."""
    family = Family(network.version)
    if network.prefixlen <= WIDEST[family]:
        return "too wide for a prefix"
    if network.prefixlen > LONGEST[family]:
        return "too narrow for a prefix"
    return NO_ADDRESS if never(network) else None


def no_item(item: Item, subnets: Iterable[IPNetwork]) -> str | None:
    """Why an address or a prefix cannot be an ENI's in these subnets; None if it can.

    One that lies in none of them is judged elsewhere: the list of the subnets may lag.
    """
    for subnet in subnets:
        if isinstance(item, IPv4Address | IPv6Address):
            if item in subnet and _is_reserved(item, subnet):
                return f"reserved by AWS in {subnet}"
        elif contains(item, subnet):
            return f"not longer than the subnet {subnet}"
        elif contains(subnet, item) and _holds_reserved(item, subnet):
            return f"it holds an address that AWS reserves in {subnet}"
    return None


def distinct(subnets: Sequence[IPNetwork]) -> dict[IPNetwork, str | None]:
    """Each CIDR of one family, with why it cannot stand beside those before it; None if it can."""
    found: dict[IPNetwork, str | None] = {}
    for subnet in subnets:
        others = [other for other, reason in found.items() if reason is None]
        near = next((other for other in others if overlap(subnet, other)), None)
        if near is not None:
            found[subnet] = f"overlaps {near}"
        elif others and isinstance(subnet, IPv4Network):
            found[subnet] = f"an ENI has one IPv4 CIDR, which is {others[0]}"
        elif len(others) >= MOST_CIDRS:
            found[subnet] = f"more than {MOST_CIDRS} CIDRs"
        else:
            found[subnet] = None
    return found


def bounded(key: str, refused: Sequence[str]) -> tuple[str, ...]:
    """What was refused of one key, in words, and not in thousands of them."""
    more = len(refused) - REFUSED_PER_KEY
    if more <= 0:
        return tuple(refused)
    return (*refused[:REFUSED_PER_KEY], f"{key}: {more} more lines refused")


@lru_cache(maxsize=1024)
def _edges(subnet: IPNetwork) -> tuple[int, int]:
    first, last = subnet.network_address, subnet.broadcast_address
    return int(first), int(last)


def _is_reserved(ip: IPAddress, subnet: IPNetwork) -> bool:
    first, last = _edges(subnet)
    return int(ip) < first + FIRST_RESERVED or int(ip) == last


def _holds_reserved(prefix: IPNetwork, subnet: IPNetwork) -> bool:
    return _is_reserved(prefix.network_address, subnet) or _is_reserved(
        prefix.broadcast_address, subnet
    )
