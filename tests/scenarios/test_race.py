"""The race: the kernel has the interface at once, and IMDS learns of it late and in pieces."""

from __future__ import annotations

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import SETTINGS
from nicwatchd.sim.script import Step
from tests.scenarios.host import IPV6_KEYS, complete, ec2_host, late, numbered, waits_for


async def test_complete_at_once() -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        await host.daemon.post("/v1/reconcile")
        status = await host.status("eth1")
        assert complete(status)
        assert status["reasons"] == status["notes"] == []


@pytest.mark.parametrize(
    "at",
    [
        8.0,
        pytest.param(20.0, marks=pytest.mark.lasts(20)),
        pytest.param(90.0, marks=[pytest.mark.lasts(90), pytest.mark.long]),
    ],
)
async def test_ipv6_comes_late(at: float) -> None:
    async with ec2_host(numbered(1, steps=late(at)), config=SETTINGS) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")


async def test_ipv4_never_waits_for_ipv6() -> None:
    async with ec2_host(numbered(1, steps=(Step(0.0, listed=False),))) as host:
        await host.plug("eth1")
        await host.until("eth1", waits_for("mac-unlisted"))
        wrong = {"device-number": "0"}
        host.imds.step("eth1", listed=True, hide=set(IPV6_KEYS), texts=wrong)
        await host.until("eth1", waits_for("undecided-ipv6"))
        await host.all_reachable("eth1", addresses=host.eni("eth1").ipv4)
        host.imds.step("eth1", complete=True)
        await host.until("eth1", complete)
        await host.shows("eth1", "device_number", 1)  # which nothing depended on
        await host.all_reachable("eth1")


async def test_leases_prove_both_families_before_imds_knows() -> None:
    async with ec2_host(numbered(1, steps=late(3600)), config=SETTINGS) as host:
        await host.plug("eth1")
        eth1 = host.eni("eth1")
        await host.vpc.lease(eth1, Family.V4, default=True)
        await host.advertise("eth1")
        await host.vpc.lease(eth1, Family.V6)
        await host.all_reachable("eth1")
        status = await host.status("eth1")
        assert status["state"] == "awaiting-imds"  # IMDS is yet to confirm it
        host.imds.step("eth1", complete=True)
        status = await host.until("eth1", complete)
        assert status["ipv6"]["added"] == status["ipv4"]["added"] == []  # they are the clients'
        await host.all_reachable("eth1")
