"""What the operator takes from us: all that is ours goes, and nothing comes back by itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.fights import LOSSES
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import (
    DEFAULT_GROUP,
    LINK_GROUP,
    AddRule,
    Key,
    Numbers,
    Operation,
    RemoveRoute,
    RemoveRule,
    Rule,
    SetGroup,
    ours,
)
from nicwatchd.core.releases import Releases
from nicwatchd.core.treatment import Released, is_primary
from tests.core.build import (
    ETH0,
    ETH1,
    FULL6,
    IPV4,
    MAC,
    NET4,
    PRIMARY,
    V4,
    added,
    eni,
    family,
    net,
    permanent,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import (
    APPLIED,
    CALM,
    ETH2,
    IGNORED,
    MAC2,
    OF_PRIMARY,
    applied,
    fights,
    quiet,
    selectors,
)

A: Key = (ETH1.index, MAC)
B: Key = (ETH2.index, MAC2)
LATER: Key = (9, "02:00:00:00:00:09")
steps = st.lists(
    st.tuples(st.sampled_from(["plus", "minus"]), st.sampled_from([A, B, None])), max_size=8
)


@given(steps)
def test_the_last_word_about_a_link_counts(words: list[tuple[str, Key | None]]) -> None:
    releases, expected = Releases(), {A: False, B: False, LATER: False}
    for word, key in words:
        releases = releases.plus(key) if word == "plus" else releases.minus(key)
        for each in expected if key is None else [key]:
            expected[each] = word == "plus"
    assert {key: key in releases for key in expected} == expected
    assert releases.everything is expected[LATER]
    gone = releases.among([B])
    assert (A in gone, B in gone) == (expected[LATER], expected[B])


def two() -> FastMotion:
    """Two ENIs that are applied, and things of others; those are watched throughout."""
    motion = applied(eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4), FULL6))
    motion.kernel.put(Rule(V4, 32765, 77, protocol=4, src=net("192.0.2.0/24")))
    motion.kernel.put(permanent("10.0.2.99/24"))
    motion.plug(140.0, ETH2)
    said = eni(family("10.0.3.10 10.0.3.11", cidrs="10.0.3.0/24"), mac=Value(MAC2))
    motion.imds(MAC2, 140.0, said)
    motion.run(500.0)
    assert (motion.state(), motion.state(ETH2.index)) == (APPLIED, APPLIED)
    return motion


def act(motion: FastMotion, releases: Releases) -> list[Operation]:
    """What is written because of it."""
    before = len(motion.written)
    motion.host.releases = releases
    motion.run(motion.now + 10.0)
    return [operation for _, operation in motion.written[before:]]


def left(motion: FastMotion, index: int) -> list[object]:
    """All that is ours of one interface."""
    kernel = motion.kernel
    found: list[object] = [route for route in kernel.own_routes if route.oif == index]
    found += [rule for rule in kernel.own_rules if rule.table == Numbers().table_of(index)]
    found += [address for address in kernel.addresses_of(index) if ours(address)]
    if kernel.links[index].group != DEFAULT_GROUP:
        found.append(kernel.links[index].group)
    return found


def detours_of(motion: FastMotion, index: int) -> set[Rule]:
    """Rules of an interface to the subnets of others."""
    return {rule for rule in left(motion, index) if isinstance(rule, Rule) and rule.dst}


def test_one_interface_goes_and_the_other_stays() -> None:
    motion = two()
    others = left(motion, ETH2.index)
    written = act(motion, Releases().plus(A))
    assert left(motion, ETH1.index) == []
    stays = set(left(motion, ETH2.index))
    detours = detours_of(motion, ETH2.index)
    assert stays == {*others, *detours}
    assert {str(rule.dst) for rule in detours} == {NET4}, "no guard hides that way any more"
    assert (motion.state(), motion.reasons()) == (IGNORED, {"released"})
    assert motion.state(ETH2.index) is APPLIED
    assert written[-1] == SetGroup(ETH1.index, DEFAULT_GROUP)  # the rules lean on it
    of_primary = detours_of(motion, ETH0.index)
    assert {str(rule.dst) for rule in of_primary} == {NET4}
    guards = [rule for rule in motion.kernel.own_rules if rule.table == 254]
    assert len(guards) * 2 == len(motion.kernel.own_rules) - len({*detours, *of_primary})
    assert quiet(motion, 3600.0)


def test_the_whole_host_goes_and_what_comes_later_is_left_alone() -> None:
    motion = two()
    act(motion, Releases().plus(None))
    assert (motion.kernel.own_rules, motion.kernel.own_routes) == ((), ())
    assert not any(left(motion, index) for index in motion.kernel.links)
    assert motion.reasons(ETH0.index) == {"released"}
    later = replace(ETH2, index=5, mac="02:00:00:00:00:05", name="eth3")
    motion.plug(motion.now, later)
    motion.run(motion.now + 300.0)
    assert motion.reasons(5) == {"released"}
    assert left(motion, 5) == []


def test_the_primary_alone_gives_its_group_back() -> None:
    motion = two()
    assert motion.kernel.links[ETH0.index].group == LINK_GROUP
    written = act(motion, Releases().plus((ETH0.index, ETH0.mac)))
    assert left(motion, ETH0.index) == []
    assert written[-1] == SetGroup(ETH0.index, DEFAULT_GROUP)
    # ... once no guard of the others needs it.
    assert {type(operation) for operation in written[:-1]} == {AddRule, RemoveRule, RemoveRoute}
    for index in (ETH1.index, ETH2.index):
        assert {str(rule.dst) for rule in detours_of(motion, index)} == {"10.0.1.0/24"}
    primary = motion.host.interfaces[ETH0.index]
    assert is_primary(primary.link, motion.host.primary_mac)
    assert isinstance(primary.treatment, Released)


def test_what_was_fought_over_is_not_any_more() -> None:
    motion = two()
    rule = next(rule for rule in motion.kernel.own_rules if rule.table == 1_000_959)

    def remove() -> None:
        motion.kernel.drop(rule)

    for second in range(LOSSES):
        motion.at(510.0 + second, remove)
    motion.run(520.0)
    assert fights(motion) == [(ETH1.index, True)]
    act(motion, Releases().plus(A))
    assert left(motion, ETH1.index) == []
    assert fights(motion) == [(ETH1.index, False)]
    assert motion.host.interfaces[ETH1.index].view().notes == ()


@pytest.mark.parametrize("releases", [Releases().plus(A), Releases().plus(None)])
def test_what_was_made_with_other_numbers_goes_too(releases: Releases) -> None:
    """The daemon comes again with other numbers, and what was left is of the old ones."""
    motion = two()
    numbers = Numbers(priority=31000, table_base=5_000_000, group=77)
    again = FastMotion(replace(CALM, numbers=numbers), motion.kernel, start=motion.now + 60.0)
    again.imds(PRIMARY, 0.0, OF_PRIMARY)
    again.imds(MAC2, 0.0, eni(family("10.0.3.10 10.0.3.11", cidrs="10.0.3.0/24"), mac=Value(MAC2)))
    again.host.releases = releases
    again.run(again.now + 30.0)
    assert left(again, ETH1.index) == []
    groups = {index: link.group for index, link in again.kernel.links.items()}
    served = 0 if releases.everything else 77
    assert groups == {1: 0, ETH0.index: served, ETH1.index: 0, ETH2.index: served}
    tables = {rule.table for rule in again.kernel.own_rules}
    served_by = {numbers.table_of(index) for index in (ETH0.index, ETH2.index)}
    assert tables == (set() if releases.everything else {254, *served_by})


def test_a_group_of_others_stays() -> None:
    motion = two()
    motion.kernel.set_link(replace(motion.kernel.links[ETH1.index], group=5))
    act(motion, Releases().plus(A))
    assert motion.kernel.links[ETH1.index].group == 5


@pytest.mark.parametrize("releases", [Releases().plus(A), Releases().plus(None)])
def test_what_is_taken_up_again_is_as_before(releases: Releases) -> None:
    motion = two()
    before = left(motion, ETH1.index)
    act(motion, releases)
    assert left(motion, ETH1.index) == []
    act(motion, releases.minus(A))
    assert motion.state() is APPLIED
    detours = detours_of(motion, ETH1.index)
    assert added(f"{IPV4}/32") in before, "it came before the lease, which is first now"
    before.remove(added(f"{IPV4}/32"))
    assert set(left(motion, ETH1.index)) == {*before, *detours}
    released = {"10.0.1.0/24", "10.0.3.0/24"} if releases.everything else set()
    assert {str(rule.dst) for rule in detours} == released
    assert (motion.state(ETH2.index) is APPLIED) is not releases.everything


def test_a_neighbour_in_the_same_subnet_is_still_told_apart() -> None:
    motion = two()
    motion.imds(MAC2, motion.now, eni(family("10.0.2.30", cidrs=NET4), mac=Value(MAC2)))
    motion.run(motion.now + 300.0)
    assert "10.0.2.30/32" in selectors(motion, ETH2.index)
    act(motion, Releases().plus(A))
    assert "10.0.2.30/32" in selectors(motion, ETH2.index)


def test_the_link_s_going_ends_it() -> None:
    motion = two()
    act(motion, Releases().plus(A))
    motion.at(motion.now, partial(motion.kernel.unplug, ETH1.index))
    motion.run(motion.now + 10.0)
    motion.plug(motion.now, ETH1)
    motion.run(motion.now + 300.0)
    assert motion.state() is APPLIED
    assert motion.host.releases == Releases()
