"""Which address comes first: what the kernel takes as the source of what is not bound to one."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from nicwatchd.core.dhcp import DHCPCD, NETWORK_MANAGER
from nicwatchd.core.diff import Differ
from nicwatchd.core.eni_plan import Subject, plan
from nicwatchd.core.evidence import Usable
from nicwatchd.core.metadata import EniMetadata
from nicwatchd.core.model import AddAddress, Address, Plan, Reason, RemoveAddress
from nicwatchd.core.ownership import Snapshot
from nicwatchd.core.policy import AddressMode, Policy, RuleMode
from tests.core.build import (
    ETH1,
    IPV4,
    MAC,
    NET4,
    NET6,
    V4,
    V6,
    added,
    eni,
    family,
    ip,
    ips,
    lease,
    nets,
    permanent,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, CALM, LEASE4, dhcp4, hot_plugged, quiet

A, B, C = "2001:db8:0:2::a", "2001:db8:0:2::b", "2001:db8:0:2::c"
D, E = "10.0.2.13", "10.0.2.14"
THREE: Final = Usable(ips(A, B, C), (), nets(NET6), ips(A, B, C))
TWO: Final = Usable(ips(D, E), (), nets(NET4), ips(D, E))
ELSEWHERE: Final = Reason("lives-elsewhere", "in a box")


# --- which IPv6 address is preferred -------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "due", "away", "expected"),
    [
        pytest.param([], True, [], A, id="the first"),
        pytest.param([], False, [], None, id="none while DHCPv6 may bring the first"),
        pytest.param([added(f"{A}/128")], False, [], A, id="the first, ours already"),
        pytest.param([lease(f"{A}/128")], True, [], None, id="DHCPv6 brought it"),
        pytest.param([lease(f"{B}/128")], True, [], None, id="DHCPv6 brought another"),
        pytest.param([lease(f"{B}/128", tentative=True)], True, [], None, id="... is bringing it"),
        pytest.param([lease(f"{A}/128", deprecated=True)], True, [], B, id="it is not renewed"),
        pytest.param([permanent(f"{A}/128")], True, [], None, id="an operator's own"),
        pytest.param([permanent("fd00::7/64")], True, [], A, id="one that is not the ENI's"),
        pytest.param([], True, [A], B, id="the first lives elsewhere"),
        pytest.param([added(f"{A}/128")], True, [A], B, id="... and was ours"),
    ],
)
def test_one_address_is_preferred(
    *, there: list[Address], due: bool, away: list[str], expected: str | None
) -> None:
    subject = Subject(
        ETH1,
        {V6: THREE},
        tuple(there),
        first_due=due,
        away={ip(each): ELSEWHERE for each in away},
    )
    made = plan(subject, Policy())
    assert made.preferred == (ip(expected) if expected else None)
    assert made.preferred in (None, *made.addresses)


def test_ipv4_has_no_such_thing() -> None:
    assert plan(Subject(ETH1, {V4: TWO}, first_due=True), Policy()).preferred is None


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        pytest.param(
            [],
            [AddAddress(3, ip(A), preferred=True), AddAddress(3, ip(B))],
            id="they are added so",
        ),
        pytest.param(
            [added(f"{A}/128"), added(f"{B}/128")],
            [AddAddress(3, ip(A), preferred=True, replace=True)],
            id="as the first edition had them",
        ),
        pytest.param(
            [added(f"{B}/128"), permanent(f"{A}/128", protocol=236)],
            [],
            id="they are so",
        ),
        pytest.param(
            [
                permanent(f"{A}/128", protocol=236),
                permanent(f"{B}/128", protocol=236),
            ],
            [AddAddress(3, ip(B), replace=True)],
            id="one that was first",
        ),
        pytest.param(
            [permanent(f"{A}/128", deprecated=True), lease(f"{B}/128")], [], id="others' are left"
        ),
    ],
)
def test_what_is_not_so_is_changed(there: list[Address], expected: list[object]) -> None:
    wanted = Plan(3, addresses=ips(A, B), preferred=ip(A))
    kernel = Snapshot({3: ETH1}, {3: tuple(there)})
    assert list(Differ().diff([wanted], kernel, frozenset())) == expected


# --- what must not be on the link ----------------------------------------------------------------


def test_what_is_away_goes_even_while_the_family_is_undecided() -> None:
    kernel = Snapshot({3: ETH1}, {3: (added(f"{D}/32"), added(f"{E}/32"))})
    away = Plan(3, away=frozenset(ips(E)))
    assert Differ().diff([away], kernel, {(3, V4)}) == (RemoveAddress(3, ip(E), 32),)


@pytest.mark.parametrize("mode", RuleMode)
def test_what_is_away_has_a_rule_and_is_no_source(mode: RuleMode) -> None:
    away = {ip(D): ELSEWHERE}
    subject = Subject(ETH1, {V4: TWO}, (added(f"{D}/32"), added(f"{E}/32")), away=away)
    made = plan(subject, Policy(rules=mode))
    assert made.addresses == ips(E)
    assert {route.prefsrc for route in made.routes} == {ip(E)}
    sources = {str(rule.src) for rule in made.rules if rule.iif is None and rule.table != 254}
    assert f"{D}/32" in sources
    assert made.notes == (ELSEWHERE,)


# --- a host in fast motion -----------------------------------------------------------------------

READING: Final[EniMetadata] = eni(
    family(f"{IPV4} 10.0.2.77 10.0.2.5", cidrs=NET4), family(f"{A} {B}", cidrs=NET6)
)


def order(motion: FastMotion) -> list[str]:
    return [str(a.ip) for a in motion.kernel.addresses_of(3) if a.family is V4]


def preferred(motion: FastMotion) -> list[str]:
    on_link = motion.kernel.addresses_of(3)
    return [str(a.ip) for a in on_link if a.family is V6 and not a.deprecated]


def test_without_dhcp_the_link_has_imds_s_order() -> None:
    motion = hot_plugged(READING, CALM)
    motion.run(60.0)
    assert order(motion) == [IPV4, "10.0.2.77", "10.0.2.5"]
    assert preferred(motion) == [A]
    assert quiet(motion)


def test_a_lease_that_comes_first_stays_the_first() -> None:
    motion = hot_plugged(READING, CALM)
    dhcp4(motion, 10.001)
    motion.run(60.0)
    assert order(motion) == [IPV4, "10.0.2.77", "10.0.2.5"]
    assert added(f"{IPV4}/32") not in motion.kernel.addresses


def test_where_a_setting_waits_for_dhcp_its_address_is_the_first() -> None:
    motion = hot_plugged(READING, replace(CALM, address_wait=5.0))
    dhcp4(motion, 12.0)
    motion.run(60.0)
    assert order(motion) == [IPV4, "10.0.2.77", "10.0.2.5"]


@pytest.mark.parametrize("others", [["10.0.2.77", "10.0.2.5"], []], ids=["three", "one"])
def test_a_lease_that_comes_later_takes_over(others: list[str]) -> None:
    """Without another address between, ours goes; else it goes on being the first."""
    motion = hot_plugged(eni(family(" ".join([IPV4, *others]), cidrs=NET4)), CALM)
    motion.run(60.0)
    assert order(motion) == [IPV4, *others]
    dhcp4(motion, 61.0)
    motion.run(70.0)
    assert order(motion) == ([IPV4, *others, IPV4] if others else [IPV4])
    assert LEASE4 in motion.kernel.addresses
    assert quiet(motion)
    motion.at(400.0, lambda: motion.kernel.drop(LEASE4))  # the client is stopped
    motion.run(410.0)
    assert order(motion) == [IPV4, *others]
    gone = [at for at, o in motion.written if isinstance(o, RemoveAddress) and o.ip == ip(IPV4)]
    assert len(gone) == (not others)


# --- dhcpcd, which takes an address off to add its own -------------------------------------------


def served_by_dhcpcd(reading: EniMetadata = READING) -> FastMotion:
    motion = hot_plugged(reading, CALM)
    motion.clients[3] = DHCPCD
    return motion


def dhcpcd4(motion: FastMotion, when: float) -> None:
    """Its lease: ours goes, and its own comes."""
    motion.at(when, lambda: motion.kernel.drop(added(f"{IPV4}/32")))
    dhcp4(motion, when + 0.01)


def test_the_others_wait_for_dhcpcd() -> None:
    motion = served_by_dhcpcd()
    motion.run(13.0)
    assert order(motion) == [IPV4]
    assert preferred(motion) == [A], "nothing of IPv6 waits"
    ((reason,),) = [motion.host.interfaces[3].lifecycle.reasons]
    assert str(reason.text) == f"waiting up to 10 s for dhcpcd to configure {IPV4}"
    dhcpcd4(motion, 15.0)
    motion.run(16.0)
    assert order(motion) == [IPV4, "10.0.2.77", "10.0.2.5"]
    assert motion.state() is APPLIED
    assert quiet(motion)


def test_the_others_wait_for_dhcpcd_no_longer_than_it_needs() -> None:
    motion = served_by_dhcpcd()
    motion.run(19.9)
    assert order(motion) == [IPV4]
    motion.run(20.3)
    assert order(motion) == [IPV4, "10.0.2.77", "10.0.2.5"]
    assert motion.state() is APPLIED


def test_one_address_alone_does_not_wait_for_dhcpcd() -> None:
    motion = served_by_dhcpcd(eni(family(IPV4, cidrs=NET4), family(A, cidrs=NET6)))
    motion.run(10.5)
    assert (order(motion), motion.state()) == ([IPV4], APPLIED)
    dhcpcd4(motion, 12.0)
    motion.run(20.0)
    assert [a for a in motion.kernel.addresses_of(3) if a.family is V4] == [LEASE4]


def test_what_all_others_of_the_eni_wait_for_may_be_set_to_wait_itself() -> None:
    subject = Subject(ETH1, {V4: TWO}, dhcpcd_due=True)
    made = plan(subject, Policy())
    assert (made.addresses, made.awaited) == ((), ips(D))
    made = plan(subject, Policy(addresses=AddressMode.ALL))
    assert (made.addresses, made.awaited) == (ips(D, E), ())


# --- NetworkManager, which takes addresses that it finds for an operator's profile ---------------


def test_networkmanager_comes_first() -> None:
    motion = hot_plugged(READING, CALM)
    motion.clients[3] = NETWORK_MANAGER
    motion.run(14.9)
    assert (order(motion), preferred(motion)) == ([], [])
    texts = {reason.text for reason in motion.host.interfaces[3].lifecycle.reasons}
    wait = "waiting up to 5 s for NetworkManager to configure"
    assert texts == {f"{wait} {IPV4}", f"{wait} {A}"}
    motion.run(15.2)
    assert (order(motion), preferred(motion)) == ([IPV4, "10.0.2.77", "10.0.2.5"], [A])
    assert motion.state() is APPLIED
    assert quiet(motion)


# --- a lease that comes later --------------------------------------------------------------------


def test_ours_goes_once_the_lease_would_be_the_first_without_it() -> None:
    motion = hot_plugged(READING, CALM)
    dhcp4(motion, 61.0)
    motion.imds(MAC, 100.0, eni(family(IPV4, cidrs=NET4), family(A, cidrs=NET6)))
    motion.run(400.0)
    assert order(motion) == [IPV4]
    assert LEASE4 in motion.kernel.addresses


@pytest.mark.parametrize(
    ("there", "kept"),
    [
        pytest.param([added(f"{D}/32"), lease(f"{D}/24")], False, id="alone"),
        pytest.param([added(f"{D}/32"), added(f"{E}/32"), lease(f"{D}/24")], True, id="before one"),
        pytest.param(
            [added(f"{D}/32"), lease(f"{D}/24"), added(f"{E}/32")], False, id="next to it"
        ),
        pytest.param([lease(f"{D}/24"), added(f"{D}/32"), added(f"{E}/32")], False, id="behind it"),
        pytest.param(
            [added(f"{D}/32"), permanent("192.168.7.7/24"), lease(f"{D}/24")], True, id="foreign"
        ),
        pytest.param(
            [added(f"{E}/32"), added(f"{D}/32"), lease(f"{E}/24"), lease(f"{D}/24")],
            False,
            id="what is not the ENI's first holds no place",
        ),
    ],
)
def test_ours_stays_beside_a_lease_to_be_the_first(*, there: list[Address], kept: bool) -> None:
    made = plan(Subject(ETH1, {V4: TWO}, tuple(there), first_due=True), Policy())
    assert (ip(D) in made.addresses) is kept


def test_all_that_are_flushed_come_back_in_order() -> None:
    motion = hot_plugged(READING, CALM)
    motion.run(60.0)
    motion.at(70.0, lambda: motion.kernel.drop(*motion.kernel.addresses_of(3)))
    motion.run(80.0)
    assert order(motion) == [IPV4, "10.0.2.77", "10.0.2.5"]
    assert preferred(motion) == [A]


def test_the_next_one_is_preferred_when_the_first_is_unassigned() -> None:
    motion = hot_plugged(READING, CALM)
    motion.run(60.0)
    motion.imds(MAC, 100.0, eni(family(IPV4, cidrs=NET4), family(B, cidrs=NET6)))
    motion.run(400.0)
    assert preferred(motion) == [B]
    assert quiet(motion)


def test_a_lease_that_comes_late_is_preferred_alone() -> None:
    motion = hot_plugged(READING, CALM)
    motion.run(150.0)
    assert preferred(motion) == [A]
    motion.at(200.0, lambda: motion.kernel.put(lease(f"{B}/128")))
    motion.run(300.0)
    assert preferred(motion) == [B]
    motion.at(310.0, lambda: motion.kernel.drop(lease(f"{B}/128")))
    motion.run(400.0)
    assert preferred(motion) == [A]
    assert quiet(motion)
