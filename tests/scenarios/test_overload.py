"""More of everything than a host should have. (What it costs is measured in tests/bench.)"""

from __future__ import annotations

import asyncio

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import SETTINGS
from tests.scenarios.host import WITHIN, HostUnderTest, complete, ec2_host, numbered

pytestmark = pytest.mark.long


# The ENI is a macvlan here, so that veths are as irrelevant to the daemon as on EC2. No refresh is
# due within the hour, so any request would be one that a veth caused.
MACVLAN = (
    SETTINGS.replace("veth", "macvlan")
    + """\
[retry]
settling = 0.5
keep = 1.0
fast_for = 1.0
refresh = 3600.0
"""
)
VETHS = 300
ROUTES, RULES = 20_000, 2_000


async def requests_have_ended(host: HostUnderTest) -> int:
    """How many there were, once there was none for longer than any two lie apart."""
    asked = -1
    async with asyncio.timeout(WITHIN):
        while asked != len(host.imds.log):
            asked = len(host.imds.log)
            await asyncio.sleep(6.0)
    return asked


async def healed(host: HostUnderTest, before: dict[str, list[str]]) -> None:
    """Delete our rules of one priority, both families; return when all is as before."""
    for family in Family:
        await host.vpc.ip(host.vpc.host, "rule del priority 32765", family=family)  # or it raises
    async with asyncio.timeout(WITHIN):
        while await host.kernel_objects() != before:  # noqa: ASYNC110 (the kernel tells us of none)
            await asyncio.sleep(0.05)


@pytest.mark.lasts(20)
async def test_containers_links_come_and_go() -> None:
    eth1 = numbered(1)
    async with ec2_host(eth1, config=MACVLAN, settled=False) as host:
        name = host.vpc.host
        host.imds.plug("eth1")
        await host.vpc.ip(name, f"link add eth1 link eth0 address {eth1.mac} type macvlan")
        await host.until("eth1", complete)
        asked = await requests_have_ended(host)
        before = await host.footprint()
        pairs = [f"link add v{n} group 77 type veth peer name w{n}" for n in range(VETHS)]
        await host.vpc.ip(name, *pairs)
        assert [i["name"] for i in await host.daemon.get("/v1/interfaces")] == ["eth1"]
        await host.vpc.ip(name, "link del group 77")
        await healed(host, before.kernel)
        await host.as_before(before)
        assert len(host.imds.log) == asked


async def test_a_routing_daemons_routes_and_rules_by_the_thousand() -> None:
    async with ec2_host(numbered(1)) as host:
        await fill(host)
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        before = await host.kernel_objects()
        assert len(before["rule"]) > RULES // 2
        await healed(host, before)
        await host.vpc.unplug(host.eni("eth1"))
        await host.daemon.until_gone("eth1", WITHIN)
        async with asyncio.timeout(WITHIN):
            while await host.own_rules():  # noqa: ASYNC110 (the kernel tells us of none)
                await asyncio.sleep(0.05)
        after = await host.kernel_objects()
        foreign = [line for line in before["rule"] if "proto 236" not in line]
        assert after["rule"] == foreign


async def fill(host: HostUnderTest) -> None:
    """Rules that look up an empty table, and a routing daemon's routes by the primary."""
    name = host.vpc.host
    for family, net in ((Family.V4, "11.{}.{}.0/24"), (Family.V6, "3fff:{}:{}::/48")):
        sources = (net.format(n >> 8, n & 255) for n in range(RULES // 2))
        lines = [f"rule add priority {1000 + n} from {s} table 100" for n, s in enumerate(sources)]
        await host.vpc.ip(name, *lines, family=family)
    for net, router in (("12.{}.{}.0/24", "10.0.1.1"), ("3fff:a{}:{}::/48", "fe80:ec2::1")):
        networks = (net.format(n >> 8, n & 255) for n in range(ROUTES // 2))
        routes = (f"route add {net} via {router} dev eth0 proto bird" for net in networks)
        await host.vpc.ip(name, *routes)
