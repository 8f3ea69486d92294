"""What stands beside an ENI on its host: other links in its subnets, and ways that avoid its rules.

Reads: what of each ENI matters here, what stands on them, the addresses of all other links, all
rules. Gives: the subnets that are an ENI's alone, and those that its packets reach by its own
table only.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from math import inf

from nicwatchd.core.model import (
    LOCAL_TABLE,
    PROTOCOL,
    TO_TABLE,
    Address,
    Family,
    IPAddress,
    IPNetwork,
    Numbers,
    Rule,
)
from nicwatchd.core.moves import Around
from nicwatchd.core.ownership import SHARED_TABLES
from nicwatchd.core.stack import Stack


class Places:
    """Where the links of one host are: the subnets of its ENIs, and the addresses of all links.

    They are followed from one decision to the next: mostly one link has changed.
    """

    def __init__(self) -> None:
        self._basis: tuple[object, ...] | None = None
        self._on: dict[int, tuple[Address, ...]] = {}  # by ifindex
        self._addresses: list[tuple[int, int, int]] = []

    def follow(
        self,
        subnets: Mapping[int, tuple[IPNetwork, ...]],
        addresses: Mapping[int, tuple[Address, ...]],
    ) -> None:
        """These are all that there are now; both by ifindex."""
        if self._basis == (subnets, addresses):
            return
        self._basis = (subnets, addresses)
        self._take_addresses(addresses)
        self._networks = sorted(
            (*_place(subnet.network_address), i) for i, of in subnets.items() for subnet in of
        )
        self._whose: dict[IPNetwork, set[int]] = {}
        for index, of in subnets.items():
            for subnet in of:
                self._whose.setdefault(subnet, set()).add(index)
        self._wider = Around(self._whose)
        self._shared: dict[tuple[IPNetwork, int], bool] = {}

    def _take_addresses(self, addresses: Mapping[int, tuple[Address, ...]]) -> None:
        changed = {i for i, on in addresses.items() if on is not self._on.get(i)}
        gone = changed | (self._on.keys() - addresses.keys())
        left = [place for place in self._addresses if place[2] not in gone]
        self._addresses = sorted(
            (*left, *((*_place(a.ip), i) for i in changed for a in addresses[i]))
        )
        self._on = dict(addresses)

    def is_shared(self, subnet: IPNetwork, index: int) -> bool:
        """Whether another link has an address in a subnet of an ENI, or a subnet that overlaps."""
        key = (subnet, index)
        if key not in self._shared:
            inside = (*self._within(self._networks, subnet), *self._within(self._addresses, subnet))
            # Two networks overlap where one holds the other.
            around = (i for wider in self._wider.find(subnet) for i in self._whose[wider])
            self._shared[key] = any(i != index for i in (*inside, *around))
        return self._shared[key]

    @staticmethod
    def _within(places: Sequence[tuple[int, int, int]], subnet: IPNetwork) -> Iterator[int]:
        first = bisect_left(places, _place(subnet.network_address))
        last = bisect_right(places, (*_place(subnet.broadcast_address), inf))
        return (index for *_, index in places[first:last])


class Standing:
    """What the rules in the kernel say of the ENIs' networks. `priority` is that of our rules."""

    def __init__(self, rules: tuple[Rule, ...], priority: int) -> None:
        # The subnets that rules of ours select as a whole, and those to which they make a detour,
        # each by the table that they lead to.
        self.whole: dict[int, set[IPNetwork]] = {}
        self.detours: dict[int, dict[IPNetwork, None]] = {}
        for rule in rules:
            if rule.protocol != PROTOCOL:
                continue
            if rule.iif == "lo" and rule.src is not None:
                self.whole.setdefault(rule.table, set()).add(rule.src)
            if rule.dst is not None and rule.table not in SHARED_TABLES:
                self.detours.setdefault(rule.table, {})[rule.dst] = None
        before = {rule.family for rule in rules if _is_local_first(rule, priority)}
        # The families whose table of local addresses is looked up after our rules (VRF hosts).
        self.behind_local = frozenset({rule.family for rule in rules} - before)


def _is_local_first(rule: Rule, priority: int) -> bool:
    if rule.table != LOCAL_TABLE or rule.action != TO_TABLE or rule.priority >= priority:
        return False
    selects = (rule.src, rule.dst, rule.iif, rule.oif, rule.fwmark)
    return not (rule.inverted or rule.exotic or any(each is not None for each in selects))


