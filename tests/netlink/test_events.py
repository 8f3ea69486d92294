from __future__ import annotations

import os
import socket
import struct
import subprocess
from dataclasses import replace
from errno import ENOBUFS
from functools import partial
from ipaddress import IPv6Address, ip_address
from operator import eq
from typing import TYPE_CHECKING

import pytest

from nicwatchd.core.model import Family
from nicwatchd.core.port import (
    AddressEvent,
    Event,
    FilterEvent,
    Ipv6Event,
    LinkEvent,
    NexthopEvent,
    Overrun,
    RouteEvent,
    RuleEvent,
)
from nicwatchd.netlink.covering import Covering
from nicwatchd.netlink.culprit import process_name
from nicwatchd.netlink.events import (
    BURST,
    EventSocket,
    open_event_socket,
)
from nicwatchd.netlink.hops import HOP, NEXTHOP
from nicwatchd.netlink.triage import Triage
from nicwatchd.netlink.wire import (
    IFADDR,
    IFINFO,
    ROUTE,
    RULE,
    Message,
    attribute,
    attribute_u32,
    pack,
)
from tests.netlink.conftest import sysctl

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.netlink.conftest import Heard

NEWLINK, DELLINK, NEWADDR, DELADDR = 16, 17, 20, 21
NEWROUTE, DELROUTE, NEWRULE, DELRULE = 24, 25, 32, 33
NEWNEIGH = 28
NEWNEXTHOP, DELNEXTHOP = 104, 105
NEWNETCONF, DELNETCONF = 80, 81
AF_BRIDGE, AF_INET6 = 7, 10
COMPAT = 252  # the header's table when the number is over 255
STRANGER = 2**32 - 5  # a port id that is nobody's pid


def event(kind: int, body: bytes, pid: int = 0) -> Event | None:
    return Triage().event(Message(kind, 0, 0, pid, body))


def link(
    family: int = 0, index: int = 7, name: str = "eth1", kind: str = "", flags: int = 1
) -> bytes:
    body = IFINFO.pack(family, 1, index, flags, 0) + attribute(3, name.encode() + b"\0")
    return body + (attribute(18, attribute(1, kind.encode() + b"\0")) if kind else b"")


def route(
    table: int, protocol: int = 4, *, family: int = 2, kind: int = 1, flags: int = 0, oif: int = 7
) -> bytes:
    small = table if table < 256 else COMPAT
    header = ROUTE.pack(family, 24, 0, 0, small, protocol, 0, kind, flags)
    return header + attribute_u32(15, table) + (attribute_u32(4, oif) if oif else b"")


def wide(table: int, bits: int, kind: int = 1) -> bytes:
    body = bytearray(route(table, kind=kind, oif=0 if kind > 1 else 7))
    body[1] = bits
    return bytes(body)


def multicast(dst: str = "ff00::", bits: int = 8, table: int = 255, kind: int = 5) -> bytes:
    body = bytearray(route(table, 2, family=AF_INET6, kind=kind))
    body[1] = bits
    return bytes(body) + attribute(1, IPv6Address(dst).packed)


def host(table: int, *, oif: int = 7) -> bytes:
    body = bytearray(route(table, oif=oif))
    body[1] = 32
    return bytes(body) + attribute(1, bytes([10, 0, 2, 9]))


def netconf(index: int, *kinds: int) -> bytes:
    of_link = struct.pack("=B3x", 2) + attribute_u32(1, index)
    return of_link + b"".join(attribute_u32(kind, 1) for kind in kinds)


def to(
    table: int, dst: str, bits: int, *, kind: int = 1, oif: int = 7, family: int = 2, flags: int = 0
) -> bytes:
    body = bytearray(route(table, kind=kind, oif=oif, family=family, flags=flags))
    body[1] = bits
    return bytes(body) + (attribute(1, ip_address(dst).packed) if bits else b"")


