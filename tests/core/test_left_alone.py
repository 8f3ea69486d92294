"""A link that is not ours after all, or no longer, is left as it was found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.core.metadata import ABSENT, EniMetadata, Value
from nicwatchd.core.model import SetUp
from nicwatchd.core.policy import Policy
from tests.core.build import (
    ETH1,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    NONE,
    UNREAD,
    eni,
    family,
    net,
    nets,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, CALM, FULL, IGNORED, applied

DOWN = replace(ETH1, up=False, running=False)
NO_CIDRS = family(IPV4), family(IPV6)


def plugged(policy: Policy, *readings: tuple[float, EniMetadata]) -> FastMotion:
    """A link that comes down at 10 s, as ENIs do, and what IMDS says of it from when on."""
    motion = FastMotion(policy)
    motion.udev_done.add(3)
    motion.plug(10.0, DOWN)
    for when, reading in readings:
        motion.imds(MAC, when, reading)
    return motion


def untouched(motion: FastMotion) -> bool:
    """Whether the link is as it came, and nothing was ever done to it but taken back."""
    kernel = motion.kernel
    nothing = (kernel.own_rules, kernel.own_routes, kernel.addresses_of(3)) == ((), (), ())
    return nothing and kernel.links[3] == DOWN


def set_up_at(motion: FastMotion) -> list[float]:
    return [at for at, operation in motion.written if operation == SetUp(3)]


@pytest.mark.parametrize("excluded", [NET4, NET6, "10.0.0.0/8"])
@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="not listed yet"),
        pytest.param([(10.0, UNREAD)], id="not read"),
        pytest.param([(10.0, eni(*NO_CIDRS))], id="subnets to come"),
        pytest.param([(10.0, eni(family(IPV4), NONE))], id="IPv6 to come"),
    ],
)
def test_a_link_that_may_be_excluded_is_not_set_up(
    before: list[tuple[float, EniMetadata]], excluded: str
) -> None:
    policy = replace(CALM, exclude_subnets=nets(excluded))
    motion = plugged(policy, *before, (25.0, FULL))
    motion.run(24.0)
    assert motion.kernel.links[3] == DOWN
    motion.run(60.0)
    assert motion.reasons() == {"excluded"}
    assert untouched(motion)
    assert set_up_at(motion) == []


def test_it_is_set_up_once_its_subnets_are_others() -> None:
    motion = plugged(
        replace(CALM, exclude_subnets=nets("10.0.9.0/24", "2001:db8:9::/64")),
        (10.0, eni(FULL4, NONE)),
        (20.0, FULL),
    )
    motion.run(19.0)
    assert set_up_at(motion) == []
    motion.run(60.0)
    assert [at < 22.0 for at in set_up_at(motion)] == [True]
    assert motion.state() is APPLIED


def test_only_a_family_that_is_named_is_waited_for() -> None:
    motion = plugged(replace(CALM, exclude_subnets=nets("10.0.9.0/24")), (10.0, eni(FULL4, NONE)))
    motion.run(12.0)
    assert len(set_up_at(motion)) == 1


def test_a_family_that_never_comes_is_waited_for_as_long_as_by_any_eni() -> None:
    policy = replace(CALM, exclude_subnets=nets("2001:db8:9::/64"))
    motion = plugged(policy, (10.0, eni(FULL4, NONE)))
    motion.run(60.0)
    assert [at < 45.0 for at in set_up_at(motion)] == [True]
    assert motion.state() is APPLIED


def test_without_excluded_subnets_nothing_is_waited_for() -> None:
    motion = plugged(CALM)
    motion.run(11.0)
    assert len(set_up_at(motion)) == 1


@pytest.mark.parametrize(
    "policy",
    [
        replace(CALM, exclude=("eth1",)),
        replace(CALM, exclude_subnets=(net(NET4),)),
        replace(CALM, drivers=frozenset({"vif"})),
    ],
    ids=["by name", "by subnet", "by driver"],
)
def test_settings_that_leave_an_eni_out_take_back_what_we_did(policy: Policy) -> None:
    motion = applied()
    foreign = motion.kernel.foreign
    motion.turn.set_policy(policy, motion.now)
    motion.run(motion.now + 60.0)
    kernel = motion.kernel
    assert motion.state() is IGNORED
    assert (kernel.own_rules, kernel.own_routes) == ((), ())
    assert kernel.links[3].group == 0
    assert kernel.foreign == foreign
    motion.turn.set_policy(CALM, motion.now)
    motion.run(motion.now + 60.0)
    assert motion.state() is APPLIED
    assert kernel.links[3].group == 3778


@pytest.mark.parametrize("drivers", [frozenset[str](), frozenset({"ena"})])
def test_a_virtual_link_whose_driver_falls_out_is_released(drivers: frozenset[str]) -> None:
    virtual = replace(ETH1, kind="veth", driver="veth")
    motion = FastMotion(replace(CALM, drivers=frozenset({"ena", "veth"})))
    motion.plug(10.0, virtual)
    motion.imds(MAC, 10.0, FULL)
    motion.run(60.0)
    assert motion.state() is APPLIED
    assert motion.kernel.addresses_of(3)
    motion.turn.set_policy(replace(CALM, drivers=drivers), motion.now)
    motion.run(motion.now + 10.0)
    kernel = motion.kernel
    assert (kernel.own_rules, kernel.own_routes, kernel.addresses_of(3)) == ((), (), ())
    assert kernel.links[3] == virtual
    assert (motion.state(), motion.reasons()) == (IGNORED, {"driver"})


def test_the_group_of_an_enslaved_eni_is_left() -> None:
    """It is asked about, since other ENIs may share its subnet; and its link is another's now."""
    motion = applied()
    motion.kernel.set_link(replace(motion.kernel.links[3], master=9))
    motion.run(motion.now + 10.0)
    assert motion.reasons() == {"enslaved"}
    assert motion.kernel.links[3].group == 3778


def test_a_group_of_others_is_left() -> None:
    motion = FastMotion(replace(CALM, exclude=("eth1",)))
    motion.plug(10.0, replace(ETH1, group=7))
    motion.imds(MAC, 10.0, eni(FULL4, FULL6, subnet_id=ABSENT, mac=Value(MAC)))
    motion.run(60.0)
    assert motion.kernel.links[3].group == 7
