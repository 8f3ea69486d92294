"""The kernel's route lookup for a packet from the host: rules in order, the longest prefix wins."""

from __future__ import annotations

from errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH
from typing import TYPE_CHECKING, Final

from nicwatchd.core.model import BLACKHOLE, PROHIBIT, THROW, UNICAST, UNREACHABLE, Family
from nicwatchd.core.port import RouteAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nicwatchd.core.model import IPAddress, Link, Route, Rule
    from nicwatchd.sim.kernel_state import KernelState

TO_TABLE: Final = 1
# Rules that end the lookup; other actions (goto, nop) are skipped.
ERRORS: Final = {6: EINVAL, 7: ENETUNREACH, 8: EACCES}  # blackhole, unreachable, prohibit
ROUTE_ERRORS: Final = {BLACKHOLE: EINVAL, UNREACHABLE: EHOSTUNREACH, PROHIBIT: EACCES}


def lookup(state: KernelState, src: IPAddress, dst: IPAddress, oif: int) -> RouteAnswer | int:
    """The table that decides for an unmarked packet; an errno if none does."""
    link, family = state.links.get(oif), Family(dst.version)
    for rule in state.rules:
        if rule.family is not family or not _matches(rule, src, dst, link):
            continue
        if rule.action in ERRORS:
            return ERRORS[rule.action]
        if rule.action == TO_TABLE:
            route = _best(state.routes, rule.table, dst, oif)
            if route is None or route.kind == THROW:
                continue
            if route.kind in ROUTE_ERRORS:  # the kernel suppresses no error
                return ROUTE_ERRORS[route.kind]
            if not _suppressed(rule, route, state.links[route.oif]):
                return RouteAnswer(rule.table, route.oif)
    return ENETUNREACH


def _matches(rule: Rule, src: IPAddress, dst: IPAddress, oif: Link | None) -> bool:
    matches = (
        (rule.src is None or src in rule.src)
        and (rule.dst is None or dst in rule.dst)
        and rule.iif in (None, "lo")  # the kernel treats packets from the host as coming in by lo
        and (rule.oif is None or (oif is not None and rule.oif == oif.name))
        and not (rule.fwmark or 0) & (0xFFFFFFFF if rule.fwmask is None else rule.fwmask)
    )
    return matches is not rule.inverted


def _best(routes: Iterable[Route], table: int, dst: IPAddress, oif: int) -> Route | None:
    # IPv4 looks at the link of a look-up only where a route leads to one.
    anywhere = Family(dst.version) is Family.V4
    fitting = [
        r
        for r in routes
        if r.table == table
        and dst in r.dst
        and not r.tos
        and (not oif or oif in r.links or (r.kind != UNICAST and anywhere))
    ]
    return max(fitting, key=lambda r: (r.dst.prefixlen, -r.metric), default=None)


def _suppressed(rule: Rule, route: Route, link: Link) -> bool:
    length, group = rule.suppress_prefixlength, rule.suppress_ifgroup
    return (length is not None and route.dst.prefixlen <= length) or group == link.group
