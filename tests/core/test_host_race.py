"""From a hot-plug to applied, or to the state that lasts, in fast motion."""

from dataclasses import replace

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import ABSENT, EniMetadata, Value
from nicwatchd.core.model import AddAddress, Link, RemoveAddress
from nicwatchd.core.policy import Policy
from nicwatchd.core.steps import PrimaryReading
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
    V4,
    V6,
    added,
    eni,
    family,
    ip,
    ips,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import (
    APPLIED,
    AWAITING,
    FULL,
    IGNORED,
    LEASE4,
    LEASE6,
    OF_PRIMARY,
    PATIENT,
    applied,
    at_rest,
    dhcp4,
    dhcp6,
    hot_plugged,
    programmed,
)

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
    assert motion.kernel.addresses == (LEASE4, LEASE6)


def test_without_any_dhcp_client() -> None:
    motion = hot_plugged()
    motion.run(10.3)
    assert {a.ip for a in motion.kernel.addresses} == {ip(IPV4), ip(IPV6)}
    assert motion.state() is APPLIED
    motion.run(300.0)
    assert [told.state for told in motion.told if told.name == "eth1"][-1] is APPLIED
    assert {o.ip for _, o in motion.written if isinstance(o, RemoveAddress)} == set()


def test_without_any_dhcp_client_where_one_is_waited_for() -> None:
    motion = hot_plugged(policy=PATIENT)
    motion.run(14.9)
    assert (motion.state(), motion.reasons()) == (State.VALIDATED, {"address-awaited"})
    assert motion.kernel.own_rules
    assert not motion.kernel.addresses
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
    assert motion.polls(3, 10.0, 20.0) <= 10 * 10
    assert motion.polls(3, 20.0, 45.0) <= 5 * 25


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
    assert not motion.turn.asks_primary
    motion.turn.take_reading(PrimaryReading(ABSENT), motion.now)  # a late answer
    motion.run(400.0)
    assert motion.state() is APPLIED, "it was there from launch"


def test_a_setting_leaves_the_first_address_to_dhcp_for_a_while() -> None:
    two = eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4), NONE)
    motion = hot_plugged(two, PATIENT)
    motion.run(60.0)
    added_at = {o.ip: at for at, o in motion.written if isinstance(o, AddAddress)}
    assert 15.0 <= added_at[ip(IPV4)] < 15.1
    assert added_at[ip("10.0.2.11")] == added_at[ip(IPV4)], "in IMDS's order: it waits, too"
    assert list(added_at) == list(ips(IPV4, "10.0.2.11"))
    motion.at(70.0, lambda: motion.kernel.put(LEASE4))
    motion.run(80.0)
    on_link = [a for a in motion.kernel.addresses if a.family is V4]
    assert on_link == [added(f"{IPV4}/32"), added("10.0.2.11/32"), LEASE4], "ours stays first"


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
    motion.run(360.0)
    interface = motion.host.interfaces[3]
    assert interface.lifecycle.overdue
    assert motion.state() is AWAITING
    assert len([told for told in motion.told if told.name == "eth1"]) == 3
    motion.run(1000.0)
    assert motion.state() is IGNORED, "IMDS had twice the patience, and knows no such ENI"
    assert motion.polls(3, 10.0, 20.0) <= 10 * 10
    assert motion.polls(3, 20.0, 45.0) <= 5 * 25
    assert motion.polls(3, 200.0, 1000.0) <= 14
    motion.imds(MAC, 1000.0, FULL)
    motion.run(1061.0)
    assert motion.state() is APPLIED
    assert not interface.lifecycle.overdue


def test_polling_becomes_slow_when_all_is_there() -> None:
    motion = applied(policy=Policy())
    assert 7.5 * 10 <= motion.polls(3, 10.0, 20.0) <= 10 * 10
    assert 3.8 * 25 <= motion.polls(3, 20.0, 45.0) <= 5 * 25
    assert motion.polls(3, 75.0, 130.0) <= 55 / at_rest() + 1
    motion.run(1400.0)
    for index, reading in ((3, FULL), (2, OF_PRIMARY)):
        polls = 1200 / at_rest(reading)
        assert polls - 1 <= motion.polls(index, 200.0, 1400.0) <= polls + 1


def test_a_family_that_is_expected_is_waited_for() -> None:
    motion = hot_plugged(eni(FULL4), Policy(expect=frozenset({V6})))
    motion.run(1000.0)
    assert (motion.state(), motion.reasons()) == (
        AWAITING,
        {"no-ipv6s", "no-subnet-ipv6-cidr-blocks"},
    )
