"""What a kernel does, held against a real network namespace and against the kernel in memory."""

from __future__ import annotations

from dataclasses import replace
from errno import (
    EACCES,
    EADDRNOTAVAIL,
    EEXIST,
    EHOSTUNREACH,
    EINVAL,
    ENETDOWN,
    ENETUNREACH,
    ENODEV,
    ENOENT,
    ESRCH,
)
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nicwatchd.core.layers import beneath
from nicwatchd.core.model import (
    COPIED_AT_MOST,
    ERRORS,
    IPV6_DEFAULT_METRIC,
    LAST_METRIC,
    LINK_GROUP,
    MAIN_TABLE,
    PROHIBIT,
    PROTOCOL,
    RTPROT_KERNEL,
    RTPROT_STATIC,
    SCOPE_LINK,
    SCOPE_UNIVERSE,
    TABLE_BASE,
    THROW,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    Hop,
    Numbers,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
)
from nicwatchd.core.port import (
    AddressEvent,
    Heeded,
    LinkEvent,
    Result,
    RouteAnswer,
    RouteEvent,
    RuleEvent,
)
from nicwatchd.netlink.wire import attribute_u32
from tests.netlink.conftest import RealWorld, ip, network_namespace

if TYPE_CHECKING:
    from tests.netlink.conftest import World

V4 = IPv4Address("10.0.0.5")
V6 = IPv6Address("2001:db8::5")
RTPROT_BIRD = 12
GONE = 4242  # no link has this index


async def run(world: World, *operations: Operation) -> list[tuple[Result, int]]:
    outcomes = await world.kernel.run(operations)
    assert [outcome.operation for outcome in outcomes] == list(operations)
    assert all(bool(outcome.errno) == bool(outcome.message) for outcome in outcomes)
    return [(outcome.result, outcome.errno) for outcome in outcomes]


def promote_secondaries() -> None:
    """As systemd has it, in this network namespace."""
    Path("/proc/sys/net/ipv4/conf/all/promote_secondaries").write_text("1")


async def link_up(world: World, name: str = "eth1") -> int:
    index = await world.add_link(name)
    assert await run(world, SetUp(index)) == [(Result.DONE, 0)]
    return index


def private_routes(index: int) -> list[Route]:
    """Each kind of route that we make, as the kernel reads it back."""
    table = TABLE_BASE + index
    v4, v6 = ip_network("10.0.0.0/24"), ip_network("2001:db8::/64")
    return [
        Route(v4, table, index, scope=SCOPE_LINK, prefsrc=V4),
        Route(
            ip_network("0.0.0.0/0"),
            table,
            index,
            gateway=ip_address("10.0.0.1"),
            prefsrc=V4,
            onlink=True,
        ),
        Route(v6, table, index, metric=IPV6_DEFAULT_METRIC),
        Route(ip_network("fe80::/64"), table, index, metric=IPV6_DEFAULT_METRIC),
        Route(
            ip_network("::/0"),
            table,
            index,
            gateway=ip_address("fe80:ec2::1"),
            metric=IPV6_DEFAULT_METRIC,
        ),
        Route(ip_network("10.7.0.0/16"), table, index, metric=50, scope=SCOPE_LINK),
    ]


def rules_of(table: int) -> list[Rule]:
    """Each kind of rule that we make, in the order in which the kernel walks them."""
    return [
        Rule(
            Family.V4,
            32765,
            MAIN_TABLE,
            src=ip_network("10.0.0.0/24"),
            iif="lo",
            suppress_prefixlength=0,
            suppress_ifgroup=LINK_GROUP,
        ),
        Rule(Family.V4, 32765, table, oif="eth1"),
        Rule(Family.V4, 32765, table, src=ip_network("10.0.0.0/24"), iif="lo"),
        Rule(Family.V6, 32765, table, src=ip_network("2001:db8:0:0:1::/80")),
        Rule(Family.V6, 32765, table, src=ip_network("2001:db8::5/128")),
        Rule(Family.V6, 32765, table, src=ip_network("2001:db8::/64"), iif="lo"),
    ]


async def test_a_link_is_as_it_was_set(world: World) -> None:
    index = await world.add_link("eth1")
    link = await world.kernel.link(index)
    assert link is not None
    assert (link.name, link.kind, link.driver) == ("eth1", "veth", "veth")
    assert (link.up, link.running, link.group, link.master) == (False, False, 0, 0)
    assert len(link.mac) == 17
    assert await run(world, SetGroup(index, LINK_GROUP), SetUp(index)) == [(Result.DONE, 0)] * 2
    assert await world.kernel.link(index) == replace(link, up=True, running=True, group=LINK_GROUP)
    assert (await world.kernel.links())[index] == await world.kernel.link(index)
    assert (await world.kernel.links())[1].name == "lo"


async def test_what_stands_on_a_link_names_it() -> None:
    """Of what the kernel alone has: the link of a macvlan, the ports of a bridge."""
    with network_namespace():
        world = RealWorld()
        eth1, eth2 = await world.add_link("eth1"), await world.add_link("eth2")
        ip("link add shim0 link eth1 type macvlan mode bridge")
        ip("link add br0 type bridge")
        ip("link set eth2 master br0")
        links = (await world.kernel.links()).values()
        world.close()
    assert {eth1, eth2} < {link.index for link in links}
    found = {link.name: (link.kind, link.lower, link.master) for link in links}
    bridge = next(link.index for link in links if link.name == "br0")
    assert found["shim0"] == ("macvlan", eth1, 0)
    assert found["br0"] == ("bridge", 0, 0)
    assert found["eth2"][2] == bridge
    on_top = beneath({link.index: link for link in links}, {eth1, eth2})
    names = {link.name: on_top[link.index] for link in links if link.index in on_top}
    assert names == {"shim0": {eth1}, "br0": {eth2}}


async def test_what_is_asked_of_a_missing_link_is_nothing(world: World) -> None:
    assert await world.kernel.link(GONE) is None
    assert await world.kernel.addresses(GONE) == ()
    assert await world.kernel.link_routes(GONE) == ()
    assert await world.kernel.own_routes() == ()


async def test_what_is_done_to_a_missing_link_says_gone(world: World) -> None:
    route = Route(ip_network("10.0.0.0/24"), TABLE_BASE, GONE, scope=SCOPE_LINK)
    operations = (
        SetGroup(GONE, LINK_GROUP),
        SetUp(GONE),
        AddAddress(GONE, V4),
        AddAddress(GONE, V6),
        RemoveAddress(GONE, V4, 32),
        RemoveAddress(GONE, V6, 128),
        AddRoute(route),
        AddRoute(replace(route, dst=ip_network("2001:db8::/64"), scope=0)),
    )
    assert await run(world, *operations) == [(Result.GONE, ENODEV)] * len(operations)


