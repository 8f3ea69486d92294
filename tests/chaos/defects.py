"""Defects that the walk has to find, each planted by itself: the product has no hook for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest

from nicwatchd.core import application, basis, diff, eni_routes, moves, primary, rule_chains
from nicwatchd.core.contest import Contest
from nicwatchd.core.decide import Decider
from nicwatchd.core.floating import Floating
from nicwatchd.core.homes import Homes
from nicwatchd.core.interface import Interface
from nicwatchd.core.known import Known
from nicwatchd.core.metadata import ABSENT, Unknown, Value
from nicwatchd.core.model import (
    PROTOCOL,
    RTPROT_KERNEL,
    AddRule,
    Item,
    Numbers,
    Operation,
    RemoveRule,
    Route,
    Rule,
)
from nicwatchd.core.moves import Claims
from nicwatchd.core.ownership import Snapshot
from nicwatchd.core.port import Event, RuleEvent
from nicwatchd.service import driver
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

    def wrong(chains: Any, elsewhere: Any, owners: Any, *rest: Any) -> Iterable[Operation]:
        for operation in right(chains, elsewhere, owners, *rest):
            assert isinstance(operation, RemoveRule)
            gone = Numbers().index_of(operation.rule.table) not in owners._kernel.links
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

    def added(wanted: rule_chains.Chains, own: rule_chains.Chains, *late: Any) -> list[Rule]:
        there = {rule for chain in own.values() for rule in chain}
        return [rule for rule in right(wanted, own, *late) if rule not in there]

    def removed(wanted: rule_chains.Chains, own: rule_chains.Chains, *rest: Any) -> list[Rule]:
        planned = {rule for chain in wanted.values() for rule in chain}
        return [rule for rule in surplus(wanted, own, *rest) if rule not in planned]

    patch.setattr(rule_chains, "missing", added)
    patch.setattr(rule_chains, "surplus", removed)


def primary_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What the primary's addresses send follows main, whatever is in it."""
    patch.setattr(primary, "usable", lambda *_: {})


def mains_word_not_mirrored(patch: pytest.MonkeyPatch) -> None:
    """The primary's table lacks the default routes of DHCP and of router advertisements."""
    right = eni_routes.Main._is_to_copy

    def wrong(self: eni_routes.Main, route: Route) -> bool:
        return right(replace(self, is_mirrored=False), route)

    patch.setattr(eni_routes.Main, "_is_to_copy", wrong)


def routes_before_rules(patch: pytest.MonkeyPatch) -> None:
    """Removals in the order of the additions: rules lead into an empty table meanwhile."""
    right = diff.Differ.diff

    def wrong(*arguments: Any) -> tuple[Operation, ...]:
        operations = right(*arguments)
        return tuple(sorted(operations, key=lambda it: isinstance(it, RemoveRule)))  # stable

    patch.setattr(diff.Differ, "diff", wrong)


def address_of_anothers_removed(patch: pytest.MonkeyPatch) -> None:
    """Each permanent address counts as ours."""
    for module in (diff, driver):
        patch.setattr(module, "ours", lambda address: not address.dynamic)


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


def damaged_line_is_all(patch: pytest.MonkeyPatch) -> None:
    """The good lines of a damaged list are taken for the whole list."""
    right = Known.learn

    def wrong(self: Any, answer: Any, *rest: Any, **more: Any) -> Any:
        whole = Value(answer.value) if isinstance(answer, Value) else answer
        return right(self, whole, *rest, **more)

    patch.setattr(Known, "learn", wrong)


def claim_without_age(patch: pytest.MonkeyPatch) -> None:
    """What IMDS once listed on an ENI counts for as much as what it lists now on another."""
    right = Contest._claims_of

    def wrong(self: Contest, interface: Interface) -> Claims:
        claims = right(self, interface)
        listed = claims.listed | claims.doubted
        return replace(claims, listed=listed, doubted=frozenset[Item](), yields=False)

    patch.setattr(Contest, "_claims_of", wrong)


def unnamed_rule_loses(patch: pytest.MonkeyPatch) -> None:
    """We go before the rules that name no priority."""
    right = diff.Differ.diff

    def wrong(self: diff.Differ, plans: Any, kernel: Snapshot, *rest: Any) -> tuple[Operation, ...]:
        theirs = [r.priority for r in kernel.rules if r.protocol not in (PROTOCOL, RTPROT_KERNEL)]
        before = min(theirs, default=0) - 1
        return tuple(
            AddRule(replace(o.rule, priority=before)) if isinstance(o, AddRule) and theirs else o
            for o in right(self, plans, kernel, *rest)
        )

    patch.setattr(diff.Differ, "diff", wrong)


def copied_without_metrics(patch: pytest.MonkeyPatch) -> None:
    """A routing daemon's route is copied, but not its MTU."""
    right = eni_routes._copy

    def wrong(route: Route, base: Route) -> Route:
        return replace(right(route, base), metrics=b"")

    patch.setattr(eni_routes, "_copy", wrong)


def freed_prefix_takes(patch: pytest.MonkeyPatch) -> None:
    """Who has what is asked of equal items only."""
    patch.setattr(moves, "_overlaps", lambda *_: ())


def links_are_no_news(patch: pytest.MonkeyPatch) -> None:
    """A decision is kept although something is new on a link, or in what IMDS says of it."""
    patch.setattr(basis, "_of_link", lambda _: ())


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
    Case(lost_event, 64, 40, "missing rule|is called working"),
    Case(rule_left_on_detach, 1, 30, "left rule"),
    Case(unknown_read_as_absent, 2302, 40, "RemoveRule.* took"),
    Case(removals_first, 33, 30, "RemoveRule.* took"),
    Case(guard_behind_its_rule, 6, 30, "before its guard"),
    Case(routes_before_rules, 5, 40, "RemoveRoute.* let IPv6 rules lead into empty"),
    Case(address_of_anothers_removed, 3, 40, "foreign, gone: ForeignAddress"),
    Case(stale_plan, 1, 20, "missing route"),
    Case(damaged_line_is_all, 2444, 20, "took 2001:db8:ec2:2::1a from"),
    Case(claim_without_age, 406, 20, "missing rule"),
    Case(unnamed_rule_loses, 201, 20, "loses to ours"),
    Case(copied_without_metrics, 92, 20, "missing route: .*fe80::77"),
    Case(freed_prefix_takes, 959, 20, "leaves by"),
    Case(containers_forgotten, 3, 40, "left address"),
    Case(floating_put_back, 460, 50, "back on"),
    Case(primary_forgotten, 1, 20, "missing rule"),
    Case(mains_word_not_mirrored, 1, 20, "missing route"),
    Case(links_are_no_news, 9, 30, "off its table"),
)
