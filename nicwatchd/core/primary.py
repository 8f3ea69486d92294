"""The primary interface while there are secondary ENIs: a table and rules of its own.

Main then has other ENIs' routes, too. Answers of the primary to hosts in their subnets, or all of
them after a DHCP client moved the default route, would leave by another ENI, and EC2 drops them. So
what the primary's addresses send has a table that mirrors main's routes through the primary, like
any ENI's. The link itself, its first address and main's routes stay its manager's.

Reads: the primary's addresses, main's routes through it, and what IMDS lists. Gives: the families
to protect, why others are not, and what is usable of a family.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from nicwatchd.core.evidence import Status, Usable, Verdict
from nicwatchd.core.kernel_proof import on_link_prefixes
from nicwatchd.core.lead import Lead
from nicwatchd.core.model import (
    PROTOCOL,
    SCOPE_UNIVERSE,
    Address,
    Family,
    IPAddress,
    Link,
    Reason,
    Route,
    Rule,
    ours,
)


@dataclass(frozen=True, slots=True)
class Protection:
    """The families of the primary that have a table and rules; why others have none.

    `has_pods`: the addresses that IMDS lists besides the first may be those of a container network.
    """

    families: frozenset[Family] = frozenset(Family)
    reasons: tuple[Reason, ...] = ()
    has_pods: bool = False


NO_PROTECTION: Final = Protection(frozenset())


class Protector:
    """Decides what to protect. What was begun goes on, whatever becomes of main's default route."""

    def __init__(self) -> None:
        self._begun: frozenset[Family] = frozenset()

    def end(self) -> None:
        """There is nothing to protect the primary from any more."""
        self._begun = frozenset()

    def decide(
        self, link: Link, lead: Lead, enis: AbstractSet[int], standing: AbstractSet[Family]
    ) -> Protection:
        """What to protect. `link` is the primary's.

        `standing`: the families in which rules of ours for the primary are there already, by an
        earlier run of the daemon.
        """
        if link.master:
            self.end()
            return Protection(frozenset(), (_is_port(link),))
        reasons: dict[Family, Reason] = {}
        for family in set(Family) - self._begun - standing:
            route = lead.defaults(family).elsewhere({link.index})
            if route and lead.is_chosen(route, enis):
                reasons[family] = _aside(family, link)
        self._begun = frozenset(Family) - reasons.keys()
        return Protection(self._begun, tuple(reasons[family] for family in sorted(reasons)))


def _aside(family: Family, link: Link) -> Reason:
    text = (
        f"main's default route for {family.label} did not leave by {link.name} before there was a "
        f"second ENI: somebody wants it so, and nicwatchd protects no {family.label} of the primary"
    )
    return Reason("primary-left", text)


def _is_port(link: Link) -> Reason:
    text = (
        f"{link.name} is a port of another link, which has its addresses and routes: nicwatchd "
        "protects nothing of the primary"
    )
    return Reason("primary-port", text)


def families_of(rules: tuple[Rule, ...], table: int) -> frozenset[Family]:
    """The families in which rules of ours lead to a table."""
    return frozenset(r.family for r in rules if r.table == table and r.protocol == PROTOCOL)


def usable(
    verdicts: Mapping[Family, Verdict],
    addresses: tuple[Address, ...],
    routes: tuple[Route, ...],
    protection: Protection,
) -> dict[Family, Usable]:
    """What of the primary may be programmed: what is on its link, and what IMDS lists.

    Its manager's addresses need no proof: they are there.
    """
    found = {}
    for family in sorted(protection.families):
        verdict = verdicts.get(family)
        if verdict is None or verdict.status is Status.OFF:
            continue
        said = verdict.usable
        there = [address for address in addresses if not ours(address)]
        own = tuple(_own(family, there))
        if protection.has_pods:  # IMDS tells only which of its own comes first
            firsts = tuple(ip for ip in said.addresses if ip in own)
            said = Usable(addresses=firsts, subnets=said.subnets)
        found[family] = Usable(
            addresses=tuple(dict.fromkeys((*said.addresses, *own))),
            prefixes=said.prefixes,
            subnets=tuple(
                dict.fromkeys((*said.subnets, *on_link_prefixes(family, tuple(there), routes)))
            ),
            listed=said.listed,
        )
    return found


def _own(family: Family, addresses: list[Address]) -> Iterator[IPAddress]:
    for address in addresses:
        usable = address.scope == SCOPE_UNIVERSE and not address.ip.is_link_local
        if address.family is family and usable and not address.from_ra:
            yield address.ip
