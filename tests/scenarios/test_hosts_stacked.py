"""What stands on an ENI: a bridge that has the primary's addresses, a macvlan on a secondary ENI.

Main's routes of the ENI's subnet, and on a bridge its default route too, lead through such a link.
Judged by TCP from far hosts and neighbours, to the primary as well, and again after the kernel has
learned a smaller MTU of the path to each far host: it keeps that beside the route it was for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from typing import Final

import pytest

from nicwatchd.core.model import IPAddress
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import reach
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.host import (
    DEFAULT,
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

pytestmark = pytest.mark.long


OURS: Final = "3778"
# libvirt's way: the bridge takes the MAC, the addresses and the routes of the primary.
BRIDGED: Final = (
    f"link add br0 address {PRIMARY.mac} type bridge",
    "link set br0 up",
    "addr flush dev eth0 scope global",
    "link set eth0 master br0",
    f"addr add {PRIMARY.ipv4[0]}/24 dev br0",
    f"addr add {PRIMARY.ipv6[0]}/128 dev br0 nodad",
    "route add default via 10.0.1.1 dev br0 metric 100",
    f"route add {PRIMARY.subnet_ipv6[0]} dev br0 metric 100",
    "route add ::/0 via fe80:ec2::1 dev br0 metric 100",
)
UNBRIDGED: Final = (
    "link set eth0 nomaster",
    "addr flush dev br0 scope global",
    f"route del {PRIMARY.subnet_ipv6[0]} dev br0 metric 100",
    "route del ::/0 via fe80:ec2::1 dev br0 metric 100",
    f"addr add {PRIMARY.ipv4[0]}/24 dev eth0",
    f"addr add {PRIMARY.ipv6[0]}/128 dev eth0 nodad",
    "route add default via 10.0.1.1 dev eth0 metric 100",
    f"route add {PRIMARY.subnet_ipv6[0]} dev eth0 metric 100",
    "route add ::/0 via fe80:ec2::1 dev eth0 metric 100",
)
# Docker's way to reach containers on a macvlan, but with the subnet's own length. So main leads to
# the subnet's hosts by it.
SHIM: Final = (
    "link add shim0 link eth1 type macvlan mode bridge",
    "addr add 10.0.2.223/24 dev shim0",
    "addr add 2001:db8:ec2:2::223/64 dev shim0 nodad",
    "link set shim0 up",
)


async def change(host: HostUnderTest, lines: Sequence[str]) -> None:
    await host.vpc.ip(host.vpc.host, *lines)


async def group_of(host: HostUnderTest, name: str) -> str:
    words = (await host.ip(f"-oneline link show dev {name}")).split()
    return words[words.index("group") + 1]


async def in_group(host: HostUnderTest, name: str, group: str) -> None:
    """Wait until a link is in this group; a link has no event that a test could await."""
    async with asyncio.timeout(WITHIN):
        while await group_of(host, name) != group:  # noqa: ASYNC110 (see above)
            await asyncio.sleep(0.02)


async def all_are_reachable(host: HostUnderTest, *names: str) -> None:
    """From far hosts and from neighbours in the subnets of all ENIs."""
    neighbours = [host.vpc.neighbour(eni.subnet) for eni in host.vpc.enis]
    addresses = [address for name in names for address in host.eni(name).addresses()]
    await host.all_reachable(*names, addresses=addresses, peers=neighbours)


async def learn_the_path(host: HostUnderTest, sources: Iterable[IPAddress]) -> None:
    """The way to every far host becomes narrow, and the host is told so at its first packet."""
    far = host.vpc.far_hosts
    way = await host.vpc.exec(host.vpc.router, "ip", "-6", "route", "get", str(far[0].ipv6))
    port = way.split(" dev ")[1].split()[0]
    await host.vpc.ip(host.vpc.router, f"link set {port} mtu 1280")
    for source in sources:
        for peer in far:
            await _is_told(host, source, peer)


async def _is_told(host: HostUnderTest, source: IPAddress, peer: Peer) -> None:
    to = peer.ipv6 if source.version == 6 else peer.ipv4
    question = f"route get {to} from {source}"
    family = socket.AF_INET6 if source.version == 6 else socket.AF_INET
    with host.vpc.socket(host.vpc.host, family, socket.SOCK_DGRAM) as sender:
        sender.bind((str(source), 0))
        sender.connect((str(to), 9))
        async with asyncio.timeout(WITHIN):
            while "mtu 1280" not in await host.ip(question):
                try:
                    sender.send(bytes(1400))
                except OSError:  # what came back, or a packet that is too big by now
                    await asyncio.sleep(0.02)


@pytest.mark.parametrize("order", ["older", "younger", "restarted"])
async def test_a_bridge_that_has_the_primarys_addresses(order: str) -> None:
    """It is there before the daemon, comes when all is applied, or while the daemon is dead."""
    async with ec2_host(numbered(1)) as host:
        if order == "older":
            await host.daemon.kill()
            await change(host, BRIDGED)
            await host.daemon.start(DEFAULT)
        await host.plug("eth1")
        await host.until("eth1", complete)
        if order != "older":
            await all_are_reachable(host, "eth0", "eth1")
            await change(host, BRIDGED)
        if order == "restarted":
            await in_group(host, "br0", OURS)
            await host.daemon.kill()
            await host.daemon.start(DEFAULT)
            await host.until("eth1", complete)
        await in_group(host, "br0", OURS)
        await all_are_reachable(host, "eth0", "eth1")
        await learn_the_path(host, host.eni("eth0").addresses())
        await all_are_reachable(host, "eth0", "eth1")
        assert await group_of(host, "br0") == OURS
        # Off the bridge again: it is like any other link of the host.
        await change(host, UNBRIDGED)
        await in_group(host, "br0", "default")
        await all_are_reachable(host, "eth0", "eth1")


@pytest.mark.parametrize("order", ["older", "younger"])
async def test_a_macvlan_with_an_address_of_the_subnet(order: str) -> None:
    async with ec2_host(numbered(1), numbered(2)) as host:
        await host.plug("eth1", "eth2")
        await host.until("eth2", complete)
        await host.until("eth1", complete)
        if order == "older":
            await host.daemon.kill()
        await change(host, SHIM)
        if order == "older":
            await host.daemon.start(DEFAULT)
            await host.until("eth1", complete)
        await in_group(host, "shim0", OURS)
        await all_are_reachable(host, "eth0", "eth1", "eth2")
        await learn_the_path(host, host.eni("eth1").addresses())
        await all_are_reachable(host, "eth0", "eth1", "eth2")
        # It stays in the group only while it has to do with an ENI.
        await host.ip("addr flush dev shim0 scope global")
        await in_group(host, "shim0", "default")
        assert complete(await host.status("eth1"))


async def test_what_ends_takes_the_group_along() -> None:
    """A release of the ENI, of the host, and both without a daemon."""
    async with ec2_host(numbered(1), config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await change(host, SHIM)
        await in_group(host, "shim0", OURS)
        for whose in ("?interface=eth1", ""):
            answer = await host.daemon.post(f"/v1/release{whose}")
            assert not answer["failed"]
            assert await group_of(host, "shim0") == "default"
            await host.daemon.post("/v1/reconcile")
            await host.until("eth1", complete)
            await in_group(host, "shim0", OURS)
        await all_are_reachable(host, "eth1")
        for words in (("eth1",), ("--all",)):
            await host.daemon.kill()
            assert (
                await nicwatchd_on(host.vpc, "release", *words, "--config", str(host.daemon.config))
            ).code == 0
            assert await group_of(host, "shim0") == "default"
            await host.daemon.start(settings(QUICK))
            await host.until("eth1", complete)
            await in_group(host, "shim0", OURS)


async def test_a_group_of_somebody_s_is_left_and_told() -> None:
    """Neighbours are answered all the same: their subnet has a rule of its own."""
    async with ec2_host(numbered(1)) as host:
        await change(host, [*BRIDGED, "link set br0 group 5"])
        await host.plug("eth1")
        await host.until("eth1", complete)
        await all_are_reachable(host, "eth0", "eth1")
        assert "foreign-group" in codes((await host.status("eth0"))["notes"])
        assert await group_of(host, "br0") == "5"
        await host.ip("link set br0 group default")
        await in_group(host, "br0", OURS)
        await all_are_reachable(host, "eth0", "eth1")
        assert "foreign-group" not in codes((await host.status("eth0"))["notes"])


async def test_containers_behind_the_group_still_have_answers() -> None:
    """Containers of a macvlan: the shim has a route to their range, and is in the group."""
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        inside = await host.vpc.add_namespace("on-macvlan")
        await change(host, [*SHIM, "route add 10.0.2.192/27 dev shim0"])
        await change(host, ["route add 2001:db8:ec2:2::c0/123 dev shim0"])
        await change(host, [f"link add m0 link eth1 netns {inside} type macvlan mode bridge"])
        await host.vpc.ip(
            inside,
            "link set m0 up",
            "addr add 10.0.2.193/24 dev m0",
            "addr add 2001:db8:ec2:2::c1/64 dev m0 nodad",
            f"route add {host.eni('eth1').ipv4[0]} via 10.0.2.223",
            f"route add {host.eni('eth1').ipv6[0]} via 2001:db8:ec2:2::223",
        )
        await in_group(host, "shim0", OURS)
        for address in host.eni("eth1").addresses():
            async with asyncio.timeout(WITHIN):
                while not await reach(host.vpc, inside, address):  # noqa: ASYNC110 (no event)
                    await asyncio.sleep(0.05)
        await all_are_reachable(host, "eth1")
