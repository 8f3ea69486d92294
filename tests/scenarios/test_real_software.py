"""Real programs of others beside nicwatchd: each works, and every ENI of the host answers.

Their routes, rules and addresses come before nicwatchd, after it, or before the ENI.
"""

from __future__ import annotations

from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import product

import pytest

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim import containers
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import Acceptor, reach
from tests.scenarios.host import DEFAULT, HostUnderTest, complete, ec2_host, numbered
from tests.scenarios.programs import (
    BEHIND,
    FLOATING,
    IN_TUNNEL,
    LEARNED,
    WG_MARK,
    Ipaddr2,
    StrongSwan,
    WireGuard,
    bird,
    container_by_dhcp,
    customer_gateway,
    haproxy,
    keepalived,
    lead_through,
    resolves,
)
from tests.scenarios.software import Software, config, eventually, stop

pytestmark = pytest.mark.long


ETH1 = numbered(1)  # 10.0.2.11 and 2001:db8:ec2:2::11; eth0 has 10.0.1.10
OWN = [ip_address(text) for text in (*ETH1.ipv4, *ETH1.ipv6)]
WITH_FLOATING = replace(
    ETH1, ipv4=(*ETH1.ipv4, str(FLOATING[0])), ipv6=(*ETH1.ipv6, str(FLOATING[1]))
)
BRIDGED = (IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64"))

SOFTWARE_LAST = ("nicwatchd", "eni", "software")
NICWATCHD_LAST = ("eni", "software", "nicwatchd")
ENI_LAST = ("nicwatchd", "software", "eni")
# For what needs the ENI's address.
ITS_ORDERS = pytest.mark.parametrize("order", [SOFTWARE_LAST, NICWATCHD_LAST], ids="-".join)
ORDERS = pytest.mark.parametrize("order", [SOFTWARE_LAST, NICWATCHD_LAST, ENI_LAST], ids="-".join)

Order = tuple[str, ...]


@asynccontextmanager
async def beside(
    order: Order, start: Callable[[HostUnderTest], Awaitable[None]], *, leased: bool = True
) -> AsyncIterator[HostUnderTest]:
    """A host with an ENI that nicwatchd manages, and this software, in this order.

    `leased`: a DHCP client and a router have configured the ENI too.
    """
    async with ec2_host(ETH1) as host:
        if order[0] != "nicwatchd":
            await host.daemon.stop()
        for step in order:
            if step == "eni":
                await plug(host, leased=leased)
            elif step == "software":
                await start(host)
            elif step != order[0]:
                await host.daemon.start(DEFAULT)
        await host.until("eth1", complete)
        yield host


async def plug(host: HostUnderTest, *, leased: bool) -> None:
    await host.plug("eth1")
    if leased:
        for family in Family:
            await host.vpc.lease(host.eni("eth1"), family)
        await host.advertise("eth1")


async def everybody_reaches_both(host: HostUnderTest) -> None:
    for name in ("eth0", "eth1"):
        await host.all_reachable(name)


# --- routes --------------------------------------------------------------------------------------


# What BIRD writes into main: what it learned; or all, the on-link routes of ENIs too.
@pytest.mark.parametrize("exported", ["where source = RTS_BGP", "all"], ids=["learned", "all"])
@ITS_ORDERS
async def test_what_bird_learns_through_an_eni_is_the_way_of_its_answers(
    order: Order, exported: str
) -> None:
    birds: dict[str, tuple[Software, Process]] = {}

    async def start(host: HostUnderTest) -> None:
        behind = await customer_gateway(host)
        for of, namespace in (("gateway", behind.namespace), ("host", host.vpc.host)):
            birds[of] = await bird(host.vpc, namespace, of, exported=exported)

    async with beside(order, start) as host:
        its, (gateway, of_gateway) = birds["host"][0], birds["gateway"]

        async def learned() -> bool:
            routes = [await host.ip(f"-{family} route show proto bird") for family in LEARNED]
            return all(map(str.__contains__, routes, LEARNED.values()))

        await eventually(learned, lambda: its.log("bird"))
        behind = Peer("a host behind the gateway", gateway.namespace, *BEHIND)
        await host.all_reachable("eth1", peers=[behind])
        await host.all_reachable("eth0")

        await stop(of_gateway)
        table = (await host.status("eth1"))["table"]

        async def forgotten() -> bool:
            routes = [await host.ip(f"-{family} route show table {table}") for family in LEARNED]
            return not any(map(str.__contains__, routes, LEARNED.values()))

        await eventually(forgotten)
        await everybody_reaches_both(host)


# --- addresses -----------------------------------------------------------------------------------


async def are_held(
    host: HostUnderTest, *, held: bool, otherwise: Callable[[], str] = lambda: ""
) -> None:
    async def so() -> bool:
        shown = await host.ip("addr show dev eth1")
        return [f" {address}/" in shown for address in FLOATING] == [held, held]

    await eventually(so, lambda: f"held: {held}; {otherwise()}")


async def list_before(host: HostUnderTest, order: Order) -> None:
    """A nicwatchd that starts after the software finds them on the link and in IMDS."""
    if order is NICWATCHD_LAST:
        await host.change(WITH_FLOATING)


async def are_listed_and_answer(host: HostUnderTest) -> None:
    """IMDS lists the floating addresses too, and everybody reaches all addresses of the host."""
    await host.change(WITH_FLOATING)
    await host.daemon.post("/v1/reconcile")
    await host.until("eth1", complete)
    await everybody_reaches_both(host)


async def stay_given_up(
    host: HostUnderTest, give_up: Callable[[], Awaitable[None]], *, restart: bool = False
) -> None:
    """The software gives them up, and nobody puts them back, although IMDS lists them."""
    async with host.changes("address") as said:
        await give_up()
        await are_held(host, held=False)
        if restart:
            await host.daemon.stop()
            await host.daemon.start(DEFAULT)
        for _ in range(2):
            await host.daemon.post("/v1/reconcile")
        await host.until("eth1", complete)
        await host.all_reachable("eth0")
        await host.all_reachable("eth1", addresses=OWN)
    added = [line for line in said if not line.startswith("Deleted")]
    assert [line for line in added if any(f" {a}/" in line for a in FLOATING)] == []


@ITS_ORDERS
async def test_what_keepalived_gives_up_is_not_put_back(order: Order) -> None:
    """Another node takes over. When that ends, the host has the addresses again."""
    here, there, others = "10.0.2.11", "10.0.2.250", []

    async def start(host: HostUnderTest) -> None:
        program, _ = await keepalived(host.vpc, host.vpc.host, "eth1", here, there, 100)
        await are_held(host, held=True, otherwise=lambda: program.log("keepalived"))
        await list_before(host, order)

    async with beside(order, start) as host:
        await are_listed_and_answer(host)
        neighbour = host.vpc.neighbour(host.eni("eth1").subnet).namespace

        async def take_over() -> None:
            others.append(await keepalived(host.vpc, neighbour, "eth0", there, here, 150))

        await stay_given_up(host, take_over)
        await stop(others[0][1])
        await are_held(host, held=True)
        await everybody_reaches_both(host)


@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted"])
@ITS_ORDERS
async def test_what_pacemakers_ipaddr2_stops_is_not_put_back(order: Order, restart: bool) -> None:
    """Nor by a nicwatchd that was restarted since."""
    agents = []

    async def start(host: HostUnderTest) -> None:
        agents.append(Ipaddr2(host))
        await agents[0].all("start")
        await are_held(host, held=True)
        await list_before(host, order)

    async with beside(order, start) as host:
        (agent,) = agents
        await agent.all("monitor")
        await are_listed_and_answer(host)
        await stay_given_up(host, lambda: agent.all("stop"), restart=restart)
        await agent.all("monitor", Ipaddr2.NOT_RUNNING)
        await agent.all("start")
        await everybody_reaches_both(host)


# --- tunnels -------------------------------------------------------------------------------------


@ORDERS
async def test_strongswan_calls_from_the_primary(order: Order) -> None:
    """It chooses its source by the routes of all tables, and knows no rules."""
    programs = []

    async def start(host: HostUnderTest) -> None:
        programs.append(StrongSwan(host))
        await programs[0].start()

    async with beside(order, start) as host:
        (program,) = programs
        primary = set(map(str, host.eni("eth0").addresses()))
        assert await program.sources() == primary
        await program.disconnect()
        await program.connect()  # by what there is now
        assert await program.sources() == primary
        await everybody_reaches_both(host)


async def leaves_by_the_tunnel(host: HostUnderTest) -> None:
    """What the host calls without saying from where is seen with the tunnel's addresses."""
    for far in host.vpc.far_hosts[:-1]:  # the last is the tunnel's other end

        async def through(far: Peer = far) -> bool:
            replies = [await reach(host.vpc, host.vpc.host, to) for to in far.addresses]
            return {str(reply and reply.seen_as) for reply in replies} == IN_TUNNEL

        await eventually(through)


@ORDERS
async def test_a_full_tunnel_of_wireguard_comes_first(order: Order) -> None:
    """wg-quick's rules have no priority, so they come before ours, whichever are older.

    IMDS, which main's default no longer leads to, is asked all the same.
    """
    tunnels = []

    async def start(host: HostUnderTest) -> None:
        tunnels.append(WireGuard(host))
        await tunnels[0].up()

    async with beside(order, start) as host, Acceptor(host.vpc, host.vpc.far):
        await leaves_by_the_tunnel(host)
        await host.daemon.post("/v1/reconcile")
        for far, family in product(host.vpc.far_hosts, Family):
            to, own = far.address(family), host.eni("eth1").addresses(family)[0]
            assert "dev wg0" in await host.ip(f"-{family} route get {to} from {own}")
            assert "dev eth0" in await host.ip(f"-{family} route get {to} mark {WG_MARK}")
        status = await host.status("eth1")
        assert status["shadowed"]
        assert any("by the rule at priority" in note["text"] for note in status["notes"])
        await host.imds_is("ok")
        # The tunnel's other end takes what comes from any address of the host.
        await host.all_reachable("eth0")

        await tunnels[0].down()
        await everybody_reaches_both(host)
        await host.daemon.post("/v1/reconcile")
        assert not (await host.status("eth1"))["shadowed"]


# --- what serves others --------------------------------------------------------------------------


@ORDERS
async def test_dnsmasq_serves_containers_and_the_vpc(order: Order) -> None:
    async def start(host: HostUnderTest) -> None:
        await containers.bridged(host.vpc, *BRIDGED)
        program = Software(host.vpc, host.vpc.host)
        file = program.write("dnsmasq.conf", config("dnsmasq.conf"))
        await program.start("dnsmasq", f"--conf-file={file}")
        await program.logged("dnsmasq", "started, version")

    async with beside(order, start) as host:
        box = await container_by_dhcp(host)
        for eni in map(host.eni, ("eth0", "eth1")):
            await host.all_reachable(eni.name, peers=[box])
            for peer, server in product([box, *host.vpc.peers(eni)], eni.addresses()):
                await eventually(partial(resolves, host.vpc, peer, server))


@ORDERS
async def test_a_transparent_proxy_calls_with_its_clients_addresses(order: Order) -> None:
    """A client in the ENI's subnet, a server in the primary's. Main leads to it by the primary."""
    async with beside(order, haproxy, leased=False) as host:
        client = host.vpc.neighbour(host.eni("eth1").subnet)
        server = host.vpc.neighbour(host.vpc.primary.subnet)
        await lead_through(host, client, server)
        async with Acceptor(host.vpc, server.namespace):
            for to in server.addresses:

                async def called(to: IPAddress = to) -> bool:
                    reply = await reach(host.vpc, client.namespace, to)
                    return bool(reply and reply.seen_as == client.address(Family(to.version)))

                await eventually(called)
        await host.all_reachable("eth0", "eth1")