async def test_addresses_are_added_once_and_marked(world: World) -> None:
    index = await link_up(world)
    add = (AddAddress(index, V4), AddAddress(index, V6))
    assert await run(world, *add) == [(Result.DONE, 0)] * 2
    addresses = await world.kernel.addresses(index)
    assert set(addresses) >= {
        Address(index, V4, 32, protocol=PROTOCOL),
        Address(index, V6, 128, deprecated=True, protocol=PROTOCOL),
    }
    assert await run(world, *add) == [(Result.DONE, EEXIST)] * 2
    remove = (RemoveAddress(index, V4, 32), RemoveAddress(index, V6, 128))
    assert await run(world, *remove) == [(Result.DONE, 0)] * 2
    assert await run(world, *remove) == [(Result.DONE, EADDRNOTAVAIL)] * 2
    assert not {V4, V6} & {address.ip for address in await world.kernel.addresses(index)}


async def test_which_ipv6_address_may_be_chosen_as_a_source(world: World) -> None:
    index = await link_up(world)
    preferred, deprecated = (
        Address(index, V6, 128, deprecated=late, protocol=PROTOCOL) for late in (False, True)
    )
    add = AddAddress(index, V6, preferred=True)
    change = AddAddress(index, V6, replace=True)
    assert await run(world, add) == [(Result.DONE, 0)]
    assert preferred in await world.kernel.addresses(index)
    assert await run(world, change) == [(Result.DONE, 0)]
    assert deprecated in await world.kernel.addresses(index)
    assert await run(world, replace(add, replace=True)) == [(Result.DONE, 0)]
    assert preferred in await world.kernel.addresses(index)
    assert await run(world, AddAddress(index, V6)) == [(Result.DONE, EEXIST)], "as it is"
    assert preferred in await world.kernel.addresses(index)


async def test_ipv4_addresses_are_listed_in_the_order_of_their_coming(world: World) -> None:
    index = await link_up(world)
    ips = [ip_address(f"10.0.0.{n}") for n in (9, 5, 7)]
    await run(world, *(AddAddress(index, ip) for ip in ips))
    assert [a.ip for a in await world.kernel.addresses(index) if a.ip.version == 4] == ips


async def test_an_address_of_ours_that_others_replace_is_theirs(world: World) -> None:
    index = await link_up(world)
    theirs = (Address(index, V4, 32), Address(index, V6, 128))
    await run(world, AddAddress(index, V4), AddAddress(index, V6))
    for address in theirs:
        await world.put(address)
    found = {a for a in await world.kernel.addresses(index) if a.ip in (V4, V6)}
    assert {replace(address, tentative=False) for address in found} == set(theirs)


async def test_host_routes_of_main_and_the_links_they_lead_through(world: World) -> None:
    index = await with_subnets(world)
    other = await link_up(world, "eth2")
    box4, box6 = ip_address("10.0.0.77"), ip_address("2001:db8::77")
    host4, host6 = ip_network(box4), ip_network(box6)
    await world.put(Route(host4, MAIN_TABLE, other, RTPROT_BIRD, scope=SCOPE_LINK))
    several = (Hop(index, ip_address("2001:db8::7")), Hop(other, ip_address("fe80::7")))
    await world.put(Route(host6, MAIN_TABLE, index, RTPROT_STATIC, metric=7, hops=several))
    await world.put(Route(host6, MAIN_TABLE, index, RTPROT_STATIC, metric=8))
    others = [
        Route(ip_network("10.0.0.78/32"), MAIN_TABLE, other, 3, scope=SCOPE_LINK),
        Route(ip_network("10.0.0.76/31"), MAIN_TABLE, other, 3, scope=SCOPE_LINK),
        Route(ip_network("10.0.0.79/32"), 77, other, 3, scope=SCOPE_LINK),
    ]
    for route in others:
        await world.put(route)
    lacking = (ip_address("10.0.0.76"), ip_address("10.0.0.79"), ip_address("2001:db8::78"))
    found = await world.kernel.host_routes({box4, box6, *lacking})
    assert found == {box4: frozenset({other}), box6: frozenset({index, other})}
    assert await world.kernel.host_routes(set()) == {}


ANY = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("kind", ERRORS)
async def test_what_main_has_where_an_error_closes_it(
    world: World, family: Family, kind: int
) -> None:
    index, other = await link_up(world), await link_up(world, "eth2")
    lo = int(family is Family.V6)
    to = {4: "10.{}.0.0/16", 6: "2001:db8:{}::/48"}[family]
    scope = SCOPE_LINK if family is Family.V4 else SCOPE_UNIVERSE
    theirs = Route(ip_network(to.format(1)), MAIN_TABLE, other, 4, metric=7, scope=scope)
    main = [
        theirs,
        replace(theirs, dst=ANY[family], metric=100),
        Route(ip_network(to.format(9)), MAIN_TABLE, lo, 4, metric=7, kind=kind),
        Route(ANY[family], MAIN_TABLE, lo, 4, metric=1, kind=THROW),
    ]
    through_eni = replace(theirs, dst=ip_network(to.format(2)), oif=index)
    default = Route(ANY[family], MAIN_TABLE, lo, 4, metric=4000, kind=kind)
    for route in (*main, through_eni, replace(default, table=77)):
        await world.put(route)
    assert await world.kernel.closed_main(frozenset({index})) == {}
    await world.put(default)
    found = await world.kernel.closed_main(frozenset({index}))
    assert found.keys() == {family}
    made = {route for route in found[family] if route.protocol == 4}
    assert made == {*main, default}
    assert through_eni in (await world.kernel.closed_main(frozenset()))[family]
    # Nobody else takes them for ways.
    assert default not in await world.kernel.link_routes(1)
    assert default not in await world.kernel.table_routes(MAIN_TABLE)
    await world.drop(default)
    assert await world.kernel.closed_main(frozenset()) == {}


@pytest.mark.parametrize("family", Family)
async def test_mains_default_routes_whoever_made_them(world: World, family: Family) -> None:
    """By one way or several, down to the last metric; nothing else of main, nor of other tables."""
    index, other = await link_up(world), await link_up(world, "eth2")
    v4 = family is Family.V4
    lo, gateway = int(not v4), ip_address("10.0.2.1" if v4 else "fe80:ec2::1")
    base = Route(ANY[family], MAIN_TABLE, index, RTPROT_STATIC, gateway, metric=1024, onlink=v4)
    hops = (Hop(index, gateway, 1, v4), Hop(other, gateway, 2, v4))
    defaults = [
        base,
        replace(base, protocol=PROTOCOL, metric=1023),
        replace(base, oif=other, protocol=RTPROT_BIRD, metric=LAST_METRIC),
        replace(base, gateway=None, onlink=False, metric=50, hops=hops),
    ]
    others = [
        replace(base, dst=ip_network("192.0.0.0/3" if v4 else "2000::/3")),
        replace(base, table=77),
        Route(ANY[family], MAIN_TABLE, lo, RTPROT_STATIC, metric=7, kind=PROHIBIT),
    ]
    assert await world.kernel.defaults() == ()
    for route in (*defaults, *others):
        await world.put(route)
    found = await world.kernel.defaults()
    assert {replace(r, scope=0, hops=(), oif=0) if r.hops else r for r in found} == {
        replace(r, hops=(), oif=0) if r.hops else r for r in defaults
    }
    (several,) = (route for route in found if route.hops)
    assert {(hop.oif, hop.gateway) for hop in several.hops} == {(index, gateway), (other, gateway)}
    await world.drop(base)
    assert base not in await world.kernel.defaults()


