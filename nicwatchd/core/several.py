"""What is in some sets, each of which belongs to a link, and what is in more than one of them.

There are thousands of items on a host, mostly none is in two sets, and mostly one set has changed
since the last time: so the sets are followed, and what did not change costs nothing.

Reads: sets of items, by ifindex. Gives: all items, and those that several have.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from ipaddress import IPv4Network, IPv6Network

from nicwatchd.core.model import Item

NOTHING: frozenset[Item] = frozenset()


class Several:
    """Follows the sets of the links of one host."""

    def __init__(self) -> None:
        self._of: dict[int, AbstractSet[Item]] = {}
        self._times: dict[Item, int] = {}  # in how many of the sets
        self._shared: set[Item] = set()
        self._prefixes = 0

    @property
    def has_prefixes(self) -> bool:
        """Whether there is any network among the items."""
        return self._prefixes > 0

    @property
    def every(self) -> AbstractSet[Item]:
        """The items that are in any of the sets, as of the last `follow`; it changes with them."""
        return self._times.keys()

    def follow(self, sets: Mapping[int, AbstractSet[Item]]) -> AbstractSet[Item]:
        """The items that are in more than one of these sets, which are all that there are now."""
        for index in self._of.keys() - sets.keys():
            self._replace(index, NOTHING)
            del self._of[index]
        for index, items in sets.items():
            known = self._of.get(index, NOTHING)
            if items is not known and items != known:
                self._replace(index, items)
        return self._shared

    def _replace(self, index: int, items: AbstractSet[Item]) -> None:
        before = self._of.get(index, NOTHING)
        for item in before - items:
            self._count(item, -1)
        for item in items - before:
            self._count(item, 1)
        self._of[index] = items

    def _count(self, item: Item, more: int) -> None:
        times = self._times.get(item, 0) + more
        if times:
            self._times[item] = times
        else:
            del self._times[item]
        if times > 1:
            self._shared.add(item)
        else:
            self._shared.discard(item)
        if isinstance(item, IPv4Network | IPv6Network):
            self._prefixes += more
