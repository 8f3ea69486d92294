"""What DHCP clients and network managers configure on the host, as lines for `ip`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim.parts import ROUTER_V6, Eni

PRIMARY_METRIC: Final = 1024  # systemd-networkd's default, for DHCP and RA
LEASE_METRIC: Final = 2048  # clients prefer the primary over secondary interfaces
# Lifetimes in s. The primary's do not expire during a test; the others are EC2's.
PRIMARY_LIFETIME: Final = "valid_lft 86400 preferred_lft 86400"
LEASE_LIFETIME: Final = {
    Family.V4: "valid_lft 3600 preferred_lft 3600",
    Family.V6: "valid_lft 450 preferred_lft 140",
}


@dataclass(frozen=True, slots=True)
class Manager:
    """What a network manager does with the routes of interfaces that are not the primary.

    `metric` is that of their routes, and of the default route that the kernel learns from an RA.
    `replaces`: its default route takes the place of one with the same metric. Otherwise it is
    added: behind the other in IPv4, beside it in IPv6, where the kernel then uses both.
    """

    metric: int
    replaces: bool = False


# One that keeps the host's own traffic on the primary, and others that are met on EC2 as well.
GOOD: Final = Manager(LEASE_METRIC)
TIES: Final = Manager(PRIMARY_METRIC)  # networkd with the same settings for all interfaces
BEATS: Final = Manager(100)  # NetworkManager or dhclient beside networkd's primary
REPLACES: Final = Manager(PRIMARY_METRIC, replaces=True)


def lines_for_lease(eni: Eni, family: Family, metric: int) -> list[str]:
    """Link up and the first address, as a client does it. Repeated at each renewal."""
    lifetime = LEASE_LIFETIME[family]
    return [f"link set {eni.name} up", _address(eni, family, lifetime, metric)]


def lines_for_primary(eni: Eni) -> list[str]:
    """The state of the primary after boot: first addresses, on-link /64s, default routes."""
    lines = [f"link set {eni.name} up"]
    for family in Family:
        if eni.addresses(family):
            # After boot, duplicate address detection has already finished.
            lifetime = PRIMARY_LIFETIME + (" nodad" if family is Family.V6 else "")
            lines.append(_address(eni, family, lifetime, PRIMARY_METRIC))
            lines.append(default_route(eni, family, PRIMARY_METRIC, "add"))
    lines += [
        f"route add {cidr} dev {eni.name} proto ra metric {PRIMARY_METRIC}"
        for cidr in eni.subnet.ipv6
    ]
    return lines


def default_route(eni: Eni, family: Family, metric: int, verb: str) -> str:
    """The default route in the main table: IPv4 from DHCP, IPv6 from an RA.

    `verb` is add, append (behind or beside one with the same metric, as networkd does) or replace.
    """
    if family is Family.V6:
        return f"route {verb} ::/0 via {ROUTER_V6} dev {eni.name} proto ra metric {metric}"
    return (
        f"route {verb} default via {eni.subnet.gateway} dev {eni.name} proto dhcp"
        f" src {eni.ipv4[0]} metric {metric}"
    )


def _address(eni: Eni, family: Family, lifetime: str, metric: int) -> str:
    (address, *_) = eni.addresses(family)
    if family is Family.V6:
        return f"addr replace {address}/128 dev {eni.name} {lifetime} noprefixroute"
    length = eni.subnet.ipv4.prefixlen if eni.subnet.ipv4 else 32
    return f"addr replace {address}/{length} dev {eni.name} {lifetime} metric {metric}"
