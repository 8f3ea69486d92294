"""The rules of a host's firewall, as far as we read them: nftables' and iptables' in one form.

Beside them, what they lead to containers (`nicwatchd.core.published` finds it).

What is not understood of a rule's selectors is `Unknown`: the rule may match, or not.

Reads: nothing; `firewall_nft` and `firewall_iptables` fill it in. Gives: chains of rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_network
from typing import Final, TypeAlias

from nicwatchd.core.model import Family, IPAddress, IPNetwork, contains


class Field(StrEnum):
    """What a rule may select by, of what is read here."""

    FAMILY = "family"
    PROTOCOL = "protocol"
    PORT = "port"  # of the destination
    TO = "to"  # the destination
    FROM = "from"  # the source
    IN = "in"  # the name of the link that it came in by; one that ends in * is a beginning
    OUT = "out"
    UID = "uid"  # of the socket's owner
    UNKNOWN = "unknown"


Span: TypeAlias = tuple[int, int]  # of numbers, both ends included
Item: TypeAlias = str | int | Span | IPNetwork | Family


@dataclass(frozen=True, slots=True)
class Match:
    """A selector: a packet has one of these values; with `negated`, none of them."""

    field: Field
    values: tuple[Item, ...] = ()
    negated: bool = False


UNKNOWN: Final = Match(Field.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a rule does: `accept`, `drop`, `reject`, `return`, or where it goes on.

    `jump` and `goto` have the chain's name as their `chain`; `dnat` has the address, which is None
    where it is not a plain one, and the port, which is None where that stays.
    """

    action: str
    chain: str = ""
    to: IPAddress | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class FirewallRule:
    """A packet that all of `matches` select gets the verdict, if there is one."""

    matches: tuple[Match, ...] = ()
    verdict: Verdict | None = None
    text: str = ""  # for people; "" where it was not kept


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of a table. One with a `hook` is where packets come in: prerouting, output, ...

    `kind` is filter, nat or route. `policy`: what becomes of what no rule decides.
    """

    table: str  # with its family: "ip nat"
    name: str
    rules: tuple[FirewallRule, ...] = ()
    hook: str = ""
    kind: str = ""
    priority: int = 0
    policy: str = "accept"
    families: frozenset[Family] = frozenset(Family)


@dataclass(frozen=True, slots=True)
class Firewall:
    """All chains that were read. `unread`: some rules are in a form that was not.

    `by_name` are the chains by table and name.
    """

    chains: tuple[Chain, ...] = ()
    unread: bool = False
    by_name: Mapping[tuple[str, str], Chain] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the chains: there may be thousands, with a jump to each."""
        by_name = {(chain.table, chain.name): chain for chain in self.chains}
        object.__setattr__(self, "by_name", by_name)

    def at(self, hook: str, kind: str) -> tuple[Chain, ...]:
        """The chains where packets come in at a hook, in the kernel's order."""
        found = (c for c in self.chains if c.hook == hook and c.kind == kind)
        return tuple(sorted(found, key=lambda chain: chain.priority))

    def target(self, chain: Chain, verdict: Verdict) -> Chain | None:
        """Where a jump leads."""
        return self.by_name.get((chain.table, verdict.chain))


def both(firewalls: Iterable[Firewall]) -> Firewall:
    """Several as one, such as nftables' own rules and those of the older iptables."""
    every = tuple(firewalls)
    chains = tuple(chain for one in every for chain in one.chains)
    return Firewall(chains, unread=any(one.unread for one in every))


@dataclass(frozen=True, slots=True)
class Published:
    """Ports of the host that lead to another address.

    `to` is None where it differs by packet. `only_to`: on this address or network alone, else on
    every address of the host. `link`: only for what comes in by it; one that ends in * is the
    beginning of names.
    """

    family: Family
    protocol: str  # tcp, udp or sctp
    port: int
    to: IPAddress | None = None
    only_to: IPNetwork | None = None
    last: int | None = None  # of several ports in a row
    link: str | None = None

    def is_on(self, address: IPAddress, link: str) -> bool:
        """Whether it is published on this address of a link."""
        if address.version != self.family:
            return False
        if self.only_to is not None and not contains(self.only_to, ip_network(address)):
            return False
        return self.link is None or _is_named(self.link, link)

    @property
    def ports(self) -> str:
        """`8080`, `8000-8010`."""
        return str(self.port) if self.last in (None, self.port) else f"{self.port}-{self.last}"


def _is_named(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
