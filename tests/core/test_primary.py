"""The primary beside secondary ENIs: protected, and the leader of the host's own traffic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest

from nicwatchd.core.container_networks import NODE_PORT_MARK
from nicwatchd.core.egress import Leader, egress
from nicwatchd.core.eni_routes import ANY
from nicwatchd.core.lead import Lead
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import (
    LAST_METRIC,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_DHCP,
    RTPROT_RA,
    Family,
    Link,
    Numbers,
    Route,
    Rule,
)
from nicwatchd.core.news import EgressMoved
from nicwatchd.core.policy import Coexist, Policy, PrimaryMode, Section
from tests.core.build import (
    ERROR,
    ETH1,
    MAC,
    PRIMARY,
    V4,
    V6,
    eni,
    family,
    ip,
    lease,
    net,
    on_link,
    permanent,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import CALM, FULL, quiet, selectors

BOTH = pytest.mark.parametrize("which", [V4, V6], ids=lambda which: which.label)
OF: Final = {V4: "10.0.1.10", V6: "2001:db8:0:1::10"}
ROUTER: Final = {V4: "10.0.1.1", V6: "fe80:ec2::1"}
THEIRS: Final = {V4: "10.0.2.1", V6: "fe80:ec2::1"}
WG: Final = Link(9, "", "wg0", up=True, kind="wireguard", driver="wireguard")
LISTED: Final = eni(
    family("10.0.1.10 10.0.1.77", cidrs="10.0.1.0/24"),
    family("2001:db8:0:1::10 2001:db8:0:1::77", cidrs="2001:db8:0:1::/64"),
    mac=Value(PRIMARY),
)


def default(which: Family, index: int, metric: int = 1024, **more: Any) -> Route:
    """A default route of main as DHCP or an RA makes it."""
    said = {"protocol": RTPROT_DHCP if which is V4 else RTPROT_RA, **more}
    gateway = ip(said.pop("gateway", (ROUTER if index == 2 else THEIRS)[which]))
    onlink = which is V4
    return Route(
        ANY[which], MAIN_TABLE, index, metric=metric, gateway=gateway, onlink=onlink, **said
    )


def host(policy: Policy = CALM, *, led: bool = True) -> FastMotion:
    """A host with its primary up and running. `led`: by it, main's default routes lead out."""
    motion = FastMotion(policy)
    motion.kernel.put(
        lease("10.0.1.10/24", index=2),
        lease("2001:db8:0:1::10/128", index=2),
        on_link("2001:db8:0:1::/64", index=2),
    )
    if led:
        motion.kernel.put(default(V4, 2), default(V6, 2))
    motion.imds(PRIMARY, 0.0, LISTED)
    motion.run(60.0)
    return motion


def with_secondary(policy: Policy = CALM, *, led: bool = True) -> FastMotion:
    motion = host(policy, led=led)
    motion.kernel.set_link(ETH1)
    motion.imds(MAC, 60.0, FULL)
    motion.run(120.0)
    return motion


def own(motion: FastMotion, which: Family, *, main: bool = False) -> list[Route]:
    """Our routes by the primary: of its table, or of main."""
    table = MAIN_TABLE if main else Numbers().table_of(2)
    return [r for r in motion.kernel.own_routes if r.table == table and r.family is which]


def lead(motion: FastMotion, which: Family) -> list[tuple[int, int]]:
    """Our default routes of main: link and metric."""
    routes = (r for r in motion.kernel.own_routes if r.table == MAIN_TABLE)
    return [(r.oif, r.metric) for r in routes if r.family is which]


def codes(motion: FastMotion, index: int = 2) -> set[str]:
    return {note.code for note in motion.host.interfaces[index].view().notes}


# --- protection ------------------------------------------------------------------------------


def test_alone_it_has_nothing_of_ours() -> None:
    motion = host()
    assert not motion.kernel.own_routes
    assert not motion.kernel.own_rules


@BOTH
def test_it_comes_with_the_first_secondary_and_goes_with_the_last(which: Family) -> None:
    motion = with_secondary()
    assert {f"{OF[which]}/{32 if which is V4 else 128}", "eth0"} <= selectors(motion, 2, which)
    motion.kernel.unplug(3)
    motion.run(180.0)
    assert not motion.kernel.own_routes
    assert not motion.kernel.own_rules


