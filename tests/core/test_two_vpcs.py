"""ENIs of two VPCs on one host: equal subnets, and equal addresses, are possible for good."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.core.metadata import EniMetadata, Value
from nicwatchd.core.model import PROTOCOL, Family, Item, Numbers, Rule
from nicwatchd.core.moves import Claims, first_come, rightful_owners, ruled
from tests.core.build import (
    ETH1,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    PRIMARY,
    eni,
    family,
    ip,
    lease,
    net,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, AWAITING, CALM, ETH2, MAC2, OF_PRIMARY, selectors

X: Item = ip("10.0.2.10")
P: Item = net("10.0.2.64/28")


def reading(mac: str, subnet: str | None, prefixes: str = "10.0.2.64/28") -> EniMetadata:
    where = {} if subnet is None else {"subnet_id": Value(subnet)}
    four = family(IPV4, prefixes, cidrs=NET4)
    return eni(four, family(IPV6, cidrs=NET6), mac=Value(mac), **where)


def both(*, leases: bool, subnets: tuple[str | None, str | None] = ("a", "b")) -> FastMotion:
    """The second ENI comes when the first is applied; both list the same of everything."""
    motion = FastMotion(CALM)
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    for start, link, subnet in ((0.0, ETH1, subnets[0]), (30.0, ETH2, subnets[1])):
        motion.imds(link.mac, start, reading(link.mac, subnet))
        motion.kernel.set_link(link)
        if leases:
            motion.kernel.put(lease(f"{IPV4}/24", link.index), lease(f"{IPV6}/128", link.index))
        motion.run(start + 30.0)
    return motion


@pytest.mark.parametrize(
    ("subnets", "contested"),
    [
        pytest.param(("a", "b"), False, id="two VPCs"),
        pytest.param(("a", "a"), True, id="one subnet"),
        pytest.param(("a", None), True, id="not told yet"),
        pytest.param((None, None), True, id="neither is told"),
        pytest.param(("a", "b", "c"), False, id="three VPCs"),
        pytest.param(("a", "b", "b"), True, id="two of three in one subnet"),
    ],
)
def test_whose_it_is_is_asked_within_a_vpc(
    subnets: tuple[str | None, ...], *, contested: bool
) -> None:
    claims = [
        Claims(index, listed=frozenset({X}), subnet_id=subnet)
        for index, subnet in enumerate(subnets, 3)
    ]
    assert bool(rightful_owners(claims, (), lambda _: frozenset())) is contested


def test_one_has_the_rule() -> None:
    """The one that has it in the kernel; else the first."""
    tables = {Numbers().table_of(index): frozenset({index}) for index in (3, 4)}
    rule = Rule(Family.V4, 32765, Numbers().table_of(4), protocol=PROTOCOL, src=net(f"{X}/32"))

    def find(*rules: Rule) -> dict[int, dict[Item, int]]:
        found = {3: [X, P], 4: [X], 5: [P]}
        return first_come(found, ruled(rules, lambda table: tables.get(table, frozenset())))

    assert find() == {4: {X: 3}, 5: {P: 3}}
    assert find(rule) == {3: {X: 4}, 5: {P: 3}}


@pytest.mark.parametrize("leases", [False, True], ids=["added by us", "by DHCP"])
def test_both_keep_everything_but_one_has_the_rules(*, leases: bool) -> None:
    motion = both(leases=leases)
    first, second = (motion.host.interfaces[index] for index in (3, 4))
    assert motion.state(3) is motion.state(4) is APPLIED
    assert {"eth1", f"{IPV4}/32", str(P)} == selectors(motion, 3)
    assert {"eth1", f"{IPV6}/128"} == selectors(motion, 3, 6)
    assert selectors(motion, 4) == selectors(motion, 4, 6) == {"eth2"}
    for interface in (first, second):
        on_link = {str(address.ip) for address in interface.facts.addresses}
        assert on_link == {IPV4, IPV6}
        ways = {str(route.dst) for route in interface.plan.routes}
        assert ways == {NET4, NET6, "fe80::/64", "0.0.0.0/0", "::/0"}
        assert all(str(r.prefsrc) in on_link for r in interface.plan.routes if r.gateway)
    assert first.view().notes == ()
    assert {note.code for note in second.view().notes} == {"same-address"}
    assert len(second.view().notes) == 3
    assert all("eth1" in n.text and "bound to eth2" in n.text for n in second.view().notes)


def test_when_the_first_goes_the_second_has_the_rules() -> None:
    motion = both(leases=False)
    motion.kernel.unplug(3)
    motion.run(61.0)
    assert selectors(motion, 4) == {"eth2", f"{IPV4}/32", str(P)}
    assert motion.host.interfaces[4].view().notes == ()


def test_a_restart_changes_nothing() -> None:
    motion = both(leases=False)
    written = len(motion.written)
    motion.turn = motion.begin(CALM)
    motion.run(120.0)
    assert len(motion.written) == written


@pytest.mark.parametrize("leases", [False, True], ids=["without DHCP", "with DHCP"])
def test_whoever_has_lost_everything_is_usable_by_device(*, leases: bool) -> None:
    """IMDS lists one address on two ENIs of one subnet: the later one has only its device.

    It has none of its addresses, so it is not applied.
    """
    motion = both(leases=leases, subnets=("a", "a"))
    assert (motion.state(4), motion.reasons(4)) == (AWAITING, {"held-elsewhere"})
    assert selectors(motion, 4) == selectors(motion, 4, 6) == {"eth2"}
    second = motion.host.interfaces[4]
    assert {str(route.dst) for route in second.plan.routes} > {NET4, NET6, "0.0.0.0/0", "::/0"}
    assert {note.code for note in second.view().notes} == {"held-elsewhere"}


def test_equal_subnets_are_selected_by_address() -> None:
    motion = FastMotion(CALM)
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.imds(MAC, 0.0, reading(MAC, "a", ""))
    other = family("10.0.2.77", cidrs=NET4)
    motion.imds(MAC2, 0.0, eni(other, mac=Value(MAC2), subnet_id=Value("b")))
    motion.kernel.set_link(ETH1)
    motion.kernel.set_link(replace(ETH2))
    motion.run(60.0)
    assert selectors(motion, 3) == {"eth1", f"{IPV4}/32"}
    assert selectors(motion, 4) == {"eth2", "10.0.2.77/32"}
    assert {note.code for note in motion.host.interfaces[4].view().notes} == {"no-sign-of-ipv6"}


def test_an_address_of_the_primary_is_ruled_by_main() -> None:
    """Another VPC's ENI has it on its link, and only its device."""
    motion = FastMotion(CALM)
    motion.imds(PRIMARY, 0.0, replace(reading(PRIMARY, "a", ""), device_number=Value(0)))
    motion.imds(MAC, 0.0, reading(MAC, "b", ""))
    motion.kernel.put(lease(f"{IPV4}/24", 2), lease(f"{IPV6}/128", 2))
    motion.kernel.set_link(ETH1)
    motion.run(60.0)
    assert selectors(motion, 3) == selectors(motion, 3, 6) == {"eth1"}
    assert {str(a.ip) for a in motion.kernel.addresses_of(3)} == {IPV4, IPV6}
    notes = motion.host.interfaces[3].view().notes
    assert [(n.code, "eth0 has" in n.text) for n in notes] == [("same-address", True)] * 2
    assert motion.host.interfaces[2].view().notes == ()
    written = len(motion.written)
    motion.turn = motion.begin(CALM)
    motion.run(120.0)
    assert len(motion.written) == written
