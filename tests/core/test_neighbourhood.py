"""What stands beside an ENI decides whether its subnet tells whose a source is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest

from nicwatchd.core.ground import ground_of
from nicwatchd.core.metadata import ABSENT, Value
from nicwatchd.core.model import (
    LOCAL_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_STATIC,
    IPNetwork,
    Link,
    Numbers,
    Route,
    Rule,
    contains,
)
from nicwatchd.core.neighbourhood import Neighbourhood, Standing
from nicwatchd.core.policy import Policy, RuleMode
from nicwatchd.core.stack import Stack
from tests.core.build import (
    ERROR,
    ETH0,
    ETH1,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    PRIMARY,
    UNREAD,
    V4,
    V6,
    eni,
    family,
    ip,
    lease,
    net,
    nets,
    permanent,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import CALM, ETH2, FULL, MAC2, OF_PRIMARY, selectors

BOTH: Final = frozenset(nets(NET4, NET6))
BRIDGE: Final = Link(9, "02:42:00:00:00:01", "br0", up=True, kind="bridge", driver="bridge")
WIREGUARD: Final = Link(9, "", "wg0", up=True, kind="wireguard", driver="wireguard")
Change = Callable[[FastMotion], object]


def beside(motion: FastMotion) -> Neighbourhood:
    host = motion.host
    stack = Stack({index: ground_of(each) for index, each in host.interfaces.items()})
    standing = Standing(host.rules, Numbers().priority)
    return Neighbourhood(stack, host.foreign_addresses, standing, Numbers())


def host_with(*changes: Change, policy: Policy = CALM) -> FastMotion:
    """The primary in a subnet of its own, and eth1 long since applied; before that, the changes."""
    motion = FastMotion(replace(policy, rules=RuleMode.SUBNET))
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.imds(MAC, 0.0, FULL)
    motion.kernel.set_link(ETH1)
    for change in changes:
        change(motion)
    motion.run(60.0)
    return motion


def alone(motion: FastMotion) -> frozenset[IPNetwork]:
    return beside(motion).alone(3)


def has(link: Link, *addresses: str) -> Change:
    def change(motion: FastMotion) -> None:
        if link.index not in motion.kernel.links:
            motion.kernel.set_link(link)
        motion.kernel.put(*(permanent(text, link.index) for text in addresses))

    return change


def listed(link: Link, four: str = "", six: str = "") -> Change:
    """An ENI with these subnets, which IMDS lists."""
    first = {text: str(next(net(text).hosts())) for text in (four, six) if text}
    said = eni(
        family(first[four], cidrs=four) if four else family(),
        family(first[six], cidrs=six) if six else family(),
        mac=Value(link.mac),
    )

    def change(motion: FastMotion) -> None:
        motion.kernel.set_link(link)
        motion.imds(link.mac, 0.0, said)

    return change


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        pytest.param(lambda _: None, (), id="nobody"),
        pytest.param(has(ETH1, "10.0.2.77/32", "2001:db8:0:2::77/128"), (), id="its own addresses"),
        pytest.param(has(ETH0, "10.0.1.77/24"), (), id="the primary's elsewhere"),
        pytest.param(has(ETH0, "2001:db8:0:2::5/128"), (NET6,), id="the primary's /128"),
        pytest.param(has(ETH0, "10.0.2.5/32"), (NET4,), id="the primary's /32"),
        pytest.param(has(ETH0, "10.0.2.5/16"), (NET4,), id="of a wider subnet"),
        pytest.param(has(ETH0, "10.0.2.5/28"), (NET4,), id="of a narrower one"),
        pytest.param(has(BRIDGE, "10.0.2.5/24", "2001:db8:0:2::5/64"), (NET4, NET6), id="a bridge"),
        pytest.param(has(WIREGUARD, "10.0.2.5/32"), (NET4,), id="a tunnel"),
        pytest.param(has(BRIDGE, "fe80::5/64"), (), id="link-local ones"),
        pytest.param(has(BRIDGE, "10.0.3.5/16"), (), id="an address elsewhere, by a wider subnet"),
        pytest.param(listed(ETH2, "10.0.3.0/24"), (), id="an ENI elsewhere"),
        pytest.param(listed(ETH2, NET4), (NET4,), id="an ENI of the same subnet"),
        pytest.param(listed(ETH2, "10.0.0.0/16"), (NET4,), id="an ENI of a wider one"),
        pytest.param(listed(ETH2, "10.0.2.128/25"), (NET4,), id="an ENI of a narrower one"),
        pytest.param(listed(ETH2, "10.0.3.0/24", NET6), (NET6,), id="in one family"),
        pytest.param(
            listed(replace(ETH2, master=9), NET4, "2001:db8:0:3::/64"),
            (NET4,),
            id="an ENI that is a port of a bridge",
        ),
    ],
)
def test_a_subnet_is_an_enis_alone_or_not(change: Change, shared: tuple[str, ...]) -> None:
    motion = host_with(change)
    assert alone(motion) == BOTH - {*nets(*shared)}
    # And so are the rules.
    four, six = ({"eth1", s} for s in (NET4, NET6))
    four = {"eth1", f"{IPV4}/32", *selectors(motion, 3) - {NET4}} if NET4 in shared else four
    six = {"eth1", f"{IPV6}/128"} if NET6 in shared else six
    assert selectors(motion, 3) == four
    assert selectors(motion, 3, 6) == six


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(UNREAD, id="nothing was read"),
        pytest.param(
            eni(family(cidrs=ERROR), family(cidrs=ABSENT), mac=Value(MAC2)),
            id="one family was not",
        ),
    ],
)
def test_an_eni_that_imds_has_not_told_of_shares_nothing_yet(said: object) -> None:
    """Its addresses on the link count; that IMDS may list others there harms nobody before."""

    def change(motion: FastMotion) -> None:
        motion.kernel.set_link(ETH2)
        motion.imds(MAC2, 0.0, said)  # type: ignore[arg-type]  # (readings of a table)

    motion = host_with(change)
    assert alone(motion) == BOTH
    motion.kernel.put(lease("10.0.2.77/24", 4))
    motion.run(61.0)
    assert alone(motion) == BOTH - {*nets(NET4)}
    assert selectors(motion, 3) == {"eth1", f"{IPV4}/32"}
    assert selectors(motion, 3, 6) == {"eth1", NET6}


def test_an_excluded_enis_address_counts_before_and_after() -> None:
    """It comes when eth1 has been applied for long; no event of a tracked link tells of it."""
    motion = host_with(lambda m: m.kernel.set_link(ETH2), policy=replace(CALM, exclude=("eth2",)))
    assert selectors(motion, 3, 6) == {"eth1", NET6}
    motion.kernel.put(permanent("2001:db8:0:2::5/128", 4))
    motion.run(61.0)
    assert selectors(motion, 3, 6) == {"eth1", f"{IPV6}/128"}
    assert selectors(motion, 3) == {"eth1", NET4}
    motion.kernel.drop(permanent("2001:db8:0:2::5/128", 4))
    motion.run(62.0)
    assert selectors(motion, 3, 6) == {"eth1", NET6}


def test_no_moment_of_a_start_has_a_rule_for_anothers_address() -> None:
    """The primary has its address by DHCPv6, in eth1's subnet, and IMDS is slow."""
    motion = FastMotion(replace(CALM, rules=RuleMode.SUBNET))
    motion.kernel.put(lease("2001:db8:0:2::5/128", 2))
    motion.kernel.set_link(ETH1)
    motion.imds(MAC, 0.0, FULL)
    motion.imds(PRIMARY, 0.0, UNREAD)
    motion.imds(PRIMARY, 30.0, OF_PRIMARY)
    motion.run(120.0)
    its = net("2001:db8:0:2::5/128")
    rules = [rule for _, o in motion.written if (rule := getattr(o, "rule", None)) and rule.src]
    assert all(rule.src == its for rule in rules if contains(rule.src, its))
    tables = {rule.table for rule in rules if rule.src == its}
    assert tables == {MAIN_TABLE, Numbers().table_of(2)}, "its own, and nobody else's"


