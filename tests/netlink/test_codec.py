"""Our packers and readers against pyroute2's classes, which know nothing of them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from nicwatchd.core.model import (
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    Hop,
    Link,
    OfKernel,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
)
from nicwatchd.netlink.decode import (
    decode_address,
    decode_link,
    decode_route,
    decode_route_or_body,
    decode_rule,
)
from nicwatchd.netlink.encode import encode
from nicwatchd.netlink.hops import HOP, MEMBER, NEXTHOP, Nexthop, Nexthops, decode_nexthop
from nicwatchd.netlink.wire import HEADER, IFINFO, attribute, attribute_u32, pack, unpack

ROUTE_V6 = Route(
    ip_network("::/0"), 1001983, 7, gateway=ip_address("fe80:ec2::1"), metric=1024, onlink=True
)
ROUTE_V4 = Route(
    ip_network("10.1.0.0/16"), 1001983, 7, prefsrc=ip_address("10.1.0.5"), metric=9, scope=253
)
RULE_V6 = Rule(
    Family.V6,
    32765,
    254,
    src=ip_network("2001:db8::/64"),
    iif="lo",
    suppress_prefixlength=0,
    suppress_ifgroup=3778,
)
RULE_V4 = Rule(
    Family.V4,
    32765,
    1001983,
    dst=ip_network("10.2.0.0/16"),
    oif="eth1",
    fwmark=5,
    fwmask=255,
)


READ: list[Any] = []  # pyroute2 decodes what is nested only when it is asked for, from what lives


def as_pyroute2_reads(message_class: Any, operation: OfKernel) -> tuple[dict[str, Any], Any]:
    """The fields and the attributes of an operation's request."""
    request = encode(operation)
    message = message_class(pack(request.type, request.flags, 1, request.body))
    message.decode()
    READ.append(message)
    fields = {name: message[name] for name, *_ in message_class.fields}
    return fields, dict(message["attrs"])


def as_pyroute2_writes(message_class: Any, fields: dict[str, Any], attrs: Any) -> bytes:
    """The body of a message."""
    message = message_class()
    message.update(fields)
    message["attrs"] = attrs
    message.encode()
    (only,) = unpack(bytes(message.data))
    return only.body


@pytest.mark.parametrize("operation", [SetGroup(7, 3778), SetUp(7), SetUp(7, 9001)])
def test_link_requests(operation: OfKernel) -> None:
    fields, attrs = as_pyroute2_reads(ifinfmsg, operation)
    assert (fields["family"], fields["index"]) == (0, 7)
    if isinstance(operation, SetUp):
        assert (fields["flags"], fields["change"], attrs) == (
            1,
            1,
            {} if operation.mtu is None else {"IFLA_MTU": 9001},
        )
    else:
        assert (fields["flags"], fields["change"], attrs) == (0, 0, {"IFLA_GROUP": 3778})


def test_ipv6_address_requests() -> None:
    ip = ip_address("2001:db8::5")
    fields, attrs = as_pyroute2_reads(ifaddrmsg, AddAddress(7, ip))
    assert (fields["family"], fields["prefixlen"], fields["index"]) == (10, 128, 7)
    lifetimes = attrs.pop("IFA_CACHEINFO")
    assert (lifetimes["ifa_preferred"], lifetimes["ifa_valid"]) == (0, 0xFFFFFFFF)
    identity = {"IFA_LOCAL": str(ip), "IFA_ADDRESS": str(ip)}
    assert attrs == {**identity, "IFA_FLAGS": 0x202, "IFA_PROTO": 236}
    _, attrs = as_pyroute2_reads(ifaddrmsg, AddAddress(7, ip, preferred=True))
    assert attrs["IFA_CACHEINFO"]["ifa_preferred"] == 0xFFFFFFFF
    assert encode(AddAddress(7, ip, replace=True)).flags == 0x500
    fields, attrs = as_pyroute2_reads(ifaddrmsg, RemoveAddress(7, ip, 64))
    assert (fields["prefixlen"], attrs) == (64, identity)


