"""The next hops of routes, in all their forms: one, several, and next-hop objects.

The kernel lists what an object leads to beside its number, unless `nexthop_compat_mode` is 0: then
the objects have to be read as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from struct import Struct
from typing import TYPE_CHECKING, Final

from nicwatchd.core.addresses import address
from nicwatchd.core.model import Family, Hop
from nicwatchd.netlink.constants import (
    NHA_ENCAP,
    NHA_GATEWAY,
    NHA_GROUP,
    NHA_ID,
    NHA_OIF,
    RTA_ENCAP,
    RTA_GATEWAY,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTA_OIF,
    RTA_VIA,
    RTNH_F_ONLINK,
)
from nicwatchd.netlink.wire import ADDRESS_FAMILY, attribute, attributes, u32

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nicwatchd.core.model import IPAddress

HOP: Final = Struct("=HBBi")  # rtnexthop: length with its attributes, flags, weight - 1, ifindex
NEXTHOP: Final = Struct("=BBBxI")  # nhmsg: family, scope, protocol, flags
MEMBER: Final = Struct("=IBBxx")  # nexthop_grp: id, weight - 1 and its high byte
VIA: Final = Struct("=H")  # rtvia: family, before the address

Found = dict[int, bytes]  # attributes by type


@dataclass(frozen=True, slots=True)
class Nexthop:
    """One next-hop object: where it leads, or the objects (and their weights) that it is made of.

    `hop` is None for one that leads nowhere that a route could be copied to.
    """

    number: int
    hop: Hop | None = None
    members: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Nexthops:
    """All next-hop objects of a network namespace, by number."""

    objects: Mapping[int, Nexthop] = field(default_factory=dict)

    @classmethod
    def of(cls, objects: Iterable[Nexthop]) -> Nexthops:
        """These objects."""
        return cls({each.number: each for each in objects})

    def hops(self, number: int) -> tuple[Hop, ...]:
        """Where an object leads; nothing for one that is not there."""
        found = self.objects.get(number)
        if found is None:
            return ()
        if not found.members:
            return (found.hop,) if found.hop else ()
        parts = [(self.objects.get(member), weight) for member, weight in found.members]
        return tuple(replace(part.hop, weight=w) for part, w in parts if part and part.hop)


def decode_nexthop(body: bytes) -> Nexthop | None:
    """RTM_NEWNEXTHOP."""
    _, _, _, flags = NEXTHOP.unpack_from(body)
    found = attributes(body, NEXTHOP.size)
    number = u32(found.get(NHA_ID))
    if NHA_GROUP in found:
        entries = MEMBER.iter_unpack(found[NHA_GROUP])
        members = tuple((member, low + (high << 8) + 1) for member, low, high in entries)
        return Nexthop(number, members=members)
    if NHA_OIF not in found or NHA_ENCAP in found:
        return Nexthop(number)  # a black hole, or a tunnel
    gateway = found.get(NHA_GATEWAY)
    onlink = bool(flags & RTNH_F_ONLINK)
    hop = Hop(u32(found[NHA_OIF]), address(gateway) if gateway else None, onlink=onlink)
    return Nexthop(number, hop)


# --- in routes -----------------------------------------------------------------------------------


def is_by_number_alone(found: Found) -> bool:
    """Whether a route names a next-hop object, and not what that leads to."""
    return RTA_NH_ID in found and RTA_OIF not in found and RTA_MULTIPATH not in found


def read_hops(found: Found, flags: int, nexthops: Nexthops) -> tuple[Hop, ...]:
    """The next hops of a route with these attributes and flags; none where the model has no words.

    That is so for tunnels (RTA_ENCAP).
    """
    if RTA_MULTIPATH in found:
        each = list(_several(found[RTA_MULTIPATH]))
    elif RTA_OIF in found:
        each = [_hop(u32(found[RTA_OIF]), flags, 1, found)]
    else:
        each = list(nexthops.hops(u32(found.get(RTA_NH_ID))))
    hops = [hop for hop in each if hop is not None]
    return tuple(hops) if len(hops) == len(each) else ()


def links_of(found: Found) -> tuple[int, ...]:
    """The links of a route with several next hops, by ifindex; cheaper than the hops."""
    entries = _entries(found.get(RTA_MULTIPATH, b""))
    return tuple(dict.fromkeys(index for _, _, index, _ in entries))


def _entries(payload: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset + HOP.size <= len(payload):
        length, flags, more, index = HOP.unpack_from(payload, offset)
        if length < HOP.size:
            return
        yield flags, more + 1, index, payload[offset + HOP.size : offset + length]
        offset += (length + 3) & ~3


def _several(payload: bytes) -> Iterator[Hop | None]:
    for flags, weight, index, rest in _entries(payload):
        yield _hop(index, flags, weight, attributes(rest, 0))


def _hop(index: int, flags: int, weight: int, found: Found) -> Hop | None:
    if RTA_ENCAP in found:
        return None
    gateway, via = found.get(RTA_GATEWAY), found.get(RTA_VIA)
    gateway = via[VIA.size :] if via else gateway
    return Hop(index, address(gateway) if gateway else None, weight, bool(flags & RTNH_F_ONLINK))


def write_hops(hops: Iterable[Hop], family: Family) -> bytes:
    """RTA_MULTIPATH, for a route of this family; nothing without hops."""
    payload = b""
    for hop in hops:
        rest = write_gateway(hop.gateway, family)
        flags = RTNH_F_ONLINK if hop.onlink else 0
        payload += HOP.pack(HOP.size + len(rest), flags, hop.weight - 1, hop.oif) + rest
    return attribute(RTA_MULTIPATH, payload) if payload else b""


def write_gateway(gateway: IPAddress | None, family: Family) -> bytes:
    """RTA_GATEWAY, or RTA_VIA for one of the other family."""
    if gateway is None:
        return b""
    its = Family(gateway.version)
    if its is family:
        return attribute(RTA_GATEWAY, gateway.packed)
    return attribute(RTA_VIA, VIA.pack(ADDRESS_FAMILY[its]) + gateway.packed)
