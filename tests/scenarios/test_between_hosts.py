"""An address, a prefix or a whole ENI that moves from one host to another, as a failover does it.

The old host has given it up, the new one has it, and nobody's connection to anything else is cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

import pytest

from nicwatchd.core.model import Item
from nicwatchd.sim import containers
from nicwatchd.sim.probe import Acceptor, all_answer, paths
from nicwatchd.sim.script import EniScript
from tests.scenarios.host import (
    QUICK,
    WITHIN,
    HostUnderTest,
    complete,
    ec2_host,
    numbered,
    settings,
)
from tests.scenarios.streams import streams

pytestmark = pytest.mark.long


HOME = numbered(1)
FLOATING = {
    "IPv4 address": replace(HOME, ipv4=(*HOME.ipv4, "10.0.2.50")),
    "IPv6 address": replace(HOME, ipv6=(*HOME.ipv6, "2001:db8:ec2:2::50")),
    "IPv4 prefix": replace(HOME, ipv4_prefixes=("10.0.2.64/28",)),
    "IPv6 prefix": replace(HOME, ipv6_prefixes=("2001:db8:ec2:2:1::/80",)),
}


def what_floats(script: EniScript) -> Item:
    """The one thing that the ENI has more than at home."""
    for name in ("ipv4", "ipv6"):
        for text in set(getattr(script, name)) - set(getattr(HOME, name)):
            return ip_address(text)
    (text,) = (*script.ipv4_prefixes, *script.ipv6_prefixes)
    return ip_network(text)


@asynccontextmanager
async def two_hosts() -> AsyncIterator[tuple[HostUnderTest, HostUnderTest]]:
    """Each with an ENI that is applied, in the same subnet of one VPC (the sim has two of them)."""
    async with AsyncExitStack() as stack:
        config = settings(QUICK)
        hosts = [await stack.enter_async_context(ec2_host(HOME, config=config)) for _ in range(2)]
        for host in hosts:
            await host.plug("eth1")
            await host.until("eth1", complete)
        yield hosts[0], hosts[1]


async def mentions(host: HostUnderTest, what: Item) -> bool:
    """Whether anything of ours on a host is about it: its address, its rules, its routes."""
    objects = await host.kernel_objects()
    ours = [line for lines in objects.values() for line in lines if "proto 236" in line]
    addresses = await host.ip("addr show dev eth1")
    return any(str(what) in line for line in ours) or f"{what}/" in addresses


async def known(host: HostUnderTest, what: Item, *, there: bool = True) -> None:
    """Wait until the daemon has learned that it is there, or is not any more."""
    async with asyncio.timeout(WITHIN):
        while await mentions(host, what) is not there:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0.05)


async def works(host: HostUnderTest, what: Item) -> None:
    """Everybody reaches it: the host itself, or a container with an address of the prefix."""
    peers = host.vpc.peers(host.eni("eth1"))
    if isinstance(what, IPv4Address | IPv6Address):
        await all_answer(host.vpc, paths(peers, [what]), WITHIN)
        return
    v4 = what[5] if isinstance(what, IPv4Network) else None
    v6 = what[5] if isinstance(what, IPv6Network) else None
    box = await containers.delegated(host.vpc, "c-box", v4, v6)
    wanted = paths(peers, box.addresses)
    async with Acceptor(host.vpc, box.namespace):
        await all_answer(host.vpc, wanted, WITHIN)


@pytest.mark.parametrize("name", FLOATING)
async def test_it_moves_and_nobody_elses_connection_is_cut(name: str) -> None:
    floating = FLOATING[name]
    what = what_floats(floating)
    async with two_hosts() as (old, new), streams(old, "eth1"), streams(new, "eth1"):
        await old.change(floating)
        await known(old, what)
        await old.change(HOME)
        await new.change(floating)
        await known(new, what)
        await works(new, what)
        await known(old, what, there=False)


async def test_an_eni_moves_with_all_that_it_has() -> None:
    """Detached from one host, attached to the other: there it has the same MAC and addresses."""
    rich = replace(
        HOME,
        ipv4=(*HOME.ipv4, "10.0.2.50"),
        ipv6=(*HOME.ipv6, "2001:db8:ec2:2::50"),
    )
    async with AsyncExitStack() as stack:
        config = settings(QUICK)
        old, new = [
            await stack.enter_async_context(ec2_host(rich, config=config)) for _ in range(2)
        ]
        await old.plug("eth1")
        await old.until("eth1", complete)
        await old.all_reachable("eth1")
        async with old.daemon.events() as events:
            await old.vpc.unplug(old.eni("eth1"))
            await new.plug("eth1")
            async with asyncio.timeout(WITHIN):
                async for status in events:
                    if (status["name"], status["state"]) == ("eth1", "gone"):
                        break
        await new.until("eth1", complete)
        await new.all_reachable("eth1")
        objects = await old.kernel_objects()
        assert not [line for lines in objects.values() for line in lines if "10.0.2" in line]
