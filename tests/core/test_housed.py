"""Addresses of an ENI that another link of the host has, for a service of the host's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from nicwatchd.core.health import FamilyHealth, Health
from nicwatchd.core.model import Family, Link
from nicwatchd.core.treatment import LOOPBACK_MAC
from tests.core.build import ETH1, MAC, PRIMARY, V4, V6, ip, lease, net, permanent, static
from tests.core.event_motion import EventMotion
from tests.core.fast_motion import FastMotion
from tests.core.scenes import CALM, ETH2, MAC2
from tests.core.test_claims import notes, on, says, taken

LO: Final = Link(1, LOOPBACK_MAC, "lo", up=True)
BRIDGE: Final = Link(9, "06:00:00:00:00:09", "br0", up=True, kind="bridge", driver="bridge")
DUMMY: Final = replace(BRIDGE, name="dummy0", kind="dummy", driver="dummy")
X: Final = {V4: "10.0.2.11", V6: "2001:db8:0:2::11"}
ALONE: Final = {V4: "10.0.2.11/32", V6: "2001:db8:0:2::11/128"}
BARE: Final = says(MAC, "10.0.2.10", "2001:db8:0:2::10")
BOTH: Final = says(MAC, f"10.0.2.10 {X[V4]}", f"2001:db8:0:2::10 {X[V6]}")
FAMILIES = pytest.mark.parametrize("which", Family, ids=lambda family: family.label)


def begun(motion: FastMotion | None = None, reading: Any = BOTH) -> FastMotion:
    """A host with an ENI that is applied."""
    motion = motion or FastMotion(CALM)
    motion.kernel.set_link(LO)
    motion.kernel.put(lease("10.0.1.10/24", 2), static("0.0.0.0/0", "10.0.1.1", index=2))
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, reading)
    motion.imds(PRIMARY, 0.0, says(PRIMARY, "10.0.1.10"))
    motion.run(130.0)
    return motion


def health(motion: FastMotion, which: Family) -> FamilyHealth:
    return motion.host.interfaces[3].view().health[which]


def is_used(motion: FastMotion, which: Family) -> bool:
    """Whether it has rules, and the verdict says that it answers."""
    return taken(motion, 3, X[which]) and ip(X[which]) in health(motion, which).answering


# --- where it is ---------------------------------------------------------------------------------


@FAMILIES
def test_a_link_that_came_after_the_daemon(which: Family) -> None:
    """Whose kind nobody has asked for: it was of no interest before."""
    motion = begun(EventMotion(CALM))
    motion.kernel.set_link(DUMMY)
    motion.run(140.0)
    motion.kernel.put(permanent(ALONE[which], DUMMY.index))
    motion.run(200.0)
    assert is_used(motion, which)
    assert on(motion, X[which]) == {DUMMY.index}


@FAMILIES
def test_two_links_that_have_it(which: Family) -> None:
    """For IPv6 the kernel makes a route of main to each, which is no container's."""
    motion = begun()
    for index in (8, 9):
        motion.kernel.set_link(replace(DUMMY, index=index, name=f"dummy{index}"))
        motion.kernel.put(permanent(ALONE[which], index))
    motion.run(200.0)
    assert is_used(motion, which)


@pytest.mark.parametrize("lengths", [(32, 24), (24, 32)])
def test_a_link_that_has_it_with_a_network_too_keeps_it(lengths: tuple[int, int]) -> None:
    motion = begun()
    motion.kernel.set_link(BRIDGE)
    motion.kernel.put(*(permanent(f"{X[V4]}/{length}", BRIDGE.index) for length in lengths))
    motion.run(200.0)
    assert not taken(motion, 3, X[V4])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_one_of_two_links_that_have_it_keeps_it(order: tuple[int, int]) -> None:
    """The other one stands on the ENI; neither hides what the other says."""
    motion = begun()
    motion.kernel.set_link(replace(DUMMY, index=8, name="mv1", kind="macvlan", lower=ETH1.index))
    motion.kernel.set_link(BRIDGE)
    both = permanent(ALONE[V4], 8), permanent(f"{X[V4]}/24", BRIDGE.index)
    motion.kernel.put(*(both[number] for number in order))
    motion.run(200.0)
    assert not taken(motion, 3, X[V4])


@pytest.mark.parametrize("how", ["managed", "excluded", "another driver", "a bridge's port"])
@pytest.mark.parametrize("later", [ETH1, ETH2], ids=lambda link: f"{link.name} later")
def test_what_stands_on_another_nic_keeps_it(how: str, later: Link) -> None:
    """Whoever serves that one, and whichever is found first."""
    motion = FastMotion(replace(CALM, exclude=("eth2",)) if how == "excluded" else CALM)
    eth2 = {
        "another driver": replace(ETH2, driver="mlx5_core"),
        "a bridge's port": replace(ETH2, master=BRIDGE.index),
    }.get(how, ETH2)
    top = replace(BRIDGE, name="mv0", kind="macvlan", driver="macvlan", lower=ETH2.index)
    motion.imds(PRIMARY, 0.0, says(PRIMARY, "10.0.1.10"))
    motion.imds(MAC, 0.0, BOTH)
    motion.imds(MAC2, 0.0, says(MAC2, f"10.0.2.20 {X[V4]}", f"2001:db8:0:2::20 {X[V6]}"))
    for link in sorted((ETH1, eth2), key=lambda link: link.index == later.index):
        motion.kernel.set_link(link)
        motion.run(motion.now + 5.0)
    motion.kernel.set_link(BRIDGE if how == "a bridge's port" else top)
    motion.kernel.put(*(permanent(text, BRIDGE.index) for text in ALONE.values()))
    motion.run(300.0)
    assert not taken(motion, 3, X[V4])
    assert not taken(motion, 3, X[V6])


