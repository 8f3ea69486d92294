"""What the journal says of what was written: one line, and fields for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    RemoveRuleset,
    Route,
    Rule,
    SetGroup,
    SetRuleset,
    SetUp,
)
from nicwatchd.core.news import Wrote
from nicwatchd.core.written import IMDS, NOBODY
from nicwatchd.service.entries import INFO, LISTED
from nicwatchd.service.writes import counts, summary, wrote
from tests.core.build import IPV4, NET4, TABLE, V4, ip, net
from tests.service.test_entries import STATUS, VIEW

ADDRESS = ip(IPV4)
ROUTE = Route(net(NET4), TABLE, 3)
RULE = Rule(V4, 32765, TABLE, oif="eth1")


@pytest.mark.parametrize(
    ("operations", "text", "number"),
    [
        (
            (SetUp(3), SetGroup(3, 3778), *[AddRoute(ROUTE)] * 9, *[AddRule(RULE)] * 8),
            "link up, group 3778, +9 routes, +8 rules",
            {"set": {"link": 1, "group": 1}, "added": {"route": 9, "rule": 8}},
        ),
        (
            (AddAddress(3, ADDRESS), AddAddress(3, ADDRESS), RemoveRule(RULE)),
            "+2 addresses, -1 rule",
            {"added": {"address": 2}, "removed": {"rule": 1}},
        ),
        (
            (AddRoute(ROUTE, replace=True), AddAddress(3, ADDRESS, replace=True)),
            "1 address replaced, 1 route replaced",
            {"replaced": {"route": 1, "address": 1}},
        ),
        (
            (SetUp(3, 9001), RemoveAddress(3, ADDRESS, 32), RemoveRoute(ROUTE)),
            "link up, MTU 9001, -1 address, -1 route",
            {"set": {"link": 1}, "removed": {"address": 1, "route": 1}},
        ),
        ((SetRuleset("table"),), "nftables table inet nicwatchd written", {"set": {"ruleset": 1}}),
        (
            (RemoveRuleset(),),
            "nftables table inet nicwatchd removed",
            {"removed": {"ruleset": 1}},
        ),
    ],
)
def test_what_is_said(
    operations: Sequence[Operation], text: str, number: dict[str, dict[str, int]]
) -> None:
    assert summary(operations) == text
    assert counts(operations) == number


def test_the_entry_about_an_interface() -> None:
    text, priority, fields = wrote(Wrote(VIEW, (AddRule(RULE),), IMDS), STATUS)
    assert text == f"eth1 eni-0a1b changed: +1 rule; {IMDS.text}"
    assert priority == INFO
    assert fields["INTERFACE"] == "eth1"
    assert (fields["NICWATCHD_CAUSE"], fields["NICWATCHD_REASON_CODES"]) == (IMDS.text, IMDS.code)
    assert fields["NICWATCHD_OBJECTS"] == "+1 rule"
    command = f"ip rule add pref 32765 from all oif eth1 lookup {TABLE} proto 236"
    assert fields["NICWATCHD_OBJECT_LIST"] == command
    assert json.loads(fields["NICWATCHD_CHANGES"]) == {"added": {"rule": 1}}


def test_the_entry_about_no_interface() -> None:
    text, _, fields = wrote(Wrote(None, (RemoveRule(RULE),), NOBODY), None)
    assert text == f"nicwatchd changed: -1 rule; {NOBODY.text}"
    assert "INTERFACE" not in fields
    assert fields["NICWATCHD_REASON_CODES"] == "no-interface"


def test_of_many_commands_some_are_listed() -> None:
    _, _, fields = wrote(Wrote(VIEW, (AddRule(RULE),) * 100, IMDS), STATUS)
    assert len(fields["NICWATCHD_OBJECT_LIST"].splitlines()) == LISTED
    assert fields["NICWATCHD_OBJECTS"] == "+100 rules"
