"""What did not change is the very same object at the next read: comparing it costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    RemoveAddress,
    Route,
    Rule,
    SetUp,
)
from nicwatchd.core.port import Result
from nicwatchd.netlink.constants import IFA_ADDRESS, IFA_CACHEINFO, IFA_LOCAL
from nicwatchd.netlink.decode import decode_address, read_address, read_route
from nicwatchd.netlink.once import Once
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.netlink.wire import CACHEINFO, FOREVER, IFADDR, ROUTE, attribute, attribute_u32
from nicwatchd.service.ledger import Ledger
from tests.netlink.conftest import ip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

V4, V6 = ip_address("10.0.0.5"), ip_address("2001:db8::5")


def same(one: Sequence[object], two: Sequence[object]) -> bool:
    return len(one) == len(two) and all(a is b for a, b in zip(one, two, strict=True))


@pytest.fixture
async def kernel(add_veth: str) -> AsyncIterator[NetlinkKernel]:
    """A kernel with a link that has what EC2's DHCP and RAs bring, and what we add."""
    kernel = NetlinkKernel()
    index = index_of(await kernel.links(), add_veth)
    ip("link set veth0 up")
    table = 1_000_255
    operations = (
        *(SetUp(index), AddAddress(index, V4), AddAddress(index, V6)),
        AddRoute(Route(ip_network("2001:db8::/64"), table, index, metric=1024)),
        AddRoute(Route(ip_network("0.0.0.0/0"), table, index, scope=253)),
        AddRule(Rule(Family.V6, 32765, table, src=ip_network("2001:db8::/64"))),
    )
    done = await kernel.run(operations)
    assert {each.result for each in done} == {Result.DONE}
    ip("addr add 2001:db8::9/128 dev eth1 nodad valid_lft 450 preferred_lft 140")
    ip("addr add 10.0.0.9/24 dev eth1 valid_lft 3600 preferred_lft 3600")
    ip("-6 route add default via fe80::1 dev eth1 proto ra expires 1800")
    yield kernel
    kernel.close()


def index_of(links: dict[int, Any], name: str) -> int:
    return next(index for index, link in links.items() if link.name == name)


async def everything(kernel: NetlinkKernel, index: int) -> dict[str, Sequence[object]]:
    everywhere = await kernel.all_addresses()
    return {
        "addresses": await kernel.addresses(index),
        "everywhere": [address for its in everywhere.values() for address in its],
        "link routes": await kernel.link_routes(index),
        "own routes": await kernel.own_routes(),
        "table": await kernel.table_routes(MAIN_TABLE),
        "defaults": await kernel.defaults(),
        "rules": await kernel.rules(),
    }


async def test_a_host_that_did_not_change(kernel: NetlinkKernel) -> None:
    index = index_of(await kernel.links(), "eth1")
    first = await everything(kernel, index)
    assert {each.ip for each in await kernel.addresses(index)} >= {V4, V6}
    assert [route for route in await kernel.defaults() if route.protocol == 9]
    assert all(first.values())
    # Time passes: what is left to an address and to a route that are to end is less than before.
    ip("addr change 2001:db8::9/128 dev eth1 nodad valid_lft 300 preferred_lft 100")
    ip("addr change 10.0.0.9/24 dev eth1 valid_lft 3000 preferred_lft 3000")
    ip("-6 route change default via fe80::1 dev eth1 proto ra expires 1700")
    second = await everything(kernel, index)
    assert [what for what in first if not same(first[what], second[what])] == []


async def test_what_changed_is_another_object(kernel: NetlinkKernel) -> None:
    index = index_of(await kernel.links(), "eth1")
    before = {each.ip: each for each in await kernel.addresses(index)}
    await kernel.run([AddAddress(index, V6, preferred=True, replace=True)])
    ip("addr change 2001:db8::9/128 dev eth1 nodad valid_lft 300 preferred_lft 0")
    after = {each.ip: each for each in await kernel.addresses(index)}
    lease = ip_address("2001:db8::9")
    assert after[V6] == replace(before[V6], deprecated=False)
    assert after[lease] == replace(before[lease], deprecated=True)
    assert after[V4] is before[V4]
    await kernel.run([RemoveAddress(index, V6, 128)])
    assert V6 not in {each.ip for each in (await kernel.all_addresses())[index]}


def test_the_kernel_s_words_are_remembered_up_to_a_bound() -> None:
    decoded = []

    def decode(body: bytes) -> str:
        decoded.append(body)
        return body[:1].decode()

    once = Once(decode, lambda body: not body.endswith(b"s left"), 3)
    first = once(b"a 9 s left")
    assert once(b"a 8 s left") is first
    assert [once(b"b"), once(b"b"), once(b"c"), once(b"c")] == ["b", "b", "c", "c"]
    assert decoded == [b"a 9 s left", b"a 8 s left", b"b", b"c"]
    assert once(b"d") == "d"  # which is one too many: all others are forgotten
    assert (len(once._known), len(once._passing)) == (1, 0)
    assert once(b"b") == "b"
    assert decoded[4:] == [b"d", b"b"]


def test_what_runs_down_fills_no_memory() -> None:
    """Once a second, for ever."""
    known, passing = len(read_address._known), len(read_address._passing)
    routes = len(read_route._known), len(read_route._passing)
    for left in range(1, 200):
        lease = CACHEINFO.pack(left, left + 300, 5, 5)
        body = IFADDR.pack(2, 24, 0, 0, 4711) + attribute(IFA_LOCAL, V4.packed)
        assert read_address(body + attribute(IFA_CACHEINFO, lease)).dynamic  # type: ignore[union-attr]
        body = ROUTE.pack(10, 0, 0, 0, 254, 9, 0, 1, 0) + attribute_u32(4, 4711)
        read_route(body + attribute(12, bytes(8) + left.to_bytes(4, "little") + bytes(20)))
    assert (len(read_address._known), len(read_address._passing)) == (known, passing + 1)
    assert (len(read_route._known), len(read_route._passing)) == (routes[0], routes[1] + 1)


@pytest.mark.parametrize("preferred", [0, FOREVER])
def test_what_is_for_ever_is_decoded_once(preferred: int) -> None:
    times = CACHEINFO.pack(preferred, FOREVER, 7, 7)
    body = IFADDR.pack(10, 128, 0, 0, 4712) + attribute(IFA_ADDRESS, V6.packed)
    body += attribute(IFA_CACHEINFO, times)
    assert read_address(body) is read_address(bytes(bytearray(body)))
    assert body in read_address._known
    assert read_address(body) == decode_address(body)


def test_what_the_ledger_marks_is_the_same_object_too(tmp_path: Path) -> None:
    """On kernels that cannot mark addresses."""
    ledger = Ledger(tmp_path)
    ledger.add([(7, "02:00:00:00:00:02", V6)])
    plain = (Address(7, V6, 128), Address(7, V4, 32))
    first = ledger.mark("02:00:00:00:00:02", plain)
    assert [each.protocol for each in first] == [PROTOCOL, 0]
    assert same(first, ledger.mark("02:00:00:00:00:02", plain))
