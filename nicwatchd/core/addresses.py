"""Addresses and networks: one object for all that are equal, which knows its hash and its text.

The standard library computes both anew each time, in Python, and a host of 64 ENIs has 6,400
addresses in sets, in rules and in what is told. With one object for all that are equal, sets and
dictionaries find it by identity, which takes no Python at all. Two that differ are compared by
their texts: `::1:0:0:0:a` and `::2:0:0:0:2` have the same hash, as have all whose halves go like
that, so that the addresses of ENIs, numbered one by one in subnet after subnet, meet all the time.

Reads: the bytes of an address, or an object of the standard library. Gives: one that is equal to
it, a subclass's, with the same hash.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, cast

from nicwatchd.core.model import Family, IPAddress, IPNetwork, Item

IPV4_BYTES: Final = 4
# Each of several hundred bytes, and a host may have any number of foreign routes. What is not
# remembered any more is made anew, and equal.
AT_MOST: Final = 16384


class _Known:
    """What is computed once."""

    __slots__ = ()
    _hash: int
    _text: str

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash = super().__hash__()  # type: ignore[misc]  # a slot, see below
            return self._hash

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return super().__eq__(other)
        return self is other or str(self) == str(other)

    def __repr__(self) -> str:
        return super().__repr__().removeprefix("_")  # as the library's

    def __str__(self) -> str:
        try:
            return self._text
        except AttributeError:
            self._text = super().__str__()  # type: ignore[misc]  # a slot, see below
            return self._text


class _IPv4Address(_Known, IPv4Address):
    __slots__ = ("_hash", "_text")


class _IPv6Address(_Known, IPv6Address):
    __slots__ = ("_hash", "_text")


class _IPv4Network(_Known, IPv4Network):
    pass


class _IPv6Network(_Known, IPv6Network):
    pass


@lru_cache(AT_MOST)
def address(packed: bytes) -> IPAddress:
    """An address from its 4 or 16 bytes."""
    return _IPv4Address(packed) if len(packed) == IPV4_BYTES else _IPv6Address(packed)


@lru_cache(AT_MOST)
def network(family: Family, packed: bytes | None, prefixlen: int) -> IPNetwork:
    """A network; without bytes, the network of all addresses. Host bits are cleared."""
    make = _IPv4Network if family is Family.V4 else _IPv6Network
    found = make((packed or 0, prefixlen), strict=False)
    found.network_address = cast("Any", address(found.network_address.packed))
    return found


def as_network(item: Item) -> IPNetwork:
    """An address as the network that is it alone; a network as it is."""
    if isinstance(item, IPv4Address | IPv6Address):
        return network(Family(item.version), item.packed, item.max_prefixlen)
    return item


def known_address(ip: IPAddress) -> IPAddress:
    """The one object for this address."""
    return address(ip.packed)


def known_network(its: IPNetwork) -> IPNetwork:
    """The one object for this network."""
    return network(Family(its.version), its.network_address.packed, its.prefixlen)