def closes(event: object, *, deleted: bool) -> bool:
    return isinstance(event, RouteEvent) and event.error and event.wide and event.deleted == deleted


@pytest.mark.parametrize("family", Family)
async def test_an_error_route_s_event_says_so(world: World, family: Family) -> None:
    lo = int(family is Family.V6)
    default = Route(ANY[family], MAIN_TABLE, lo, 4, metric=4000, kind=PROHIBIT)
    await world.put(default)
    await world.heard.until(partial(closes, deleted=False))
    await world.drop(default)
    await world.heard.until(partial(closes, deleted=True))


@pytest.mark.parametrize("family", Family)
async def test_a_guard_meets_an_error_behind_other_links_ways_only_if_bound(
    world: World, family: Family
) -> None:
    """IPv4 passes over what leads through other links; the error has none."""
    index, other = await link_up(world), await link_up(world, "eth2")
    address = V4 if family is Family.V4 else V6
    await run(world, AddAddress(index, address))
    table, metric = TABLE_BASE + index, 1024 if family is Family.V6 else 0
    scope = SCOPE_LINK if family is Family.V4 else SCOPE_UNIVERSE
    own = Route(ANY[family], table, index, metric=metric, scope=scope)
    await run(world, AddRoute(own))
    guard = Rule(family, 32765, MAIN_TABLE, suppress_prefixlength=0)
    for chain in ({"src": ip_network(address)}, {"oif": "eth1"}):
        for rule in (guard, replace(guard, table=table, suppress_prefixlength=None)):
            await run(world, AddRule(replace(rule, **chain)))
    far = ip_address("198.51.100.1" if family is Family.V4 else "2001:db8:5100::1")
    lo = int(family is Family.V6)
    bad = Route(ANY[family], MAIN_TABLE, lo, 4, metric=4000, kind=PROHIBIT)
    await world.put(bad)
    assert await world.kernel.route_get(address, far) == EACCES
    await world.put(Route(ANY[family], MAIN_TABLE, other, 4, metric=5, scope=scope))
    mine = RouteAnswer(table, index)
    assert await world.kernel.route_get(address, far) == mine
    bound = await world.kernel.route_get(address, far, oif=index)
    assert (bound == mine) is (family is Family.V6)
    await world.put(Route(ANY[family], MAIN_TABLE, lo, 4, metric=1, kind=THROW))
    assert await world.kernel.route_get(address, far, oif=index) == mine


def says_where(ip: object, event: object, *, deleted: bool) -> bool:
    return isinstance(event, RouteEvent) and (event.host, event.deleted) == (ip, deleted)


async def test_a_host_route_s_event_says_where_it_leads_to(world: World) -> None:
    index = await link_up(world)
    for number, text in ((4, "192.0.2.9/32"), (6, "3fff::9/128")):
        host = ip_network(text)
        scope = SCOPE_LINK if number == 4 else 0
        metric_ = 0 if number == 4 else IPV6_DEFAULT_METRIC
        route = Route(host, MAIN_TABLE, index, RTPROT_STATIC, scope=scope, metric=metric_)
        await world.put(route)
        await world.drop(route)

        for gone in (False, True):
            event = partial(says_where, host.network_address, deleted=gone)
            await world.heard.until(event)


async def test_an_address_with_another_prefix_length(world: World) -> None:
    index = await link_up(world)
    await world.put(Address(index, V4, 24))
    await world.put(Address(index, V6, 64))
    operations = (
        AddAddress(index, V4),  # IPv4: another address
        AddAddress(index, V6),
        RemoveAddress(index, V4, 32),
        RemoveAddress(index, V6, 128),
    )
    assert await run(world, *operations) == [
        (Result.DONE, 0),
        (Result.DONE, EEXIST),
        (Result.DONE, 0),
        (Result.DONE, EADDRNOTAVAIL),
    ]


async def test_routes_read_back_as_they_were_added(world: World) -> None:
    index = await link_up(world)
    routes = private_routes(index)
    assert await run(world, AddAddress(index, V4)) == [(Result.DONE, 0)]
    assert await run(world, *map(AddRoute, routes)) == [(Result.DONE, 0)] * len(routes)
    assert set(await world.kernel.own_routes()) == set(routes)
    assert await run(world, *map(RemoveRoute, routes)) == [(Result.DONE, 0)] * len(routes)
    assert await run(world, *map(RemoveRoute, routes)) == [(Result.DONE, ESRCH)] * len(routes)
    assert await world.kernel.own_routes() == ()


async def test_routes_print_as_ip_prints_them(world: World) -> None:
    index = await link_up(world)
    await run(world, AddAddress(index, V4), *map(AddRoute, private_routes(index)))
    table = TABLE_BASE + index
    v4 = {line.rstrip() for line in world.ip_route(Family.V4, table).splitlines()}
    assert v4 == {
        "default via 10.0.0.1 dev eth1 proto 236 src 10.0.0.5 onlink",
        "10.0.0.0/24 dev eth1 proto 236 scope link src 10.0.0.5",
        "10.7.0.0/16 dev eth1 proto 236 scope link metric 50",
    }
    v6 = {line.rstrip() for line in world.ip_route(Family.V6, table).splitlines()}
    assert v6 == {
        "default via fe80:ec2::1 dev eth1 proto 236 metric 1024 pref medium",
        "2001:db8::/64 dev eth1 proto 236 metric 1024 pref medium",
        "fe80::/64 dev eth1 proto 236 metric 1024 pref medium",
    }


async def test_ipv6_routes_without_a_metric_get_one(world: World) -> None:
    index = await link_up(world)
    route = Route(ip_network("2001:db8::/64"), TABLE_BASE + index, index)
    assert await run(world, AddRoute(route)) == [(Result.DONE, 0)]
    assert await world.kernel.own_routes() == (replace(route, metric=IPV6_DEFAULT_METRIC),)


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_a_route_is_replaced_only_when_asked(world: World, family: Family) -> None:
    index = await link_up(world)
    v4 = family is Family.V4
    table = TABLE_BASE + index
    dst = ip_network("10.0.0.0/24" if v4 else "2001:db8::/64")
    first = Route(dst, table, index, metric=7, scope=SCOPE_LINK if v4 else 0)
    gateway = ip_address("10.0.0.1" if v4 else "fe80::1")
    second = Route(dst, table, index, metric=7, gateway=gateway, onlink=True)
    assert await run(world, AddRoute(first), AddRoute(second), AddRoute(first)) == [
        (Result.DONE, 0),
        (Result.RETRY, EEXIST),
        (Result.RETRY, EEXIST),
    ]
    assert await world.kernel.own_routes() == (first,)
    assert await run(world, AddRoute(second, replace=True)) == [(Result.DONE, 0)]
    assert await world.kernel.own_routes() == (second,)


