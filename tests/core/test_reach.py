"""Do packets leave by the ENI that has their source? By look-ups, and by what the rules say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH, ENODEV
from ipaddress import IPv4Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.model import (
    LOCAL_TABLE,
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_KERNEL,
    IPAddress,
    Reason,
    Rule,
)
from nicwatchd.core.port import RouteAnswer
from nicwatchd.core.reach import NOTHING_AMISS, Reached, Sources, Ways, conclude, paths, shared
from nicwatchd.core.shadow import FAR
from tests.core.build import IPV4, IPV6, NET4, NET6, TABLE, V4, V6, ip, ips, net, nets

NAMES = {2: "eth0", 3: "eth1", 4: "br0", 7: "wg0"}
NET_OF_PRIMARY = "10.0.1.0/24"
BY_KERNEL = [
    Rule(V4, 0, LOCAL_TABLE, RTPROT_KERNEL),
    Rule(V4, 32766, MAIN_TABLE, RTPROT_KERNEL),
    Rule(V6, 0, LOCAL_TABLE, RTPROT_KERNEL),
    Rule(V6, 32766, MAIN_TABLE, RTPROT_KERNEL),
]
GUARD = Rule(V4, 32765, MAIN_TABLE, src=net(f"{IPV4}/32"), suppress_prefixlength=0)
OURS = Rule(V4, 32765, TABLE, src=net(f"{IPV4}/32"))
THEIRS = Rule(V4, 100, 100, protocol=4, src=net(NET4))
WIREGUARD = Rule(V4, 32764, 51820, protocol=3, fwmark=51820, fwmask=0xFFFFFFFF, inverted=True)
BEFORE_WIREGUARD = Rule(V4, 32763, MAIN_TABLE, protocol=3, suppress_prefixlength=0)
ALONE = Ways(3, V4, ips(IPV4), frozenset({3}), nets(NET4, NET_OF_PRIMARY), TABLE)
V6_ALONE = Ways(3, V6, ips(IPV6), frozenset({3}), nets(NET6), TABLE)
BY_PRIMARY, BY_WIREGUARD = RouteAnswer(100, 2), RouteAnswer(51820, 7)


# --- groups ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "sources", "expected"),
    [
        pytest.param("", [NET4], [], id="no address"),
        pytest.param("10.0.2.10 10.0.2.11", [], ["10.0.2.10 10.0.2.11"], id="no rule"),
        pytest.param(
            "10.0.2.10 10.0.2.11", [NET4], ["10.0.2.10 10.0.2.11"], id="selected together"
        ),
        pytest.param(
            "10.0.2.10 10.0.2.11",
            ["10.0.2.10/32"],
            ["10.0.2.10", "10.0.2.11"],
            id="one is selected",
        ),
        pytest.param(
            "10.0.2.10 10.0.2.12 10.0.2.11",
            ["10.0.2.11/32"],
            ["10.0.2.10", "10.0.2.12", "10.0.2.11"],
            id="on both sides of what is selected",
        ),
        pytest.param(
            "10.0.2.20 10.0.2.10", [], ["10.0.2.20 10.0.2.10"], id="the first stays the first"
        ),
        pytest.param(
            "10.0.2.10 10.0.2.11", ["2001:db8::/32"], ["10.0.2.10 10.0.2.11"], id="another family"
        ),
    ],
)
def test_groups(addresses: str, sources: list[str], expected: list[str]) -> None:
    rules = [replace(THEIRS, src=net(source), family=V6 if ":" in source else V4)
             for source in sources]  # fmt: skip
    found = shared(ips(*addresses.split()), Sources.of(rules).every[V4])
    assert found == [ips(*group.split()) for group in expected]


ADDRESSES = st.lists(st.integers(0, 255), unique=True, max_size=12)
SOURCES = st.lists(st.tuples(st.integers(0, 255), st.integers(24, 32)), max_size=6)


@given(ADDRESSES, SOURCES)
def test_all_of_a_group_are_selected_alike(
    hosts: list[int], sources: list[tuple[int, int]]
) -> None:
    addresses = [IPv4Address(0x0A000200 + host) for host in hosts]
    nets = [ip_network((0x0A000200 + host, bits), strict=False) for host, bits in sources]
    rules = [replace(THEIRS, src=each) for each in nets]
    groups = shared(addresses, Sources.of(rules).foreign[V4])
    members = [each for group in groups for each in group]
    assert sorted(members) == sorted(addresses), "each is in one group"
    assert [group[0] for group in groups[:1]] == addresses[:1]
    for group in groups:
        assert list(group) == [each for each in addresses if each in group], "in their order"
        for source in nets:
            assert len({each in source for each in group}) == 1


# --- what is looked up -----------------------------------------------------------------------


def asked(ways: Ways, rules: list[Rule], host: str = IPV4) -> list[tuple[str, str]]:
    found = list(paths(ways, Sources.of(rules), frozenset(ips(*host.split()))))
    subnets = [path.subnet for path in found if path.to in FAR.values()]
    assert not any(subnets), "they come first, and are far from all"
    assert all(path.subnet and path.to in path.subnet for path in found[len(subnets) :])
    return [(str(path.group[0]), str(path.to)) for path in found]


FAR4 = str(FAR[V4])
TWO = replace(ALONE, addresses=ips(IPV4, "10.0.2.11"))


@pytest.mark.parametrize(
    ("ways", "rules", "host", "expected"),
    [
        pytest.param(
            ALONE,
            [*BY_KERNEL, GUARD, OURS],
            IPV4,
            [(IPV4, FAR4), (IPV4, "10.0.2.254"), (IPV4, "10.0.1.254")],
            id="far away, and each subnet",
        ),
        pytest.param(
            replace(ALONE, subnets=nets(NET4)),
            [],
            f"{IPV4} 10.0.2.254 10.0.2.253",
            [(IPV4, FAR4), (IPV4, "10.0.2.252")],
            id="no address of the host's own is a neighbour",
        ),
        pytest.param(
            replace(TWO, subnets=nets(NET4)),
            [GUARD, OURS],
            IPV4,
            [(IPV4, FAR4), ("10.0.2.11", FAR4), (IPV4, "10.0.2.254")],
            id="our rules lead all to one table",
        ),
        pytest.param(
            replace(TWO, subnets=nets(NET4)),
            [replace(THEIRS, src=net("10.0.2.11/32"))],
            IPV4,
            [
                (IPV4, FAR4),
                ("10.0.2.11", FAR4),
                (IPV4, "10.0.2.254"),
                ("10.0.2.11", "10.0.2.254"),
            ],
            id="others' rules lead anywhere",
        ),
        pytest.param(replace(ALONE, addresses=()), [], IPV4, [], id="nothing on the link"),
        pytest.param(
            replace(ALONE, subnets=nets("10.0.2.10/32")), [], IPV4, [(IPV4, FAR4)], id="no subnet"
        ),
    ],
)
def test_what_is_looked_up(
    ways: Ways, rules: list[Rule], host: str, expected: list[tuple[str, str]]
) -> None:
    assert asked(ways, rules, host) == expected


def test_neighbours_in_ipv6() -> None:
    assert asked(V6_ALONE, []) == [(IPV6, str(FAR[V6])), (IPV6, "2001:db8:0:2:ffff:ffff:ffff:fffe")]


# --- what the answers mean -------------------------------------------------------------------


def reached(
    ways: Ways,
    rules: list[Rule],
    answers: Mapping[tuple[str, str], RouteAnswer | int],
    host: tuple[IPAddress, ...] = (),
) -> Reached:
    given = {(ip(src), ip(dst)): answer for (src, dst), answer in answers.items()}
    own = frozenset((*ways.addresses, *host))
    looked_up = list(paths(ways, Sources.of(rules), own))
    return conclude(ways, rules, looked_up, given, own, NAMES.get)


def why(ways: Ways, rules: list[Rule], answer: RouteAnswer | int, **more: Any) -> Reason | None:
    """Of the first address, from far away."""
    first = ways.addresses[0]
    found = reached(ways, rules, {(str(first), str(FAR[ways.family])): answer}, **more)
    return found.silent.get(first)


@pytest.mark.parametrize(
    ("ways", "answer"),
    [
        pytest.param(ALONE, RouteAnswer(TABLE, 3), id="by the ENI's own table"),
        pytest.param(ALONE, RouteAnswer(MAIN_TABLE, 3), id="by main, and its link"),
        pytest.param(ALONE, RouteAnswer(LOCAL_TABLE, 1), id="to the host itself"),
        pytest.param(
            replace(ALONE, links=frozenset({3, 4})), RouteAnswer(MAIN_TABLE, 4), id="by a bridge"
        ),
        pytest.param(ALONE, ENODEV, id="an errno that proves nothing"),
        pytest.param(ALONE, EINVAL, id="the address has just gone"),
    ],
)
def test_nothing_is_amiss(ways: Ways, answer: RouteAnswer | int) -> None:
    assert reached(ways, BY_KERNEL, {(IPV4, FAR4): answer}) is NOTHING_AMISS


def test_without_an_answer_nothing_is_known() -> None:
    assert reached(ALONE, [THEIRS], {}) is NOTHING_AMISS


DEL = "sudo ip rule del pref 100 from 10.0.2.0/24 lookup 100 proto static"
EXPLAIN = f"nicwatchd explain --from {IPV4} --to {FAR4}"


@pytest.mark.parametrize(
    ("ways", "rules", "answer", "text", "remedy"),
    [
        pytest.param(
            ALONE,
            [*BY_KERNEL, THEIRS, GUARD, OURS],
            BY_PRIMARY,
            f"{IPV4} answers nobody: its packets leave by eth0 instead of eth1, "
            "by rule 100 (from 10.0.2.0/24 lookup 100 proto static), which is not nicwatchd's",
            DEL,
            id="a foreign rule",
        ),
        pytest.param(
            ALONE,
            [*BY_KERNEL, replace(THEIRS, priority=99, src=net("10.9.0.0/16")), THEIRS],
            BY_PRIMARY,
            "... rule 100 (from 10.0.2.0/24 ...",
            DEL,
            id="the one that selects it",
        ),
        pytest.param(
            ALONE,
            [replace(THEIRS, table=MAIN_TABLE), GUARD, OURS, *BY_KERNEL],
            RouteAnswer(MAIN_TABLE, 2),
            "... by rule 100 (from 10.0.2.0/24 lookup main ...",
            "sudo ip rule del pref 100 from 10.0.2.0/24 lookup main proto static",
            id="a foreign rule that leads to main",
        ),
        pytest.param(
            ALONE,
            [BEFORE_WIREGUARD, WIREGUARD, GUARD, OURS, *BY_KERNEL],
            BY_WIREGUARD,
            f"{IPV4} answers nobody: its packets leave by wg0 instead of eth1, "
            "by rule 32764 (not from all fwmark 0xca6c lookup 51820), which is not nicwatchd's",
            f"sudo ip rule add pref 32763 iif lo from {IPV4} lookup {TABLE}",
            id="wg-quick takes all: the ENI's is let out before it",
        ),
        pytest.param(
            replace(ALONE, table=None),
            [WIREGUARD],
            BY_WIREGUARD,
            "... by rule 32764 ...",
            "sudo ip rule del pref 32764 not from all fwmark 0xca6c lookup 51820",
            id="no table that could lead it",
        ),
        pytest.param(
            ALONE,
            [replace(WIREGUARD, priority=1)],
            BY_WIREGUARD,
            "... by rule 1 ...",
            "sudo ip rule del pref 1 not from all fwmark 0xca6c lookup 51820",
            id="nothing comes before it",
        ),
        pytest.param(
            replace(V6_ALONE, subnets=()),
            [Rule(V6, 100, 100, 4, src=net(NET6))],
            BY_PRIMARY,
            f"{IPV6} answers nobody: its packets leave by eth0 instead of eth1, "
            f"by rule 100 (from {NET6} lookup 100 proto static), which is not nicwatchd's",
            f"sudo ip -6 rule del pref 100 from {NET6} lookup 100 proto static",
            id="IPv6",
        ),
        pytest.param(
            ALONE,
            [*BY_KERNEL, replace(THEIRS, action=7, table=0)],
            ENETUNREACH,
            f"{IPV4} answers nobody: its packets are rejected, by rule 100 (from 10.0.2.0/24 "
            "unreachable proto static), which is not nicwatchd's",
            "sudo ip rule del pref 100 from 10.0.2.0/24 unreachable proto static",
            id="an unreachable rule",
        ),
        pytest.param(
            ALONE,
            [*BY_KERNEL, replace(THEIRS, table=52), replace(THEIRS, priority=200, action=8)],
            EACCES,
            "... are rejected, by rule 200 ...",
            "sudo ip rule del pref 200 from 10.0.2.0/24 prohibit proto static",
            id="what rejects comes before what may lead to an error route",
        ),
        pytest.param(
            ALONE,
            [*BY_KERNEL, THEIRS],
            EHOSTUNREACH,
            "... are rejected, by rule 100 (from 10.0.2.0/24 lookup 100 ...",
            DEL,
            id="an unreachable route of its table",
        ),
        pytest.param(
            ALONE,
            [*BY_KERNEL, replace(THEIRS, action=6)],
            EINVAL,
            "... are rejected, by rule 100 (from 10.0.2.0/24 blackhole ...",
            "sudo ip rule del pref 100 from 10.0.2.0/24 blackhole proto static",
            id="a blackhole",
        ),
        pytest.param(
            ALONE,
            BY_KERNEL,
            ENETUNREACH,
            f"{IPV4} answers nobody: its packets find no route",
            EXPLAIN,
            id="no route at all",
        ),
        pytest.param(
            ALONE,
            BY_KERNEL,
            RouteAnswer(MAIN_TABLE, 2),
            f"{IPV4} answers nobody: its packets leave by eth0 instead of eth1, by a route of main",
            EXPLAIN,
            id="by main, since our rule is missing",
        ),
        pytest.param(
            replace(ALONE, is_primary=True, table=None),
            BY_KERNEL,
            RouteAnswer(MAIN_TABLE, 2),
            "... by a route of main",
            "sudo ip route del default dev eth0",
            id="main leads the primary elsewhere",
        ),
        pytest.param(
            ALONE,
            [replace(OURS, src=net(NET4), table=TABLE + 256), *BY_KERNEL],
            RouteAnswer(TABLE + 256, 2),
            f"... by table {TABLE + 256}",
            EXPLAIN,
            id="by another ENI's table",
        ),
        pytest.param(
            ALONE,
            [*BY_KERNEL, replace(THEIRS, exotic=True, src=None)],
            BY_PRIMARY,
            "... by rule 100 (from all lookup 100 ...",
            f"sudo ip rule add pref 99 iif lo from {IPV4} lookup {TABLE}",
            id="of a user: only the kernel knows",
        ),
        pytest.param(
            ALONE,
            [*BY_KERNEL, replace(THEIRS, fwmark=1, fwmask=1), replace(THEIRS, iif="eth0"),
             replace(THEIRS, oif="eth0"), replace(THEIRS, dst=net("10.9.0.0/16"))],
            BY_PRIMARY,
            "... by table 100",
            EXPLAIN,
            id="rules that do not select it",
        ),
        pytest.param(
            ALONE,
            [],
            RouteAnswer(100, 9),
            "... by if9 instead of eth1, by table 100",
            EXPLAIN,
            id="nameless",
        ),
    ],
)  # fmt: skip
def test_why_an_address_is_silent(
    ways: Ways, rules: list[Rule], answer: RouteAnswer | int, text: str, remedy: str
) -> None:
    reason = why(ways, rules, answer)
    assert reason
    assert (reason.code, reason.family) == ("leaves-elsewhere", ways.family)
    assert text.replace("...", "").strip() in reason.text
    assert reason.remedy == remedy


FULL_TUNNEL = [BEFORE_WIREGUARD, WIREGUARD]


@pytest.mark.parametrize(
    ("host", "source"),
    [
        pytest.param((), NET4, id="nobody else is in the subnet"),
        pytest.param(ips("10.0.1.10"), NET4, id="others are elsewhere"),
        pytest.param(ips("10.0.2.77"), IPV4, id="another link has an address in it"),
    ],
)
def test_a_remedy_for_several(host: tuple[IPAddress, ...], source: str) -> None:
    reason = why(TWO, FULL_TUNNEL, BY_WIREGUARD, host=host)
    assert reason
    assert reason.text.startswith(f"{IPV4} and 1 more answer nobody: ")
    assert reason.remedy == f"sudo ip rule add pref 32763 iif lo from {source} lookup {TABLE}"


def test_a_group_has_one_reason() -> None:
    found = reached(TWO, [THEIRS], {(IPV4, FAR4): BY_PRIMARY})
    assert list(found.silent) == list(TWO.addresses)
    assert len(set(found.silent.values())) == 1
    rules = [replace(THEIRS, src=net("10.0.2.11/32"))]
    answers = {(IPV4, FAR4): RouteAnswer(TABLE, 3), ("10.0.2.11", FAR4): BY_PRIMARY}
    assert list(reached(TWO, rules, answers).silent) == [ip("10.0.2.11")]


def test_hosts_of_a_subnet_are_cut_off() -> None:
    """Answers to them leave by a link that stands in their subnet, and EC2 drops them."""
    answers = {
        (IPV4, FAR4): RouteAnswer(TABLE, 3),
        (IPV4, "10.0.1.254"): RouteAnswer(MAIN_TABLE, 2),
    }
    found = reached(ALONE, [BEFORE_WIREGUARD, GUARD, OURS, *BY_KERNEL], answers)
    assert found.silent == {}
    (reason,) = found.cut_off
    assert reason.text == (
        f"{IPV4} answers no host of {NET_OF_PRIMARY}: its packets leave by eth0 instead of eth1, "
        "by rule 32763 (from all lookup main suppress_prefixlength 0), which is not nicwatchd's"
    )
    assert reason.remedy == f"sudo ip rule add pref 32762 iif lo from {IPV4} lookup {TABLE}"


@pytest.mark.parametrize(
    ("is_left", "remedy"),
    [
        (True, 'primary = "protect" in the settings, then: sudo systemctl reload nicwatchd'),
        (False, "give eth1's default route of main the best metric"),
    ],
)
def test_hosts_of_a_new_subnet_and_the_primary(*, is_left: bool, remedy: str) -> None:
    """Main's on-link route there is another ENI's. What mends it depends on the settings."""
    primary = replace(ALONE, is_primary=True, is_left=is_left, table=None)
    answers = {
        (IPV4, FAR4): RouteAnswer(MAIN_TABLE, 3),
        (IPV4, "10.0.1.254"): RouteAnswer(MAIN_TABLE, 2),
    }
    found = reached(primary, BY_KERNEL, answers)
    assert found.silent == {}
    (reason,) = found.cut_off
    assert reason.text.startswith(f"{IPV4} answers no host of 10.0.1.0/24: ")
    assert reason.remedy == remedy


def test_a_rule_that_passes_over_defaults_leads_nobody_far() -> None:
    reason = why(ALONE, [BEFORE_WIREGUARD, *BY_KERNEL], RouteAnswer(MAIN_TABLE, 2))
    assert reason
    assert "by a route of main" in reason.text


def test_what_answers_nobody_is_not_told_twice() -> None:
    everywhere = dict.fromkeys([(IPV4, FAR4), (IPV4, "10.0.2.254")], BY_PRIMARY)
    found = reached(ALONE, [THEIRS], {**everywhere})
    assert (list(found.silent), found.cut_off) == ([ip(IPV4)], ())


def test_our_own_rules_are_never_to_blame() -> None:
    assert OURS.protocol == PROTOCOL
    reason = why(ALONE, [replace(OURS, table=100)], BY_PRIMARY)
    assert reason
    assert "rule" not in reason.text
