"""From a hot-plug to applied, and whatever may happen on the way and after, in fast motion."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.host import Failure, Host
from nicwatchd.core.lifecycle import OffTheTableError, State
from nicwatchd.core.model import (
    ABSENT,
    MAIN_TABLE,
    PROTOCOL,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    EniMetadata,
    Link,
    Plan,
    RemoveAddress,
    RemoveRule,
    Rule,
    SetGroup,
    SetUp,
    Value,
)
from nicwatchd.core.policy import Coexist, Policy, RuleMode
from tests.core.build import (
    ERROR,
    ETH0,
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
    V6,
    added,
    eni,
    family,
    ip,
    lease,
    net,
    on_link,
    permanent,
    static,
)
from tests.core.fast_motion import FastMotion
from tests.core.tiny_kernel import TinyKernel

MAC2 = "02:00:00:00:00:03"
ETH2 = Link(4, MAC2, "eth2", up=True, driver="ena")
FULL = eni(FULL4, FULL6)
APPLIED, AWAITING, IGNORED = State.APPLIED, State.AWAITING, State.IGNORED
# For what happens long after the race: fewer polls make faster tests.
CALM = Policy(schedule=Schedule(interval=1.0, fast_for=5.0))
LEASE4, LEASE6 = lease(f"{IPV4}/24"), lease(f"{IPV6}/128")


def dhcp4(motion: FastMotion, when: float, address: Address = LEASE4, subnet: str = NET4) -> None:
    """A DHCPv4 client brings an address, and the kernel the route to its subnet."""

    def bring() -> None:
        motion.kernel.addresses.append(address)
        motion.kernel.routes.append(on_link(subnet, address.index))

    motion.at(when, bring)


def dhcp6(motion: FastMotion, when: float, address: Address = LEASE6, subnet: str = NET6) -> None:
    """A router advertisement, then DHCPv6."""

    def bring() -> None:
        link = motion.kernel.links[address.index]
        motion.kernel.links[address.index] = replace(link, ra_received=True, ra_managed=True)
        motion.kernel.addresses.append(address)
        motion.kernel.routes.append(on_link(subnet, address.index))

    motion.at(when, bring)


def hot_plugged(reading: EniMetadata = FULL, policy: Policy | None = None) -> FastMotion:
    """A host that runs, and at 10 s an ENI that IMDS knows at once."""
    motion = FastMotion(policy)
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, reading)
    return motion


def applied(reading: EniMetadata = FULL, policy: Policy | None = None) -> FastMotion:
    """... 2 minutes later, DHCP leases and all."""
    motion = hot_plugged(reading, policy or CALM)
    dhcp4(motion, 10.5)
    dhcp6(motion, 10.6)
    motion.run(130.0)
    assert motion.state() is APPLIED
    return motion


def programmed(motion: FastMotion, since: float = 0.0) -> dict[int, float]:
    """When the first rule of each family was added."""
    found: dict[int, float] = {}
    for at, operation in motion.written:
        if isinstance(operation, AddRule) and at >= since:
            found.setdefault(operation.rule.family, at)
    return found


def selectors(motion: FastMotion, index: int, which: int = 4) -> set[str]:
    rules = [r for r in motion.kernel.own_rules if r.table == 1_000_000 + index]
    return {str(r.oif or r.src) for r in rules if r.family == which}


# --- the race ----------------------------------------------------------------------------------


def test_complete_at_once() -> None:
    motion = hot_plugged()
    dhcp4(motion, 10.0)
    dhcp6(motion, 10.0)
    motion.run(10.02)
    assert motion.state() is APPLIED
    states = [told.state for told in motion.told if told.name == "eth1"]
    assert states == [State.DETECTED, State.VALIDATED, APPLIED]
    motion.run(300.0)
    assert [told.state for told in motion.told if told.name == "eth1"] == states
    assert motion.kernel.addresses == [LEASE4, LEASE6]


def test_without_any_dhcp_client() -> None:
    motion = hot_plugged()
    motion.run(19.9)
    assert (motion.state(), motion.kernel.addresses) == (APPLIED, [])
    motion.run(300.0)
    assert {a.ip for a in motion.kernel.addresses} == {ip(IPV4), ip(IPV6)}
    assert motion.state() is APPLIED


@pytest.mark.parametrize(
    ("lag", "within"),
    [pytest.param(8.0, 0.25, id="8 s"), pytest.param(20.0, 0.25, id="20 s"),
     pytest.param(90.0, 5.0, id="90 s")],
)  # fmt: skip
def test_the_race(lag: float, within: float) -> None:
    """The MAC after 1 s, IPv4 then, IPv6 long after."""
    motion = FastMotion()
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 11.0, eni(FULL4, NONE, device_number=Value(0)))
    motion.imds(MAC, 13.0, eni(FULL4, family(cidrs=NET6), device_number=Value(1)))
    motion.imds(MAC, 10.0 + lag, FULL)
    dhcp4(motion, 10.4)
    motion.run(10.0 + lag + within + 0.05)
    assert motion.state() is APPLIED
    times = programmed(motion)
    assert times[4] == 10.4
    assert 10.0 + lag <= times[6] <= 10.0 + lag + within + 0.02
    assert motion.first("eth1", APPLIED) == times[6]
    waited_for = {code for told in motion.told for code in told.codes if told.name == "eth1"}
    assert {"mac-unlisted", "undecided-ipv6", "no-ipv6s"} <= waited_for
    assert motion.polls(3, 10.0, 45.0) <= 5 * 35


def test_ipv4_waits_for_imds_alone() -> None:
    motion = FastMotion()
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 11.0, eni(FULL4, family(cidrs=NET6)))
    motion.run(12.0)
    assert 11.0 <= programmed(motion)[4] <= 11.3
    assert 6 not in programmed(motion)
    assert (motion.state(), motion.reasons()) == (AWAITING, {"no-ipv6s"})


def test_what_dhcp_brought_needs_no_imds() -> None:
    motion = FastMotion()
    motion.plug(10.0, ETH1)
    dhcp4(motion, 10.3)
    dhcp6(motion, 10.7)
    motion.imds(MAC, 30.0, FULL)
    motion.run(29.0)
    assert programmed(motion) == {4: 10.3, 6: 10.7}
    assert (motion.state(), motion.reasons()) == (AWAITING, {"mac-unlisted"})
    before = len(motion.written)
    motion.run(31.0)
    assert motion.state() is APPLIED
    assert len(motion.written) == before, "IMDS only confirmed"


def test_without_the_primary_nothing_is_programmed() -> None:
    motion = hot_plugged()
    motion.primary = ERROR
    dhcp4(motion, 10.3)
    motion.run(40.0)
    assert motion.written == []
    assert (motion.state(), motion.reasons()) == (AWAITING, {"primary-unknown"})
    motion.primary = Value(PRIMARY)
    motion.run(42.0)
    assert motion.state() is APPLIED
    assert motion.state(2) is IGNORED
    motion.primary = ABSENT
    motion.run(400.0)
    assert motion.state() is APPLIED, "it was there from launch"


def test_the_first_address_is_left_to_dhcp_for_a_while() -> None:
    two = eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4), NONE)
    motion = hot_plugged(two)
    motion.run(60.0)
    added_at = {o.ip: at for at, o in motion.written if isinstance(o, AddAddress)}
    assert added_at[ip("10.0.2.11")] < 10.1
    assert 20.0 <= added_at[ip(IPV4)] < 20.1
    motion.at(70.0, lambda: motion.kernel.addresses.append(LEASE4))
    motion.run(80.0)
    assert added(f"{IPV4}/32") not in motion.kernel.addresses, "a lease took over"
    assert LEASE4 in motion.kernel.addresses


# --- lasting states ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reading", "link", "states"),
    [
        pytest.param(eni(FULL4), ETH1, {40.5: APPLIED, 400.0: APPLIED}, id="IPv4-only"),
        pytest.param(eni(v6=FULL6), ETH1, {40.5: APPLIED, 400.0: APPLIED}, id="IPv6-only subnet"),
        pytest.param(eni(), ETH1, {39.0: AWAITING, 40.5: IGNORED, 400.0: IGNORED}, id="EFA-only"),
        pytest.param(
            eni(FULL4, family(cidrs=NET6)),
            ETH1,
            {40.5: AWAITING, 189.0: AWAITING, 190.1: APPLIED, 400.0: APPLIED},
            id="IPv6 subnet, ENI without IPv6",
        ),
        pytest.param(
            eni(FULL4),
            replace(ETH1, ra_received=True, ra_managed=True),
            {40.5: AWAITING, 189.0: AWAITING, 190.1: APPLIED, 400.0: APPLIED},
            id="RA with the managed flag and nothing else",
        ),
        pytest.param(
            eni(FULL4, family(ERROR, cidrs=NET6)),
            ETH1,
            {40.5: AWAITING, 400.0: AWAITING},
            id="a list that is never readable",
        ),
        pytest.param(
            eni(family(f"{IPV4} 10.9.9.9", cidrs=NET4)),
            ETH1,
            {40.5: AWAITING, 400.0: AWAITING},
            id="an address outside each CIDR",
        ),
    ],
)
def test_lasting_states(reading: EniMetadata, link: Link, states: dict[float, State]) -> None:
    motion = FastMotion()
    motion.plug(10.0, link)
    motion.imds(MAC, 10.0, reading)
    for when, state in states.items():
        motion.run(when)
        assert motion.state() is state
    last = len(motion.written), len(motion.told)
    motion.run(2000.0)
    assert (len(motion.written), len(motion.told)) == last, "nothing changes any more"


def test_no_ip_is_no_end() -> None:
    motion = hot_plugged(eni())
    motion.run(300.0)
    assert (motion.state(), motion.reasons()) == (IGNORED, {"no-ip"})
    motion.imds(MAC, 300.0, FULL)
    motion.run(361.0)
    assert motion.state() is APPLIED


def test_overdue_is_told_once_and_asked_slowly() -> None:
    motion = FastMotion()
    motion.plug(10.0, ETH1)
    motion.run(1000.0)
    interface = motion.host.interfaces[3]
    assert interface.lifecycle.overdue
    assert motion.state() is AWAITING
    assert len([told for told in motion.told if told.name == "eth1"]) == 3
    assert motion.polls(3, 10.0, 45.0) <= 5 * 35
    assert motion.polls(3, 200.0, 1000.0) <= 14
    motion.imds(MAC, 1000.0, FULL)
    motion.run(1061.0)
    assert motion.state() is APPLIED
    assert not interface.lifecycle.overdue


def test_polling_becomes_slow_when_all_is_there() -> None:
    motion = applied(policy=Policy())
    assert 4 * 25 <= motion.polls(3, 10.0, 45.0) <= 5 * 35
    assert motion.polls(3, 75.0, 130.0) <= 1
    motion.run(1400.0)
    assert motion.polls(3, 200.0, 1400.0) == 20
    assert motion.polls(2, 200.0, 1400.0) == 20


def test_a_family_that_is_expected_is_waited_for() -> None:
    motion = hot_plugged(eni(FULL4), Policy(expect=frozenset({V6})))
    motion.run(1000.0)
    assert (motion.state(), motion.reasons()) == (
        AWAITING,
        {"no-ipv6s", "no-subnet-ipv6-cidr-blocks"},
    )


# --- staying applied ---------------------------------------------------------------------------


def quiet(motion: FastMotion, seconds: float = 300.0) -> bool:
    """Whether nothing is written and nothing told for so long."""
    before = len(motion.written), len(motion.told)
    motion.run(motion.now + seconds)
    return before == (len(motion.written), len(motion.told))


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
    ((removed, address),) = removals
    assert address == ip("10.0.2.11")
    assert first + 30.0 <= removed <= first + 31.0
    assert motion.state() is APPLIED


def test_ipv6_that_is_unassigned_ends_without_a_wait() -> None:
    """DHCPv6's lease outlives it by minutes; then the family is absent."""
    motion = applied()
    motion.imds(MAC, 130.0, eni(FULL4, family(cidrs=NET6)))
    motion.run(600.0)
    assert motion.state() is APPLIED
    assert "lease-unlisted-ipv6" in {n.code for n in motion.host.interfaces[3].notes}
    motion.kernel.addresses.remove(LEASE6)
    motion.run(601.0)
    assert motion.state() is APPLIED
    assert {rule.family for rule in motion.kernel.own_rules} == {V4}
    assert {told.state for told in motion.told if told.at > 130.0} == {State.VALIDATED, APPLIED}


