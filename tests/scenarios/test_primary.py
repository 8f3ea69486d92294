"""What a hot-plug must never cost: the primary, and the way of the host's own traffic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim import dhcp
from nicwatchd.sim.dhcp import Manager
from nicwatchd.sim.ec2 import SETTINGS
from nicwatchd.sim.probe import all_answer, paths
from tests.scenarios.flows import LEAVES, MANAGERS, flows, unbound
from tests.scenarios.host import (
    PRIMARY,
    QUICK,
    WITHIN,
    HostUnderTest,
    complete,
    ec2_host,
    numbered,
    settings,
)

pytestmark = pytest.mark.long


BOTH = pytest.mark.parametrize("family", Family, ids=lambda family: family.label)


async def eventually_by(host: HostUnderTest, link: str) -> None:
    """Wait until what the host sends unbound leaves by this link, in both families."""
    async with asyncio.timeout(WITHIN):
        for family in Family:
            while await unbound(host, family) != link:  # noqa: ASYNC110 (a look-up has no event)
                await asyncio.sleep(0.05)


@pytest.mark.lasts(20)
@pytest.mark.parametrize("relearned", [False, True], ids=["", "relearned"])
@pytest.mark.parametrize("name", MANAGERS)
async def test_everybody_reaches_everybody(name: str, relearned: bool) -> None:
    found = await flows(name, MANAGERS[name], left=False, relearned=relearned)
    assert found.all_reached, f"\n{found}"


async def test_the_table_of_flows_tells_who_is_not_reached() -> None:
    found = await flows("left", dhcp.BEATS, left=True)
    assert not found.all_reached
    assert "no" in str(found)


@asynccontextmanager
async def leased(
    manager: Manager, config: str = SETTINGS, *, watched: bool = True
) -> AsyncIterator[HostUnderTest]:
    """A host with an ENI that a network manager has configured."""
    async with ec2_host(numbered(1), config=config, manager=manager, watched=watched) as host:
        await host.plug("eth1")
        for family in Family:
            await host.vpc.lease(host.eni("eth1"), family, default=True)
        await host.until("eth1", complete)
        yield host


@pytest.mark.parametrize("manager", [dhcp.TIES, dhcp.BEATS, dhcp.REPLACES])
async def test_the_hosts_own_traffic_stays_on_the_primary(manager: Manager) -> None:
    """Through renewals, flaps of either link, and the detaching, which leaves nothing."""
    async with leased(manager) as host:
        await eventually_by(host, "eth0")
        for family in Family:
            await host.vpc.lease(host.eni("eth1"), family, default=True)
        await eventually_by(host, "eth0")
        await host.ip("link set eth1 down")
        await eventually_by(host, "eth0")
        await host.ip("link set eth1 up")
        for family in Family:
            await host.vpc.lease(host.eni("eth1"), family, default=True)
        await eventually_by(host, "eth0")
        await host.all_reachable("eth1")
        await host.vpc.unplug(host.eni("eth1"))
        await eventually_by(host, "eth0")
        for family in Family:
            await host.vpc.relearn(family)
        for v in (4, 6):
            async with asyncio.timeout(WITHIN):
                while "proto 236" in await host.ip(f"-{v} route show table all"):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)


async def test_a_nat_instance_has_its_egress_on_the_eni_that_the_settings_name() -> None:
    async with leased(dhcp.GOOD, 'egress = "eth1"\n' + SETTINGS) as host:
        await eventually_by(host, "eth1")
        await host.everybody_reaches()
        await host.reload(SETTINGS)
        await eventually_by(host, "eth0")
        await host.reload('egress = "leave"\n' + SETTINGS)
        await eventually_by(host, "eth0")


@BOTH
async def test_a_vpns_default_is_left_and_told(family: Family) -> None:
    async with leased(dhcp.BEATS) as host:
        await eventually_by(host, "eth0")
        await host.ip("link add c-vpn type veth peer name c-vpn-peer")
        await host.ip("link set c-vpn up")
        await host.ip("link set c-vpn-peer up")
        await host.ip(f"-{family.value} route add default dev c-vpn metric 5")
        async with asyncio.timeout(WITHIN):
            while await unbound(host, family) != "c-vpn":  # noqa: ASYNC110 (a look-up has no event)
                await asyncio.sleep(0.05)
        await host.daemon.post("/v1/reconcile")
        assert await unbound(host, family) == "c-vpn"
        notes = (await host.status("eth0"))["notes"]
        assert "egress-elsewhere" in {note["code"] for note in notes}


@BOTH
async def test_a_primary_that_loses_everything_is_not_locked_out(family: Family) -> None:
    """Its default route, its lease, its link; an address works as soon as it is there again."""
    async with leased(dhcp.TIES) as host:
        await host.all_reachable("eth1")
        address = host.vpc.primary.addresses(family)[0]
        wanted = paths(host.vpc.far_hosts, [address])
        v = family.value
        await host.ip(f"-{v} route flush default")
        await all_answer(host.vpc, wanted, WITHIN)
        length = 24 if family is Family.V4 else 128
        await host.ip(f"addr del {address}/{length} dev eth0")
        await host.ip(f"addr add {address}/{length} dev eth0")
        await all_answer(host.vpc, wanted, WITHIN)
        await host.ip("link set eth0 down")
        await host.ip("link set eth0 up")
        for ip in host.vpc.primary.ipv6:  # the kernel takes those of a link that is set down
            await host.ip(f"addr replace {ip}/128 dev eth0 nodad")
        await all_answer(host.vpc, wanted, WITHIN)


WRONG = {Family.V4: "10.0.{}.99", Family.V6: "fe80::bad:{}"}
PROTO = {Family.V4: "dhcp", Family.V6: "ra"}


@BOTH
async def test_a_wrong_gateway_of_another_eni_locks_nobody_out(family: Family) -> None:
    async with leased(dhcp.TIES) as host:
        await host.all_reachable("eth1")
        vpc, v, proto = host.vpc, family.value, PROTO[family]
        to = vpc.primary.addresses(family)[:1]
        everybody = paths(vpc.peers(*vpc.enis), to)
        for metric in (5, dhcp.PRIMARY_METRIC):  # it wins, and it ties
            wrong = f"default via {WRONG[family].format(2)} dev eth1 proto {proto} metric {metric}"
            await host.ip(f"-{v} route append {wrong}")
            await all_answer(vpc, everybody, WITHIN)
            await eventually_by(host, "eth0")
            await host.ip(f"-{v} route del {wrong}")
            await all_answer(vpc, everybody, WITHIN)


@BOTH
async def test_a_wrong_gateway_of_the_primary_lasts_no_longer_than_in_main(family: Family) -> None:
    """Meanwhile its own subnet reaches it. Without any gateway, everybody does."""
    async with leased(dhcp.TIES, watched=False) as host:
        await host.all_reachable("eth1")
        vpc, v, proto = host.vpc, family.value, PROTO[family]
        to = vpc.primary.addresses(family)[:1]
        everybody = paths(vpc.peers(*vpc.enis), to)
        await host.ip(f"-{v} route del default dev eth0 proto {proto}")
        wrong = f"default via {WRONG[family].format(1)} dev eth0 proto {proto} metric 1024"
        await host.ip(f"-{v} route append {wrong}")
        inside = paths([vpc.neighbour(vpc.primary.subnet)], to)
        await host.daemon.post("/v1/reconcile")
        await all_answer(vpc, inside, WITHIN)
        await host.ip(f"-{v} route del {wrong}")  # no gateway at all
        await all_answer(vpc, everybody, WITHIN)
        await vpc.relearn(family)
        await all_answer(vpc, everybody, WITHIN)


async def test_turned_on_and_off_200_times_nobody_is_cut_off() -> None:
    async with leased(dhcp.GOOD) as host:
        for _ in range(100):
            await host.reload(LEAVES + SETTINGS)
            await host.reload(SETTINGS)
        await host.everybody_reaches()


@BOTH
async def test_what_is_assigned_to_the_primary_in_place_works(family: Family) -> None:
    """Secondary addresses and prefixes, hot-assigned: added, answered, and taken back."""
    async with ec2_host(numbered(1), config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        ipv4 = ("10.0.1.77",) if family is Family.V4 else ()
        ipv6 = ("2001:db8:ec2:1::77",) if family is Family.V6 else ()
        await host.change(
            replace(PRIMARY, ipv4=(*PRIMARY.ipv4, *ipv4), ipv6=(*PRIMARY.ipv6, *ipv6))
        )
        added = [ip for ip in host.eni("eth0").addresses(family) if str(ip).endswith("77")]
        assert len(added) == 1
        await all_answer(host.vpc, paths(host.vpc.peers(*host.vpc.enis), added), WITHIN)
        await host.change(PRIMARY)
        async with asyncio.timeout(WITHIN):
            while f"{added[0]}/" in await host.ip("addr show dev eth0"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