def test_its_rules_come_before_the_first_secondarys() -> None:
    motion = host()
    since = len(motion.written)
    motion.kernel.set_link(ETH1)
    motion.imds(MAC, 60.0, FULL)
    motion.run(120.0)
    tables = [
        o.rule.table
        for _, o in motion.written[since:]
        if hasattr(o, "rule") and o.rule.table != MAIN_TABLE
    ]
    of_primary, of_eth1 = Numbers().table_of(2), Numbers().table_of(3)
    assert tables.index(of_primary) < tables.index(of_eth1)


def test_left_by_the_settings() -> None:
    motion = with_secondary(replace(CALM, primary=PrimaryMode.LEAVE))
    assert not selectors(motion, 2)
    motion.turn.set_policy(CALM, motion.now)
    motion.run(130.0)
    assert "eth0" in selectors(motion, 2)
    motion.turn.set_policy(replace(CALM, primary=PrimaryMode.LEAVE), motion.now)
    motion.run(140.0)
    assert not selectors(motion, 2)


@BOTH
def test_its_table_mirrors_main_and_has_the_vpc_router_as_a_last_resort(which: Family) -> None:
    motion = with_secondary()
    ways = {(str(r.gateway), r.metric) for r in own(motion, which) if not r.dst.prefixlen}
    assert ways == {(ROUTER[which], 1024), (ROUTER[which], LAST_METRIC)}
    motion.kernel.drop(default(which, 2))
    motion.kernel.put(default(which, 2, gateway="10.0.1.9" if which is V4 else "fe80::9"))
    motion.run(130.0)
    ways = {(str(r.gateway), r.metric) for r in own(motion, which) if not r.dst.prefixlen}
    assert ("10.0.1.9" if which is V4 else "fe80::9", 1024) in ways


@BOTH
def test_secondary_addresses_are_added_and_the_first_one_is_its_managers(which: Family) -> None:
    motion = with_secondary()
    mine = {str(a.ip) for a in motion.kernel.addresses_of(2) if a.protocol == PROTOCOL}
    assert mine == {"10.0.1.77", "2001:db8:0:1::77"}
    motion.kernel.drop(*(a for a in motion.kernel.addresses_of(2) if str(a.ip) == OF[which]))
    motion.run(130.0)
    assert OF[which] not in {str(a.ip) for a in motion.kernel.addresses_of(2)}


def test_without_its_first_address_none_is_added() -> None:
    """An IPv4 address that comes first is the source of all that the host sends."""
    motion = FastMotion(CALM)
    motion.imds(PRIMARY, 0.0, LISTED)
    motion.kernel.set_link(ETH1)
    motion.imds(MAC, 0.0, FULL)
    motion.run(60.0)
    assert motion.kernel.addresses_of(2) == ()


def test_a_pods_address_is_not_added() -> None:
    """On a host of a container network with an ENI that is ours by force."""
    motion = host(replace(CALM, coexist=Coexist.FORCE))
    motion.kernel.set_link(ETH1)
    motion.kernel.put(Rule(V4, 1024, MAIN_TABLE, 0, fwmark=NODE_PORT_MARK, fwmask=0x80))
    motion.imds(MAC, 60.0, FULL)
    motion.run(120.0)
    assert selectors(motion, 2)
    assert {a.ip for a in motion.kernel.addresses_of(2)} == {ip(OF[V4]), ip(OF[V6])}


@BOTH
def test_beside_pods_its_first_address_is_the_source_whatever_else_is_on_its_link(
    which: Family,
) -> None:
    """The kernel lists the latest IPv6 address first."""
    motion = host(replace(CALM, coexist=Coexist.FORCE))
    first = motion.kernel.addresses_of(2)
    motion.kernel.drop(*first)
    late = "10.0.1.99/32" if which is V4 else "2001:db8:0:1::99/128"
    motion.kernel.put(permanent(late, 2), *first)
    motion.kernel.set_link(ETH1)
    motion.kernel.put(Rule(V4, 1024, MAIN_TABLE, 0, fwmark=NODE_PORT_MARK, fwmask=0x80))
    motion.imds(MAC, 60.0, FULL)
    motion.run(120.0)
    sources = {route.prefsrc for route in own(motion, which) if not route.dst.is_link_local}
    assert sources == {ip(OF[which])}