def test_what_others_delete_comes_back() -> None:
    motion = applied()
    full = set(motion.kernel.own_rules), set(motion.kernel.own_routes)
    motion.at(200.0, motion.kernel.rules.clear)
    motion.run(201.0)
    motion.at(250.0, lambda: motion.kernel.set_link(replace(motion.kernel.links[3], up=False)))
    motion.run(251.0)
    assert motion.kernel.own_routes == ()
    assert motion.state() is APPLIED
    assert "link-down" in {note.code for note in motion.host.interfaces[3].notes}
    motion.at(252.0, lambda: motion.kernel.set_link(replace(motion.kernel.links[3], up=True)))
    motion.run(313.0)
    assert (set(motion.kernel.own_rules), set(motion.kernel.own_routes)) == full
    assert motion.state() is APPLIED


def test_a_change_of_the_link_asks_imds_at_once() -> None:
    motion = applied()
    motion.run(200.0)
    motion.imds(MAC, 200.0, eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4), FULL6))
    motion.at(200.5, lambda: motion.kernel.addresses.append(lease("10.0.2.12/24")))
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
        assert motion.kernel.addresses == []
        assert motion.told[-1].state is State.GONE
        assert set(motion.host.interfaces) == {2}


def test_a_rename_moves_the_rule() -> None:
    motion = FastMotion()
    motion.plug(10.0, ETH1)
    motion.plug(10.016, replace(ETH1, name="ens6"))
    motion.imds(MAC, 11.0, eni(FULL4, family(cidrs=NET6)))
    dhcp4(motion, 10.01)
    motion.run(12.0)
    assert motion.state() is AWAITING
    assert selectors(motion, 3) == {"ens6", NET4}
    assert {rule.oif for rule in motion.kernel.own_rules} == {"ens6", None}


