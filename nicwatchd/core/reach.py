"""Do packets from an ENI's addresses leave by it? The kernel's look-ups tell.

Addresses that the same rules select share one look-up: to the internet, to the ENI's own subnet,
and to those of other ENIs, whose hosts EC2 lets answer only by the way they came.

Reads: the addresses of an ENI, all rules, and the answers. Gives: the look-ups to make, and what
keeps addresses from answering.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from itertools import pairwise
from typing import Final

from nicwatchd.core.model import (
    LOCAL_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_KERNEL,
    Family,
    IPAddress,
    IPNetwork,
    Reason,
    Rule,
    contains,
)
from nicwatchd.core.port import RouteAnswer
from nicwatchd.core.shadow import FAR, FORBIDDEN, Probe
from nicwatchd.core.words import NameOf, device, rule_words

# A host of a subnet that is asked for: near its end, where EC2 assigns last. Nobody is sent
# anything.
FROM_THE_END: Final = 2
SEARCHED: Final = 64  # addresses that may be this host's own, until one is not


@dataclass(frozen=True, slots=True)
class Ways:
    """One family of one ENI: `addresses` are on its link, in order; `links` are those it may use.

    `subnets` are those whose hosts must get their answers by this ENI, its own first. `host` are
    all addresses of the host.
    """

    index: int
    family: Family
    addresses: tuple[IPAddress, ...]
    links: frozenset[int]
    subnets: tuple[IPNetwork, ...] = ()


def probes(ways: Ways, rules: Sequence[Rule], host: AbstractSet[IPAddress]) -> Iterator[Probe]:
    """The look-ups for one family of an ENI. `host` are the addresses of the whole host."""
    groups = shared(ways.addresses, rules)
    for group in groups:
        yield Probe(ways.index, None, group[0], FAR[ways.family])
    for subnet in ways.subnets if groups else ():
        neighbour = _neighbour(subnet, host)
        if neighbour:
            yield Probe(ways.index, None, ways.addresses[0], neighbour)


def shared(addresses: Sequence[IPAddress], rules: Iterable[Rule]) -> list[tuple[IPAddress, ...]]:
    """The addresses of one family in groups, which all rules select alike.

    That of the first address is the first, and it is the first of it.
    """
    if not addresses:
        return []
    ordered = sorted(addresses)
    numbers = [int(ip) for ip in ordered]
    family = ordered[0].version
    cuts = {0, len(ordered)}
    for rule in rules:
        if rule.src is not None and rule.family == family:
            first = int(rule.src.network_address)
            last = first + rule.src.num_addresses - 1
            cuts |= {bisect_left(numbers, first), bisect_right(numbers, last)}
    edges = sorted(cuts)
    groups = [ordered[i:j] for i, j in pairwise(edges)]
    place = {ip: number for number, ip in enumerate(addresses)}
    return sorted(
        (tuple(sorted(group, key=place.__getitem__)) for group in groups),
        key=lambda group: place[group[0]],
    )


def _neighbour(subnet: IPNetwork, host: AbstractSet[IPAddress]) -> IPAddress | None:
    """An address of a subnet that this host does not have."""
    last = int(subnet.network_address) + subnet.num_addresses - FROM_THE_END
    kind = IPv4Address if isinstance(subnet, IPv4Network) else IPv6Address
    found = (kind(last - n) for n in range(min(SEARCHED, subnet.num_addresses - FROM_THE_END)))
    return next((ip for ip in found if ip not in host), None)


def obstacle(
    probe: Probe,
    answer: RouteAnswer | int,
    links: AbstractSet[int],
    rules: Iterable[Rule],
    name_of: NameOf,
) -> Reason | None:
    """What keeps what the probed address sends from leaving by one of `links`; None: nothing.

    Also None where the kernel's answer proves nothing: the address has just gone, say.
    """
    if isinstance(answer, int):
        return _rejected(probe, rules) if answer in FORBIDDEN else None
    if answer.oif in links or answer.table == LOCAL_TABLE:
        return None
    winner = _winner(probe, answer.table, rules)
    name = device(answer.oif, name_of)
    text = f"packets from {probe.src}{_to(probe)} leave by {name}{_by(winner, answer.table)}"
    return Reason("leaves-elsewhere", f"{text}, and EC2 drops them there", _remedy(probe, winner))


def _rejected(probe: Probe, rules: Iterable[Rule]) -> Reason:
    winner = _winner(probe, None, rules)
    text = f"packets from {probe.src}{_to(probe)} are rejected{_by(winner, None)}"
    return Reason("leaves-elsewhere", text, _remedy(probe, winner))


def _to(probe: Probe) -> str:
    """Where to, if not to anywhere beyond the VPC."""
    return "" if probe.dst in FAR.values() else f" to hosts like {probe.dst}"


def _winner(probe: Probe, table: int | None, rules: Iterable[Rule]) -> Rule | None:
    """The rule whose table decided on the probe; None: not known, or it is the kernel's or ours."""
    rule = next((r for r in rules if _selects(r, probe) and _leads_to(r, table)), None)
    if rule is None or rule.protocol == PROTOCOL or _is_of_kernel(rule):
        return None
    return rule


