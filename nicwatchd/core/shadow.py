"""Does the kernel really use our rules? A look-up for each rule shows it, or which rule wins.

Reads: a plan, the link's addresses, the kernel's answers to look-ups, and all rules. Gives: the
look-ups to make, and a reason for each rule of ours over which another wins. Foreign rules come
before ours by design, since a VPN or a CNI may want the traffic. This is not a fault, but the
operator should know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from errno import EACCES, EHOSTUNREACH, ENETUNREACH
from functools import cached_property
from ipaddress import ip_address
from itertools import takewhile
from typing import Final

from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    Address,
    Family,
    IPAddress,
    Plan,
    Reason,
    Rule,
)
from nicwatchd.core.ownership import SHARED_TABLES
from nicwatchd.core.packet import Packet, meets
from nicwatchd.core.port import RouteAnswer

# Destinations off the host, from the ranges for benchmarks (RFC 2544, RFC 5180): nobody has them.
FAR: Final = {Family.V4: ip_address("198.18.0.1"), Family.V6: ip_address("2001:2::1")}

# The errors that mean: a rule or route forbids the packet. Others prove nothing about rules.
FORBIDDEN: Final = frozenset({ENETUNREACH, EHOSTUNREACH, EACCES})


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the kernel how it would route a packet from `src` to `dst`; `oif` 0 is any link.

    `index` is the ifindex of the interface that `rule` is for. Without a rule it is asked for the
    way alone (`nicwatchd.core.reach`).
    """

    index: int
    rule: Rule | None
    src: IPAddress
    dst: IPAddress
    oif: int = 0


def probes(plan: Plan, addresses: Iterable[Address]) -> Iterator[Probe]:
    """The look-ups for one interface. Only a source address of this host proves anything.

    There are none for a family without routes (the link is down): our rules decide nothing then.
    """
    routed = {route.family for route in plan.routes}
    sources = _Sources(addresses)
    for rule in plan.rules:
        if rule.table in SHARED_TABLES or rule.dst or rule.family not in routed:
            continue
        if rule.fwmark is not None:  # what is forwarded: no look-up of ours shows that
            continue
        source = sources.of(rule)
        if source is not None:
            oif = plan.index if rule.oif else 0
            yield Probe(plan.index, rule, source, FAR[rule.family], oif)


class _Sources:
    """The addresses of one link, of which there may be hundreds, as sources for the look-ups."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._addresses = tuple(addresses)

    def of(self, rule: Rule) -> IPAddress | None:
        """The first address that a rule selects."""
        src = rule.src
        if src is not None and src.prefixlen == src.max_prefixlen:
            found = self._by_ip.get(src.network_address)
            return found.ip if found and _is_usable(found) else None
        fitting = (
            each.ip
            for each in self._addresses
            if each.ip.version == rule.family
            and (src is None or each.ip in src)
            and _is_usable(each)
        )
        return next(fitting, None)

    @cached_property
    def _by_ip(self) -> dict[IPAddress, Address]:
        return {address.ip: address for address in self._addresses}


def _is_usable(address: Address) -> bool:
    return not (address.tentative or address.ip.is_link_local)


def shadow(probe: Probe, answer: RouteAnswer | int, rules: Iterable[Rule]) -> Reason | None:
    """Who wins over the probed rule, according to the kernel's answer; None: nobody, or unknown."""
    if probe.rule is None or (isinstance(answer, int) and answer not in FORBIDDEN):
        return None
    table = answer.table if isinstance(answer, RouteAnswer) else None
    if table == probe.rule.table:
        return None
    what = f"packets from {probe.src}" + (f" bound to {probe.rule.oif}" if probe.oif else "")
    if table is None:
        return Reason("shadowed", f"{what} have no route: a rule before nicwatchd's rejects them")
    packet = Packet(probe.src, probe.dst, bound=probe.rule.oif)
    winner = next(
        (
            rule.priority
            for rule in takewhile(lambda rule: rule != probe.rule, rules)
            if rule.protocol != PROTOCOL
            and rule.table == table
            and rule.priority <= probe.rule.priority
            and meets(rule, packet) is not False  # None: where its table answered, it was met
        ),
        None,
    )
    where = "the main table" if table == MAIN_TABLE else f"table {table}"
    by = f"by a route in {where}"
    if winner is not None:
        by = f"by the rule at priority {winner} ({where})"
    return Reason("shadowed", f"{what} are routed {by}, not by nicwatchd's rule")
