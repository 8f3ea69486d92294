"""Main's routes through an ENI, in its own table: which are copied, and how."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from nicwatchd.core.eni_plan import Subject, plan
from nicwatchd.core.evidence import Usable
from nicwatchd.core.model import (
    COPIED_AT_MOST,
    LAST_METRIC,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_BOOT,
    RTPROT_DHCP,
    RTPROT_KERNEL,
    RTPROT_RA,
    RTPROT_STATIC,
    SCOPE_LINK,
    Family,
    Hop,
    IPNetwork,
    Plan,
    Route,
)
from nicwatchd.core.policy import Ipv6Router, Policy
from tests.core.build import (
    ETH1,
    IPV4,
    IPV6,
    NET4,
    NET6,
    TABLE,
    V4,
    V6,
    ip,
    ips,
    lease,
    net,
    nets,
    ra_default,
    static,
)

INDEX, OTHER, VPN = 3, 4, 9
USABLE = {
    V4: Usable(ips(IPV4), (), nets(NET4), ips(IPV4)),
    V6: Usable(ips(IPV6), (), nets(NET6), ips(IPV6)),
}
ADDRESSES = (lease(f"{IPV4}/24"), lease(f"{IPV6}/128"))
SOURCE = {V4: ip(IPV4), V6: ip(IPV6)}
# A network, a gateway, another, and the metric of a route without one.
NET = {V4: net("172.16.0.0/12"), V6: net("3fff::/32")}
VIA = {V4: ip("10.0.2.7"), V6: ip("fe80::7")}
VIA2 = {V4: ip("10.0.2.8"), V6: ip("2001:db8:0:2::8")}
ANY = {V4: net("0.0.0.0/0"), V6: net("::/0")}
PLAIN = {V4: 0, V6: 1024}
METRICS = b"\x08\0\x02\0\x78\x05\0\0"
BIRD, BGP, ZEBRA, RIP = 12, 186, 11, 189
BOTH = pytest.mark.parametrize("family", Family, ids=lambda family: family.label)


def subject(*routes: Route, **more: Any) -> Subject:
    return Subject(ETH1, USABLE, ADDRESSES, routes, enis=frozenset({2, INDEX, OTHER}), **more)


def made(*routes: Route, policy: Policy | None = None) -> Plan:
    return plan(subject(*routes), policy or Policy())


PLAIN_PLAN = made()


def copies(*routes: Route) -> list[Route]:
    """What the table has more for these routes of main."""
    plain, whole = PLAIN_PLAN.routes, made(*routes).routes
    assert [route for route in whole if route in plain] == list(plain), "nothing is replaced"
    return [route for route in whole if route not in plain]


def via(family: Family, dst: IPNetwork | None = None, **more: Any) -> Route:
    """A route of main through the ENI."""
    base = Route(dst or NET[family], MAIN_TABLE, INDEX, RTPROT_STATIC, VIA[family])
    return replace(base, **{"metric": PLAIN[family]} | more)


def copy(route: Route, **more: Any) -> Route:
    """The route in the ENI's table, with its first address as the source."""
    source = route.prefsrc or SOURCE[route.family]
    return replace(route, table=TABLE, protocol=PROTOCOL, prefsrc=source, **more)


# --- whose -----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "protocol",
    [0, RTPROT_BOOT, RTPROT_STATIC, RTPROT_RA, RTPROT_DHCP, BIRD, BGP, ZEBRA, RIP, 80],
)
def test_routes_are_copied_whoever_made_them(family: Family, protocol: int) -> None:
    route = via(family, protocol=protocol)
    assert copies(route) == [copy(route)]


@BOTH
def test_what_the_kernel_makes_for_addresses_is_not_copied(family: Family) -> None:
    on_link = via(family, net("10.9.0.0/24") if family is V4 else net("3fff:9::/64"))
    route = replace(on_link, gateway=None, protocol=RTPROT_KERNEL)
    assert copies(route, via(family, ANY[family], protocol=RTPROT_KERNEL)) == []


@BOTH
def test_of_a_family_without_addresses_nothing_is_copied(family: Family) -> None:
    other = V6 if family is V4 else V4
    its = replace(subject(via(family), via(other)), usable={family: USABLE[family]})
    assert {route.family for route in plan(its, Policy()).routes} == {family}


# --- defaults --------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("protocol", [RTPROT_BOOT, RTPROT_STATIC, BIRD])
@pytest.mark.parametrize("metric", [0, 100, 2000])
def test_an_operators_default_comes_before_ours(family: Family, protocol: int, metric: int) -> None:
    """An inspection appliance. Ours is the last resort in both families."""
    default = via(family, ANY[family], protocol=protocol, metric=metric or PLAIN[family])
    (its,) = copies(default)
    assert its == copy(default)
    ours = [r for r in PLAIN_PLAN.routes if r.dst == ANY[family]]
    assert [route.metric for route in ours] == [LAST_METRIC == 4_000_000_000 and LAST_METRIC]
    assert its.metric < LAST_METRIC


