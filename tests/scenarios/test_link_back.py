"""A link that leaves the host and comes back: the ENI is the same, and is served at once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from nicwatchd.sim.ec2 import Status
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.host import DEFAULT, HostUnderTest, complete, ec2_host, numbered

TWO = numbered(1, ipv4=("10.0.2.11", "10.0.2.12"), ipv4_prefixes=("10.0.2.64/28",))


def known(status: Status) -> object:
    """What is known of the ENI's IPv4, whether it answers by now or not."""
    part = status["ipv4"]
    return [part[key] for key in ("verdict", "reasons", "addresses", "prefixes", "subnets")]


async def lent(host: HostUnderTest, other: str) -> None:
    """A container takes the link: it goes to another namespace."""
    async with host.daemon.events() as events:
        await host.ip(f"link set eth1 netns {other}")
        async with asyncio.timeout(60):
            async for status in events:
                if (status["name"], status["state"]) == ("eth1", "gone"):
                    return


async def unlinked(host: HostUnderTest, *macs: str) -> list[dict[str, Any]]:
    """Wait until the status lists just these ENIs as having no link."""
    async with asyncio.timeout(60):
        while True:
            listed: list[dict[str, Any]] = (await host.daemon.get("/v1/status"))["unlinked"]
            if [each["mac"] for each in listed] == [*macs]:
                return listed
            await asyncio.sleep(0.02)  # what is only for people has no event


@pytest.mark.parametrize("renamed", [False, True], ids=["the same name", "another name"])
async def test_it_is_applied_while_imds_does_not_answer(renamed: bool) -> None:
    async with ec2_host(TWO) as host:
        other = await host.vpc.add_namespace("task")
        before = await host.kernel_objects()
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        there = known(await host.status("eth1"))
        eni = (await host.status("eth1"))["eni"]
        await lent(host, other)
        await host.daemon.post("/v1/reconcile")  # it is told before its rules are removed
        assert await host.kernel_objects() == before, "nothing of it stays meanwhile"
        [missing] = await unlinked(host, TWO.mac)
        assert (missing["name"], missing["eni"], missing["remembered"]) == ("eth1", eni, True)
        host.imds.fault("all", "timeout")
        name = "eth7" if renamed else "eth1"
        if renamed:
            await host.vpc.ip(other, "link set eth1 name eth7")
        await host.vpc.ip(other, f"link set {name} netns {host.vpc.host}")
        assert known(await host.until(name, complete)) == there
        assert await unlinked(host) == []
        if renamed:
            await host.ip("link set eth7 name eth1")
        host.imds.clear()
        await host.until("eth1", complete)
        await host.all_reachable("eth1")


async def test_what_ec2_took_away_meanwhile_goes() -> None:
    async with ec2_host(TWO, config=DEFAULT + "doubts = 2\ndoubt_span = 1.0\n") as host:
        other = await host.vpc.add_namespace("task")
        await host.plug("eth1")
        await host.until("eth1", complete)
        await lent(host, other)
        less = numbered(1, ipv4=("10.0.2.11",))
        await host.change(less)
        await host.vpc.ip(other, f"link set eth1 netns {host.vpc.host}")
        await host.until(
            "eth1",
            lambda status: (
                complete(status)
                and status["ipv4"]["addresses"] == ["10.0.2.11"]
                and not status["ipv4"]["prefixes"]
            ),
        )
        assert "10.0.2.12" not in await host.ip("address show eth1")
        await host.all_reachable("eth1")


async def test_the_status_says_which_eni_has_no_link() -> None:
    async with ec2_host(numbered(1)) as host:
        other = await host.vpc.add_namespace("task")
        await host.plug("eth1")
        await host.until("eth1", complete)
        await lent(host, other)
        await unlinked(host, numbered(1).mac)
        ended = await nicwatchd_on(host.vpc, "status")
        assert ended.code == 0
        assert "no link (was eth1)" in ended.text
        assert "IMDS lists it, and this host has no link with its MAC" in ended.text
        ended = await nicwatchd_on(host.vpc, "status", "--json")
        assert json.loads(ended.out)["unlinked"][0]["mac"] == numbered(1).mac
