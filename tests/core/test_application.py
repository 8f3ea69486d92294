"""What is removed waits for what replaces it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from errno import EPERM

import pytest

from nicwatchd.core.application import Application
from nicwatchd.core.model import (
    MAIN_TABLE,
    AddAddress,
    AddRoute,
    AddRule,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
)
from nicwatchd.core.port import Outcome, judge
from tests.core.build import IPV4, NET4, TABLE, V4, V6, ip, net

RULE = Rule(V4, 32765, TABLE, src=net(f"{IPV4}/32"))
GUARD = replace(RULE, table=MAIN_TABLE, suppress_prefixlength=0, suppress_ifgroup=3778)
FORMER = replace(GUARD, suppress_ifgroup=77)
DETOUR = replace(RULE, dst=net("10.0.3.0/24"))
OLD = replace(RULE, priority=32601, table=1_000_003)
OTHER = Rule(V6, 32765, 1_001_215, oif="eth2")
ROUTE = Route(net(NET4), TABLE, 3)
DEFAULT = Route(net("0.0.0.0/0"), TABLE, 3, gateway=ip("10.0.2.1"))
ADDITIONS: tuple[Operation, ...] = (
    SetGroup(3, 3778),
    AddAddress(3, ip(IPV4)),
    AddRoute(ROUTE),
    AddRoute(DEFAULT),
    AddRule(GUARD),
    AddRule(RULE),
)
REMOVALS: tuple[Operation, ...] = (
    RemoveRule(DETOUR),
    RemoveRule(FORMER),
    RemoveRule(OLD),
    RemoveRule(OTHER),
    RemoveRoute(replace(ROUTE, table=1_000_003)),
    RemoveAddress(3, ip("10.0.2.9"), 32),
    SetGroup(4, 0),
)


def outcomes(
    operations: Iterable[Operation], refused: Iterable[Operation] = ()
) -> tuple[Outcome, ...]:
    return tuple(judge(each, EPERM if each in refused else 0) for each in operations)


def test_what_is_added_comes_first_and_then_what_is_removed() -> None:
    application = Application((*ADDITIONS, *REMOVALS))
    assert application.batch() == ADDITIONS
    application.take(outcomes(ADDITIONS))
    assert application.batch() == REMOVALS
    application.take(outcomes(REMOVALS))
    assert application.batch() == ()
    assert [each.operation for each in application.outcomes] == [*ADDITIONS, *REMOVALS]


@pytest.mark.parametrize("operations", [ADDITIONS, REMOVALS, ()])
def test_one_batch_is_enough_where_there_is_nothing_else(
    operations: tuple[Operation, ...],
) -> None:
    application = Application(operations)
    assert application.batch() == operations
    application.take(outcomes(operations))
    assert application.batch() == ()


@pytest.mark.parametrize(
    ("refused", "waiting"),
    [
        pytest.param([AddRule(RULE)], {DETOUR, FORMER, OLD}, id="the rule"),
        pytest.param([AddRule(GUARD)], {DETOUR, FORMER, OLD}, id="its guard"),
        pytest.param([AddRoute(DEFAULT)], {DETOUR, FORMER, OLD}, id="the way out of its table"),
        pytest.param([AddRoute(ROUTE)], set(), id="another route"),
        pytest.param([AddAddress(3, ip(IPV4))], set(), id="an address"),
        pytest.param(
            [SetGroup(3, 3778)], {DETOUR, FORMER}, id="the group that makes these needless"
        ),
        pytest.param(ADDITIONS, {DETOUR, FORMER, OLD}, id="all of it"),
    ],
)
def test_a_rule_stays_while_what_replaces_it_is_refused(
    refused: list[Operation], waiting: set[Rule]
) -> None:
    application = Application((*ADDITIONS, *REMOVALS))
    application.take(outcomes(ADDITIONS, refused))
    kept = {each for each in REMOVALS if isinstance(each, RemoveRule) and each.rule in waiting}
    assert application.batch() == tuple(each for each in REMOVALS if each not in kept)
    assert len(application.outcomes) == len(ADDITIONS), "what waits has no outcome"


def test_what_was_refused_is_no_reason_for_a_table_that_was_there_before() -> None:
    """Nothing leads into it anew."""
    application = Application((AddRoute(DEFAULT), RemoveRule(OLD)))
    application.take(outcomes([AddRoute(DEFAULT)], [AddRoute(DEFAULT)]))
    assert application.batch() == (RemoveRule(OLD),)