def test_a_subnet_that_is_selected_as_a_whole_stays_so_while_another_eni_is_unread() -> None:
    """As after a restart, or when a second ENI comes: nothing is written before more is known."""
    motion = host_with()
    written = len(motion.written)
    motion.kernel.set_link(ETH2)
    motion.imds(MAC2, 60.0, UNREAD)
    motion.run(70.0)
    assert selectors(motion, 3) == {"eth1", NET4}
    assert selectors(motion, 3, 6) == {"eth1", NET6}
    about = [getattr(o, "rule", None) for _, o in motion.written[written:]]
    assert not any(rule and rule.src for rule in about)
    motion.kernel.put(permanent("10.0.2.5/32", 4))  # its own, told or not
    motion.run(75.0)
    assert selectors(motion, 3) == {"eth1", f"{IPV4}/32"}


def test_after_a_restart_a_lease_alone_changes_no_rule() -> None:
    """Of five addresses the lease is all that is known until IMDS has answered."""
    motion = FastMotion(CALM)
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    five = " ".join(f"10.0.2.{host}" for host in range(10, 15))
    six = " ".join(f"2001:db8:0:2::1{digit}" for digit in range(5))
    full = eni(family(five, cidrs=NET4), family(six, cidrs=NET6), mac=Value(MAC))
    motion.imds(MAC, 0.0, full)
    motion.kernel.set_link(ETH1)
    motion.kernel.put(lease(f"{IPV4}/24"), lease(f"{IPV6}/128"))
    motion.run(60.0)
    assert selectors(motion, 3) == {"eth1", NET4}
    written = len(motion.written)
    motion.imds(MAC, 60.0, UNREAD)
    motion.imds(MAC, 65.0, full)
    motion.turn = motion.begin(CALM)
    motion.run(90.0)
    assert motion.written[written:] == []
    assert selectors(motion, 3, 6) == {"eth1", NET6}


