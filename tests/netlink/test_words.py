"""The commands that operations are called by, run: they do what the operations do."""

from __future__ import annotations

import asyncio
import re
import shlex
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from nicwatchd.core.model import (
    DEFAULT_GROUP,
    LINK_GROUP,
    TABLE_BASE,
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    Hop,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
)
from nicwatchd.core.port import Result
from nicwatchd.core.words import command, names_in
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.netlink.wire import attribute, attribute_u32
from tests.netlink.conftest import ip, network_namespace
from tests.netlink.test_contract import V4, V6, private_routes, rules_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nicwatchd.core.model import Address

    Do = Callable[[NetlinkKernel, Operation], Awaitable[None]]

HOPS_V4 = (Hop(3, IPv4Address("10.9.0.1"), 2, onlink=True), Hop(3, IPv6Address("fe80::7")))
HOPS_V6 = (Hop(3, IPv6Address("fe80::7"), 2), Hop(3, IPv6Address("fe80::8")))
# lock (of mtu), mtu, rtt, features (ecn), rto_min, congctl
METRICS = b"".join(attribute_u32(n, v) for n, v in ((1, 1 << 2 | 1 << 13), (2, 1400), (4, 801)))
METRICS += attribute_u32(12, 1) + attribute_u32(13, 200) + attribute(16, b"reno\0")
# What a new namespace numbers alike each time: lo 1, the other end 2.
ETH1 = 3


def operations() -> Sequence[Operation]:
    """Each kind of operation on each kind of object that we make, each possible when it comes."""
    nowhere = Route(ip_network("10.8.0.0/16"), TABLE_BASE + ETH1, ETH1)  # neither link nor router
    several = Route(ip_network("10.6.0.0/16"), TABLE_BASE + ETH1, ETH1, hops=HOPS_V4, tos=0x10)
    tuned = Route(ip_network("10.5.0.0/16"), TABLE_BASE + ETH1, ETH1, metrics=METRICS, scope=253)
    several6 = Route(ip_network("2001:db8:6::/48"), TABLE_BASE + ETH1, ETH1, hops=HOPS_V6, metric=3)
    routes = [*private_routes(ETH1), nowhere, several, tuned, several6]
    changed = [
        replace(route, prefsrc=None if route.prefsrc else V4)
        for route in routes
        if route.family is Family.V4
    ]
    marked = Rule(Family.V4, 9, 77, dst=ip_network("192.0.2.1/32"), fwmark=3, fwmask=0xFF)
    rules = [*rules_of(TABLE_BASE + ETH1), marked]
    addresses: list[IPv4Address | IPv6Address] = [V4, V6]
    return [
        SetGroup(ETH1, LINK_GROUP),
        SetUp(ETH1),
        *(AddAddress(ETH1, address) for address in addresses),
        *map(AddRoute, routes),
        *(AddRoute(route, replace=True) for route in changed),
        *map(AddRule, rules),
        *map(RemoveRule, rules),
        *(RemoveRoute(route) for route in routes if route.family is Family.V6),
        *map(RemoveRoute, changed),
        *(RemoveAddress(ETH1, address, address.max_prefixlen) for address in addresses),
        SetGroup(ETH1, DEFAULT_GROUP),
    ]


async def by_netlink(kernel: NetlinkKernel, operation: Operation) -> None:
    (outcome,) = await kernel.run([operation])
    assert outcome.result is Result.DONE, outcome
    assert outcome.errno == 0


async def by_command(kernel: NetlinkKernel, operation: Operation) -> None:
    await run(command(operation, names_in(await kernel.links())))


async def by_command_without_names(_: NetlinkKernel, operation: Operation) -> None:
    await run(command(operation, lambda _: None))


async def run(line: str) -> None:
    words = shlex.split(line)
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}: {done.stderr}"


async def state(kernel: NetlinkKernel) -> dict[str, object]:
    """What there is, as we read it, and as `ip` lists it (with flags that the model lacks)."""
    link = await kernel.link(ETH1)
    assert link is not None
    addresses = await kernel.addresses(ETH1)
    listed = ip("-o addr show dev eth1 scope global")
    return {
        "link": (link.name, link.group, link.up),
        # All but the mark, which `ip` of Debian 12 can neither set nor list.
        "addresses": [replace(address, protocol=0) for address in addresses],
        "listed": re.sub(r" proto \S+", "", listed),
        "routes": await kernel.own_routes(),
        "main": await kernel.link_routes(ETH1),
        "rules": await kernel.rules(),
        "listed routes": await listed_routes(addresses),
    }


async def listed_routes(addresses: Sequence[Address]) -> list[str]:
    """Once the kernel has the local routes of IPv6 addresses: it adds them a moment later."""
    made = [f"local {each.ip} dev" for each in addresses if each.family is Family.V6]
    async with asyncio.timeout(10):
        while True:
            listed = [ip(f"-{family} route show table all") for family in Family]
            if all(words in listed[-1] for words in made):
                return listed
            await asyncio.sleep(0)


async def states(do: Do) -> list[tuple[Operation, dict[str, object]]]:
    """A new namespace after each of the operations."""
    with network_namespace():
        ip("link set lo up")
        ip("link add eth1 type veth peer name peer")
        ip("link set dev eth1 addrgenmode none")
        kernel = NetlinkKernel()
        try:
            found: list[tuple[Operation, dict[str, object]]] = []
            for operation in operations():
                await do(kernel, operation)
                found.append((operation, await state(kernel)))
        finally:
            kernel.close()
        return found


@pytest.mark.parametrize("do", [by_command, by_command_without_names])
async def test_a_command_does_what_the_operation_does(do: Do) -> None:
    expected = await states(by_netlink)
    for (_, before), (operation, after) in pairwise(expected):
        assert before != after, f"{operation} changes nothing, and so tries nothing"
    for ours, theirs in zip(await states(do), expected, strict=True):
        assert ours == theirs