def test_ipv4_address_requests() -> None:
    ip = ip_address("10.0.0.5")
    fields, attrs = as_pyroute2_reads(ifaddrmsg, AddAddress(7, ip))
    assert (fields["family"], fields["prefixlen"], fields["scope"]) == (2, 32, 0)
    identity = {"IFA_LOCAL": str(ip), "IFA_ADDRESS": str(ip)}
    assert attrs == {**identity, "IFA_FLAGS": 0x200, "IFA_PROTO": 236}


@pytest.mark.parametrize("verb", [AddRoute, RemoveRoute])
def test_route_requests(verb: type[AddRoute | RemoveRoute]) -> None:
    fields, attrs = as_pyroute2_reads(rtmsg, verb(ROUTE_V6))
    assert (fields["family"], fields["dst_len"], fields["flags"]) == (10, 0, 4)
    assert (fields["proto"], fields["scope"], fields["type"]) == (236, 0, 1)
    assert attrs == {
        "RTA_TABLE": 1001983,
        "RTA_OIF": 7,
        "RTA_GATEWAY": "fe80:ec2::1",
        "RTA_PRIORITY": 1024,
    }
    fields, attrs = as_pyroute2_reads(rtmsg, verb(ROUTE_V4))
    assert (fields["family"], fields["dst_len"], fields["scope"]) == (2, 16, 253)
    assert attrs == {
        "RTA_TABLE": 1001983,
        "RTA_OIF": 7,
        "RTA_DST": "10.1.0.0",
        "RTA_PREFSRC": "10.1.0.5",
        "RTA_PRIORITY": 9,
    }


@pytest.mark.parametrize("verb", [AddRule, RemoveRule])
def test_rule_requests(verb: type[AddRule | RemoveRule]) -> None:
    fields, attrs = as_pyroute2_reads(fibmsg, verb(RULE_V6))
    assert (fields["family"], fields["src_len"], fields["dst_len"]) == (10, 64, 0)
    assert (fields["action"], fields["flags"]) == (1, 0)
    assert attrs == {
        "FRA_PRIORITY": 32765,
        "FRA_TABLE": 254,
        "FRA_PROTOCOL": 236,
        "FRA_SRC": "2001:db8::",
        "FRA_IIFNAME": "lo",
        "FRA_SUPPRESS_PREFIXLEN": 0,
        "FRA_SUPPRESS_IFGROUP": 3778,
    }
    fields, attrs = as_pyroute2_reads(fibmsg, verb(RULE_V4))
    assert (fields["family"], fields["src_len"], fields["dst_len"]) == (2, 0, 16)
    assert attrs == {
        "FRA_PRIORITY": 32765,
        "FRA_TABLE": 1001983,
        "FRA_PROTOCOL": 236,
        "FRA_DST": "10.2.0.0",
        "FRA_OIFNAME": "eth1",
        "FRA_FWMARK": 5,
        "FRA_FWMASK": 255,
    }


def test_flags_of_additions() -> None:
    assert encode(AddRoute(ROUTE_V4)).flags == 0x600  # NLM_F_CREATE | NLM_F_EXCL
    assert encode(AddRoute(ROUTE_V4, replace=True)).flags == 0x500  # ... | NLM_F_REPLACE
    assert encode(AddRule(RULE_V4)).flags == 0x400  # NLM_F_CREATE: a second copy is allowed
    assert encode(AddAddress(7, ip_address("10.0.0.5"))).flags == 0x600
    assert encode(RemoveRule(RULE_V4)).flags == 0


def test_a_mark_may_lead_to_main_and_nothing_less() -> None:
    """Of connections that came in by the primary: see `nicwatchd.core.forwarding`."""
    marked = Rule(Family.V4, 32765, 254, fwmark=0x1000000, fwmask=0x7F000000)
    assert encode(AddRule(marked)).body
    assert encode(AddRule(replace(marked, table=255))).body
    for rule in (replace(marked, fwmark=None, fwmask=None), replace(marked, fwmask=0)):
        with pytest.raises(ValueError, match="leads all"):
            encode(AddRule(rule))


@pytest.mark.parametrize("protocol", [0, 2, 4, 16, 237])
def test_nothing_of_another_protocol_can_be_touched(protocol: int) -> None:
    route = Route(ip_network("10.0.0.0/8"), 1001983, 7, protocol)
    rule = Rule(Family.V4, 5, 77, protocol)
    for operation in (AddRoute(route), RemoveRoute(route), AddRule(rule), RemoveRule(rule)):
        with pytest.raises(ValueError, match="not ours"):
            encode(operation)


