"""Who carries the host's own traffic: a copy of a default route in main, while it is needed.

The primary does, or the ENI that the settings name. Main decides by its best default route, and
others write it. So nothing is written while the best one is where it should be; while another ENI's
ties with it or wins, main has a copy of ours with a better metric. The copy stays where main has no
other default route any more, since another ENI's replaced the leader's and then went with its link.

Reads: main's default routes, and the ENI that is to lead. Gives: our copies, and what is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

from nicwatchd.core.eni_routes import through
from nicwatchd.core.lead import Defaults, Lead
from nicwatchd.core.model import MAIN_TABLE, PROTOCOL, Family, Link, Reason, Route
from nicwatchd.core.remedies import DOCTOR

# The best metric of a default route of ours. IPv6 has no 0, and IPv4's 0 cannot be beaten.
FIRST: Final = {Family.V4: 0, Family.V6: 1}


@dataclass(frozen=True, slots=True)
class Leader:
    """The ENI that is to carry the host's own traffic. `named`: the settings name it.

    `links` are its own and those that stand on it, by ifindex: a bridge has the routes of its port.
    `routers` has, by family, a default route by the VPC's router, for when main has none by them
    any more. `enis` are the ENIs of the host. `alone`: we configure none but the primary.
    """

    link: Link
    links: AbstractSet[int]
    named: bool
    routers: Mapping[Family, Route]
    enis: AbstractSet[int]
    alone: bool = False

    @property
    def leads(self) -> bool:
        """Whether its link can carry anything."""
        return self.link.up and self.link.running

    def route(self, defaults: Defaults, family: Family) -> Route | None:
        """The default route by its links: main's, or the VPC router's."""
        mine = [route for route in defaults.routes if route.links & self.links]
        best = min(mine, key=lambda route: route.metric, default=None)
        return through(min(best.links & self.links), best) if best else self.routers.get(family)


@dataclass(frozen=True, slots=True)
class Egress:
    """Our default routes in main, and what is to be told about them."""

    routes: tuple[Route, ...] = ()
    notes: tuple[Reason, ...] = ()


def egress(leader: Leader, lead: Lead, standing: Mapping[Family, Route]) -> Egress:
    """What main needs so that the host's own traffic leaves by the leader.

    `standing`: the default routes of ours that main has already: this was decided before, perhaps
    by an earlier run of the daemon. The last way out is not taken away: where another ENI's default
    replaced the leader's and then went, ours stays until there is one again.
    """
    routes: list[Route] = []
    notes: list[Reason] = []
    for family in Family:
        found = _needed(leader, lead, family, stands=family in standing)
        if family in standing and not lead.defaults(family).routes:
            found = standing[family]
        if isinstance(found, Route):
            routes.append(found)
        elif found:
            notes.append(found)
    return Egress(tuple(routes), tuple(notes))


def _needed(leader: Leader, lead: Lead, family: Family, *, stands: bool) -> Route | Reason | None:
    defaults, link = lead.defaults(family), leader.link
    other = defaults.elsewhere(leader.links)
    if other is None or leader.alone or not leader.leads:
        return None
    by_others = not other.links <= leader.enis
    chosen = not (leader.named or stands) and lead.is_chosen(other, leader.enis)
    if by_others or chosen or other.metric <= FIRST[family]:
        return _left(family, link, other, leader.enis)
    route = leader.route(defaults, family)
    if route is None:
        return Reason("egress-without-router", _without_router(family, link))
    return replace(route, table=MAIN_TABLE, protocol=PROTOCOL, metric=other.metric - 1)


def _left(family: Family, link: Link, other: Route, enis: AbstractSet[int]) -> Reason:
    text = f"the host's own {family.label} traffic does not leave by {link.name}"
    remedy = ""
    if not other.links <= enis:
        why = "main's best default route leads through a link that is no ENI"
    elif other.metric <= FIRST[family]:
        why = f"main's default route by another ENI has the metric {other.metric}, the best one"
        remedy = DOCTOR  # it names the link, and how to give it another metric
    else:
        why = "main's best default route led through another link before"
    return Reason("egress-elsewhere", f"{text}: {why}, which nicwatchd leaves as it is", remedy)


def _without_router(family: Family, link: Link) -> str:
    return f"the host's own {family.label} traffic is to leave by {link.name}, but it has no router"
