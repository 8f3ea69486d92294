"""What IMDS says of one link and another link of the host has: by overlap, and by age."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from nicwatchd.sim.ec2 import Status
from nicwatchd.sim.script import EniScript
from tests.scenarios.host import (
    PRIMARY,
    QUICK,
    WITHIN,
    HostUnderTest,
    codes,
    complete,
    ec2_host,
    numbered,
    settings,
)

# All are in the primary's subnet.
IN4, IN6 = "10.0.1.85", "2001:db8:ec2:1:5::85"
AROUND = {"ipv4-prefix": "10.0.1.80/28", "ipv6-prefix": "2001:db8:ec2:1:5::/80"}
ETH1, ETH2 = numbered(1, subnet=1), numbered(2, subnet=1)
WITH_PREFIXES = replace(
    ETH1, ipv4_prefixes=(AROUND["ipv4-prefix"],), ipv6_prefixes=(AROUND["ipv6-prefix"],)
)
INSIDE = [ip_address(IN4), ip_address(IN6)]


def with_inside(eni: EniScript) -> EniScript:
    return replace(eni, ipv4=(*eni.ipv4, IN4), ipv6=(*eni.ipv6, IN6))


async def seen(host: HostUnderTest, name: str, wanted: Callable[[Status], bool]) -> None:
    """Wait until the status of an interface is so; changes in place have no transition."""
    async with asyncio.timeout(WITHIN):
        while not wanted(await host.status(name)):  # noqa: ASYNC110 (no event tells)
            await asyncio.sleep(0.05)


def tells(status: Status) -> bool:
    """Whether both families have something that is elsewhere."""
    return [note["code"] for note in status["notes"]].count("held-elsewhere") == len(INSIDE)


async def added(host: HostUnderTest, name: str) -> set[str]:
    """The addresses inside the prefixes that this interface has."""
    shown = await host.ip(f"addr show dev {name}")
    return {text for text in (IN4, IN6) if f" {text}/" in shown}


@pytest.mark.parametrize("before", [True, False], ids=["daemon after", "daemon before"])
async def test_a_prefix_around_an_address_of_the_primary_is_left_out(before: bool) -> None:
    """No rule takes what the primary sends. The scenario's guard watches its other addresses."""
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        primary = with_inside(PRIMARY)
        await host.reassign(primary)
        if before:
            await host.daemon.stop()
        await host.ip(f"addr add {IN4}/32 dev eth0")
        await host.ip(f"addr add {IN6}/128 dev eth0 nodad")
        host.imds.step("eth1", texts=AROUND)
        if before:
            await host.daemon.start(settings(QUICK))
        await seen(host, "eth1", tells)
        assert not [rule for rule in await host.own_rules() if "10.0.1.80" in rule]
        assert complete(await host.status("eth1"))
        await host.all_reachable("eth0", "eth1")


@pytest.mark.parametrize("stale", [True, False], ids=["listed still", "not listed any more"])
async def test_an_address_of_a_freed_prefix_is_its_new_enis(stale: bool) -> None:
    """No value is wrong, if IMDS is not late: 10.0.1.80/28 of eth1 is free, and IN4 is eth2's."""
    async with ec2_host(WITH_PREFIXES, ETH2, config=settings(QUICK)) as host:
        await host.plug("eth1", "eth2")
        await host.until("eth1", complete)
        table = (await host.until("eth2", complete))["table"]
        assert [rule for rule in await host.own_rules() if AROUND["ipv4-prefix"] in rule]
        await host.reassign(ETH1, with_inside(ETH2))
        host.tell(with_inside(ETH2))
        if not stale:
            host.tell(ETH1)
        await host.all_reachable("eth1", "eth2")
        rules = await host.own_rules()
        assert {f"from {ip} lookup {table}" for ip in INSIDE} <= set(rules)
        assert not [rule for rule in rules if "/28" in rule or "/80" in rule]
        await seen(host, "eth1", lambda now: complete(now) and tells(now) == stale)


DEATHS = ["listed no more", "listed with 404", "listed on both, without a carrier", "released"]


async def detached_by_force(host: HostUnderTest, how: str) -> None:
    """EC2 takes eth1 away; its link stays, and so does what IMDS says of it, in some way."""
    dead = await host.vpc.kill(host.eni("eth1"), carrier="carrier" not in how)
    assert not dead.addresses()
    if how == "listed no more":
        host.imds.unplug("eth1")
    elif how == "listed with 404":
        host.imds.step("eth1", lag=set(ETH1.facts()))
    elif how == "released":
        await host.daemon.post("/v1/release?interface=eth1")


@pytest.mark.parametrize("how", DEATHS)
async def test_what_a_dead_nic_had_is_the_others(how: str) -> None:
    """The one that IMDS lists it on now; it is told where it was, and all of it answers."""
    async with ec2_host(with_inside(ETH1), with_inside(ETH2), config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        await detached_by_force(host, how)
        await host.plug("eth2")
        await host.until("eth2", complete)
        await seen(host, "eth2", lambda now: complete(now) and not now["notes"])
        assert await added(host, "eth2") == {IN4, IN6}
        assert await added(host, "eth1") == set()
        await host.all_reachable("eth2")
        if how != "released":
            assert "held-elsewhere" in codes((await host.status("eth1"))["notes"])


@pytest.mark.parametrize("how", [DEATHS[0], DEATHS[2]])
async def test_what_a_dead_nic_had_is_the_others_after_a_restart(how: str) -> None:
    """The kernel alone tells this daemon what the dead NIC had."""
    async with ec2_host(with_inside(ETH1), with_inside(ETH2), config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.daemon.kill()
        await detached_by_force(host, how)
        await host.plug("eth2")
        await host.daemon.start(settings(QUICK))
        await host.until("eth2", complete)
        await seen(host, "eth2", lambda now: complete(now) and not now["notes"])
        assert await added(host, "eth2") == {IN4, IN6}
        assert await added(host, "eth1") == set()
        await host.all_reachable("eth2", addresses=INSIDE)