HOPS_V4 = (
    Hop(7, ip_address("10.1.0.7"), 3),
    Hop(8, ip_address("10.9.0.8"), onlink=True),
    Hop(7, ip_address("fe80::7")),
    Hop(7),
)
METRICS = attribute_u32(2, 1400) + attribute_u32(8, 1300)
SEVERAL_V4 = Route(ip_network("10.1.0.0/16"), 1000007, 7, tos=16, metrics=METRICS, hops=HOPS_V4)
SEVERAL_V6 = Route(
    ip_network("2001:db8::/32"),
    1000007,
    7,
    metric=5,
    hops=(Hop(7, ip_address("fe80::7"), 256), Hop(7, ip_address("2001:db8::8"))),
)
BY_IPV6 = Route(ip_network("10.1.0.0/16"), 1000007, 7, gateway=ip_address("fe80::7"))


def test_what_pyroute2_reads_of_several_next_hops() -> None:
    fields, attrs = as_pyroute2_reads(rtmsg, AddRoute(SEVERAL_V4))
    assert (fields["tos"], fields["dst_len"]) == (16, 16)
    assert dict(attrs["RTA_METRICS"]["attrs"]) == {"RTAX_MTU": 1400, "RTAX_ADVMSS": 1300}
    hops = [(hop["oif"], hop["hops"], hop["flags"]) for hop in attrs["RTA_MULTIPATH"]]
    assert hops == [(7, 2, 0), (8, 0, 4), (7, 0, 0), (7, 0, 0)]
    gateways = [dict(hop["attrs"]) for hop in attrs["RTA_MULTIPATH"]]
    assert gateways[:2] == [{"RTA_GATEWAY": "10.1.0.7"}, {"RTA_GATEWAY": "10.9.0.8"}]
    assert gateways[2]["RTA_VIA"] == {"family": 10, "addr": "fe80::7"}
    assert "RTA_OIF" not in attrs


@pytest.mark.parametrize("route", [ROUTE_V4, ROUTE_V6, SEVERAL_V4, SEVERAL_V6, BY_IPV6])
def test_routes_survive_both_ways(route: Route) -> None:
    assert decode_route(encode(AddRoute(route)).body) == route


@pytest.mark.parametrize("rule", [RULE_V4, RULE_V6])
def test_rules_survive_both_ways(rule: Rule) -> None:
    assert decode_rule(encode(AddRule(rule)).body) == rule


V6_ADDRESS = {"family": 10, "prefixlen": 128, "flags": 0x80, "scope": 0, "index": 7}
IP = ("IFA_ADDRESS", "2001:db8::5")
LIFETIMES = {"ifa_preferred": 140, "ifa_valid": 450, "cstamp": 0, "tstamp": 0}
EXPIRED = ("IFA_CACHEINFO", {**LIFETIMES, "ifa_preferred": 0})
LEASE = ("IFA_CACHEINFO", LIFETIMES)


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ([IP], {}),
        ([IP, LEASE], {"dynamic": True}),
        ([IP, ("IFA_FLAGS", 0x40)], {"tentative": True}),
        ([IP, ("IFA_FLAGS", 0x08)], {"tentative": True}),
        ([IP, ("IFA_FLAGS", 0x20)], {"deprecated": True}),
        (
            [IP, ("IFA_CACHEINFO", {**LIFETIMES, "ifa_preferred": 0})],
            {"deprecated": True, "dynamic": True},
        ),
        ([IP, LEASE, ("IFA_PROTO", 2)], {"dynamic": True, "from_ra": True, "protocol": 2}),
        ([IP, ("IFA_FLAGS", 0x01)], {"from_ra": True}),
        ([IP, ("IFA_FLAGS", 0x800)], {"from_ra": True}),
        ([IP, ("IFA_PROTO", 236)], {"protocol": 236}),
        ([("IFA_ADDRESS", "2001:db8::99"), ("IFA_LOCAL", "2001:db8::5")], {}),  # with a peer
    ],
)
def test_addresses(attrs: Any, expected: dict[str, Any]) -> None:
    body = as_pyroute2_writes(ifaddrmsg, V6_ADDRESS, attrs)
    assert decode_address(body) == Address(7, ip_address("2001:db8::5"), 128, **expected)


