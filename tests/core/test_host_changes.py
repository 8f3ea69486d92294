"""What may happen to an interface that is there: to its facts, its name, its link, itself."""

from dataclasses import replace
from functools import partial

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import ABSENT, EniMetadata, Value
from nicwatchd.core.model import MAIN_TABLE, RemoveAddress, SetGroup, SetUp
from nicwatchd.core.policy import Policy, RuleMode
from nicwatchd.core.steps import Reading
from tests.core.build import (
    ERROR,
    ETH1,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    NONE,
    PRIMARY,
    UNREAD,
    V4,
    added,
    eni,
    family,
    ip,
    lease,
    net,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import (
    APPLIED,
    AWAITING,
    CALM,
    ETH2,
    FULL,
    IGNORED,
    LEASE4,
    LEASE6,
    MAC2,
    OF_PRIMARY,
    PATIENT,
    applied,
    at_rest,
    dhcp4,
    hot_plugged,
    quiet,
    selectors,
)

# --- staying applied ---------------------------------------------------------------------------


def test_an_unchanged_world_is_left_alone() -> None:
    assert quiet(applied(), 3600.0)


@pytest.mark.parametrize(
    "reading",
    [
        pytest.param(UNREAD, id="unread"),
        pytest.param(eni(family(ERROR, cidrs=ERROR), family(ERROR, cidrs=ERROR)), id="leaves"),
        pytest.param(replace(UNREAD, directory=ABSENT), id="unlisted"),
    ],
)
def test_errors_of_imds_change_nothing(reading: EniMetadata) -> None:
    motion = applied()
    motion.imds(MAC, 130.0, reading)
    assert quiet(motion, 3600.0)
    assert motion.state() is APPLIED


def test_a_wrong_mac_changes_nothing_in_the_kernel() -> None:
    motion = applied()
    motion.imds(MAC, 130.0, eni(NONE, NONE, mac=Value(MAC2)))
    written = len(motion.written)
    motion.run(1000.0)
    assert len(motion.written) == written
    assert (motion.state(), motion.reasons()) == (AWAITING, {"wrong-mac"})
    motion.imds(MAC, 1000.0, FULL)
    motion.run(1061.0)
    assert motion.state() is APPLIED
    assert len(motion.written) == written


def test_an_address_is_given_up_after_three_doubts() -> None:
    two = eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4), FULL6)
    motion = applied(two)
    assert added("10.0.2.11/32") in motion.kernel.addresses
    motion.imds(MAC, 130.0, FULL)
    motion.run(270.0)
    first = next(at for at, index in motion.asked if index == 3 and at >= 130.0)
    removals = [(at, o.ip) for at, o in motion.written if isinstance(o, RemoveAddress)]
    (removed, address), (then, its_first) = removals
    assert address == ip("10.0.2.11")
    # It had stood before the lease; now that is the first without ours.
    assert (its_first, LEASE4 in motion.kernel.addresses) == (ip(IPV4), True)
    assert removed <= then <= removed + 1.0
    assert first + 30.0 <= removed <= first + 31.0
    assert motion.polls(3, first, removed) == 3, "three readings, and not one more"
    assert motion.state() is APPLIED


def test_ipv6_that_is_unassigned_ends_without_a_wait() -> None:
    """DHCPv6's lease outlives it by minutes; then the family is absent."""
    motion = applied()
    motion.imds(MAC, 130.0, eni(FULL4, family(cidrs=NET6)))
    motion.run(600.0)
    assert motion.state() is APPLIED
    assert "lease-unlisted-ipv6" in {n.code for n in motion.host.interfaces[3].view().notes}
    motion.kernel.drop(LEASE6)
    motion.run(601.0)
    assert motion.state() is APPLIED
    assert {rule.family for rule in motion.kernel.own_rules} == {V4}
    assert {told.state for told in motion.told if told.at > 130.0} == {State.VALIDATED, APPLIED}


def test_what_others_delete_comes_back() -> None:
    motion = applied()
    full = set(motion.kernel.own_rules), set(motion.kernel.own_routes)
    motion.at(200.0, motion.kernel.flush_rules)
    motion.run(201.0)
    motion.at(250.0, lambda: motion.kernel.set_link(replace(motion.kernel.links[3], up=False)))
    motion.run(251.0)
    assert {route.oif for route in motion.kernel.own_routes} == {2}
    assert motion.state() is APPLIED
    assert "link-down" in {note.code for note in motion.host.interfaces[3].view().notes}
    motion.at(252.0, lambda: motion.kernel.set_link(replace(motion.kernel.links[3], up=True)))
    motion.run(313.0)
    assert (set(motion.kernel.own_rules), set(motion.kernel.own_routes)) == full
    assert motion.state() is APPLIED