@FAMILIES
def test_what_is_in_a_vrf_is_not_found_there(which: Family) -> None:
    """Its addresses are in a table of its own: what comes in by an ENI is not for them."""
    motion = begun()
    motion.kernel.set_link(replace(BRIDGE, index=8, name="vrf0", kind="vrf", driver="vrf"))
    motion.kernel.set_link(replace(DUMMY, master=8))
    motion.kernel.put(permanent(ALONE[which], DUMMY.index))
    motion.run(200.0)
    assert not taken(motion, 3, X[which])
    assert ip(X[which]) not in health(motion, which).answering


# --- how it comes and goes -----------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("to", ["lo", "a container"])
def test_what_others_took_off_the_link_is_used_where_it_is_now(to: str, which: Family) -> None:
    motion = begun(reading=BARE)
    theirs = permanent(ALONE[which], ETH1.index)
    motion.kernel.put(theirs)
    motion.imds(MAC, 131.0, BOTH)
    motion.run(200.0)
    motion.kernel.drop(theirs)
    if to == "lo":
        motion.kernel.put(permanent(ALONE[which], LO.index))
    else:
        motion.kernel.set_link(replace(BRIDGE, name="c-box", kind="veth", driver="veth"))
        motion.kernel.put(static(ALONE[which], index=BRIDGE.index))
    motion.run(300.0)
    assert taken(motion, 3, X[which])
    told = [note.code for note in motion.host.interfaces[3].view().notes]
    assert told == ["lives-elsewhere"]
    assert health(motion, which).health is Health.WORKING


@FAMILIES
def test_after_a_restart_it_is_kept_while_imds_may_have_forgotten_it(which: Family) -> None:
    motion = begun()
    motion.kernel.put(permanent(ALONE[which], LO.index))
    motion.run(300.0)
    later = FastMotion(CALM, kernel=motion.kernel, start=300.0)
    later.imds(PRIMARY, 0.0, says(PRIMARY, "10.0.1.10"))
    later.imds(MAC, 0.0, BARE)
    later.run(310.0)
    assert taken(later, 3, X[which])
    later.run(500.0)
    assert not taken(later, 3, X[which])


def test_a_route_to_a_container_that_goes_with_its_link_s_last_address() -> None:
    """The kernel tells of the address alone."""
    motion = begun(EventMotion(CALM))
    motion.kernel.set_link(replace(BRIDGE, name="c-box", kind="veth", driver="veth"))
    own = permanent("172.18.0.1/24", BRIDGE.index)
    motion.kernel.put(own, static(ALONE[V4], index=BRIDGE.index))
    motion.run(200.0)
    assert on(motion, X[V4]) == set()
    motion.kernel.drop(own)
    motion.run(220.0)
    assert on(motion, X[V4]) == {ETH1.index}


def test_a_container_that_came_after_the_daemon_is_named() -> None:
    motion = begun(EventMotion(CALM))
    motion.kernel.set_link(replace(BRIDGE, name="c-box", kind="veth", driver="veth"))
    motion.run(140.0)
    motion.kernel.put(static(ALONE[V4], index=BRIDGE.index))
    motion.run(200.0)
    (note,) = motion.host.interfaces[3].view().notes
    assert "main has a route to it through c-box" in note.text


# --- what is said of it --------------------------------------------------------------------------


@pytest.mark.parametrize("where", [LO, ETH1], ids=lambda link: link.name)
def test_a_rule_that_others_keep_removing_is_missed_by_the_verdict(where: Link) -> None:
    motion = begun(EventMotion(CALM))
    if where is LO:
        motion.kernel.put(permanent(ALONE[V4], LO.index))
    motion.run(200.0)

    def remove() -> None:
        motion.kernel.drop(
            *(rule for rule in motion.kernel.own_rules if rule.src == net(ALONE[V4]))
        )

    for number in range(60):
        motion.at(200.0 + number * 0.5, remove)
    missing = 0
    for second in range(25):
        motion.run(201.2 + second)
        if not any(rule.src == net(ALONE[V4]) for rule in motion.kernel.own_rules):
            missing += 1
            assert ip(X[V4]) not in health(motion, V4).answering
    assert missing, "else nothing was tried"


def test_an_eni_that_has_to_leave_it_to_another_does_not_claim_its_packets() -> None:
    motion = begun()
    motion.kernel.put(permanent(ALONE[V4], LO.index))
    motion.plug(140.0, ETH2)
    motion.imds(MAC2, 140.0, says(MAC2, f"10.0.2.20 {X[V4]}", "2001:db8:0:2::20"))
    motion.run(300.0)
    assert is_used(motion, V4)
    assert not [text for text in notes(motion, ETH2.index) if "lives elsewhere" in text]


@pytest.mark.parametrize(
    "link",
    [BRIDGE, replace(DUMMY, name="mv0", kind="macvlan", lower=ETH1.index)],
    ids=lambda link: link.name,
)
def test_one_that_its_link_cannot_use_yet_does_not_answer(link: Link) -> None:
    """On a bridge without a carrier, duplicates are looked for without an end."""
    motion = begun()
    motion.kernel.set_link(link)
    tentative = permanent(ALONE[V6], link.index, tentative=True)
    motion.kernel.put(tentative)
    motion.run(200.0)
    assert taken(motion, 3, X[V6])
    assert ip(X[V6]) not in health(motion, V6).answering
    motion.kernel.drop(tentative)
    motion.kernel.put(permanent(ALONE[V6], link.index))
    motion.run(300.0)
    assert is_used(motion, V6)
