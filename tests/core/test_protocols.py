"""A family that the link lacks is off: a verdict, nothing to wait for, and looked at again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nicwatchd.core.agenda import HEARTBEAT
from nicwatchd.core.evidence import Status, Witness, judge
from nicwatchd.core.model import AddAddress, AddRoute, AddRule, Family, Link, Route, Rule
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Outcome, Result
from nicwatchd.core.protocols import why_off
from nicwatchd.core.staleness import Staleness
from tests.core.build import ETH1, FULL4, FULL6, IPV6, NET6, V4, V6, eni, ip, net
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, CALM, FULL, IGNORED, applied, hot_plugged, quiet, selectors

DISABLED = replace(ETH1, disable_ipv6=True)
SMALL = replace(ETH1, mtu=1279, has_ipv6=False)
NOWHERE = replace(ETH1, mtu=9001, has_ipv6=False)


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (ETH1, None),
        (replace(ETH1, mtu=1280), None),
        (DISABLED, "by the sysctl net.ipv6.conf.eth1.disable_ipv6"),
        (SMALL, "since the link's MTU is 1279, and IPv6 needs 1280"),
        (replace(SMALL, disable_ipv6=True), "by the sysctl"),
        (NOWHERE, "on the whole host (booted with ipv6.disable=1?)"),
    ],
)
def test_why_ipv6_is_off(link: Link, words: str | None) -> None:
    reason = why_off(V6, link)
    assert (reason is None) == (words is None)
    assert reason is None or (reason.code == "ipv6-off" and (words or "") in reason.text)
    assert why_off(V4, link) is None


@pytest.mark.parametrize("expect", [frozenset(), frozenset({V6})])
def test_nothing_of_a_family_that_is_off_is_used_or_waited_for(expect: frozenset[Family]) -> None:
    policy = replace(Policy(), expect=expect)
    verdict = judge(V6, Witness(DISABLED, imds=eni(FULL4, FULL6)), policy)
    assert (verdict.status, [r.code for r in verdict.reasons]) == (Status.OFF, ["ipv6-off"])
    assert not verdict.usable
    assert not verdict.usable.subnets


def switch(motion: FastMotion, **changes: object) -> None:
    motion.kernel.set_link(replace(motion.kernel.links[3], **changes))  # type: ignore[arg-type] # a field's


SWITCHES: dict[str, tuple[Callable[[FastMotion], None], Callable[[FastMotion], None]]] = {
    "disable_ipv6": (
        lambda m: m.kernel.state.disable_ipv6(3, disabled=True),
        lambda m: m.kernel.state.disable_ipv6(3, disabled=False),
    ),
    "MTU": (
        lambda m: switch(m, mtu=1200, has_ipv6=False),
        lambda m: switch(m, mtu=9001, has_ipv6=True),
    ),
}


@pytest.mark.parametrize("name", SWITCHES)
def test_off_before_the_plug_and_on_later(name: str) -> None:
    off, on = SWITCHES[name]
    motion = FastMotion(CALM)
    motion.plug(10.0, ETH1)
    motion.at(10.0, lambda: off(motion))
    motion.imds(ETH1.mac, 10.0, FULL)
    motion.run(30.0)
    assert motion.state() is APPLIED
    assert motion.host.interfaces[3].verdicts[V6].status is Status.OFF
    assert [n.code for n in motion.host.interfaces[3].view().notes] == ["ipv6-off"]
    assert (selectors(motion, 3, 4) != set(), selectors(motion, 3, 6)) == (True, set())
    assert quiet(motion)
    on(motion)
    motion.run(motion.now + 10.0)
    assert motion.state() is APPLIED
    assert selectors(motion, 3, 6)


@pytest.mark.parametrize("name", SWITCHES)
def test_off_while_applied_takes_what_is_ours_and_is_nobodys_fault(name: str) -> None:
    off, on = SWITCHES[name]
    motion = applied()
    before = selectors(motion, 3, 6)
    heals = dict(motion.host.losses.heals)
    for _ in range(4):  # more often than makes a fight
        off(motion)
        motion.run(motion.now + 10.0)
        assert motion.state() is APPLIED
        assert selectors(motion, 3, 6) == set()
        assert quiet(motion, 20.0)
        on(motion)
        motion.run(motion.now + 10.0)
        assert selectors(motion, 3, 6) == before
    assert dict(motion.host.losses.heals) == heals
    assert not motion.host.interfaces[3].fights.reason


def test_an_ipv6_only_eni_whose_ipv6_is_off_has_no_ip() -> None:
    motion = FastMotion(CALM)
    motion.plug(10.0, replace(ETH1, disable_ipv6=True))
    motion.imds(ETH1.mac, 10.0, eni(v6=FULL6))
    motion.run(100.0)
    interface = motion.host.interfaces[3]
    assert motion.state() is IGNORED
    assert [reason.text for reason in interface.lifecycle.reasons] == [
        "the interface has no IP addresses and IPv6 is off"
    ]
    motion.kernel.state.disable_ipv6(3, disabled=False)
    motion.run(motion.now + 10.0)
    assert motion.state() is APPLIED


def test_with_a_family_off_the_rest_is_complete() -> None:
    """IMDS is asked as seldom as about an ENI with both families."""
    motion = hot_plugged(policy=CALM)
    other = FastMotion(CALM)
    other.plug(10.0, DISABLED)
    other.imds(ETH1.mac, 10.0, FULL)
    for each in (motion, other):
        each.run(400.0)
    assert other.polls(3, 100.0, 400.0) == motion.polls(3, 100.0, 400.0)


@pytest.mark.parametrize(
    "link", [DISABLED, SMALL, replace(ETH1, driver=None)], ids=["off", "small", "no driver"]
)
def test_a_link_of_which_no_event_may_tell_is_read_again_at_each_heartbeat(link: Link) -> None:
    motion = FastMotion(CALM)
    motion.plug(10.0, link)
    motion.run(60.0)
    picture, later = motion.turn.picture, motion.now + 100.0
    assert picture.links_wanted(later).indices == frozenset({3})
    assert picture.links_wanted(later + 0.1).indices == frozenset()  # a busy host: not each time
    assert picture.links_wanted(later + HEARTBEAT).indices == frozenset({3})


def test_a_link_of_which_all_is_known_is_not() -> None:
    motion = applied()
    assert motion.turn.picture.links_wanted(motion.now + 100.0).indices == frozenset()


def test_what_is_refused_has_its_link_read_again() -> None:
    """disable_ipv6 on a link without an IPv6 address takes routes, and tells of nothing else."""
    stale = Staleness()
    stale.take_links()
    route = Route(net(NET6), 1_000_004, 4)
    stale.refused(
        Outcome(each, Result.REFUSED)
        for each in (AddAddress(3, ip(IPV6)), AddRoute(route), AddRule(Rule(V6, 1, 2)))
    )
    assert stale.take_links() == frozenset({3, 4})
