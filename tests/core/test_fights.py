"""What others remove: put back, counted, and slowed down where they do it again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from errno import EEXIST
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.fights import (
    BURST,
    INTERVAL,
    LOSSES,
    WINDOW,
    Fights,
    Place,
    Thing,
    place,
    without,
)
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import (
    LOCAL_TABLE,
    MAIN_TABLE,
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    Operation,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
)
from nicwatchd.core.port import judge
from nicwatchd.core.words import brief
from tests.core.build import FULL4, FULL6, IPV4, MAC, NET4, NET6, TABLE, eni, family, ip, lease, net
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, FULL, applied, fights

LOOKUP = AddRule(Rule(Family.V4, 32765, TABLE, iif="lo", src=net(NET4)))
GUARD = AddRule(
    replace(
        LOOKUP.rule,
        table=MAIN_TABLE,
        suppress_prefixlength=0,
        suppress_ifgroup=3778,
    )
)
ADDRESS = AddAddress(3, ip(IPV4))
SOURCED = AddRoute(Route(net(NET4), TABLE, 3, prefsrc=ip(IPV4)))
PLAIN = AddRoute(Route(net(NET4), TABLE, 3))
GROUP = SetGroup(3, 3778)
REMOVAL = RemoveRule(LOOKUP.rule)
OTHER = AddRule(replace(LOOKUP.rule, table=LOCAL_TABLE))


# --- one thing after another ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "fought"),
    [
        pytest.param([0.0], False, id="an accident"),
        pytest.param([0.0, 1.0], False, id="twice is chance"),
        pytest.param([0.0, 1.0, 2.0], True, id="at once"),
        pytest.param([0.0, 60.0, 120.0], True, id="a job of each minute"),
        pytest.param([0.0, 100.0, 200.0], False, id="too rarely"),
        pytest.param([0.0, 100.0, 200.0, 210.0], True, id="the last of them count"),
        pytest.param([0.0, 1.0, 1.0 + WINDOW], False, id="forgotten meanwhile"),
        pytest.param([0.0, 1.0, WINDOW], True, id="just often enough"),
        pytest.param([0.0, 1.0, 2.0, 100.0, 200.0], True, id="slower, but never quiet"),
    ],
)
def test_when_it_is_a_fight(losses: list[float], fought: bool) -> None:
    fights = Fights()
    for at in losses:
        fights.forget(at)
        fights.lose(LOOKUP, None, at)
    assert fights.over(LOOKUP) is fought
    assert not fights.over(GUARD)
    assert fights.news() is (True if fought else None)
    assert fights.news() is None
    fights.forget(losses[-1] + WINDOW - 1)
    assert fights.over(LOOKUP) is fought
    fights.forget(losses[-1] + WINDOW)
    assert fights.reason is None
    assert fights.news() is (False if fought else None)


def test_what_a_fight_is_and_what_it_may_cost() -> None:
    """A timer of each minute is one: three of its runs lie within the window."""
    assert (LOSSES, WINDOW) == (3, 150.0)
    assert (BURST, INTERVAL) == (10, 5.0)


def test_the_pace() -> None:
    """At once, as often as an accident may happen; then slowly, for as long as it lasts."""
    fights = Fights()
    now = 0.0
    for _ in range(BURST):
        fights.lose(LOOKUP, None, now)
        assert not fights.throttled(now)
    for _ in range(50):  # removed whenever it is back
        fights.lose(LOOKUP, None, now)
        assert fights.throttled(now + INTERVAL - 0.1) == {LOOKUP: now + INTERVAL}
        assert now + INTERVAL in set(fights.deadlines())
        now += INTERVAL
        assert not fights.throttled(now)
    assert not fights.throttled(now)
    fights.lose(PLAIN, None, now)
    assert not fights.throttled(now), "each thing has its own pace"


def test_what_is_told() -> None:
    fights = Fights()
    for at in (1.0, 4.0, 13.0):
        fights.lose(LOOKUP, "port id 77, perhaps networkd" if at < 13.0 else None, at)
    reason = fights.reason
    assert reason is not None
    assert reason.code == "fought-over"
    assert reason.text == (
        "the IPv4 rule 32765 (iif lo from 10.0.2.0/24) was removed 3 times in 12 s; the kernel's "
        "notifications name port id 77, perhaps networkd; nicwatchd puts it back each time: "
        "10 times at once, then once in 5 s"
    )
    for at in (13.0, 13.0, 13.0):
        fights.lose(GROUP, None, at)
    reason = fights.reason
    assert reason is not None
    assert ", and 1 more of nicwatchd's objects repeatedly; the kernel's" in reason.text


IP = ("port id 77, perhaps ip", "stop ip")
NFT = ("port id 78, perhaps nft", "stop nft")
NOBODY = ("port id 79", "")


@pytest.mark.parametrize(
    ("named", "who", "remedy"),
    [
        pytest.param([NOBODY] * 3, NOBODY, "", id="nobody"),
        pytest.param([IP, NOBODY, NOBODY], IP, "", id="once may be chance"),
        pytest.param([IP, NOBODY, IP], IP, "stop ip", id="twice"),
        pytest.param([IP, IP, NOBODY], IP, "stop ip", id="and then nobody"),
        pytest.param([IP, NFT, IP], IP, "", id="now one, now another"),
        pytest.param([IP, IP, NFT], NFT, "", id="another one since"),
        pytest.param([NFT, IP, IP], IP, "stop ip", id="the latest"),
    ],
)
def test_what_ends_it_is_told_once_the_same_one_was_named_again(
    named: list[tuple[str, str]], who: tuple[str, str], remedy: str
) -> None:
    fights = Fights()
    for at, (name, stop) in enumerate(named):
        fights.lose(LOOKUP, name, float(at), stop)
    reason = fights.reason
    assert reason is not None
    assert f"; the kernel's notifications name {who[0]}; nicwatchd" in reason.text
    assert reason.remedy == remedy


def test_of_several_things_the_one_whose_culprit_is_known_is_told() -> None:
    fights = Fights()
    for at in range(3):
        fights.lose(PLAIN, None, float(at))
        fights.lose(LOOKUP, NOBODY[0], float(at))
        fights.lose(LOOKUP, NOBODY[0], float(at))
        fights.lose(GROUP, IP[0], float(at), IP[1])
    reason = fights.reason
    assert reason is not None
    assert reason.text.startswith("the link group 3778 was removed 3 times")
    assert ", and 2 more of" in reason.text
    assert reason.remedy == "stop ip"


@pytest.mark.parametrize(
    ("lost", "said", "where"),
    [
        (LOOKUP, "the IPv4 rule 32765 (iif lo from 10.0.2.0/24)", Place(AddRule, 32765, 4)),
        (SOURCED, f"the route to 10.0.2.0/24 in table {TABLE}", Place(AddRoute, 3, 4)),
        (ADDRESS, "the address 10.0.2.10", Place(AddAddress, 3)),
        (GROUP, "the link group 3778", Place(SetGroup, 3)),
    ],
)
def test_names_and_places(lost: Thing, said: str, where: Place) -> None:
    assert (brief(lost), place(lost)) == (said, where)
    assert Place(AddAddress, 3).family == 0, "either"


@pytest.mark.parametrize(
    ("throttled", "left"),
    [
        pytest.param(set(), [ADDRESS, SOURCED, PLAIN, GUARD, LOOKUP, REMOVAL], id="nothing"),
        pytest.param({ADDRESS}, [PLAIN, GUARD, LOOKUP, REMOVAL], id="no route without its source"),
        pytest.param({GUARD}, [ADDRESS, SOURCED, PLAIN], id="no rule without its guard"),
        pytest.param({LOOKUP}, [ADDRESS, SOURCED, PLAIN, GUARD], id="a guard alone does no harm"),
        pytest.param({PLAIN}, [ADDRESS, SOURCED, GUARD, LOOKUP, REMOVAL], id="a route"),
        pytest.param(
            {OTHER}, [ADDRESS, SOURCED, PLAIN, GUARD, LOOKUP, REMOVAL], id="what is in place"
        ),
    ],
)
def test_what_waits_for_what_is_throttled(throttled: set[Thing], left: list[Operation]) -> None:
    """A rule's first copy stays until the guard is there, and the second behind it."""
    operations = (ADDRESS, SOURCED, PLAIN, GUARD, LOOKUP, REMOVAL)
    assert list(without(operations, throttled)) == left


