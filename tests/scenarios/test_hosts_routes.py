"""Main's routes through an ENI hold for the ENI's own addresses, whatever made them.

Judged by where the kernel sends what comes from the ENI's address. Each is there before nicwatchd
knows the ENI, or comes after; and when it goes, it holds no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from nicwatchd.core.model import Family
from tests.scenarios.host import (
    WITHIN,
    HostUnderTest,
    codes,
    complete,
    ec2_host,
    numbered,
    settings,
)

pytestmark = pytest.mark.long


ETH1 = numbered(1)
SOURCE = {Family.V4: ETH1.ipv4[0], Family.V6: ETH1.ipv6[0]}
NET = {Family.V4: "192.0.2.0/24", Family.V6: "2001:db8:beef::/48"}
TO = {Family.V4: "192.0.2.9", Family.V6: "2001:db8:beef::9"}
HOP = {Family.V4: "10.0.2.7", Family.V6: "fe80::77"}
HOP2 = {Family.V4: "10.0.2.8", Family.V6: "fe80::78"}
FAR = {Family.V4: "198.51.100.50", Family.V6: "2001:db8:5100::50"}
ROUTER = {Family.V4: "10.0.2.1", Family.V6: "fe80:ec2::1"}
OWN = {Family.V4: "192.168.5.2/24", Family.V6: "fd05::2/64"}
NEAR = {Family.V4: "192.168.5.1", Family.V6: "fd05::1"}
WORDS = {
    family: {
        "net": NET[family],
        "hop": HOP[family],
        "hop2": HOP2[family],
        "own": OWN[family],
        "near": NEAR[family],
    }
    for family in Family
}

BOTH = pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
FIRST = pytest.mark.parametrize("first", ["route", "daemon"])


@dataclass(frozen=True)
class Form:
    """How a route is added and removed, and what the look-up says then.

    `{net}` and the like are of the family: WORDS.
    """

    add: tuple[str, ...]
    delete: tuple[str, ...]
    shows: tuple[str, ...] = ("via {hop} dev eth1",)


def plain(words: str, *shows: str) -> Form:
    route = f"{{net}} {words}"
    return Form((f"route add {route}",), (f"route del {route}",), shows or Form.shows)


EITHER = ("via {hop} dev eth1", "via {hop2} dev eth1")
BY_ID = ("nexthop add id 7 via {hop} dev eth1", "nexthop add id 8 via {hop2} dev eth1")
FORMS = {
    "static": plain("via {hop} dev eth1 proto static"),
    "dhcp": plain("via {hop} dev eth1 proto dhcp"),
    "ra": plain("via {hop} dev eth1 proto ra"),
    "bird": plain("via {hop} dev eth1 proto bird"),
    "bgp": plain("via {hop} dev eth1 proto bgp metric 20"),
    "zebra": plain("via {hop} dev eth1 proto zebra"),
    "metrics": plain("via {hop} dev eth1 mtu 1400 advmss 1300", "mtu 1400 advmss 1300"),
    "locked": plain("via {hop} dev eth1 mtu lock 1400 initcwnd 20", "mtu lock 1400 initcwnd 20"),
    "multipath": plain(
        "proto bird nexthop via {hop} dev eth1 weight 2 nexthop via {hop2} dev eth1", *EITHER
    ),
    "beside another ENI": plain(
        "proto bird nexthop via {hop} dev eth1 nexthop via {away} dev eth0"
    ),
    "another ENI first": plain("proto bird nexthop via {away} dev eth0 nexthop via {hop} dev eth1"),
    # On-link by the kernel's own route in main alone, which is not copied.
    "another network": Form(
        ("addr add {own} dev eth1", "route add {net} via {near} dev eth1"),
        ("route del {net}", "addr del {own} dev eth1"),
        ("via {near} dev eth1",),
    ),
    "an object": Form((BY_ID[0], "route add {net} nhid 7"), ("route del {net}",)),
    "an object that goes": Form((BY_ID[0], "route add {net} nhid 7"), ("nexthop del id 7",)),
    "a group": Form(
        (*BY_ID, "nexthop add id 9 group 7/8", "route add {net} nhid 9 proto zebra"),
        ("nexthop del id 9",),
        EITHER,
    ),
}


async def do(host: HostUnderTest, family: Family, *commands: str) -> None:
    away = "10.0.1.9" if family is Family.V4 else "fe80::99"
    for command in commands:
        words = command.format(**WORDS[family], away=away)
        await host.ip(words if command.startswith("nexthop") else f"-{family} {words}")


async def route(host: HostUnderTest, to: str, source: str) -> str:
    """Where the kernel sends what comes from this address."""
    found = await host.ip(f"-{ip_address(to).version} route get {to} from {source}")
    return " ".join(found.split())


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what has no event."""
    async with asyncio.timeout(WITHIN):
        while not await is_so():  # noqa: ASYNC110 (see above)
            await asyncio.sleep(0.05)


