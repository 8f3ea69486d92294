"""What there should be in the kernel, written as `ip` would print it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicwatchd.core.eni_plan import Subject, group_for, groups_of, nothing_for, plan
from nicwatchd.core.evidence import Usable
from nicwatchd.core.model import (
    LAST_METRIC,
    LOCAL_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_DHCP,
    SCOPE_LINK,
    Address,
    Family,
    IPAddress,
    IPNetwork,
    Numbers,
    Plan,
    Route,
    Rule,
)
from nicwatchd.core.policy import AddressMode, Ipv6Router, Policy, RuleMode
from tests.core.build import (
    ETH1,
    IPV4,
    IPV6,
    NET4,
    NET6,
    TABLE,
    V4,
    V6,
    added,
    ips,
    lease,
    net,
    nets,
    permanent,
    ra_default,
    static,
)

DEFAULT = Policy()


def usable(addresses: str = "", prefixes: str = "", subnets: str = "", listed: str = "") -> Usable:
    return Usable(
        ips(*addresses.split()),
        nets(*prefixes.split()),
        nets(*subnets.split()),
        ips(*listed.split()),
    )


U4 = usable(IPV4, "", NET4, IPV4)
U6 = usable(IPV6, "", NET6, IPV6)
LEASE4, LEASE6 = lease(f"{IPV4}/24"), lease(f"{IPV6}/128")
BOTH = Subject(ETH1, {V4: U4, V6: U6}, (LEASE4, LEASE6))


def show_rule(rule: Rule) -> str:
    assert rule.protocol == PROTOCOL
    assert rule.action == 1
    assert rule.priority == 32765
    assert (rule.fwmark, rule.fwmask, rule.inverted, rule.exotic) == (None, None, False, False)
    guard = rule.suppress_prefixlength == 0 and rule.suppress_ifgroup == 3778
    kept = rule.suppress_prefixlength == 0 and rule.suppress_ifgroup is None and rule.dst
    assert guard or kept or rule.suppress_prefixlength == rule.suppress_ifgroup is None
    parts = [
        rule.iif and f"iif {rule.iif}",
        rule.oif and f"oif {rule.oif}",
        rule.src and f"from {rule.src}",
        rule.dst and f"to {rule.dst}",
        {MAIN_TABLE: "main", LOCAL_TABLE: "local", TABLE: "T"}[rule.table],
        (guard and "guard") or (kept and "kept"),
    ]
    return " ".join(part for part in parts if part)


def show_route(route: Route) -> str:
    assert (route.table, route.protocol, route.oif) == (TABLE, PROTOCOL, 3)
    parts = [
        str(route.dst) if route.dst.prefixlen else "default",
        route.gateway and f"via {route.gateway}",
        route.onlink and "onlink",
        route.prefsrc and f"src {route.prefsrc}",
        route.metric and f"metric {'last' if route.metric == LAST_METRIC else route.metric}",
        route.scope == SCOPE_LINK and "scope link",
    ]
    return " ".join(part for part in parts if part)


def rules(subject: Subject, policy: Policy = DEFAULT, family: Family | None = None) -> list[str]:
    made = plan(subject, policy).rules
    return [show_rule(rule) for rule in made if family in (None, rule.family)]


def routes(subject: Subject, policy: Policy = DEFAULT) -> list[str]:
    return [show_route(route) for route in plan(subject, policy).routes]


def one(which: Usable, **more: Any) -> Subject:
    """A subject of one family."""
    family = (*which.addresses, *which.subnets)[0].version
    return Subject(ETH1, {Family(family): which}, **more)


# --- as a whole ------------------------------------------------------------------------------


def test_a_plan_for_both_families() -> None:
    assert rules(BOTH, family=V4) == [
        "oif eth1 main guard",
        "oif eth1 T",
        f"from {IPV4}/32 main guard",
        f"from {IPV4}/32 T",
    ]
    assert rules(BOTH, family=V6) == [
        "oif eth1 main guard",
        "oif eth1 T",
        f"from {IPV6}/128 main guard",
        f"from {IPV6}/128 T",
    ]
    assert routes(BOTH) == [
        "10.0.2.0/24 src 10.0.2.10 scope link",
        "default via 10.0.2.1 onlink src 10.0.2.10 metric last",
        f"2001:db8:0:2::/64 src {IPV6} metric 1024",
        "fe80::/64 metric 1024",
        f"default via fe80:ec2::1 src {IPV6} metric last",
    ]
    made = plan(BOTH, DEFAULT)
    assert (made.index, made.group, made.bring_up, made.addresses) == (3, 3778, False, ())


def test_nothing_is_certain_yet() -> None:
    subject = Subject(ETH1, {V4: Usable(), V6: usable(subnets=NET6)}, (LEASE4,))
    assert plan(subject, DEFAULT) == Plan(3, group=3778)


def test_one_family_needs_not_the_other() -> None:
    made = plan(replace(BOTH, usable={V4: Usable(), V6: U6}), DEFAULT)
    assert {rule.family for rule in made.rules} == {V6}
    assert {route.family for route in made.routes} == {V6}


@pytest.mark.parametrize(("group", "expected"), [(0, 3778), (3778, 3778), (5, None)])
def test_a_foreign_group_is_left(group: int, expected: int | None) -> None:
    link = replace(ETH1, group=group)
    assert group_for(link, 3778, set()) == expected
    assert plan(Subject(link), DEFAULT).group == expected


@pytest.mark.parametrize(("group", "expected"), [(3778, 0), (77, 0), (0, None), (5, None)])
def test_a_released_link_is_in_no_group_of_ours(*, group: int, expected: int | None) -> None:
    """Another's group stays, and the default one is nobody's."""
    link = replace(ETH1, group=group)
    assert nothing_for(link, {77, 3778}) == Plan(3, group=expected)


@pytest.mark.parametrize(("group", "expected"), [(0, 3778), (3778, 3778), (77, 3778), (5, None)])
def test_a_former_group_of_ours_is_replaced(*, group: int, expected: int | None) -> None:
    assert group_for(replace(ETH1, group=group), 3778, {77}) == expected


def test_groups_of_ours_are_known_by_our_guards() -> None:
    guard = Rule(V4, 32600, MAIN_TABLE, suppress_ifgroup=77)
    rules = [guard, replace(guard, suppress_ifgroup=3778), replace(guard, suppress_ifgroup=None)]
    assert groups_of([*rules, replace(guard, suppress_ifgroup=5, protocol=3)]) == {77, 3778}


def test_the_table_is_the_index() -> None:
    assert Numbers().table_of(3) == 1_000_959


# --- rules -----------------------------------------------------------------------------------

PREFIXED = usable(IPV6, "2001:db8:0:2:1::/80 2001:db8:0:2:2::/80", NET6, IPV6)
PAIR = usable(f"{IPV4} 10.0.2.11", "", NET4, f"{IPV4} 10.0.2.11")
TWO_CIDRS = usable(f"{IPV6} 2001:db8:5::1", "", f"{NET6} 2001:db8:5::/64")
BY_SUBNET, BY_ADDRESS = Policy(rules=RuleMode.SUBNET), Policy(rules=RuleMode.ADDRESS)
ALONE = frozenset(nets(NET4, NET6, "2001:db8:5::/64"))
PAIRS = ["oif eth1", f"from {IPV4}/32", "from 10.0.2.11/32"]


def several(number: int, beyond: str = "") -> Usable:
    """So many addresses of one subnet."""
    addresses = " ".join(f"10.0.2.{10 + count}" for count in range(number)) + f" {beyond}"
    return usable(addresses, "", NET4, addresses)


@pytest.mark.parametrize(
    ("subject", "policy", "expected"),
    [
        pytest.param(one(PAIR, alone=ALONE), DEFAULT, PAIRS, id="few addresses"),
        pytest.param(
            one(several(4), alone=ALONE),
            DEFAULT,
            ["oif eth1", *(f"from 10.0.2.{10 + count}/32" for count in range(4))],
            id="the most that are few",
        ),
        pytest.param(
            one(several(5), alone=ALONE),
            DEFAULT,
            ["oif eth1", f"iif lo from {NET4}"],
            id="one rule for many addresses",
        ),
        pytest.param(
            one(several(5)),
            DEFAULT,
            ["oif eth1", *(f"from 10.0.2.{10 + count}/32" for count in range(5))],
            id="many addresses, but the subnet is not its alone",
        ),
        pytest.param(
            one(several(4, "10.9.9.9"), alone=ALONE),
            DEFAULT,
            ["oif eth1", f"iif lo from {NET4}", "from 10.9.9.9/32"],
            id="many addresses, and one outside of the subnet",
        ),
        pytest.param(
            one(PREFIXED, alone=ALONE),
            DEFAULT,
            [
                "oif eth1",
                "from 2001:db8:0:2:1::/80",
                "from 2001:db8:0:2:2::/80",
                f"from {IPV6}/128",
            ],
            id="prefixes",
        ),
        pytest.param(
            one(usable(prefixes="10.0.2.16/28", subnets=NET4), alone=ALONE),
            DEFAULT,
            ["oif eth1", "from 10.0.2.16/28"],
            id="prefix only",
        ),
        pytest.param(
            one(usable(prefixes="10.0.2.16/28", subnets=NET4), alone=ALONE),
            BY_SUBNET,
            ["oif eth1", "from 10.0.2.16/28", f"iif lo from {NET4}"],
            id="prefix only, by subnet",
        ),
        pytest.param(
            one(PAIR, alone=ALONE), BY_SUBNET, ["oif eth1", f"iif lo from {NET4}"], id="by subnet"
        ),
        pytest.param(one(PAIR), BY_SUBNET, PAIRS, id="by subnet, but it is not its alone"),
        pytest.param(
            one(TWO_CIDRS, alone=frozenset(nets("2001:db8:5::/64"))),
            BY_SUBNET,
            ["oif eth1", "iif lo from 2001:db8:5::/64", f"from {IPV6}/128"],
            id="one of two CIDRs is shared",
        ),
        pytest.param(
            one(several(5), alone=ALONE),
            BY_ADDRESS,
            ["oif eth1", *(f"from 10.0.2.{10 + count}/32" for count in range(5))],
            id="by address",
        ),
        pytest.param(
            one(usable(IPV6)),
            BY_SUBNET,
            ["oif eth1", f"from {IPV6}/128"],
            id="a lease by RA, its subnet unknown",
        ),
        pytest.param(
            one(PAIR, addresses=(LEASE4, permanent("192.168.5.1/24"), permanent("10.0.2.99/24"))),
            DEFAULT,
            [*PAIRS, "from 192.168.5.1/32", "from 10.0.2.99/32"],
            id="an operator's own addresses",
        ),
        pytest.param(
            one(PAIR, addresses=(permanent("10.0.2.99/24"),), alone=ALONE),
            BY_SUBNET,
            ["oif eth1", f"iif lo from {NET4}"],
            id="... which the subnet's rule selects already",
        ),
        pytest.param(
            one(several(4), addresses=(permanent("192.168.5.1/24"),), alone=ALONE),
            DEFAULT,
            [
                "oif eth1",
                *(f"from 10.0.2.{10 + count}/32" for count in range(4)),
                "from 192.168.5.1/32",
            ],
            id="... which do not make them many",
        ),
        pytest.param(
            one(
                U6,
                addresses=(
                    permanent("fe80::3/64", scope=SCOPE_LINK),
                    permanent("fe80::4/64"),
                    permanent("fd00::1/64", scope=200),
                    permanent(f"{IPV4}/24"),
                    lease("2001:db8:0:2::77/128"),
                    permanent("2001:db8:0:2::78/64", from_ra=True),
                    added("2001:db8:0:2::79/128"),
                ),
            ),
            DEFAULT,
            ["oif eth1", f"from {IPV6}/128"],
            id="nobody's own: link-local, leased, by an RA, of the other family, or ours",
        ),
    ],
)
def test_rules(subject: Subject, policy: Policy, expected: list[str]) -> None:
    """Each has a guard with the same selector, right before it."""
    chains = [[f"{selector} main guard", f"{selector} T"] for selector in expected]
    assert rules(subject, policy) == [rule for chain in chains for rule in chain]


def test_an_eni_with_one_address_has_few_rules() -> None:
    for family in Family:
        assert len(rules(BOTH, family=family)) <= 8


@pytest.mark.parametrize("family", Family)
def test_an_eni_that_no_guard_hides_is_reached_by_the_own_router(family: Family) -> None:
    other, foreign = nets("10.0.7.0/24", "2001:db8:0:7::/64"), nets("10.0.7.0/24")
    where = {V4: f"to {other[0]}", V6: f"to {other[1]}"}[family]
    made = rules(replace(BOTH, detours=other), family=family)
    address = {V4: f"{IPV4}/32", V6: f"{IPV6}/128"}[family]
    assert made == [
        f"oif eth1 {where} T",
        "oif eth1 main guard",
        "oif eth1 T",
        f"from {address} {where} T",
        f"from {address} main guard",
        f"from {address} T",
    ]
    assert rules(replace(BOTH, detours=foreign), family=V6) == rules(BOTH, family=V6)


def test_networks_of_containers_come_before_detours() -> None:
    made = rules(replace(BOTH, kept=nets("10.0.7.64/28"), detours=nets("10.0.7.0/24")))
    assert made[:4] == [
        "oif eth1 to 10.0.7.64/28 main kept",
        "oif eth1 to 10.0.7.0/24 T",
        "oif eth1 main guard",
        "oif eth1 T",
    ]
    assert not any("10.0.7" in rule for rule in made if "2001:" in rule)


def test_the_own_subnet_is_a_detour_where_main_may_reach_it_by_another_link() -> None:
    made = rules(replace(BOTH, detours=nets(NET4, NET6)))
    assert made[:3] == [f"oif eth1 to {NET4} T", "oif eth1 main guard", "oif eth1 T"]


def test_a_local_table_that_is_looked_up_too_late_comes_first() -> None:
    made = rules(replace(BOTH, behind_local=frozenset({V4}), detours=nets("10.0.7.0/24")))
    assert made[:8] == [
        "oif eth1 local",
        "oif eth1 to 10.0.7.0/24 T",
        "oif eth1 main guard",
        "oif eth1 T",
        f"from {IPV4}/32 local",
        f"from {IPV4}/32 to 10.0.7.0/24 T",
        f"from {IPV4}/32 main guard",
        f"from {IPV4}/32 T",
    ]
    assert made[8:] == rules(BOTH, family=V6)


def test_the_rule_follows_the_name() -> None:
    link = replace(ETH1, name="ens6")
    assert rules(replace(BOTH, link=link), family=V6)[1] == "oif ens6 T"


# --- routes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "policy", "expected"),
    [
        pytest.param(
            one(PAIR, addresses=(added("10.0.2.11/32"), LEASE4)),
            DEFAULT,
            [
                "10.0.2.0/24 src 10.0.2.10 scope link",
                "default via 10.0.2.1 onlink src 10.0.2.10 metric last",
            ],
            id="the source is the first address",
        ),
        pytest.param(
            one(PAIR),
            Policy(addresses=AddressMode.NONE),
            ["10.0.2.0/24 scope link", "default via 10.0.2.1 onlink metric last"],
            id="no source while there is none",
        ),
        pytest.param(
            one(PAIR, addresses=(added("10.0.2.11/32"),)),
            DEFAULT,
            [
                "10.0.2.0/24 src 10.0.2.11 scope link",
                "default via 10.0.2.1 onlink src 10.0.2.11 metric last",
            ],
            id="the first that is there",
        ),
        pytest.param(
            one(usable("10.0.2.12", "", NET4), addresses=(lease("10.0.2.12/24"),)),
            DEFAULT,
            [
                "10.0.2.0/24 src 10.0.2.12 scope link",
                "default via 10.0.2.1 onlink src 10.0.2.12 metric last",
            ],
            id="a lease before IMDS",
        ),
        pytest.param(
            one(usable(prefixes="10.0.2.16/28", subnets=NET4)),
            DEFAULT,
            ["10.0.2.0/24 scope link", "default via 10.0.2.1 onlink metric last"],
            id="prefix only",
        ),
        pytest.param(
            one(usable("10.7.0.9", "", f"{NET4} 10.7.0.0/20", "10.7.0.9")),
            Policy(addresses=AddressMode.ALL),
            [
                "10.0.2.0/24 src 10.7.0.9 scope link",
                "10.7.0.0/20 src 10.7.0.9 scope link",
                "default via 10.7.0.1 onlink src 10.7.0.9 metric last",
            ],
            id="the router of the first address's subnet",
        ),
        pytest.param(
            one(usable("10.9.9.9", "", NET4)),
            Policy(addresses=AddressMode.NONE),
            ["10.0.2.0/24 scope link", "default via 10.0.2.1 onlink metric last"],
            id="or of the first subnet",
        ),
        pytest.param(
            one(usable(IPV6, "", f"{NET6} 2001:db8:5::/64")),
            DEFAULT,
            [
                "2001:db8:0:2::/64 metric 1024",
                "2001:db8:5::/64 metric 1024",
                "fe80::/64 metric 1024",
                "default via fe80:ec2::1 metric last",
            ],
            id="several IPv6 CIDRs",
        ),
        pytest.param(
            one(usable(IPV6)),
            DEFAULT,
            ["fe80::/64 metric 1024", "default via fe80:ec2::1 metric last"],
            id="IPv6 without a CIDR",
        ),
        pytest.param(
            one(U6, addresses=(replace(LEASE6, tentative=True),)),
            DEFAULT,
            [
                "2001:db8:0:2::/64 metric 1024",
                "fe80::/64 metric 1024",
                "default via fe80:ec2::1 metric last",
            ],
            id="no source while it is tentative",
        ),
        pytest.param(
            one(U6, routes=(ra_default("fe80::7"), ra_default("fe80::8"))),
            Policy(ipv6_router=Ipv6Router.RA),
            ["2001:db8:0:2::/64 metric 1024", "fe80::/64 metric 1024",
             "default via fe80::7 metric last"],
            id="the router that the kernel learned",
        ),
        pytest.param(
            one(U6, routes=(
                static("::/0", "fe80::9", metric=1024, protocol=RTPROT_DHCP),
                replace(ra_default("fe80::9"), dst=net("2001:db8:9::/48")),
            )),
            Policy(ipv6_router=Ipv6Router.RA),
            ["2001:db8:0:2::/64 metric 1024", "fe80::/64 metric 1024",
             "2001:db8:9::/48 via fe80::9 metric 1024"],
            id="... if it learned one",
        ),
        pytest.param(
            one(U6, routes=(ra_default("fe80::7"),)),
            DEFAULT,
            ["2001:db8:0:2::/64 metric 1024", "fe80::/64 metric 1024",
             "default via fe80:ec2::1 metric last"],
            id="EC2's by default",
        ),
        pytest.param(
            one(usable("10.9.9.9")), Policy(addresses=AddressMode.NONE), [], id="no subnet, no way"
        ),
    ],
)  # fmt: skip
def test_routes(subject: Subject, policy: Policy, expected: list[str]) -> None:
    assert routes(subject, policy) == expected


# --- a link that is down -----------------------------------------------------------------------

DOWN = replace(ETH1, up=False)
LISTED = usable(f"{IPV6} 2001:db8:0:2::11", "", NET6, f"{IPV6} 2001:db8:0:2::11")


def test_what_survives_a_link_that_is_down() -> None:
    subject = Subject(DOWN, {V4: PAIR, V6: LISTED}, (LEASE4,), first_due=True)
    made = plan(subject, DEFAULT)
    assert made.routes == ()
    assert (made.addresses, made.awaited) == (ips("10.0.2.11"), ())
    assert rules(subject) == rules(replace(subject, link=ETH1))
    assert (made.group, made.bring_up) == (3778, False)


def test_a_link_that_is_set_up_gets_everything_at_once() -> None:
    subject = Subject(DOWN, {V4: PAIR, V6: LISTED}, (LEASE4,), bring_up=True)
    up = replace(subject, link=ETH1, bring_up=False)
    assert plan(subject, DEFAULT) == replace(plan(up, DEFAULT), bring_up=True)


def test_a_link_that_udev_may_rename_has_no_group_yet() -> None:
    made = plan(Subject(DOWN, {V4: PAIR}, waits_for_udev=True), DEFAULT)
    assert (made.group, made.bring_up) == (None, False)
    assert made.rules


# --- addresses -------------------------------------------------------------------------------

A, B, C = "2001:db8:0:2::a", "2001:db8:0:2::b", "2001:db8:0:2::c"
D, E, F = "10.0.2.13", "10.0.2.14", "10.0.2.15"
THREE6 = usable(f"{A} {B} {C}", "", NET6, f"{A} {B} {C}")
THREE4 = usable(f"{D} {E} {F}", "", NET4, f"{D} {E} {F}")
AUTO, ALL, NO = AddressMode.AUTO, AddressMode.ALL, AddressMode.NONE


@pytest.mark.parametrize(
    ("which", "there", "mode", "due", "expected"),
    [
        # The first IPv4 address on the link is the source of what is not bound: the others wait.
        pytest.param(THREE4, [], AUTO, False, [], id="the first may still come by DHCP"),
        pytest.param(THREE4, [added(f"{E}/32")], AUTO, False, [E], id="what is there stays"),
        pytest.param(THREE4, [], AUTO, True, [D, E, F], id="it did not come"),
        pytest.param(THREE4, [lease(f"{D}/24")], AUTO, False, [E, F], id="it came"),
        pytest.param(THREE4, [lease(f"{D}/24")], AUTO, True, [E, F], id="it came, late"),
        pytest.param(THREE4, [added(f"{D}/32")], AUTO, False, [D, E, F], id="ours, at a restart"),
        pytest.param(
            THREE4,
            [added(f"{D}/32"), lease(f"{D}/24")],
            AUTO,
            True,
            [E, F],
            id="a late lease takes over",
        ),
        pytest.param(THREE4, [permanent(f"{E}/24")], AUTO, False, [], id="an operator's own"),
        pytest.param(THREE4, [lease(f"{E}/24")], AUTO, False, [], id="IPv4: the first comes still"),
        pytest.param(THREE6, [], AUTO, False, [B, C], id="IPv6: the first may still come"),
        pytest.param(THREE6, [lease(f"{B}/128")], AUTO, False, [A, C], id="DHCPv6 chose another"),
        pytest.param(
            THREE6, [added(f"{B}/128")], AUTO, False, [B, C], id="one of ours is no DHCPv6"
        ),
        pytest.param(
            THREE6, [lease("2001:db8:0:2::ff/128")], AUTO, False, [B, C], id="an unlisted one"
        ),
        pytest.param(
            THREE6,
            [lease(f"{A}/128", tentative=True)],
            AUTO,
            True,
            [B, C],
            id="being checked: there all the same",
        ),
        pytest.param(THREE6, [], ALL, False, [A, B, C], id="all"),
        pytest.param(THREE6, [lease(f"{A}/128")], ALL, False, [B, C], id="all that lack"),
        pytest.param(THREE6, [added(f"{A}/128")], NO, True, [], id="none"),
        pytest.param(usable(D, "", NET4), [], ALL, True, [], id="never what IMDS does not list"),
    ],
)
def test_addresses(
    *, which: Usable, there: list[Address], mode: AddressMode, due: bool, expected: list[str]
) -> None:
    subject = one(which, addresses=tuple(there), first_due=due)
    made = plan(subject, Policy(addresses=mode))
    assert made.addresses == ips(*expected)
    # What is neither there nor added is awaited, and that can only be the first, or waits for it.
    lacking = [ip_ for ip_ in which.listed if ip_ not in {a.ip for a in there}]
    missing = tuple(ip_ for ip_ in lacking if ip_ not in made.addresses)
    assert made.awaited == (() if mode is NO else missing[:1])
    assert made.awaited in ((), which.listed[:1])
    assert mode is NO or which is THREE4 or not missing[1:]


def test_both_families_may_wait_for_their_first_address() -> None:
    made = plan(replace(BOTH, addresses=()), DEFAULT)
    assert (made.addresses, made.awaited) == ((), ips(IPV4, IPV6))


# --- any facts -------------------------------------------------------------------------------

HOSTS = st.lists(st.sampled_from(ips(D, E, F, IPV4)), unique=True).map(tuple)
SUBNETS = st.lists(st.sampled_from(nets(NET4, "10.0.0.0/16", "10.0.3.0/24")), unique=True)
STATICS = st.lists(
    st.builds(
        static,
        st.sampled_from(["0.0.0.0/0", NET4, "172.16.0.0/12", "10.0.3.0/24"]),
        st.sampled_from([None, "10.0.2.7"]),
        metric=st.sampled_from([0, 100]),
    )
)


def unique(items: Iterable[object]) -> bool:
    items = list(items)
    return len(set(items)) == len(items)


@settings(deadline=None)
@given(
    HOSTS,
    HOSTS,
    SUBNETS.map(tuple),
    SUBNETS.map(frozenset),
    SUBNETS.map(tuple),
    STATICS.map(tuple),
    st.sampled_from(RuleMode),
    st.booleans(),
)
def test_any_plan_can_be_carried_out(
    proven: tuple[IPAddress, ...],
    listed: tuple[IPAddress, ...],
    subnets: tuple[Any, ...],
    alone: frozenset[IPNetwork],
    detours: tuple[IPNetwork, ...],
    operators: tuple[Route, ...],
    mode: RuleMode,
    due: bool,
) -> None:
    certain = Usable(tuple(dict.fromkeys((*listed, *proven))), (), subnets, listed)
    leases = tuple(Address(3, address, 24, dynamic=True) for address in proven)
    subject = Subject(
        ETH1, {V4: certain}, leases, operators, first_due=due, alone=alone, detours=detours
    )
    made = plan(subject, Policy(rules=mode))
    assert unique(route.key for route in made.routes)
    assert unique(made.rules)
    assert unique(made.addresses)
    assert set(made.addresses) <= set(listed) - set(proven)
    present = {*proven, *made.addresses}
    assert {route.prefsrc for route in made.routes if route.protocol == PROTOCOL} - {
        None
    } <= present
    # Whoever has an address has a rule for it.
    leading = [rule for rule in made.rules if rule.table == TABLE]
    selected = [rule.src for rule in leading if rule.src and not rule.dst]
    assert all(any(ip_ in src for src in selected) for ip_ in certain.addresses)
    # Nobody takes what may be a neighbour's.
    shared = {rule.src for rule in made.rules if rule.iif}
    assert shared <= alone & set(subnets)
    # What a rule selects was seen by its guard.
    for place, rule in enumerate(made.rules):
        guard = replace(
            rule, table=MAIN_TABLE, dst=None, suppress_prefixlength=0, suppress_ifgroup=3778
        )
        assert (guard in made.rules[:place]) is (rule.dst is None and rule.table == TABLE)