@pytest.mark.parametrize("other", [{"oif": "eth1"}, {"family": Family.V6, "src": net(NET6)}])
def test_what_is_throttled_holds_no_other_selector_up(other: dict[str, Any]) -> None:
    rule = replace(LOOKUP.rule, **{"src": None, "iif": None, **other})
    operations = (GUARD, AddRule(rule), RemoveRule(rule))
    assert list(without(operations, {GUARD})) == [*operations[1:]]


def test_a_route_that_is_to_replace_another_is_throttled_all_the_same() -> None:
    assert list(without([replace(PLAIN, replace=True)], {PLAIN})) == []


@given(st.lists(st.floats(0.0, 4.0), min_size=1, max_size=80))
def test_no_span_has_more_than_the_burst_and_the_pace(gaps: list[float]) -> None:
    fights, now, healed = Fights(), 0.0, [0.0]
    for gap in gaps:
        now += gap
        fights.forget(now)
        fights.lose(LOOKUP, None, now)
        while fights.throttled(now):
            now = min(at for at in fights.deadlines() if at > now)
        healed.append(now)
    for first in range(1, len(healed)):
        for last in range(first, len(healed)):
            span = healed[last] - healed[first]
            assert last - first + 1 <= BURST + 1 + span / INTERVAL


# --- the whole host ------------------------------------------------------------------------------


