"""What stands on the ENIs of a host: which link group each such link is to be in.

A bridge, bond, VLAN or the like may have an ENI's addresses and main's routes into its subnet. The
packets of *other* ENIs must not take these routes, so such a link joins the group of the ENIs. Then
the guards hide the routes, and what the kernel learned of the path (packet-too-big) with them.

Reads: what of each ENI matters to its neighbours; all links; addresses of those that stand on ENIs,
and main's routes through them. Gives: link groups, and the networks that need rules of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from nicwatchd.core.layers import beneath, layers
from nicwatchd.core.model import (
    DEFAULT_GROUP,
    Address,
    Family,
    IPNetwork,
    Link,
    Plan,
    Reason,
    Route,
    SetGroup,
    contains,
)

# Networks of containers and VMs; each costs a rule for each selector of each ENI.
KEPT_AT_MOST: Final = 16


@dataclass(frozen=True, slots=True)
class Ground:
    """What of an ENI matters to other links of the host, and to those that stand on it.

    `active`: neither released nor excluded. `unknown`: the families whose subnets IMDS will tell,
    but did not yet. `routes` are the main table's through the ENI itself. `grouped`: it is in our
    link group, or comes into it with this decision; `joined`: it is in it. `managed`: ours, or the
    primary.
    """

    active: bool = True
    managed: bool = True
    grouped: bool = False
    joined: bool = False
    subnets: tuple[IPNetwork, ...] = ()
    unknown: frozenset[Family] = frozenset()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Layer:
    """A link that may stand on ENIs. `enis` are those beneath it; none: it stands on none now."""

    link: Link
    enis: frozenset[int] = frozenset()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()  # the main table's, through this link


class Above:
    """The links that may stand on ENIs, as they were last read, with what is on them."""

    def __init__(self) -> None:
        self.layers: Mapping[int, Link] = {}  # by ifindex
        self.beneath: Mapping[int, frozenset[int]] = {}  # the ENIs beneath those that do
        self._on: dict[int, tuple[tuple[Address, ...], tuple[Route, ...]]] = {}

    def update(self, links: Mapping[int, Link], enis: AbstractSet[int]) -> None:
        """Take all links of the host. `enis` are those that are ENIs, by ifindex."""
        self.layers, self.beneath = layers(links.values(), enis), beneath(links, enis)
        self._on = {index: on for index, on in self._on.items() if index in self.beneath}

    def take(self, index: int, addresses: tuple[Address, ...], routes: tuple[Route, ...]) -> None:
        """Take what is on a link, and main's routes through it."""
        if index in self.beneath:
            self._on[index] = (addresses, routes)

    def on_top_of(self, enis: AbstractSet[int]) -> frozenset[int]:
        """The links that stand on any of these ENIs, by ifindex."""
        return frozenset(index for index, below in self.beneath.items() if below & enis)

    @property
    def on_layers(self) -> Mapping[int, tuple[tuple[Address, ...], tuple[Route, ...]]]:
        """What is on each link that stands on an ENI; a value of its own."""
        return dict(self._on)

    def stack(self, ground: Mapping[int, Ground], groups: frozenset[int], *, joins: bool) -> Stack:
        """What stands on the ENIs, or stood on one and is still in a group of ours."""
        none: tuple[tuple[Address, ...], tuple[Route, ...]] = ((), ())
        found = (
            Layer(link, self.beneath.get(index, frozenset()), *self._on.get(index, none))
            for index, link in self.layers.items()
            if index in self.beneath or link.group in groups
        )
        return Stack(ground, found, groups, joins=joins)


