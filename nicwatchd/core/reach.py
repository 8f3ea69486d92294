"""Do packets from an ENI's addresses leave by it? The kernel's look-ups tell.

Addresses that the same rules select share one look-up: to the internet, to the ENI's own subnet,
and to those of other ENIs, whose hosts EC2 lets answer only by the way they came.

Reads: the addresses of an ENI, all rules, and the answers. Gives: the look-ups to make, and what
keeps addresses from answering.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from errno import EINVAL
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Final, TypeAlias

from nicwatchd.core.model import (
    LOCAL_TABLE,
    MAIN_TABLE,
    Family,
    IPAddress,
    IPNetwork,
    Item,
    Reason,
    Rule,
)
from nicwatchd.core.ownership import foreign as _foreign
from nicwatchd.core.packet import Packet
from nicwatchd.core.port import RouteAnswer
from nicwatchd.core.rule_walk import rejecter, taker
from nicwatchd.core.shadow import FAR, FORBIDDEN
from nicwatchd.core.words import NameOf, device, rule_words

# A host of a subnet that is asked for: near its end, where EC2 assigns last. Nobody is sent
# anything.
FROM_THE_END: Final = 2
PROTECT: Final = 'primary = "protect" in the settings, then: sudo systemctl reload nicwatchd'
SEARCHED: Final = 64  # addresses that may be this host's own, until one is not


@dataclass(frozen=True, slots=True)
class Ways:
    """One family of one ENI: `addresses` are in use, in order; `links` are those it may use.

    `subnets` are those whose hosts must get their answers by this ENI, its own first. `table` is
    the one that leads by it; None: it has none of its own. `is_primary`: main is to lead by it.
    `is_left`: it does, and the settings leave it alone.
    """

    index: int
    family: Family
    addresses: tuple[IPAddress, ...]
    links: frozenset[int]
    subnets: tuple[IPNetwork, ...] = ()
    table: int | None = None
    is_primary: bool = False
    is_left: bool = False


@dataclass(frozen=True, slots=True)
class Reached:
    """What the look-ups showed for one family of an ENI.

    `silent`: addresses that cannot answer anybody beyond their subnet, and why. `cut_off`: subnets
    whose hosts get no answer.
    """

    silent: Mapping[IPAddress, Reason]
    cut_off: tuple[Reason, ...] = ()


NOTHING_AMISS: Final = Reached({})


# --- what to look up -------------------------------------------------------------------------

Span: TypeAlias = tuple[int, int]  # of addresses as numbers, both ends included
Spans: TypeAlias = Mapping[Family, AbstractSet[Span]]


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources that rules select by: those of `every` rule, and of the `foreign` ones alone."""

    every: Spans
    foreign: Spans

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> Sources:
        """Those of all rules of a host."""
        return cls(_spans(rules), _spans(_foreign(rules)))


@dataclass(frozen=True, slots=True)
class Path:
    """One look-up: what all of `group` send `to` a host. Its first address is asked about.

    `subnet`: `to` stands for its hosts; None: for everybody beyond.
    """

    group: tuple[IPAddress, ...]
    to: IPAddress
    subnet: IPNetwork | None = None


def paths(ways: Ways, sources: Sources, host: AbstractSet[Item]) -> Iterator[Path]:
    """What to look up for one family of an ENI. `host` are the addresses of the whole host."""
    for group in shared(ways.addresses, sources.every[ways.family]):
        yield Path(group, FAR[ways.family])
    neighbours = _neighbours(ways.subnets, host)
    for group in shared(ways.addresses, sources.foreign[ways.family]):
        for subnet, neighbour in neighbours.items():
            yield Path(group, neighbour, subnet)


def shared(addresses: Sequence[IPAddress], spans: Iterable[Span]) -> list[tuple[IPAddress, ...]]:
    """The addresses of one family in groups, of which each span has all or none.

    That of the first address is the first, and it is the first of it.
    """
    if not addresses:
        return []
    numbers = [int(ip) for ip in addresses]
    lowest, highest = min(numbers), max(numbers)
    every = {edge for first, last in spans for edge in (first, last + 1)}
    edges = sorted(edge for edge in every if lowest < edge <= highest)
    groups: dict[int, list[IPAddress]] = {}
    for number, ip in zip(numbers, addresses, strict=True):
        groups.setdefault(bisect_right(edges, number), []).append(ip)
    return [tuple(group) for group in groups.values()]


def _spans(rules: Iterable[Rule]) -> Spans:
    found: dict[Family, set[Span]] = {family: set() for family in Family}
    for rule in rules:
        if rule.src is not None:
            first = int(rule.src.network_address)
            found[rule.family].add((first, first + rule.src.num_addresses - 1))
    return found


def _neighbours(
    subnets: Iterable[IPNetwork], host: AbstractSet[Item]
) -> dict[IPNetwork, IPAddress]:
    """An address of each subnet that this host does not have."""
    found = ((subnet, _neighbour(subnet, host)) for subnet in subnets)
    return {subnet: ip for subnet, ip in found if ip is not None}


def _neighbour(subnet: IPNetwork, host: AbstractSet[Item]) -> IPAddress | None:
    last = int(subnet.network_address) + subnet.num_addresses - FROM_THE_END
    kind = IPv4Address if isinstance(subnet, IPv4Network) else IPv6Address
    found = (kind(last - n) for n in range(min(SEARCHED, subnet.num_addresses - FROM_THE_END)))
    return next((ip for ip in found if ip not in host), None)


