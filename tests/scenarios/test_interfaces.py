"""Several interfaces, and their coming and going: right rules for each, and nothing left behind."""

from __future__ import annotations

import asyncio

import pytest

from nicwatchd.core.model import Family, Numbers
from nicwatchd.sim.ec2 import SETTINGS
from tests.scenarios.host import QUICK, complete, ec2_host, late, numbered, settings


def table(index: int) -> str:
    return str(Numbers().table_of(index))


async def test_two_in_one_subnet() -> None:
    """The subnet does not tell which of them a source belongs to; addresses do."""
    async with ec2_host(numbered(1, subnet=2), numbered(2, subnet=2)) as host:
        await host.plug("eth1", "eth2")
        tables = {}
        for name in ("eth1", "eth2"):
            tables[name] = (await host.until(name, complete))["table"]
        await host.all_reachable("eth1", "eth2")
        assert set(await host.own_rules("eth1", "eth2")) == {
            f"from {address} lookup {tables[name]}"
            for name in tables
            for address in host.eni(name).addresses()
        } | {f"from all oif {name} lookup {tables[name]}" for name in tables}


async def test_primary_and_secondary_in_one_subnet() -> None:
    async with ec2_host(numbered(1, subnet=1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth0", "eth1")
        for number, name in enumerate(("eth0", "eth1")):
            own = table(host.vpc.ifindex(host.eni(name)))
            assert set(await host.own_rules(name)) == {
                f"from 10.0.1.{10 + number} lookup {own}",
                f"from 2001:db8:ec2:1::{10 + number} lookup {own}",
                f"from all oif {name} lookup {own}",
            }


async def test_leases_in_the_primarys_subnet() -> None:
    """Both links then have the same on-link route in the main table."""
    async with ec2_host(numbered(1, subnet=1), config=SETTINGS) as host:
        await host.plug("eth1")
        for family in Family:
            await host.vpc.lease(host.eni("eth1"), family, default=True)
        await host.until("eth1", complete)
        await host.all_reachable("eth0", "eth1")


async def test_four_at_once() -> None:
    names = ["eth1", "eth2", "eth3", "eth4"]
    async with ec2_host(*(numbered(number, steps=late(2.0)) for number in range(1, 5))) as host:
        await host.plug(*names)
        for name in names:
            await host.until(name, complete)
        await host.all_reachable(*names)
        rules = await host.own_rules()
        for name in names:
            eni = host.eni(name)
            own = table(host.vpc.ifindex(eni))
            assert {rule for rule in rules if rule.endswith(f" {own}")} == {
                f"from {eni.ipv4[0]} lookup {own}",
                f"from {eni.ipv6[0]} lookup {own}",
                f"from all oif {name} lookup {own}",
            }


async def test_renamed_16_ms_after_the_add() -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.vpc.rename(host.eni("eth1"), "ens7")
        status = await host.until("ens7", complete)
        await host.all_reachable("eth1")  # the scenario's name; ens7 on the host
        bound = {rule for rule in await host.own_rules("eth1") if "oif" in rule}
        assert bound == {f"from all oif ens7 lookup {status['table']}"}


async def test_renamed_when_applied() -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        # The kernel refuses that for a link that is up (before 6.2), so udev takes it down.
        await host.vpc.ip(host.vpc.host, "link set eth1 down")
        await host.vpc.rename(host.eni("eth1"), "ens7")
        await host.vpc.ip(host.vpc.host, "link set ens7 up")
        status = await host.until("ens7", complete)
        await host.all_reachable("eth1")
        bound = {rule for rule in await host.own_rules("eth1") if "oif" in rule}
        assert bound == {f"from all oif ens7 lookup {status['table']}"}


async def test_a_mac_comes_back_under_another_ifindex() -> None:
    async with ec2_host(numbered(1)) as host:
        before = await host.footprint()
        await host.plug("eth1")
        first = await host.until("eth1", complete)
        await host.ec2.unplug("eth1")
        await host.plug("eth1")  # at once: the daemon may not have seen the end of the first
        second = await host.until(
            "eth1", lambda now: complete(now) and now["index"] != first["index"]
        )
        await host.all_reachable("eth1")
        rules = await host.own_rules()
        indices = (host.vpc.ifindex(host.eni("eth0")), second["index"])
        assert {rule.rpartition(" ")[2] for rule in rules} == {*map(table, indices)}
        await host.ec2.unplug("eth1")
        await host.as_before(before)


@pytest.mark.parametrize("lag", [3600.0, 0.0], ids=["while-waiting", "when-applied"])
async def test_unplugged(lag: float) -> None:
    eni = numbered(1, steps=late(lag) if lag else ())
    async with ec2_host(eni) as host:
        before = await host.footprint()
        await host.plug("eth1")
        await host.until("eth1", "awaiting-imds" if lag else complete)
        async with host.daemon.events() as events:
            await host.ec2.unplug("eth1")
            async with asyncio.timeout(60):
                async for status in events:
                    if status["name"] == "eth1" and status["state"] == "gone":
                        break
        assert [i["name"] for i in await host.daemon.get("/v1/interfaces")] == ["eth0"]
        await host.as_before(before)


async def test_four_unplugged_at_once() -> None:
    names = ["eth1", "eth2", "eth3", "eth4"]
    async with ec2_host(*(numbered(number) for number in range(1, 5))) as host:
        before = await host.footprint()
        await host.plug(*names)
        for name in names:
            await host.until(name, complete)
        await host.ec2.unplug(*names)
        await host.as_before(before)


async def test_a_link_that_flaps_gets_its_routes_back() -> None:
    ipv4_only = numbered(1, ipv6=(), subnet_ipv6=())  # of which no event tells
    async with ec2_host(ipv4_only, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", "applied")
        before = await host.kernel_objects()
        await host.vpc.ip(host.vpc.host, "link set eth1 down", "link set eth1 up")
        await host.all_reachable("eth1")
        assert await host.kernel_objects() == before