def test_a_name_that_is_reused_takes_nothing_from_the_next() -> None:
    motion = hot_plugged(eni(FULL4, family(cidrs=NET6)))
    motion.plug(11.0, replace(ETH1, name="ens6", group=3778))
    motion.plug(11.1, replace(ETH2, name="eth1"))
    motion.imds(MAC2, 11.1, eni(family("10.0.3.10", cidrs="10.0.3.0/24"), mac=Value(MAC2)))
    motion.run(15.0)
    assert selectors(motion, 3) == {"ens6", NET4}
    assert selectors(motion, 4) == {"eth1", "10.0.3.0/24"}


def test_a_driver_that_cannot_be_read_once_changes_nothing() -> None:
    motion = applied()
    motion.at(140.0, lambda: motion.kernel.set_link(replace(motion.kernel.links[3], driver=None)))
    assert quiet(motion, 20.0)
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
    assert selectors(motion, 7) == {"eth7", NET4}


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
    motion.host.hear(9, MAC, FULL, motion.now)
    motion.host.hear(3, MAC2, eni(mac=Value(MAC)), motion.now)
    assert quiet(motion)


def test_two_enis_in_one_subnet_have_rules_by_address() -> None:
    motion = applied()
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
    motion = FastMotion()
    mac = PRIMARY if index == 2 else MAC2
    if index == 4:
        motion.plug(0.0, replace(ETH2, master=9))
    motion.imds(mac, 0.0, eni(family("10.0.2.5", cidrs=NET4), mac=Value(mac)))
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, FULL)
    motion.run(60.0)
    assert motion.state(index) is IGNORED
    assert selectors(motion, 3) == {"eth1", f"{IPV4}/32"}
    assert selectors(motion, 3, 6) == {"eth1", NET6}
    motion.run(400.0)
    assert 3 <= motion.polls(index, 200.0, 400.0) <= 4


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