@BOTH
@pytest.mark.parametrize("metric", [LAST_METRIC, 2**32 - 1])
def test_however_bad_the_operators_default_is(family: Family, metric: int) -> None:
    default = via(family, ANY[family], metric=metric)
    assert copies(default) == [copy(default, metric=LAST_METRIC - 1)]
    route = via(family, metric=metric)
    assert copies(route) == [copy(route)]


@BOTH
@pytest.mark.parametrize("protocol", [RTPROT_DHCP, RTPROT_RA])
def test_a_default_that_dhcp_or_ra_brought_is_not_the_operators(
    family: Family, protocol: int
) -> None:
    assert copies(via(family, ANY[family], protocol=protocol, metric=100)) == []


# --- forms -----------------------------------------------------------------------------------


@BOTH
def test_a_copy_keeps_what_the_route_has(family: Family) -> None:
    named = ip("10.0.2.99") if family is V4 else ip("2001:db8:0:2::99")
    route = via(family, metric=7, metrics=METRICS, onlink=True, prefsrc=named)
    assert copies(route) == [copy(route)]


def test_an_on_link_route_keeps_its_scope() -> None:
    route = via(V4, gateway=None, scope=SCOPE_LINK)
    assert copies(route) == [copy(route)]


def test_an_ipv6_gateway_of_an_ipv4_route() -> None:
    route = via(V4, gateway=ip("fe80::7"))
    assert copies(route) == [copy(route)]


def test_routes_that_differ_by_tos_are_two() -> None:
    routes = via(V4), via(V4, tos=0x10, gateway=VIA2[V4])
    assert copies(*routes) == [copy(route) for route in routes]


@BOTH
def test_of_routes_with_one_key_the_first_counts(family: Family) -> None:
    """As in the kernel. They do not replace each other for ever."""
    first, second = via(family), via(family, gateway=VIA2[family])
    assert copies(first, second) == [copy(first)]


def test_our_subnet_s_route_stays() -> None:
    assert copies(static(NET4, "10.0.2.7"), static(NET6, "fe80::7", metric=1024)) == []


def test_a_link_local_destination_needs_no_global_source() -> None:
    route = via(V6, net("fe80::9/128"), gateway=None)
    (its,) = copies(route)
    assert its.prefsrc is None


@BOTH
def test_on_link_routes_come_before_what_needs_them(family: Family) -> None:
    far = via(family)
    near = via(family, net("10.9.0.0/24") if family is V4 else net("3fff:9::/64"), gateway=None)
    assert copies(far, near) == [copy(near), copy(far)]


# --- several next hops -----------------------------------------------------------------------


def several(family: Family, *hops: Hop, **more: Any) -> Route:
    return via(family, gateway=None, oif=hops[0].oif, hops=hops, **more)


@BOTH
def test_next_hops_that_are_all_on_the_link_are_copied_with_their_weights(family: Family) -> None:
    hops = Hop(INDEX, VIA[family], 3), Hop(INDEX, VIA2[family], 1, onlink=True)
    route = several(family, *hops, metrics=METRICS)
    assert copies(route) == [copy(route)]


@BOTH
@pytest.mark.parametrize("first", [True, False])
def test_of_next_hops_on_other_links_only_ours_count(family: Family, first: bool) -> None:
    away, here = Hop(OTHER, VIA2[family], 2), Hop(INDEX, VIA[family], 3, onlink=True)
    pair = (here, away) if first else (away, here)
    assert copies(several(family, *pair)) == [copy(via(family, onlink=True))]
    second = Hop(INDEX, VIA2[family])
    assert copies(several(family, *pair, second)) == [copy(several(family, here, second))]


@BOTH
def test_an_operators_default_may_have_several_next_hops(family: Family) -> None:
    hops = Hop(INDEX, VIA[family]), Hop(INDEX, VIA2[family])
    route = several(family, *hops, dst=ANY[family])
    assert copies(route) == [copy(route)]


@pytest.mark.parametrize(
    ("family", "link", "told"),
    [(V4, VPN, True), (V4, OTHER, False), (V6, VPN, False), (V6, OTHER, False)],
)
def test_a_vpn_beside_the_eni_is_told(family: Family, link: int, *, told: bool) -> None:
    """IPv4's guard sees the first next hop alone."""
    routes = [
        several(family, Hop(INDEX, VIA[family]), Hop(link, VIA2[family]), dst=dst, metric=7)
        for dst in (NET[family], ANY[family])
    ]
    notes = made(*routes).notes
    assert [note.code for note in notes] == ["split-route"] * told
    if told:
        assert f"{NET[family]} (and 1 more)" in notes[0].text