def _leads_to(rule: Rule, table: int | None) -> bool:
    """Whether a rule leads to a table; None: whether it may have rejected the packet."""
    if table is None:
        return rule.protocol != PROTOCOL and not _is_of_kernel(rule)
    return rule.table == table


def _selects(rule: Rule, probe: Probe) -> bool:
    matches = (
        (rule.src is None or contains(rule.src, ip_network(probe.src)))
        and (rule.dst is None or contains(rule.dst, ip_network(probe.dst)))
        and rule.iif in (None, "lo")
        and rule.oif is None
        and not rule.fwmark
    )
    return rule.family == probe.src.version and (rule.exotic or matches is not rule.inverted)


def _is_of_kernel(rule: Rule) -> bool:
    return rule.src is None and rule.dst is None and rule.protocol == RTPROT_KERNEL


def _by(winner: Rule | None, table: int | None) -> str:
    if winner:
        return f" by rule {winner.priority} ({' '.join(rule_words(winner))}), not nicwatchd's"
    if table == MAIN_TABLE:
        return " by a route of the main table"
    return "" if table is None else f" by table {table}"


def _remedy(probe: Probe, winner: Rule | None) -> str:
    if winner is None:
        return f"nicwatchd explain --from {probe.src} --to {probe.dst}"
    words = " ".join(word for word in rule_words(winner))
    v6 = "-6 " if winner.family is Family.V6 else ""
    return f"ip {v6}rule del pref {winner.priority} {words}"


@dataclass(frozen=True, slots=True)
class Reached:
    """What the look-ups showed for one family of an ENI.

    `silent`: addresses that cannot answer anybody beyond their subnet, and why. `cut_off`: subnets
    whose hosts get no answer.
    """

    silent: Mapping[IPAddress, Reason]
    cut_off: tuple[Reason, ...] = ()


NOTHING_AMISS: Final = Reached({})


def conclude(
    ways: Ways,
    rules: Sequence[Rule],
    answers: Mapping[tuple[IPAddress, IPAddress], RouteAnswer | int],
    host: AbstractSet[IPAddress],
    name_of: NameOf,
) -> Reached:
    """What the answers, by source and destination, show for one family of an ENI."""
    groups = {group[0]: group for group in shared(ways.addresses, rules)}
    silent: dict[IPAddress, Reason] = {}
    cut_off = []
    for probe in probes(ways, rules, host):
        answer = answers.get((probe.src, probe.dst))
        if answer is None:
            continue
        reason = obstacle(probe, answer, ways.links, rules, name_of)
        if reason and probe.dst in FAR.values():
            silent |= dict.fromkeys(groups[probe.src], reason)
        elif reason and probe.src not in silent:
            cut_off.append(reason)
    if not silent and not cut_off:
        return NOTHING_AMISS
    return Reached(silent, tuple(dict.fromkeys(cut_off)))
