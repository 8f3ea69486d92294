"""Real programs of others beside nicwatchd: each works, and every ENI of the host answers.

Each is started before nicwatchd, and while it runs. Where both families can be had, both are tried.
"""

from __future__ import annotations

from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.vpc import Vpc
from tests.scenarios.host import DEFAULT, HostUnderTest, complete, ec2_host, numbered
from tests.scenarios.software import Software, eventually, stop

ETH1 = numbered(1)  # 10.0.2.11 and 2001:db8:ec2:2::11; eth0 has 10.0.1.10
FIRST = pytest.mark.parametrize("first", ["nicwatchd", "software"])
CONFIGS = Path(__file__).parent / "configs"

Start = Callable[[HostUnderTest], Awaitable[None]]


@asynccontextmanager
async def beside(first: str, start: Start, *, leased: bool = True) -> AsyncIterator[HostUnderTest]:
    """A host with an ENI that nicwatchd manages, and this software: which of them comes `first`.

    `leased`: a DHCP client and a router have configured the ENI too.
    """
    async with ec2_host(ETH1) as host:
        if first == "software":
            await host.daemon.stop()
        await host.plug("eth1")
        if leased:
            for family in Family:
                await host.vpc.lease(host.eni("eth1"), family)
            await host.advertise("eth1")
        if first == "software":
            await start(host)
            await host.daemon.start(DEFAULT)
        await host.until("eth1", complete)
        if first == "nicwatchd":
            await start(host)
        yield host


def config(name: str, **values: str) -> str:
    """A file of the folder beside this one, with {placeholders} in it."""
    text = (CONFIGS / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"<{key}>", value)
    return text


async def everybody_reaches(host: HostUnderTest) -> None:
    for name in ("eth0", "eth1"):
        await host.all_reachable(name)


async def on_link(host: HostUnderTest, address: IPAddress | str, device: str = "eth1") -> bool:
    return f" {address}/" in await host.ip(f"addr show dev {device}")


# --- BIRD ----------------------------------------------------------------------------------------

BEHIND = (IPv4Address("192.0.2.9"), IPv6Address("2001:db8:beef::9"))
GATEWAY_MAC = "06:00:00:00:00:77"


async def customer_gateway(host: HostUnderTest) -> Peer:
    """A router in the ENI's subnet, on its wire, with networks behind it that the VPC lacks."""
    vpc = host.vpc
    namespace = await vpc.add_namespace("gateway")
    port = vpc._ports[host.eni("eth1").mac].device
    link = f"link add link {port} name gw0 address {GATEWAY_MAC} netns {namespace}"
    await vpc.ip(vpc.router, f"{link} type macvlan mode bridge")
    await vpc.ip(
        namespace,
        "link set gw0 up",
        "addr add 10.0.2.77/24 dev gw0",
        "addr add 2001:db8:ec2:2::77/64 dev gw0 nodad",
        f"addr add {BEHIND[0]}/24 dev lo",
        f"addr add {BEHIND[1]}/48 dev lo nodad",
    )
    return Peer("a host behind the gateway", namespace, *BEHIND)


@FIRST
async def test_what_bird_learns_through_an_eni_is_the_way_of_its_answers(first: str) -> None:
    """On main: waits for w-routes (H5)."""

    async def start(host: HostUnderTest) -> None:
        behind = await customer_gateway(host)
        for namespace, of in ((behind.namespace, "gateway"), (host.vpc.host, "host")):
            bird = Software(host.vpc, namespace)
            file = bird.write("bird.conf", config(f"bird-{of}.conf"))
            bird_of[of] = bird, await bird.start("bird", "-f", "-c", file, "-s", "/run/bird.ctl")

    bird_of = {}
    async with beside(first, start) as host:

        async def learned() -> bool:
            routes = [await host.ip(f"-{family} route show proto bird") for family in Family]
            return "192.0.2.0/24 via 10.0.2.77 dev eth1" in routes[0] and (
                "2001:db8:beef::/48 via fe80::400:ff:fe00:77 dev eth1" in routes[1]
            )

        bird, _ = bird_of["host"]
        await eventually(learned, lambda: bird.log("bird"))
        behind = Peer("a host behind the gateway", bird_of["gateway"][0].namespace, *BEHIND)
        await host.all_reachable("eth1", peers=[behind])
        await host.all_reachable("eth0")

        await stop(bird_of["gateway"][1])
        table = (await host.status("eth1"))["table"]

        async def forgotten() -> bool:
            routes = [await host.ip(f"-{v} route show table {table}") for v in Family]
            return "192.0.2.0/24" not in routes[0] and "2001:db8:beef::/48" not in routes[1]

        await eventually(forgotten)
        await everybody_reaches(host)