def test_a_restart_before_udev_was_done_sets_it_up_all_the_same() -> None:
    motion = FastMotion()
    motion.plug(10.0, DOWN)
    motion.run(11.0)
    again = FastMotion(kernel=motion.kernel, start=12.0)
    again.run(20.0)
    assert again.kernel.links[3].up


def test_udev_can_be_done_earlier() -> None:
    motion = FastMotion()
    motion.plug(10.0, DOWN)
    motion.run(11.0)
    interface = motion.host.interfaces[3]
    assert interface.waits_for_udev
    interface.udev_done = True
    assert not interface.waits_for_udev
    motion.run(12.0)
    assert motion.kernel.links[3].up


def test_a_link_that_somebody_sets_up_is_left() -> None:
    motion = FastMotion()
    motion.plug(10.0, DOWN)
    motion.plug(11.0, ETH1)
    motion.plug(12.0, replace(DOWN, group=3778))
    motion.run(100.0)
    assert not motion.kernel.links[3].up


def test_a_foreign_group_is_left_and_told() -> None:
    motion = FastMotion()
    motion.plug(10.0, replace(ETH1, group=5))
    motion.imds(MAC, 10.0, FULL)
    motion.run(60.0)
    assert motion.kernel.links[3].group == 5
    assert motion.state() is APPLIED
    assert "foreign-group" in {note.code for note in motion.host.interfaces[3].notes}