def rule(protocol: int, family: int = 2) -> bytes:
    header = RULE.pack(family, 0, 0, 0, 0, 0, 0, 1, 0)
    return header + attribute_u32(6, 32765) + attribute(21, bytes([protocol]))


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (NEWLINK, link(), LinkEvent(7, "eth1")),
        (NEWLINK, link(kind="veth"), LinkEvent(7, "eth1", "veth")),
        (NEWLINK, link(flags=0), LinkEvent(7, "eth1", down=True)),
        (DELLINK, link(kind="veth"), LinkEvent(7, gone=True)),
        (NEWLINK, link(AF_BRIDGE), LinkEvent(7)),
        (DELLINK, link(AF_BRIDGE), LinkEvent(7)),  # it left the bridge; the link stays
        (NEWLINK, link(AF_INET6), LinkEvent(7)),
        (NEWADDR, IFADDR.pack(10, 128, 0, 0, 7), AddressEvent(7, 99)),
        (DELADDR, IFADDR.pack(2, 32, 0, 0, 7), AddressEvent(7, 99, deleted=True)),
        (NEWNEIGH, b"\x02" + bytes(11), None),
        (NEWNETCONF, netconf(0xFFFF_FFFF, 3), FilterEvent(0)),
        (NEWNETCONF, netconf(7, 3), FilterEvent(7)),
        (NEWNETCONF, netconf(7, 2), None),  # its forwarding
        (NEWNETCONF, netconf(7, 2, 3), None),  # a link that has just come
        (DELNETCONF, netconf(7), None),
        (NEWNEXTHOP, NEXTHOP.pack(2, 0, 4, 0) + attribute_u32(5, 7), NexthopEvent(7)),
        (DELNEXTHOP, NEXTHOP.pack(2, 0, 4, 0) + attribute(2, bytes(8)), NexthopEvent(0)),
    ],
)
def test_links_and_addresses(kind: int, body: bytes, expected: Event | None) -> None:
    assert event(kind, body, pid=99) == expected


HEEDED = RouteEvent(Family.V4, 77, 4, 7, heeded=True)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(to(77, "10.0.2.0", 24), HEEDED, id="it is in the network"),
        pytest.param(to(77, "10.0.2.254", 32), HEEDED, id="the host itself"),
        pytest.param(to(77, "10.0.2.128", 25), HEEDED, id="a part of a subnet"),
        pytest.param(to(77, "8.0.0.0", 5), HEEDED, id="a large network"),
        pytest.param(to(77, "10.0.2.0", 25), None, id="another part"),
        pytest.param(to(77, "10.0.3.0", 24), None, id="another network"),
        pytest.param(to(77, "10.0.2.253", 32), None, id="another host"),
        pytest.param(
            to(77, "10.0.2.0", 24, kind=7, oif=0), replace(HEEDED, oif=0), id="an error route"
        ),
        pytest.param(
            to(77, "10.0.2.0", 24, kind=2, oif=1), replace(HEEDED, oif=1), id="AnyIP, for a proxy"
        ),
        pytest.param(to(77, "10.0.3.0", 24, kind=2, oif=1), None, id="... of another network"),
        pytest.param(
            to(77, "0.0.0.0", 0, kind=2, oif=1),
            replace(HEEDED, oif=1, wide=True),
            id="... of all, as a transparent proxy has it",
        ),
        pytest.param(to(77, "0.0.0.0", 0), replace(HEEDED, wide=True), id="a default route"),
        pytest.param(to(255, "10.0.2.0", 24), None, id="the table local"),
        pytest.param(to(77, "10.0.2.0", 24, flags=0x200), None, id="no route: a cached answer"),
        pytest.param(to(254, "10.0.2.0", 24), replace(HEEDED, table=254), id="main"),
        pytest.param(to(70000, "10.0.2.0", 24), replace(HEEDED, table=70000), id="a high number"),
        pytest.param(
            to(254, "10.0.2.0", 24, oif=0) + attribute_u32(30, 5),
            NexthopEvent(0, heeded=True),
            id="by an object's number",
        ),
        pytest.param(
            to(77, "2001:db8:ec2:2::", 64, family=10),
            replace(HEEDED, family=Family.V6),
            id="IPv6",
        ),
        pytest.param(to(77, "2001:db8:ec2:3::", 64, family=10), None, id="another one of IPv6"),
        pytest.param(
            to(77, "::", 0, family=10),
            replace(HEEDED, family=Family.V6, wide=True),
            id="its default",
        ),
    ],
)
def test_routes_to_what_is_heeded(body: bytes, expected: Event | None) -> None:
    triage = Triage()
    destinations = map(ip_address, ("10.0.2.254", "2001:db8:ec2:2:ffff:ffff:ffff:fffe"))
    triage.covering = Covering(destinations)
    for _ in range(2):
        assert triage.event(Message(NEWROUTE, 0, 0, 0, body)) == expected
    triage.covering = Covering()
    found = triage.event(Message(NEWROUTE, 0, 0, 0, body))
    assert not getattr(found, "heeded", False)