# --- keepalived, and Pacemaker's IPaddr2 ---------------------------------------------------------

FLOATING = (IPv4Address("10.0.2.50"), IPv6Address("2001:db8:ec2:2::50"))
FIRST_ONES = [ip_address(text) for text in (*ETH1.ipv4, *ETH1.ipv6)]
WITH_FLOATING = replace(
    ETH1,
    ipv4=(*ETH1.ipv4, str(FLOATING[0])),
    ipv6=(*ETH1.ipv6, str(FLOATING[1])),
)


async def is_held(host: HostUnderTest, *, held: bool) -> None:
    async def so() -> bool:
        return [await on_link(host, address) for address in FLOATING] == [held, held]

    await eventually(so)


async def listed_and_answering(host: HostUnderTest) -> None:
    """IMDS lists the floating addresses too, and everybody reaches all addresses of the host."""
    await host.change(WITH_FLOATING)
    await host.daemon.post("/v1/reconcile")
    await host.until("eth1", complete)
    await everybody_reaches(host)


async def stays_given_up(host: HostUnderTest, give_up: Callable[[], Awaitable[object]]) -> None:
    """Give the addresses up: nobody puts them back, although IMDS lists them."""
    async with host.changes("address") as said:
        await give_up()
        await is_held(host, held=False)
        for _ in range(2):
            await host.daemon.post("/v1/reconcile")
        await host.until("eth1", complete)
        await host.all_reachable("eth0")
        await host.all_reachable("eth1", addresses=FIRST_ONES)
    added = [line for line in said if not line.startswith("Deleted")]
    assert [line for line in added if any(f" {a}/" in line for a in FLOATING)] == []


KEEPALIVED = ("keepalived", "--dont-fork", "--log-console", "--use-file", "/run/keepalived.conf")


async def keepalived(vpc: Vpc, namespace: str, **values: str) -> tuple[Software, Process]:
    program = Software(vpc, namespace)
    program.write("keepalived.conf", config("keepalived.conf", **values))
    return program, await program.start(*KEEPALIVED)


@FIRST
async def test_what_keepalived_gives_up_is_not_put_back(first: str) -> None:
    """Another node takes over; when it ends, the host has the addresses again. (H2)"""
    here, there = str(ETH1.ipv4[0]), "10.0.2.250"

    async def start(host: HostUnderTest) -> None:
        values = {"device": "eth1", "own": here, "other": there, "priority": "100"}
        await keepalived(host.vpc, host.vpc.host, **values)
        await is_held(host, held=True)

    others = []
    async with beside(first, start) as host:
        await listed_and_answering(host)

        async def take_over() -> None:
            values = {"device": "eth0", "own": there, "other": here, "priority": "150"}
            namespace = host.vpc.neighbour(host.eni("eth1").subnet).namespace
            others.append(await keepalived(host.vpc, namespace, **values))

        await stays_given_up(host, take_over)
        await stop(others[0][1])
        await is_held(host, held=True)
        await everybody_reaches(host)


class Ipaddr2:
    """Pacemaker's agent, called as Pacemaker calls it: one address, one action."""

    RUNNING, NOT_RUNNING = 0, 7  # OCF's exit codes

    def __init__(self, host: HostUnderTest) -> None:
        agent = "/usr/lib/ocf/resource.d/heartbeat/IPaddr2"
        self._software = Software(host.vpc, host.vpc.host, {"OCF_ROOT": "/usr/lib/ocf"})
        self._agent = agent

    async def all(self, action: str, code: int = 0) -> None:
        for address in FLOATING:
            settings = {
                "OCF_RESOURCE_INSTANCE": f"ip{address.version}",
                "OCF_RESKEY_ip": str(address),
                "OCF_RESKEY_nic": "eth1",
                "OCF_RESKEY_cidr_netmask": str(address.max_prefixlen),
                "OCF_RESKEY_arp_bg": "false",  # so that it has ended when it says so
                "OCF_RESKEY_arp_interval": "10",
            }
            words = (f"{key}={value}" for key, value in settings.items())
            await self._software.run("env", *words, self._agent, action, codes=(code,))


@FIRST
async def test_what_pacemakers_ipaddr2_stops_is_not_put_back(first: str) -> None:
    """Started again, the addresses are there again. (H2)"""

    async def start(host: HostUnderTest) -> None:
        agents.append(Ipaddr2(host))
        await agents[0].all("start")

    agents: list[Ipaddr2] = []
    async with beside(first, start) as host:
        await agents[0].all("monitor")
        await listed_and_answering(host)
        await stays_given_up(host, lambda: agents[0].all("stop"))
        await agents[0].all("monitor", Ipaddr2.NOT_RUNNING)
        await agents[0].all("start")
        await everybody_reaches(host)
