"""Does the kernel really decide by our rules? One question for each, and who wins if not.

Reads: a plan, the link's addresses, the kernel's answers to look-ups, and all rules. Gives: the
look-ups to make, and a reason for each that somebody else's rule wins. Foreign rules stand before
ours on purpose: a VPN or a CNI may want the traffic. That is no fault, but it must not be a riddle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from errno import EACCES, EHOSTUNREACH, ENETUNREACH
from ipaddress import ip_address, ip_network
from itertools import takewhile
from typing import Final

from nicwatchd.core.model import (
    PROTOCOL,
    Address,
    Family,
    IPAddress,
    Plan,
    Reason,
    Rule,
    contains,
)
from nicwatchd.core.ownership import SHARED_TABLES
from nicwatchd.core.port import RouteAnswer

# Somewhere off the host: of the ranges for benchmarks (RFC 2544, RFC 5180), so nobody's own.
FAR: Final = {Family.V4: ip_address("198.18.0.1"), Family.V6: ip_address("2001:2::1")}

# How the kernel says that a rule or route forbids a packet; other errors prove nothing of rules.
FORBIDDEN: Final = frozenset({ENETUNREACH, EHOSTUNREACH, EACCES})


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the kernel how it would route a packet from `src` to `dst`; `oif` 0 is any link.

    `index` is the ifindex of the interface that `rule` is for.
    """

    index: int
    rule: Rule
    src: IPAddress
    dst: IPAddress
    oif: int = 0


def probes(plan: Plan, addresses: Iterable[Address]) -> Iterator[Probe]:
    """The questions for one interface. Only a source on the host itself proves anything.

    A family without routes (the link is down) is not asked about: there is nothing to win over.
    """
    routed = {route.family for route in plan.routes}
    local = [a for a in addresses if not a.tentative and not a.ip.is_link_local]
    for rule in plan.rules:
        if rule.table in SHARED_TABLES or rule.dst or rule.family not in routed:
            continue
        fitting = (
            address.ip
            for address in local
            if address.family is rule.family
            and (rule.src is None or contains(rule.src, ip_network(address.ip)))
        )
        source = next(fitting, None)
        if source is not None:
            oif = plan.index if rule.oif else 0
            yield Probe(plan.index, rule, source, FAR[rule.family], oif)


def shadow(probe: Probe, answer: RouteAnswer | int, rules: Iterable[Rule]) -> Reason | None:
    """Who wins over the probed rule, given the kernel's answer; None where nobody is shown to."""
    if isinstance(answer, int) and answer not in FORBIDDEN:
        return None
    table = answer.table if isinstance(answer, RouteAnswer) else None
    if table == probe.rule.table:
        return None
    what = f"packets from {probe.src}" + (f" bound to {probe.rule.oif}" if probe.oif else "")
    if table is None:
        return Reason("shadowed", f"{what} have no route: a rule before ours rejects them")
    winner = next(
        (
            rule.priority
            for rule in takewhile(lambda rule: rule != probe.rule, rules)
            if rule.protocol != PROTOCOL
            and rule.table == table
            and rule.priority <= probe.rule.priority
            and _selects(rule, probe)
        ),
        None,
    )
    by = "a route of the main table" if winner is None else f"the rule at priority {winner}"
    return Reason("shadowed", f"{what} follow table {table} by {by}, not ours")


def _selects(rule: Rule, probe: Probe) -> bool:
    """Whether a rule looks at the probe's packet, which is unmarked and made on this host."""
    matches = (
        (rule.src is None or contains(rule.src, ip_network(probe.src)))
        and (rule.dst is None or contains(rule.dst, ip_network(probe.dst)))
        and rule.iif in (None, "lo")
        and rule.oif in (None, probe.rule.oif)
        and not rule.fwmark
    )
    # Of an exotic selector only the kernel knows; where its table answered, it was met.
    return rule.family is probe.rule.family and (rule.exotic or matches is not rule.inverted)
