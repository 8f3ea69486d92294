"""What a turn costs grows with what there is, and not with its square. Steps are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network, ip_network
from typing import Any

import pytest

from nicwatchd.core import ownership, shadow
from nicwatchd.core.fights import BURST
from nicwatchd.core.model import MAIN_TABLE, AddAddress, Address, Family, Numbers, Plan, Rule
from nicwatchd.core.ownership import Owners, Snapshot
from nicwatchd.core.port import Overrun
from nicwatchd.core.shadow import probes
from tests.core.build import ETH1, FULL6, NET4, TABLE, V4, eni, family, ip, on_link
from tests.core.scenes import CALM, applied

MANY = 200
IPS = [f"10.0.2.{number}" for number in range(20, 20 + MANY)]
PER_ONE = 40  # steps for each object: a constant, far below MANY


class Steps:
    """Counts the calls of a function."""

    def __init__(self, patch: pytest.MonkeyPatch, where: Any, name: str) -> None:
        self.taken = 0
        real: Callable[..., Any] = getattr(where, name)

        def counted(*args: Any) -> Any:
            self.taken += 1
            return real(*args)

        patch.setattr(where, name, counted)


def rules_for_each() -> Iterator[Rule]:
    """As they are with a rule for each address: each has its guard."""
    for text in IPS:
        src = ip_network(text)
        yield Rule(V4, 32600, MAIN_TABLE, src=src, suppress_prefixlength=0, suppress_ifgroup=3778)
        yield Rule(V4, 32602, TABLE, src=src)


def test_to_tell_whose_rules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart begins with that: all rules are surplus, and their interface is undecided."""
    rules = tuple(replace(rule, protocol=236) for rule in rules_for_each())
    owners = Owners(Snapshot(links={3: ETH1}, rules=rules), Numbers())
    steps = Steps(monkeypatch, ownership, "selector")
    undecided = {(3, each) for each in Family}
    assert all(owners.protects(rule, undecided) for rule in rules)
    assert steps.taken < PER_ONE * MANY


def test_to_ask_who_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(3, routes=(replace(on_link(NET4), table=TABLE),), rules=tuple(rules_for_each()))
    addresses = [Address(3, ip(text), 32) for text in IPS]
    looked_at = Steps(monkeypatch, shadow, "_is_usable")
    compared = Steps(monkeypatch, IPv4Network, "__contains__")
    assert [str(probe.src) for probe in probes(plan, addresses)] == IPS
    assert looked_at.taken + compared.taken < PER_ONE * MANY


def test_to_hold_back_what_is_contested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody removes all rules again and again, and then all addresses, too."""
    motion = applied(eni(family(" ".join(IPS), cidrs=NET4), FULL6), CALM)
    for _ in range(BURST + 2):
        motion.kernel.flush_rules()
        motion.run(motion.now + 0.01)
    steps = Steps(monkeypatch, AddAddress, "__hash__")
    motion.kernel.flush_rules()
    motion.kernel.drop(*motion.kernel.addresses_of(3))
    motion.turn.take_event(Overrun(), motion.now)
    wanted = motion.decide()
    assert motion.turn.decision
    assert motion.turn.decision.throttled
    assert sum(isinstance(operation, AddAddress) for operation in wanted) >= MANY
    assert steps.taken < PER_ONE * MANY
