"""The parts of a VPC as values: subnets, ENIs, and the hosts that talk to them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Final

from nicwatchd.core.model import Family, IPAddress, IPNetwork

if TYPE_CHECKING:
    from collections.abc import Collection

BOTH: Final = (Family.V4, Family.V6)
ROUTER_V6: Final = IPv6Address("fe80:ec2::1")  # EC2's router, the same on each subnet


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet. Its neighbour, a simulated host, has the 6th-last IPv4 address and IPv6 250."""

    name: str
    ipv4: IPv4Network | None
    ipv6: tuple[IPv6Network, ...] = ()

    @classmethod
    def numbered(cls, number: int, families: Collection[Family] = BOTH) -> Subnet:
        """Subnet 1 to 199 of the VPC: 10.0.N.0/24 and 2001:db8:ec2:N::/64 (N in hex)."""
        return cls(
            f"subnet-{number}",
            IPv4Network(f"10.0.{number}.0/24") if Family.V4 in families else None,
            (IPv6Network(f"2001:db8:ec2:{number:x}::/64"),) if Family.V6 in families else (),
        )

    @property
    def gateway(self) -> IPv4Address | None:
        """The VPC router's IPv4 address in this subnet: base + 1."""
        return self.ipv4[1] if self.ipv4 else None

    @property
    def neighbour_ipv4(self) -> IPv4Address | None:
        """The neighbour's address; even in a /28 it is not one of EC2's five reserved addresses."""
        return self.ipv4[-6] if self.ipv4 else None

    @property
    def neighbour_ipv6(self) -> IPv6Address | None:
        """The neighbour's address."""
        return self.ipv6[0][250] if self.ipv6 else None


@dataclass(frozen=True, slots=True)
class Eni:
    """An elastic network interface. Its MAC is its identity: the other fields may change."""

    name: str  # of the link on the host, as it is now
    mac: str
    subnet: Subnet
    ipv4: tuple[IPv4Address, ...] = ()
    ipv6: tuple[IPv6Address, ...] = ()
    ipv4_prefixes: tuple[IPv4Network, ...] = ()
    ipv6_prefixes: tuple[IPv6Network, ...] = ()

    @classmethod
    def numbered(
        cls, name: str, subnet: Subnet, first: int = 10, count: int = 1, mac: str = ""
    ) -> Eni:
        """An ENI with the addresses `first` to `first + count - 1` of each family of its subnet.

        Without a MAC, it gets one derived from the subnet's name and `first`.
        """
        numbers = range(first, first + count)
        crc = zlib.crc32(f"{subnet.name}/{first}".encode())
        return cls(
            name,
            mac or "06:00:" + crc.to_bytes(4).hex(":"),
            subnet,
            tuple(subnet.ipv4[n] for n in numbers) if subnet.ipv4 else (),
            tuple(subnet.ipv6[0][n] for n in numbers) if subnet.ipv6 else (),
        )

    def addresses(self, *families: Family) -> tuple[IPAddress, ...]:
        """The addresses of these families (default: both)."""
        wanted = families or BOTH
        return (
            *(self.ipv4 if Family.V4 in wanted else ()),
            *(self.ipv6 if Family.V6 in wanted else ()),
        )

    @property
    def prefixes(self) -> tuple[IPNetwork, ...]:
        """The delegated prefixes of both families."""
        return (*self.ipv4_prefixes, *self.ipv6_prefixes)


@dataclass(frozen=True, slots=True)
class Peer:
    """A host that talks to ENIs: one address of each family, in a namespace."""

    name: str
    namespace: str
    ipv4: IPv4Address | None
    ipv6: IPv6Address | None

    def address(self, family: Family) -> IPAddress | None:
        """Its address in a family."""
        return self.ipv4 if family is Family.V4 else self.ipv6

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """All its addresses."""
        return tuple(a for a in (self.ipv4, self.ipv6) if a is not None)


# Six hosts in six networks, because with equal-cost routes a single flow may get through by luck.
FAR_HOSTS: Final = (
    ("another subnet", "10.0.200.10", "2001:db8:ec2:c8::10"),
    ("the VPC's second CIDR", "100.64.9.20", "2001:db8:ec3:9::20"),
    ("a peered VPC", "10.77.3.30", "2001:db8:77:3::30"),
    ("on premises", "192.168.50.40", "fd12:3456:789a:50::40"),
    ("the Internet, east", "198.51.100.50", "2001:db8:5100::50"),
    ("the Internet, west", "203.0.113.60", "3fff:113::60"),
)


def far_hosts(namespace: str) -> tuple[Peer, ...]:
    """The six off-subnet hosts, which share one namespace behind the router."""
    return tuple(
        Peer(name, namespace, IPv4Address(ipv4), IPv6Address(ipv6))
        for name, ipv4, ipv6 in FAR_HOSTS
    )
