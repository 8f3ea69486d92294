"""The objects for addresses are the standard library's in everything that can be seen."""

from __future__ import annotations

import copy
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)

from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.addresses import address, as_network, known_address, known_network, network
from nicwatchd.core.model import Family

IPS = st.ip_addresses()
NETWORKS = st.builds(
    lambda ip, length: ip_network((ip.packed, min(length, ip.max_prefixlen)), strict=False),
    IPS,
    st.integers(0, 128),
)


@given(IPS)
def test_an_address_is_one_object_and_equal_to_the_librarys(
    ip: IPv4Address | IPv6Address,
) -> None:
    ours = address(ip.packed)
    assert ours is known_address(ip) is known_address(ip_address(str(ip)))
    for _ in range(2):  # what is computed, and what is known
        assert (str(ours), repr(ours), hash(ours)) == (str(ip), repr(ip), hash(ip))
    assert ours == ip == ours
    assert {ours} == {ip}
    assert isinstance(ours, type(ip))
    assert copy.deepcopy(ours) == ours
    assert str(ip_interface(ours)) == str(ip_interface(ip))


@given(IPS, IPS)
def test_others_are_others(one: IPv4Address | IPv6Address, two: IPv4Address | IPv6Address) -> None:
    assert (known_address(one) == known_address(two)) == (one == two)
    assert (known_address(one) == two) == (two == known_address(one)) == (one == two)
    assert known_address(one) != str(one)
    if one.version == two.version:
        ours = sorted((known_address(one), known_address(two)))
        assert ours == sorted((one, two))


@given(NETWORKS)
def test_a_network_is_one_object_and_equal_to_the_librarys(its: IPv4Network | IPv6Network) -> None:
    ours = known_network(its)
    packed = its.network_address.packed
    assert ours is network(Family(its.version), packed, its.prefixlen) is as_network(ours)
    for _ in range(2):
        assert (str(ours), repr(ours), hash(ours)) == (str(its), repr(its), hash(its))
    assert ours == its == ours
    assert isinstance(ours, type(its))
    assert ours.network_address is known_address(its.network_address)
    assert ours.broadcast_address == its.broadcast_address
    assert list(ours.subnets()) == list(its.subnets())
    assert ours.supernet() == its.supernet()
    assert as_network(its) is its


@given(IPS)
def test_an_address_alone_is_a_network(ip: IPv4Address | IPv6Address) -> None:
    assert as_network(ip) == ip_network(ip)
    assert as_network(ip) is as_network(known_address(ip))
    assert ip in as_network(ip)


def test_a_network_without_bytes_is_that_of_all_and_host_bits_go() -> None:
    assert network(Family.V4, None, 0) == IPv4Network("0.0.0.0/0")
    assert network(Family.V6, None, 0) == IPv6Network("::/0")
    assert network(Family.V4, IPv4Address("10.1.2.3").packed, 16) == IPv4Network("10.1.0.0/16")