def test_a_change_of_the_link_asks_imds_at_once() -> None:
    motion = applied()
    motion.run(200.0)
    motion.imds(MAC, 200.0, eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4), FULL6))
    motion.at(200.5, lambda: motion.kernel.put(lease("10.0.2.12/24")))
    motion.run(200.6)
    assert motion.polls(3, 200.5, 200.6) == 1
    assert added("10.0.2.11/32") in motion.kernel.addresses


# --- links that come, go and change --------------------------------------------------------------


def test_unplugged_while_waiting_and_when_applied() -> None:
    for state, until in ((AWAITING, 12.0), (APPLIED, 60.0)):
        motion = hot_plugged(eni(FULL4, family(cidrs=NET6)) if state is AWAITING else FULL)
        dhcp4(motion, 10.5)
        motion.run(until)
        assert motion.state() is state
        assert motion.kernel.own_rules
        motion.at(until, partial(motion.kernel.unplug, 3))
        motion.run(until + 1.0)
        assert motion.kernel.own_rules == ()
        assert motion.kernel.own_routes == ()
        assert not motion.kernel.addresses
        assert motion.told[-1].state is State.GONE
        assert set(motion.host.interfaces) == {2}


def reached(state: State) -> FastMotion:
    """A host whose eth1 is in this state, beside an eth2 that is applied."""
    readings = {AWAITING: eni(FULL4, family(cidrs=NET6)), IGNORED: eni(NONE, NONE)}
    policy = PATIENT if state is State.VALIDATED else None
    motion = hot_plugged(readings.get(state, FULL), policy)
    motion.plug(0.0, ETH2)
    motion.imds(MAC2, 0.0, eni(family("10.0.3.10", cidrs="10.0.3.0/24"), mac=Value(MAC2)))
    if state is not IGNORED:
        dhcp4(motion, 10.001)
    until = {State.DETECTED: 10.005, State.VALIDATED: 12.0}
    motion.run(until.get(state, 60.0))
    assert motion.state() is state
    return motion


@pytest.mark.parametrize("back", [None, 3, 7], ids=["for-good", "same-index", "another-index"])
@pytest.mark.parametrize("state", [s for s in State if s is not State.GONE])
def test_detached_in_each_state_while_imds_goes_on_listing_it(
    state: State, back: int | None
) -> None:
    """In the end nothing of it is left; the other ENIs of the host have noticed nothing.

    When a link with its MAC is back, it is served with what was known of it, if that was all.
    """
    motion = reached(state)
    others = {r for r in motion.kernel.own_rules if r.table in (1_000_703, 1_001_215)}
    motion.imds(MAC, motion.now, eni(family(ERROR, cidrs=ERROR), family(ERROR, cidrs=ERROR)))
    motion.at(motion.now, partial(motion.kernel.unplug, 3))
    motion.run(motion.now + 1.0)
    assert {rule for rule in motion.kernel.own_rules if rule.table != MAIN_TABLE} == others
    assert {rule.src or rule.oif for rule in motion.kernel.own_rules} == {
        rule.src or rule.oif for rule in others
    }
    assert {route.oif for route in motion.kernel.own_routes} == {2, 4}
    assert {address.index for address in motion.kernel.addresses} == {4}
    assert [told.state for told in motion.told if told.name == "eth1"][-1] is State.GONE
    motion.run(motion.now + 60.0)  # eth2 may still have been settling
    assert motion.state(4) is APPLIED
    assert quiet(motion, 600.0)
    if back is not None:
        motion.plug(motion.now, replace(ETH1, index=back))
        motion.imds(MAC, motion.now + 100.0, FULL)
        motion.run(motion.now + 99.0)
        assert motion.state(back) is (APPLIED if state in (State.VALIDATED, APPLIED) else AWAITING)
        motion.run(motion.now + 60.0)
        assert motion.state(back) is APPLIED
        assert selectors(motion, back) == {"eth1", f"{IPV4}/32"}


def test_a_link_that_comes_back_with_its_group_is_set_up() -> None:
    """From another network namespace: down, without addresses, in the group that it had."""
    motion = applied()
    motion.at(200.0, partial(motion.kernel.unplug, 3))
    motion.plug(260.0, replace(ETH1, up=False, group=3778))
    motion.run(300.0)
    assert motion.kernel.links[3].up
    assert motion.state() is APPLIED


def test_a_rename_moves_the_rule() -> None:
    motion = FastMotion()
    motion.plug(10.0, ETH1)
    motion.plug(10.016, replace(ETH1, name="ens6"))
    motion.imds(MAC, 11.0, eni(FULL4, family(cidrs=NET6)))
    dhcp4(motion, 10.01)
    motion.run(12.0)
    assert motion.state() is AWAITING
    assert selectors(motion, 3) == {"ens6", f"{IPV4}/32"}
    assert {rule.oif for rule in motion.kernel.own_rules} == {"ens6", None}


