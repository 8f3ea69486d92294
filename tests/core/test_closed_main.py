"""An error route of main that is for all destinations ends no look-up of what an ENI sends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from nicwatchd.core.closed_main import NETWORKS_AT_MOST, Closed, ClosedMain
from nicwatchd.core.model import (
    BLACKHOLE,
    ERRORS,
    LINK_GROUP,
    MAIN_TABLE,
    PROHIBIT,
    THROW,
    UNREACHABLE,
    Family,
    Hop,
    IPNetwork,
    Link,
    Numbers,
    Route,
    Rule,
)
from nicwatchd.core.picture import CROWDED
from nicwatchd.core.port import AddressEvent, Event, LinkEvent, NexthopEvent, RouteEvent
from tests.core.build import V4, V6, ip, net, static
from tests.core.fast_motion import FastMotion
from tests.core.scenes import applied, quiet

BRIDGE: Final = Link(9, "02:42:00:00:00:01", "br0", up=True, kind="bridge", driver="bridge")
ETH: Final = 3
ANY: Final = {V4: "0.0.0.0/0", V6: "::/0"}
NETS: Final = {V4: "172.17.0.0/16", V6: "fd17::/64"}
BOTH = pytest.mark.parametrize("family", [V4, V6], ids=lambda family: family.label)


def error(
    dst: str = "0.0.0.0/0", kind: int = UNREACHABLE, metric: int = 4000, **more: Any
) -> Route:
    v6 = net(dst).version == 6
    return Route(net(dst), MAIN_TABLE, int(v6), 3, metric=metric, kind=kind, **more)


def real(dst: str = "0.0.0.0/0", index: int = 2, metric: int = 100, **more: Any) -> Route:
    return static(dst, index=index, metric=metric, **more)


def closed(*routes: Route, index: int = ETH, hidden: frozenset[int] = frozenset({2, ETH})) -> Any:
    family = routes[0].family
    return ClosedMain({family: routes}, hidden).of(index).get(family)


def networks(*routes: Route, prefixes: frozenset[IPNetwork] = frozenset()) -> list[str]:
    family = routes[0].family
    main = ClosedMain({family: (error(ANY[family]), *routes)}, frozenset({2, ETH}), prefixes)
    its = main.of(ETH)[family]
    return [str(network) for network in (*its.networks, *its.left_out)]


# --- is it closed? ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("dst", ["0.0.0.0/0", "::/0", "128.0.0.0/1", "8000::/1", "2000::/3"])
def test_an_error_for_all_destinations_closes_main(dst: str, kind: int) -> None:
    assert closed(error(dst, kind)) == Closed(error(dst, kind))


@pytest.mark.parametrize(
    ("routes", "by_device"),
    [
        pytest.param([error(), real(index=ETH)], None, id="behind a default through the ENI"),
        pytest.param([error(), real(index=2)], True, id="behind one through another link"),
        pytest.param([error(), real(index=9)], True, id="... a VPN's"),
        pytest.param([error("::/0"), real("::/0", index=2)], None, id="... in IPv6"),
        pytest.param([error(), real(metric=5000)], False, id="before the default"),
        pytest.param([error(), real(metric=4000)], False, id="beside it"),
        pytest.param([error(), error(kind=THROW, metric=1)], None, id="behind a throw route"),
        pytest.param([error(), error(kind=THROW, metric=9000)], False, id="before one"),
        pytest.param([error(), real(tos=16)], False, id="a default for some service only"),
        pytest.param([error(tos=16, metric=1), real()], False, id="an error for some service"),
        pytest.param([error("128.0.0.0/1"), real()], False, id="the default is no half"),
        pytest.param([error("128.0.0.0/1"), real("128.0.0.0/1", 9)], True, id="a half is"),
        pytest.param([error("10.0.0.0/8"), real()], None, id="for some destinations"),
        pytest.param([real()], None, id="none"),
        pytest.param(
            [error(), real(hops=(Hop(2, ip("10.0.1.1")), Hop(ETH, ip("10.0.2.1"))))],
            None,
            id="behind a default with several next hops",
        ),
        pytest.param(
            [error(kind=BLACKHOLE, metric=1), error(kind=PROHIBIT), real()], False, id="several"
        ),
    ],
)
def test_what_a_look_up_meets(routes: list[Route], by_device: bool | None) -> None:
    its = closed(*routes)
    assert (its and its.by_device) is by_device


def test_a_look_up_bound_to_the_link_passes_over_other_links_routes() -> None:
    its = closed(error(), real(index=2))
    guard = Rule(V4, 32765, MAIN_TABLE, suppress_prefixlength=0, oif="eth1")
    assert its.ends(guard)
    assert not its.ends(replace(guard, oif=None, src=net("10.0.2.10/32")))
    assert list(its.notes(V4)) == []


# --- what else main has -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "kept"),
    [
        pytest.param(real(NETS[V4], 9), True, id="a container's network"),
        pytest.param(real("fd17::/64", 9), True, id="... in IPv6"),
        pytest.param(real("192.168.0.0/16", 9, via="172.17.0.3"), True, id="behind it"),
        pytest.param(error("10.0.0.0/8"), True, id="an operator's word about some destinations"),
        pytest.param(error("10.0.0.0/8", THROW), False, id="one that says nothing"),
        pytest.param(real("10.0.1.0/24", 2), False, id="of an ENI"),
        pytest.param(real("0.0.0.0/0", 9, metric=9000), False, id="a default"),
        pytest.param(real("128.0.0.0/1", 9), True, id="a half of it"),
        pytest.param(real("fe80::/64", 9), False, id="link-local"),
        pytest.param(real("169.254.1.1/32", 9), False, id="... in IPv4"),
        pytest.param(real("::1/128", 1), False, id="loopback"),
        pytest.param(real("ff00::/8", 9), False, id="multicast"),
        pytest.param(
            real("10.9.0.0/16", 2, hops=(Hop(2, ip("10.0.1.1")), Hop(9, ip("10.8.0.1")))),
            True,
            id="by an ENI and a VPN",
        ),
    ],
)
def test_what_a_guard_is_for(route: Route, kept: bool) -> None:
    assert networks(route) == [str(route.dst)] * kept


def test_parts_of_a_network_and_of_a_prefix_are_one() -> None:
    prefix = net("10.0.2.64/28")
    parts = [real(f"10.0.2.{n}/32", 9 + n) for n in range(65, 79)]
    inner = [real("172.17.0.0/16", 8), real("172.17.3.0/24", 9)]
    assert networks(*parts, *inner, prefixes=frozenset({prefix})) == [
        "172.17.0.0/16",
        "10.0.2.64/28",
    ]


def test_there_are_not_too_many_and_the_rest_is_told() -> None:
    main = [error(), *(real(f"172.16.{2 * n}.0/24", 9) for n in range(NETWORKS_AT_MOST + 2))]
    its = closed(*main)
    assert (len(its.networks), len(its.left_out)) == (NETWORKS_AT_MOST, 2)
    told = {note.code: note.text for note in its.notes(V4)}
    assert told.keys() == {"main-closed", "networks-left-out"}
    assert "172.16.32.0/24 and 1 more" in told["networks-left-out"]
    assert "`unreachable default` for IPv4" in told["main-closed"]
    assert [note.code for note in closed(*main[:3]).notes(V4)] == ["main-closed"]


# --- on a host --------------------------------------------------------------------------------


def bridged() -> FastMotion:
    """eth1 is applied, and there are containers behind a bridge."""
    motion = applied()
    motion.kernel.set_link(BRIDGE)
    for family in Family:
        motion.kernel.put(real(NETS[family], 9, metric=1024))
    look(motion)
    return motion


def look(motion: FastMotion) -> None:
    motion.turn.reconcile(None, motion.now)
    motion.run(motion.now + 5)


def guards(motion: FastMotion, family: Family) -> list[str]:
    """To where the guards of the ENI's rules lead: `all`, or a network."""
    own = (r for r in motion.kernel.own_rules if r.family is family and r.table == MAIN_TABLE)
    return sorted({str(rule.dst or "all") for rule in own})


