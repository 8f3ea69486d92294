"""IPv6 is off on a link, and packets without a source: what the kernel says of both."""

from __future__ import annotations

from dataclasses import replace
from errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from nicwatchd.core.model import (
    MAIN_TABLE,
    RTPROT_STATIC,
    SCOPE_LINK,
    TABLE_BASE,
    AddAddress,
    AddRoute,
    Family,
    Route,
    SetUp,
)
from nicwatchd.core.port import AddressEvent, Ipv6Event, LinkEvent, Result, RouteAnswer
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from tests.netlink.conftest import ip

if TYPE_CHECKING:
    from tests.netlink.conftest import World

V6 = IPv6Address("2001:db8::5")


async def test_what_disable_ipv6_takes_and_how_that_is_told(world: World) -> None:
    index = await world.add_link("eth1")
    address = AddAddress(index, V6)
    route = AddRoute(Route(ip_network("2001:db8::/64"), TABLE_BASE + index, index, metric=1024))
    outcomes = await world.kernel.run([SetUp(index), address, route])
    assert [outcome.result for outcome in outcomes] == [Result.DONE] * 3
    await world.disable_ipv6(index, disabled=True)
    await world.heard.until(lambda e: isinstance(e, AddressEvent) and e.deleted)
    link = await world.kernel.link(index)
    assert link is not None
    assert (link.has_ipv6, link.disable_ipv6) == (True, True)
    assert await world.kernel.addresses(index) == ()
    assert await world.kernel.own_routes() == ()
    refused = await world.kernel.run([address, route])
    assert [(o.result, o.errno) for o in refused] == [(Result.REFUSED, EACCES)] * 2
    world.heard.events.clear()
    await world.disable_ipv6(index, disabled=False)
    await world.heard.until(lambda e: e == LinkEvent(index))
    link = await world.kernel.link(index)
    assert link is not None
    assert not link.disable_ipv6
    assert (await world.kernel.run([address]))[0].result is Result.DONE


@pytest.mark.parametrize("how", ["off and on", "the link flaps", "it is removed"])
async def test_what_tells_that_ipv6_ended_from_an_address_that_was_removed(
    world: World, how: str
) -> None:
    """Where all of IPv6 goes, that is told first, and then the end of each address."""
    index = await world.add_link("eth1")
    outcomes = await world.kernel.run([SetUp(index), AddAddress(index, V6)])
    assert [outcome.result for outcome in outcomes] == [Result.DONE] * 2
    link = await world.kernel.link(index)
    assert link is not None
    [added] = [a for a in await world.kernel.addresses(index) if a.ip == V6]
    await world.heard.until(lambda e: isinstance(e, AddressEvent) and e.index == index)
    world.heard.events.clear()
    match how:
        case "off and on":
            await world.disable_ipv6(index, disabled=True)
            await world.disable_ipv6(index, disabled=False)
        case "the link flaps":
            await world.set_link(replace(link, up=False))
            await world.set_link(link)
        case _:
            await world.drop(added)
    gone = await world.heard.until(lambda e: isinstance(e, AddressEvent) and e.ip == V6)
    before = world.heard.events[: world.heard.events.index(gone)]
    assert (Ipv6Event(index) in before) is (how != "it is removed")


@pytest.mark.usefixtures("namespace")
async def test_an_mtu_that_is_too_small_for_ipv6() -> None:
    ip("link add eth1 type veth")
    kernel = NetlinkKernel()
    [index] = [i for i, link in (await kernel.links()).items() if link.name == "eth1"]
    for mtu, has_ipv6 in ((1500, True), (1279, False), (1280, True)):
        ip(f"link set eth1 mtu {mtu}")
        link = await kernel.link(index)
        assert link is not None
        assert (link.mtu, link.has_ipv6, link.disable_ipv6) == (mtu, has_ipv6, False)
    ip("link set eth1 mtu 1200")
    [outcome] = await kernel.run([AddAddress(index, V6)])
    assert outcome.result is Result.RETRY  # no bug: the link was read before
    kernel.close()


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_where_a_packet_without_a_source_goes(world: World, family: Family) -> None:
    v4 = family is Family.V4
    index = await world.add_link("eth1")
    await world.kernel.run([SetUp(index)])
    far = ip_address("198.51.100.1" if v4 else "2001:db8:ff::1")
    assert await world.kernel.route_get(None, far) == ENETUNREACH
    net = ip_network("198.51.100.0/24" if v4 else "2001:db8:ff::/64")
    await world.put(
        Route(net, MAIN_TABLE, index, RTPROT_STATIC, scope=SCOPE_LINK if v4 else 0, metric=7)
    )
    assert await world.kernel.route_get(None, far) == RouteAnswer(MAIN_TABLE, index)


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize(
    ("kind", "errno"),
    [("blackhole", EINVAL), ("unreachable", EHOSTUNREACH), ("prohibit", EACCES)],
)
@pytest.mark.parametrize("imds", ["169.254.169.254", "fd00:ec2::254"])
async def test_a_route_that_ends_the_lookup_is_an_errno(kind: str, errno: int, imds: str) -> None:
    ip("link set lo up")
    ip(f"route add {kind} {imds}")
    kernel = NetlinkKernel()
    assert await kernel.route_get(None, ip_address(imds)) == errno
    kernel.close()