def test_a_name_that_is_reused_takes_nothing_from_the_next() -> None:
    motion = hot_plugged(eni(FULL4, family(cidrs=NET6)))
    motion.plug(11.0, replace(ETH1, name="ens6", group=3778))
    motion.plug(11.1, replace(ETH2, name="eth1"))
    motion.imds(MAC2, 11.1, eni(family("10.0.3.10", cidrs="10.0.3.0/24"), mac=Value(MAC2)))
    motion.run(15.0)
    assert selectors(motion, 3) == {"ens6", f"{IPV4}/32"}
    assert selectors(motion, 4) == {"eth1", "10.0.3.10/32"}


def test_a_driver_that_cannot_be_read_once_changes_nothing() -> None:
    motion = applied()
    motion.at(140.0, lambda: motion.kernel.set_link(replace(motion.kernel.links[3], driver=None)))
    assert quiet(motion, 20.0)
    assert motion.state() is APPLIED


def test_a_driver_that_cannot_be_read_at_first_is_awaited() -> None:
    motion = FastMotion()
    motion.plug(10.0, replace(ETH1, name="eth0", driver=None))
    motion.imds(MAC, 10.0, FULL)
    motion.run(10.01)
    assert (motion.state(), motion.reasons()) == (IGNORED, {"driver"})
    motion.at(10.02, lambda: motion.kernel.set_link(ETH1))
    motion.run(20.0)
    assert motion.state() is APPLIED


def test_the_driver_of_another_mac_is_its_own() -> None:
    motion = applied()
    motion.at(140.0, lambda: motion.kernel.set_link(replace(ETH1, mac=MAC2, driver=None)))
    motion.run(141.0)
    assert (motion.state(), motion.reasons()) == (IGNORED, {"driver"})


def test_a_mac_under_another_index() -> None:
    motion = applied()
    moved = replace(ETH1, index=7, name="eth7")
    motion.at(140.0, lambda: motion.kernel.unplug(3))
    motion.plug(140.0, moved)
    dhcp4(motion, 140.1, lease(f"{IPV4}/24", 7))
    motion.run(200.0)
    assert motion.state(7) is APPLIED
    assert selectors(motion, 3) == selectors(motion, 3, 6) == set()
    assert selectors(motion, 7) == {"eth7", f"{IPV4}/32"}


def test_another_mac_under_the_same_index() -> None:
    motion = applied()
    motion.at(140.0, lambda: motion.kernel.unplug(3))
    motion.plug(140.0, replace(ETH1, mac=MAC2))
    motion.run(200.0)
    assert (motion.state(), motion.reasons()) == (AWAITING, {"mac-unlisted"})
    assert motion.host.interfaces[3].lifecycle.seen == 140.0
    assert [told.state for told in motion.told if told.at == 140.0] == [
        State.GONE,
        State.DETECTED,
    ]


def test_a_late_answer_of_a_link_that_went_is_dropped() -> None:
    motion = applied()
    motion.turn.take_reading(Reading(9, MAC, FULL), motion.now)
    motion.turn.take_reading(Reading(3, MAC2, eni(mac=Value(MAC))), motion.now)
    assert quiet(motion)


BY_SUBNET = replace(CALM, rules=RuleMode.SUBNET)


def test_two_enis_in_one_subnet_have_rules_by_address() -> None:
    motion = applied(policy=BY_SUBNET)
    assert selectors(motion, 3) == {"eth1", NET4}
    motion.plug(140.0, ETH2)
    second = eni(family("10.0.2.20", cidrs=NET4), family(cidrs=NET6), mac=Value(MAC2))
    motion.imds(MAC2, 141.0, second)
    motion.run(160.0)
    assert selectors(motion, 3) == {"eth1", f"{IPV4}/32"}
    assert selectors(motion, 3, 6) == {"eth1", f"{IPV6}/128"}
    assert selectors(motion, 4) == {"eth2", "10.0.2.20/32"}
    motion.at(170.0, lambda: motion.kernel.unplug(4))
    motion.run(180.0)
    assert selectors(motion, 3) == {"eth1", NET4}
    assert selectors(motion, 4) == set()


