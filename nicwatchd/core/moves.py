"""An address or a prefix belongs to one ENI at a time: to which, when it moves between two.

IMDS does not change the lists of both ENIs at one moment. The old one keeps what it has until its
own list lacks it; then there is no doubt left, for the other one's list says where it went. What
an ENI "has" is read from the kernel, so a restart in the middle of a move decides no other way.

Reads: what ties items to each ENI, and the rules that there are. Gives: whose each item is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from nicwatchd.core.model import PROTOCOL, Address, Family, IPAddress, Item, Rule, ours


@dataclass(frozen=True, slots=True)
class Claims:
    """What ties items to one ENI. `unread` are families of which IMDS gave no lists so far."""

    index: int
    listed: frozenset[Item] = frozenset()  # the last reading has them
    doubted: frozenset[Item] = frozenset()  # only an earlier one had them
    leased: frozenset[Item] = frozenset()  # DHCP brought them
    added: frozenset[Item] = frozenset()  # we did, to the link
    unread: frozenset[Family] = frozenset()

    @property
    def items(self) -> frozenset[Item]:
        """All of them."""
        return self.listed | self.doubted | self.leased | self.added


def programmed(
    index: int,
    addresses: Iterable[Address],
    rules: Iterable[Rule],
    owners: Callable[[int], AbstractSet[int]],
    sources: AbstractSet[IPAddress] = frozenset(),
) -> tuple[Item, ...]:
    """What one ENI was given by IMDS's lists in an earlier life, as the kernel still shows it.

    Leases are left out: they speak for themselves. `sources` are those that our routes prefer,
    which is the ENI's first address; they come first.
    """
    ruled = _ruled(rules, lambda table: owners(table) & {index})
    ips = [a.ip for a in addresses if ours(a) or (not a.dynamic and a.ip in ruled)]
    ips.sort(key=lambda ip: ip not in sources)
    return (*ips, *(item for item in ruled if isinstance(item, IPv4Network | IPv6Network)))


def rightful_owners(
    claims: Iterable[Claims], rules: Iterable[Rule], owners: Callable[[int], AbstractSet[int]]
) -> dict[Item, int]:
    """Which ENI (by ifindex) owns each of the items that several have to do with."""
    by_index = {one.index: one for one in claims}
    ruled = _ruled(rules, owners)
    of: dict[Item, list[Claims]] = {}
    for one in by_index.values():
        for item in one.items:
            of.setdefault(item, []).append(one)
    for item, index in ruled.items():
        if index in by_index and item not in by_index[index].items:
            of.setdefault(item, []).append(by_index[index])
    found = {item: _owner(item, several, ruled) for item, several in of.items() if several[1:]}
    return {item: index for item, index in found.items() if index is not None}


def _ruled(rules: Iterable[Rule], owners: Callable[[int], AbstractSet[int]]) -> dict[Item, int]:
    """To whose table our rules for addresses and prefixes lead; of equal ones the first wins."""
    found: dict[Item, int] = {}
    for rule in rules:
        src = rule.src
        if rule.protocol == PROTOCOL and src and not rule.iif:
            for index in owners(rule.table):  # a guard's table is nobody's
                item = src.network_address if src.prefixlen == src.max_prefixlen else src
                found.setdefault(item, index)
    return found


def _owner(item: Item, claims: Sequence[Claims], ruled: Mapping[Item, int]) -> int | None:
    """Of those that list it, and those that had it and were not read yet: who had it before."""
    ruler = ruled.get(item)
    had = [one for one in claims if ruler == one.index]
    had += [one for one in claims if item in one.leased | one.added and one not in had]
    unread = [one for one in had if Family(item.version) in one.unread]
    listing = [one for one in claims if item in one.listed]
    leased = [one for one in listing if item in one.leased]
    if len(leased) == 1:  # EC2's DHCP server gives an address to nobody but its ENI
        return leased[0].index
    candidates = [*unread, *listing] or [one for one in claims if item in one.doubted]
    return next((one.index for one in [*had, *candidates] if one in candidates), None)
