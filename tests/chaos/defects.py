"""Defects that the walk has to find, each planted by itself: the product has no hook for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest

from nicwatchd.core import application, decide, diff, rule_chains
from nicwatchd.core.decide import Decider
from nicwatchd.core.floating import Floating
from nicwatchd.core.homes import Homes
from nicwatchd.core.known import Known
from nicwatchd.core.metadata import ABSENT, Unknown
from nicwatchd.core.model import (
    PROTOCOL,
    Numbers,
    Operation,
    RemoveRule,
    Rule,
)
from nicwatchd.core.ownership import Snapshot
from nicwatchd.core.port import Event, RuleEvent
from tests.chaos.watched_kernel import WatchedKernel

Plant = Callable[[pytest.MonkeyPatch], WatchedKernel | None]


def lost_event(_: pytest.MonkeyPatch) -> WatchedKernel:
    """Nobody hears that a rule of ours was removed."""

    def lose(event: Event) -> bool:
        return isinstance(event, RuleEvent) and event.deleted and event.protocol == PROTOCOL

    return WatchedKernel(lose)


def rule_left_on_detach(patch: pytest.MonkeyPatch) -> None:
    """The rules that name the interface stay when it goes."""
    right = diff._rules_to_remove

    def wrong(plans: Any, kernel: Snapshot, *rest: Any) -> Iterable[Operation]:
        for operation in right(plans, kernel, *rest):
            assert isinstance(operation, RemoveRule)
            gone = Numbers().index_of(operation.rule.table) not in kernel.links
            if not (gone and operation.rule.oif):
                yield operation

    patch.setattr(diff, "_rules_to_remove", wrong)


def unknown_read_as_absent(patch: pytest.MonkeyPatch) -> None:
    """A key that could not be read counts as one that is not there."""
    right = Known.learn

    def wrong(self: Any, answer: Any, *rest: Any, **more: Any) -> Any:
        return right(self, ABSENT if isinstance(answer, Unknown) else answer, *rest, **more)

    patch.setattr(Known, "learn", wrong)


def removals_first(patch: pytest.MonkeyPatch) -> None:
    """What is too much goes before what is missing comes."""
    patch.setattr(application, "is_removal", lambda operation: not diff.is_removal(operation))


def guard_behind_its_rule(patch: pytest.MonkeyPatch) -> None:
    """A rule that is missing is added, and what has to come after it stays where it is."""
    right, surplus = rule_chains.missing, rule_chains.surplus

    def added(wanted: rule_chains.Chains, own: rule_chains.Chains) -> list[Rule]:
        there = {rule for chain in own.values() for rule in chain}
        return [rule for rule in right(wanted, own) if rule not in there]

    def removed(wanted: rule_chains.Chains, own: rule_chains.Chains, protects: Any) -> list[Rule]:
        planned = {rule for chain in wanted.values() for rule in chain}
        return [rule for rule in surplus(wanted, own, protects) if rule not in planned]

    patch.setattr(rule_chains, "missing", added)
    patch.setattr(rule_chains, "surplus", removed)


def routes_before_rules(patch: pytest.MonkeyPatch) -> None:
    """Removals in the order of the additions: rules lead into an empty table meanwhile."""
    right = diff.diff

    def wrong(*arguments: Any) -> tuple[Operation, ...]:
        operations = right(*arguments)
        return tuple(sorted(operations, key=lambda it: isinstance(it, RemoveRule)))  # stable

    patch.setattr(decide, "diff", wrong)


def address_of_anothers_removed(patch: pytest.MonkeyPatch) -> None:
    """Each permanent address counts as ours."""
    patch.setattr(diff, "ours", lambda address: not address.dynamic)


def stale_plan(patch: pytest.MonkeyPatch) -> None:
    """A plan is kept while the links are as they were, whatever else has changed."""
    right = Decider._plan
    made: dict[int, Mapping[int, object]] = {}

    def wrong(self: Decider, *arguments: Any) -> None:
        interfaces = self.host.interfaces
        before = {index: interface.plan for index, interface in interfaces.items()}
        right(self, *arguments)
        links = {index: interface.link for index, interface in interfaces.items()}
        if made.get(id(self)) == links:
            for index, plan in before.items():
                if plan.rules:
                    interfaces[index].take_plan(plan)
        made[id(self)] = links

    patch.setattr(Decider, "_plan", wrong)


def containers_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What containers have counts as the host's."""
    patch.setattr(Homes, "of", lambda *_: {})


def floating_put_back(patch: pytest.MonkeyPatch) -> None:
    """What its manager took away counts as lost."""
    right = Floating.look

    def wrong(self: Floating, *arguments: Any, **more: Any) -> bool:
        right(self, *arguments, **more)
        self.taken = {}
        return False

    patch.setattr(Floating, "look", wrong)


@dataclass(frozen=True)
class Case:
    """A defect, and where it was found: in the walk of this seed, within so many steps.

    `said` is a part of what tells of it. Who changes what a walk proposes changes all walks, and
    looks for new seeds.
    """

    plant: Plant
    seed: int
    within: int
    said: str


CASES: Final = (
    Case(lost_event, 21, 60, "missing rule"),
    Case(rule_left_on_detach, 3, 20, "left rule"),
    Case(unknown_read_as_absent, 69, 60, "RemoveRule.* took 10.0.2.18 from"),
    Case(removals_first, 32, 20, "RemoveRule.* took 10.0."),
    Case(guard_behind_its_rule, 6, 20, "before its guard"),
    Case(routes_before_rules, 39, 20, "RemoveRoute.* let IPv6 rules lead into empty"),
    Case(address_of_anothers_removed, 3, 20, "foreign, gone: ForeignAddress"),
    Case(stale_plan, 1, 20, "missing route"),
    Case(containers_forgotten, 1, 20, "left address"),
    Case(floating_put_back, 33, 40, "put .* back on"),
)