@BOTH
def test_where_another_link_led_before_it_stands_aside(which: Family) -> None:
    motion = host(led=False)
    motion.kernel.set_link(WG)
    motion.kernel.put(Route(ANY[which], MAIN_TABLE, 9, protocol=3, metric=50))
    motion.run(70.0)
    motion.kernel.set_link(ETH1)
    motion.imds(MAC, 70.0, FULL)
    motion.run(130.0)
    other = V6 if which is V4 else V4
    assert not selectors(motion, 2, which)
    assert selectors(motion, 2, other)
    assert "primary-left" in codes(motion)
    assert not motion.kernel.own_routes or not lead(motion, which)


@BOTH
@pytest.mark.parametrize("ends", [False, True], ids=["it stays", "it ended"])
def test_another_link_that_led_before_is_a_choice_while_it_has_a_default(
    which: Family, *, ends: bool
) -> None:
    motion = host()
    motion.kernel.set_link(WG)
    vpn = Route(ANY[which], MAIN_TABLE, 9, protocol=3, metric=500)
    motion.kernel.put(vpn)
    motion.run(70.0)
    motion.kernel.set_link(ETH1)
    motion.imds(MAC, 70.0, FULL)
    motion.run(130.0)
    assert not selectors(motion, 2, which)
    if ends:
        motion.kernel.drop(vpn)
    motion.kernel.put(default(which, 3, 100))
    motion.run(140.0)
    assert lead(motion, which) == ([(2, 99)] if ends else [])
    assert bool(selectors(motion, 2, which)) is ends
    assert ("egress-elsewhere" in codes(motion)) is not ends


@BOTH
def test_a_default_that_goes_elsewhere_later_ends_nothing(which: Family) -> None:
    """Also across a restart: what stands was decided before."""
    motion = with_secondary()
    motion.kernel.drop(default(which, 2))
    motion.kernel.set_link(WG)
    motion.kernel.put(Route(ANY[which], MAIN_TABLE, 9, protocol=3, metric=50))
    motion.run(130.0)
    assert selectors(motion, 2, which)
    again = FastMotion(CALM, kernel=motion.kernel, start=130.0)
    again.imds(PRIMARY, 0.0, LISTED)
    again.imds(MAC, 0.0, FULL)
    again.run(200.0)
    assert selectors(again, 2, which)


@BOTH
def test_in_a_bridge_nothing_of_it_is_protected_and_its_default_leads(which: Family) -> None:
    """The bridge has its addresses and routes: by the port itself, nothing would come back."""
    motion = with_secondary()
    assert selectors(motion, 2, which)
    length = 24 if which is V4 else 128
    motion.kernel.drop(lease(f"{OF[which]}/{length}", index=2), default(which, 2))
    motion.kernel.set_link(replace(motion.kernel.links[2], master=8))
    motion.kernel.set_link(Link(8, PRIMARY, "br0", up=True, kind="bridge", driver="bridge"))
    motion.kernel.put(permanent(f"{OF[which]}/{length}", 8), replace(default(which, 2), oif=8))
    motion.run(130.0)
    assert not selectors(motion, 2)
    assert not own(motion, which)
    assert codes(motion) == {"primary-port"}
    motion.kernel.put(default(which, 3, 100))
    motion.run(140.0)
    assert lead(motion, which) == [(8, 99)]
    assert quiet(motion)
    # A daemon that comes again does not know the primary at first.
    again = FastMotion(CALM, kernel=motion.kernel, start=motion.now)
    again.primary = ERROR
    again.imds(PRIMARY, 0.0, LISTED)
    again.imds(MAC, 0.0, FULL)
    again.run(again.now + 300.0)
    again.primary = Value(PRIMARY)
    again.run(again.now + 300.0)
    assert again.written == []
    again.turn.release(None, again.now)
    again.run(again.now + 10.0)
    assert lead(again, which) == []


def test_a_restart_writes_nothing() -> None:
    motion = with_secondary()
    motion.kernel.put(default(V4, 3, 1000), default(V6, 3, 1000))
    motion.run(130.0)
    again = FastMotion(CALM, kernel=motion.kernel, start=130.0)
    again.imds(PRIMARY, 0.0, LISTED)
    again.imds(MAC, 0.0, FULL)
    again.run(300.0)
    assert again.written == []


