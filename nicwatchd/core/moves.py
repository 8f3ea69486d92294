"""Which ENI has an address or a prefix: it belongs to one at a time, and to one link of the host.

IMDS does not change the lists of both ENIs at the same moment. The old ENI keeps an item until its
own list lacks it; then there is no doubt, because the list of the other shows where the item went.
What an ENI "has" is read from the kernel, so a restart in the middle of a move changes no decision.

A claim has an age: what IMDS lists now on one ENI is not held back by what it once listed on
another, nor by an ENI that cannot use it (no carrier, released, the older link of one MAC).

Items are compared by overlap. A prefix never holds an address that another link has or that IMDS
lists on another ENI: a rule for the prefix would take that link's own packets. But `lo`, and what
leads to containers, may have addresses because the host uses the prefix: then their packets are to
leave by its ENI.

In two VPCs, ENIs may have the same address for good. An address lies in one subnet of a VPC, so
different subnet ids tell it. Then both keep it, but only one has the rule for it. What merely
overlaps is treated as in one VPC.

Reads: the claims of each link to items, and the rules in the kernel. Gives: what each link has to
leave to others, and to whom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from nicwatchd.core.kept import Kept, KeptOf
from nicwatchd.core.model import PROTOCOL, Address, Family, IPAddress, IPNetwork, Item, Rule, ours
from nicwatchd.core.several import NOTHING, Several


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of one link to items. `unread` are families whose lists IMDS has not given yet.

    `own` are the addresses that others put on the link, leases among them. `keeps` are those of
    them that stay the link's own whatever IMDS lists elsewhere: of the primary, and of what is no
    ENI of ours. `yields`: what IMDS lists elsewhere counts for more than all that is claimed here.
    `subnet_id` is None until IMDS has told it. What the link has is not elsewhere for the ENIs that
    it `stands_on`, by ifindex: a bridge has the addresses of its port. `networks` has, of a link
    that is no NIC, the length of each own address's network.
    """

    index: int
    listed: frozenset[Item] = frozenset()  # the last reading had them
    doubted: frozenset[Item] = frozenset()  # only an earlier one had them
    leased: frozenset[Item] = frozenset()  # DHCP configured them
    added: frozenset[Item] = frozenset()  # we added them to the link
    unread: frozenset[Family] = frozenset()
    own: frozenset[IPAddress] = frozenset()
    keeps: frozenset[IPAddress] = frozenset()
    yields: bool = False
    subnet_id: str | None = None
    stands_on: frozenset[int] = frozenset()
    networks: Mapping[Item, int] = field(default_factory=dict)

    def uses(self, item: Item, prefix: IPNetwork) -> bool:
        """Whether the link has an address because this host uses the prefix around it.

        So do `lo`, and a bridge to containers, where the network of the address is all inside.
        """
        return self.networks.get(item, -1) >= prefix.prefixlen

    @property
    def items(self) -> frozenset[Item]:
        """All items that the ENI has any claim to by IMDS, DHCP or our doing."""
        return self.listed | self.doubted | self.leased | self.added

    def holds(self, ip: IPAddress, ruled: Mapping[Item, int]) -> bool:
        """Whether no prefix of another ENI may hold this address."""
        if ip in self.keeps:
            return True
        if self.yields:
            return False
        had = ip in self.added or ruled.get(ip) == self.index
        return ip in self.own or ip in self.listed or (had and Family(ip.version) in self.unread)