def remove(motion: FastMotion, thing: Thing) -> None:
    kernel = motion.kernel
    match thing:
        case AddRule(rule=rule):
            kernel.drop(rule)
        case AddRoute(route=route):
            kernel.drop(route)
        case AddAddress(index=index, ip=address):
            kernel.drop(*(a for a in kernel.addresses_of(index) if a.ip == address))
        case SetGroup(index=index):
            kernel.set_link(replace(kernel.links[index], group=0))


TWO = eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4), FULL6)


def things_of(motion: FastMotion) -> list[Thing]:
    plan = motion.host.interfaces[3].plan
    return [
        SetGroup(3, 3778),
        *(AddAddress(3, address) for address in plan.addresses),
        *(AddRoute(route) for route in plan.routes),
        *(AddRule(rule) for rule in plan.rules),
    ]


KINDS: dict[str, Callable[[Thing], bool]] = {
    "group": lambda t: isinstance(t, SetGroup),
    "address": lambda t: isinstance(t, AddAddress),
    "route": lambda t: isinstance(t, AddRoute) and t.route.dst.prefixlen == 0,
    "rule": lambda t: isinstance(t, AddRule) and t.rule.table != MAIN_TABLE,
    "guard": lambda t: isinstance(t, AddRule) and t.rule.table == MAIN_TABLE,
}


@pytest.mark.parametrize("which", KINDS)
def test_a_fight_is_told_once_and_healed_at_its_pace(which: str) -> None:
    motion = applied(TWO)
    (victim, *_) = filter(KINDS[which], things_of(motion))
    told, written = len(motion.told), len(motion.written)
    removed = [200.0 + second for second in range(60)]

    def fight() -> None:  # whenever it is there
        if motion.host.interfaces[3].plan and victim not in missing(motion):
            motion.host.suspect(place(victim), "port id 77")
            remove(motion, victim)

    for at in removed:
        motion.at(at, fight)
    motion.run(230.0)
    assert fights(motion) == [(3, True)]
    (note,) = (n for n in motion.host.interfaces[3].view().notes if n.code == "fought-over")
    assert "port id 77" in note.text
    assert motion.state() is APPLIED
    motion.run(250.0 + WINDOW)
    assert fights(motion) == []
    heals = [operation for _, operation in motion.written[written:]].count(victim)
    assert BURST + 4 <= heals <= BURST + 60 / INTERVAL
    assert sum(motion.host.losses.heals.values()) == heals
    assert not missing(motion)
    assert len(motion.told) - told <= 2 * LOSSES, "the first ones are transitions, the rest are not"
    motion.run(270.0 + WINDOW)
    assert fights(motion) == [(3, False)]
    assert not motion.host.interfaces[3].fights.reason


def test_what_ends_it_comes_from_the_notifications_of_each_turn() -> None:
    motion = applied(TWO)
    (victim, *_) = filter(KINDS["rule"], things_of(motion))

    def remedy() -> str:
        (note,) = (n for n in motion.host.interfaces[3].view().notes if n.code == "fought-over")
        return note.remedy

    def strike() -> None:
        motion.host.suspect(place(victim), *IP)
        motion.host.suspect(place(victim), *NOBODY)  # the flush's next socket
        remove(motion, victim)

    def strike_unseen() -> None:
        remove(motion, victim)

    for at, how in enumerate([strike, strike_unseen, strike_unseen, strike]):
        motion.at(200.0 + at, how)
    motion.run(202.5)
    assert remedy() == ""
    motion.run(203.5)
    assert remedy() == IP[1]


def missing(motion: FastMotion) -> set[Thing]:
    kernel = motion.kernel
    there: set[Thing] = {AddRule(rule) for rule in kernel.own_rules}
    there |= {AddRoute(route) for route in kernel.own_routes}
    there |= {AddAddress(a.index, a.ip) for a in kernel.addresses}
    there |= {SetGroup(link.index, link.group) for link in kernel.links.values()}
    return set(things_of(motion)) - there


