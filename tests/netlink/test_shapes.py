"""What is copied into a message that pyroute2 built once is what pyroute2 would build each time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from pyroute2.netlink.rtnl.fibmsg import fibmsg

from nicwatchd.core.model import (
    PROTOCOL,
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    Hop,
    IPAddress,
    IPNetwork,
    OfKernel,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
)
from nicwatchd.netlink import shapes
from nicwatchd.netlink.encode import encode
from nicwatchd.netlink.shapes import Attributes, Fields, build, splice
from nicwatchd.netlink.wire import attribute_u32

U8, U32 = st.integers(0, 0xFF), st.integers(0, 0xFFFFFFFF)
INDEX = st.integers(1, 0x7FFFFFFF)
TABLE = st.integers(1_000_000, 0xFFFFFFFF)
PRIORITY = st.integers(1, 32765)
METRICS = attribute_u32(2, 1400) + attribute_u32(8, 1300)
BITS: Final = {Family.V4: 32, Family.V6: 128}
# What a rule may have or not: each choice is a shape of its own.
OF_RULES: Final = (
    *("src", "dst", "iif", "oif", "fwmark", "fwmask"),
    *("suppress_prefixlength", "suppress_ifgroup"),
)


def addresses(family: Family) -> SearchStrategy[IPAddress]:
    of: SearchStrategy[IPAddress]
    of = st.ip_addresses(v=4) if family is Family.V4 else st.ip_addresses(v=6)
    return of


def networks(family: Family) -> SearchStrategy[IPNetwork]:
    def network(ip: IPAddress, bits: int) -> IPNetwork:
        return (IPv4Network if family is Family.V4 else IPv6Network)((ip, bits), strict=False)

    return st.builds(network, addresses(family), st.integers(0, BITS[family]))


def names(length: int) -> SearchStrategy[str]:
    """As `wire.text` decodes them: of any bytes."""
    letters = st.sampled_from([byte for byte in range(1, 256) if byte not in b"/ \t\n\v\f\r"])
    of = st.lists(letters, min_size=length, max_size=length)
    return of.map(lambda name: bytes(name).decode(errors="surrogateescape"))


@st.composite
def several_rules(draw: DrawFn) -> Sequence[Rule]:
    """Rules of one shape."""
    family = draw(st.sampled_from(Family))
    values: dict[str, SearchStrategy[Any]] = {
        "src": networks(family),
        "dst": networks(family),
        "iif": names(draw(st.integers(1, 15))),
        "oif": names(draw(st.integers(1, 15))),
        **dict.fromkeys(OF_RULES[4:], U32),
    }
    has = draw(st.sets(st.sampled_from(OF_RULES)))
    its = {name: its for name, its in values.items() if name in has}
    rule = st.builds(Rule, st.just(family), PRIORITY, TABLE, action=U8, **its)
    return draw(st.lists(rule, min_size=2, max_size=4))


@st.composite
def several_routes(draw: DrawFn) -> Sequence[Route]:
    """Routes of one shape, as far as pyroute2 builds them."""
    family = draw(st.sampled_from(Family))
    bits = st.integers(1, BITS[family]) if draw(st.booleans()) else st.just(0)
    prefsrc = addresses(family) if draw(st.booleans()) else st.none()
    metric = st.integers(1, 0xFFFFFFFF) if draw(st.booleans()) else st.just(0)
    gateway = addresses(family) | (addresses(Family.V6) if family is Family.V4 else st.none())
    hop = st.builds(Hop, INDEX, st.none() | gateway, st.integers(1, 256), st.booleans())
    hops = st.lists(hop, min_size=2, max_size=3).map(tuple) if draw(st.booleans()) else st.just(())

    def network(ip: IPAddress, length: int) -> IPNetwork:
        return (IPv4Network if family is Family.V4 else IPv6Network)((ip, length), strict=False)

    route = st.builds(
        Route,
        st.builds(network, addresses(family), bits),
        TABLE,
        INDEX,
        gateway=st.none() | gateway,
        prefsrc=prefsrc,
        metric=metric,
        scope=U8,
        onlink=st.booleans(),
        tos=U8,
        metrics=st.sampled_from((b"", METRICS)),
        hops=hops,
    )
    return draw(st.lists(route, min_size=2, max_size=4))


ADDRESSES = st.builds(
    AddAddress, INDEX, st.ip_addresses(), st.booleans(), st.booleans()
) | st.builds(RemoveAddress, INDEX, st.ip_addresses(), st.integers(0, 128))
LINKS = st.builds(SetGroup, INDEX, U32) | st.builds(SetUp, INDEX, st.none() | U32)


def check(*operations: OfKernel) -> None:
    for operation in operations:
        assert encode(operation) == encode(operation, build)
    assert None not in shapes._shapes.values()  # each is really a copy


@given(st.lists(ADDRESSES | LINKS, min_size=2, max_size=8))
def test_addresses_and_links(operations: list[OfKernel]) -> None:
    check(*operations)


@given(several_routes())
def test_routes(routes: Sequence[Route]) -> None:
    check(*(verb(route) for route in routes for verb in (AddRoute, RemoveRoute)))


@given(several_rules())
def test_rules(rules: Sequence[Rule]) -> None:
    check(*(verb(rule) for rule in rules for verb in (AddRule, RemoveRule)))


def rule_body(priority: int) -> tuple[Fields, Attributes]:
    return {"family": 2, "action": 1}, {"FRA_PRIORITY": priority, "FRA_PROTOCOL": PROTOCOL}


def test_pyroute2_builds_only_the_first_of_a_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_shapes", {})
    first = splice(fibmsg, *rule_body(7))
    monkeypatch.setattr(shapes, "build", pytest.fail)
    assert splice(fibmsg, *rule_body(7)) == first
    assert splice(fibmsg, *rule_body(0x01020304)) != first


class Odd:
    """A pyroute2 that builds what one would not expect of its parts."""

    def __init__(self, how: str) -> None:
        self._how = how

    def build(self, kind: Any, fields: Fields, attributes: Mapping[str, Any]) -> bytes:
        body = build(kind, fields, attributes)
        match self._how:
            case "a sum":
                return body + sum(body).to_bytes(4, "little")
            case "a value twice":
                return body + body
            case "in another order":
                return body[12:] + body[:12]
        raise AssertionError


@pytest.mark.parametrize("how", ["a sum", "a value twice", "in another order"])
def test_what_cannot_be_copied_is_built_whole(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    odd = Odd(how)
    monkeypatch.setattr(shapes, "_shapes", {})
    monkeypatch.setattr(shapes, "build", odd.build)
    for priority in (7, 8, 0x01020304):
        body = rule_body(priority)
        assert splice(fibmsg, *body) == odd.build(fibmsg, *body)
    assert [*shapes._shapes.values()] == [None]


def test_a_number_that_does_not_fit_is_an_error() -> None:
    assert encode(RemoveRule(Rule(Family.V4, 7, 77))).body
    with pytest.raises(Exception, match="format requires"):
        encode(RemoveRule(Rule(Family.V4, 2**32, 77)))


def test_an_attribute_that_pyroute2_does_not_know_is_an_error() -> None:
    """It would be dropped in silence."""
    with pytest.raises(KeyError, match="FRA_TABEL"):
        splice(fibmsg, {"family": 2}, {"FRA_TABEL": 77})


@pytest.mark.parametrize("ip", [IPv4Address("10.0.0.5"), IPv6Address("2001:db8::5")])
def test_each_kind_of_address_has_a_shape(ip: IPAddress) -> None:
    check(AddAddress(7, ip), AddAddress(7, ip, preferred=True), RemoveAddress(7, ip, 24))