async def test_routes_that_cannot_be_yet(world: World) -> None:
    index = await world.add_link("eth1")
    table = TABLE_BASE + index
    v4 = Route(ip_network("10.0.0.0/24"), table, index, scope=SCOPE_LINK)
    v6 = Route(ip_network("2001:db8::/64"), table, index)
    assert await run(world, AddRoute(v4), AddRoute(v6)) == [(Result.RETRY, ENETDOWN)] * 2
    await run(world, SetUp(index))
    assert await run(
        world,
        AddRoute(replace(v4, prefsrc=V4)),
        AddRoute(replace(v6, prefsrc=V6)),
        AddRoute(replace(v4, gateway=ip_address("10.9.0.1"), scope=0)),
        AddRoute(replace(v6, gateway=ip_address("2001:db8:9::1"))),
    ) == [
        (Result.RETRY, EINVAL),
        (Result.RETRY, EINVAL),
        (Result.RETRY, ENETUNREACH),
        (Result.RETRY, EHOSTUNREACH),
    ]
    assert await world.kernel.own_routes() == ()


async def test_the_main_table_through_a_link(world: World) -> None:
    index = await link_up(world)
    other = await link_up(world, "eth2")
    await world.put(Address(index, V4, 24))
    static = Route(
        ip_network("192.0.2.0/24"),
        MAIN_TABLE,
        index,
        RTPROT_STATIC,
        gateway=ip_address("10.0.0.1"),
    )
    await world.put(static)
    await world.put(Route(ip_network("198.51.100.0/24"), MAIN_TABLE, other, 3, scope=SCOPE_LINK))
    await world.put(Route(ip_network("198.51.100.0/24"), 77, index, 3, scope=SCOPE_LINK))
    connected = Route(
        ip_network("10.0.0.0/24"), MAIN_TABLE, index, RTPROT_KERNEL, prefsrc=V4, scope=SCOPE_LINK
    )
    routes = await world.kernel.link_routes(index)
    assert {route for route in routes if route.family is Family.V4} == {connected, static}


def metric(kind: int, value: int) -> bytes:
    """A metric of a route: 2 is mtu, 8 advmss, 11 initcwnd."""
    return attribute_u32(kind, value)


def routes_of_every_form(table: int, index: int, protocol: int = PROTOCOL) -> list[Route]:
    """Of both families; V4 and V6 must be on the link, with their subnets."""
    v4, v6 = ip_address("10.0.0.7"), ip_address("2001:db8::7")
    base4 = Route(ip_network("192.0.2.0/24"), table, index, protocol, gateway=v4)
    base6 = Route(ip_network("2001:db8:77::/48"), table, index, protocol, gateway=v6, metric=7)
    hops4 = (Hop(index, v4, 3), Hop(index, ip_address("10.9.0.1"), onlink=True))
    hops6 = (Hop(index, v6), Hop(index, ip_address("fe80::8"), 256))
    metrics = metric(2, 1400) + metric(8, 1300) + metric(11, 20)
    return [
        replace(base4, metrics=metrics),
        replace(base4, tos=0x10),
        replace(base4, metric=5, gateway=None, hops=hops4, prefsrc=V4, metrics=metrics),
        replace(base4, metric=6, gateway=ip_address("fe80::7")),
        base6,
        replace(base6, metric=8, metrics=metrics),
        replace(base6, metric=9, gateway=None, hops=hops6, prefsrc=V6, metrics=metrics),
    ]


async def with_subnets(world: World, name: str = "eth1") -> int:
    index = await link_up(world, name)
    await world.put(Address(index, V4, 24))
    await world.put(Address(index, V6, 64))
    return index


async def test_routes_of_every_form_read_back_as_they_were_added(world: World) -> None:
    index = await with_subnets(world)
    routes = routes_of_every_form(TABLE_BASE + index, index)
    assert await run(world, *map(AddRoute, routes)) == [(Result.DONE, 0)] * len(routes)
    assert set(await world.kernel.own_routes()) == set(routes)
    assert await run(world, *map(AddRoute, routes)) == [(Result.RETRY, EEXIST)] * len(routes)
    assert await run(world, *map(RemoveRoute, routes)) == [(Result.DONE, 0)] * len(routes)
    assert await world.kernel.own_routes() == ()


async def test_routes_of_every_form_print_as_ip_prints_them(world: World) -> None:
    index = await with_subnets(world)
    table = TABLE_BASE + index
    await run(world, *map(AddRoute, routes_of_every_form(table, index)))
    metrics = "mtu 1400 advmss 1300 initcwnd 20"
    v4 = {line.rstrip() for line in world.ip_route(Family.V4, table).splitlines()}
    assert v4 == {
        f"192.0.2.0/24 via 10.0.0.7 dev eth1 proto 236 {metrics}",
        "192.0.2.0/24 tos 0x10 via 10.0.0.7 dev eth1 proto 236",
        f"192.0.2.0/24 proto 236 src 10.0.0.5 metric 5 {metrics}",
        "\tnexthop via 10.0.0.7 dev eth1 weight 3",
        "\tnexthop via 10.9.0.1 dev eth1 weight 1 onlink",
        "192.0.2.0/24 via inet6 fe80::7 dev eth1 proto 236 metric 6",
    }
    v6 = {line.rstrip() for line in world.ip_route(Family.V6, table).splitlines()}
    assert f"2001:db8:77::/48 proto 236 src 2001:db8::5 metric 9 {metrics} pref medium" in v6
    assert "\tnexthop via 2001:db8::7 dev eth1 weight 1" in v6


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_a_route_of_any_form_is_replaced_by_any_other(world: World, family: Family) -> None:
    index = await with_subnets(world)
    forms = routes_of_every_form(TABLE_BASE + index, index)
    forms = [replace(r, metric=7, tos=0) for r in forms if r.family is family]
    assert await run(world, AddRoute(forms[0])) == [(Result.DONE, 0)]
    for form in [*forms[1:], *reversed(forms[:-1])]:
        assert await run(world, AddRoute(form, replace=True)) == [(Result.DONE, 0)]
        assert await world.kernel.own_routes() == (form,)