@dataclass(frozen=True, slots=True)
class Held:
    """Where an item is instead: on the link with this index, which has `by`, or a part of it."""

    index: int
    by: Item
    its_own: bool = False  # others put it there; else IMDS assigned it


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Where an item is instead, for people: on the link of this name, which has `by`.

    `because` says why this link yields, if that is why.
    """

    name: str
    by: Item
    its_own: bool = False
    because: str = ""


def programmed(
    index: int,
    addresses: Iterable[Address],
    rules: Iterable[Rule],
    owners: Callable[[int], AbstractSet[int]],
    beside: AbstractSet[IPAddress] = frozenset(),
) -> tuple[Item, ...]:
    """What an earlier run programmed for one ENI from IMDS's lists, as the kernel still shows.

    Leases are left out: they are evidence by themselves. `beside` are the addresses on links that
    are no ENIs, where those of an ENI may be.
    """
    its = ruled(rules, lambda table: owners(table) & {index})
    ips = [a.ip for a in addresses if ours(a) or (not a.dynamic and a.ip in its)]
    return (*ips, *(item for item in its if isinstance(item, NETWORKS) or item in beside))


class Followed:
    """What is kept of one host from one time to the next: most links and rules do not change."""

    def __init__(self) -> None:
        self.several = Several()
        self.had: Kept[dict[int, frozenset[Item]]] = Kept()
        self._items: KeptOf[int, tuple[frozenset[Item], frozenset[Item]]] = KeptOf()  # by ifindex

    def items(
        self, of: Mapping[int, Claims], had: Mapping[int, frozenset[Item]]
    ) -> Mapping[int, tuple[frozenset[Item], frozenset[Item]]]:
        """The items that each link has a claim to; and with what rules of ours are for."""
        self._items.keep_only(of)
        return {index: self._items_of(one, had.get(index, NOTHING)) for index, one in of.items()}

    def _items_of(
        self, one: Claims, had: frozenset[Item]
    ) -> tuple[frozenset[Item], frozenset[Item]]:
        basis = (one.listed, one.doubted, one.leased, one.added, had)
        return self._items.get(one.index, basis, lambda: (one.items, one.items | had))


def held_elsewhere(
    claims: Iterable[Claims], ruled: Mapping[Item, int], followed: Followed | None = None
) -> dict[int, dict[Item, Held]]:
    """For each link, by ifindex: the items that it has to leave to others. `ruled`: see there."""
    followed = followed or Followed()
    of = {one.index: one for one in claims}
    found: dict[int, dict[Item, Held]] = {index: {} for index in of}
    had = followed.had.get((ruled,), lambda: _by_ruler(ruled))
    items = followed.items(of, had)
    for item, index in _owners(of, ruled, items, followed.several).items():
        for other in found.keys() - {index}:
            found[other][item] = Held(index, item)
    for index, item, held in _overlaps(of, ruled) if followed.several.has_prefixes else ():
        known = found[index].get(item)
        if known is None or (known.by != item and str(held.by) < str(known.by)):
            found[index][item] = held  # the same one of several each time, for people
    keepers = _keepers(of.values())
    kept = frozenset(keepers)  # sets know the hashes of what is in them
    for index, one in of.items() if kept else ():
        for ip in (kept & items[index][1]) | (kept & found[index].keys()):
            if ip in one.keeps:
                found[index].pop(ip, None)
                continue
            for keeper in keepers[ip]:
                if index not in keeper.stands_on and not _are_apart(ip, (keeper, one)):
                    found[index][ip] = Held(keeper.index, ip, its_own=True)
    return found


def _keepers(claims: Iterable[Claims]) -> dict[IPAddress, list[Claims]]:
    """By address, those that keep it."""
    found: dict[IPAddress, list[Claims]] = {}
    for one in claims:
        for ip in one.keeps:
            found.setdefault(ip, []).append(one)
    return found


def rightful_owners(
    claims: Iterable[Claims], rules: Iterable[Rule], owners: Callable[[int], AbstractSet[int]]
) -> dict[Item, int]:
    """Which ENI (by ifindex) owns each of the items that several have a claim to."""
    to = ruled(rules, owners)
    of = {one.index: one for one in claims}
    return _owners(of, to, Followed().items(of, _by_ruler(to)), Several())


def _owners(
    of: Mapping[int, Claims],
    ruled: Mapping[Item, int],
    items: Mapping[int, tuple[AbstractSet[Item], AbstractSet[Item]]],
    several: Several,
) -> dict[Item, int]:
    """Who owns what several have; `items` are as of `Followed`."""
    found = {}
    for item in several.follow({index: every for index, (_, every) in items.items()}):
        theirs = [of[i] for i in of if item in items[i][0]]
        theirs += [of[i] for i in of if item in items[i][1] and item not in items[i][0]]
        if not _are_apart(item, theirs):
            found[item] = _owner(item, theirs, ruled)
    return {item: index for item, index in found.items() if index is not None}


def _by_ruler(ruled: Mapping[Item, int]) -> dict[int, frozenset[Item]]:
    """The items that are ruled, by the ENI."""
    found: dict[int, list[Item]] = {}
    for item, index in ruled.items():
        found.setdefault(index, []).append(item)
    return {index: frozenset(items) for index, items in found.items()}


def _are_apart(item: Item, claims: Sequence[Claims]) -> bool:
    """Whether each of these ENIs is in another VPC than all others.

    After a restart it is not known yet: then what each has in the kernel stays.
    """
    told = [one.subnet_id for one in claims if one.subnet_id is not None]
    if len(set(told)) < len(told):
        return False
    untold = [one for one in claims if one.subnet_id is None]
    unread = all(Family(item.version) in one.unread for one in untold)
    return not untold or (unread and all(item in one.added | one.own for one in claims))


def first_come(
    items: Mapping[int, AbstractSet[Item]],
    ruled: Mapping[Item, int],
    without_rules: AbstractSet[int] = frozenset(),
    several: Several | None = None,
) -> dict[int, dict[Item, int]]:
    """For each ENI, by ifindex: of its items, those that another has, too, and has the rule for.

    That is the one that has it in the kernel, else the one with the lowest ifindex. ENIs
    `without_rules` of ours, like the primary, come first: a rule would take what they send.
    `several` follows the items of one host from one time to the next.
    """
    found: dict[int, dict[Item, int]] = {}
    for item in (several or Several()).follow(items):
        theirs = sorted(index for index, its in items.items() if item in its)
        first = ruled[item] if ruled.get(item) in theirs else theirs[0]
        first = next((index for index in theirs if index in without_rules), first)
        for index in theirs:
            if index != first and index not in without_rules:
                found.setdefault(index, {})[item] = first
    return found


def ruled(rules: Iterable[Rule], owners: Callable[[int], AbstractSet[int]]) -> dict[Item, int]:
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
    """Of the ENIs that list the item, or had it and are unread: preferably one that had it.

    Those that yield come into question only where no other does; and what only an earlier reading
    had, where nobody lists it.
    """
    ruler = ruled.get(item)
    had = [one for one in claims if ruler == one.index]
    had += [one for one in claims if item in one.leased | one.added and one not in had]
    candidates: list[Claims] = []
    for some in ([one for one in claims if not one.yields], claims):
        unread = [one for one in some if one in had and Family(item.version) in one.unread]
        listing = [one for one in some if item in one.listed]
        leased = [one for one in listing if item in one.leased]
        if len(leased) == 1:  # EC2's DHCP server gives an address to nobody but its ENI
            return leased[0].index
        candidates = [*sorted(unread, key=had.index), *listing]
        if candidates:
            break
    candidates = candidates or [one for one in claims if item in one.doubted]
    return next((one.index for one in [*had, *candidates] if one in candidates), None)


# --- overlap -------------------------------------------------------------------------------------

NETWORKS: Final = (IPv4Network, IPv6Network)
Having = Mapping[Item, Mapping[int, Claims]]  # who has to do with each item, by ifindex


def _overlaps(
    of: Mapping[int, Claims], ruled: Mapping[Item, int]
) -> Iterator[tuple[int, Item, Held]]:
    """Of items that overlap on two links: who has to leave which, and to whom.

    The work grows with the number of items, and there is none without a prefix: not to be asked.
    """
    having = _having(of, ruled)
    around = Around(item for item in having if isinstance(item, NETWORKS))
    for item, inner in having.items():
        for prefix in around.find(item):
            for one in inner.values():
                for other in having[prefix].values():
                    if one is other or other.index in one.stands_on or one.uses(item, prefix):
                        continue
                    yield from _loser(item, one, prefix, other, ruled)


def _having(of: Mapping[int, Claims], ruled: Mapping[Item, int]) -> Having:
    having: dict[Item, dict[int, Claims]] = {}
    for index, one in of.items():
        for item in (*one.items, *one.own):
            having.setdefault(item, {})[index] = one
    for item, index in ruled.items():
        if index in of:
            having.setdefault(item, {})[index] = of[index]
    return having


class Around:
    """Finds the prefixes that an item lies in."""

    def __init__(self, prefixes: Iterable[IPNetwork]) -> None:
        self._by_length: dict[tuple[int, int], dict[int, IPNetwork]] = {}
        for prefix in prefixes:
            same = self._by_length.setdefault((prefix.version, prefix.prefixlen), {})
            same[int(prefix.network_address)] = prefix

    def find(self, item: Item) -> Iterator[IPNetwork]:
        """The prefixes that are wider than the item and hold it."""
        bits: int = item.max_prefixlen
        if isinstance(item, IPv4Address | IPv6Address):
            number = int(item)
        else:
            number, bits = int(item.network_address), item.prefixlen
        for (version, length), prefixes in self._by_length.items():
            if version == item.version and length < bits:
                below = item.max_prefixlen - length
                prefix = prefixes.get(number >> below << below)
                if prefix is not None:
                    yield prefix


def _loser(
    item: Item, one: Claims, prefix: IPNetwork, other: Claims, ruled: Mapping[Item, int]
) -> Iterator[tuple[int, Item, Held]]:
    """Which of two has to leave its own; neither, where nobody is listed who could have it.

    As with equal items, who yields comes into question where no other does: what IMDS lists there
    counts for more than what only an earlier reading had.
    """
    wins, loses = _outcome(item, one, prefix, other, ruled)
    if not (wins or loses) and (one.yields or other.yields):
        firm = (replace(one, yields=False), replace(other, yields=False))
        wins, loses = _outcome(item, firm[0], prefix, firm[1], ruled)
    if wins:
        its_own = item in one.own and item not in one.listed
        yield other.index, prefix, Held(one.index, item, its_own=its_own)
    elif loses:
        yield one.index, item, Held(other.index, prefix)


def _outcome(
    item: Item, one: Claims, prefix: IPNetwork, other: Claims, ruled: Mapping[Item, int]
) -> tuple[bool, bool]:
    """Whether `one` wins with its item, and whether it loses it to the prefix around it."""
    if isinstance(item, IPv4Address | IPv6Address):
        wins = one.holds(item, ruled)
        return wins, not wins and _lists(other, prefix)
    ranks = [(_lists(c, i), ruled.get(i) == c.index) for c, i in ((one, item), (other, prefix))]
    wins = ranks[0] >= ranks[1] and ranks[0][0]
    return wins, not wins and ranks[1][0]


def _lists(one: Claims, item: Item) -> bool:
    return item in one.listed and not one.yields
