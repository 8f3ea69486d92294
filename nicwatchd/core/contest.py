"""What each interface has to leave to other links of the host, and why.

Reads: all interfaces with their treatment, the addresses of the other links, the rules in the
kernel. Gives: the items that are elsewhere, for each interface; it tells the interfaces itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from nicwatchd.core.earlier import Settled
from nicwatchd.core.facts import own_addresses
from nicwatchd.core.homes import addresses_housed
from nicwatchd.core.interface import Interface
from nicwatchd.core.model import Address, Family, Item, Link
from nicwatchd.core.moves import Claims, Elsewhere, first_come, held_elsewhere
from nicwatchd.core.treatment import Managed, Primary, Released, Unmanaged


@dataclass(frozen=True)
class Contest:
    """The links that have something to do with addresses. `foreign` are those that are not ENIs.

    `beneath` has the ENIs that each of them stands on. `ruled` is as of `moves.ruled`, `networks`
    as of `homes.networks_beyond_nics`; `links` are all links.
    """

    interfaces: Mapping[int, Interface]
    foreign: Mapping[int, tuple[Address, ...]]
    beneath: Mapping[int, frozenset[int]]
    ruled: Mapping[Item, int]
    links: Mapping[int, Link]
    networks: Mapping[int, Mapping[Item, int]] = field(default_factory=dict)
    settled: Settled = field(default_factory=Settled)

    def settle(self, now: float) -> None:
        """Tell each interface what others have; whoever has something in a move is polled."""
        basis = (*self._of_each, self.foreign, self.beneath, self.ruled, self.links)
        if basis != self.settled.moves:
            self._settle(now)
            self.settled.moves = basis

    @property
    def _of_each(self) -> Iterator[object]:
        """What of each interface its claims are drawn from."""
        for index, i in self.interfaces.items():
            yield (index, i.facts.claims, i.facts.seen, i.link, i.treatment, i.is_polled)

    def _settle(self, now: float) -> None:
        found = held_elsewhere(self._claims(), self.ruled, self.settled.followed)
        rivals = {held.index for items in found.values() for held in items.values()}
        for index, interface in self.interfaces.items():
            interface.facts.contested = index in rivals
            because = self._why_it_yields(interface)
            items = {
                item: Elsewhere(
                    self._name_of(held.index),
                    held.by,
                    its_own=held.its_own,
                    because=because,
                )
                for item, held in found[index].items()
            }
            for item in interface.facts.leave(items):
                rival = self.interfaces.get(found[index][item].index)
                if rival:
                    rival.hint(now)

    def taken(self) -> dict[int, dict[Item, int]]:
        """What ENIs of several VPCs have: for each, the items that another has the rule for.

        It is to be asked when all are judged.
        """
        judged = ((i.verdicts, i.is_protected) for i in self.interfaces.values())
        basis = (*self._of_each, *judged, self.ruled)
        return self.settled.taken.get(basis, self._taken)

    def _taken(self) -> dict[int, dict[Item, int]]:
        self.settled.items.keep_only(self.interfaces)
        items = {index: self._items_of(interface) for index, interface in self.interfaces.items()}
        others = {
            index
            for index, interface in self.interfaces.items()
            if not isinstance(interface.treatment, Managed)
        }
        return first_come(items, self.ruled, others, self.settled.usable)

    def _items_of(self, interface: Interface) -> frozenset[Item]:
        """What rules of ours are for, or would take from it."""
        is_managed = isinstance(interface.treatment, Managed)
        keeps: frozenset[Item] = frozenset()
        if not is_managed:
            keeps = self._claims_of(interface).keeps
        ruled = is_managed or interface.is_protected
        usable = tuple(verdict.usable for verdict in interface.verdicts.values()) if ruled else ()
        return self.settled.items.get(
            interface.link.index,
            (keeps, usable),
            lambda: keeps.union(*(each.items for each in usable)),
        )

    def _name_of(self, index: int) -> str:
        return self.links[index].name if index in self.links else f"link {index}"

    def _claims(self) -> Iterator[Claims]:
        for interface in self.interfaces.values():
            yield self._claims_of(interface)
        for index, addresses in self.foreign.items():
            if index not in self.interfaces:
                own = own_addresses(addresses)
                below = self.beneath.get(index, frozenset())
                networks = self.networks.get(index, {})
                # One that the host has for itself alone is an ENI's all the same: see `Homes`.
                keeps = own - addresses_housed({index: networks}).keys()
                yield Claims(index, own=own, keeps=keeps, stands_on=below, networks=networks)

    def _claims_of(self, interface: Interface) -> Claims:
        """The claims of one interface: what others put on it is its own where it is not ours.

        The primary keeps that whatever IMDS lists; an ENI that we leave alone, unless IMDS was read
        and does not list it there.
        """
        claims = interface.facts.claims
        if not interface.is_polled:
            return Claims(claims.index, own=claims.own, keeps=claims.own)
        match interface.treatment:
            case Primary():
                claims = replace(claims, keeps=claims.own)
            case Released() | Unmanaged():
                said = (ip for ip in claims.own if ip in claims.listed)
                unread = (ip for ip in claims.own if Family(ip.version) in claims.unread)
                claims = replace(claims, keeps=frozenset((*said, *unread)))
            case Managed():
                pass
        yields = bool(self._why_it_yields(interface))
        return replace(claims, yields=True) if yields else claims

    def _why_it_yields(self, interface: Interface) -> str:
        """Why what IMDS lists on another ENI counts for more than all that it lists here."""
        if isinstance(interface.treatment, Released):
            return "was released"
        if not interface.link.running:
            return "has no carrier"
        if _seen(interface) < self._latest[interface.link.mac]:
            return "is the older of two links with one MAC"
        return ""

    @cached_property
    def _latest(self) -> dict[str, tuple[float, int]]:
        """By MAC, the link that stands for the ENI: the later of those with a carrier."""
        found: dict[str, tuple[float, int]] = {}
        for interface in self.interfaces.values():
            if interface.link.running:
                mac = interface.link.mac
                found[mac] = max(found.get(mac, _seen(interface)), _seen(interface))
        return found


def _seen(interface: Interface) -> tuple[float, int]:
    """When a link came; of two that came together, the later number."""
    return interface.facts.seen, interface.link.index