async def test_main_s_routes_through_a_link_whoever_made_them_and_however(world: World) -> None:
    index = await with_subnets(world)
    made = routes_of_every_form(MAIN_TABLE, index, RTPROT_BIRD)
    for route in made:
        await world.put(route)
    assert set(made) <= set(await world.kernel.link_routes(index))


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_a_route_with_next_hops_on_two_links_is_both_links_(
    world: World, family: Family
) -> None:
    one, other = await with_subnets(world), await link_up(world, "eth2")
    third = await link_up(world, "eth3")
    v4 = family is Family.V4
    gateways = ("10.0.0.7", "10.9.0.7") if v4 else ("fe80::7", "fe80::9")
    hops = (Hop(one, ip_address(gateways[0])), Hop(other, ip_address(gateways[1]), 2, onlink=True))
    dst = ip_network("192.0.2.0/24" if v4 else "2001:db8:77::/48")
    route = Route(dst, MAIN_TABLE, one, RTPROT_BIRD, metric=7, hops=hops)
    await world.put(route)
    assert route in await world.kernel.link_routes(one)
    assert route in await world.kernel.link_routes(other)
    assert route not in await world.kernel.link_routes(third)
    heard = await world.heard.until(lambda e: isinstance(e, RouteEvent) and bool(e.hops))
    assert isinstance(heard, RouteEvent)
    assert (heard.oif, set(heard.hops)) == (0, {one, other})
    link = await world.kernel.link(other)
    assert link is not None
    await world.set_link(replace(link, up=False))
    assert route in await world.kernel.link_routes(one), "it stays while one of them is up"


async def test_a_routing_daemons_routes_make_events(world: World) -> None:
    index = await link_up(world)
    learned = Route(ip_network("192.0.2.0/24"), MAIN_TABLE, index, RTPROT_BIRD, scope=SCOPE_LINK)
    await world.put(learned)
    event = await world.heard.until(
        lambda e: isinstance(e, RouteEvent) and e.protocol == RTPROT_BIRD
    )
    assert isinstance(event, RouteEvent)
    assert (event.table, event.oif, event.hops) == (MAIN_TABLE, index, ())


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_of_a_full_table_through_a_link_defaults_are_read(
    world: World, family: Family
) -> None:
    index = await with_subnets(world)
    v4 = family is Family.V4
    gateway = ip_address("10.0.0.7" if v4 else "2001:db8::7")
    wide = ip_network("11.0.0.0/8" if v4 else "2001:db9::/32")
    base = Route(wide, MAIN_TABLE, index, RTPROT_BIRD, gateway=gateway, metric=7)
    how_many = 3000 if isinstance(world, RealWorld) else 600  # a kernel's answer comes in pieces
    narrow = islice(wide.subnets(new_prefix=48 - v4 * 24), how_many)
    many = [replace(base, dst=ip_network(dst)) for dst in map(str, narrow)]
    default = replace(base, dst=ip_network("0.0.0.0/0" if v4 else "::/0"))
    await world.put_all([*many, default])
    found = set(await world.kernel.link_routes(index))
    assert default in found
    assert {RTPROT_KERNEL, RTPROT_BIRD} == {r.protocol for r in found if r.family is family}
    assert len(found & set(many)) > COPIED_AT_MOST


async def test_a_foreign_route_is_neither_ours_nor_removed(world: World) -> None:
    index = await link_up(world)
    theirs = Route(
        ip_network("10.0.0.0/24"), TABLE_BASE + index, index, RTPROT_STATIC, scope=SCOPE_LINK
    )
    assert await world.kernel.table_routes(theirs.table) == ()
    await world.put(theirs)
    assert await world.kernel.own_routes() == ()
    ours = replace(theirs, protocol=PROTOCOL)
    assert await run(world, AddRoute(ours), RemoveRoute(ours)) == [
        (Result.RETRY, EEXIST),
        (Result.DONE, ESRCH),
    ]
    another = replace(ours, dst=ip_network("10.0.1.0/24"))
    assert await run(world, AddRoute(another)) == [(Result.DONE, 0)]
    assert set(await world.kernel.table_routes(theirs.table)) == {theirs, another}
    assert "10.0.0.0/24" in world.ip_route(Family.V4, TABLE_BASE + index)


async def test_rules_read_back_as_they_were_added(world: World) -> None:
    before = await world.kernel.rules()
    rules = rules_of(TABLE_BASE + 9)  # a rule needs neither a table nor a link
    assert await run(world, *map(AddRule, rules)) == [(Result.DONE, 0)] * len(rules)
    assert [rule for rule in await world.kernel.rules() if rule not in before] == rules
    assert await run(world, *map(RemoveRule, rules)) == [(Result.DONE, 0)] * len(rules)
    assert await run(world, *map(RemoveRule, rules)) == [(Result.DONE, ENOENT)] * len(rules)
    assert await world.kernel.rules() == before


async def test_what_has_happened_is_told_at_once_if_asked_for(world: World) -> None:
    """In a storm, events are read in batches: what is seen gone may be told 50 ms later."""
    first, second = rules_of(TABLE_BASE + 9)[:2]
    await world.put(first)
    await world.heard.until(lambda event: isinstance(event, RuleEvent))  # the pause begins
    for _ in range(3):
        await world.put(second)
        await world.drop(second)
        assert second not in await world.kernel.rules()
        world.source.drain()
        last = world.heard.events[-1]
        assert isinstance(last, RuleEvent)
        assert (last.priority, last.deleted) == (second.priority, True)
        assert last.pid not in (0, world.kernel.port_id)
        world.source.drain()
        assert world.heard.events[-1] is last


async def test_a_rule_may_stand_twice_and_its_first_copy_is_removed(world: World) -> None:
    """A rule is put behind its guard like that: no packet sees a gap."""
    before = await world.kernel.rules()
    rule, other = rules_of(Numbers().table_of(9))[:2]
    assert rule.family is other.family
    assert await run(world, *map(AddRule, (rule, other, rule))) == [(Result.DONE, 0)] * 3
    assert [r for r in await world.kernel.rules() if r not in before] == [rule, other, rule]
    assert await run(world, RemoveRule(rule)) == [(Result.DONE, 0)]
    assert [r for r in await world.kernel.rules() if r not in before] == [other, rule]


async def test_rules_print_as_ip_prints_them(world: World) -> None:
    await world.add_link("eth1")
    await run(world, *map(AddRule, rules_of(1002495)))
    marked = Rule(Family.V4, 9, 77, 3, dst=ip_network("192.0.2.1/32"), fwmark=3, fwmask=0xFF)
    await world.put(marked)
    suppress = "suppress_prefixlength 0 suppress_ifgroup 3778"
    assert world.ip_rule(Family.V4).splitlines() == [
        "0:\tfrom all lookup local",
        "9:\tfrom all to 192.0.2.1 fwmark 0x3/0xff lookup 77",
        f"32765:\tfrom 10.0.0.0/24 iif lo lookup main {suppress} proto 236",
        "32765:\tfrom all oif eth1 lookup 1002495 proto 236",
        "32765:\tfrom 10.0.0.0/24 iif lo lookup 1002495 proto 236",
        "32766:\tfrom all lookup main",
        "32767:\tfrom all lookup default",
    ]
    assert world.ip_rule(Family.V6).splitlines() == [
        "0:\tfrom all lookup local",
        "32765:\tfrom 2001:db8:0:0:1::/80 lookup 1002495 proto 236",
        "32765:\tfrom 2001:db8::5 lookup 1002495 proto 236",
        "32765:\tfrom 2001:db8::/64 iif lo lookup 1002495 proto 236",
        "32766:\tfrom all lookup main",
    ]