# --- restart, reload, owners ---------------------------------------------------------


def restarted(motion: FastMotion, policy: Policy | None = None) -> FastMotion:
    """A new daemon on the same host, a minute later."""
    again = FastMotion(policy or CALM, motion.kernel, start=motion.now + 60.0)
    again._readings = motion._readings
    return again


def test_a_restart_adopts_everything() -> None:
    motion = applied(eni(family(f"{IPV4} 10.0.2.11", "10.0.2.32/28", NET4), FULL6))
    again = restarted(motion)
    again.run(again.now + 600.0)
    assert again.written == []
    assert again.state() is APPLIED


def test_a_restart_without_imds_removes_nothing() -> None:
    motion = applied()
    again = restarted(motion)
    again._readings = {MAC: [(0.0, UNREAD)], PRIMARY: [(0.0, UNREAD)]}
    again.run(again.now + 3600.0)
    assert again.written == []
    assert (again.state(), again.reasons()) == (AWAITING, {"imds-unread"})


def test_a_restart_without_the_primary_removes_nothing() -> None:
    again = restarted(applied())
    again.primary = ERROR
    again.run(again.now + 3600.0)
    assert again.written == []


def test_a_restart_removes_what_a_link_that_went_has_left() -> None:
    motion = applied()
    motion.kernel.unplug(3)
    assert motion.kernel.own_rules
    again = restarted(motion)
    again.run(again.now + 1.0)
    assert again.kernel.own_rules == ()
    assert {type(operation) for _, operation in again.written} == {RemoveRule}


POLICIES = {
    "by address": (Policy(rules=RuleMode.ADDRESS), APPLIED, {"eth1", f"{IPV4}/32"}),
    "excluded by name": (Policy(exclude=("eth1",)), IGNORED, set[str]()),
    "excluded by subnet": (Policy(exclude_subnets=(net("10.0.0.0/8"),)), IGNORED, set[str]()),
    "another subnet": (Policy(exclude_subnets=(net("10.0.3.0/24"),)), APPLIED, {"eth1", NET4}),
    "another driver": (Policy(drivers=frozenset({"vif"})), IGNORED, set[str]()),
}


@pytest.mark.parametrize(("policy", "state", "expected"), POLICIES.values(), ids=POLICIES.keys())
def test_reload(policy: Policy, state: State, expected: set[str]) -> None:
    motion = applied()
    motion.host.set_policy(policy)
    motion.run(140.0)
    assert motion.state() is state
    assert selectors(motion, 3) == expected
    assert {a.ip for a in motion.kernel.addresses} == {ip(IPV4), ip(IPV6)}
    motion.host.set_policy(CALM)
    motion.run(150.0)
    assert motion.state() is APPLIED
    assert selectors(motion, 3) == {"eth1", NET4}


def test_reload_changes_the_patience_of_those_who_wait() -> None:
    motion = hot_plugged(eni(FULL4, family(ERROR)))
    motion.run(20.0)
    policy = Policy()
    schedule = replace(policy.schedule, patience=15.0)
    motion.host.set_policy(replace(policy, schedule=schedule))
    motion.run(26.0)
    assert motion.host.interfaces[3].lifecycle.overdue


def test_an_excluded_subnet_counts_before_imds_tells_it() -> None:
    motion = FastMotion(Policy(exclude_subnets=(net("2001:db8::/32"),)))
    motion.plug(10.0, replace(ETH1, ra_received=True))
    motion.at(10.5, lambda: motion.kernel.addresses.append(LEASE6))
    motion.run(30.0)
    assert (motion.state(), motion.reasons()) == (IGNORED, {"excluded"})
    assert motion.kernel.own_rules == ()