async def applied(host: HostUnderTest) -> None:
    await host.plug("eth1")
    await host.until("eth1", complete)


async def with_routes(host: HostUnderTest, first: str, family: Family, *commands: str) -> None:
    """The ENI, and these routes: before the daemon has its addresses, or after."""
    if first == "daemon":
        await applied(host)
        await do(host, family, *commands)
        return
    await host.plug("eth1")
    await host.ip("link set eth1 up")
    await host.ip("addr add 10.0.2.200/24 dev eth1")  # so that the gateways are on-link
    await do(host, family, *commands)
    await host.until("eth1", complete)


@BOTH
@FIRST
@pytest.mark.parametrize("form", FORMS)
async def test_a_route_of_main_through_the_eni_is_the_eni_s(
    form: str, first: str, family: Family
) -> None:
    its = FORMS[form]
    wanted = [text.format(**WORDS[family]) for text in its.shows]
    async with ec2_host(ETH1) as host:

        async def leads() -> bool:
            found = await route(host, TO[family], SOURCE[family])
            return any(text in found for text in wanted) and "table 10" in found

        async def leads_beyond() -> bool:
            return f"via {ROUTER[family]}" in await route(host, TO[family], SOURCE[family])

        await with_routes(host, first, family, *its.add)
        await until(leads)
        assert complete(await host.status("eth1"))
        await do(host, family, *its.delete)
        await until(leads_beyond)
        await host.until("eth1", complete)  # what goes after the route may be told a moment later


@FIRST
async def test_routes_that_differ_by_tos_are_both_the_eni_s(first: str) -> None:
    async with ec2_host(ETH1) as host:
        family = Family.V4
        commands = (
            "route add {net} via {hop} dev eth1",
            "route add {net} tos 0x10 via {hop2} dev eth1",
        )
        await with_routes(host, first, family, *commands)

        async def leads() -> bool:
            question = f"route get {TO[family]} from {SOURCE[family]}"
            answers = [await host.ip(question), await host.ip(f"{question} tos 0x10")]
            return HOP[family] in answers[0] and HOP2[family] in answers[1]

        await until(leads)
        async with host.changes("route") as said:
            await host.daemon.post("/v1/reconcile")
        assert [line for line in said if "236" in line] == [], "they do not replace each other"


@BOTH
@FIRST
async def test_an_operators_default_through_the_eni_is_the_eni_s(
    first: str, family: Family
) -> None:
    """An inspection appliance. When it goes, the VPC router is back."""
    default = "default via {hop} dev eth1 metric 2000"
    async with ec2_host(ETH1) as host:

        async def by_the_appliance() -> bool:
            return HOP[family] in await route(host, FAR[family], SOURCE[family])

        async def by_the_router() -> bool:
            return ROUTER[family] in await route(host, FAR[family], SOURCE[family])

        await with_routes(host, first, family, f"route add {default} proto static")
        await until(by_the_appliance)
        await do(host, family, f"route del {default}")
        await until(by_the_router)
        await host.all_reachable("eth1")


