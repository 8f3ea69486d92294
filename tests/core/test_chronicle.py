"""What is told beside the transitions: each cause once, and nothing a thousand times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

from nicwatchd.core import chronicle, episodes
from nicwatchd.core.fights import LOSSES, WINDOW, Thing, place
from nicwatchd.core.metadata import EniMetadata, Value
from nicwatchd.core.model import MAIN_TABLE, AddRule, Link, Route, Rule
from nicwatchd.core.news import (
    Bypassed,
    Cause,
    EgressMoved,
    FamilyGivenUp,
    HealthChanged,
    LinkChanged,
    Lost,
    Restored,
)
from nicwatchd.core.policy import PrimaryMode
from nicwatchd.core.port import LinkEvent
from tests.core.build import ETH1, FULL4, NONE, V4, V6, eni, net
from tests.core.fast_motion import FastMotion
from tests.core.scenes import CALM, applied, hot_plugged

T = TypeVar("T", bound=Cause | HealthChanged)
FOREIGN = Rule(V4, 100, 100, protocol=3, src=net("10.0.2.0/24"))
ELSEWHERE = Route(net("0.0.0.0/0"), 100, 2, protocol=3)


def told(motion: FastMotion, kind: type[T]) -> list[T]:
    """The news of a kind since this was last asked; all other news is gone, too."""
    news, motion.news = motion.news, []
    return [each for each in news if isinstance(each, kind)]


def rules_of(motion: FastMotion) -> list[Thing]:
    return [AddRule(rule) for rule in motion.host.interfaces[3].plan.rules]


def flush(motion: FastMotion, *, who: str = "") -> None:
    """Others remove all rules of eth1, and the kernel's notifications name them."""
    for thing in rules_of(motion):
        assert isinstance(thing, AddRule)
        if who:
            motion.host.suspect(place(thing), who)
        if thing.rule in motion.kernel.own_rules:
            motion.kernel.drop(thing.rule)


def every(motion: FastMotion, seconds: float, times: int, act: Callable[[], None]) -> None:
    for number in range(times):
        motion.at(200.0 + number * seconds, act)


# --- lost and restored ---------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["port id 77, perhaps ip (child of bash, pid 7)", ""])
def test_what_was_lost_at_once_is_one_loss_and_one_return(who: str) -> None:
    motion = applied()
    lost = rules_of(motion)
    told(motion, Lost)
    motion.at(200.0, lambda: flush(motion, who=who))
    motion.run(205.0)
    news = [each for each in motion.news if isinstance(each, Lost | Restored)]
    assert [type(each) for each in news] == [Lost, Restored]
    loss, back = news
    assert isinstance(loss, Lost)
    assert isinstance(back, Restored)
    assert set(loss.things) == set(back.things) == set(lost)
    assert loss.who == ((who,) if who else ())
    assert loss.at == pytest.approx(200.0)
    assert 0.0 <= back.after < 1.0
    assert loss.view.link.name == "eth1"


def test_who_did_it_once_is_not_blamed_for_the_next_time() -> None:
    motion = applied()
    motion.at(200.0, lambda: flush(motion, who="port id 77"))
    motion.at(210.0, lambda: flush(motion))
    motion.run(215.0)
    assert [loss.who for loss in told(motion, Lost)] == [("port id 77",), ()]


def test_who_is_named_only_after_the_turn_that_saw_it_is_told_all_the_same() -> None:
    known, thing = episodes.Episodes(), AddRule(FOREIGN)
    known.lose(3, thing, None)
    known.seal({thing}, {}, 1.0, 1.1)
    known.back([thing], 1.2)
    known.turned()
    assert known.drain() == []
    known.suspect(place(thing), "port id 77")
    loss, back = known.drain()
    assert loss == episodes.Loss(3, (thing,), ("port id 77",), 1.0)
    assert isinstance(back, episodes.Return)
    assert back.after == pytest.approx(0.2)


def test_who_is_named_by_nobody_is_told_one_turn_later() -> None:
    known, thing = episodes.Episodes(), AddRule(FOREIGN)
    known.lose(3, thing, None)
    known.seal({thing}, {}, 1.0, 1.1)
    known.turned()
    assert known.drain() == []
    known.turned()
    assert known.drain() == [episodes.Loss(3, (thing,), (), 1.0)]


