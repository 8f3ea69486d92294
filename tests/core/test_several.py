"""What is followed is what would be counted anew."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.model import Item
from nicwatchd.core.several import Several

ITEMS: list[Item] = [
    *(ip_address(f"10.0.0.{n}") for n in range(4)),
    *(ip_address(f"2001:db8:0:{n}::{24 - 8 * n:x}") for n in range(3)),  # of one hash
    ip_network("10.0.0.16/28"),
    ip_network("2001:db8::/80"),
]
SETS = st.dictionaries(st.integers(1, 5), st.frozensets(st.sampled_from(ITEMS)))


@given(st.lists(SETS, max_size=8))
def test_each_time_it_is_as_if_counted_anew(times: list[dict[int, frozenset[Item]]]) -> None:
    followed = Several()
    for sets in times:
        each = [item for items in sets.values() for item in items]
        assert followed.follow(sets) == {item for item in each if each.count(item) > 1}
        networks = [item for item in each if isinstance(item, IPv4Network | IPv6Network)]
        assert followed.has_prefixes is bool(networks)


def test_addresses_of_one_hash_are_several() -> None:
    first, second, third = ITEMS[4:7]
    assert hash(first) == hash(second) == hash(third)
    assert not Several().follow({1: {first, second}, 2: {third}})
