"""From text to values: what is accepted, what is refused, and the messages for it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.metadata import ABSENT, Answer, Unknown, Value
from nicwatchd.imds.parse import LEAVES, Parsed, find_mac, parse_directory, parse_leaf, parse_macs


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("local-ipv4s", "10.0.0.9\n10.0.0.4\n", (ip_address("10.0.0.9"), ip_address("10.0.0.4"))),
        ("local-ipv4s", "10.0.0.9\n10.0.0.9", (ip_address("10.0.0.9"),)),
        ("ipv6s", "2001:db8::1/64", (ip_address("2001:db8::1"),)),
        ("ipv6s", " 2001:DB8:0:0:0:0:0:1 \r\n", (ip_address("2001:db8::1"),)),
        ("ipv4-prefix", "10.0.2.16/28", (ip_network("10.0.2.16/28"),)),
        ("ipv6-prefix", "2001:db8:0:2:1::/80", (ip_network("2001:db8:0:2:1::/80"),)),
        (
            "subnet-ipv6-cidr-blocks",
            "2600:1f16:67:f100:0:0:0:0/64\n2001:db8::/64",
            (ip_network("2600:1f16:67:f100::/64"), ip_network("2001:db8::/64")),
        ),
        ("subnet-ipv4-cidr-block", "10.0.2.0/24", (ip_network("10.0.2.0/24"),)),
        ("mac", "02:AA:BB:00:00:01", "02:aa:bb:00:00:01"),
        ("interface-id", "eni-0123456789abcdef0", "eni-0123456789abcdef0"),
        ("subnet-id", "subnet-01\n", "subnet-01"),
        ("device-number", "0", 0),
        ("network-card", "1", 1),
    ],
)
def test_values(key: str, text: str, value: object) -> None:
    assert parse_leaf(key, text) == Parsed(Value(value))


@pytest.mark.parametrize("key", sorted(LEAVES))
@pytest.mark.parametrize("text", ["", "\n", " \n\t\n"])
def test_blank_is_absent_and_never_zero(key: str, text: str) -> None:
    assert parse_leaf(key, text) == Parsed(ABSENT)


@pytest.mark.parametrize(
    ("key", "line", "reason"),
    [
        ("local-ipv4s", "2001:db8::1", "Input is not a valid IPv4 interface"),
        ("local-ipv4s", "10.0.0.256", "Input is not a valid IPv4 interface"),
        ("local-ipv4s", "169.254.7.7", "not an address that an interface can have in a VPC"),
        ("ipv6s", "10.0.0.1", "Input is not a valid IPv6 interface"),
        ("ipv6s", "fe80::1", "not an address that an interface can have in a VPC"),
        ("ipv6s", "::", "not an address that an interface can have in a VPC"),
        ("ipv6s", "2001:db8::1%eth0", "not plain text"),
        ("subnet-ipv4-cidr-block", "10.0.2.5/24", "Input is not a valid IPv4 network"),
        ("subnet-ipv4-cidr-block", "10.0.2.0", "no prefix length"),
        ("subnet-ipv4-cidr-block", "0.0.0.0/0", "too wide for a subnet"),
        ("subnet-ipv6-cidr-blocks", "::/0", "too wide for a subnet"),
        ("subnet-ipv6-cidr-blocks", "2001:db8::1/64", "Input is not a valid IPv6 network"),
        ("ipv6-prefix", "ff02::/64", "not an address that an interface can have in a VPC"),
        ("mac", "02:00:00:00:00", "not a MAC address"),
        ("device-number", "-1", "not a small number"),
        ("device-number", "1.0", "not a small number"),
        ("network-card", "٣", "not a small number"),
        ("interface-id", "eni-../../x", "String should match pattern '^eni-[0-9a-zA-Z]{1,64}$'"),
    ],
)
def test_a_bad_line_alone_is_garbage(key: str, line: str, reason: str) -> None:
    assert parse_leaf(key, line) == Parsed(
        Unknown(f"{key}: garbage"), (f"{key}: {line!a}: {reason}",)
    )


def test_good_lines_beside_a_bad_one_are_used() -> None:
    parsed = parse_leaf("ipv6s", "2001:db8::1\nnonsense\n2001:db8::2")
    good = (ip_address("2001:db8::1"), ip_address("2001:db8::2"))
    assert parsed.answer == Value(good, whole=False)
    assert parsed.refused == ("ipv6s: 'nonsense': Input is not a valid IPv6 interface",)


def test_two_values_where_there_is_one() -> None:
    assert parse_leaf("device-number", "1\n2").answer == Unknown("device-number: garbage (2 lines)")


def test_what_is_refused_is_bounded() -> None:
    parsed = parse_leaf("ipv6s", "\n".join(f"\x1b[31m{'x' * 5000}{n}" for n in range(1000)))
    assert len(parsed.refused) == 5
    assert parsed.refused[-1] == "ipv6s: 996 more lines refused"
    assert all(len(line) < 150 and line.isprintable() for line in parsed.refused)


@given(st.sampled_from(sorted(LEAVES)), st.text(max_size=200))
def test_nothing_that_imds_says_raises(key: str, text: str) -> None:
    parsed = parse_leaf(key, text)
    assert all(line.isprintable() for line in parsed.refused)


def test_directory() -> None:
    parsed = parse_directory("device-number\nipv4-associations/\nipv6s\n")
    assert parsed == Parsed(Value(frozenset({"device-number", "ipv4-associations", "ipv6s"})))


def test_directory_with_a_bad_line() -> None:
    parsed = parse_directory("mac\n<html>")
    names = Value(frozenset({"mac"}), whole=False)
    assert parsed == Parsed(names, ("directory: '<html>': not a key's name",))


@pytest.mark.parametrize(
    ("lost", "new"), [("ipv4-prefix", "ipv6-prefix"), ("ipv6s", "ipv6-prefix")]
)
def test_a_key_that_comes_as_a_similar_one_goes_is_no_damage(lost: str, new: str) -> None:
    for gone, here in ((lost, new), (new, lost)):
        parsed = parse_directory(f"mac\n{here}", frozenset({"mac", gone}))
        assert parsed == Parsed(Value(frozenset({"mac", here})))


@pytest.mark.parametrize(
    ("text", "answer"), [("", ABSENT), ("<html>\n404", Unknown("directory: garbage"))]
)
def test_directory_without_a_name(text: str, answer: object) -> None:
    assert parse_directory(text.replace("404", "<b>")).answer == answer


@pytest.mark.parametrize(
    ("listing", "found"),
    [
        ("02:00:00:00:00:0a/\n02:00:00:00:00:0b/", Value("02:00:00:00:00:0b")),
        ("02:00:00:00:00:0B/", Value("02:00:00:00:00:0B")),
        ("02:00:00:00:00:0b", Value("02:00:00:00:00:0b")),
        ("02:00:00:00:00:0a/", ABSENT),
        ("", ABSENT),
        ("02:00:00:00:00:0b/\n02:00:\ufffd", Value("02:00:00:00:00:0b")),
        (
            "02:00:00:00:00:0a/\n02:00:\ufffd",
            Unknown("the list of MACs: garbage ('02:00:\\ufffd')"),
        ),
    ],
)
def test_find_mac(listing: str, found: Answer[str]) -> None:
    assert find_mac(listing, "02:00:00:00:00:0b") == found


@pytest.mark.parametrize(
    ("listing", "macs", "whole"),
    [
        (
            "02:00:00:00:00:01/\n02:00:00:00:00:0A/\n",
            {"02:00:00:00:00:01", "02:00:00:00:00:0a"},
            True,
        ),
        ("02:00:00:00:00:01\n\n", {"02:00:00:00:00:01"}, True),
        ("02:00:00:00:00:01/\n<html>", {"02:00:00:00:00:01"}, False),
        ("", set(), True),
    ],
)
def test_the_list_of_macs(listing: str, macs: set[str], whole: bool) -> None:
    assert parse_macs(listing) == Value(frozenset(macs), whole=whole)
