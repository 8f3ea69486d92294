"""Ports that containers publish on the host's addresses: what a firewall leads elsewhere.

Docker, Podman and kube-proxy do it with a destination NAT for what arrives. The program that some
run beside it (docker-proxy) is a socket of the host's own, which needs nothing.

Reads: a `Firewall`. Gives: the ports, and where they lead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from nicwatchd.core.firewall import (
    Chain,
    Field,
    Firewall,
    FirewallRule,
    Item,
    Match,
    Published,
    Span,
    Verdict,
)
from nicwatchd.core.firewall_iptables import from_iptables
from nicwatchd.core.firewall_nft import from_nft, is_compat
from nicwatchd.core.model import Family, IPNetwork, contains

__all__ = ["Published", "from_iptables", "from_nft", "is_compat", "published"]

DEPTH: Final = 16  # of jumps, as the kernel has it
PROTOCOLS: Final = ("tcp", "udp", "sctp")
EVERY: Final = (1, 65_535)


def published(firewall: Firewall) -> tuple[Published, ...]:
    """What is published, each once, in the order of the rules."""
    found: dict[Published, None] = {}
    for chain in firewall.at("prerouting", "nat"):
        walk = _Walk(firewall)
        for way, verdict in walk.follow(chain, _Way(families=chain.families)):
            found.update(dict.fromkeys(way.published(verdict)))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Way:
    """What the rules on the way to a DNAT select; empty: everything."""

    families: frozenset[Family]
    protocols: frozenset[Item] = frozenset()
    ports: tuple[Span, ...] = ()
    to: tuple[IPNetwork, ...] = ()
    link: str | None = None

    def narrowed(self, rule: FirewallRule) -> _Way | None:
        """The way through a rule; None where nothing can go both."""
        way: _Way | None = self
        for match in rule.matches:
            if way is not None and not match.negated:  # "all but these" leaves the others
                way = way.by(match)
        return way

    def by(self, match: Match) -> _Way | None:
        """The way through one selector."""
        values = match.values
        match match.field:
            case Field.FAMILY:
                return self._with(families=frozenset(f for f in self.families if f in values))
            case Field.PROTOCOL:
                known = self.protocols or frozenset(values)
                return self._with(protocols=known & frozenset(values))
            case Field.PORT:
                spans = tuple(v for v in values if isinstance(v, tuple))
                return self._with(ports=tuple(_overlaps(self.ports or (EVERY,), spans)))
            case Field.TO:
                nets = tuple(v for v in values if isinstance(v, (IPv4Network, IPv6Network)))
                return self._with(to=tuple(_inside(self.to, nets)) if self.to else nets)
            case Field.IN:
                names = [v for v in values if isinstance(v, str)]
                return replace(self, link=names[0] if len(names) == 1 else None)
        return self

    def _with(self, **changes: Any) -> _Way | None:
        return replace(self, **changes) if all(changes.values()) else None

    def published(self, verdict: Verdict) -> Iterator[Published]:
        """What a DNAT at the end of the way publishes. Without ports, it is no publishing."""
        families = {Family(verdict.to.version)} & self.families if verdict.to else self.families
        for family in sorted(families):
            nets = [net for net in self.to if net.version == family]
            if self.to and not nets:
                continue
            for protocol in PROTOCOLS:
                if self.protocols and protocol not in self.protocols:
                    continue
                for first, last in self.ports:
                    for net in nets or (None,):
                        end = None if last == first else last
                        yield Published(family, protocol, first, verdict.to, net, end, self.link)


def _overlaps(some: tuple[Span, ...], others: tuple[Span, ...]) -> Iterator[Span]:
    for first, last in some:
        for begin, end in others:
            if max(first, begin) <= min(last, end):
                yield max(first, begin), min(last, end)


def _inside(some: tuple[IPNetwork, ...], others: tuple[IPNetwork, ...]) -> Iterator[IPNetwork]:
    for one in some:
        for other in others:
            if contains(one, other):
                yield other
            elif contains(other, one):
                yield one


class _Walk:
    """Follows the jumps from one chain. What was met in the same way is not followed again."""

    def __init__(self, firewall: Firewall) -> None:
        self._firewall = firewall
        self._seen: set[tuple[str, str, _Way]] = set()

    def follow(self, chain: Chain, way: _Way, depth: int = 0) -> Iterator[tuple[_Way, Verdict]]:
        """Each DNAT, and the way to it."""
        key = (chain.table, chain.name, way)
        if depth > DEPTH or key in self._seen:
            return
        self._seen.add(key)
        for rule in chain.rules:
            verdict = rule.verdict
            if verdict is None or verdict.action not in ("dnat", "jump", "goto"):
                continue
            narrowed = way.narrowed(rule)
            if narrowed is None:
                continue
            if verdict.action == "dnat":
                yield narrowed, verdict
            elif target := self._firewall.target(chain, verdict):
                yield from self.follow(target, narrowed, depth + 1)