def test_a_container_network_owns_the_secondary_enis() -> None:
    motion = applied()
    aws_node = Rule(V4, 1024, MAIN_TABLE, protocol=3, fwmark=0x80, fwmask=0x80)
    motion.at(140.0, lambda: motion.kernel.rules.append(aws_node))
    motion.run(150.0)
    assert motion.host.container_network == "Amazon VPC CNI"
    assert (motion.state(), motion.reasons()) == (IGNORED, {"cni"})
    assert motion.kernel.rules == [aws_node]
    assert motion.kernel.own_routes == ()
    motion.host.set_policy(Policy(coexist=Coexist.FORCE))
    motion.run(160.0)
    assert motion.state() is APPLIED


def test_an_enslaved_eni_is_left() -> None:
    motion = applied()
    motion.at(140.0, lambda: motion.kernel.set_link(replace(motion.kernel.links[3], master=9)))
    motion.run(150.0)
    assert (motion.state(), motion.reasons()) == (IGNORED, {"enslaved"})
    assert motion.kernel.own_rules == ()


def test_the_primary_is_left_but_for_its_group() -> None:
    motion = FastMotion()
    motion.kernel.addresses.append(lease("10.0.1.10/24", 2))
    motion.kernel.routes += [on_link("10.0.1.0/24", 2), static("0.0.0.0/0", "10.0.1.1", 2)]
    motion.imds(PRIMARY, 0.0, eni(family("10.0.1.10 10.0.1.11", cidrs="10.0.1.0/24"),
                                  mac=Value(PRIMARY)))  # fmt: skip
    motion.run(300.0)
    assert [operation for _, operation in motion.written] == [SetGroup(2, 3778)]
    assert motion.state(2) is IGNORED
    assert motion.host.interfaces[2].plan == Plan(2, group=3778)


def test_an_operators_own_address_and_route() -> None:
    motion = applied()
    motion.kernel.addresses.append(permanent("192.168.5.1/24"))
    motion.kernel.routes.append(static("172.16.0.0/12", "10.0.2.7"))
    motion.run(200.0)
    copies = [route for route in motion.kernel.own_routes if route.dst == net("172.16.0.0/12")]
    assert [route.gateway for route in copies] == [ip("10.0.2.7")]
    assert selectors(motion, 3) == {"eth1", NET4}


# --- what goes wrong ----------------------------------------------------------------


def test_what_the_kernel_refuses_is_told() -> None:
    motion = hot_plugged()
    motion.run(9.0)
    motion.kernel.set_link(ETH1)
    motion.now = 10.0
    motion.look()
    motion.host.decide(10.0)
    motion.host.hear_primary(motion.primary)
    motion.host.hear(3, MAC, FULL, 10.0)
    operations = motion.host.decide(10.0)
    rule = next(o for o in operations if isinstance(o, AddRule) and o.rule.table != MAIN_TABLE)
    route = next(o for o in operations if isinstance(o, AddRoute))
    motion.host.failed(
        [
            Failure(rule, "not permitted"),
            Failure(route, "busy"),
            Failure(RemoveRule(rule.rule), "x"),
            Failure(SetGroup(2, 1), "y"),
        ]
    )
    assert [f.text for f in motion.host.interfaces[3].failures] == ["not permitted", "busy", "x"]
    assert [f.text for f in motion.host.interfaces[2].failures] == ["y"]
    motion.host.decide(10.0)
    assert (motion.state(), motion.reasons()) == (State.VALIDATED, {"kernel-refused"})
    motion.run(11.0)
    assert (motion.state(), motion.reasons()) == (APPLIED, set())


def test_input_off_the_table() -> None:
    for strict in (True, False):
        host = Host(Policy(), lambda: 0.0, strict=strict)
        host.see_links({3: ETH1}, 0.0)
        host.interfaces[3].lifecycle.state = State.GONE
        host.hear(3, MAC, FULL, 0.0)
        host.hear_primary(Value(PRIMARY))
        if strict:
            with pytest.raises(OffTheTableError):
                host.decide(0.0)
        else:
            host.decide(0.0)
        assert host.surprises == 1


def test_a_deadline_that_passes_during_a_look_is_kept() -> None:
    host = Host(Policy(), lambda: 0.0)
    host.see_links({3: ETH1}, 0.0)
    host.decide(4.99)
    host.polls_due(4.99)
    assert host.next_deadline(5.2) == 5.2
    host.decide(5.2)
    assert host.next_deadline(5.3) == pytest.approx(10.0)


