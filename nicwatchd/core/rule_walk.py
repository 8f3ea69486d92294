"""Which rule decides on a packet, by the route that the kernel found for it.

Reads: a packet, all rules in the kernel's order, and the route that the kernel's own look-up found.
Gives: each rule that the packet meets, and what comes of it; the foreign rule that takes it, or
rejects it. Selectors that are not read here (ports, users, VRFs) and jumps are the kernel's alone
to judge, and this says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, islice
from typing import Final

from nicwatchd.core.model import MAIN_TABLE, PROTOCOL, TO_TABLE, Route, Rule
from nicwatchd.core.ownership import foreign, is_of_kernel
from nicwatchd.core.packet import Packet, meets
from nicwatchd.core.shadow import FAR
from nicwatchd.core.words import PROTOCOLS

GOTO, NOP = 2, 3  # FR_ACT_GOTO, FR_ACT_NOP
BLOCKS: Final = (6, 7, 8)  # FR_ACT_BLACKHOLE, _UNREACHABLE, _PROHIBIT
# rt_protos of iproute2, beside those that `ip` knows by itself.
OTHERS: Final = {
    1: "redirect",
    8: "gated",
    10: "mrt",
    11: "zebra",
    12: "bird",
    14: "xorp",
    17: "mrouted",
    18: "keepalived",
    42: "babel",
    99: "openr",
    186: "bgp",
    187: "isis",
    188: "ospf",
    189: "rip",
    192: "eigrp",
}


class Says(StrEnum):
    """What comes of a packet at a rule that it meets."""

    NOTHING = "nothing"  # its table has no route for it
    SUPPRESSED = "suppressed"  # it has one that the rule refuses, since it is too general
    DECIDES = "decides"
    MAY_DECIDE = "may-decide"  # if the packet has what only the kernel judges by
    MAY_JUMP = "may-jump"
    BLOCKS = "blocks"
    NOT_ASKED = "not-asked"  # it comes after the one that decides


@dataclass(frozen=True, slots=True)
class Met:
    """A rule that the packet meets, or may meet (`certain`), and what comes of it."""

    rule: Rule
    says: Says
    certain: bool = True


def walk(
    packet: Packet, rules: Iterable[Rule], route: Route | None, group: int = 0
) -> tuple[Met, ...]:
    """The rules that a packet meets, in order, with the one that decides.

    `route` is what the kernel found; None: nothing lets the packet pass. `group` is the link group
    that it leaves by, by which rules may refuse a route.
    """
    met: list[Met] = []
    decided = False
    for rule in rules:
        certain = meets(rule, packet)
        if certain is False:
            continue
        says = Says.NOT_ASKED if decided else _says(rule, route, group)
        if says is Says.DECIDES and certain is None:
            says = Says.MAY_DECIDE
        met.append(Met(rule, says, certain is True))
        decided = decided or (certain is True and says in (Says.DECIDES, Says.BLOCKS))
    return tuple(_after_jumps(met))


def _after_jumps(met: list[Met]) -> list[Met]:
    """After a jump that may have been taken, no rule is certain to have been asked."""
    seen, found = False, []
    for each in met:
        unsure = seen and each.says is Says.DECIDES
        found.append(replace(each, says=Says.MAY_DECIDE) if unsure else each)
        seen = seen or each.says is Says.MAY_JUMP
    return found


def _says(rule: Rule, route: Route | None, group: int) -> Says:
    if rule.action == GOTO:
        return Says.MAY_JUMP
    if rule.action in BLOCKS:
        return Says.BLOCKS if route is None else Says.NOTHING
    if route is None or rule.action != TO_TABLE or rule.table != route.table:
        return Says.NOTHING
    length = rule.suppress_prefixlength
    if length is not None and route.dst.prefixlen <= length:
        return Says.SUPPRESSED
    return Says.SUPPRESSED if rule.suppress_ifgroup == group else Says.DECIDES


def taker(packet: Packet, rules: Iterable[Rule], table: int) -> Rule | None:
    """The foreign rule whose table decided on a packet; None: not known, or the kernel's or ours.

    Of the route only the table is known. What a rule suppresses is known of packets that go far.
    """
    leads = (rule for rule in rules if rule.table == table and rule.action == TO_TABLE)
    met = (rule for rule in leads if meets(rule, packet) is not False)
    found = (rule for rule in met if not _suppresses(rule, packet))
    return next(foreign(islice(found, 1)), None)


def rejecter(packet: Packet, rules: Iterable[Rule]) -> Rule | None:
    """The foreign rule that rejects a packet, or whose table may have an error route for it."""
    found = [rule for rule in foreign(rules) if meets(rule, packet) is not False]
    rejects = (rule for rule in found if rule.action in BLOCKS)
    leads = (rule for rule in found if rule.action == TO_TABLE and rule.table != MAIN_TABLE)
    return next(chain(rejects, leads), None)


def _suppresses(rule: Rule, packet: Packet) -> bool:
    """Whether a rule passes over a table's default route, which is all that leads far away."""
    return rule.suppress_prefixlength is not None and packet.dst in FAR.values()


def whose(rule: Rule) -> str:
    """Whose a rule is, as far as its protocol tells: `kernel`, `nicwatchd`, or not ours."""
    if rule.protocol == PROTOCOL:
        return "nicwatchd"
    if is_of_kernel(rule):
        return "kernel"
    name = PROTOCOLS.get(rule.protocol) or OTHERS.get(rule.protocol)
    if rule.protocol == 0:
        return "not ours"
    return f"not ours ({name or f'proto {rule.protocol}'})"