def test_a_loss_by_nobody_is_told_when_the_next_turn_is_over() -> None:
    motion = applied()
    told(motion, Lost)
    motion.at(200.0, lambda: flush(motion))
    motion.run(210.0)
    assert [loss.who for loss in told(motion, Lost)] == [()]


def test_a_fight_is_no_longer_told_as_losses() -> None:
    motion = applied()
    every(motion, 1.0, 30, lambda: flush(motion))
    motion.run(240.0)
    assert len(told(motion, Lost)) == LOSSES - 1


def test_losses_of_ever_other_things_are_told_at_a_pace_and_counted() -> None:
    motion = applied()
    told(motion, Lost)
    rules = [thing.rule for thing in rules_of(motion) if isinstance(thing, AddRule)]
    turn = iter(range(1000))

    def take_one() -> None:
        motion.kernel.drop(rules[next(turn) // 2 % len(rules)])

    times = 2 * len(rules)
    every(motion, 0.5, times, take_one)
    motion.run(200.0 + times * 0.5 + WINDOW)  # else it would be a fight
    motion.at(motion.now + 1.0, lambda: motion.kernel.drop(rules[0]))
    motion.run(motion.now + 5.0)
    losses = told(motion, Lost)
    assert sum(len(loss.things) + loss.untold for loss in losses) == times + 1 > episodes.TOLD
    assert len(losses) <= episodes.TOLD + 1
    assert losses[-1].untold == times - episodes.TOLD


def test_what_is_given_up_is_not_told_to_be_back() -> None:
    motion = applied()
    told(motion, Restored)

    def unplug() -> None:
        flush(motion)
        motion.kernel.unplug(3)

    motion.at(200.0, unplug)
    motion.run(210.0)
    assert told(motion, Restored) == []


# --- the link --------------------------------------------------------------------------------


def set_link(motion: FastMotion, field: str, *, to: bool) -> Callable[[], None]:
    def act() -> None:
        link = motion.kernel.links[3]
        up, running = (to, link.running) if field == "up" else (link.up, to)
        motion.kernel.set_link(replace(link, up=up, running=running))

    return act


def test_a_hot_plug_is_no_change_of_a_link() -> None:
    motion = hot_plugged()
    motion.run(130.0)
    assert told(motion, LinkChanged) == []


@pytest.mark.parametrize("field", ["up", "running"])
def test_a_link_that_others_set_down_and_up_is_told(field: str) -> None:
    motion = applied()
    told(motion, LinkChanged)
    motion.at(200.0, set_link(motion, field, to=False))
    motion.run(205.0)
    (down,) = told(motion, LinkChanged)
    assert (down.carries, down.view.link.up, down.flapped) == (False, field != "up", False)
    motion.at(210.0, set_link(motion, field, to=True))
    motion.run(215.0)
    (back,) = told(motion, LinkChanged)
    assert (back.carries, back.flapped) == (True, False)


def test_a_link_that_was_down_between_two_looks_has_flapped() -> None:
    motion = applied()
    told(motion, LinkChanged)
    motion.turn.take_event(LinkEvent(3, "eth1", down=True), motion.now)
    motion.turn.take_event(LinkEvent(3, "eth1"), motion.now)
    motion.run(motion.now + 1.0)
    (change,) = told(motion, LinkChanged)
    assert (change.carries, change.flapped) == (True, True)


def test_what_late_events_say_of_a_link_that_has_just_come_is_no_flap() -> None:
    motion = hot_plugged()
    motion.run(10.5)
    assert motion.host.interfaces[3].link.up
    motion.turn.take_event(LinkEvent(3, "eth1", down=True), motion.now)
    motion.run(130.0)
    assert told(motion, LinkChanged) == []


def test_a_link_that_flaps_without_end_is_told_a_few_times_and_then_as_it_is() -> None:
    motion = applied()
    told(motion, LinkChanged)
    every(motion, 1.0, 60, set_link(motion, "running", to=False))
    for number in range(60):
        motion.at(200.5 + number, set_link(motion, "running", to=True))
    motion.at(261.0, set_link(motion, "running", to=False))
    motion.run(261.0 + chronicle.SPAN + 10.0)
    changes = told(motion, LinkChanged)
    assert len(changes) <= 2 * chronicle.TOLD + 1
    assert not changes[-1].carries, "as it is in the end"


# --- foreign rules ---------------------------------------------------------------------------


def test_a_foreign_rule_that_takes_its_packets_is_told_and_that_it_is_gone() -> None:
    motion = applied()
    told(motion, Bypassed)
    motion.at(200.0, lambda: motion.kernel.put(FOREIGN, ELSEWHERE))
    motion.run(205.0)
    (began,) = told(motion, Bypassed)
    assert began.before == ()
    assert {reason.code for reason in began.by} == {"shadowed"}
    assert "priority 100 (table 100)" in began.by[0].text
    assert began.view.shadows == began.by
    motion.at(210.0, lambda: motion.kernel.drop(FOREIGN))
    motion.run(215.0)
    (ended,) = told(motion, Bypassed)
    assert (ended.by, ended.before) == ((), began.by)


# --- families --------------------------------------------------------------------------------

ONLY_V4 = eni(FULL4, NONE)
NO_V6_ASSIGNED = eni(FULL4, replace(NONE, cidrs=Value((net("2001:db8:0:2::/64"),))))


@pytest.mark.parametrize(
    ("reading", "code"),
    [(ONLY_V4, "no-sign-of-ipv6"), (NO_V6_ASSIGNED, "no-ipv6-assigned")],
    ids=["no sign", "a subnet with IPv6"],
)
def test_a_family_that_is_given_up_is_told_once(reading: EniMetadata, code: str) -> None:
    motion = hot_plugged(reading, CALM)
    motion.run(600.0)
    (given_up,) = told(motion, FamilyGivenUp)
    assert (given_up.family, given_up.reason.code) == (V6, code)
    assert given_up.after > 25.0


# --- the host's own traffic ------------------------------------------------------------------


def default(index: int, metric: int) -> Route:
    return Route(net("0.0.0.0/0"), MAIN_TABLE, index, metric=metric, protocol=16)


def test_an_egress_that_moved_is_told_with_whose_route_it_is() -> None:
    motion = FastMotion(replace(CALM, egress="leave", primary=PrimaryMode.LEAVE))
    motion.kernel.put(default(2, 1024))
    motion.run(5.0)
    assert told(motion, EgressMoved) == [], "at first it is as it is"
    vpn = Link(9, "02:00:00:00:00:99", "wg0", up=True, kind="wireguard")
    motion.at(10.0, lambda: motion.kernel.set_link(vpn))
    motion.at(10.0, lambda: motion.kernel.put(default(9, 50)))
    motion.run(15.0)
    (moved,) = told(motion, EgressMoved)
    assert (moved.family, moved.before, moved.after, moved.by_us) == (
        V4,
        ("eth0",),
        ("wg0",),
        False,
    )
    assert moved.view is not None
    assert moved.view.link.name == "eth0"
    motion.at(20.0, lambda: motion.kernel.drop(default(9, 50), default(2, 1024)))
    motion.run(25.0)
    (gone,) = told(motion, EgressMoved)
    assert (gone.before, gone.after) == (("wg0",), ())


# --- whether it works ------------------------------------------------------------------------


def test_a_verdict_that_changes_all_the_time_is_told_at_a_pace() -> None:
    motion = applied()
    told(motion, HealthChanged)
    motion.kernel.put(ELSEWHERE)
    every(motion, 1.0, 120, lambda: motion.kernel.put(FOREIGN))
    for number in range(120):
        motion.at(200.5 + number, lambda: motion.kernel.drop(FOREIGN))
    motion.run(400.0)
    changes = [each for each in told(motion, HealthChanged) if each.family is V4]
    assert 2 <= len(changes) <= 70
    assert changes[-1].after is not None
    assert changes[-1].after.health == "working", "as it is in the end"


def test_the_interface_that_is_gone_is_forgotten() -> None:
    motion = applied()
    motion.at(200.0, lambda: motion.kernel.unplug(3))
    motion.run(210.0)
    assert {key[0] for key in motion.turn._chronicle._told} == {2}
    assert ETH1.index not in motion.host.losses.episodes._paces
