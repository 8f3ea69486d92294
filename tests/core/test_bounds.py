"""What no VPC can give is refused and named, and holds up nothing else."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from nicwatchd.core.bounds import (
    MOST_CIDRS,
    MOST_ITEMS,
    NO_ADDRESS,
    bounded,
    distinct,
    never,
    no_item,
    no_prefix,
    no_subnet,
    overlap,
)
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import Family
from tests.core.build import IPV4, IPV6, NET4, NET6, eni, family, ip, ips, net, nets
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, AWAITING, FULL, applied, hot_plugged


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.2.0/24", None),
        ("10.0.0.0/16", None),
        ("10.0.2.16/28", None),
        ("10.0.0.0/15", "too wide for a subnet"),
        ("10.0.2.16/29", "too narrow for a subnet"),
        ("255.255.255.255/32", "too narrow for a subnet"),
        ("255.255.255.240/28", NO_ADDRESS),
        ("169.254.0.0/24", NO_ADDRESS),
        ("169.254.0.0/16", NO_ADDRESS),
        ("0.0.0.0/16", NO_ADDRESS),
        ("127.1.0.0/16", NO_ADDRESS),
        ("240.0.0.0/16", NO_ADDRESS),
        ("2001:db8::/44", None),
        (NET6, None),
        ("2001:db8::/32", "too wide for a subnet"),
        ("2001:db8::/65", "too narrow for a subnet"),
        ("fd00:ec2::/64", NO_ADDRESS),
        ("fe80::/64", NO_ADDRESS),
        ("ff02::/64", NO_ADDRESS),
        ("::/64", NO_ADDRESS),
        ("fd00::/44", None),
    ],
)
def test_subnets(text: str, reason: str | None) -> None:
    assert no_subnet(net(text)) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("10.0.2.16/28", None),
        ("10.0.2.16/31", None),
        ("10.0.2.16/32", "too narrow for a prefix"),
        ("10.0.0.0/16", "too wide for a prefix"),
        ("10.0.0.0/17", None),
        ("2001:db8:0:2:1::/80", None),
        ("2001:db8:0:2:1::/127", None),
        (f"{IPV6}/128", "too narrow for a prefix"),
        ("2001:db8::/44", "too wide for a prefix"),
        ("::ffff:0:0/112", NO_ADDRESS),
        ("fd00:ec2::/80", NO_ADDRESS),
    ],
)
def test_prefixes(text: str, reason: str | None) -> None:
    assert no_prefix(net(text)) == reason


@pytest.mark.parametrize(
    ("item", "subnets", "reason"),
    [
        *((f"10.0.2.{n}", NET4, f"reserved by AWS in {NET4}") for n in (0, 1, 2, 3, 255)),
        *((f"2001:db8:0:2::{n}", NET6, f"reserved by AWS in {NET6}") for n in range(4)),
        ("2001:db8:0:2:ffff:ffff:ffff:ffff", NET6, f"reserved by AWS in {NET6}"),
        ("10.0.2.4", NET4, None),
        ("10.0.2.254", NET4, None),
        ("2001:db8:0:2::4", NET6, None),
        ("10.0.3.1", NET4, None),
        ("10.0.2.1", "10.0.3.0/24 10.0.2.0/24", "reserved by AWS in 10.0.2.0/24"),
        ("10.0.2.16/28", NET4, None),
        ("10.0.2.0/28", NET4, f"it holds an address that AWS reserves in {NET4}"),
        ("10.0.2.240/28", NET4, f"it holds an address that AWS reserves in {NET4}"),
        ("10.0.2.2/31", NET4, f"it holds an address that AWS reserves in {NET4}"),
        ("10.0.2.0/24", NET4, f"not longer than the subnet {NET4}"),
        ("10.0.0.0/20", NET4, f"not longer than the subnet {NET4}"),
        (NET6, NET6, f"not longer than the subnet {NET6}"),
        ("2001:db8:0:2::/80", NET6, f"it holds an address that AWS reserves in {NET6}"),
        ("2001:db8:0:2:1::/80", NET6, None),
        ("2001:db8:0:3:1::/80", NET6, None),
    ],
)
def test_items_in_their_subnets(item: str, subnets: str, reason: str | None) -> None:
    thing = net(item) if "/" in item else ip(item)
    assert no_item(thing, nets(*subnets.split())) == reason


def test_what_overlaps_counts_not_where_it_begins() -> None:
    assert never(net("168.0.0.0/7"))
    assert never(net("0.0.0.0/0"))
    assert never(net("fc00::/7"))
    assert not never(net("10.0.0.0/8"))
    assert [str(each) for each in ips("169.254.1.1", "10.0.0.1", "fd00:ec2::254") if never(each)]
    assert not never(ip("10.0.0.1"))
    assert overlap(net("10.0.0.0/8"), net(NET4))
    assert overlap(net(NET4), net("10.0.0.0/8"))
    assert not overlap(net("::/0"), net("0.0.0.0/0"))


def test_cidrs_beside_each_other() -> None:
    assert distinct(nets(NET4, "10.0.3.0/24", "10.0.0.0/16")) == {
        net(NET4): None,
        net("10.0.3.0/24"): f"an ENI has one IPv4 CIDR, which is {NET4}",
        net("10.0.0.0/16"): f"overlaps {NET4}",
    }
    assert distinct(nets(NET6, "2001:db8:0::/48", "2001:db8:5::/64")) == {
        net(NET6): None,
        net("2001:db8::/48"): f"overlaps {NET6}",
        net("2001:db8:5::/64"): None,
    }
    many = [ip_network((0x20010DB8 << 96) + (n << 64)).supernet(new_prefix=64) for n in range(20)]
    reasons = distinct(many)
    assert list(reasons.values()).count(None) == MOST_CIDRS
    assert reasons[many[-1]] == f"more than {MOST_CIDRS} CIDRs"


def test_what_is_named_is_bounded() -> None:
    assert bounded("ipv6s", ["x"] * 4) == ("x",) * 4
    assert bounded("ipv6s", ["x"] * 9) == (*("x",) * 4, "ipv6s: 5 more lines refused")


# --- in the life of an interface -----------------------------------------------------------------


def notes(motion: FastMotion) -> list[tuple[str, str]]:
    return [(note.code, note.text) for note in motion.host.interfaces[3].view().notes]


@pytest.mark.parametrize(
    ("v4", "v6", "text"),
    [
        (f"{IPV4} 10.0.2.1", IPV6, "local-ipv4s: '10.0.2.1': reserved by AWS in 10.0.2.0/24"),
        (f"10.0.2.2 {IPV4}", IPV6, "local-ipv4s: '10.0.2.2': reserved by AWS in 10.0.2.0/24"),
        (IPV4, f"{IPV6} 2001:db8:0:2::1",
         "ipv6s: '2001:db8:0:2::1': reserved by AWS in 2001:db8:0:2::/64"),
    ],
)  # fmt: skip
def test_one_reserved_address_does_not_hold_up_the_rest(v4: str, v6: str, text: str) -> None:
    """It is waited for, as its list is not known; all others are there, and it never is."""
    motion = hot_plugged(eni(family(v4, cidrs=NET4), family(v6, cidrs=NET6)))
    motion.run(60.0)
    key = text.partition(":")[0]
    assert (motion.state(), motion.reasons()) == (AWAITING, {f"unread-{key}"})
    assert ("refused", text) in notes(motion)
    assert {str(a.ip) for a in motion.kernel.addresses_of(3)} == {IPV4, IPV6}
    motion.imds("02:00:00:00:00:02", 60.0, FULL)
    motion.run(130.0)
    assert (motion.state(), notes(motion)) == (APPLIED, [])


@pytest.mark.parametrize("first", ["address", "cidr"])
@pytest.mark.parametrize("which", [4, 6])
def test_a_reserved_address_is_told_in_any_order(first: str, which: int) -> None:
    """Before the CIDR is known, nobody can tell that it is reserved."""
    good, bad = (IPV4, "10.0.2.3") if which == 4 else (IPV6, "2001:db8:0:2::3")
    cidr = NET4 if which == 4 else NET6

    def says(addresses: str | None, cidrs: str | None) -> None:
        lists = family(*((addresses,) if addresses else ()), **({"cidrs": cidrs} if cidrs else {}))
        reading = eni(lists) if which == 4 else eni(v6=lists)
        motion.imds("02:00:00:00:00:02", motion.now, reading)

    motion = hot_plugged(eni())
    motion.run(11.0)
    says(*((f"{good} {bad}", None) if first == "address" else (None, cidr)))
    motion.run(13.0)
    says(f"{good} {bad}", cidr)
    motion.run(60.0)
    key = "local-ipv4s" if which == 4 else "ipv6s"
    assert (motion.state(), motion.reasons()) == (AWAITING, {f"unread-{key}"})
    assert {str(a.ip) for a in motion.kernel.addresses_of(3)} == {good}
    assert motion.host.interfaces[3].facts.memory.listed == {ip(good)}


def test_a_reserved_address_that_comes_later_is_a_note() -> None:
    motion = applied()
    motion.imds("02:00:00:00:00:02", 130.0, eni(family(f"{IPV4} 10.0.2.1", cidrs=NET4), FULL.v6))
    motion.run(600.0)
    assert (motion.state(), motion.reasons()) == (APPLIED, set())
    assert notes(motion) == [("refused", "local-ipv4s: '10.0.2.1': reserved by AWS in 10.0.2.0/24")]


@pytest.mark.parametrize(
    "prefix",
    ["10.0.2.0/24", "10.0.2.0/28", "10.0.2.240/28", "10.0.0.0/17", "2001:db8:0:2::/80", NET6],
)
def test_a_prefix_that_holds_what_is_not_its_own_is_refused(prefix: str) -> None:
    v4 = family(IPV4, prefix if "." in prefix else "10.0.2.32/28", NET4)
    v6 = family(IPV6, prefix if ":" in prefix else "2001:db8:0:2:1::/80", NET6)
    motion = hot_plugged(eni(v4, v6))
    motion.run(60.0)
    key = "ipv4-prefix" if "." in prefix else "ipv6-prefix"
    assert (motion.state(), motion.reasons()) == (AWAITING, {f"unread-{key}"})
    refused = [text for code, text in notes(motion) if code == "refused"]
    assert [text for text in refused if text.startswith(f"{key}: '{prefix}'")] == refused
    assert all(rule.iif for rule in motion.kernel.own_rules if str(rule.src) == prefix)


def test_a_second_ipv4_cidr_and_a_nested_one_are_refused() -> None:
    motion = hot_plugged(
        eni(family(IPV4, cidrs=f"{NET4} 10.0.0.0/16"), family(IPV6, cidrs=f"{NET6} 2001:db8::/48"))
    )
    motion.run(60.0)
    assert motion.reasons() == {"unread-subnet-ipv4-cidr-block", "unread-subnet-ipv6-cidr-blocks"}
    assert {str(route.dst) for route in motion.kernel.own_routes if route.oif == 3} == {
        NET4, NET6, "0.0.0.0/0", "::/0", "fe80::/64"
    }  # fmt: skip


def test_the_work_grows_with_the_lists_and_lists_have_an_end() -> None:
    """Lists that are never whole do not add up, and what is known is not pushed out by them."""
    motion = applied()
    heard = [
        replace(FULL.v6, addresses=Value(
            tuple(ip(f"2001:db8:0:2::{round_ + 1:x}:{n + 16:x}") for n in range(200)), whole=False
        ))
        for round_ in range(6)
    ]  # fmt: skip
    for number, v6 in enumerate(heard):
        motion.imds("02:00:00:00:00:02", 200.0 + 100.0 * number, eni(FULL.v4, v6))
    motion.run(900.0)
    found = {a.ip for a in motion.kernel.addresses_of(3) if a.family is Family.V6}
    assert len(found) == MOST_ITEMS
    assert ip(IPV6) in found
    motion.imds("02:00:00:00:00:02", 900.0, FULL)
    motion.run(1100.0)
    assert {a.ip for a in motion.kernel.addresses_of(3)} == set(ips(IPV4, IPV6))
