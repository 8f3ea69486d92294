"""Masks: one replacement for each public address, networks kept together, nothing public left."""

from __future__ import annotations

import ipaddress
import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.bounds import no_prefix, no_subnet
from nicwatchd.core.model import IPAddress, IPNetwork
from nicwatchd.recording.mask import EMBEDDING, KEPT, KEPT_V6, PUBLIC_V6, Mask

TARGET = IPv6Network("3000::/4")  # what public addresses become; nobody has any of these

keys = st.binary(min_size=1, max_size=16)
v4s = st.integers(0, 2**32 - 1).map(IPv4Address)
# Few random addresses are near each other, so make neighbours.
near_v4s = st.builds(
    lambda ip, bit: IPv4Address(int(ip) ^ 1 << bit), st.sampled_from(list(map(IPv4Address, (
        "54.93.7.10", "8.8.8.8", "172.31.255.255", "198.51.101.1", "192.0.3.1", "100.63.0.1",
        "203.0.114.9", "11.0.0.1", "9.255.255.255", "126.0.0.1", "223.255.255.255", "1.0.0.0",
    )))), st.integers(0, 31),
)  # fmt: skip
v6s = st.integers(0, 2**128 - 1).map(IPv6Address)
near_v6s = st.builds(
    lambda ip, bit: IPv6Address(int(ip) ^ 1 << bit), st.sampled_from(list(map(IPv6Address, (
        "2600:1f18:1:2::10", "2a05:d018::1", "2001:db7:ffff::1", "2001:db9::", "2406:da00::5",
        "2fff:ffff::", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8",
    )))), st.integers(0, 127),
)  # fmt: skip
addresses = st.one_of(v4s, near_v4s, v6s, near_v6s)


def is_public(ip: IPAddress) -> bool:
    """By what this project keeps; for IPv6 what is allocated at all."""
    if isinstance(ip, IPv4Address):
        return not any(ip in kept for kept in KEPT)
    if any(ip in prefix for prefix in EMBEDDING):
        return is_public(IPv4Address(int(ip) & 0xFFFFFFFF))
    return ip in PUBLIC_V6 and not any(ip in kept for kept in KEPT_V6)


@given(addresses)
def test_what_python_calls_global_is_public(ip: IPAddress) -> None:
    if isinstance(ip, IPv4Address):
        if ip.is_global and not ip.is_multicast and not ip.is_reserved:
            assert is_public(ip)
    elif ip.is_global and ip in IPv6Network("2000::/4") and not ip.teredo:
        assert is_public(ip) or any(ip in kept for kept in KEPT_V6)


@given(keys, addresses)
def test_nothing_public_stays_and_nothing_else_changes(key: bytes, ip: IPAddress) -> None:
    masked = Mask(key).address(ip)
    assert masked.version == ip.version
    assert (masked != ip) is is_public(ip)
    if isinstance(masked, IPv6Address) and ip in PUBLIC_V6 and masked != ip:
        assert masked in TARGET


@given(keys, addresses, addresses)
def test_no_two_become_one(key: bytes, one: IPAddress, other: IPAddress) -> None:
    mask = Mask(key)
    if one in TARGET or other in TARGET or one.version != other.version:
        return  # not of this world
    assert (mask.address(one) == mask.address(other)) is (one == other)


@given(keys, st.one_of(near_v4s, near_v6s), st.integers(0, 127), st.integers(8, 128))
def test_a_network_keeps_what_is_in_it(key: bytes, ip: IPAddress, bit: int, length: int) -> None:
    width = ip.max_prefixlen
    length = min(length, width)
    other = type(ip)(int(ip) ^ 1 << bit % width)
    network = ip_network((ip.packed, length), strict=False)
    mask = Mask(key)
    kept: list[IPNetwork] = [*KEPT, *KEPT_V6, *EMBEDDING]
    if any(k.version == ip.version and network.overlaps(k) for k in kept) or other in TARGET:
        return  # a part of it stays where it is
    if not is_public(ip) or not is_public(other):
        return
    masked = mask.network(network)
    assert masked.prefixlen == length
    assert (masked != network) or length <= (7 if ip.version == 4 else 3)
    assert mask.address(ip) in masked
    assert (mask.address(other) in masked) is (other in network)


@given(keys, st.integers(0, 2**24 - 1), st.integers(24, 28))
def test_routers_and_reserved_addresses_stay_what_they_are(key: bytes, n: int, length: int) -> None:
    """EC2's router is at the base plus one; the first four and the last are nobody's."""
    base = IPv4Network(((54 << 24) | n & ~0xFF | 0x40, 28)).supernet(new_prefix=length)
    mask = Mask(key)
    masked = mask.network(base)
    for offset in (1, 3, base.num_addresses - 1):
        expected = masked.network_address + offset
        assert mask.address(base.network_address + offset) == expected
    assert not no_subnet(masked)