# --- ways that no guard hides ------------------------------------------------------------------


def on_link_by_hand(motion: FastMotion) -> None:
    has(ETH2, "10.0.3.5/32", "2001:db8:0:3::5/128")(motion)
    for dst in ("10.0.3.0/24", "2001:db8:0:3::/64", "10.0.9.9/32", "fe80::/64"):
        scope, metric = (253, 0) if "." in dst else (0, 1024)
        route = Route(net(dst), MAIN_TABLE, 4, RTPROT_STATIC, scope=scope, metric=metric)
        motion.kernel.put(route)
    motion.kernel.put(Route(net("10.8.0.0/16"), MAIN_TABLE, 4, RTPROT_STATIC, ip("10.0.3.1")))


@pytest.mark.parametrize(
    ("change", "policy", "detours"),
    [
        pytest.param(listed(ETH2, "10.0.3.0/24"), CALM, (), id="a managed ENI"),
        pytest.param(
            listed(replace(ETH2, group=5), "10.0.3.0/24"),
            CALM,
            ("10.0.3.0/24",),
            id="its own group",
        ),
        pytest.param(
            listed(replace(ETH2, master=9), "10.0.3.0/24"), CALM, ("10.0.3.0/24",), id="enslaved"
        ),
        pytest.param(
            has(ETH2, "10.0.3.5/24", "2001:db8:0:3::5/64"),
            replace(CALM, exclude=("eth2",)),
            ("10.0.3.0/24", "2001:db8:0:3::/64"),
            id="excluded",
        ),
        pytest.param(
            has(ETH2, "10.0.3.5/32", "2001:db8:0:3::5/128"),
            replace(CALM, exclude=("eth2",)),
            (),
            id="excluded, and main has no route there",
        ),
        pytest.param(
            on_link_by_hand,
            replace(CALM, exclude=("eth2",)),
            ("10.0.3.0/24", "2001:db8:0:3::/64"),
            id="excluded, with routes that an operator made",
        ),
        pytest.param(
            has(ETH2, "10.0.2.5/24"),
            replace(CALM, exclude=("eth2",)),
            (NET4,),
            id="excluded, in the ENI's own subnet",
        ),
    ],
)
def test_detours(change: Change, policy: Policy, detours: tuple[str, ...]) -> None:
    motion = host_with(change, policy=policy)
    assert beside(motion).detours(3) == nets(*detours)


def test_in_a_change_of_the_group_all_others_are_detours() -> None:
    motion = host_with(listed(ETH2, "10.0.3.0/24"))
    every = {V4, V6}
    assert beside(motion).detours(3, every) == nets("10.0.1.0/24", "10.0.3.0/24")
    assert beside(motion).detours(4, every) == nets("10.0.1.0/24", NET4, NET6)
    assert beside(motion).detours(4, {V6}) == nets(NET6)