@pytest.mark.parametrize("index", [2, 4])
def test_the_subnet_of_an_eni_that_is_not_ours_is_shared_too(index: int) -> None:
    """The primary's, and one that is a port of a bridge which has its addresses."""
    motion = FastMotion(Policy(rules=RuleMode.SUBNET))
    mac = PRIMARY if index == 2 else MAC2
    if index == 4:
        motion.plug(0.0, replace(ETH2, master=9))
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.imds(mac, 0.0, eni(family("10.0.2.5", cidrs=NET4), mac=Value(mac)))
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, FULL)
    motion.run(60.0)
    assert motion.state(index) is IGNORED
    assert selectors(motion, 3) == {"eth1", f"{IPV4}/32"}
    assert selectors(motion, 3, 6) == {"eth1", NET6}
    motion.run(400.0)
    polls = 200.0 / at_rest(OF_PRIMARY) if index == 2 else 200.0 / 60.0
    assert polls - 1 <= motion.polls(index, 200.0, 400.0) <= polls + 1


# --- set up, once --------------------------------------------------------------------------------

DOWN = replace(ETH1, up=False)


def test_a_link_that_is_down_is_set_up_once() -> None:
    motion = FastMotion()
    motion.plug(10.0, DOWN)
    motion.imds(MAC, 10.0, FULL)
    motion.run(14.9)
    assert [
        at for at, o in motion.written if isinstance(o, SetUp | SetGroup) and o.index == 3
    ] == []
    motion.run(16.0)
    assert motion.kernel.links[3].up
    assert motion.kernel.links[3].group == 3778
    assert motion.state() is APPLIED
    motion.at(20.0, lambda: motion.kernel.set_link(replace(motion.kernel.links[3], up=False)))
    motion.run(400.0)
    assert not motion.kernel.links[3].up
    again = FastMotion(kernel=motion.kernel, start=500.0)
    again.imds(MAC, 0.0, FULL)
    again.run(600.0)
    assert not motion.kernel.links[3].up, "also after a restart"


def test_a_link_that_is_down_may_have_an_address() -> None:
    """The kernel adds the route to its subnet as the link goes up."""
    motion = FastMotion()
    motion.plug(10.0, DOWN)
    motion.at(10.0, lambda: motion.kernel.put(LEASE4))
    motion.imds(MAC, 10.0, FULL)
    motion.run(16.0)
    assert motion.state() is APPLIED
    assert net(NET4) in {route.dst for route in motion.kernel.main_routes_of(3)}


def test_a_restart_before_udev_was_done_sets_it_up_all_the_same() -> None:
    motion = FastMotion()
    motion.plug(10.0, DOWN)
    motion.run(11.0)
    again = FastMotion(kernel=motion.kernel, start=12.0)
    again.run(20.0)
    assert again.kernel.links[3].up


@pytest.mark.parametrize("done", [0, 1])
def test_a_crash_between_group_and_link_does_not_leave_it_down(done: int) -> None:
    motion = FastMotion()
    motion.plug(10.0, DOWN)
    motion.run(14.9)
    motion.now = 15.1
    operations = [o for o in motion.decide() if isinstance(o, SetUp | SetGroup)]
    assert len(operations) == 2
    motion.kernel.run(operations[:done])
    again = FastMotion(kernel=motion.kernel, start=20.0)
    again.run(30.0)
    assert (again.kernel.links[3].up, again.kernel.links[3].group) == (True, 3778)


def test_udev_can_be_done_earlier() -> None:
    motion = FastMotion()
    motion.plug(10.0, DOWN)
    motion.run(11.0)
    facts = motion.host.interfaces[3].facts
    assert facts.waits_for_udev
    motion.udev_done.add(3)
    motion.run(12.0)
    assert not facts.waits_for_udev
    assert motion.kernel.links[3].up


def test_a_link_that_somebody_sets_up_is_left() -> None:
    motion = FastMotion()
    motion.plug(10.0, DOWN)
    motion.plug(11.0, ETH1)
    motion.plug(12.0, replace(DOWN, group=3778))
    motion.run(100.0)
    assert not motion.kernel.links[3].up


def test_a_link_of_a_foreign_group_stays_down_across_a_restart() -> None:
    motion = FastMotion()
    motion.plug(10.0, replace(ETH1, group=5))
    motion.imds(MAC, 10.0, FULL)
    motion.at(60.0, lambda: motion.kernel.set_link(replace(DOWN, group=5)))
    motion.run(100.0)
    again = FastMotion(kernel=motion.kernel, start=100.0)
    again.imds(MAC, 0.0, FULL)
    again.run(200.0)
    assert not again.kernel.links[3].up


def test_a_foreign_group_is_left_and_told() -> None:
    motion = FastMotion()
    motion.plug(10.0, replace(ETH1, group=5))
    motion.imds(MAC, 10.0, FULL)
    motion.run(60.0)
    assert motion.kernel.links[3].group == 5
    assert motion.state() is APPLIED
    assert "foreign-group" in {note.code for note in motion.host.interfaces[3].view().notes}