@given(keys, st.integers(0, 2**52 - 1))
def test_subnets_and_prefixes_of_ipv6_stay_possible(key: bytes, bits: int) -> None:
    subnet = IPv6Network((0x2600 << 112 | bits << 64, 64))
    prefix = IPv6Network((int(subnet.network_address) | 7 << 48, 80))
    mask = Mask(key)
    assert mask.network(prefix).subnet_of(mask.network(subnet))  # type: ignore[arg-type]
    assert not no_subnet(mask.network(subnet))
    assert not no_prefix(mask.network(prefix))


@given(st.lists(keys, min_size=2, max_size=2, unique=True))
def test_each_key_masks_in_its_own_way(two: list[bytes]) -> None:
    ips = [ip_address(0x2600 << 112 | n << 64) for n in range(64)]
    first, second = ([Mask(key).address(ip) for ip in ips] for key in two)
    assert first != second
    assert first == [Mask(two[0]).address(ip) for ip in ips]


@given(keys, st.lists(addresses, min_size=1, max_size=5), st.sampled_from([" ", "\n", ", ", "\t"]))
def test_texts_are_masked_as_addresses_are(key: bytes, ips: list[IPAddress], between: str) -> None:
    mask = Mask(key)
    text = between.join(map(str, ips))
    words = mask.text(text).split(between)
    assert [ip_address(word) for word in words] == [mask.address(ip) for ip in ips]


@given(keys, st.lists(addresses, max_size=5))
def test_values_are_masked_throughout(key: bytes, ips: list[IPAddress]) -> None:
    mask = Mask(key)
    texts = [str(ip) for ip in ips]
    value = {"a": texts, **dict.fromkeys(texts, 1), "b": {"c": "\n".join(texts)}, "n": None}
    masked = mask.value(value)
    expected = [mask.text(text) for text in texts]
    assert masked["a"] == expected
    assert masked["b"]["c"] == "\n".join(expected)
    assert masked["n"] is None
    assert set(expected) <= masked.keys()


@pytest.mark.parametrize(
    "around",
    [
        *("{}", "[{}]:443", "{}%eth0", "({})", "'{}'", "addr={}", "{}.", "{}, {}", "x\n{}\n"),
        *(r"a\n{}\nb", "peer:{}", "iface:{}", "from {}: no route", '"{}"', "{};", "<{}>"),
    ],
)
@pytest.mark.parametrize("ip", ["54.93.7.10", "2600:1f18:1:2::10", "2600:1F18:1:2:0:0:0:10"])
def test_whatever_stands_around_it(around: str, ip: str) -> None:
    mask = Mask(b"key")
    masked = str(mask.address(ip_address(ip)))
    assert mask.text(around.replace("{}", ip)) == around.replace("{}", masked)


def test_lengths_and_ports_stay() -> None:
    mask = Mask(b"key")
    network = mask.network(IPv4Network("54.93.7.0/24"))
    address = mask.address(IPv4Address("54.93.7.10"))
    assert mask.text("54.93.7.0/24 54.93.7.10/24") == f"{network} {address}/24"
    assert mask.text("54.93.7.10:80-54.93.7.10") == f"{address}:80-{address}"
    host = str(address).replace(".", "-")
    assert mask.text("ec2-54-93-7-10.compute-1.aws") == f"ec2-{host}.compute-1.aws"
    assert mask.text("ip-54-93-7-10.ec2.internal") == f"ip-{host}.ec2.internal"
    embedded = mask.address(IPv6Address("::ffff:54.93.7.10"))
    assert mask.text("[::ffff:54.93.7.10]:80") == f"[{embedded}]:80"
    six = mask.network(IPv6Network("2600:1f18:1:2::/64"))
    assert mask.text("from 2600:1f18:1:2::/64 lookup 5") == f"from {six} lookup 5"


@pytest.mark.parametrize(
    "text",
    [
        *("06:aa:bb:cc:dd:02", "10:09:02.1", "2026-11-26T10:15:00Z", "1.2.3.4.5", "1.2.3", "a::b"),
        *("10.0.1.10/24", "169.254.169.254", "fd00:ec2::254", "fe80::1%eth0", "2001:db8::1"),
        *("0.0.0.0/0", "::/0", "2000::/3", "128.0.0.0/1", "std::abs", "999.1.1.1", "1.2.3.4/99"),
        *("eni-0a1b2c3d4e5f60711", "rule 32765:", "::", ":", "f00d", "ip-10-0-1-10.ec2.internal"),
    ],
)
def test_what_is_no_public_address_stays(text: str) -> None:
    assert Mask(b"key").text(text) == text


def test_without_a_key_nothing_changes() -> None:
    mask = Mask(None)
    assert mask.address(IPv4Address("8.8.8.8")) == IPv4Address("8.8.8.8")
    assert mask.network(IPv6Network("2600::/12")) == IPv6Network("2600::/12")
    assert mask.text("8.8.8.8") == "8.8.8.8"


def test_masked_json_is_json() -> None:
    value = {"a": "8.8.8.8\n2600::1", "b": ["ec2-8-8-8-8"]}
    masked = json.loads(json.dumps(Mask(b"key").value(value)))
    assert "8.8.8.8" not in str(masked)
    assert ipaddress.ip_address(masked["a"].split("\n")[1]) in TARGET
