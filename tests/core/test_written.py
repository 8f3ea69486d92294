"""What we wrote is told once for each turn and interface, with its cause, and nothing at rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from nicwatchd.core import chronicle
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    AddAddress,
    AddRoute,
    AddRule,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    SetGroup,
)
from nicwatchd.core.news import Lost, Wrote
from nicwatchd.core.policy import AddressMode
from tests.core.build import FULL4, FULL6, MAC, eni, ips
from tests.core.fast_motion import FastMotion
from tests.core.scenes import CALM, applied, hot_plugged

MORE = eni(replace(FULL4, addresses=Value(ips("10.0.2.10", "10.0.2.12"))), FULL6)


def told(motion: FastMotion) -> list[Wrote]:
    """What was written since this was last asked."""
    news, motion.news = motion.news, []
    return [each for each in news if isinstance(each, Wrote)]


def of_eth1(motion: FastMotion) -> list[Wrote]:
    return [each for each in told(motion) if each.view and each.view.link.name == "eth1"]


def kinds(*written: Wrote) -> set[type[Operation]]:
    return {type(operation) for each in written for operation in each.operations}


def test_a_hot_plug_is_told_turn_by_turn_and_all_that_is_there_was_told() -> None:
    motion = hot_plugged()
    motion.run(130.0)
    written = of_eth1(motion)
    first, *_ = written
    assert first.why.code == "taken-up"
    assert SetGroup in kinds(first)
    assert "imds-news" in {each.why.code for each in written}
    counted = Counter(type(o) for each in written for o in each.operations)
    plan = motion.host.interfaces[3].plan
    assert counted[AddRule] - counted[RemoveRule] == len(plan.rules)
    routes = {o.route.key for each in written for o in each.operations if isinstance(o, AddRoute)}
    assert {route.key for route in plan.routes} <= routes


def test_at_rest_nothing_is_told() -> None:
    motion = applied()
    told(motion)
    motion.run(1000.0)
    assert told(motion) == []


def test_what_others_took_is_told_as_a_loss_and_not_as_a_change() -> None:
    motion = applied()
    told(motion)
    for number in range(30):  # in the end a fight, in which rules are added late
        rule = motion.host.interfaces[3].plan.rules[number % 2]
        motion.at(200.0 + number, lambda rule=rule: motion.kernel.drop(rule))  # type: ignore[misc]
    motion.run(400.0)
    assert any(isinstance(each, Lost) for each in motion.news)
    assert told(motion) == []


def test_what_imds_lists_in_place_is_the_cause() -> None:
    motion = applied()
    told(motion)
    motion.imds(MAC, 200.0, MORE)
    motion.run(300.0)
    (added,) = of_eth1(motion)
    assert added.why.code == "imds-news"
    assert AddAddress in kinds(added)


def test_settings_are_the_cause() -> None:
    motion = applied(MORE)
    told(motion)
    policy = replace(CALM, addresses=AddressMode.NONE)
    motion.at(200.0, lambda: motion.turn.set_policy(policy, motion.now))
    motion.run(300.0)
    (removed,) = of_eth1(motion)
    assert removed.why.code == "settings-changed"
    assert RemoveAddress in kinds(removed)


def test_a_release_and_its_end_are_the_cause() -> None:
    motion = applied()
    told(motion)
    key = motion.host.interfaces[3].key

    def release() -> None:
        motion.turn.release(key, motion.now)

    def reconcile() -> None:
        motion.turn.reconcile(key, motion.now)

    motion.at(200.0, release)
    motion.run(210.0)
    (released,) = of_eth1(motion)
    assert released.why.code == "released"
    assert kinds(released) >= {RemoveRoute, RemoveRule, SetGroup}
    motion.at(220.0, reconcile)
    motion.run(230.0)
    assert {each.why.code for each in of_eth1(motion)} == {"managed"}


def test_what_is_removed_after_an_interface_is_for_none_that_is_there() -> None:
    motion = applied()
    told(motion)
    motion.at(200.0, lambda: motion.kernel.unplug(3))
    motion.run(210.0)
    (removed,) = (each for each in told(motion) if each.view is None)
    assert removed.why.code == "no-interface"
    assert kinds(removed) == {RemoveRule}


def test_guards_that_are_removed_are_the_interface_s_too() -> None:
    motion = applied()
    told(motion)
    key = motion.host.interfaces[3].key

    def release() -> None:
        motion.turn.release(key, motion.now)

    rules = motion.host.interfaces[3].plan.rules
    assert any(rule.table == MAIN_TABLE for rule in rules)
    motion.at(200.0, release)
    motion.run(210.0)
    removed = [o.rule for w in of_eth1(motion) for o in w.operations if isinstance(o, RemoveRule)]
    assert set(removed) == set(rules)


def test_what_changes_all_the_time_is_told_at_a_pace_and_completely() -> None:
    motion = applied()
    told(motion)
    policies = [replace(CALM, addresses=mode) for mode in (AddressMode.NONE, AddressMode.AUTO)]
    motion.imds(MAC, 150.0, MORE)
    motion.run(199.0)
    told(motion)
    for number in range(61):
        policy = policies[number % 2]
        motion.at(
            200.0 + number,
            lambda policy=policy: motion.turn.set_policy(policy, motion.now),  # type: ignore[misc]
        )
    motion.run(261.0 + chronicle.SPAN + 10.0)
    written = of_eth1(motion)
    assert 2 <= len(written) <= 2 * chronicle.TOLD
    sums = Counter(type(o) for each in written for o in each.operations)
    assert sums[RemoveAddress] - sums[AddAddress] == 1, "as it is in the end"


@pytest.mark.parametrize("kind", [AddRule, AddRoute])
def test_what_an_earlier_run_left_is_adopted_without_a_word(kind: type[Operation]) -> None:
    motion = applied()
    told(motion)
    motion.turn = motion.begin(CALM)
    motion.run(300.0)
    assert kind not in kinds(*told(motion))
