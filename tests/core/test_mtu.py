"""EC2's MTUs, on links that nobody but nicwatchd sets up, and where the settings ask for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.core.model import LAST_METRIC, Link, SetUp
from nicwatchd.core.mtu import BEYOND, METRICS, notes, to_set_up_with
from nicwatchd.core.policy import MtuMode, Policy
from nicwatchd.core.protocols import JUMBO
from tests.core.build import ETH1, MAC
from tests.core.fast_motion import FastMotion
from tests.core.scenes import CALM, FULL, dhcp4, dhcp6

NEW = replace(ETH1, up=False, mtu=BEYOND, max_mtu=9216)
EC2 = replace(CALM, mtu=MtuMode.EC2)


@pytest.mark.parametrize(
    ("link", "mode", "wanted"),
    [
        pytest.param(NEW, MtuMode.EC2, JUMBO, id="as the kernel made it"),
        pytest.param(NEW, MtuMode.LEAVE, None, id="left"),
        pytest.param(replace(NEW, mtu=1400), MtuMode.EC2, None, id="somebody chose another"),
        pytest.param(replace(NEW, mtu=JUMBO), MtuMode.EC2, None, id="it has it"),
        pytest.param(replace(NEW, max_mtu=1500), MtuMode.EC2, None, id="the driver takes less"),
        pytest.param(replace(NEW, max_mtu=0), MtuMode.EC2, None, id="not known"),
    ],
)
def test_what_a_link_is_set_up_with(link: Link, mode: MtuMode, wanted: int | None) -> None:
    assert to_set_up_with(link, mode) == wanted


def metrics(motion: FastMotion) -> set[bytes]:
    """Of the VPC router's routes in the ENI's table."""
    return {r.metrics for r in motion.kernel.own_routes if r.oif == 3 and r.metric == LAST_METRIC}


def plugged(policy: Policy, link: Link = NEW) -> FastMotion:
    motion = FastMotion(policy)
    motion.plug(10.0, link)
    motion.imds(MAC, 10.0, FULL)
    return motion


def test_a_link_that_we_set_up_gets_it_and_1500_beyond() -> None:
    motion = plugged(EC2)
    motion.run(60.0)
    assert SetUp(3, JUMBO) in {operation for _, operation in motion.written}
    assert motion.kernel.links[3].mtu == JUMBO
    assert metrics(motion) == {METRICS}
    written = len(motion.written)
    motion.run(300.0)
    assert len(motion.written) == written


def test_where_a_dhcp_client_runs_it_is_the_clients() -> None:
    motion = plugged(EC2, replace(NEW, up=True))
    dhcp4(motion, 10.5)
    dhcp6(motion, 10.6)
    motion.run(60.0)
    assert motion.kernel.links[3].mtu == BEYOND
    motion.kernel.set_link(replace(motion.kernel.links[3], mtu=JUMBO))
    motion.run(120.0)
    assert metrics(motion) == {b""}


def test_left_by_default() -> None:
    motion = plugged(CALM)
    motion.run(60.0)
    assert motion.kernel.links[3].mtu == BEYOND
    assert metrics(motion) == {b""}


@pytest.mark.parametrize(
    ("mtu", "told"), [(0, 0), (1200, 0), (1280, 1), (1500, 0), (8900, 1), (9001, 0)]
)
def test_an_mtu_that_is_not_ec2s_is_told(mtu: int, told: int) -> None:
    assert len(list(notes(replace(NEW, mtu=mtu)))) == told