@pytest.mark.parametrize(
    ("kind", "body", "expected"),
    [
        (DELROUTE, multicast(), Ipv6Event(7)),
        (DELROUTE, multicast(kind=1), Ipv6Event(7)),  # as older kernels have it
        (NEWROUTE, multicast(), None),
        (DELROUTE, multicast(table=254), None),
        (DELROUTE, multicast("fd00::"), None),
        (DELROUTE, multicast("ff02::1", 128), None),
    ],
)
def test_the_end_of_ipv6_on_a_link(kind: int, body: bytes, expected: Event | None) -> None:
    assert event(kind, body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (route(254, 4), RouteEvent(Family.V4, 254, 4, 7)),
        (route(254, 2, family=10), RouteEvent(Family.V6, 254, 2, 7)),
        (route(254, 12), RouteEvent(Family.V4, 254, 12, 7)),  # a routing daemon's
        (
            route(254, 12, oif=0) + attribute(9, HOP.pack(8, 0, 0, 7) + HOP.pack(8, 0, 1, 8)),
            RouteEvent(Family.V4, 254, 12, 0, hops=(7, 8)),
        ),
        (route(254, 12, oif=0) + attribute_u32(30, 5), NexthopEvent(0)),  # by an object's number
        (route(254, 12) + attribute_u32(30, 5), RouteEvent(Family.V4, 254, 12, 7)),
        (route(254, 12, oif=0, kind=6) + attribute_u32(30, 5), RouteEvent(Family.V4, 254, 12, 0)),
        (host(254), RouteEvent(Family.V4, 254, 4, 7, host=ip_address("10.0.2.9"))),
        (host(1000007), RouteEvent(Family.V4, 1000007, 4, 7)),  # only by main
        (host(254, oif=0) + attribute_u32(30, 5), NexthopEvent(0, ip_address("10.0.2.9"))),
        (route(254, 236), RouteEvent(Family.V4, 254, 236, 7)),
        (route(254, 4, kind=7), RouteEvent(Family.V4, 254, 4, 7)),  # unreachable
        (wide(254, 0), RouteEvent(Family.V4, 254, 4, 7, wide=True)),
        (wide(254, 3), RouteEvent(Family.V4, 254, 4, 7, wide=True)),
        (wide(254, 4), RouteEvent(Family.V4, 254, 4, 7)),
        (wide(254, 0, kind=7), RouteEvent(Family.V4, 254, 4, 0, wide=True, error=True)),
        (wide(254, 4, kind=7), RouteEvent(Family.V4, 254, 4, 0)),
        (wide(254, 0, kind=9), RouteEvent(Family.V4, 254, 4, 0, wide=True)),  # throw
        (wide(1000007, 0, kind=7), RouteEvent(Family.V4, 1000007, 4, 0, wide=True)),
        (wide(77, 0), RouteEvent(Family.V4, 77, 4, 7, wide=True)),  # a foreign rule may lead there
        (wide(77, 3, kind=7), RouteEvent(Family.V4, 77, 4, 0, wide=True)),
        (wide(77, 4), None),
        (wide(255, 0), None),
        (route(1001983, 4), RouteEvent(Family.V4, 1001983, 4, 7)),
        (route(2_000_000_007, 4), RouteEvent(Family.V4, 2_000_000_007, 4, 7)),
        (route(77, 236), RouteEvent(Family.V4, 77, 236, 7)),
        (route(77, 4), None),
        (route(999_999, 4), None),
        (route(255, 2, kind=2), None),  # local
        (route(254, 2, kind=3), None),  # broadcast
        (route(255, 2, kind=5, family=10), None),  # multicast
        (route(254, 4, flags=0x200), None),  # an exception, cloned
    ],
)
def test_routes(body: bytes, expected: Event | None) -> None:
    assert event(NEWROUTE, body) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (rule(236), RuleEvent(Family.V4, 32765, 236, pid=99)),
        (rule(0, family=10), RuleEvent(Family.V6, 32765, 0, pid=99)),
        (rule(0, family=128), None),  # of multicast routing
    ],
)
def test_rules(body: bytes, expected: Event | None) -> None:
    assert event(NEWRULE, body, pid=99) == expected