async def test_a_mark_without_a_mask_is_all_of_it(world: World) -> None:
    rule = Rule(Family.V6, 32599, 77, fwmark=5)
    assert await run(world, AddRule(rule)) == [(Result.DONE, 0)]
    assert replace(rule, fwmask=0xFFFFFFFF) in await world.kernel.rules()


async def test_the_protocol_is_part_of_a_rules_identity(world: World) -> None:
    ours = Rule(Family.V6, 32765, 77, src=ip_network("2001:db8::/64"), iif="lo")
    theirs = replace(ours, protocol=RTPROT_STATIC)
    await world.put(theirs)
    assert await run(world, RemoveRule(ours), AddRule(ours)) == [
        (Result.DONE, ENOENT),
        (Result.DONE, 0),
    ]
    assert {ours, theirs} <= set(await world.kernel.rules())
    assert await run(world, RemoveRule(ours)) == [(Result.DONE, 0)]
    assert theirs in await world.kernel.rules()


async def test_a_selector_left_out_of_a_removal_matches_any(world: World) -> None:
    narrow = Rule(Family.V4, 32765, 77, src=ip_network("10.0.0.0/24"), iif="lo")
    assert await run(world, AddRule(narrow), RemoveRule(replace(narrow, iif=None))) == [
        (Result.DONE, 0),
        (Result.DONE, 0),
    ]
    assert narrow not in await world.kernel.rules()


async def test_a_flap_takes_ipv6_addresses_and_all_routes_but_no_rules(world: World) -> None:
    index = await link_up(world)
    await run(world, AddAddress(index, V4), AddAddress(index, V6))
    await run(world, *map(AddRoute, private_routes(index)))
    await run(world, *map(AddRule, rules_of(TABLE_BASE + index)))
    rules = await world.kernel.rules()
    up = await world.kernel.link(index)
    assert up is not None
    await world.set_link(replace(up, up=False))
    assert [address.ip for address in await world.kernel.addresses(index)] == [V4]
    assert await world.kernel.own_routes() == ()
    assert await world.kernel.link_routes(index) == ()
    assert await world.kernel.rules() == rules
    await world.set_link(up)
    assert await world.kernel.own_routes() == ()


async def test_unplugging_takes_all_but_the_rules(world: World) -> None:
    index = await link_up(world)
    await run(world, AddAddress(index, V4), AddAddress(index, V6))
    await run(world, *map(AddRoute, private_routes(index)))
    await run(world, *map(AddRule, rules_of(TABLE_BASE + index)))
    rules = await world.kernel.rules()
    await world.remove_link(index)
    assert await world.kernel.link(index) is None
    assert await world.kernel.addresses(index) == ()
    assert await world.kernel.own_routes() == ()
    assert await world.kernel.rules() == rules
    again = await world.add_link("eth1")
    assert again != index


async def test_a_source_that_goes_leaves_private_tables_alone(world: World) -> None:
    index = await link_up(world)
    other = ip_address("10.0.0.6")
    await run(world, *(AddAddress(index, ip) for ip in (V4, V6, other)))
    v4 = Route(ip_network("10.0.0.0/24"), 1002495, index, scope=SCOPE_LINK, prefsrc=V4)
    v6 = Route(ip_network("2001:db8::/64"), 1002495, index, metric=1024, prefsrc=V6)
    in_main = replace(v4, table=MAIN_TABLE)
    assert await run(world, *map(AddRoute, (v4, v6, in_main))) == [(Result.DONE, 0)] * 3
    await run(world, RemoveAddress(index, V4, 32), RemoveAddress(index, V6, 128))
    assert set(await world.kernel.own_routes()) == {v4, replace(v6, prefsrc=None)}


async def test_the_last_ipv4_address_takes_all_ipv4_routes_along(world: World) -> None:
    index = await link_up(world)
    await run(world, AddAddress(index, V4))
    plain = Route(ip_network("10.9.0.0/24"), 1002495, index, scope=SCOPE_LINK)
    assert await run(world, AddRoute(plain)) == [(Result.DONE, 0)]
    await run(world, RemoveAddress(index, V4, 32))
    assert await world.kernel.own_routes() == ()


async def test_the_last_ipv4_address_takes_others_routes_along_too(world: World) -> None:
    index = await link_up(world)
    await run(world, AddAddress(index, V4))
    await world.put(Route(ip_network("10.9.0.0/24"), MAIN_TABLE, index, 3, scope=SCOPE_LINK))
    await run(world, RemoveAddress(index, V4, 32))
    assert [r for r in await world.kernel.link_routes(index) if r.family is Family.V4] == []


async def test_a_link_needs_no_address_for_a_route(world: World) -> None:
    index = await link_up(world)
    other = await link_up(world, "eth2")
    await run(world, AddAddress(other, V4), AddAddress(other, V6))
    routes = (
        Route(ip_network("10.9.0.0/24"), 77, index, scope=SCOPE_LINK, prefsrc=V4),
        Route(ip_network("2001:db8:9::/64"), 77, index, metric=1024, prefsrc=V6),
    )
    assert await run(world, *map(AddRoute, routes)) == [(Result.DONE, 0)] * 2
    assert set(await world.kernel.own_routes()) == set(routes)