@BOTH
def test_it_comes_and_goes_without_a_gap(family: Family) -> None:
    motion = bridged()
    assert guards(motion, family) == ["all"]
    bad = error(ANY[family], metric=50)
    motion.kernel.put(bad)
    look(motion)
    assert guards(motion, family) == [NETS[family]]
    other = V4 if family is V6 else V6
    assert guards(motion, other) == ["all"]
    assert {note.code for note in motion.host.interfaces[ETH].view().notes} >= {"main-closed"}
    assert quiet(motion)
    motion.kernel.drop(bad)
    look(motion)
    assert guards(motion, family) == ["all"]
    assert quiet(motion)


@BOTH
def test_networks_follow_main(family: Family) -> None:
    motion = bridged()
    motion.kernel.put(error(ANY[family], metric=50))
    more = real({V4: "10.8.0.0/24", V6: "fd08::/64"}[family], 9, metric=1024)
    motion.kernel.put(more)
    look(motion)
    assert guards(motion, family) == sorted([NETS[family], str(more.dst)])
    motion.kernel.drop(more)
    look(motion)
    assert guards(motion, family) == [NETS[family]]


@BOTH
def test_another_group_meanwhile(family: Family) -> None:
    motion = bridged()
    motion.kernel.put(error(ANY[family], metric=50))
    look(motion)
    group = LINK_GROUP + 1
    numbers = replace(Numbers(), group=group)
    motion.turn.set_policy(replace(motion.host.policy, numbers=numbers), motion.now)
    motion.run(motion.now + 5)
    assert {rule.suppress_ifgroup for rule in motion.kernel.own_rules} == {None, group}
    assert guards(motion, family) == [NETS[family]]
    assert motion.kernel.links[ETH].group == group
    assert quiet(motion)


