"""Where an address of an ENI lives, if not on the ENI's link.

That is in a container or a VM of this host, on a link that stands on the ENI (a macvlan, say), or
on `lo` or another link that is no NIC, for a service of the host.

An address on a link is in the table `local`, which is looked up before every rule. So an address
that a container has must not be on the ENI's link: the host would take the container's packets.

Reads: the addresses of an ENI, main's host routes to them, the addresses of links on top of it and
of links that are no NICs, all rules. Gives: for each address that lives elsewhere on the host, how
we know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import Final, TypeAlias

from nicwatchd.core.facts import Facts, Home, own_addresses
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    TO_TABLE,
    Address,
    Family,
    IPAddress,
    IPNetwork,
    Item,
    Link,
    Rule,
    ours,
)
from nicwatchd.core.treatment import is_nic

# What links have, with the ifindices of these.
Holders: TypeAlias = Mapping[Item, frozenset[int]]
NOBODY: Final[frozenset[int]] = frozenset()
VRF: Final = "vrf"  # a link's kind


class Homes:
    """The homes of addresses, as of one decision.

    `routes` has the links through which main has a host route to an address; `enis` are the links
    that are ENIs, by ifindex. `name_of` gives a link's name. `above` is as of `addresses_above`,
    `housed` as of `addresses_housed`. `unready` are addresses that their link cannot use (yet).
    """

    def __init__(
        self,
        routes: Mapping[IPAddress, AbstractSet[int]],
        rules: Iterable[Rule],
        enis: AbstractSet[int],
        name_of: Callable[[int], str | None],
        above: Mapping[int, Holders] | None = None,
        housed: Holders | None = None,
        unready: AbstractSet[IPAddress] = frozenset(),
    ) -> None:
        self._routes = routes
        self._enis = enis
        self._name_of = name_of
        self._above = above or {}
        self._housed = housed or {}
        self._unready = unready
        self._to: dict[IPAddress, list[Rule]] = {}
        self._from: dict[IPAddress, list[Rule]] = {}
        for rule in rules:
            if rule.protocol == PROTOCOL or rule.action != TO_TABLE or rule.inverted:
                continue
            if to := _host(rule.dst):
                self._to.setdefault(to, []).append(rule)
            elif _is_plain_source(rule) and (source := _host(rule.src)):
                self._from.setdefault(source, []).append(rule)

    def of(self, facts: Facts) -> dict[IPAddress, Home]:
        """The ENI's addresses that live elsewhere on the host."""
        above = self._above.get(facts.link.index, {})
        if not (self._routes or self._to or self._from or above or self._housed):
            return {}  # nearly always
        here = {address.ip for address in facts.addresses if not ours(address)}
        firsts = {facts.first_address(family) for family in Family}
        found = {}
        for ip in facts.candidates:
            holders = self._housed.get(ip, NOBODY) | above.get(ip, NOBODY)
            if sign := self._by_route(ip, holders):
                found[ip] = Home(sign)
            elif ip not in here:  # else it lives here, whatever rules name it
                sign = self._by_rule(ip, is_first=ip in firsts)
                if holders:
                    is_usable = not sign and ip not in self._unready
                    found[ip] = Home(self._by_link(ip, holders), is_usable=is_usable)
                elif sign:
                    found[ip] = Home(sign)
        return found

    def _by_link(self, ip: IPAddress, holders: AbstractSet[int]) -> str:
        names = ", ".join(sorted(self._name(index) for index in holders))
        verb = "has it" if len(holders) == 1 else "have it"
        return f"{names} {verb}" if ip in self._housed else f"{names} on top of it {verb}"

    def _by_route(self, ip: IPAddress, holders: AbstractSet[int]) -> str:
        """By a route to it through another link than those that have it: IPv6 makes one to each."""
        away = self._routes.get(ip, frozenset()) - self._enis - holders
        names = sorted(self._name(index) for index in away)
        return f"main has a route to it through {', '.join(names)}" if names else ""

    def _name(self, index: int) -> str:
        return self._name_of(index) or f"link {index}"

    def _by_rule(self, ip: IPAddress, *, is_first: bool) -> str:
        """By whoever leads what is for it, or what comes from it, to another table.

        Many a guide makes both rules with one table, to answer by a second interface; and then the
        address is the host's. So is an ENI's first address, unless it is led away.
        """
        sources = self._from.get(ip, ())
        pairs = {rule.table for rule in sources}
        for rule in self._to.get(ip, ()):
            if rule.table not in pairs:
                return _names(rule, "to")
        towards = {rule.table for rule in self._to.get(ip, ())}
        for rule in sources:
            if not is_first and rule.table not in towards:
                return _names(rule, "from")
        return ""


def addresses_above(
    beneath: Mapping[int, AbstractSet[int]], foreign: Mapping[int, Iterable[Address]]
) -> Mapping[int, Holders]:
    """For each ENI, the addresses of the links that stand on it, with these; all by ifindex.

    `beneath` has the ENIs that a link stands on, `foreign` the addresses of links that are no ENIs.
    """
    found: dict[int, dict[Item, frozenset[int]]] = {}
    for index, enis in beneath.items():
        for ip in own_addresses(foreign.get(index, ())):
            for eni in enis:
                on_it = found.setdefault(eni, {})
                on_it[ip] = on_it.get(ip, NOBODY) | {index}
    return found


def networks_beyond_nics(
    links: Mapping[int, Link],
    on_nics: AbstractSet[int],
    foreign: Mapping[int, Iterable[Address]],
) -> dict[int, dict[Item, int]]:
    """The addresses on links that are no NICs and stand on none; the length of each's network.

    `on_nics` are the links that do; `foreign` is as of `addresses_above`. The addresses of a VRF
    are in a table of its own, where what comes in by an ENI does not find them.
    """
    found: dict[int, dict[Item, int]] = {}
    for index, addresses in foreign.items():
        link = links.get(index)
        if link and index not in on_nics and not (is_nic(link) or _is_of_vrf(link, links)):
            own = own_addresses(addresses)
            every = sorted(addresses, key=attrgetter("prefixlen"), reverse=True)
            # Of one that is there with several, the widest is the last.
            found[index] = {each.ip: each.prefixlen for each in every if each.ip in own}
    return found


def addresses_housed(networks: Mapping[int, Mapping[Item, int]]) -> Holders:
    """Those of `networks_beyond_nics` that are without a network, each with its links."""
    found: dict[Item, frozenset[int]] = {}
    for index, lengths in networks.items():
        for ip, length in lengths.items():
            if length == ip.max_prefixlen:
                found[ip] = found.get(ip, NOBODY) | {index}
    return found


def _is_of_vrf(link: Link, links: Mapping[int, Link]) -> bool:
    master = links.get(link.master) if link.master else None
    return VRF in (link.kind, master.kind if master else None)


def _names(rule: Rule, word: str) -> str:
    table = "main" if rule.table == MAIN_TABLE else str(rule.table)
    return f"a rule at priority {rule.priority} has `{word}` it look up table {table}"


def _host(network: IPNetwork | None) -> IPAddress | None:
    if network is None or network.prefixlen != network.max_prefixlen:
        return None
    return network.network_address


def _is_plain_source(rule: Rule) -> bool:
    """Whether a rule leads all that comes from its source to a table of its own."""
    selects = (rule.dst, rule.iif, rule.oif, rule.fwmark)
    suppresses = (rule.suppress_prefixlength, rule.suppress_ifgroup)
    plain = not rule.exotic and all(each is None for each in (*selects, *suppresses))
    return plain and rule.table != MAIN_TABLE