CNI_RULE: Final = Rule(V4, 1024, MAIN_TABLE, 0, fwmark=NODE_PORT_MARK, fwmask=0x80)


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(replace(CALM, exclude=("eth0",)), id="its name is excluded"),
        pytest.param(
            replace(CALM, sections=(Section(mac=MAC, manage=True),)), id="a container network"
        ),
    ],
)
def test_until_imds_tells_which_is_the_primary_nothing_of_it_is_anothers(policy: Policy) -> None:
    """What is said of ENIs that are left alone is not said of the primary."""
    motion = host(policy)
    motion.kernel.set_link(ETH1)
    if policy.sections:
        motion.kernel.put(CNI_RULE)
    motion.imds(MAC, 60.0, FULL)
    motion.run(120.0)
    assert selectors(motion, 2)
    again = FastMotion(policy, kernel=motion.kernel, start=120.0)
    again.primary = ERROR
    again.imds(PRIMARY, 0.0, LISTED)
    again.imds(MAC, 0.0, FULL)
    again.run(500.0)
    again.primary = Value(PRIMARY)
    again.run(800.0)
    assert again.written == []


# --- egress ----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(("metric", "ours"), [(2048, []), (1000, [(2, 999)]), (100, [(2, 99)])])
def test_main_has_a_copy_while_it_is_needed(
    which: Family, metric: int, ours: list[tuple[int, int]]
) -> None:
    motion = with_secondary()
    assert lead(motion, which) == []
    theirs = default(which, 3, metric)
    motion.kernel.put(theirs)
    motion.run(130.0)
    assert lead(motion, which) == ours
    assert quiet(motion)
    motion.kernel.drop(theirs)
    motion.run(motion.now + 10.0)
    assert lead(motion, which) == []


@BOTH
def test_what_a_copy_of_main_prevents_is_not_told(which: Family) -> None:
    motion = with_secondary()
    motion.news.clear()
    motion.kernel.put(default(which, 3, 10))
    motion.run(130.0)
    assert lead(motion, which) == [(2, 9)]
    assert [each for each in motion.news if isinstance(each, EgressMoved)] == []


@BOTH
def test_a_tie_is_not_left_to_chance(which: Family) -> None:
    """IPv6 uses both then, and IPv4 the one that came first."""
    lead = Lead()
    lead.look([default(which, 2)], {2}, {2})
    for tied in ([default(which, 2), default(which, 3)], [default(which, 3), default(which, 2)]):
        lead.look(tied, {2}, {2, 3})
        link = Link(2, PRIMARY, "eth0", up=True)
        leader = Leader(link, frozenset({2}), named=False, routers={}, enis={2, 3})
        (copy,) = egress(leader, lead, {}).routes
        assert (copy.oif, copy.metric, copy.protocol) == (2, 1023, PROTOCOL)
        assert copy.gateway == ip(ROUTER[which])


@BOTH
def test_the_primarys_default_that_was_replaced_is_put_beside(which: Family) -> None:
    motion = with_secondary()
    motion.kernel.drop(default(which, 2))
    motion.kernel.put(default(which, 3))
    motion.run(130.0)
    assert lead(motion, which) == [(2, 1023)]
    (copy,) = own(motion, which, main=True)
    assert copy.gateway == ip(ROUTER[which])


@BOTH
@pytest.mark.parametrize("ends", ["the route", "the ENI"])
def test_the_last_way_out_is_not_taken_away(which: Family, ends: str) -> None:
    """What had replaced the primary's default goes; the primary's comes again, later."""
    motion = with_secondary()
    motion.kernel.drop(default(which, 2))
    motion.kernel.put(default(which, 3))
    motion.run(130.0)
    if ends == "the route":
        motion.kernel.drop(default(which, 3))
    else:
        motion.kernel.unplug(3)
    motion.run(140.0)
    assert lead(motion, which) == [(2, 1023)]
    assert quiet(motion)
    again = FastMotion(CALM, kernel=motion.kernel, start=motion.now)
    again.imds(PRIMARY, 0.0, LISTED)
    again.imds(MAC, 0.0, FULL)
    again.run(again.now + 60.0)
    assert again.written == []
    again.kernel.put(default(which, 2))
    again.run(again.now + 10.0)
    assert lead(again, which) == []


