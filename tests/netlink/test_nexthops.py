"""Routes by next-hop objects, of which the kernel may list the number alone."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nicwatchd.core.model import BLACKHOLE, RTPROT_BOOT, Family, Hop
from nicwatchd.core.port import NexthopEvent
from nicwatchd.netlink.events import EventSocket
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from tests.netlink.conftest import ip, network_namespace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.netlink.conftest import Heard

COMPAT = Path("/proc/sys/net/ipv4/nexthop_compat_mode")
ETH1 = 3  # what a new namespace numbers alike each time: lo 1, the other end 2
NETS = {
    Family.V4: ("192.0.2.0/24", "10.0.2.7", "10.0.2.8"),
    Family.V6: ("3fff::/32", "fe80::7", "fe80::8"),
}


@pytest.fixture(params=["1", "0"], ids=["compat", "by number"])
def host(request: pytest.FixtureRequest) -> Iterator[None]:
    with network_namespace():
        COMPAT.write_text(request.param)
        ip("link set lo up")
        ip("link add eth1 type veth peer name peer")
        ip("link set peer up")
        ip("link set eth1 up")
        ip("addr add 10.0.2.10/24 dev eth1")
        yield


def by_objects(family: Family, dst: str) -> tuple[Hop, Hop]:
    """Routes to a destination by an object, by a group and by one that drops all; the group's hops.

    The metric of each is the object's number.
    """
    _, one, other = NETS[family]
    for number, gateway in ((7, one), (8, other)):
        ip(f"nexthop add id {number} via {gateway} dev eth1")
    ip("nexthop add id 9 group 7,3/8")
    ip(f"-{family} nexthop add id 10 blackhole")
    for number in (7, 9, 10):
        ip(f"-{family} route add {dst} nhid {number} metric {number}")
    return Hop(ETH1, ip_address(one), 3), Hop(ETH1, ip_address(other))


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_where_an_object_leads_is_read(host: None, family: Family) -> None:  # noqa: ARG001
    dst, one, _ = NETS[family]
    hops = by_objects(family, dst)
    kernel = NetlinkKernel()
    found = [r for r in await kernel.link_routes(ETH1) if r.protocol == RTPROT_BOOT]
    kernel.close()
    assert [(r.dst, r.metric, r.gateway, r.hops) for r in found] == [
        (ip_network(dst), 7, ip_address(one), ()),
        (ip_network(dst), 9, None, hops),
    ]


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_a_host_route_by_an_object(host: None, heard: Heard, family: Family) -> None:  # noqa: ARG001
    to = ip_address("192.0.2.9" if family is Family.V4 else "3fff::9")
    ip("nexthop add id 7 dev eth1" if family is Family.V4 else "-6 nexthop add id 7 dev eth1")
    source = EventSocket()
    source.start(heard.notify)
    ip(f"-{family} route add {to} nhid 7")
    await heard.until(lambda e: getattr(e, "host", None) == to)
    source.close()
    kernel = NetlinkKernel()
    assert await kernel.host_routes({to}) == {to: frozenset({ETH1})}
    kernel.close()


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_mains_defaults_by_objects(host: None, family: Family) -> None:  # noqa: ARG001
    """By one, by a group, and not by one that drops everything."""
    _, one, _ = NETS[family]
    hops = by_objects(family, "default")
    kernel = NetlinkKernel()
    found = sorted(await kernel.defaults(), key=lambda route: route.metric)
    kernel.close()
    assert [(r.family, r.metric, r.gateway, r.hops) for r in found] == [
        (family, 7, ip_address(one), ()),
        (family, 9, None, hops),
    ]


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_an_object_that_goes_is_heard(host: None, heard: Heard, family: Family) -> None:  # noqa: ARG001
    """Of the IPv4 routes that go with it, no event tells."""
    dst, one, _ = NETS[family]
    ip(f"nexthop add id 7 via {one} dev eth1")
    ip(f"-{family} route add {dst} nhid 7")
    source = EventSocket()
    source.start(heard.notify)
    ip("nexthop del id 7")
    await heard.until(lambda e: e == NexthopEvent(ETH1))
    source.close()
    assert not ip(f"-{family} route show {dst}")


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_a_default_by_a_black_hole_closes_main(host: None, family: Family) -> None:  # noqa: ARG001
    kernel = NetlinkKernel()
    assert await kernel.closed_main(frozenset()) == {}
    ip(f"-{family} nexthop add id 10 blackhole")
    ip(f"-{family} route add default nhid 10")
    found = await kernel.closed_main(frozenset())
    kernel.close()
    assert found.keys() == {family}
    assert [r.kind for r in found[family] if not r.dst.prefixlen] == [BLACKHOLE]
