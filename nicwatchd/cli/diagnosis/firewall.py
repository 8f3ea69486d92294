"""What a firewall does with a packet that a user of this host sends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from nicwatchd.core.firewall import Chain, Field, Firewall, FirewallRule, Match
from nicwatchd.core.model import Family, IPAddress, IPNetwork
from nicwatchd.core.published import DEPTH

HTTP: Final = 80


@dataclass(frozen=True, slots=True)
class Packet:
    """A connection to IMDS, by this user."""

    uid: int
    to: IPAddress
    protocol: str = "tcp"
    port: int = HTTP


@dataclass(frozen=True, slots=True)
class Refusal:
    """The chain that refuses a packet, and the rule; None: the chain's policy does.

    `allowed`: the users to whom this does not apply, as far as that is said. `rejected`: the sender
    is told.
    """

    chain: Chain
    rule: FirewallRule | None
    rejected: bool = False
    allowed: tuple[int, ...] = ()


def refusal(firewall: Firewall, packet: Packet) -> Refusal | None:
    """Who refuses what this host sends; None: nobody, as far as the rules are understood."""
    family = Family(packet.to.version)
    chains = [c for kind in ("filter", "route") for c in firewall.at("output", kind)]
    for chain in chains:
        if family in chain.families:
            found = _Evaluation(firewall, packet).of_chain(chain)
            if found:
                return replace(found, allowed=tuple(sorted(_allowed(firewall, chain))))
    return None


class _Evaluation:
    """Follows one packet. A selector that is not understood is taken not to match."""

    def __init__(self, firewall: Firewall, packet: Packet) -> None:
        self._firewall, self._packet = firewall, packet
        self._is_clear = True  # no rule that might have accepted it was passed over

    def of_chain(self, chain: Chain) -> Refusal | None:
        """Who refuses it, from this base chain on."""
        end = self._follow(chain, 0)
        if isinstance(end, Refusal):
            return end
        if end is None and chain.policy == "drop" and self._is_clear:
            return Refusal(chain, None)
        return None

    def _follow(self, chain: Chain, depth: int) -> Refusal | str | None:
        """A refusal, "accept", or None where no rule decides."""
        for rule in chain.rules:
            verdict = rule.verdict
            if verdict is None or not self._is_for(rule):
                continue
            if verdict.action in ("drop", "reject"):
                return Refusal(chain, rule, rejected=verdict.action == "reject")
            if verdict.action == "return":
                return None
            target = self._firewall.target(chain, verdict) if verdict.chain else None
            if target and depth < DEPTH:
                end = self._follow(target, depth + 1)
                if end is not None or verdict.action == "goto":
                    return end
            elif verdict.action == "accept":
                return "accept"
        return None

    def _is_for(self, rule: FirewallRule) -> bool:
        if any(match.field is not Field.UNKNOWN and not self._has(match) for match in rule.matches):
            return False
        clear = all(match.field is not Field.UNKNOWN for match in rule.matches)
        if not clear and rule.verdict and rule.verdict.action not in ("drop", "reject"):
            self._is_clear = False
        return clear

    def _has(self, match: Match) -> bool:
        packet, values = self._packet, match.values
        match match.field:
            case Field.FAMILY:
                found = packet.to.version in values
            case Field.PROTOCOL:
                found = packet.protocol in values
            case Field.PORT:
                found = _within(packet.port, match)
            case Field.UID:
                found = _within(packet.uid, match)
            case Field.TO:
                found = any(packet.to in net for net in _networks(match))
            case _:  # by which link and from where it leaves is open
                return not match.negated and match.field is Field.OUT and "lo" not in values
        return found is not match.negated


def _within(number: int, match: Match) -> bool:
    return any(v[0] <= number <= v[1] for v in match.values if isinstance(v, tuple))


def _networks(match: Match) -> Iterator[IPNetwork]:
    return (v for v in match.values if not isinstance(v, (str, int, tuple)))


def _allowed(firewall: Firewall, chain: Chain) -> set[int]:
    """The users that the rules of a chain, and of those it jumps to, name at all."""
    found: set[int] = set()
    todo, seen = [chain], set()
    while todo:
        one = todo.pop()
        if one.name in seen:
            continue
        seen.add(one.name)
        for rule in one.rules:
            target = firewall.target(one, rule.verdict) if rule.verdict else None
            todo += [target] if target else []
            for match in rule.matches:
                if match.field is Field.UID:
                    found |= {v[0] for v in match.values if isinstance(v, tuple)}
    return found
