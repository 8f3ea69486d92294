"""The plans of all interfaces: made anew only where something changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nicwatchd.core import host_plan
from nicwatchd.core.decide import Decider
from nicwatchd.core.eni_plan import plan
from nicwatchd.core.host import Host
from nicwatchd.core.metadata import Value
from nicwatchd.core.policy import Policy, RuleMode
from tests.core.build import ETH0, ETH1, IPV4, IPV6, PRIMARY, eni, family, ips
from tests.core.scenes import ETH2, FULL, MAC2, OF_PRIMARY

OTHER = eni(family("10.0.3.10", cidrs="10.0.3.0/24"), mac=Value(MAC2))


def test_what_waits_is_planned_when_its_time_is_over() -> None:
    """For a DHCP client, and for udev; not a moment later."""
    host = Host(Policy(address_wait=3.0), lambda: 0.0, strict=True)
    decider = Decider(host)
    host.learn_primary(Value(PRIMARY))
    host.update_links({3: ETH1, 4: replace(ETH2, up=False)}, 0.0)
    host.learn(host.interfaces[3], FULL, 0.0)
    host.learn(host.interfaces[4], OTHER, 0.0)
    eth1, eth2 = host.interfaces[3], host.interfaces[4]
    decider.decide(2.9)
    assert (eth1.plan.awaited, eth1.plan.addresses) == (ips(IPV4, IPV6), ())
    assert eth1.plan.group == 3778
    assert (eth2.plan.bring_up, eth2.plan.group) == (False, None)
    decider.decide(3.0)
    assert (eth1.plan.awaited, eth1.plan.addresses) == ((), ips(IPV4, IPV6))
    decider.decide(4.9)
    assert (eth2.plan.bring_up, eth2.plan.group) == (False, None)
    decider.decide(5.0)
    assert (eth2.plan.bring_up, eth2.plan.group) == (True, 3778)
    assert (eth1.plan.bring_up, eth1.plan.group) == (False, 3778)


def test_nothing_is_planned_anew_while_its_facts_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planned: list[int] = []

    def counted(subject: Any, policy: Policy) -> Any:
        planned.append(subject.link.index)
        return plan(subject, policy)

    monkeypatch.setattr(host_plan, "plan", counted)
    host = Host(Policy(), lambda: 0.0, strict=True)
    decider = Decider(host)

    def decide(now: float) -> list[int]:
        planned.clear()
        decider.decide(now)
        return sorted(planned)

    host.learn_primary(Value(PRIMARY))
    host.update_links({2: ETH0, 3: ETH1, 4: ETH2}, 0.0)
    assert decide(0.0) == [2, 3, 4]
    assert decide(0.1) == []
    host.learn(host.interfaces[3], FULL, 0.2)
    assert decide(0.2) == [3], "of eth2 no subnet is known yet, so it shares none"
    host.learn(host.interfaces[4], OTHER, 0.3)
    assert decide(0.3) == [4]
    host.learn(host.interfaces[2], OF_PRIMARY, 0.4)
    assert decide(0.4) == [2]
    assert decide(0.4) == []
    before = {index: interface.plan for index, interface in host.interfaces.items()}
    host.set_policy(Policy(rules=RuleMode.ADDRESS))
    assert decide(0.5) == [2, 3, 4]
    host.set_policy(Policy())
    assert decide(0.6) == [2, 3, 4]
    assert {index: interface.plan for index, interface in host.interfaces.items()} == before
    host.update_links({2: ETH0, 3: ETH1}, 0.7)
    assert decide(0.7) == [2, 3], "the guards hide one link less"
    assert set(decider._earlier.made.whole._of) == {2, 3}, "what is gone is not remembered"
