"""Who decides on our packets, by one question for each rule."""

from dataclasses import replace
from errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH, ENOBUFS, ENODEV

import pytest

from nicwatchd.core.model import MAIN_TABLE, Address, Plan, Route, Rule
from nicwatchd.core.port import RouteAnswer
from nicwatchd.core.shadow import FAR, Probe, probes, shadow
from tests.core.build import IPV4, IPV6, MAC, NET4, NET6, TABLE, V4, V6, ip, lease, net, permanent
from tests.core.fast_motion import FastMotion
from tests.core.scenes import CALM, FULL, applied

GUARD = Rule(V6, 32765, MAIN_TABLE, oif="eth1", suppress_prefixlength=0, suppress_ifgroup=3778)
OIF6 = Rule(V6, 32765, TABLE, oif="eth1")
SUBNET6 = Rule(V6, 32765, TABLE, iif="lo", src=net(NET6))
SUBNET4 = Rule(V4, 32765, TABLE, iif="lo", src=net(NET4))
ROUTES = (Route(net(NET4), TABLE, 3), Route(net(NET6), TABLE, 3))
PLAN = Plan(3, routes=ROUTES, rules=(GUARD, OIF6, SUBNET4, SUBNET6))
LINK_LOCAL = permanent("fe80::3/64")
FAR4, FAR6 = FAR[V4], FAR[V6]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        pytest.param([], [], id="no source"),
        pytest.param([LINK_LOCAL], [], id="link-local"),
        pytest.param([lease(f"{IPV6}/128", tentative=True)], [], id="tentative"),
        pytest.param(
            [LINK_LOCAL, lease(f"{IPV6}/128")],
            [Probe(3, OIF6, ip(IPV6), FAR6, oif=3), Probe(3, SUBNET6, ip(IPV6), FAR6)],
            id="IPv6",
        ),
        pytest.param([lease(f"{IPV4}/24")], [Probe(3, SUBNET4, ip(IPV4), FAR4)], id="IPv4"),
        pytest.param(
            [permanent("2001:db8:5::1/64"), permanent(f"{IPV6}/128")],
            [Probe(3, OIF6, ip("2001:db8:5::1"), FAR6, oif=3), Probe(3, SUBNET6, ip(IPV6), FAR6)],
            id="each rule has its own source",
        ),
    ],
)
def test_probes(addresses: list[Address], expected: list[Probe]) -> None:
    assert list(probes(PLAN, addresses)) == expected


def test_what_is_asked_about_is_nobodys_own() -> None:
    """Ranges for benchmarks: no host is there, and no table has a route for them but a default."""
    assert ip("198.18.0.1") == FAR4
    assert ip("2001:2::1") == FAR6


def test_nothing_is_asked_of_a_link_that_is_down() -> None:
    down = replace(PLAN, routes=())
    assert list(probes(down, [lease(f"{IPV4}/24"), lease(f"{IPV6}/128")])) == []


PROBE = Probe(3, SUBNET6, ip(IPV6), FAR6)
BOUND = Probe(3, OIF6, ip(IPV6), FAR6, oif=3)
VPN = Rule(V6, 5270, 52, protocol=3)
BY_VPN = (
    f"packets from {IPV6} are routed by the rule at priority 5270 (table 52), "
    "not by nicwatchd's rule"
)
BY_ROUTE = f"packets from {IPV6} are routed by a route in table 52, not by nicwatchd's rule"
BY_MAIN = BY_ROUTE.replace("table 52", "the main table")


BY52, OURS = RouteAnswer(52, oif=7), RouteAnswer(TABLE, oif=3)


def test_our_own_table_answers() -> None:
    assert shadow(PROBE, OURS, [VPN]) is None