async def test_a_link_that_is_down_takes_addresses(world: World) -> None:
    """Those of IPv6 are lost only when it goes down."""
    index = await world.add_link("eth1")
    added = {Address(index, V4, 24), Address(index, V6, 64)}
    for address in added:
        await world.put(address)
    assert set(await world.kernel.addresses(index)) == added
    assert await world.kernel.link_routes(index) == ()
    await run(world, SetUp(index))
    assert added <= set(await world.kernel.addresses(index))
    subnets = {ip_network("10.0.0.0/24"), ip_network("2001:db8::/64")}
    assert subnets <= {route.dst for route in await world.kernel.link_routes(index)}


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_the_subnet_s_route_stays_while_it_has_an_address(
    world: World, family: Family
) -> None:
    v4 = family is Family.V4
    index = await link_up(world)
    promote_secondaries()
    hosts = ("10.0.0.5", "10.0.0.6") if v4 else ("2001:db8::5", "2001:db8::6")
    first, second = (Address(index, ip_address(host), 24 if v4 else 64) for host in hosts)
    subnet = ip_network("10.0.0.0/24" if v4 else "2001:db8::/64")
    await world.put(first)
    await world.put(second)
    await world.drop(first)
    (route,) = [r for r in await world.kernel.link_routes(index) if r.dst == subnet]
    assert route.prefsrc == (second.ip if v4 else None)
    await world.drop(second)
    assert subnet not in {route.dst for route in await world.kernel.link_routes(index)}


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_a_replacement_asks_nobody_whose_route_it_was(world: World, family: Family) -> None:
    index = await link_up(world)
    v4 = family is Family.V4
    dst = ip_network("10.0.0.0/24" if v4 else "2001:db8::/64")
    ours = Route(dst, 77, index, metric=7, scope=SCOPE_LINK if v4 else 0)
    await world.put(replace(ours, protocol=RTPROT_STATIC))
    assert await run(world, AddRoute(ours, replace=True)) == [(Result.DONE, 0)]
    assert await world.kernel.table_routes(77) == (ours,)


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_the_probe_tells_the_table_that_decides(world: World, family: Family) -> None:
    index = await link_up(world)
    v4 = family is Family.V4
    source = V4 if v4 else V6
    subnet = ip_network("10.0.0.0/24" if v4 else "2001:db8::/64")
    far = ip_address("198.51.100.1" if v4 else "2001:db8:ff::1")
    table = TABLE_BASE + index
    gateway = ip_address("10.0.0.1" if v4 else "fe80:ec2::1")
    default = Route(
        ip_network("0.0.0.0/0" if v4 else "::/0"), table, index, gateway=gateway, onlink=True
    )
    rule = Rule(family, 32765, table, src=subnet, iif="lo")
    kernel = world.kernel
    await run(world, AddAddress(index, source))
    assert await kernel.route_get(source, far) == ENETUNREACH
    assert await run(world, AddRoute(default), AddRule(rule)) == [(Result.DONE, 0)] * 2
    assert await kernel.route_get(source, far) == RouteAnswer(table, index)
    shadow = Rule(family, 100, 77, 3, src=subnet)
    await world.put(shadow)
    assert await kernel.route_get(source, far) == RouteAnswer(table, index)  # 77 is empty
    await world.put(replace(default, table=77, protocol=3))
    assert await kernel.route_get(source, far) == RouteAnswer(77, index)
    await world.drop(shadow)
    assert await kernel.route_get(source, far, oif=index) == RouteAnswer(table, index)


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_hundreds_of_look_ups_are_answered_in_order(world: World, family: Family) -> None:
    v4 = family is Family.V4
    index, source = await link_up(world), V4 if v4 else V6
    far = ip_address("198.51.100.1" if v4 else "2001:db8:ff::1")
    scope = SCOPE_LINK if v4 else SCOPE_UNIVERSE
    await run(world, AddAddress(index, source))
    await world.put(Route(ip_network(far), MAIN_TABLE, index, RTPROT_STATIC, scope=scope))
    elsewhere = ip_address("203.0.113.1" if v4 else "2001:db8:fe::1")
    asked = [
        *((source, far, 0), (None, far, 0), (source, far, index), (source, source, 0)),
        *((source, elsewhere, 0), (elsewhere, far, 0)),
    ]
    alone = [await world.kernel.route_get(src, dst, oif=oif) for src, dst, oif in asked]
    assert alone[:3] == [RouteAnswer(MAIN_TABLE, index)] * 3
    assert alone[4] == ENETUNREACH
    assert await world.kernel.route_gets(asked * 70) == alone * 70
    assert await world.kernel.route_gets([]) == []


async def test_the_suppressor_honours_main_but_not_other_enis(world: World) -> None:
    eni, primary, bridge = [await link_up(world, name) for name in ("eth1", "eth0", "br0")]
    table = Numbers().table_of(eni)
    subnet = ip_network("10.0.0.0/24")
    await run(world, AddAddress(eni, V4), SetGroup(primary, LINK_GROUP), SetGroup(eni, LINK_GROUP))
    await world.put(Route(ip_network("10.0.1.0/24"), MAIN_TABLE, primary, 3, scope=SCOPE_LINK))
    await world.put(Route(ip_network("172.17.0.0/16"), MAIN_TABLE, bridge, 3, scope=SCOPE_LINK))
    default = Route(
        ip_network("0.0.0.0/0"), table, eni, gateway=ip_address("10.0.0.1"), onlink=True
    )
    ours = Rule(Family.V4, 32765, table, src=subnet, iif="lo")
    suppressor = replace(
        ours,
        priority=32765,
        table=MAIN_TABLE,
        suppress_prefixlength=0,
        suppress_ifgroup=LINK_GROUP,
    )
    await run(world, AddRoute(default), AddRule(suppressor), AddRule(ours))
    get = world.kernel.route_get
    assert await get(V4, ip_address("10.0.1.9")) == RouteAnswer(table, eni)
    assert await get(V4, ip_address("172.17.0.9")) == RouteAnswer(MAIN_TABLE, bridge)


async def test_events_of_what_others_do(world: World) -> None:
    index = await link_up(world)
    await world.heard.until(lambda e: e == LinkEvent(index, "eth1", "veth"))
    await world.put(Address(index, V6, 64))
    await world.heard.until(lambda e: isinstance(e, AddressEvent) and e.index == index)
    theirs = Route(ip_network("192.0.2.0/24"), MAIN_TABLE, index, RTPROT_STATIC, scope=SCOPE_LINK)
    await world.put(theirs)
    event = await world.heard.until(
        lambda e: isinstance(e, RouteEvent) and e.protocol == RTPROT_STATIC
    )
    assert isinstance(event, RouteEvent)
    assert (event.family, event.table, event.oif) == (Family.V4, MAIN_TABLE, index)
    assert event.pid not in (0, world.kernel.port_id)
    link = await world.kernel.link(index)
    assert link is not None
    await world.set_link(replace(link, name="ens6"))
    await world.heard.until(lambda e: e == LinkEvent(index, "ens6", "veth"))
    await world.remove_link(index)
    await world.heard.until(lambda e: e == LinkEvent(index, gone=True))


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_default_routes_of_any_table_make_events(world: World, family: Family) -> None:
    """A foreign rule may lead there. What else others have in their tables is not of interest."""
    index = await with_subnets(world)
    v4 = family is Family.V4
    scope, metric = (SCOPE_LINK, 0) if v4 else (SCOPE_UNIVERSE, 1024)
    theirs = Route(ANY[family], 100, index, RTPROT_STATIC, metric=metric, scope=scope)
    narrow = replace(theirs, dst=ip_network("192.0.2.0/24" if v4 else "2001:db8:77::/48"))
    await world.put(narrow)
    await world.put(theirs)
    await world.drop(theirs)
    await world.heard.until(lambda e: isinstance(e, RouteEvent) and e.table == 100 and e.deleted)
    events = [e for e in world.heard.events if isinstance(e, RouteEvent) and e.table == 100]
    assert [(e.family, e.wide, e.error, e.deleted) for e in events] == [
        (family, True, False, False),
        (family, True, False, True),
    ]


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_routes_to_what_is_heeded_make_events(world: World, family: Family) -> None:
    """In whatever table; all others of foreign tables do not."""
    index = await with_subnets(world)
    v4 = family is Family.V4
    scope, metric = (SCOPE_LINK, 0) if v4 else (SCOPE_UNIVERSE, 1024)
    covers = ip_network("192.0.2.0/24" if v4 else "2001:db8:77::/48")
    beside = ip_network("192.0.3.0/24" if v4 else "2001:db8:78::/48")
    theirs = Route(covers, 100, index, RTPROT_STATIC, metric=metric, scope=scope)
    world.source.heed(Heeded(frozenset({covers[9]})))
    await world.put(theirs)
    await world.put(replace(theirs, dst=beside))
    await world.put(replace(theirs, dst=beside, table=MAIN_TABLE))
    await world.put(replace(theirs, table=MAIN_TABLE))
    await world.drop(theirs)
    await world.heard.until(lambda e: isinstance(e, RouteEvent) and e.table == 100 and e.deleted)
    events = [e for e in world.heard.events if isinstance(e, RouteEvent) and e.oif == index]
    others = [e for e in events if (e.family, e.protocol) == (family, RTPROT_STATIC)]
    assert [(e.table, e.heeded, e.deleted) for e in others] == [
        (100, True, False),
        (MAIN_TABLE, False, False),
        (MAIN_TABLE, True, False),
        (100, True, True),
    ]
    world.source.heed(Heeded())
    await world.put(theirs)
    await world.put(replace(theirs, dst=ANY[family]))
    await world.heard.until(lambda e: isinstance(e, RouteEvent) and e.wide)
    assert len([e for e in world.heard.events if getattr(e, "heeded", False)]) == 3