def test_a_secondary_ipv4_address_is_not_a_temporary_one() -> None:
    fields = {"family": 2, "prefixlen": 24, "flags": 0x81, "scope": 0, "index": 7}
    attrs = [("IFA_LOCAL", "10.0.0.5"), ("IFA_FLAGS", 0x81)]
    assert decode_address(as_pyroute2_writes(ifaddrmsg, fields, attrs)) == Address(
        7, ip_address("10.0.0.5"), 24
    )


V4_ROUTE = {
    "family": 2,
    "dst_len": 24,
    "src_len": 0,
    "tos": 0,
    "table": 254,
    "proto": 4,
    "scope": 0,
    "type": 1,
    "flags": 0,
}
DST = ("RTA_DST", "10.1.0.0")
OIF = ("RTA_OIF", 7)


def test_a_small_table_may_stand_in_the_header_alone() -> None:
    body = as_pyroute2_writes(rtmsg, V4_ROUTE, [DST, OIF])
    assert decode_route(body) == Route(ip_network("10.1.0.0/24"), 254, 7, 4)


@pytest.mark.parametrize(
    ("fields", "attrs"),
    [
        ({}, [DST]),  # no link
        ({"type": 2}, [DST, OIF]),  # local
        ({"type": 7}, [DST, OIF]),  # unreachable
        ({"flags": 0x200}, [DST, OIF]),  # an exception, cloned
        ({"src_len": 8}, [DST, OIF]),
        ({"family": 28}, [OIF]),  # MPLS
    ],
)
def test_routes_that_are_left_out(fields: dict[str, int], attrs: Any) -> None:
    assert decode_route(as_pyroute2_writes(rtmsg, V4_ROUTE | fields, attrs)) is None


def test_tunnels_are_left_out() -> None:
    body = as_pyroute2_writes(rtmsg, V4_ROUTE, [DST, OIF]) + attribute_u32(22, 1)
    assert decode_route(body) is None
    tunnel = HOP.pack(16, 0, 0, 7) + attribute_u32(22, 1)
    plain = HOP.pack(8, 0, 0, 7)
    body = as_pyroute2_writes(rtmsg, V4_ROUTE, [DST]) + attribute(9, plain + tunnel)
    assert decode_route(body) is None


@pytest.mark.parametrize("tail", [b"", b"\0" * 4, HOP.pack(4, 0, 0, 8)])
def test_one_of_several_next_hops_is_one(tail: bytes) -> None:
    """As the kernel lists a group of one. What is malformed ends the list."""
    hop = HOP.pack(16, 4, 2, 7) + attribute(5, bytes((10, 1, 0, 9)))
    body = as_pyroute2_writes(rtmsg, V4_ROUTE, [DST]) + attribute(9, hop + tail)
    assert decode_route(body) == Route(
        ip_network("10.1.0.0/24"), 254, 7, 4, gateway=ip_address("10.1.0.9"), onlink=True
    )


def nexthop(number: int, *attrs: bytes, flags: int = 0) -> Nexthop | None:
    return decode_nexthop(NEXTHOP.pack(2, 0, 4, flags) + attribute_u32(1, number) + b"".join(attrs))


def test_a_route_that_names_a_next_hop_object_alone() -> None:
    body = as_pyroute2_writes(rtmsg, V4_ROUTE, [DST]) + attribute_u32(30, 3)
    assert decode_route(body) is None
    assert decode_route_or_body(body) == body
    objects = [
        nexthop(1, attribute_u32(5, 7), attribute(6, bytes((10, 1, 0, 1))), flags=4),
        nexthop(2, attribute_u32(5, 8)),
        nexthop(
            3, attribute(2, MEMBER.pack(1, 4, 0) + MEMBER.pack(2, 0, 1) + MEMBER.pack(9, 0, 0))
        ),
        nexthop(4, attribute(4, b"")),
        nexthop(5, attribute_u32(5, 7), attribute_u32(8, 1)),
    ]
    known = Nexthops.of(each for each in objects if each)
    first = Hop(7, ip_address("10.1.0.1"), 5, onlink=True)
    assert known.hops(3) == (first, Hop(8, None, 257))
    assert [known.hops(number) for number in (4, 5, 6)] == [(), (), ()]
    assert decode_route(body, known) == Route(
        ip_network("10.1.0.0/24"), 254, 7, 4, hops=known.hops(3)
    )