async def test_who_reads_all_tables_finds_main_s_default_best() -> None:
    """strongSwan takes the least metric of all tables."""
    async with ec2_host(ETH1) as host:
        await applied(host)
        for family in Family:
            lines = (await host.ip(f"-{family} route show table all default")).splitlines()
            metrics: dict[str, set[int]] = {}
            for line in lines:
                words = line.split()
                value = words[words.index("metric") + 1] if "metric" in words else "0"
                metrics.setdefault(words[words.index("dev") + 1], set()).add(int(value))
            assert metrics["eth1"] == {4_000_000_000}
            assert min(metrics["eth0"]) <= 1024


@BOTH
async def test_more_routes_than_are_copied_are_told(family: Family) -> None:
    async with ec2_host(ETH1) as host:
        await applied(host)
        table = (await host.status("eth1"))["table"]

        def net(number: int) -> str:
            v4 = family is Family.V4
            return f"198.18.{number >> 4}.{number % 16 << 4}/28" if v4 else f"3fff:{number:x}::/32"

        async def copied() -> int:
            shown = await host.ip(f"-{family} route show table {table}")
            return shown.count("198.18.") + shown.count("3fff:")

        async def change(verb: str, first: int, last: int) -> None:
            rest = f"via {HOP[family]} dev eth1 proto bird"
            many = (f"route {verb} {net(n)} {rest}" for n in range(first, last))
            await host.vpc.ip(host.vpc.host, *many, family=family)

        async def is_copied(count: int) -> bool:
            return await copied() == count

        if family is Family.V4:
            await host.ip("addr add 10.0.2.200/24 dev eth1")
        await change("add", 0, 256)
        await until(lambda: is_copied(256))
        assert "routes-not-copied" not in codes((await host.status("eth1"))["notes"])
        await change("add", 256, 257)
        await until(lambda: is_copied(0))
        status = await host.status("eth1")
        assert complete(status)
        assert "routes-not-copied" in codes(status["notes"])
        await change("del", 256, 257)
        await until(lambda: is_copied(256))


async def test_a_vpn_beside_the_eni_is_told() -> None:
    async with ec2_host(ETH1) as host:
        await applied(host)
        await host.ip("link add vpn0 type bridge")
        await host.ip("addr add 10.99.0.1/24 dev vpn0")
        await host.ip("link set vpn0 up")
        hops = f"nexthop via 10.99.0.9 dev vpn0 nexthop via {HOP[Family.V4]} dev eth1 onlink"
        await host.ip(f"route add 192.0.2.0/24 {hops}")
        await host.daemon.post("/v1/reconcile")
        assert "split-route" in codes((await host.status("eth1"))["notes"])


async def test_without_a_router_the_eni_is_not_applied() -> None:
    async with ec2_host(ETH1, config=settings(ipv6_router="ra")) as host:
        await host.plug("eth1")
        status = await host.until("eth1", lambda s: codes(s["reasons"]) == {"no-router"})
        assert status["state"] == "validated"
        for hops in (
            "via fe80:ec2::1 dev eth1",
            "nexthop via fe80::7 dev eth1 nexthop via fe80:ec2::1 dev eth1",
        ):
            await host.ip(f"-6 route add default proto ra metric 2048 {hops}")
            await host.until("eth1", complete)
            await host.ip("-6 route del default proto ra metric 2048")
            await host.until("eth1", "validated")


@pytest.mark.parametrize("first", ["lease", "imds"])
async def test_a_lease_of_another_network_is_not_sent_to_the_subnet_s_router(first: str) -> None:
    lease = "addr add 192.168.50.23/24 dev eth1 valid_lft 3600 preferred_lft 3600"
    async with ec2_host(ETH1) as host:
        if first == "imds":
            await applied(host)
        else:
            await host.plug("eth1")
            await host.ip("link set eth1 up")
        await host.ip(lease)
        await host.ip("route add default via 192.168.50.254 dev eth1 proto dhcp metric 2048")

        async def told() -> bool:
            return "lease-outside-subnet-ipv4" in codes((await host.status("eth1"))["notes"])

        await host.until("eth1", complete)
        await until(told)
        await host.until("eth1", complete)
        assert ROUTER[Family.V4] not in await route(host, FAR[Family.V4], "192.168.50.23")