def test_a_vpn_without_the_eni_is_main_s_business() -> None:
    assert made(via(V4)).notes == ()


# --- too many --------------------------------------------------------------------------------


def many(family: Family, count: int, **more: Any) -> list[Route]:
    subnets = map(str, NET[family].subnets(new_prefix=24 if family is V4 else 48))
    return [via(family, net(dst), **more) for dst in islice(subnets, count)]


@BOTH
def test_as_many_as_can_be_are_copied(family: Family) -> None:
    routes = many(family, COPIED_AT_MOST, protocol=BIRD)
    default = via(family, ANY[family])
    assert copies(*routes, default) == [copy(route) for route in (*routes, default)]
    whole = made(*routes, default)
    assert (whole.main_decides, whole.notes) == (False, ())


@BOTH
def test_of_more_none_but_the_default_is_copied_and_it_is_told(family: Family) -> None:
    other = V6 if family is V4 else V4
    default = via(family, ANY[family])
    routes = [*many(family, COPIED_AT_MOST + 1, protocol=BIRD), default, via(other)]
    assert set(copies(*routes)) == {copy(default), copy(via(other))}
    whole = made(*routes)
    assert whole.main_decides
    assert subject(*routes).main_decides
    (note,) = whole.notes
    assert note.code == "routes-not-copied"
    assert f"more than 256 {family.label} routes" in note.text


def test_what_is_not_to_be_copied_does_not_count() -> None:
    routes = many(V4, COPIED_AT_MOST + 1, protocol=RTPROT_KERNEL, gateway=None)
    assert copies(*routes, via(V4, net("198.18.0.0/15"))) == [copy(via(V4, net("198.18.0.0/15")))]


# --- routers ---------------------------------------------------------------------------------

RA = Policy(ipv6_router=Ipv6Router.RA)


def defaults(plan: Plan, family: Family) -> list[Route]:
    return [route for route in plan.routes if route.dst == ANY[family]]


def test_without_a_learned_router_the_plan_is_unfinished() -> None:
    its = made(policy=RA)
    assert defaults(its, V6) == []
    assert [reason.code for reason in its.unfinished] == ["no-router"]
    assert "IPv6" in its.unfinished[0].text
    assert made(ra_default("fe80::7"), policy=RA).unfinished == ()
    assert made().unfinished == ()


def test_an_operators_default_will_do() -> None:
    default = via(V6, ANY[V6])
    its = made(default, policy=RA)
    assert (defaults(its, V6), its.unfinished) == ([copy(default)], ())


def test_while_the_link_is_down_no_router_is_missed() -> None:
    down = replace(subject(), link=replace(ETH1, up=False))
    assert plan(down, RA).unfinished == ()


@pytest.mark.parametrize("link", [INDEX, OTHER])
def test_a_learned_default_with_several_next_hops(link: int) -> None:
    hops = Hop(INDEX, VIA[V6], 2), Hop(link, ip("fe80::8"))
    learned = replace(several(V6, *hops, dst=ANY[V6]), protocol=RTPROT_RA)
    (default,) = defaults(made(learned, policy=RA), V6)
    ours = Route(ANY[V6], TABLE, INDEX, prefsrc=ip(IPV6), metric=LAST_METRIC)
    if link == INDEX:
        assert default == replace(ours, hops=hops)
    else:
        assert default == replace(ours, gateway=VIA[V6])


@pytest.mark.parametrize(
    ("gateway", "expected"),
    [("192.168.50.254", "192.168.50.254"), ("10.0.2.99", "192.168.50.1"), (None, "192.168.50.1")],
)
def test_the_router_of_a_lease_that_imds_does_not_know(gateway: str | None, expected: str) -> None:
    """DHCP's own, where it is on the lease's subnet."""
    here = Usable(ips("192.168.50.23"), (), nets("192.168.50.0/24"))
    said = static("0.0.0.0/0", gateway, protocol=RTPROT_DHCP, metric=100)
    its = Subject(ETH1, {V4: here}, (lease("192.168.50.23/24"),), (said,))
    (default,) = defaults(plan(its, Policy()), V4)
    assert (default.gateway, default.onlink) == (ip(expected), True)
    known = replace(its, usable={V4: replace(here, listed=here.addresses)})
    (default,) = defaults(plan(known, Policy()), V4)
    assert default.gateway == ip("192.168.50.1")
