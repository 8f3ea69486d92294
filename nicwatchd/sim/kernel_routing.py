"""The routes and rules of the in-memory kernel, and how it answers each change to them."""

from __future__ import annotations

from dataclasses import replace
from errno import (
    EACCES,
    EEXIST,
    EHOSTUNREACH,
    EINVAL,
    ENETDOWN,
    ENETUNREACH,
    ENODEV,
    ENOENT,
    ESRCH,
)
from typing import TYPE_CHECKING, Final

from nicwatchd.core.model import (
    ERRORS,
    IPV6_DEFAULT_METRIC,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_KERNEL,
    SCOPE_UNIVERSE,
    TABLE_BASE,
    UNICAST,
    Address,
    Family,
    Hop,
    Link,
    Route,
    Rule,
)
from nicwatchd.core.port import Event, RouteEvent, RuleEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from nicwatchd.core.model import IPAddress

LOCAL_TABLE: Final = 255
DEFAULT_TABLE: Final = 253
V6_CONNECTED_METRIC: Final = 256
FIRST_RULES: Final = (
    Rule(Family.V4, 0, LOCAL_TABLE, RTPROT_KERNEL),
    Rule(Family.V4, 32766, MAIN_TABLE, RTPROT_KERNEL),
    Rule(Family.V4, 32767, DEFAULT_TABLE, RTPROT_KERNEL),
    Rule(Family.V6, 0, LOCAL_TABLE, RTPROT_KERNEL),
    Rule(Family.V6, 32766, MAIN_TABLE, RTPROT_KERNEL),
)


def lacks_ipv6(link: Link) -> bool:
    """Whether the kernel refuses anything of IPv6 on a link."""
    return link.disable_ipv6 or not link.has_ipv6


class Routing:
    """The routes and rules of one network namespace, with the links and addresses they need."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self.links = {1: Link(1, "00:00:00:00:00:00", "lo", up=True)}
        self.addresses: list[Address] = []
        self.routes: list[Route] = []
        self.rules: list[Rule] = list(FIRST_RULES)
        self._emit = emit
        self.heeds: Callable[[Route], bool] = lambda _: False  # whether events tell of a route

    # --- routes --------------------------------------------------------------------------------

    def add_route(
        self, route: Route, pid: int, *, replacing: bool = False, beside: bool = False
    ) -> int:
        """Add a route; with the same key as another, replace that or stand behind it.

        Of IPv6 routes that tie the kernel makes one with several next hops, unless it learned them
        from router advertisements itself. Here they stay two.
        """
        if route.family is Family.V6:
            route = replace(route, metric=route.metric or IPV6_DEFAULT_METRIC, scope=SCOPE_UNIVERSE)
        errno = self._acceptable(route) if route.kind == UNICAST else 0
        if errno:
            return errno
        key = route.key
        for position, known in enumerate(self.routes):
            if known.key == key and not (beside and known != route):
                if not replacing:
                    return EEXIST
                self.routes[position] = route
                break
        else:
            self.routes.append(route)
        self._report(route, deleted=False, pid=pid)
        return 0

    def _acceptable(self, route: Route) -> int:
        local = {address.ip for address in self.addresses}
        hops = route.hops or (Hop(route.oif, route.gateway, onlink=route.onlink),)
        errnos = [self._leads_on(hop, route) for hop in hops]
        if route.prefsrc is not None and route.prefsrc not in local and not any(errnos):
            return EINVAL
        return next((errno for errno in errnos if errno), 0)

    def _leads_on(self, hop: Hop, route: Route) -> int:
        link, gateway = self.links.get(hop.oif), hop.gateway
        if link is None:
            return ENODEV
        if not link.up:
            return ENETDOWN
        if route.family is Family.V6 and lacks_ipv6(link):
            return EACCES
        on_link = gateway is None or hop.onlink or gateway.is_link_local
        if on_link or (gateway and self._on_link(gateway, hop, route.table)):
            return 0
        return ENETUNREACH if route.family is Family.V4 else EHOSTUNREACH

    def _on_link(self, gateway: IPAddress, hop: Hop, table: int) -> bool:
        """Whether the gateway is on-link, by the route's own table or main."""
        return any(
            known.oif == hop.oif
            and known.table in (table, MAIN_TABLE)
            and known.is_on_link
            and gateway in known.dst
            for known in self.routes
        )

    def remove_route(self, route: Route, pid: int) -> int:
        """Remove the first route that matches. A field that is not given matches any value."""
        for known in self.routes:
            wanted = replace(
                route,
                metric=route.metric or known.metric,
                gateway=route.gateway or known.gateway,
                prefsrc=route.prefsrc or known.prefsrc,
                onlink=known.onlink,
                metrics=route.metrics or known.metrics,
                hops=route.hops or known.hops,
            )
            if known == wanted:
                self.routes.remove(known)
                self._report(known, deleted=True, pid=pid)
                return 0
        return ESRCH

    def _report(self, route: Route, *, deleted: bool, pid: int) -> None:
        ours = route.protocol == PROTOCOL
        alone = route.dst.prefixlen == route.dst.max_prefixlen
        in_main = route.table == MAIN_TABLE
        wide = route.is_wide and route.table != LOCAL_TABLE
        heeded = route.table != LOCAL_TABLE and self.heeds(route)
        if ours or in_main or wide or heeded or route.table >= TABLE_BASE:
            culprit = f"port id {pid}" if ours and deleted else ""
            self._emit(
                RouteEvent(
                    route.family,
                    route.table,
                    route.protocol,
                    0 if route.hops else route.oif,
                    deleted,
                    pid,
                    culprit,
                    tuple(dict.fromkeys(hop.oif for hop in route.hops)),
                    host=route.dst.network_address if in_main and alone else None,
                    wide=wide,
                    error=in_main and wide and route.kind in ERRORS,
                    heeded=heeded,
                )
            )

    # --- rules ---------------------------------------------------------------------------------

    def add_rule(self, rule: Rule, pid: int, *, exclusive: bool) -> int:
        """Add a rule, after those with the same priority."""
        if rule.fwmark and rule.fwmask is None:
            rule = replace(rule, fwmask=0xFFFFFFFF)
        if exclusive and rule in self.rules:
            return EEXIST
        self.rules.append(rule)
        self.rules.sort(key=lambda known: (known.family, known.priority))  # stable
        self._emit(RuleEvent(rule.family, rule.priority, rule.protocol, pid=pid))
        return 0

    def remove_rule(self, rule: Rule, pid: int) -> int:
        """Remove the first rule that matches. A selector that is not given matches any value."""
        for known in self.rules:
            if all(
                value is None or value == getattr(known, name)
                for name, value in ((name, getattr(rule, name)) for name in Rule.__slots__)
            ):
                self.rules.remove(known)
                culprit = f"port id {pid}" if known.protocol == PROTOCOL else ""
                self._emit(
                    RuleEvent(
                        known.family,
                        known.priority,
                        known.protocol,
                        deleted=True,
                        pid=pid,
                        culprit=culprit,
                    )
                )
                return 0
        return ENOENT