def test_no_deadline_without_interfaces() -> None:
    assert Host(Policy(), lambda: 0.0).next_deadline(0.0) is None


def test_a_question_at_a_time() -> None:
    host = Host(Policy(), lambda: 0.0)
    host.see_links({3: ETH1}, 0.0)
    host.decide(0.0)
    assert [(i.link.index, sweep) for i, sweep in host.polls_due(0.0)] == [(3, True)]
    host.poll_all(0.1)
    assert host.polls_due(0.1) == []
    host.hear(3, MAC, UNREAD, 0.2)
    assert [sweep for _, sweep in host.polls_due(0.2)] == [True], "it was asked for meanwhile"
    host.hear(3, MAC, UNREAD, 0.3)
    assert host.polls_due(0.54) == []
    assert [sweep for _, sweep in host.polls_due(0.56)] == [False], "fast polls only probe"


# --- whatever happens --------------------------------------------------------------------------

READINGS = [
    FULL, UNREAD, eni(), eni(FULL4), eni(v6=FULL6), eni(FULL4, family(cidrs=NET6)),
    eni(family(ERROR, cidrs=NET4), FULL6), replace(eni(), mac=Value(MAC2)),
    eni(family(f"{IPV4} 10.0.2.11 10.9.9.9", "10.0.2.32/28", NET4)),
    eni(v6=family(prefixes="2001:db8:0:2:1::/80", cidrs=f"{NET6} 2001:db8:5::/64")),
]  # fmt: skip
LINKS = [ETH1, replace(ETH1, up=False), replace(ETH1, name="ens6"), replace(ETH1, master=9), None]
ADDRESSES = [LEASE4, LEASE6, lease(f"{IPV6}/64", from_ra=True), permanent("10.0.0.9/8")]


def change(kernel: TinyKernel, what: Link | Address | str | None) -> Callable[[], None]:
    def act() -> None:
        if what == "flush":
            kernel.rules.clear()
        elif isinstance(what, Link):
            kernel.set_link(replace(what, group=kernel.links.get(3, what).group))
        elif what is None and 3 in kernel.links:
            kernel.unplug(3)
        elif isinstance(what, Address) and 3 in kernel.links and what not in kernel.addresses:
            kernel.addresses = [a for a in kernel.addresses if a.ip != what.ip] + [what]

    return act


QUICK = Policy(
    schedule=Schedule(interval=1.0, fast_for=5.0, keep=10.0, patience=30.0, refresh=15.0),
    settling=5.0,
    address_wait=5.0,
)
EVENTS = st.lists(
    st.tuples(st.floats(0, 50), st.sampled_from([*READINGS, *LINKS, *ADDRESSES, "flush"])),
    max_size=12,
)


@settings(deadline=None, max_examples=30)
@given(EVENTS, st.sampled_from([QUICK, replace(QUICK, rules=RuleMode.ADDRESS, kernel_proof=False)]))
def test_the_end_depends_on_the_facts_alone(
    events: list[tuple[float, EniMetadata | Link | Address | str | None]], policy: Policy
) -> None:
    """Whatever the way, the same facts in the end make the same kernel; and it was always sound."""
    motion = FastMotion(policy)
    motion.plug(0.0, ETH1)
    for when, what in sorted(events, key=lambda event: event[0]):
        if isinstance(what, EniMetadata):
            motion.imds(MAC, when, what)
        else:
            motion.at(when, change(motion.kernel, what))
    motion.plug(60.0, ETH1)
    motion.imds(MAC, 60.0, FULL)
    motion.at(60.0, change(motion.kernel, LEASE4))
    motion.at(60.0, change(motion.kernel, LEASE6))
    motion.run(200.0)
    assert motion.state() is APPLIED
    straight = FastMotion(policy, TinyKernel(ETH0, ETH1))
    straight.kernel.addresses = [a for a in motion.kernel.addresses if a.protocol != PROTOCOL]
    straight.imds(MAC, 0.0, FULL)
    straight.run(60.0)
    assert set(motion.kernel.own_rules) == set(straight.kernel.own_rules)
    assert set(motion.kernel.own_routes) == set(straight.kernel.own_routes)
    assert set(motion.kernel.addresses) == set(straight.kernel.addresses)
    assert quiet(motion)
