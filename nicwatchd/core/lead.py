"""Which link leads the host's own traffic, and whether an operator wants it so.

What no socket binds to an address or a link leaves by main's best default route. A DHCP client or a
router advertisement on a new ENI brings another one, which can tie with the primary's or win. That
is nobody's choice. A default route by a link that is no ENI is one: a VPN's, a bridge's. So is
whatever wins beside it, where it led before there was a second ENI.

Reads: main's default routes, in each decision. Gives: the best of them, and whose choice they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from nicwatchd.core.model import PROTOCOL, RTPROT_DHCP, RTPROT_RA, Family, Route


@dataclass(frozen=True, slots=True)
class Defaults:
    """The default routes of one family that others have in main."""

    routes: tuple[Route, ...]

    @property
    def best(self) -> tuple[Route, ...]:
        """Those with the best metric: several tie."""
        first = min((route.metric for route in self.routes), default=0)
        return tuple(route for route in self.routes if route.metric == first)

    def elsewhere(self, links: AbstractSet[int]) -> Route | None:
        """One of the best ones that leads through a link beside these."""
        return next((route for route in self.best if not route.links <= links), None)


def leads(routes: Sequence[Route], links: AbstractSet[int]) -> dict[Family, bool]:
    """Whether main's best default route leaves by these links alone, ours included.

    A family without a default route is missing.
    """
    found = {family: Defaults(tuple(r for r in routes if r.family is family)) for family in Family}
    return {f: each.elsewhere(links) is None for f, each in found.items() if each.routes}


class Lead:
    """Main's default routes, and by which link they led while there was no ENI but the primary."""

    def __init__(self) -> None:
        self._of: dict[Family, Defaults] = {family: Defaults(()) for family in Family}
        # By which links that are not the primary's. Missing: never seen.
        self._led: dict[Family, frozenset[int]] = {}

    def look(
        self, routes: Sequence[Route], primary: AbstractSet[int], enis: AbstractSet[int]
    ) -> None:
        """Take main's default routes. `primary`: its link, if known, and what stands on it."""
        others = [route for route in routes if route.protocol != PROTOCOL]
        for family in Family:
            defaults = Defaults(tuple(r for r in others if r.family is family))
            self._of[family] = defaults
            if primary and not enis - primary:
                elsewhere = defaults.elsewhere(primary)
                self._led[family] = elsewhere.links - primary if elsewhere else frozenset()

    def defaults(self, family: Family) -> Defaults:
        """The default routes of a family."""
        return self._of[family]

    def is_chosen(self, route: Route, enis: AbstractSet[int]) -> bool:
        """Whether an operator wants this default route, which is not the primary's, to win."""
        if not route.links <= enis:
            return True
        led = self._led.get(route.family)
        if led is None:  # there were several ENIs from the beginning
            return route.protocol not in (RTPROT_DHCP, RTPROT_RA)
        return any(other.links & led for other in self._of[route.family].routes)