class Neighbourhood:
    """The interfaces of one host beside each other, and what stands on them, as of one decision.

    `others` are the addresses of links that are no interfaces, by ifindex. `standing` is of the
    rules in the kernel. `told` are subnets that were known of an ENI before, in this run of the
    daemon. `places`: as of the last decision.
    """

    def __init__(
        self,
        stack: Stack,
        others: Mapping[int, tuple[Address, ...]],
        standing: Standing,
        numbers: Numbers,
        told: AbstractSet[IPNetwork] = frozenset(),
        places: Places | None = None,
    ) -> None:
        self.stack = stack
        self._earlier = told
        self._standing = standing
        self._numbers = numbers
        self._subnets = {index: each.subnets for index, each in stack.ground.items()}
        on = {**others, **{index: each.addresses for index, each in stack.ground.items()}}
        self._places = places or Places()
        self._places.follow(self._subnets, on)

    def alone(self, index: int) -> frozenset[IPNetwork]:
        """The subnets of an ENI in which no other link has an address or an overlapping subnet."""
        mine = self._subnets[index]
        return frozenset(subnet for subnet in mine if not self._places.is_shared(subnet, index))

    def standing(self, index: int) -> frozenset[IPNetwork]:
        """The subnets of an ENI that rules of ours select as a whole now."""
        return frozenset(self._standing.whole.get(self._numbers.table_of(index), ()))

    def detours(
        self, index: int, everywhere: AbstractSet[Family] = frozenset()
    ) -> tuple[IPNetwork, ...]:
        """The subnets whose on-link routes in main no guard hides.

        Those are of other ENIs whose link is not in our group, and of any ENI, by a link on top of
        one that is not; and all of the families in `everywhere`, as if no link were in it. While an
        ENI's subnets are not known yet, what rules of ours say of it from before still holds.
        """
        others = self._subnets if everywhere else self._shown
        known = (
            subnet
            for other in others
            if other != index
            for subnet in (*self._subnets[other], *self._left_open(other))
            if other not in self.hidden or Family(subnet.version) in everywhere
        )
        exposed = self.stack.exposed(everywhere)
        return tuple(dict.fromkeys((*known, *exposed, *self._from_before(index))))

    @cached_property
    def _shown(self) -> list[int]:
        """The ENIs whose routes in main no guard hides."""
        return [index for index in self._subnets if index not in self.hidden]

    def _from_before(self, index: int) -> Iterator[IPNetwork]:
        """The detours that stand since an earlier run, of families not fully known.

        One to a subnet that this run knows, or knew, was made for that ENI. And none was made for
        an ENI that is in our group.
        """
        standing = self._standing.detours.get(self._numbers.table_of(index))
        if not standing:
            return  # nearly always
        ground = self.stack.ground
        unknown = {f for i, f in self.stack.unknown if i != index and not ground[i].joined}
        fresh = (subnet for subnet in standing if subnet not in self.told)
        yield from (subnet for subnet in fresh if Family(subnet.version) in unknown)

    @cached_property
    def told(self) -> frozenset[IPNetwork]:
        """The subnets that are known now of any ENI, and those from before that still matter."""
        standing = {subnet for of in self._standing.detours.values() for subnet in of}
        now = (subnet for subnets in self._subnets.values() for subnet in subnets)
        return frozenset(now) | (self._earlier & standing)

    def _left_open(self, index: int) -> tuple[IPNetwork, ...]:
        """The networks on an interface that no guard hides, whoever made main's routes there."""
        if index in self.hidden:
            return ()
        routes = self.stack.ground[index].routes
        on_link = (route.dst for route in routes if route.is_on_link)
        usable = (dst for dst in on_link if 0 < dst.prefixlen < dst.max_prefixlen)
        return tuple(dst for dst in usable if not dst.is_link_local)

    @cached_property
    def hidden(self) -> set[int]:
        """The interfaces whose routes in main the guards hide."""
        return {
            index
            for index, each in self.stack.ground.items()
            if each.grouped or (not each.managed and self.stack.hides(index))
        }

    @property
    def behind_local(self) -> frozenset[Family]:
        """The families whose table of local addresses is looked up after our rules (VRF hosts)."""
        return self._standing.behind_local


def _place(ip: IPAddress) -> tuple[int, int]:
    """Where an address stands among all of both families."""
    return ip.version, int(ip)
