"""Which ENI owns an address or a prefix that moves between two: it belongs to one at a time.

IMDS does not change the lists of both ENIs at the same moment. The old ENI keeps an item until its
own list lacks it; then there is no doubt, because the list of the other shows where the item went.
What an ENI "has" is read from the kernel, so a restart in the middle of a move changes no decision.

In two VPCs, ENIs may have the same address for good. An address lies in one subnet of a VPC, so
different subnet ids tell it. Then both keep it, but only one has the rule for it.

Reads: the claims of each ENI to items, and the rules in the kernel. Gives: the owner of each item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from nicwatchd.core.model import PROTOCOL, Address, Family, Item, Rule, ours


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of one ENI to items. `unread` are families whose lists IMDS has not given yet."""

    index: int
    listed: frozenset[Item] = frozenset()  # the last reading had them
    doubted: frozenset[Item] = frozenset()  # only an earlier one had them
    leased: frozenset[Item] = frozenset()  # DHCP configured them
    added: frozenset[Item] = frozenset()  # we added them to the link
    unread: frozenset[Family] = frozenset()
    subnet_id: str | None = None  # where IMDS has told it

    @property
    def items(self) -> frozenset[Item]:
        """All items that the ENI has any claim to."""
        return self.listed | self.doubted | self.leased | self.added


def programmed(
    index: int,
    addresses: Iterable[Address],
    rules: Iterable[Rule],
    owners: Callable[[int], AbstractSet[int]],
) -> tuple[Item, ...]:
    """What an earlier run programmed for one ENI from IMDS's lists, as the kernel still shows.

    Leases are left out: they are evidence by themselves.
    """
    ruled = _ruled(rules, lambda table: owners(table) & {index})
    ips = [a.ip for a in addresses if ours(a) or (not a.dynamic and a.ip in ruled)]
    return (*ips, *(item for item in ruled if isinstance(item, IPv4Network | IPv6Network)))


def rightful_owners(
    claims: Iterable[Claims], rules: Iterable[Rule], owners: Callable[[int], AbstractSet[int]]
) -> dict[Item, int]:
    """Which ENI (by ifindex) owns each of the items that several have a claim to."""
    by_index = {one.index: one for one in claims}
    ruled = _ruled(rules, owners)
    of: dict[Item, list[Claims]] = {}
    for one in by_index.values():
        for item in one.items:
            of.setdefault(item, []).append(one)
    for item, index in ruled.items():
        if index in by_index and item not in by_index[index].items:
            of.setdefault(item, []).append(by_index[index])
    found = {
        item: _owner(item, several, ruled)
        for item, several in of.items()
        if several[1:] and not _are_apart(item, several)
    }
    return {item: index for item, index in found.items() if index is not None}


def _are_apart(item: Item, claims: Sequence[Claims]) -> bool:
    """Whether each of these ENIs is in another VPC than all others.

    After a restart it is not known yet: then what each has in the kernel stays.
    """
    told = [one.subnet_id for one in claims if one.subnet_id is not None]
    if len(set(told)) < len(told):
        return False
    untold = [one for one in claims if one.subnet_id is None]
    unread = all(Family(item.version) in one.unread for one in untold)
    return not untold or (unread and all(item in one.added | one.leased for one in claims))


def first_come(
    items: Mapping[int, Iterable[Item]],
    rules: Iterable[Rule],
    owners: Callable[[int], AbstractSet[int]],
) -> dict[int, dict[Item, int]]:
    """For each ENI, by ifindex: of its items, those that another has, too, and has the rule for.

    That is the one that has it in the kernel, else the one with the lowest ifindex.
    """
    having: dict[Item, list[int]] = {}
    for index in sorted(items):
        for item in items[index]:
            having.setdefault(item, []).append(index)
    twice = {item: several for item, several in having.items() if several[1:]}
    ruled = _ruled(rules, owners) if twice else {}
    found: dict[int, dict[Item, int]] = {}
    for item, several in twice.items():
        first = ruled[item] if ruled.get(item) in several else several[0]
        for index in several:
            if index != first:
                found.setdefault(index, {})[item] = first
    return found


def _ruled(rules: Iterable[Rule], owners: Callable[[int], AbstractSet[int]]) -> dict[Item, int]:
    """To which ENI's table our rules send each address and prefix; the first rule counts."""
    found: dict[Item, int] = {}
    for rule in rules:
        src = rule.src
        if rule.protocol == PROTOCOL and src and not rule.iif:
            for index in owners(rule.table):  # a guard's table is nobody's
                item = src.network_address if src.prefixlen == src.max_prefixlen else src
                found.setdefault(item, index)
    return found


def _owner(item: Item, claims: Sequence[Claims], ruled: Mapping[Item, int]) -> int | None:
    """Of the ENIs that list the item, or had it and are unread: preferably one that had it."""
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
