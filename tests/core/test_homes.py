"""Addresses of an ENI that live elsewhere on the host: in containers, in VMs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from nicwatchd.core.facts import Facts, Home
from nicwatchd.core.homes import Homes
from nicwatchd.core.metadata import EniMetadata
from nicwatchd.core.model import (
    MAIN_TABLE,
    RTPROT_BOOT,
    Address,
    Family,
    Hop,
    Link,
    Route,
    Rule,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import LinkEvent, NexthopEvent, RouteEvent
from tests.core.build import (
    ETH0,
    ETH1,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    V4,
    V6,
    added,
    eni,
    family,
    ip,
    lease,
    net,
    nets,
    permanent,
    static,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, CALM, applied, hot_plugged, quiet, selectors

BOX: Final = Link(9, "06:00:00:00:00:09", "c-box", up=True, kind="veth", driver="veth")
HIS: Final = {V4: "10.0.2.77", V6: "2001:db8:0:2::77"}
BITS: Final = {V4: 32, V6: 128}
FIRST: Final = {V4: IPV4, V6: IPV6}
BOTH = pytest.mark.parametrize("which", Family, ids=lambda each: each.label)
READING: Final[EniMetadata] = eni(
    family(f"{IPV4} {HIS[V4]}", cidrs=NET4), family(f"{IPV6} {HIS[V6]}", cidrs=NET6)
)


def route(which: Family, index: int = BOX.index, **more: Any) -> Route:
    return replace(static(f"{HIS[which]}/{BITS[which]}", index=index), **more)


def rule(which: Family, word: str, table: int, of: str = "", **more: Any) -> Rule:
    source = net(f"{of or HIS[which]}/{BITS[which]}")
    led = Rule(which, 600, table, RTPROT_BOOT)
    named = replace(led, src=source) if word == "from" else replace(led, dst=source)
    return replace(named, **more)


# --- which signs count ---------------------------------------------------------------------------


def found(
    *rules: Rule,
    links: set[int] | None = None,
    addresses: tuple[Address, ...] = (),
    which: Family = V4,
) -> dict[str, str]:
    facts = Facts(ETH1, 0.0)
    facts.learn(READING, 1.0, Policy())
    facts.update(addresses, ())
    routes = {ip(HIS[which]): frozenset(links)} if links else {}
    homes = Homes(routes, rules, {2, 3}, {9: "c-box"}.get)
    return {str(address): home.sign for address, home in homes.of(facts).items()}


@BOTH
@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ({9}, "main has a route to it through c-box"),
        ({9, 10}, "main has a route to it through c-box, link 10"),
        ({3, 9}, "main has a route to it through c-box"),
        ({3}, ""),
        ({2}, ""),
    ],
)
def test_a_route_of_main(links: set[int], expected: str, which: Family) -> None:
    assert found(links=links, which=which) == ({HIS[which]: expected} if expected else {})


@BOTH
@pytest.mark.parametrize(
    ("word", "table", "more", "counts"),
    [
        pytest.param("to", MAIN_TABLE, {}, True, id="to, as the VPC CNI has it"),
        pytest.param("to", 200, {}, True, id="to another table"),
        pytest.param("to", MAIN_TABLE, {"iif": "eth1"}, True, id="to, for what comes in"),
        pytest.param("from", 2, {}, True, id="from"),
        pytest.param("from", MAIN_TABLE, {}, False, id="from, to main"),
        pytest.param("from", 2, {"fwmark": 7}, False, id="some of what comes from it"),
        pytest.param("from", 2, {"dst": net("0.0.0.0/0")}, False, id="for a destination"),
        pytest.param("from", 2, {"iif": "lo"}, False, id="what the host itself sends"),
        pytest.param("from", 2, {"suppress_prefixlength": 0}, False, id="a part of the table"),
        pytest.param("to", 200, {"protocol": 236}, False, id="ours"),
        pytest.param("to", 200, {"inverted": True}, False, id="to all but the address"),
        pytest.param("from", 2, {"inverted": True}, False, id="from all but the address"),
        pytest.param("from", 2, {"exotic": True}, False, id="from, for some ports"),
        pytest.param("to", 0, {"action": 7}, False, id="unreachable"),
    ],
)
def test_a_rule(
    word: str, table: int, more: dict[str, Any], *, counts: bool, which: Family
) -> None:
    assert set(found(rule(which, word, table, **more), which=which)) == (
        {HIS[which]} if counts else set()
    )


@BOTH
@pytest.mark.parametrize("held", ["housed", "above"])
def test_what_another_link_has_can_be_used_unless_a_rule_or_a_route_leads_it_away(
    held: str, which: Family
) -> None:
    its = ip(HIS[which])
    holders = {its: frozenset({9})}
    where: dict[str, Any] = {held: holders if held == "housed" else {3: holders}}
    facts = Facts(ETH1, 0.0)
    facts.learn(READING, 1.0, Policy())

    def home(*rules: Rule, links: frozenset[int] = frozenset()) -> Home:
        homes = Homes({its: links}, rules, {2, 3}, {9: "br0"}.get, **where)
        return homes.of(facts)[its]

    sign = "br0 has it" if held == "housed" else "br0 on top of it has it"
    assert home() == Home(sign, is_usable=True)
    assert home(rule(which, "from", MAIN_TABLE)) == Home(sign, is_usable=True)
    assert home(rule(which, "from", 2)) == Home(sign)
    assert home(rule(which, "to", 2)) == Home(sign)
    assert home(links=frozenset({9})) == Home(sign, is_usable=True), "the kernel's own, in IPv6"
    assert not home(links=frozenset({10})).is_usable


@BOTH
def test_rules_for_more_than_the_address_say_nothing(which: Family) -> None:
    wide = {V4: net("10.0.2.64/26"), V6: net("2001:db8:0:2::/80")}[which]
    led = Rule(which, 512, 2, RTPROT_BOOT)
    assert found(replace(led, src=wide), replace(led, dst=wide), which=which) == {}


@BOTH
@pytest.mark.parametrize("where", [HIS, FIRST], ids=["second", "first"])
def test_rules_both_ways_to_one_table_are_the_hosts(
    where: dict[Family, str], which: Family
) -> None:
    """Many guides for hosts with two interfaces make them."""
    of = where[which]
    pair = (rule(which, "from", 100, of), rule(which, "to", 100, of))
    assert found(*pair, which=which) == {}
    assert set(found(pair[0], rule(which, "to", MAIN_TABLE, of), which=which)) == {of}


@BOTH
def test_the_first_address_is_the_hosts_unless_it_is_led_away(which: Family) -> None:
    of = FIRST[which]
    assert found(rule(which, "from", 100, of), which=which) == {}
    assert set(found(rule(which, "to", MAIN_TABLE, of), which=which)) == {of}


@BOTH
@pytest.mark.parametrize("word", ["from", "to"])
@pytest.mark.parametrize("make", [lease, permanent])
def test_what_others_have_on_the_link_lives_there(make: Any, word: str, which: Family) -> None:
    here = (make(f"{HIS[which]}/{BITS[which]}"),)
    assert found(rule(which, word, 2), addresses=here, which=which) == {}
    ours = (added(f"{HIS[which]}/{BITS[which]}"),)
    assert set(found(rule(which, word, 2), addresses=ours, which=which)) == {HIS[which]}


# --- a host in fast motion -----------------------------------------------------------------------


def on_link(motion: FastMotion) -> set[str]:
    return {str(address.ip) for address in motion.kernel.addresses_of(3)}


def notes(motion: FastMotion) -> list[str]:
    return [note.code for note in motion.host.interfaces[3].view().notes]


def own(which: Family) -> str:
    return f"{HIS[which]}/{BITS[which]}"


SIGNS: Final[dict[str, Any]] = {
    "a route": route,
    "by a routing daemon": lambda which: route(which, protocol=12, metric=20),
    "several next hops": lambda which: route(which, hops=(Hop(9), Hop(10))),
    "a rule to": lambda which: rule(which, "to", MAIN_TABLE),
    "a rule from": lambda which: rule(which, "from", 2),
}


@BOTH
@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("first", ["sign", "daemon"])
def test_it_is_kept_off_the_link_and_its_traffic_leaves_by_the_eni(
    first: str, sign: str, which: Family
) -> None:
    motion = hot_plugged(READING, CALM)
    for box in (BOX, replace(BOX, index=10, name="c-box2")):
        motion.kernel.set_link(box)
    its = SIGNS[sign](which)
    motion.at(5.0 if first == "sign" else 200.0, lambda: motion.kernel.put(its))
    motion.run(150.0)
    assert (HIS[which] in on_link(motion)) is (first == "daemon")
    motion.run(300.0)
    assert HIS[which] not in on_link(motion)
    assert {FIRST[which], *(HIS[each] for each in Family if each is not which)} <= on_link(motion)
    assert own(which) in selectors(motion, 3, which)
    assert (notes(motion), motion.state()) == (["lives-elsewhere"], APPLIED)
    assert quiet(motion)
    motion.at(700.0, lambda: motion.kernel.drop(its))
    motion.run(800.0)
    assert HIS[which] in on_link(motion)
    assert notes(motion) == []


@BOTH
def test_a_restart_takes_it_off_though_imds_is_gone(which: Family) -> None:
    motion = applied(READING)
    motion.kernel.set_link(BOX)
    motion.kernel.put(route(which))
    motion._readings.clear()
    motion.turn = motion.begin(CALM)
    motion.run(motion.now + 30.0)
    assert HIS[which] not in on_link(motion)
    assert own(which) in selectors(motion, 3, which) or NET4 in selectors(motion, 3, 4)


@BOTH
def test_the_settings_leave_addresses_to_others(which: Family) -> None:
    left = nets("10.0.2.64/26", "2001:db8:0:2::77/128")
    policy = replace(CALM, leave_addresses=left)
    motion = applied(READING, policy)
    assert HIS[which] not in on_link(motion)
    assert own(which) in selectors(motion, 3, which)
    assert notes(motion) == ["left-alone"] * 2
    motion.turn.set_policy(CALM, motion.now)
    motion.run(motion.now + 10.0)
    assert HIS[which] in on_link(motion)
    motion.turn.set_policy(policy, motion.now)
    motion.run(motion.now + 10.0)
    assert HIS[which] not in on_link(motion)


# --- when to read main's host routes -------------------------------------------------------------


def asks(motion: FastMotion) -> bool:
    """Whether the next turn reads them."""
    return bool(motion.turn.picture.objects_wanted(motion.now).hosts)


def settled(*, boxed: bool = False) -> FastMotion:
    motion = applied(READING)
    motion.kernel.set_link(BOX)
    if boxed:
        motion.kernel.put(route(V4))
    motion.run(motion.now + 100.0)
    return motion


EVENT: Final = RouteEvent(V4, MAIN_TABLE, RTPROT_BOOT, 9, host=ip(HIS[V4]))


@pytest.mark.parametrize(
    ("event", "boxed", "expected"),
    [
        pytest.param(EVENT, False, True, id="a route to an address of an ENI's"),
        pytest.param(replace(EVENT, deleted=True), True, True, id="... goes"),
        pytest.param(replace(EVENT, host=ip("10.9.0.1")), False, False, id="to another"),
        pytest.param(replace(EVENT, host=None), False, False, id="to a network"),
        pytest.param(replace(EVENT, oif=3), False, False, id="through the ENI itself"),
        pytest.param(replace(EVENT, oif=0, hops=(3, 9)), False, True, id="through both"),
        pytest.param(replace(EVENT, oif=3), True, True, id="it may have replaced another"),
        pytest.param(NexthopEvent(0, ip(HIS[V4])), False, True, id="by an object's number"),
        pytest.param(NexthopEvent(0), False, False, id="an object, where nothing lives elsewhere"),
        pytest.param(NexthopEvent(0), True, True, id="an object"),
        pytest.param(NexthopEvent(8), True, False, id="... of another link"),
        pytest.param(NexthopEvent(9), True, True, id="... of its link"),
        pytest.param(LinkEvent(9, gone=True), True, True, id="its link goes"),
        pytest.param(LinkEvent(9, "c-box", "veth", down=True), True, True, id="... down"),
        pytest.param(LinkEvent(9, "c-box", "veth"), True, False, id="... changes"),
        pytest.param(LinkEvent(8, gone=True), True, False, id="another link goes"),
    ],
)
def test_events(event: Any, *, boxed: bool, expected: bool) -> None:
    motion = settled(boxed=boxed)
    assert not asks(motion)
    delay = motion.turn.picture.take_event(event, motion.now, by_us=False)
    assert asks(motion) is expected
    assert delay is not None or not expected
    assert not asks(motion), "once is enough"


def test_they_are_read_when_imds_lists_more() -> None:
    motion = settled()
    more = eni(family(f"{IPV4} {HIS[V4]} 10.0.2.78", cidrs=NET4), family(IPV6, cidrs=NET6))
    interface = motion.host.interfaces[3]
    motion.host.learn(interface, more, motion.now)
    wanted = motion.turn.picture.objects_wanted(motion.now).hosts
    assert wanted == frozenset().union(*motion.host.candidates.values())
    motion.host.learn(interface, READING, motion.now)  # fewer: what is known holds
    assert not asks(motion)


def test_nothing_is_read_where_there_is_no_address() -> None:
    motion = FastMotion(CALM)
    motion.kernel.set_link(ETH0)
    motion.run(20.0)
    motion.happened()
    motion.turn.start(motion.now)
    assert not asks(motion)
    assert MAC not in {link.mac for link in motion.kernel.links.values()}
