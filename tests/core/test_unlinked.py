"""A link that goes and comes back, and ENIs that IMDS lists and the kernel does not have."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from nicwatchd.core.metadata import Value
from nicwatchd.core.model import AddRule, Family
from nicwatchd.core.unlinked import AGE, MOST, SELDOM, Unlinked
from tests.core.build import (
    ERROR,
    ETH1,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    PRIMARY,
    UNREAD,
    V4,
    V6,
    eni,
    family,
    ip,
    permanent,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import (
    APPLIED,
    CALM,
    ETH2,
    FULL,
    MAC2,
    applied,
    dhcp4,
    hot_plugged,
    quiet,
    selectors,
)

GONE: Final = 200.0
BACK: Final = 220.0
# The same index after a visit to another namespace, another one after a reload of the driver.
INDEX = pytest.mark.parametrize("index", [3, 5], ids=["same-index", "new-index"])


def gone(motion: FastMotion | None = None, when: float = GONE) -> FastMotion:
    """An ENI that was applied long since, and whose link went. Nobody but us served it."""
    motion = motion or hot_plugged(FULL, CALM)
    motion.run(when - 1.0)
    assert motion.state() is APPLIED
    motion.at(when, lambda: motion.kernel.unplug(3))
    return motion


def back(motion: FastMotion, index: int = 5, when: float = BACK) -> None:
    motion.plug(when, replace(ETH1, index=index))
    motion.run(when)


def here(motion: FastMotion, index: int = 5) -> set[str]:
    return {str(address.ip) for address in motion.kernel.addresses_of(index)}


# --- a link that is back -------------------------------------------------------------------------


@INDEX
def test_it_is_served_in_one_turn_while_imds_is_silent(index: int) -> None:
    motion = gone()
    motion.imds(MAC, GONE - 0.5, UNREAD)
    motion.macs = ERROR
    motion.run(BACK - 1.0)
    assert motion.kernel.own_rules == (), "nothing of it stays meanwhile"
    assert motion.kernel.own_routes == ()
    back(motion, index)
    assert motion.state(index) is APPLIED
    assert here(motion, index) == {IPV4, IPV6}
    assert f"{IPV4}/32" in selectors(motion, index)
    motion.run(BACK + 600.0)
    assert motion.state(index) is APPLIED
    assert quiet(motion)


def test_a_link_that_comes_back_down_is_served_once_it_is_up() -> None:
    motion = gone()
    motion.imds(MAC, GONE - 0.5, UNREAD)
    motion.udev_done = {5}
    motion.plug(BACK, replace(ETH1, index=5, up=False, running=False))
    motion.run(BACK + 1.0)
    assert motion.kernel.links[5].up
    assert motion.state(5) is APPLIED


def test_what_dhcp_had_brought_is_there_before_its_client_is() -> None:
    motion = gone(applied())
    motion.imds(MAC, GONE - 0.5, UNREAD)
    motion.run(BACK - 1.0)
    back(motion)
    assert here(motion) == {IPV4, IPV6}
    assert motion.state(5) is APPLIED


def test_what_dhcp_had_brought_is_left_to_dhcp_for_a_while_if_a_setting_says_so() -> None:
    """Its routes and rules are there at once; its first addresses come from the client again."""
    motion = gone(applied(policy=replace(CALM, address_wait=5.0)))
    motion.imds(MAC, GONE - 0.5, UNREAD)
    motion.run(BACK - 1.0)
    back(motion)
    assert f"{IPV4}/32" in selectors(motion, 5)
    assert IPV4 not in here(motion)
    dhcp4(motion, BACK + 1.0, replace(permanent(f"{IPV4}/24", 5), dynamic=True))
    motion.run(BACK + 30.0)
    assert (motion.state(5), IPV4 in here(motion)) == (APPLIED, True)


def test_imds_confirms_or_corrects_it() -> None:
    motion = gone()
    other = eni(family("10.0.2.10 10.0.2.30", cidrs=NET4), family("2001:db8:0:2::10", cidrs=NET6))
    motion.imds(MAC, GONE + 1.0, other)
    motion.run(BACK - 1.0)
    back(motion)
    motion.run(BACK + 5.0)
    assert here(motion) >= {"10.0.2.10", "10.0.2.30"}
    # What IMDS does not list any more is given up in the usual measure.
    motion.imds(MAC, BACK + 6.0, eni(family("10.0.2.10", cidrs=NET4), NONE6))
    motion.run(BACK + 300.0)
    assert here(motion) == {"10.0.2.10"}


NONE6: Final = family(cidrs=NET6)


def test_what_was_unassigned_while_it_was_away_goes() -> None:
    motion = gone(hot_plugged(eni(family(f"{IPV4} 10.0.2.30", cidrs=NET4)), CALM))
    motion.imds(MAC, GONE + 1.0, eni(family(IPV4, cidrs=NET4)))
    motion.run(BACK - 1.0)
    back(motion)
    assert "10.0.2.30" in here(motion), "it is served with what is known"
    motion.run(BACK + 120.0)
    assert here(motion) == {IPV4}


@pytest.mark.parametrize("which", Family, ids=lambda each: each.label)
def test_what_a_manager_took_away_is_not_put_back_on_the_link_that_is_back(which: Family) -> None:
    vip = {V4: "10.0.2.77", V6: "2001:db8:0:2::77"}[which]
    bits = {V4: 32, V6: 128}[which]
    both = eni(
        family(IPV4 if which is V6 else f"{IPV4} {vip}", cidrs=NET4),
        family(IPV6 if which is V4 else f"{IPV6} {vip}", cidrs=NET6),
    )
    motion = hot_plugged(FULL, CALM)
    motion.at(140.0, lambda: motion.kernel.put(permanent(f"{vip}/{bits}")))
    motion.imds(MAC, 141.0, both)
    motion.at(180.0, lambda: motion.kernel.drop(permanent(f"{vip}/{bits}")))
    motion = gone(motion, 400.0)
    motion.run(419.0)
    back(motion, when=420.0)
    motion.run(500.0)
    assert vip not in here(motion)


# --- what ends the memory ------------------------------------------------------------------------


def began_anew(motion: FastMotion, when: float) -> bool:
    """Whether the link that comes then has to wait for IMDS, which is silent."""
    motion.imds(MAC, when - 0.5, UNREAD)
    motion.run(when - 0.1)
    back(motion, when=when)
    return motion.state(5) is not APPLIED


def test_an_hour_ends_it() -> None:
    motion = gone()
    assert not began_anew(motion, GONE + AGE - 1.0)
    motion = gone()
    assert began_anew(motion, GONE + AGE + 1.0)


def test_a_mac_that_imds_does_not_list_any_more_ends_it() -> None:
    motion = gone()
    motion.at(GONE + 1.0, lambda: setattr(motion, "macs", Value(frozenset({PRIMARY}))))
    assert began_anew(motion, GONE + 120.0)


def test_a_list_without_the_mac_is_doubted_first() -> None:
    motion = gone()
    motion.at(GONE - 0.5, lambda: setattr(motion, "macs", Value(frozenset({PRIMARY}))))
    motion.at(GONE + 10.0, lambda: setattr(motion, "macs", None))
    assert not began_anew(motion, GONE + 120.0)


@pytest.mark.parametrize("macs", [ERROR, Value(frozenset({PRIMARY}), whole=False)])
def test_a_list_that_is_unknown_or_damaged_ends_nothing(macs: object) -> None:
    motion = gone()
    motion.at(GONE - 0.5, lambda: setattr(motion, "macs", macs))
    assert not began_anew(motion, GONE + 600.0)


def test_what_imds_lists_on_another_eni_meanwhile_is_that_ones() -> None:
    """And it stays there when the link is back, whatever IMDS says of that one then."""
    motion = hot_plugged(eni(family(f"{IPV4} 10.0.2.30", cidrs=NET4)), CALM)
    motion.plug(12.0, ETH2)
    second = eni(family("10.0.2.40", cidrs=NET4), mac=Value(MAC2))
    motion.imds(MAC2, 12.0, second)
    motion = gone(motion)
    motion.imds(MAC, GONE - 0.5, UNREAD)
    moved = eni(family("10.0.2.40 10.0.2.30", cidrs=NET4), mac=Value(MAC2))
    motion.imds(MAC2, GONE + 2.0, moved)
    motion.run(GONE + 119.0)
    assert "10.0.2.30" in here(motion, 4)
    back(motion, when=GONE + 120.0)
    assert motion.state(5) is APPLIED
    assert here(motion) == {IPV4}
    motion.run(GONE + 300.0)
    assert (here(motion), here(motion, 4)) == ({IPV4}, {"10.0.2.40", "10.0.2.30"})
    rules = {str(o.rule.src) for at, o in motion.written if at > GONE and isinstance(o, AddRule)}
    assert "10.0.2.30/32" not in selectors(motion, 5)
    assert "10.0.2.30/32" in rules | selectors(motion, 4)


def test_what_moves_to_another_just_after_the_link_is_back_is_that_ones() -> None:
    """IMDS has not confirmed it here: what it lists elsewhere counts for more."""
    motion = hot_plugged(eni(family(f"{IPV4} 10.0.2.30", cidrs=NET4)), CALM)
    motion.plug(12.0, ETH2)
    motion.imds(MAC2, 12.0, eni(family("10.0.2.40", cidrs=NET4), mac=Value(MAC2)))
    motion = gone(motion)
    motion.imds(MAC, GONE - 0.5, UNREAD)
    motion.run(BACK - 1.0)
    back(motion)
    assert "10.0.2.30" in here(motion)
    moved = eni(family("10.0.2.40 10.0.2.30", cidrs=NET4), mac=Value(MAC2))
    motion.imds(MAC2, BACK + 1.0, moved)
    motion.run(BACK + 120.0)
    assert (here(motion), "10.0.2.30" in here(motion, 4)) == ({IPV4}, True)


def test_an_address_of_another_vpc_is_nobody_elses() -> None:
    one = eni(family(IPV4, cidrs=NET4), subnet_id=Value("subnet-1"))
    motion = hot_plugged(one, CALM)
    motion = gone(motion)
    motion.imds(MAC, GONE - 0.5, UNREAD)
    motion.plug(GONE + 1.0, ETH2)
    twin = eni(family(IPV4, cidrs=NET4), subnet_id=Value("subnet-2"), mac=Value(MAC2))
    motion.imds(MAC2, GONE + 1.0, twin)
    motion.run(GONE + 60.0)
    back(motion, when=GONE + 61.0)
    assert IPV4 in here(motion)


def test_what_imds_never_told_of_is_not_remembered() -> None:
    motion = FastMotion(CALM)
    motion.plug(10.0, ETH1)
    motion.at(20.0, lambda: motion.kernel.unplug(3))
    motion.run(30.0)
    assert motion.host.unlinked.formers == {}


def test_the_number_of_those_that_are_remembered_is_bounded() -> None:
    motion = applied()
    unlinked = Unlinked()
    facts = motion.host.interfaces[3].facts
    for number in range(MOST + 5):
        facts.link = replace(facts.link, mac=f"02:00:00:00:01:{number:02x}")
        unlinked.keep(facts, (), float(number))
    assert len(unlinked.formers) == MOST
    assert min(each.gone for each in unlinked.formers.values()) == 5.0


# --- what IMDS lists, and how often it is asked ---------------------------------------------------


def test_the_list_of_macs_is_asked_seldom() -> None:
    motion = applied()
    motion.run(2000.0)
    refresh = CALM.schedule.refresh
    assert len(motion.asked_macs) <= 1 + (2000.0 - refresh) / SELDOM
    assert motion.asked_macs[0] <= refresh + 1.0


def test_it_is_asked_at_once_when_a_link_goes_and_then_with_the_refresh() -> None:
    motion = gone()
    motion.run(GONE + 600.0)
    asked = [at for at in motion.asked_macs if at >= GONE]
    assert asked[0] == GONE
    assert len(asked) <= 1 + 600.0 / CALM.schedule.refresh


def test_enis_that_imds_lists_and_the_kernel_lacks_are_known() -> None:
    motion = gone()
    motion.run(GONE + 1.0)
    assert motion.host.unlinked.listed.keys() == {MAC}
    assert motion.host.unlinked.formers[MAC].name == "eth1"
    back(motion)
    assert motion.host.unlinked.listed == {}
    assert motion.host.unlinked.formers == {}


def test_an_eni_that_never_had_a_link_here_is_known_too() -> None:
    motion = applied()
    motion.macs = Value(frozenset({PRIMARY, MAC, MAC2}))
    motion.run(1000.0)
    assert motion.host.unlinked.listed.keys() == {MAC2}
    assert ip(IPV4) in {a.ip for a in motion.kernel.addresses_of(3)}