@BOTH
def test_a_leader_that_the_settings_name(which: Family) -> None:
    for name in ("eth1", MAC.upper(), "eni-1"):
        motion = with_secondary(replace(CALM, egress=name))
        if name == "eni-1":  # there is none
            assert lead(motion, which) == []
            assert "egress-absent" in codes(motion)
            continue
        assert lead(motion, which) == [(3, 1023)]
        motion.turn.set_policy(CALM, motion.now)
        motion.run(130.0)
        assert lead(motion, which) == []


@BOTH
def test_left_to_main(which: Family) -> None:
    motion = with_secondary(replace(CALM, egress="leave"))
    motion.kernel.put(default(which, 3, 100))
    motion.run(130.0)
    assert lead(motion, which) == []


@BOTH
@pytest.mark.parametrize("why", ["vpn", "metric", "before"])
def test_an_operators_choice_is_left_and_told(which: Family, why: str) -> None:
    motion = host()
    static = {"protocol": 3, "gateway": THEIRS[which]}
    if why == "vpn":
        motion.kernel.set_link(WG)
        choice = Route(ANY[which], MAIN_TABLE, 9, protocol=3, metric=50)
    elif why == "metric":
        choice = default(which, 3, 0 if which is V4 else 1, **static)
    else:
        choice = default(which, 3, 100, **static)
    motion.kernel.set_link(ETH1)
    if why == "before":
        motion.kernel.put(choice)
        motion = FastMotion(CALM, kernel=motion.kernel, start=60.0)
        motion.imds(PRIMARY, 0.0, LISTED)
    motion.imds(MAC, 60.0, FULL)
    motion.run(120.0)
    if why != "before":
        motion.kernel.put(choice)
        motion.run(130.0)
    assert lead(motion, which) == []
    view = motion.host.interfaces[2].view()
    (note,) = (note for note in view.notes if note.code == "egress-elsewhere")
    # By the metric alone it is nobody's choice for sure: `doctor` names the route.
    assert bool(note.remedy) is (why == "metric")


@BOTH
def test_a_lease_that_was_there_before_us_is_nobodys_choice(which: Family) -> None:
    motion = host()
    motion.kernel.set_link(ETH1)
    motion.kernel.put(default(which, 3, 100))
    again = FastMotion(CALM, kernel=motion.kernel, start=60.0)
    again.imds(PRIMARY, 0.0, LISTED)
    again.imds(MAC, 60.0, FULL)
    again.run(120.0)
    assert lead(again, which) == [(2, 99)]
    assert selectors(again, 2, which)


@BOTH
def test_a_primary_without_a_carrier_leads_nothing(which: Family) -> None:
    motion = with_secondary()
    motion.kernel.put(default(which, 3, 100))
    motion.run(130.0)
    motion.kernel.set_link(replace(motion.kernel.links[2], running=False))
    motion.run(140.0)
    assert lead(motion, which) == []


@BOTH
def test_a_copy_that_others_delete_comes_back(which: Family) -> None:
    motion = with_secondary()
    motion.kernel.put(default(which, 3, 100))
    motion.run(130.0)
    motion.kernel.drop(*own(motion, which, main=True))
    motion.run(132.0)
    assert lead(motion, which) == [(2, 99)]


def test_a_route_of_ours_is_no_fact() -> None:
    """The copy in main is not copied, and no reason for another."""
    motion = with_secondary()
    motion.kernel.put(default(V6, 3, 100))
    motion.run(130.0)
    assert all(r.metric != 99 for r in own(motion, V6))
    assert all(r.protocol != PROTOCOL for r in motion.host.interfaces[2].facts.routes)


def test_networks_of_the_primary_are_in_its_table() -> None:
    motion = with_secondary()
    subnets = {str(r.dst) for which in Family for r in own(motion, which)}
    assert {"10.0.1.0/24", "2001:db8:0:1::/64"} <= subnets
    motion.kernel.put(Route(net("10.9.0.0/16"), MAIN_TABLE, 2, protocol=3, gateway=ip("10.0.1.9")))
    motion.run(130.0)
    assert net("10.9.0.0/16") in {r.dst for r in own(motion, V4)}
