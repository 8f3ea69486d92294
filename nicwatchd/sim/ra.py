"""Router advertisements (RFC 4861, section 4.2), as the VPC router sends them."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from nicwatchd.sim import netns
from nicwatchd.sim.parts import ROUTER_V6

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv6Network

TYPE_RA: Final = 134
MANAGED: Final = 0x80  # "addresses by DHCPv6"
ON_LINK: Final = 0x80  # without 0x40 (autonomous), because EC2 has no SLAAC
HOP_LIMIT: Final = 255  # the receiver refuses any other value
LIFETIME: Final = 1800  # s, of the router
PREFIX_LIFETIME: Final = 86400  # s


def advertisement(prefixes: Iterable[IPv6Network], *, managed: bool) -> bytes:
    """The packet; the kernel fills in the checksum."""
    header = struct.pack("!BBHBBHII", TYPE_RA, 0, 0, 64, MANAGED if managed else 0, LIFETIME, 0, 0)
    options = (
        struct.pack(
            "!BBBBIII16s",
            3,  # prefix information
            4,  # its length, in units of 8 bytes
            prefix.prefixlen,
            ON_LINK,
            PREFIX_LIFETIME,
            PREFIX_LIFETIME,
            0,
            prefix.network_address.packed,
        )
        for prefix in prefixes
    )
    return header + b"".join(options)


def send(namespace: str, device: str, packet: bytes) -> None:
    """Send a packet to all nodes of a link, from EC2's router address."""
    index = netns.ifindex(namespace, device)
    with netns.open_socket(
        namespace, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6
    ) as raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOP_LIMIT)
        raw.bind((str(ROUTER_V6), 0, 0, index))
        raw.sendto(packet, ("ff02::1", 0, 0, index))
