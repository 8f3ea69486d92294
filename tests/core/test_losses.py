"""What others took of ours, told from what was never there and what is missing already."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.core.fights import LOSSES, Place, place
from nicwatchd.core.interface import Interface
from nicwatchd.core.losses import Losses
from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Operation,
    Plan,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
)
from nicwatchd.core.policy import Policy
from tests.core.build import ETH1, IPV4, NET4, TABLE, V4, ip, ips, lease, net
from tests.core.scenes import ETH2

RULE, OTHER = Rule(V4, 32601, TABLE, oif="eth1"), Rule(V4, 32602, TABLE, src=net(NET4))
ROUTE = Route(net(NET4), TABLE, 3)
PLAN = Plan(3, group=3778, addresses=ips(IPV4), routes=(ROUTE,), rules=(RULE, OTHER))
EACH: dict[str, Operation] = {
    "rule": AddRule(RULE),
    "route": AddRoute(ROUTE),
    "address": AddAddress(3, ip(IPV4)),
    "group": SetGroup(3, 3778),
}


class Books:
    """The books of a host with two links, of which eth1 has `PLAN`."""

    def __init__(self) -> None:
        self.losses = Losses()
        self.links = {3: Interface(ETH1, 0.0, Policy()), 4: Interface(ETH2, 0.0, Policy())}

    def count(
        self,
        *operations: Operation,
        now: float = 0.0,
        owner: int | None = 3,
        rules: frozenset[Rule] = frozenset(),
    ) -> int:
        """A decision wants these; how much of it counts as taken by others."""
        before = sum(self.losses.heals.values())
        owners = dict.fromkeys(operations, owner)
        plans = {3: PLAN, 4: Plan(4)}
        self.losses.count(plans, operations, self.links, owners, rules, now)
        return sum(self.losses.heals.values()) - before


@pytest.mark.parametrize("kind", EACH)
def test_what_was_there_as_planned_was_taken(kind: str) -> None:
    books = Books()
    assert books.count(EACH[kind]) == 1
    assert books.losses.heals == {kind: 1}
    assert books.count(EACH[kind]) == 1
    assert books.losses.heals == {kind: 2}


@pytest.mark.parametrize(
    ("operation", "owner"),
    [
        pytest.param(RemoveRule(RULE), 3, id="a removal"),
        pytest.param(SetUp(3), 3, id="that a link is down is its owner's wish"),
        pytest.param(AddRule(RULE), None, id="a leftover's"),
        pytest.param(AddRule(replace(RULE, priority=1)), 3, id="it was not planned"),
        pytest.param(AddRoute(replace(ROUTE, metric=7)), 3, id="it was planned otherwise"),
        pytest.param(AddRule(RULE), 4, id="another's plan"),
    ],
)
def test_what_is_no_loss(operation: Operation, owner: int | None) -> None:
    books = Books()
    assert books.count(operation, owner=owner) == 0


def test_all_of_a_moment_are_counted() -> None:
    books = Books()
    assert books.count(AddRule(RULE), RemoveRule(RULE), AddRule(OTHER), EACH["route"]) == 3
    assert books.losses.heals == {"rule": 2, "route": 1}


@pytest.mark.parametrize(
    ("kind", "taken"), [("rule", 1), ("route", 0), ("address", 0), ("group", 1)]
)
def test_what_the_kernel_took_as_the_link_was_down_is_no_loss(kind: str, taken: int) -> None:
    """Rules and groups outlive that. What comes later is counted again."""
    books = Books()
    books.links[3].facts.note_flap()
    books.links[4].facts.note_flap()
    assert books.count(EACH[kind]) == taken
    assert books.count(EACH[kind]) == 1
    assert not books.links[4].facts.flapped, "of every link"


def test_ipv4_routes_that_went_with_the_last_ipv4_address_are_no_loss() -> None:
    """But the address is; and so is the route, once it is there without its cause."""
    books = Books()
    facts = books.links[3].facts
    facts.update((lease(f"{IPV4}/24"),), ())
    facts.update((), ())
    assert books.count(EACH["route"], EACH["address"]) == 1
    assert books.losses.heals == {"address": 1}
    assert books.count(EACH["route"]) == 1


@pytest.mark.parametrize(
    ("allowed", "failed", "known"),
    [
        pytest.param(True, False, False, id="it was put back"),
        pytest.param(True, True, True, id="the kernel refused it"),
        pytest.param(False, False, True, id="it is throttled"),
    ],
)
def test_what_is_known_to_be_missing_is_no_new_loss(
    *, allowed: bool, failed: bool, known: bool
) -> None:
    books, operation = Books(), AddRule(RULE)
    assert books.count(operation) == 1
    books.losses.open([operation, SetUp(3)], [operation, SetUp(3)] if allowed else [])
    assert books.count(operation) == 0, "until the books are closed it is"
    books.losses.close(frozenset({operation}) if failed else frozenset(), 0.0)
    assert books.count(operation) == (0 if known else 1)


def test_whose_removals_are_a_fight_is_told_with_whom_notifications_name() -> None:
    books = Books()
    books.losses.suspect(place(AddRule(RULE)), "port id 77")
    for second in range(LOSSES):
        books.count(AddRule(RULE), AddRule(OTHER), now=float(second))
    fights = books.links[3].fights
    assert fights.over(AddRule(RULE))
    assert fights.reason
    assert "32601" in fights.reason.text
    assert "notifications name port id 77;" in fights.reason.text
    assert books.links[4].fights.reason is None
    other = Books()
    for second in range(LOSSES):
        other.count(AddRule(OTHER), now=float(second))
    reason = other.links[3].fights.reason
    assert reason
    assert "notifications" not in reason.text, "nobody is named"
    other.count(now=1000.0)
    assert other.links[3].fights.reason is None, "it was quiet"


def test_suspects_of_a_link_that_is_gone_are_forgotten_but_rules_are_nobodys() -> None:
    losses = Losses()
    there = [
        Place(AddRoute, 4, 4),
        Place(AddAddress, 4),
        Place(AddRule, 3, 4),
        Place(AddRule, 9, 6),
    ]
    gone = [Place(AddRoute, 3, 4), Place(AddAddress, 3)]
    for where in (*there, *gone):
        losses.suspect(where, "x")
    losses.forget(3)
    assert losses._suspects == dict.fromkeys(there, ("x", ""))


def test_a_rule_that_is_added_once_more_behind_its_guard_is_not_lost() -> None:
    assert Books().count(AddRule(RULE), rules=frozenset({RULE})) == 0
