"""What others take out of the kernel, with `ip`, comes back; a fight over it is told."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from nicwatchd.core.fights import LOSSES
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.host import WITHIN, HostUnderTest, codes, complete, ec2_host, numbered

# A second address and a prefix in each family: each kind of object is there.
RICH = numbered(
    1,
    ipv4=("10.0.2.11", "10.0.2.12"),
    ipv6=("2001:db8:ec2:2::11", "2001:db8:ec2:2::12"),
    ipv4_prefixes=("10.0.2.64/28",),
    ipv6_prefixes=("2001:db8:ec2:2:64::/80",),
)
Objects = dict[str, list[str]]


async def ours(host: HostUnderTest) -> Objects:
    """The kernel's rules, our routes, and the addresses and group of eth1."""
    objects = await host.kernel_objects()
    lines = (await host.ip("-oneline address show dev eth1 scope global")).splitlines()
    # Numbers in front, and lifetimes: none of our business here.
    objects["address"] = sorted(line.split("scope")[0].split("eth1", 1)[1] for line in lines)
    link = (await host.ip("-oneline link show dev eth1")).split()
    objects["group"] = [link[link.index("group") + 1]]
    return objects


async def back(host: HostUnderTest, before: Objects) -> None:
    """Wait until all is there again, and no more."""
    async with asyncio.timeout(WITHIN):
        while await ours(host) != before:  # noqa: ASYNC110 (that nothing more comes has no event)
            await asyncio.sleep(0.02)


async def ready(host: HostUnderTest) -> tuple[Objects, int]:
    """eth1 applied with routes of an operator's; what there is, and its table."""
    await host.plug("eth1")
    status = await host.until("eth1", complete)
    await host.ip("route add 10.9.0.0/16 via 10.0.2.1 dev eth1 onlink")
    await host.ip("-6 route add 2001:db8:9::/48 via fe80::9 dev eth1")
    table = status["table"]
    async with asyncio.timeout(WITHIN):
        while not await copied(host, table):  # noqa: ASYNC110 (the table is ours: no event of it)
            await asyncio.sleep(0.02)
    await host.until("eth1", complete)
    before = await ours(host)
    assert before["group"] == ["3778"]
    assert len(before["address"]) == 4
    return before, table


async def copied(host: HostUnderTest, table: int) -> bool:
    """Whether the operator's routes are in our table, and the link is done with its addresses."""
    return (
        "10.9.0.0/16" in await host.ip(f"-4 route show table {table}")
        and "2001:db8:9::/48" in await host.ip(f"-6 route show table {table}")
        and "tentative" not in await host.ip("-6 address")
    )


def removals(before: Objects, table: int) -> list[str]:
    """An `ip` command for each object of ours; the operator's are left."""
    commands = ["link set eth1 group 0"]
    for question in ("rule", "-6 rule"):
        rules = (line.split(":", 1) for line in before[question] if "proto 236" in line)
        commands += [f"{question} del priority {n} {rest.strip()}" for n, rest in rules]
    for family in ("-4", "-6"):
        routes = before[f"{family} route show table all proto 236"]
        commands += [f"{family} route del {route}" for route in routes]
    for line in before["address"]:
        family, address = line.split()[:2]
        commands.append(f"{'-4' if family == 'inet' else '-6'} address del {address} dev eth1")
    assert any(f"table {table}" in command for command in commands)
    return commands


async def test_each_object_by_itself() -> None:
    async with ec2_host(RICH) as host:
        before, table = await ready(host)
        for command in removals(before, table):
            await host.ip(command)
            await back(host, before)
        status = await host.status("eth1")
        assert (status["state"], status["fought_over"]) == ("applied", False)
        await host.all_reachable("eth1")


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(["rule flush proto 236", "-6 rule flush proto 236"], id="rules"),
        pytest.param(["-4 route flush table {}", "-6 route flush table {}"], id="routes"),
        pytest.param(["-4 address flush dev eth1", "-6 address flush dev eth1"], id="addresses"),
        pytest.param(
            [
                "rule flush proto 236",
                "-6 rule flush proto 236",
                "-4 route flush table {}",
                "-6 route flush table {}",
                "-6 address flush dev eth1 scope global",
                "link set eth1 group 0",
            ],
            id="everything",
        ),
    ],
)
async def test_all_at_once(commands: list[str]) -> None:
    async with ec2_host(RICH) as host:
        before, table = await ready(host)
        for command in commands:
            await host.ip(command.format(table))
        if "-4 address flush dev eth1" in commands:
            # The last IPv4 address takes the operator's own route along, and its copy so goes too.
            await host.until("eth1", complete)
            await host.ip("route replace 10.9.0.0/16 via 10.0.2.1 dev eth1 onlink")
            before["address"] = [line for line in before["address"] if "inet6 fe80" not in line]
        await back(host, before)
        assert complete(await host.status("eth1"))
        await host.all_reachable("eth1")


async def test_a_route_of_somebody_s_in_the_place_of_ours() -> None:
    async with ec2_host(RICH) as host:
        before, table = await ready(host)
        for family, gateway in (("-4", "10.0.2.9"), ("-6", "fe80::9")):
            default = f"default via {gateway} dev eth1 table {table} proto static"
            metric = " metric 4000000000" + (" onlink" if family == "-4" else "")
            await host.ip(f"{family} route replace {default}{metric}")
            status = await host.until(
                "eth1", lambda now: codes(now["reasons"]) == {"route-in-the-way"}
            )
            assert status["state"] == "validated"
            (reason,) = status["reasons"]
            assert f"via {gateway} (protocol 4) in table {table}" in reason["text"]
            said = await nicwatchd_on(host.vpc, "status", "eth1")
            assert said.code == 1
            assert "somebody else's route to " in said.text
            await host.daemon.post("/v1/reconcile")
            assert gateway in await host.ip(f"{family} route show table {table} proto static")
            await host.ip(f"{family} route del {default}{metric}")
            await host.until("eth1", complete)
            await back(host, before)
        assert not (await host.status("eth1"))["fought_over"]


async def test_a_fight_is_told_and_goes_on_slowly() -> None:
    async with ec2_host(RICH) as host:
        before, _ = await ready(host)
        for _ in range(LOSSES):
            await host.ip("-6 rule flush proto 236")
            await back(host, before)
        status = await host.until("eth1", lambda now: now["fought_over"])
        (text,) = (n["text"] for n in status["notes"] if n["code"] == "fought-over")
        assert "was removed 3 times in" in text
        assert "the kernel's notifications name port id " in text
        ready_now = await host.daemon.get("/readyz")
        assert ready_now["status"] == "failing"
        assert [line for line in ready_now["waiting"] if text in line]
        said = await nicwatchd_on(host.vpc, "status", "eth1")
        assert said.code == 1
        assert "Routing: applied (fought over)" in said.text
        assert text in said.text
        told = [line for line in host.daemon.log.splitlines() if "is fought over: " in line]
        assert [sum(name in line for line in told) for name in ("eth0", "eth1")] == [1, 1]
        assert "nicwatchd_fought_over_interfaces 2.0" in await metrics(host)
        await host.all_reachable("eth1")


async def metrics(host: HostUnderTest) -> str:
    connector = aiohttp.UnixConnector(str(host.daemon.socket))
    async with (
        aiohttp.ClientSession("http://nicwatchd", connector=connector) as session,
        session.get("/metrics") as response,
    ):
        return await response.text()
