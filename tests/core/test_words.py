"""What things are called. That `ip` understands the commands is tried in tests/netlink."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from nicwatchd.core.model import (
    LINK_GROUP,
    MAIN_TABLE,
    RTPROT_BOOT,
    RTPROT_DHCP,
    RTPROT_KERNEL,
    SCOPE_LINK,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    Link,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
)
from nicwatchd.core.words import (
    address_text,
    brief,
    command,
    group_text,
    names_in,
    route_text,
    rule_text,
)

T = 1000959
V4, V6 = ip_address("10.0.2.12"), ip_address("2001:db8::12")
LINKS = {3: Link(3, "02:00:00:00:00:03", "eth1", up=True)}
NAMES = {3: "eth1"}.get

SUBNET_V4 = Route(ip_network("10.0.2.0/24"), T, 3, scope=SCOPE_LINK, prefsrc=V4)
DEFAULT_V4 = Route(
    ip_network("0.0.0.0/0"), T, 3, gateway=ip_address("10.0.2.1"), prefsrc=V4, onlink=True
)
DEFAULT_V6 = Route(ip_network("::/0"), T, 3, gateway=ip_address("fe80:ec2::1"), metric=1024)
PREFIX = Rule(Family.V6, 32765, T, src=ip_network("2001:db8::/80"))
GUARD = Rule(
    *(Family.V4, 32765, MAIN_TABLE),
    src=ip_network("10.0.2.12/32"),
    suppress_prefixlength=0,
    suppress_ifgroup=LINK_GROUP,
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (PREFIX, "32765: from 2001:db8::/80 lookup 1000959 proto 236"),
        (
            GUARD,
            (
                "32765: from 10.0.2.12 lookup main"
                " suppress_prefixlength 0 suppress_ifgroup 3778 proto 236"
            ),
        ),
        (
            Rule(Family.V4, 9, 7, 4, dst=ip_network("10.9.0.0/16"), fwmark=1, fwmask=15, iif="lo"),
            "9: from all to 10.9.0.0/16 fwmark 0x1/0xf iif lo lookup 7 proto static",
        ),
        (
            Rule(Family.V6, 32765, T, oif="eth1", fwmark=1, fwmask=0xFFFFFFFF),
            "32765: from all fwmark 0x1 oif eth1 lookup 1000959 proto 236",
        ),
        (
            Rule(Family.V4, 9, 253, 16, fwmark=0x80, suppress_ifgroup=0),
            "9: from all fwmark 0x80 lookup default suppress_ifgroup default proto dhcp",
        ),
        (Rule(Family.V4, 0, 255, 2), "0: from all lookup local"),
        (Rule(Family.V4, 9, 255, 3), "9: from all lookup local"),
        (Rule(Family.V4, 9, 7, 9), "9: from all lookup 7 proto ra"),
        (Rule(Family.V4, 5, 0, 0, action=2), "5: from all goto"),
        (Rule(Family.V4, 5, 0, 0, action=6), "5: from all blackhole"),
        (Rule(Family.V4, 5, 0, 0, action=7), "5: from all unreachable"),
        (Rule(Family.V4, 5, 0, 0, action=8), "5: from all prohibit"),
    ],
)
def test_a_rule_reads_as_in_a_list_of_ip(rule: Rule, expected: str) -> None:
    assert rule_text(rule) == expected


def test_a_route_an_address_and_a_group_read_as_ip_prints_them() -> None:
    lease = Route(ip_network("10.9.0.1/32"), MAIN_TABLE, 3, RTPROT_DHCP, metric=50)
    assert route_text(lease, NAMES) == "10.9.0.1 dev eth1 table main proto dhcp metric 50"
    assert route_text(SUBNET_V4, NAMES) == (
        "10.0.2.0/24 dev eth1 table 1000959 proto 236 scope link src 10.0.2.12"
    )
    kernels = Route(ip_network("10.9.0.0/16"), 255, 9, RTPROT_KERNEL, scope=254)
    assert route_text(kernels, NAMES) == "10.9.0.0/16 dev if9 table local proto kernel scope host"
    operators = Route(ip_network("10.9.0.0/16"), 253, 3, RTPROT_BOOT, scope=200)
    assert route_text(operators, NAMES) == (
        "10.9.0.0/16 dev eth1 table default proto boot scope 200"
    )
    assert address_text(Address(3, V4, 24), NAMES) == "10.0.2.12/24 dev eth1"
    assert [group_text(n) for n in (0, LINK_GROUP)] == ["group default", "group 3778"]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (SetGroup(3, LINK_GROUP), "ip link set dev eth1 group 3778"),
        (SetUp(3), "ip link set dev eth1 up"),
        (AddAddress(3, V4), "ip addr add 10.0.2.12/32 dev eth1 noprefixroute"),
        (
            AddAddress(3, V6),
            "ip -6 addr add 2001:db8::12/128 dev eth1 preferred_lft 0 nodad noprefixroute",
        ),
        (RemoveAddress(3, V4, 24), "ip addr del 10.0.2.12/24 dev eth1"),
        (
            AddRoute(DEFAULT_V4, replace=True),
            (
                "ip route replace default via 10.0.2.1 dev eth1 table 1000959 proto 236"
                " src 10.0.2.12 onlink"
            ),
        ),
        (
            AddRoute(DEFAULT_V6),
            "ip -6 route add default via fe80:ec2::1 dev eth1 table 1000959 proto 236 metric 1024",
        ),
        (
            AddRoute(replace(DEFAULT_V4, gateway=None, prefsrc=None)),
            f"ip route add default dev eth1 table {T} proto 236 onlink scope global",
        ),
        (
            RemoveRoute(replace(DEFAULT_V6, gateway=None)),
            f"ip -6 route del default dev eth1 table {T} proto 236 metric 1024",
        ),
        (
            RemoveRoute(SUBNET_V4),
            "ip route del 10.0.2.0/24 dev eth1 table 1000959 proto 236 scope link src 10.0.2.12",
        ),
        (AddRule(PREFIX), "ip -6 rule add pref 32765 from 2001:db8::/80 lookup 1000959 proto 236"),
        (
            RemoveRule(GUARD),
            (
                "ip rule del pref 32765 from 10.0.2.12 lookup main"
                " suppress_prefixlength 0 suppress_ifgroup 3778 proto 236"
            ),
        ),
    ],
)
def test_an_operation_is_the_command_that_does_it(operation: Operation, expected: str) -> None:
    assert command(operation, NAMES) == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (SetGroup(3, LINK_GROUP), "the link group 3778"),
        (SetUp(3), "the link's being up"),
        (AddAddress(3, V4), "the address 10.0.2.12"),
        (RemoveAddress(3, V6, 128), "the address 2001:db8::12"),
        (AddRoute(DEFAULT_V4), f"the route to 0.0.0.0/0 in table {T}"),
        (RemoveRoute(SUBNET_V4), f"the route to 10.0.2.0/24 in table {T}"),
        (AddRule(PREFIX), "the IPv6 rule 32765 (from 2001:db8::/80)"),
        (RemoveRule(GUARD), "the IPv4 rule 32765 (from 10.0.2.12/32)"),
        (
            AddRule(Rule(Family.V4, 9, T, iif="lo", src=ip_network("10.0.2.0/24"), oif="eth1")),
            "the IPv4 rule 9 (iif lo from 10.0.2.0/24 oif eth1)",
        ),
    ],
)
def test_what_an_operation_is_about_in_few_words(operation: Operation, expected: str) -> None:
    assert brief(operation) == expected


def test_a_link_that_is_gone_goes_by_its_index() -> None:
    name_of = names_in(LINKS)
    assert (name_of(3), name_of(7)) == ("eth1", None)
    assert command(SetUp(7), name_of) == "ip link set dev if7 up"
    assert command(SetUp(3), name_of) == "ip link set dev eth1 up"


def test_no_name_of_a_link_runs_as_a_command() -> None:
    rule = Rule(Family.V4, 32765, T, oif="e;reboot")
    assert "oif 'e;reboot' lookup" in command(AddRule(rule), NAMES)
    assert command(SetUp(3), {3: "$(id)"}.get) == "ip link set dev '$(id)' up"
