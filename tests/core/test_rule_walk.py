"""Which rule decides on a packet, by tables of rules as `ip rule` prints them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from nicwatchd.core.model import PROTOCOL, Family, Route, Rule
from nicwatchd.core.packet import Packet
from nicwatchd.core.rule_walk import Says, walk, whose

NICWATCHD_TABLE = 1_000_959
BOOT = 3
PACKET = Packet(ip_address("10.0.2.10"), ip_address("198.51.100.50"))


def rule(priority: int, table: int, protocol: int = BOOT, **selectors: Any) -> Rule:
    nets = {k: ip_network(v) for k, v in selectors.items() if k in ("src", "dst")}
    return Rule(Family.V4, priority, table, protocol, **(selectors | nets))


LOCAL, MAIN, DEFAULT = rule(0, 255, 2), rule(32766, 254, 2), rule(32767, 253, 2)
GUARD = rule(32765, 254, PROTOCOL, src="10.0.2.0/24", iif="lo", suppress_prefixlength=0)
OURS = rule(32765, NICWATCHD_TABLE, PROTOCOL, src="10.0.2.0/24", iif="lo")
PLAIN = (LOCAL, GUARD, OURS, MAIN, DEFAULT)


def default(table: int, prefix: str = "0.0.0.0/0") -> Route:
    return Route(ip_network(prefix), table, 3, gateway=ip_address("10.0.2.1"))


def says(rules: tuple[Rule, ...], route: Route | None, packet: Packet = PACKET) -> dict[str, Says]:
    """What comes of it, by priority and table."""
    met = walk(packet, rules, route, group=3778)
    return {f"{each.rule.priority} {each.rule.table}": each.says for each in met}


def test_ours_decides() -> None:
    assert says(PLAIN, default(NICWATCHD_TABLE)) == {
        "0 255": Says.NOTHING,
        "32765 254": Says.NOTHING,
        f"32765 {NICWATCHD_TABLE}": Says.DECIDES,
        "32766 254": Says.NOT_ASKED,
        "32767 253": Says.NOT_ASKED,
    }


def test_a_guard_lets_only_what_is_not_a_default_pass() -> None:
    narrow = default(254, "198.51.100.0/24")
    assert says(PLAIN, narrow)["32765 254"] is Says.DECIDES
    without_ours = (LOCAL, GUARD, MAIN)
    assert says(without_ours, default(254)) == {
        "0 255": Says.NOTHING,
        "32765 254": Says.SUPPRESSED,
        "32766 254": Says.DECIDES,
    }


def test_a_group_that_a_rule_refuses() -> None:
    refuses = rule(32765, 254, PROTOCOL, suppress_ifgroup=3778)
    assert says((refuses, MAIN), default(254, "198.51.100.0/24")) == {
        "32765 254": Says.SUPPRESSED,
        "32766 254": Says.DECIDES,
    }


@pytest.mark.parametrize(
    ("selectors", "meets"),
    [
        ({}, True),
        ({"src": "10.0.2.0/24"}, True),
        ({"src": "10.0.3.0/24"}, False),
        ({"dst": "198.51.100.0/24"}, True),
        ({"dst": "198.51.101.0/24"}, False),
        ({"iif": "lo"}, True),
        ({"iif": "docker0"}, False),
        ({"oif": "eth1"}, False),
        ({"fwmark": 0x10, "fwmask": 0xF0}, True),
        ({"fwmark": 0x20, "fwmask": 0xF0}, False),
        ({"fwmark": 0x11}, True),
        ({"fwmark": 0x10}, False),
        ({"src": "10.0.3.0/24", "inverted": True}, True),
        ({"src": "10.0.2.0/24", "inverted": True}, False),
    ],
)
def test_what_a_rule_selects(selectors: dict[str, Any], meets: bool) -> None:
    packet = replace(PACKET, mark=0x11)
    found = says((rule(100, 100, **selectors), MAIN), default(100), packet)
    assert ("100 100" in found) is meets


def test_a_rule_of_the_other_family_is_not_met() -> None:
    assert says((replace(rule(100, 100), family=Family.V6), MAIN), default(254)) == {
        "32766 254": Says.DECIDES
    }


def test_what_is_forwarded_comes_in_by_its_link() -> None:
    packet = replace(PACKET, iif="docker0")
    by_docker = rule(50, 50, iif="docker0")
    assert says((by_docker, *PLAIN), default(50), packet)["50 50"] is Says.DECIDES
    assert "32765 1000959" not in says(PLAIN, default(254), packet)  # it is for `iif lo`


def test_what_only_the_kernel_knows_may_decide() -> None:
    by_user = rule(50, 100, exotic=True)
    met = walk(PACKET, (by_user, rule(60, 100), MAIN), default(100))
    assert [(each.says, each.certain) for each in met] == [
        (Says.MAY_DECIDE, False),
        (Says.DECIDES, True),
        (Says.NOT_ASKED, True),
    ]
    assert says((rule(50, 100, exotic=True, src="10.0.3.0/24"), MAIN), default(254)) == {
        "32766 254": Says.DECIDES
    }


def test_behind_a_jump_nothing_is_certain() -> None:
    assert says((rule(10, 0, action=2), rule(60, 100), MAIN), default(100)) == {
        "10 0": Says.MAY_JUMP,
        "60 100": Says.MAY_DECIDE,
        "32766 254": Says.NOT_ASKED,
    }


def test_a_rule_that_blocks() -> None:
    blocks = rule(40, 0, action=8)
    assert says((LOCAL, blocks, MAIN), None) == {
        "0 255": Says.NOTHING,
        "40 0": Says.BLOCKS,
        "32766 254": Says.NOT_ASKED,
    }


def test_nothing_lets_it_pass() -> None:
    assert set(says(PLAIN, None).values()) == {Says.NOTHING}


@pytest.mark.parametrize(
    ("each", "name"),
    [
        (LOCAL, "kernel"),
        (MAIN, "kernel"),
        (replace(MAIN, protocol=0), "kernel"),
        (rule(1000, 0, 2), "kernel"),  # of a VRF
        (OURS, "nicwatchd"),
        (rule(100, 100), "not ours (boot)"),
        (rule(100, 100, 4), "not ours (static)"),
        (rule(100, 100, 0), "not ours"),
        (rule(100, 100, 12), "not ours (bird)"),
        (rule(100, 100, 99), "not ours (openr)"),
        (rule(100, 100, 201), "not ours (proto 201)"),
        (rule(32766, 254, 2, src="10.0.2.0/24"), "not ours (kernel)"),
    ],
)
def test_whose_a_rule_is(each: Rule, name: str) -> None:
    assert whose(each) == name
