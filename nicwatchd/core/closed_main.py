"""Where a default of main is an error: `unreachable`, `blackhole` or `prohibit`.

The look-up of a guard ignores main's default route, but an error that it meets ends it: the kernel
suppresses no errors. Then the ENI's own table is never asked. So there is no guard while main is
closed like that, only guards `to` each of the networks that main has besides: containers and VPNs.

An error behind a better default does no harm, for no look-up meets it. But an IPv4 look-up that is
bound to a link passes over the routes through other links, and meets it all the same.

An error route to some destination (`blackhole 10.0.0.0/8`) is a word about that destination, which
the guards honour. It closes main only if it is for all destinations, or nearly so: see `WIDE`.

Reads: main's routes of the families that have such a route, and the links that the guards hide.
Gives: for each ENI, the families that are closed to it, and what else main has there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Final

from nicwatchd.core.model import (
    ERRORS,
    THROW,
    UNICAST,
    Family,
    IPNetwork,
    Reason,
    Route,
    Rule,
    contains,
)

# Networks of main with a guard of their own: each costs a rule for each selector of each ENI.
NETWORKS_AT_MOST: Final = 16


@dataclass(frozen=True, slots=True)
class Closed:
    """How an error route closes main to one ENI and family.

    `by_device`: only look-ups that are bound to the ENI's link meet it. `networks` are what else
    main has, as far as there may be guards for it; `left_out` is the rest.
    """

    error: Route
    by_device: bool = False
    networks: tuple[IPNetwork, ...] = ()
    left_out: tuple[IPNetwork, ...] = ()

    def ends(self, guard: Rule) -> bool:
        """Whether the error would end the look-up of this guard."""
        return guard.oif is not None or not self.by_device

    def notes(self, family: Family) -> Iterator[Reason]:
        """What an operator should know of it."""
        dst = str(self.error.dst) if self.error.dst.prefixlen else "default"
        what = f"main has `{ERRORS[self.error.kind]} {dst}` for {family.label}"
        if not self.by_device:
            count = len(self.networks)
            text = f"{what}: what this interface's addresses send ignores it, and of main uses only"
            yield Reason("main-closed", f"{text} {count} other network{'' if count == 1 else 's'}")
        if self.left_out:
            more = f" and {len(self.left_out) - 1} more" if len(self.left_out) > 1 else ""
            text = f"{what} and more than {NETWORKS_AT_MOST} other networks: what this interface's"
            yield Reason(
                "networks-left-out",
                f"{text} addresses send to {self.left_out[0]}{more} leaves by the interface",
            )


class ClosedMain:
    """What closes main on one host, as of one decision.

    `routes` has main's routes of each family with a wide error route. `hidden` are the links whose
    routes the guards hide. `prefixes` are the ENIs' delegated prefixes: one guard serves all the
    containers that have addresses of one.
    """

    def __init__(
        self,
        routes: Mapping[Family, Sequence[Route]],
        hidden: AbstractSet[int] = frozenset(),
        prefixes: AbstractSet[IPNetwork] = frozenset(),
    ) -> None:
        self._wide = {f: [r for r in main if r.is_wide] for f, main in routes.items()}
        self._networks = {
            family: self._find_networks(family, main, hidden, prefixes)
            for family, main in routes.items()
        }

    def of(self, index: int) -> dict[Family, Closed]:
        """The families that are closed to the ENI with this ifindex."""
        found = {family: self._closed(family, index) for family in self._wide}
        return {family: closed for family, closed in found.items() if closed}

    def _closed(self, family: Family, index: int) -> Closed | None:
        always = self._met(family, None)
        bound = self._met(family, index) if family is Family.V4 else []
        error = next(iter((*always, *bound)), None)
        if error is None:
            return None
        networks = self._networks[family]
        few, rest = networks[:NETWORKS_AT_MOST], networks[NETWORKS_AT_MOST:]
        return Closed(error, not always, tuple(few), tuple(rest))

    def _met(self, family: Family, index: int | None) -> list[Route]:
        """The errors that a look-up meets, if it is bound to this link (None: to none)."""
        wide = self._wide[family]
        ways = [r for r in wide if r.kind not in ERRORS and _is_for(r, index)]
        errors = (route for route in wide if route.kind in ERRORS)
        return [error for error in errors if not any(_is_better(way, error) for way in ways)]

    def _find_networks(
        self,
        family: Family,
        main: Sequence[Route],
        hidden: AbstractSet[int],
        prefixes: AbstractSet[IPNetwork],
    ) -> list[IPNetwork]:
        """What main has besides, the largest first; parts of others and neighbours as one."""
        closing = {error.dst for error in self._met(family, None)}
        found = {
            next((prefix for prefix in prefixes if contains(prefix, route.dst)), route.dst)
            for route in main
            if _is_of_use(route, hidden) and route.dst not in closing
        }
        return sorted(_collapsed(found), key=lambda network: network.prefixlen)


def _is_for(route: Route, index: int | None) -> bool:
    """Whether a look-up takes this route that is bound to the link. A throw route has no link."""
    return index is None or route.kind == THROW or index in route.links


def _is_better(way: Route, error: Route) -> bool:
    same = way.dst == error.dst and way.tos == error.tos
    return same and way.metric < error.metric


def _is_of_use(route: Route, hidden: AbstractSet[int]) -> bool:
    """Whether a guard would let this route of main decide."""
    dst = route.dst
    if not dst.prefixlen or dst.is_link_local or dst.is_loopback or dst.is_multicast:
        return False
    if route.kind == UNICAST:
        return not route.links <= hidden
    return route.kind in ERRORS and not route.is_wide


def _collapsed(networks: AbstractSet[IPNetwork]) -> list[IPNetwork]:
    """In order, the networks that cover these and nothing else."""
    v4 = [network for network in networks if isinstance(network, IPv4Network)]
    v6 = [network for network in networks if isinstance(network, IPv6Network)]
    return [*collapse_addresses(v4), *collapse_addresses(v6)]
