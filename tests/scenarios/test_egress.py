"""The primary while there are other ENIs: everybody reaches it, and the host's own traffic is its.

Whatever a network manager puts into main for the new ENI. Each scenario ends with every far host
and every neighbour reaching every address of the primary.
"""

from __future__ import annotations

import asyncio
from ipaddress import ip_address

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim import dhcp
from nicwatchd.sim.ec2 import SETTINGS, Ec2
from tests.scenarios.host import (
    PRIMARY,
    WITHIN,
    HostUnderTest,
    complete,
    ec2_host,
    nothing,
    numbered,
)

MANAGERS = pytest.mark.parametrize(
    "manager",
    [dhcp.GOOD, dhcp.TIES, dhcp.BEATS, dhcp.REPLACES],
    ids=["good", "ties", "beats", "replaces"],
)
FIRST = pytest.mark.parametrize("first", ["daemon", "others"])
FAR = {Family.V4: "198.51.100.50", Family.V6: "2001:db8:5100::50"}


async def leases(ec2: Ec2) -> None:
    """The ENI comes, and the network manager configures it."""
    await ec2.plug("eth1")
    for family in Family:
        await ec2.vpc.lease(ec2.eni("eth1"), family, default=True)


async def leads(host: HostUnderTest, name: str) -> None:
    """Wait until what no socket binds leaves by this link, in both families."""
    async with asyncio.timeout(WITHIN):
        for family in Family:
            while f" dev {name} " not in await host.ip(f"-{family} route get {FAR[family]}"):  # noqa: ASYNC110 (no event)
                await asyncio.sleep(0.02)


async def in_main(host: HostUnderTest) -> list[str]:
    """Our routes of main."""
    lines = [await host.ip(f"-{family} route show table main proto 236") for family in Family]
    return "".join(lines).splitlines()


@MANAGERS
@FIRST
@pytest.mark.lasts(15)
async def test_the_hosts_own_traffic_stays_on_it(first: str, manager: dhcp.Manager) -> None:
    before = leases if first == "others" else nothing
    async with ec2_host(numbered(1), config=SETTINGS, manager=manager, before=before) as host:
        if first == "daemon":
            await leases(host.ec2)
        await host.daemon.post("/v1/reconcile")  # it may be complete before it has seen the leases
        await host.until("eth1", complete)
        await leads(host, "eth0")
        assert bool(await in_main(host)) is (manager is not dhcp.GOOD)
        await host.everybody_reaches()
        # A lease is renewed, and the primary's own is learned anew.
        for family in Family:
            await host.vpc.lease(host.eni("eth1"), family, default=True)
        await leads(host, "eth0")
        await host.ec2.unplug("eth1")
        await host.daemon.until_gone("eth1")
        await host.daemon.post("/v1/reconcile")
        await leads(host, "eth0")


@MANAGERS
async def test_an_eni_that_the_settings_name_carries_it(manager: dhcp.Manager) -> None:
    """As on a NAT instance. The primary answers by itself all the same."""
    config = 'egress = "eth1"\n' + SETTINGS
    async with ec2_host(numbered(1), config=config, manager=manager) as host:
        await leases(host.ec2)
        await host.until("eth1", complete)
        await leads(host, "eth1")
        await host.everybody_reaches()


async def test_its_other_addresses_and_prefixes_work() -> None:
    """Nobody else configures them: they come with the first ENI beside it, in both families."""
    primary = numbered(
        0,
        ipv4=(PRIMARY.ipv4[0], "10.0.1.77"),
        ipv6=(PRIMARY.ipv6[0], "2001:db8:ec2:1::77"),
        ipv4_prefixes=("10.0.1.96/28",),
    )
    async with ec2_host(numbered(1), primary=primary) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        added = [ip_address("10.0.1.77"), ip_address("2001:db8:ec2:1::77")]
        neighbours = [host.vpc.neighbour(eni.subnet) for eni in host.vpc.enis]
        await host.all_reachable("eth0", "eth1", addresses=added, peers=neighbours)
        table = (await host.status("eth0"))["table"]
        rules = await host.own_rules("eth0")
        assert f"from 10.0.1.96/28 lookup {table}" in rules
        await host.ec2.unplug("eth1")
        async with asyncio.timeout(WITHIN):
            while await host.own_rules():  # noqa: ASYNC110 (no event)
                await asyncio.sleep(0.02)
        assert "10.0.1.77" not in await host.ip("addr show dev eth0")
        await host.plug("eth1")
        await host.until("eth1", complete)


async def test_the_settings_can_leave_it_alone() -> None:
    config = 'primary = "leave"\n' + SETTINGS
    async with ec2_host(numbered(1), config=config) as host:
        await leases(host.ec2)
        await host.until("eth1", complete)
        assert await host.own_rules("eth0") == []
        await host.daemon.stop()
        await host.daemon.start(SETTINGS)
        await host.until("eth1", complete)
        await host.everybody_reaches()
        assert await host.own_rules("eth0") != []