def test_a_foreign_rule_without_a_table() -> None:
    fields = dict.fromkeys(("dst_len", "tos", "table", "res1", "res2", "flags"), 0)
    fields |= {"family": 2, "src_len": 8, "action": 6}
    attrs = [
        ("FRA_PRIORITY", 8),
        ("FRA_SRC", "10.0.0.0"),
        ("FRA_SUPPRESS_PREFIXLEN", 0xFFFFFFFF),
        ("FRA_SUPPRESS_IFGROUP", 0xFFFFFFFF),
    ]
    assert decode_rule(as_pyroute2_writes(fibmsg, fields, attrs)) == Rule(
        Family.V4, 8, 0, 0, src=ip_network("10.0.0.0/8"), action=6
    )


def test_a_multicast_routing_rule_is_left_out() -> None:
    fields = dict.fromkeys((name for name, _ in fibmsg.fields), 0) | {"family": 128}
    assert decode_rule(as_pyroute2_writes(fibmsg, fields, [])) is None


def test_links_and_what_routers_advertised() -> None:
    inet6 = attribute(10, attribute_u32(1, 0x20 | 0x40))
    body = (
        IFINFO.pack(0, 1, 7, 0x1 | 0x10000, 0)
        + attribute(3, b"ens6\0")
        + attribute(1, bytes.fromhex("0a0000000001"))
        + attribute_u32(27, 3778)
        + attribute_u32(10, 4)
        + attribute(26 | 0x8000, inet6)
        + attribute(18 | 0x8000, attribute(1, b"vlan\0"))
    )
    assert decode_link(body) == Link(
        7,
        "0a:00:00:00:00:01",
        "ens6",
        up=True,
        running=True,
        kind="vlan",
        driver="vlan",
        group=3778,
        master=4,
        ra_received=True,
        ra_managed=True,
    )
    judge = ifinfmsg(pack(16, 0, 1, body))
    judge.decode()
    assert judge.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") == "vlan"
    assert judge.get_nested("IFLA_AF_SPEC", "AF_INET6", "IFLA_INET6_FLAGS") == 0x60


def test_a_link_beneath_counts_in_this_namespace_only() -> None:
    """A container's end of a veth names the host's end by its ifindex there."""
    head = IFINFO.pack(0, 1, 7, 0, 0) + attribute(3, b"v0\0") + attribute_u32(5, 4)
    assert decode_link(head).lower == 4
    elsewhere = head + attribute_u32(37, 0)
    assert decode_link(elsewhere).lower == 0
    judge = ifinfmsg(pack(16, 0, 1, elsewhere))
    judge.decode()
    assert (judge.get_attr("IFLA_LINK"), judge.get_attr("IFLA_LINK_NETNSID")) == (4, 0)


def test_hardware_has_no_kind_and_may_have_no_address() -> None:
    body = IFINFO.pack(0, 1, 7, 0, 0) + attribute(3, b"tun\xff\0")
    link = decode_link(body)
    assert (link.kind, link.mac, link.name) == (None, "", "tun\udcff")
    assert (link.up, link.running, link.ra_received, link.ra_managed) == (False,) * 4


def test_a_few_bytes_at_the_end_of_a_datagram_are_padding() -> None:
    good = pack(16, 0, 1, b"body")
    for length in range(HEADER.size):
        assert [message.body for message in unpack(good + bytes(length))] == [b"body"]


@pytest.mark.parametrize("length", [0, 7, 15, 21, 0xFFFF_FFFF])
def test_a_message_of_a_wrong_length_is_told_after_those_before_it(length: int) -> None:
    messages = unpack(pack(16, 0, 1, b"body") + HEADER.pack(length, 16, 0, 2, 0) + b"body")
    assert next(messages).body == b"body"
    with pytest.raises(ValueError, match="where 20 are left"):
        next(messages)