def test_after_a_restart_detours_stay_while_another_eni_is_unread() -> None:
    """What is read of one ENI says nothing of the subnets of another that is left alone."""
    motion = host_with(listed(ETH2, "10.0.3.0/24", "2001:db8:0:3::/64"))
    motion.turn.release(motion.host.interfaces[4].key, motion.now)
    motion.run(120.0)
    before = nets("10.0.3.0/24", "2001:db8:0:3::/64")
    assert beside(motion).detours(3) == before
    written = len(motion.written)
    releases = motion.host.releases
    motion.imds(MAC2, 120.0, UNREAD)
    motion.turn = motion.begin(replace(CALM, rules=RuleMode.SUBNET))
    motion.host.releases = releases
    motion.run(150.0)
    assert motion.written[written:] == []
    motion.imds(MAC2, 150.0, eni(family("10.0.4.5", cidrs="10.0.4.0/24"), mac=Value(MAC2)))
    motion.run(180.0)
    assert beside(motion).detours(3) == nets("10.0.4.0/24")
    about = {rule.dst for rule in motion.kernel.rules if rule.protocol == PROTOCOL and rule.dst}
    assert about == {*nets("10.0.4.0/24")}


@pytest.mark.parametrize("restarts", [False, True], ids=["in one run", "after a restart"])
@pytest.mark.parametrize("released", [False, True], ids=["managed", "released"])
def test_an_eni_that_imds_never_lists_keeps_no_detours_of_others(
    *, released: bool, restarts: bool
) -> None:
    """Those to the subnets of another one go with it."""
    link = replace(ETH2, index=5, name="eth3", mac="02:00:00:00:00:05")
    other = listed(ETH2, "10.0.3.0/24", "2001:db8:0:3::/64")
    motion = host_with(other, lambda it: it.kernel.set_link(link))
    motion.imds(link.mac, 60.0, UNREAD)
    for index in (4, 5) if released else (4,):
        motion.turn.release(motion.host.interfaces[index].key, motion.now)
    motion.run(120.0)
    both = nets("10.0.3.0/24", "2001:db8:0:3::/64")
    assert beside(motion).detours(3) == both
    if restarts:
        releases = motion.host.releases
        motion.turn = motion.begin(replace(CALM, rules=RuleMode.SUBNET))
        motion.host.releases = releases
        motion.run(150.0)
        assert {rule.dst for rule in motion.kernel.own_rules if rule.dst} == {*both}
    motion.kernel.unplug(4)
    motion.run(300.0)
    assert not any(rule.dst for rule in motion.kernel.own_rules)


# --- whether local comes first -----------------------------------------------------------------

LOCAL4, LOCAL6 = Rule(V4, 0, LOCAL_TABLE, protocol=2), Rule(V6, 0, LOCAL_TABLE, protocol=2)
MAIN4, MAIN6 = Rule(V4, 32766, MAIN_TABLE, protocol=2), Rule(V6, 32766, MAIN_TABLE, protocol=2)


@pytest.mark.parametrize(
    ("rules", "families"),
    [
        pytest.param([LOCAL4, MAIN4, LOCAL6, MAIN6], set(), id="as it comes"),
        pytest.param([replace(LOCAL4, priority=32764), MAIN4], set(), id="late, but before ours"),
        pytest.param([MAIN4, replace(LOCAL4, priority=32766)], {V4}, id="behind ours"),
        pytest.param([MAIN4, LOCAL6, MAIN6], {V4}, id="not at all"),
        pytest.param([replace(LOCAL4, priority=32765), MAIN4], {V4}, id="of the same priority"),
        pytest.param(
            [replace(LOCAL4, src=net(NET4)), replace(LOCAL6, fwmark=1), MAIN4, MAIN6],
            {V4, V6},
            id="for some only",
        ),
        pytest.param([replace(LOCAL4, inverted=True), MAIN4], {V4}, id="for nobody"),
        pytest.param([replace(LOCAL4, exotic=True), MAIN4], {V4}, id="for a user"),
        pytest.param([replace(LOCAL4, action=6), MAIN4], {V4}, id="a blackhole"),
        pytest.param(
            [replace(LOCAL4, priority=32764, protocol=PROTOCOL, oif="eth1"), MAIN4],
            {V4},
            id="one of ours",
        ),
        pytest.param([], set(), id="no rules were read"),
    ],
)
def test_where_the_local_table_is_looked_up(rules: list[Rule], families: set[object]) -> None:
    found = Standing(tuple(rules), Numbers().priority).behind_local
    assert found == families