async def test_echoes_are_dropped_and_nothing_else(world: World) -> None:
    """Of others' routes and rules, and of our own addresses, there is word."""
    index = await link_up(world)
    world.source.drop_echoes(world.kernel.port_id)
    rule = Rule(Family.V6, 32765, TABLE_BASE + index, src=ip_network("2001:db8::/64"), iif="lo")
    route = Route(ip_network("2001:db8::/64"), TABLE_BASE + index, index)
    adds = AddRoute(route), AddRule(rule), AddAddress(index, ip_address("10.0.2.10"))
    await run(world, *adds, RemoveRoute(route))
    await world.drop(rule)
    await world.heard.until(lambda e: isinstance(e, RuleEvent))
    told = [e for e in world.heard.events if isinstance(e, RuleEvent | RouteEvent | AddressEvent)]
    ours = [e for e in told if e.pid == world.kernel.port_id]
    assert [type(e) for e in ours] == [AddressEvent]
    ours = [e for e in told if getattr(e, "protocol", None) == PROTOCOL]
    assert [(type(e), e.deleted) for e in ours] == [(RuleEvent, True)]


async def test_events_of_what_we_do_carry_our_port_id(world: World) -> None:
    index = await link_up(world)
    rule = Rule(Family.V6, 32765, TABLE_BASE + index, src=ip_network("2001:db8::/64"), iif="lo")
    route = Route(ip_network("2001:db8::/64"), TABLE_BASE + index, index)
    await run(world, AddRoute(route), AddRule(rule))
    pid = world.kernel.port_id
    assert pid is not None
    await world.heard.until(lambda e: e == RuleEvent(Family.V6, 32765, PROTOCOL, pid=pid))
    await world.heard.until(
        lambda e: e == RouteEvent(Family.V6, route.table, PROTOCOL, index, pid=pid)
    )


async def test_the_culprit_is_named_when_an_object_of_ours_is_deleted(world: World) -> None:
    index = await link_up(world)
    rule = Rule(Family.V4, 32765, TABLE_BASE + index, src=ip_network("10.0.0.0/24"), iif="lo")
    route = Route(ip_network("10.0.0.0/24"), TABLE_BASE + index, index, scope=SCOPE_LINK)
    await run(world, AddRoute(route), AddRule(rule))
    await world.drop(rule)
    await world.drop(route)
    await world.heard.until(lambda e: isinstance(e, RouteEvent) and e.deleted)
    deletions = [
        event
        for event in world.heard.events
        if isinstance(event, RuleEvent | RouteEvent) and event.deleted
    ]
    assert [type(event) for event in deletions] == [RuleEvent, RouteEvent]
    for event in deletions:
        assert event.culprit.startswith(f"port id {event.pid}")
        assert event.pid not in (0, world.kernel.port_id)


async def test_who_deleted_an_address_of_ours_is_named_for_ipv4(world: World) -> None:
    """IPv6's notifications carry no port id."""
    index = await link_up(world)
    await run(world, AddAddress(index, V4))
    await world.put(Address(index, ip_address("10.0.0.99"), 32))
    await world.drop(Address(index, ip_address("10.0.0.99"), 32))
    await world.drop(Address(index, V4, 32))

    event = await world.heard.until(
        lambda e: isinstance(e, AddressEvent) and e.deleted and bool(e.culprit)
    )
    assert isinstance(event, AddressEvent)
    assert event.culprit.startswith(f"port id {event.pid}")
    assert event.pid not in (0, world.kernel.port_id)
    deleted = [e for e in world.heard.events if isinstance(e, AddressEvent) and e.deleted]
    assert [e.culprit for e in deleted if e.index == index].count("") == 1, "theirs is not ours"
    assert [e.ip for e in deleted if e.index == index] == [ip_address("10.0.0.99"), V4]


async def test_a_flap_is_heard(world: World) -> None:
    index = await link_up(world)
    link = await world.kernel.link(index)
    assert link is not None
    await world.set_link(replace(link, up=False))
    await world.heard.until(lambda e: e == LinkEvent(index, "eth1", "veth", down=True))
    await world.set_link(link)
    await world.heard.until(lambda e: e == LinkEvent(index, "eth1", "veth"))


async def test_there_is_no_event_after_the_end(world: World) -> None:
    index = await link_up(world)
    await world.heard.until(lambda e: e == LinkEvent(index, "eth1", "veth"))
    before = len(world.heard.events)
    world.source.close()
    later = type(world.heard)()
    world.source.start(later.notify)
    await run(world, SetGroup(index, 5))
    await later.until(lambda e: e == LinkEvent(index, "eth1", "veth"))
    assert len(world.heard.events) == before


async def test_a_rule_s_interface_need_not_be_named_in_utf_8(world: World) -> None:
    rule = Rule(Family.V6, 32765, 77, oif="e\udcff\x1b[3")
    assert await run(world, AddRule(rule)) == [(Result.DONE, 0)]
    assert rule in await world.kernel.rules()
    assert await run(world, RemoveRule(rule)) == [(Result.DONE, 0)]
