"""What is removed waits for what replaces it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from errno import EACCES, EEXIST, EPERM
from typing import Final

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


def carry_out(application: Application, refused: Iterable[Operation] = ()) -> list[Operation]:
    """Carry out all batches; what was tried, in order."""
    refused = list(refused)
    tried: list[Operation] = []
    while batch := application.batch():
        tried += batch
        application.take(outcomes(batch, refused))
    return tried


def test_what_is_added_comes_first_and_then_what_is_removed() -> None:
    application = Application((*ADDITIONS, *REMOVALS))
    for batch in (ADDITIONS[:4], ADDITIONS[4:], REMOVALS):
        assert application.batch() == batch
        application.take(outcomes(batch))
    assert application.batch() == ()
    assert [each.operation for each in application.outcomes] == [*ADDITIONS, *REMOVALS]


@pytest.mark.parametrize(
    "operations",
    [
        ADDITIONS[:4],
        ADDITIONS[4:],
        (AddRoute(ROUTE), AddRule(RULE)),
        (AddRoute(DEFAULT), AddRule(OTHER)),
        REMOVALS,
        (),
    ],
)
def test_one_batch_is_enough_where_no_rule_leads_into_a_new_table(
    operations: tuple[Operation, ...],
) -> None:
    application = Application(operations)
    assert application.batch() == operations
    application.take(outcomes(operations))
    assert application.batch() == ()


LATER = replace(DEFAULT, metric=200)
SECOND = AddRule(replace(RULE, src=net("10.0.2.9/32")))
ELSEWHERE = AddRule(replace(RULE, family=V6, src=net("2001:db8::9/128")))


@pytest.mark.parametrize("operations", [(AddRoute(LATER), AddRule(RULE)), ADDITIONS])
def test_or_where_it_has_a_default_route(operations: tuple[Operation, ...]) -> None:
    application = Application(operations, [DEFAULT])
    assert application.batch() == operations
    application.take(outcomes(operations, [AddRoute(LATER)]))
    assert application.batch() == ()


INTO_TABLE: Final = frozenset({AddRule(GUARD), AddRule(RULE), SECOND})


@pytest.mark.parametrize(
    ("routes", "errno", "withheld"),
    [
        pytest.param([DEFAULT], EACCES, INTO_TABLE, id="new"),
        pytest.param([DEFAULT], EEXIST, set(), id="another's stands in its place"),
        pytest.param([DEFAULT, LATER], EACCES, INTO_TABLE, id="both"),
        pytest.param([ROUTE], EACCES, set(), id="not the way out"),
        pytest.param([replace(DEFAULT, dst=net("::/0"))], EACCES, {ELSEWHERE}, id="IPv6 alone"),
    ],
)
def test_no_rule_leads_into_a_table_without_a_way_out(
    routes: list[Route], errno: int, withheld: set[Operation]
) -> None:
    """IPv6 was switched off on a link that had nothing of it, so no event told that."""
    rules = (AddRule(GUARD), AddRule(RULE), SECOND, ELSEWHERE, AddRule(OTHER))
    added = [AddRoute(route) for route in routes]
    application = Application((*added, AddRoute(replace(DEFAULT, table=TABLE + 256)), *rules))
    tried: list[Operation] = []
    while batch := application.batch():
        tried += batch
        application.take(judge(each, errno if each in added else 0) for each in batch)
    assert set(rules) - set(tried) == withheld


@pytest.mark.parametrize("lost", [DEFAULT, LATER])
def test_one_default_route_of_two_is_enough(lost: Route) -> None:
    """An operator has two, with two metrics, and both are copied."""
    application = Application((AddRoute(DEFAULT), AddRoute(LATER), AddRule(GUARD), AddRule(RULE)))
    assert AddRule(RULE) in carry_out(application, [AddRoute(lost)])


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
    tried = carry_out(application, refused)
    kept = {each for each in REMOVALS if isinstance(each, RemoveRule) and each.rule in waiting}
    assert [each for each in tried if each in REMOVALS] == [o for o in REMOVALS if o not in kept]
    assert [each.operation for each in application.outcomes] == tried, "what waits has no outcome"


def test_what_was_refused_is_no_reason_for_a_table_that_was_there_before() -> None:
    """Nothing leads into it anew."""
    application = Application((AddRoute(DEFAULT), RemoveRule(OLD)))
    application.take(outcomes([AddRoute(DEFAULT)], [AddRoute(DEFAULT)]))
    assert application.batch() == (RemoveRule(OLD),)