def test_a_deletion_names_the_culprit_only_when_the_object_was_ours() -> None:
    named = f"port id {STRANGER}"
    assert event(DELRULE, rule(236), STRANGER) == RuleEvent(
        Family.V4, 32765, 236, deleted=True, pid=STRANGER, culprit=named
    )
    assert event(DELRULE, rule(4), STRANGER) == RuleEvent(
        Family.V4, 32765, 4, deleted=True, pid=STRANGER
    )
    assert event(DELROUTE, route(1001983, 236), STRANGER) == RouteEvent(
        Family.V4, 1001983, 236, 7, deleted=True, pid=STRANGER, culprit=named
    )
    assert event(DELROUTE, route(254, 4), STRANGER) == RouteEvent(
        Family.V4, 254, 4, 7, deleted=True, pid=STRANGER
    )


def test_the_culprit_of_an_address_is_known_by_the_kernels_mark() -> None:
    header = IFADDR.pack(2, 32, 0, 0, 7)
    marked = header + attribute(11, bytes([236]))
    assert event(DELADDR, marked, STRANGER) == AddressEvent(
        7, STRANGER, deleted=True, culprit=f"port id {STRANGER}"
    )
    assert event(DELADDR, marked) == AddressEvent(7, deleted=True)
    local, peer = bytes([10, 0, 2, 9]), bytes([10, 0, 2, 1])
    whole = header + attribute(1, peer) + attribute(2, local)
    assert event(DELADDR, whole, os.getpid()) == AddressEvent(
        7, os.getpid(), deleted=True, ip=ip_address("10.0.2.9"), process=process_name(os.getpid())
    )
    assert event(DELADDR, header, STRANGER) == AddressEvent(7, STRANGER, deleted=True)


def test_the_kind_is_remembered_as_long_as_the_index_lives() -> None:
    triage = Triage()

    def see(kind: int, body: bytes) -> Event | None:
        return triage.event(Message(kind, 0, 0, 0, body))

    assert see(NEWLINK, link(kind="veth")) == LinkEvent(7, "eth1", "veth")
    assert see(NEWLINK, link(name="eth2")) == LinkEvent(7, "eth2", "veth")
    see(DELLINK, link())
    assert see(NEWLINK, link()) == LinkEvent(7, "eth1", None)
    triage.forget()
    assert see(NEWLINK, link(kind="bridge")) == LinkEvent(7, "eth1", "bridge")


def ip_batch(lines: Iterable[str]) -> None:
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True)


@pytest.mark.usefixtures("namespace")
async def test_that_a_reverse_path_filter_is_set_is_told(heard: Heard) -> None:
    source = EventSocket()
    source.start(heard.notify)
    ip_batch(["link set lo up"])
    for name, index in (("lo", 1), ("all", 0)):
        sysctl(f"ipv4/conf/{name}/rp_filter", 1)
        await heard.until(partial(eq, FilterEvent(index)))
    source.close()


@pytest.mark.usefixtures("namespace")
async def test_an_overrun_is_reported_and_survived(heard: Heard) -> None:
    source = EventSocket(lambda: open_event_socket(buffer=1))
    source.start(heard.notify)
    ip_batch(f"addr add 10.0.{i >> 8}.{i & 255}/32 dev lo" for i in range(1, 400))
    await heard.until(lambda e: e == Overrun())
    assert len(heard.events) < 400
    ip_batch(["link set lo up"])
    await heard.until(lambda e: e == LinkEvent(1, "lo"))
    source.close()


async def test_an_overrun_is_told_when_the_buffer_is_empty(heard: Heard) -> None:
    script: list[bytes | OSError] = [
        OSError(ENOBUFS, "No buffer space available"),
        pack(NEWADDR, 0, 0, IFADDR.pack(2, 32, 0, 0, 7)),
        BlockingIOError(),
    ]

    class Scripted(socket.socket):
        def recv(self, *_: int) -> bytes:
            step = script.pop(0)
            if isinstance(step, OSError):
                raise step
            return step

    source = EventSocket()
    with Scripted() as kernels:
        assert source._read(kernels, heard.notify) == 2  # the overrun counts
    assert heard.events == [AddressEvent(7), Overrun()]


async def test_a_storm_is_heard_in_turns(heard: Heard) -> None:
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(0)
    source = EventSocket(lambda: ours)
    source.start(heard.notify)
    count = BURST + 10
    for index in range(count):
        kernels.send(pack(NEWADDR, 0, 0, IFADDR.pack(2, 32, 0, 0, index)))
    await heard.until(lambda e: e == AddressEvent(0))
    assert len(heard.events) == BURST
    await heard.until(lambda e: e == AddressEvent(count - 1))
    assert heard.events == [AddressEvent(index) for index in range(count)]
    source.close()
    kernels.close()