@pytest.mark.parametrize(
    ("probe", "found", "rules", "text"),
    [
        pytest.param(PROBE, BY52, [VPN], BY_VPN, id="a VPN"),
        pytest.param(
            PROBE,
            ENETUNREACH,
            [VPN],
            f"packets from {IPV6} have no route: a rule before nicwatchd's rejects them",
            id="forbidden",
        ),
        pytest.param(
            PROBE,
            EHOSTUNREACH,
            [VPN],
            f"packets from {IPV6} have no route: a rule before nicwatchd's rejects them",
            id="prohibited",
        ),
        pytest.param(
            BOUND,
            EACCES,
            [],
            f"packets from {IPV6} bound to eth1 have no route: "
            "a rule before nicwatchd's rejects them",
            id="a bound socket",
        ),
        pytest.param(PROBE, BY52, [replace(VPN, priority=32765)], BY_VPN.replace("5270", "32765"),
                     id="the same priority"),
        pytest.param(PROBE, BY52, [replace(VPN, priority=9), VPN], BY_VPN.replace("5270", "9"),
                     id="the first one"),
        pytest.param(PROBE, BY52, [replace(VPN, src=net(NET6), dst=net("2001:2::/48"))], BY_VPN,
                     id="by source and destination"),
        pytest.param(PROBE, BY52, [replace(VPN, iif="lo", fwmark=0, fwmask=255)], BY_VPN,
                     id="unmarked, from this host"),
        pytest.param(BOUND, BY52, [replace(VPN, oif="eth1")],
                     BY_VPN.replace(" are", " bound to eth1 are"), id="by device"),
        pytest.param(PROBE, RouteAnswer(MAIN_TABLE, oif=7), [], BY_MAIN, id="a route of main"),
        pytest.param(PROBE, BY52, [], BY_ROUTE, id="a route of another table"),
        pytest.param(PROBE, BY52, [replace(VPN, priority=0)], BY_VPN.replace("5270", "0"),
                     id="the very first"),
        pytest.param(PROBE, BY52, [replace(VPN, protocol=236)], BY_ROUTE,
                     id="ours does not shadow"),
        pytest.param(PROBE, BY52, [replace(VPN, table=53)], BY_ROUTE, id="another table"),
        pytest.param(PROBE, BY52, [replace(VPN, priority=32766)], BY_ROUTE, id="behind ours"),
        pytest.param(PROBE, BY52, [SUBNET6, replace(VPN, priority=32765)], BY_ROUTE,
                     id="behind ours, of the same priority"),
        pytest.param(PROBE, BY52, [replace(VPN, priority=9, src=net("2001:db8:5::/64"),
                     inverted=True)], BY_VPN.replace("5270", "9"), id="all but another source"),
        pytest.param(PROBE, BY52, [replace(VPN, priority=9, src=net(NET6), inverted=True), VPN],
                     BY_VPN, id="all but this source"),
        pytest.param(PROBE, BY52, [replace(VPN, fwmark=0x80, fwmask=0x80, inverted=True)], BY_VPN,
                     id="what is not marked"),
        pytest.param(PROBE, BY52, [replace(VPN, exotic=True)], BY_VPN, id="of a user"),
        pytest.param(PROBE, BY52, [replace(VPN, family=V4)], BY_ROUTE, id="the other family"),
        pytest.param(PROBE, BY52, [replace(VPN, fwmark=1, fwmask=1)], BY_ROUTE,
                     id="marked packets"),
        pytest.param(PROBE, BY52, [replace(VPN, src=net("2001:db8:5::/64"))], BY_ROUTE,
                     id="another source"),
        pytest.param(PROBE, BY52, [replace(VPN, dst=net("2001:db8:5::/64"))], BY_ROUTE,
                     id="another destination"),
        pytest.param(PROBE, BY52, [replace(VPN, iif="eth0")], BY_ROUTE, id="forwarded packets"),
        pytest.param(PROBE, BY52, [replace(VPN, oif="eth0")], BY_ROUTE, id="another device"),
    ],
)  # fmt: skip
def test_the_winner_is_named(
    probe: Probe, found: RouteAnswer | int, rules: list[Rule], text: str
) -> None:
    reason = shadow(probe, found, rules)
    assert reason
    assert (reason.code, reason.text) == ("shadowed", text)


@pytest.mark.parametrize("errno", [EINVAL, ENODEV, ENOBUFS])
def test_other_errors_prove_nothing_of_rules(errno: int) -> None:
    assert shadow(PROBE, errno, [VPN]) is None


def test_who_wins_is_asked_after_a_restart_that_writes_nothing() -> None:
    motion = applied()
    foreign = Rule(V4, 100, 77, protocol=3, src=net(NET4))
    motion.kernel.put(replace(ROUTES[0], table=77, dst=net("0.0.0.0/0"), protocol=3), foreign)
    again = FastMotion(CALM, motion.kernel, motion.now)
    again.imds(MAC, 0.0, FULL)
    again.run(again.now + 10.0)
    assert again.written == []
    assert "shadowed" in {note.code for note in again.host.interfaces[3].view().notes}