class Stack:
    """All links that may stand on ENIs. `groups` are our link groups, former ones too."""

    def __init__(
        self,
        ground: Mapping[int, Ground] | None = None,
        layers: Iterable[Layer] = (),
        groups: AbstractSet[int] = frozenset(),
        *,
        joins: bool = True,
    ) -> None:
        """`ground`: the ENIs, by ifindex. `joins`: without it, only releases change groups."""
        self.ground = ground or {}
        self._layers = {layer.link.index: layer for layer in layers}
        self._groups = groups
        self._may_join = joins

    @property
    def basis(self) -> tuple[object, ...]:
        """What the groups, the remarks, and what is `kept` and `exposed` are drawn from."""
        if not self._layers:
            return ()  # nearly always
        return self._layers, self._groups, self._may_join, self.ground

    # --- groups ------------------------------------------------------------------------------

    def carrier(self, index: int) -> int | None:
        """The ENI in whose plan the group of a link is; None: it stands on no ENI."""
        layer = self._layers.get(index)
        return min(self._active(layer) or layer.enis, default=None) if layer else None

    def groups_on(self, eni: int, group: int) -> tuple[SetGroup, ...]:
        """The groups of the links that stand on an ENI and are in its plan."""
        mine = (layer for index, layer in self._layers.items() if self.carrier(index) == eni)
        return tuple(self._groups_of(mine, group))

    def group_of(self, index: int) -> int | None:
        """The group that a link is in now."""
        layer = self._layers.get(index)
        return layer.link.group if layer else None

    def orphans(self, group: int) -> tuple[Plan, ...]:
        """The plans of links that stood on an ENI and do not any more."""
        layers = self._layers.values() if self._may_join else ()
        left = [layer for layer in layers if not layer.enis]
        return tuple(Plan(each.index, group=each.group) for each in self._groups_of(left, group))

    def _groups_of(self, layers: Iterable[Layer], group: int) -> Iterator[SetGroup]:
        for layer in layers:
            wanted = self._group(layer, group)
            if wanted is not None:
                yield SetGroup(layer.link.index, wanted)

    def _group(self, layer: Layer, group: int) -> int | None:
        """The group that a link is to be in; None leaves it."""
        ours = {group, *self._groups}
        given_back = DEFAULT_GROUP if layer.link.group in ours else None
        if self._is_foreign(layer):
            return None
        if not self._active(layer):
            return given_back
        if self._may_join and self._has_to_do_with_enis(layer):
            return group
        return None if self.unknown or not self._may_join else given_back

    def _is_foreign(self, layer: Layer) -> bool:
        """Whether somebody else put it into a group."""
        return layer.link.group not in {DEFAULT_GROUP, *self._groups}

    def _active(self, layer: Layer) -> frozenset[int]:
        """The ENIs beneath, without those that we leave alone altogether."""
        return frozenset(index for index in layer.enis if self.ground[index].active)

    @cached_property
    def unknown(self) -> frozenset[tuple[int, Family]]:
        """The families of ENIs whose subnets IMDS will tell, but did not yet."""
        return frozenset((i, family) for i, of in self.ground.items() for family in of.unknown)

    # --- what is on the links ----------------------------------------------------------------

    @cached_property
    def _subnets(self) -> tuple[IPNetwork, ...]:
        """The subnets of all ENIs."""
        found = (subnet for each in self.ground.values() for subnet in each.subnets)
        return tuple(dict.fromkeys(found))

    def _has_to_do_with_enis(self, layer: Layer) -> bool:
        """Whether it has an address in an ENI's subnet, or main leads there by it."""
        has_address = any(a.ip in subnet for a in layer.addresses for subnet in self._subnets)
        return has_address or bool(self._reached(layer))

    def _reached(self, layer: Layer) -> list[IPNetwork]:
        """The ENIs' subnets into which main has an on-link route through the link."""
        on_link = _on_link(layer)
        return [s for s in self._subnets if any(dst.overlaps(s) for dst in on_link)]

    @cached_property
    def _concerned(self) -> tuple[Layer, ...]:
        """The links that are to be in the group, whoever chose the one they are in."""
        layers = self._layers.values()
        return tuple(x for x in layers if self._active(x) and self._has_to_do_with_enis(x))

    def exposed(self, everywhere: AbstractSet[Family]) -> tuple[IPNetwork, ...]:
        """The subnets to which main has a way that no guard hides, by a link that stands on an ENI.

        Of the families in `everywhere`: as if no guard hid any.
        """
        return tuple(
            dict.fromkeys(
                subnet
                for layer in self._concerned
                for subnet in self._reached(layer)
                if self._is_foreign(layer) or Family(subnet.version) in everywhere
            )
        )

    def hides(self, eni: int) -> bool:
        """Whether main reaches an ENI's subnets by links on top of it alone, and guards hide them.

        That is so for a port of a bridge.
        """
        mine = [layer for layer in self._concerned if eni in layer.enis]
        covered = bool(mine) and not any(self._is_foreign(layer) for layer in mine)
        return covered and not self.ground[eni].routes

    @cached_property
    def kept(self) -> tuple[IPNetwork, ...]:
        """The networks of containers and VMs to which main leads by links in the group.

        Guards would hide them. What holds a whole subnet of an ENI's is the VPC.
        """
        found: dict[IPNetwork, None] = {}
        for layer in self._concerned:
            own = {address.ip for address in layer.addresses}
            for dst in _on_link(layer):
                is_own = dst.prefixlen == dst.max_prefixlen and dst.network_address in own
                if not is_own and not any(contains(dst, subnet) for subnet in self._subnets):
                    found.setdefault(dst)
        return tuple(sorted(found, key=_order)[:KEPT_AT_MOST])

    # --- what is told ------------------------------------------------------------------------

    def remarks(self, eni: int, group: int) -> tuple[Reason, ...]:
        """What is worth knowing about the links that stand on an ENI."""
        return tuple(
            Reason(
                "foreign-group",
                f"somebody else put {layer.link.name}, which stands on this link, into group "
                f"{layer.link.group}, so nicwatchd does not put it into {group}; packets from "
                f"other interfaces' addresses may take the main table's routes through it",
            )
            for layer in self._concerned
            if self._is_foreign(layer) and self.carrier(layer.link.index) == eni
        )


def _on_link(layer: Layer) -> list[IPNetwork]:
    """Where main leads through a link without a router."""
    return [
        route.dst
        for route in layer.routes
        if route.is_on_link and route.dst.prefixlen and not route.dst.is_link_local
    ]


def _order(network: IPNetwork) -> tuple[int, int, int]:
    """IPv4 first, narrow ones first."""
    return (network.version, -network.prefixlen, int(network.network_address))
