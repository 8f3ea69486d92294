"""What the kernel's events tell is enough: all read and concluded anew, nothing is different."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from nicwatchd.core.model import MAIN_TABLE, PROTOCOL, RTPROT_BOOT, Address, Family, Link, Rule
from nicwatchd.core.treatment import LOOPBACK_MAC
from tests.core.build import ETH0, ETH1, MAC, PRIMARY, ip, lease, net, permanent, static
from tests.core.event_motion import EventMotion
from tests.core.scenes import CALM, ETH2, MAC2
from tests.core.test_claims import says

pytestmark = pytest.mark.long


def link(index: int, name: str, kind: str, lower: int = 0) -> Link:
    mac = f"06:00:00:00:00:{index:02}"
    return Link(index, mac, name, up=True, kind=kind, driver=kind, lower=lower)


LO: Final = Link(1, LOOPBACK_MAC, "lo", up=True)
LINKS: Final = {
    each.index: each
    for each in (
        link(9, "br0", "bridge"),
        link(10, "dummy0", "dummy"),
        link(11, "mv0", "macvlan", ETH0.index),
        link(12, "mv1", "macvlan", ETH1.index),
        link(13, "mv2", "macvlan", ETH2.index),
        link(14, "c-box", "veth"),
        link(15, "gre1", "gre", ETH1.index),
    )
}
WHERE: Final = st.sampled_from([LO.index, ETH1.index, ETH2.index, *LINKS])
LISTED: Final = {
    Family.V4: ("10.0.2.11", "10.0.2.12"),
    Family.V6: ("2001:db8:0:2::11", "2001:db8:0:2::12"),
}
PREFIX: Final = {Family.V4: "10.0.2.64/28", Family.V6: "2001:db8:0:2:1::/80"}
IN_PREFIX: Final = {Family.V4: "10.0.2.69", Family.V6: "2001:db8:0:2:1::5"}
IPS: Final = st.sampled_from([text for f in Family for text in (*LISTED[f], IN_PREFIX[f])])
HOST_BITS: Final = st.sampled_from([0, 0, 0, 4, 8])  # how much shorter than the longest
SOME: Final = st.frozensets(st.sampled_from([*LISTED[Family.V4], *LISTED[Family.V6], "prefixes"]))


class EventMachine(RuleBasedStateMachine):
    """A primary, two ENIs, `lo`, and other links that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.motion = EventMotion(CALM)
        self.kernel = self.motion.kernel

    @initialize(first=SOME, second=SOME, links=st.frozensets(st.sampled_from([*LINKS]), min_size=4))
    def begin(self, first: frozenset[str], second: frozenset[str], links: frozenset[int]) -> None:
        motion = self.motion
        self.kernel.set_link(LO)
        self.kernel.put(lease("10.0.1.10/24", 2), static("0.0.0.0/0", "10.0.1.1", index=2))
        motion.imds(PRIMARY, 0.0, says(PRIMARY, "10.0.1.10"))
        motion.plug(5.0, ETH1)
        motion.plug(10.0, ETH2)
        self.it_lists(MAC, first)
        self.it_lists(MAC2, second)
        motion.run(130.0)
        for index in sorted(links):
            self.kernel.set_link(LINKS[index])
        motion.run(140.0)

    @rule(mac=st.sampled_from([MAC, MAC2]), more=SOME)
    def it_lists(self, mac: str, more: frozenset[str]) -> None:
        first = 10 if mac == MAC else 20
        own = {Family.V4: f"10.0.2.{first}", Family.V6: f"2001:db8:0:2::{first}"}
        lists = (" ".join([own[f], *(text for text in LISTED[f] if text in more)]) for f in Family)
        prefixes = (PREFIX[f] if "prefixes" in more else "" for f in Family)
        self.motion.imds(mac, self.motion.now, says(mac, *lists, *prefixes))

    # --- addresses ---------------------------------------------------------------------------

    def put(self, address: Address) -> None:
        there = self.kernel.links.get(address.index)
        state = self.kernel.state
        same = state.same_address(address.index, address.ip, address.prefixlen)
        if there and there.up and not same:
            self.kernel.put(address)

    def theirs(self) -> list[Address]:
        every = self.kernel.addresses
        return [a for a in every if a.protocol != PROTOCOL and a.index != ETH0.index]

    @rule(index=WHERE, text=IPS, bits=HOST_BITS)
    def an_address_comes(self, index: int, text: str, bits: int) -> None:
        self.put(permanent(f"{text}/{ip(text).max_prefixlen - bits}", index))

    @rule(number=st.integers(0, 20))
    def one_goes(self, number: int) -> None:
        if theirs := self.theirs():
            self.kernel.drop(theirs[number % len(theirs)])

    @rule(number=st.integers(0, 20), index=WHERE)
    def one_is_moved(self, number: int, index: int) -> None:
        if theirs := self.theirs():
            address = theirs[number % len(theirs)]
            self.kernel.drop(address)
            self.put(replace(address, index=index))

    # --- links, rules and routes -------------------------------------------------------------

    @rule(index=st.sampled_from([*LINKS]))
    def a_link_comes_or_goes(self, index: int) -> None:
        if index in self.kernel.links:
            self.motion.remove_link(index)
        else:
            self.kernel.set_link(LINKS[index])

    @rule(index=st.sampled_from([*LINKS]))
    def a_link_goes_down_or_up(self, index: int) -> None:
        if there := self.kernel.links.get(index):
            self.kernel.set_link(replace(there, up=not there.up, running=not there.up))

    @rule(text=IPS, table=st.sampled_from([MAIN_TABLE, 77]), word=st.sampled_from(["src", "dst"]))
    def a_rule_of_others_comes_or_goes(self, text: str, table: int, word: str) -> None:
        of = net(f"{text}/{ip(text).max_prefixlen}")
        plain = Rule(Family(of.version), 600, table, RTPROT_BOOT)
        its = replace(plain, src=of) if word == "src" else replace(plain, dst=of)
        (self.kernel.drop if its in self.kernel.rules else self.kernel.put)(its)

    @rule(number=st.integers(0, 40))
    def others_take_a_rule_of_ours(self, number: int) -> None:
        if own := self.kernel.own_rules:
            self.kernel.drop(own[number % len(own)])

    @rule(text=IPS, index=WHERE)
    def a_host_route_comes_or_goes(self, text: str, index: int) -> None:
        there = self.kernel.links.get(index)
        its = static(f"{text}/{ip(text).max_prefixlen}", index=index)
        its = replace(its, metric=1024) if its.family is Family.V6 else its
        if same := [route for route in self.kernel.routes if route.key == its.key]:
            self.kernel.drop(*same)
        elif there and there.up:
            self.kernel.put(its)

    @rule(seconds=st.sampled_from([0.5, 20.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.motion.run(self.motion.now + seconds)

    # --- what holds --------------------------------------------------------------------------

    def concluded(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for interface in self.motion.host.interfaces.values():
            view = interface.view()
            name = view.link.name
            found |= {f"{name}: state": view.state, f"{name}: plan": view.plan}
            found |= {f"{name}: notes": set(view.notes), f"{name}: others": dict(view.elsewhere)}
            for family, health in view.health.items():
                told = (health.health, health.answering, health.silent, health.causes)
                found[f"{name}: {family.label}"] = told
        kernel = self.kernel
        ours = {address for address in kernel.addresses if address.protocol == PROTOCOL}
        return found | {"rules": kernel.own_rules, "routes": kernel.own_routes, "addresses": ours}

    def teardown(self) -> None:
        motion = self.motion
        if motion.turn.step is None:  # else a step failed, and that is what is to be told
            # No fight lasts longer. Five minutes would always have a whole decision in them.
            motion.run(motion.now + 240.0)
            before = self.concluded()
            motion.all_anew()
            motion.run(motion.now + 20.0)
            after = self.concluded()
            assert before.keys() == after.keys()
            assert {
                key: (its, after[key]) for key, its in before.items() if its != after[key]
            } == {}


TestEventsTell = pytest.mark.lasts(60)(EventMachine.TestCase)
TestEventsTell.settings = settings(
    max_examples=60,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,  # the same walks each time; without this, others
    suppress_health_check=list(HealthCheck),
)
