"""The numbers that others define, and what goes without saying of a kernel's object.

Readers of the kernel name only what it told them, so each default has to mean "nothing of it".
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, Final

import pytest

from nicwatchd.core import model
from nicwatchd.core.model import (
    HEEDED,
    AddAddress,
    Address,
    AddRoute,
    Family,
    IPNetwork,
    Link,
    Numbers,
    Plan,
    Route,
    Rule,
    contains,
)
from tests.core.build import net

# linux/rtnetlink.h and linux/fib_rules.h.
KERNELS: Final = {
    "MAIN_TABLE": 254,
    "RTPROT_KERNEL": 2,
    "RTPROT_BOOT": 3,
    "RTPROT_STATIC": 4,
    "UNICAST": 1,
    "BLACKHOLE": 6,
    "UNREACHABLE": 7,
    "PROHIBIT": 8,
    "THROW": 9,
    "RTPROT_RA": 9,
    "RTPROT_DHCP": 16,
    "SCOPE_UNIVERSE": 0,
    "SCOPE_LINK": 253,
    "IPV6_DEFAULT_METRIC": 1024,
}
# What is in the kernel since an older version carries these: they cannot change any more.
MARKS: Final = {
    "PROTOCOL": 236,
    "LINK_GROUP": 3778,
    "DEFAULT_GROUP": 0,
    "TABLE_BASE": 1_000_000,
    "TABLE_STEP": 1_000_000,
}
UNSAID: Final[dict[type, dict[str, Any]]] = {
    Link: {
        "running": True,
        "kind": None,
        "driver": None,
        "group": 0,
        "master": 0,
        "lower": 0,
        "ra_received": False,
        "ra_managed": False,
        "mtu": 0,
        "max_mtu": 0,
        "has_ipv6": True,
        "disable_ipv6": False,
    },
    Address: {
        "scope": 0,
        "dynamic": False,
        "deprecated": False,
        "tentative": False,
        "from_ra": False,
        "protocol": 0,
    },
    Route: {
        "protocol": 236,
        "gateway": None,
        "prefsrc": None,
        "metric": 0,
        "scope": 0,
        "onlink": False,
        "tos": 0,
        "metrics": b"",
        "hops": (),
        "kind": 1,
    },
    Rule: {
        "protocol": 236,
        "src": None,
        "dst": None,
        "iif": None,
        "oif": None,
        "fwmark": None,
        "fwmask": None,
        "suppress_prefixlength": None,
        "suppress_ifgroup": None,
        "inverted": False,
        "exotic": False,
        "action": 1,  # FR_ACT_TO_TBL
    },
    Plan: {
        "group": None,
        "bring_up": False,
        "mtu": None,
        "addresses": (),
        "preferred": None,
        "awaited": (),
        "away": frozenset(),
        "housed": frozenset(),
        "routes": (),
        "rules": (),
        "elsewhere": frozenset(),
        "standing": (),
        "remarks": (),
        "main_decides": False,
        "unfinished": (),
        "notes": (),
    },
    AddAddress: {"preferred": False, "replace": False},
    AddRoute: {"replace": False},
}


@pytest.mark.parametrize(("name", "number"), [*KERNELS.items(), *MARKS.items()])
def test_numbers_that_cannot_change(name: str, number: int) -> None:
    assert getattr(model, name) == number


@pytest.mark.parametrize(("kind", "unsaid"), UNSAID.items())
def test_what_goes_without_saying(kind: Any, unsaid: dict[str, Any]) -> None:
    defaults = {each.name: each.default for each in fields(kind) if each.default is not MISSING}
    assert defaults == unsaid


def test_the_numbers_that_settings_may_change() -> None:
    numbers = Numbers()
    assert (numbers.priority, numbers.table_base, numbers.group) == (32765, 1_000_000, 3778)
    assert numbers.table_of(3) == 1_000_191 + 3 * 256
    assert Numbers(priority=100, table_base=2_000_000).table_of(7) == 2_000_127 + 7 * 256


def test_the_main_tables_routes_that_count_are_of_whoever_configures_addresses() -> None:
    assert set(HEEDED) == {2, 3, 4, 9, 16}


def test_a_family_is_its_version() -> None:
    assert {family.label: int(family) for family in Family} == {"IPv4": 4, "IPv6": 6}


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (net("10.0.0.0/8"), net("10.0.2.0/24"), True),
        (net("10.0.2.0/24"), net("10.0.2.0/24"), True),
        (net("10.0.2.0/24"), net("10.0.0.0/8"), False),
        (net("2001:db8::/32"), net("2001:db8:7::/64"), True),
        (net("2001:db8::/32"), net("2001:db9::/64"), False),
        (net("0.0.0.0/0"), net("2001:db8::/32"), False),
        (net("::/0"), net("10.0.0.0/8"), False),
    ],
)
def test_what_lies_in_a_network(*, outer: IPNetwork, inner: IPNetwork, expected: bool) -> None:
    assert contains(outer, inner) is expected