def test_a_fight_over_one_thing_delays_nothing_else() -> None:
    motion = applied(TWO)
    rules = [t for t in things_of(motion) if isinstance(t, AddRule)]
    fought, other = rules[-1], rules[0]
    for tick in range(100):
        motion.at(
            200.0 + tick / 10, lambda: remove(motion, fought) if not missing(motion) else None
        )
    motion.run(204.05)
    assert missing(motion) == {fought}
    remove(motion, other)
    motion.run(204.06)
    assert missing(motion) == {fought}
    motion.imds(MAC, 206.0, FULL)  # another address of its goes meanwhile
    motion.run(260.0)
    assert not missing(motion)


def test_it_is_seen_also_where_the_other_is_faster_than_our_look() -> None:
    """It is removed before it was read back: it was never seen in its place."""
    motion = applied()
    (victim, *_) = (t for t in things_of(motion) if isinstance(t, AddRule))
    remove(motion, victim)
    for second in range(1, LOSSES):
        assert fights(motion) == []
        motion.now = 200.0 + second
        assert victim in motion.decide()
        # The kernel takes it, and it is missing again before it was read back.
        (copy,) = motion.apply()  # of its rule, which stands behind it once more
        assert isinstance(copy, RemoveRule)
        assert motion.apply() == ()
        assert not motion.turn.settled
    assert fights(motion) == [(3, True)]
    assert motion.host.losses.heals == {"rule": LOSSES}


def test_what_the_kernel_refuses_is_no_fight() -> None:
    motion = applied()
    (victim, *_) = (t for t in things_of(motion) if isinstance(t, AddRoute))
    remove(motion, victim)
    for second in range(5):
        motion.now = 200.0 + second
        assert victim in motion.decide()
        assert motion.apply({victim: judge(victim, EEXIST)}) == ()
    assert fights(motion) == []
    assert motion.reasons() == {"route-in-the-way"}
    assert motion.host.losses.heals == {"route": 1}


def test_a_link_that_flaps_is_no_fight() -> None:
    motion = applied(TWO)
    link = motion.kernel.links[3]
    for tick in range(10):
        motion.at(200.0 + tick, lambda: motion.kernel.set_link(replace(link, up=False)))
        if tick % 2:  # seen down; else it is up again before anybody looks
            motion.at(200.2 + tick, lambda: motion.kernel.set_link(link))
        else:
            motion.at(200.0 + tick, lambda: motion.kernel.set_link(link))
            motion.at(200.0 + tick, lambda: motion.host.flapped(3))
    motion.run(220.0)
    assert not missing(motion)
    assert (fights(motion), sum(motion.host.losses.heals.values())) == ([], 0)
    assert motion.state() is APPLIED


def test_facts_that_change_are_no_fight() -> None:
    motion = applied()
    for tick in range(6):
        motion.imds(MAC, 200.0 + 100.0 * tick, TWO if tick % 2 else eni(FULL4, FULL6))
    motion.run(1000.0)
    assert motion.state() is APPLIED
    assert (fights(motion), sum(motion.host.losses.heals.values())) == ([], 0)


def test_a_lease_that_takes_an_address_over_is_no_fight() -> None:
    motion = applied(TWO)
    second = ip("10.0.2.11")
    for tick in range(4):

        def takes() -> None:
            remove(motion, AddAddress(3, second))
            motion.kernel.put(lease("10.0.2.11/24"))

        def leaves() -> None:
            remove(motion, AddAddress(3, second))

        motion.at(200.0 + tick, takes)
        motion.at(200.5 + tick, leaves)
    motion.run(210.0)
    assert not missing(motion)
    assert (fights(motion), sum(motion.host.losses.heals.values())) == ([], 0)


def test_an_interface_that_went_takes_its_fight_along() -> None:
    motion = applied()
    (victim, *_) = (t for t in things_of(motion) if isinstance(t, AddRoute))
    motion.host.suspect(place(victim), "port id 77")
    for tick in range(4):
        motion.at(200.0 + tick, lambda: remove(motion, victim))
    motion.run(204.0)
    assert fights(motion) == [(3, True)]
    motion.at(205.0, lambda: motion.kernel.unplug(3))
    motion.run(206.0)
    assert fights(motion) == []
    assert motion.host.losses._suspects == {}
    motion.host.suspect(place(victim), "port id 77")
    assert motion.host.losses._suspects == {}


def test_the_primarys_group_can_be_fought_over_too() -> None:
    motion = applied()
    assert isinstance(motion.host.primary_mac, Value)
    for tick in range(4):
        motion.at(200.0 + tick, lambda: remove(motion, SetGroup(2, 3778)))
    motion.run(204.0)
    assert fights(motion) == [(2, True)]
    assert motion.kernel.links[2].group == 3778