# --- what the answers mean -------------------------------------------------------------------


def conclude(
    ways: Ways,
    rules: Sequence[Rule],
    looked_up: Iterable[Path],
    answers: Mapping[tuple[IPAddress, IPAddress], RouteAnswer | int],
    host: AbstractSet[Item],
    name_of: NameOf,
) -> Reached:
    """What the answers, by source and destination, show for one family of an ENI.

    `looked_up` are its paths.
    """
    view = _Lookout(ways, rules, host, name_of)
    silent: dict[IPAddress, Reason] = {}
    cut_off: dict[Reason, None] = {}
    for path in looked_up:
        reason = view.obstacle(path.group, answers.get((path.group[0], path.to)), path.subnet)
        if reason and path.subnet is None:
            silent |= dict.fromkeys(path.group, reason)
        elif reason and path.group[0] not in silent:
            cut_off[reason] = None
    return Reached(silent, tuple(cut_off)) if silent or cut_off else NOTHING_AMISS


@dataclass(frozen=True, slots=True)
class _Lookout:
    """One family of an ENI, and what else is to be known to say why it does not answer."""

    ways: Ways
    rules: Sequence[Rule]
    host: AbstractSet[Item]
    name_of: NameOf

    def obstacle(
        self,
        group: tuple[IPAddress, ...],
        answer: RouteAnswer | int | None,
        subnet: IPNetwork | None,
    ) -> Reason | None:
        """What keeps the packets of a group from leaving by the ENI; None: nothing is known.

        `subnet`: where they go to; None: to anywhere beyond.
        """
        destination = FAR[self.ways.family] if subnet is None else subnet.network_address
        if isinstance(answer, RouteAnswer):
            if answer.oif in self.ways.links or answer.table == LOCAL_TABLE:
                return None
            winner = taker(Packet(group[0], destination), self.rules, answer.table)
            away, own = (device(i, self.name_of) for i in (answer.oif, self.ways.index))
            how = f"leave by {away} instead of {own}"
        else:
            winner = rejecter(Packet(group[0], destination), self.rules)
            # EINVAL may also say that the address has just gone.
            if not (answer in FORBIDDEN or (answer == EINVAL and winner)):
                return None
            how = "are rejected" if winner else "find no route"
        whom = "nobody" if subnet is None else f"no host of {subnet}"
        text = f"{_names(group)} {whom}: its packets {how}{_by(winner, answer)}"
        remedy = self._remedy(group, destination, winner, answer)
        return Reason("leaves-elsewhere", text, remedy, family=self.ways.family)

    def _remedy(
        self,
        group: tuple[IPAddress, ...],
        dst: IPAddress,
        winner: Rule | None,
        answer: RouteAnswer | int | None,
    ) -> str:
        v6 = "-6 " if self.ways.family is Family.V6 else ""
        if winner is None:
            if isinstance(answer, RouteAnswer) and answer.table == MAIN_TABLE:
                return self._remedy_in_main(group, dst, answer.oif)
            return f"nicwatchd explain --from {group[0]} --to {dst}"
        if winner.src is None and self.ways.table is not None and winner.priority > 1:
            # It takes all traffic, as a VPN's does: that is to go on, but for the ENI's.
            source, before = self._source_of(group), winner.priority - 1
            rule = f"pref {before} iif lo from {source} lookup {self.ways.table}"
            return f"sudo ip {v6}rule add {rule}"
        return f"sudo ip {v6}rule del pref {winner.priority} {' '.join(rule_words(winner))}"

    def _remedy_in_main(self, group: tuple[IPAddress, ...], dst: IPAddress, oif: int) -> str:
        """Where a route of main decides; that of a secondary ENI is to have a table of its own."""
        if not self.ways.is_primary:
            return f"nicwatchd explain --from {group[0]} --to {dst}"
        if dst in FAR.values():
            v6 = "-6 " if self.ways.family is Family.V6 else ""
            return f"sudo ip {v6}route del default dev {device(oif, self.name_of)}"
        if self.ways.is_left:
            return PROTECT
        name = device(self.ways.index, self.name_of)
        return f"give {name}'s default route of main the best metric"

    def _source_of(self, group: tuple[IPAddress, ...]) -> IPAddress | IPNetwork:
        """What selects a group and no other address of the host, if that can be said in one."""
        if len(group) > 1:
            for subnet in self.ways.subnets:
                inside = {ip for ip in self.host if ip in subnet}
                if inside.issuperset(group) and inside.issubset(self.ways.addresses):
                    return subnet
        return group[0]


def _names(group: tuple[IPAddress, ...]) -> str:
    """The group and its verb."""
    if len(group) == 1:
        return f"{group[0]} answers"
    return f"{group[0]} and {len(group) - 1} more answer"


def _by(winner: Rule | None, answer: RouteAnswer | int | None) -> str:
    if winner:
        words = " ".join(rule_words(winner))
        return f", by rule {winner.priority} ({words}), which is not nicwatchd's"
    if not isinstance(answer, RouteAnswer):
        return ""
    return ", by a route of main" if answer.table == MAIN_TABLE else f", by table {answer.table}"
