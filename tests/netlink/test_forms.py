"""Whatever form the kernel gives to links, addresses, rules and routes, nothing raises."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nicwatchd.core.model import MAIN_TABLE
from nicwatchd.core.port import AddressEvent, KernelError, LinkEvent, Overrun
from nicwatchd.netlink.decode import (
    decode_address,
    decode_any_route,
    decode_link,
    decode_route,
    decode_rule,
    read_address,
    read_route,
)
from nicwatchd.netlink.encode import Request
from nicwatchd.netlink.events import EventSocket
from nicwatchd.netlink.hops import Nexthop, Nexthops, decode_nexthop
from nicwatchd.netlink.request import RequestSocket, read
from nicwatchd.netlink.rtnetlink import NetlinkKernel, _decode_answer
from nicwatchd.netlink.triage import Triage
from nicwatchd.netlink.wire import HEADER, IFADDR, MALFORMED, Message, pack, text, unpack
from tests.netlink.conftest import Heard
from tests.netlink.forms import NAMES, NEWADDR, NEWLINK, RULES, RULES_V6, build, messages

OBJECTS = Nexthops.of([Nexthop(3, members=((1, 1), (2, 3))), Nexthop(1)])
DECODERS: tuple[Callable[[bytes], object], ...] = (
    *(decode_link, decode_address, decode_any_route, decode_rule, decode_nexthop),
    *(read_address, read_route, _decode_answer),
    partial(decode_route, nexthops=OBJECTS),
)
RTNETLINK = [*range(16, 48), 80, 81, 104, 105]
bodies = st.deferred(lambda: st.sampled_from([message.body for message in messages()]))


def _flip(parts: tuple[bytes, list[tuple[int, int]]]) -> bytes:
    body, changes = parts
    changed = bytearray(body)
    for at, value in changes:
        if changed:
            changed[at % len(changed)] = value
    return bytes(changed)


bytes_changed = st.tuples(bodies, st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255))))
# Bytes that are others, a body that is cut short, two that run into each other, and no body at all.
malformed = st.one_of(
    bytes_changed.map(_flip),
    st.tuples(bodies, st.integers(0, 200)).map(lambda parts: parts[0][: parts[1]]),
    st.tuples(bodies, bodies).map(b"".join),
    st.binary(max_size=200),
)


# --- what the kernel says ------------------------------------------------------------------------


@pytest.mark.usefixtures("namespace")
async def test_every_form_is_read_and_none_raises() -> None:
    build()
    kernel = NetlinkKernel()
    links = await kernel.links()
    assert {text(name) for name in NAMES} <= {link.name for link in links.values()}
    index = next(i for i, link in links.items() if link.name == "eth1")
    for number in links:
        assert await kernel.link(number) == links[number]
    of_eth1 = (await kernel.all_addresses())[index]
    assert len(of_eth1) >= 14
    assert set(of_eth1) <= set(await kernel.addresses(index))
    routes = [
        *await kernel.link_routes(index),
        *await kernel.own_routes(),
        *await kernel.defaults(),
        *await kernel.table_routes(100),
        *await kernel.table_routes(0xFFFF_FFFF),
    ]
    assert {route.table for route in routes} == {MAIN_TABLE, 0xFFFF_FFFF}
    assert any(route.hops for route in routes)
    added = (RULES + RULES_V6).count("\n")
    assert len(await kernel.rules()) == added + 3 + 2  # and the kernel's own
    assert await kernel.closed_main(frozenset()) is not None
    assert await kernel.host_routes({ip_address("10.1.1.2"), ip_address("2001:db8:5::2")})
    for src, dst in (("10.0.2.10", "198.51.100.1"), ("2001:db8:2::10", "2001:db8:117::1")):
        await kernel.route_get(ip_address(src), ip_address(dst))
    kernel.close()


def test_every_message_is_triaged() -> None:
    triage = Triage()
    events = [triage.event(message) for message in messages()]
    assert len(events) > 200
    names = {event.name for event in events if isinstance(event, LinkEvent)}
    assert {text(name) for name in NAMES} <= names


# --- what it never says --------------------------------------------------------------------------


@given(malformed)
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@example(b"")
def test_a_malformed_body_raises_only_what_is_documented(body: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(body)
        except MALFORMED:
            continue


@given(malformed, st.sampled_from(RTNETLINK))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_a_malformed_notification_raises_only_what_is_documented(body: bytes, kind: int) -> None:
    try:
        Triage().event(Message(kind, 0, 0, 0, body))
    except MALFORMED:
        return


@given(st.binary(max_size=300) | malformed, st.integers(0, 2**32 - 1))
def test_the_messages_of_a_datagram_have_an_end(rest: bytes, length: int) -> None:
    datagram = pack(NEWADDR, 0, 0, bytes(8)) + HEADER.pack(length, 20, 0, 0, 0) + rest
    found = []
    try:
        found += list(unpack(datagram))
    except ValueError:
        return
    assert sum(HEADER.size + len(message.body) for message in found) <= len(datagram)


GOOD = pack(NEWADDR, 0, 0, IFADDR.pack(2, 32, 0, 0, 7))
CUT = pack(NEWADDR, 0, 0, IFADDR.pack(2, 32, 0, 0, 7)[:3])
LIES = HEADER.pack(9999, NEWLINK, 0, 0, 0)


@pytest.mark.parametrize("bad", [CUT, LIES, GOOD + LIES], ids=["cut", "length", "length of 2nd"])
async def test_a_malformed_notification_is_told_and_everything_is_read_again(
    heard: Heard, bad: bytes
) -> None:
    """The stream goes on."""
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    source = EventSocket(lambda: ours)
    source.start(heard.notify)
    kernels.send(GOOD)
    kernels.send(bad)
    overrun = await heard.until(lambda event: isinstance(event, Overrun))
    assert isinstance(overrun, Overrun)
    assert overrun.malformed
    kernels.send(pack(NEWADDR, 0, 0, IFADDR.pack(2, 32, 0, 0, 8)))
    await heard.until(lambda event: event == AddressEvent(8))
    source.close()
    kernels.close()


@pytest.mark.parametrize("body", [b"", b"\2", IFADDR.pack(2, 32, 0, 0, 7)[:-1]])
async def test_a_malformed_answer_is_an_error_of_the_kernel(body: bytes) -> None:
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    requests = RequestSocket(lambda: ours)
    kernels.send(pack(NEWADDR, 0, 1, body))
    with pytest.raises(KernelError, match="an answer of the kernel cannot be read"):
        await requests.dump(Request(22, 0, bytes(8)), decode_address)
    with pytest.raises(KernelError, match="an answer of the kernel cannot be read"):
        read(decode_address, body)
    kernels.close()