@BOTH
def test_a_release_leaves_nothing(family: Family) -> None:
    motion = bridged()
    motion.kernel.put(error(ANY[family], metric=50))
    look(motion)
    motion.turn.release(None, motion.now)
    motion.run(motion.now + 5)
    assert motion.kernel.own_rules == ()


# --- events -----------------------------------------------------------------------------------

EVENT: Final = RouteEvent(V4, MAIN_TABLE, 3, 9)


@pytest.mark.parametrize(
    ("event", "open_too"),
    [
        pytest.param(replace(EVENT, oif=0, wide=True, error=True), True, id="an error route"),
        pytest.param(replace(EVENT, wide=True), False, id="a default"),
        pytest.param(replace(EVENT, oif=ETH, wide=True), False, id="... through an ENI"),
        pytest.param(EVENT, False, id="a route of another link"),
        pytest.param(replace(EVENT, oif=0, hops=(ETH, 9)), False, id="... and an ENI"),
        pytest.param(NexthopEvent(9), False, id="a next-hop object"),
        pytest.param(LinkEvent(9, gone=True), False, id="a link goes with its routes"),
        pytest.param(AddressEvent(9, deleted=True), False, id="the last address, perhaps"),
    ],
)
def test_what_makes_it_stale(event: Event, open_too: bool) -> None:
    motion = applied()
    for is_closed in (False, True):
        if is_closed:
            motion.kernel.put(error())
            look(motion)
        stale = motion.turn.picture.stale
        stale.closed = False
        delay = motion.turn.picture.take_event(event, motion.now, by_us=False)
        assert stale.closed == (is_closed or open_too)
        assert delay is not None or not stale.closed


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(replace(EVENT, oif=ETH), id="a route through an ENI"),
        pytest.param(replace(EVENT, family=V6), id="of the other family"),
        pytest.param(replace(EVENT, table=77), id="of another table"),
        pytest.param(LinkEvent(9, "br0", "bridge"), id="a link changed"),
        pytest.param(AddressEvent(9), id="an address came"),
    ],
)
def test_what_does_not(event: Event) -> None:
    motion = applied()
    motion.kernel.put(error())
    look(motion)
    stale = motion.turn.picture.stale
    stale.closed = False
    motion.turn.picture.take_event(event, motion.now, by_us=False)
    assert not stale.closed


def test_a_routing_daemon_has_no_turn_for_each_route() -> None:
    motion = applied()
    motion.kernel.put(error())
    look(motion)
    motion.host.closed_main = {V4: (error(),) * 300}
    assert motion.turn.picture.take_event(EVENT, motion.now, by_us=False) == CROWDED
