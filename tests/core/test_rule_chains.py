"""Rules of one priority: whatever order they are found in, each comes to stand behind its guard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicwatchd.core import rule_chains
from nicwatchd.core.model import LOCAL_TABLE, MAIN_TABLE, Operation, Rule
from nicwatchd.core.model import AddRule as Add
from nicwatchd.core.model import RemoveRule as Remove
from nicwatchd.core.ownership import selector
from tests.core.build import ETH1, IPV4, NET4, TABLE, V4, V6, net
from tests.core.strict_kernel import StrictKernel

T: Final = Rule(V4, 32765, TABLE, src=net(f"{IPV4}/32"))  # the rule
G: Final = replace(T, table=MAIN_TABLE, suppress_prefixlength=0, suppress_ifgroup=3778)  # its guard
L: Final = replace(T, table=LOCAL_TABLE)
D: Final = replace(T, dst=net("10.0.3.0/24"))  # a detour
D2: Final = replace(T, dst=net("10.0.4.0/24"))
OLD: Final = replace(T, table=1_001_215)
OLD_D: Final = replace(OLD, dst=D.dst)
OLD_G: Final = replace(G, suppress_ifgroup=77)
EARLY_T, EARLY_G = replace(T, priority=32601, table=1_000_003), replace(G, priority=32600)


def operations(
    wanted: Iterable[Rule], own: Iterable[Rule], stay: Iterable[Rule] = ()
) -> list[Operation]:
    chains, there = rule_chains.by_selector(wanted), rule_chains.by_selector(own)
    missing = rule_chains.missing(chains, there)
    surplus = rule_chains.surplus(chains, there, set(stay).__contains__)
    return [*map(Add, missing), *map(Remove, surplus)]


def kernel_with(*rules: Rule) -> StrictKernel:
    kernel = StrictKernel(ETH1)
    kernel.run(map(Add, rules))
    return kernel


@pytest.mark.parametrize(
    ("own", "wanted", "expected"),
    [
        pytest.param([], [G, T], [Add(G), Add(T)], id="all is missing"),
        pytest.param([G, T], [G, T], [], id="all is there"),
        pytest.param([G, T], [], [Remove(T), Remove(G)], id="all is too much"),
        pytest.param([L, D, G, T], [], [Remove(D), Remove(T), Remove(L), Remove(G)], id="... all"),
        pytest.param([G], [G, T], [Add(T)], id="the rule is missing"),
        pytest.param([T], [G, T], [Add(G), Add(T), Remove(T)], id="the guard is missing"),
        pytest.param([T, G], [G, T], [Add(T), Remove(T)], id="the guard stands behind"),
        pytest.param([T, G, T], [G, T], [Remove(T)], id="killed in between"),
        pytest.param([G, G, T, T], [G, T], [Remove(T), Remove(G)], id="copies"),
        pytest.param(
            [G, T], [L, G, T], [Add(L), Add(G), Add(T), Remove(T), Remove(G)], id="local comes"
        ),
        pytest.param(
            [G, T], [D, G, T], [Add(D), Add(G), Add(T), Remove(T), Remove(G)], id="a detour comes"
        ),
        pytest.param([D, G, T], [G, T], [Remove(D)], id="a detour goes"),
        pytest.param([D, D2, G, T], [D2, G, T], [Remove(D)], id="one of two goes"),
        pytest.param(
            [D, T],
            [D, G, T],
            [Add(D), Add(G), Add(T), Remove(D), Remove(T)],
            id="a detour that would go in the place of the rule",
        ),
        pytest.param(
            [L, D, T],
            [L, D, G, T],
            [Add(D), Add(G), Add(T), Remove(D), Remove(T)],
            id="... and what stands before it stays",
        ),
        pytest.param([T, D, G, T], [D, G, T], [Remove(T)], id="a copy before the detour"),
        pytest.param([G, OLD], [G, T], [Add(T), Remove(OLD)], id="another table"),
        pytest.param(
            [OLD_D, G, OLD],
            [D, G, T],
            [Add(D), Add(G), Add(T), Remove(OLD_D), Remove(OLD), Remove(G)],
            id="another table, with a detour",
        ),
        pytest.param(
            [OLD_G, T],
            [G, T],
            [Add(G), Add(T), Remove(T), Remove(OLD_G)],
            id="another group",
        ),
        pytest.param(
            [EARLY_G, EARLY_T],
            [G, T],
            [Add(G), Add(T), Remove(EARLY_T), Remove(EARLY_G)],
            id="the first edition",
        ),
    ],
)
def test_what_is_done(own: list[Rule], wanted: list[Rule], expected: list[Operation]) -> None:
    assert operations(wanted, own) == expected
    kernel = kernel_with(*own)
    kernel.run(expected)
    assert [*kernel.own_rules] == wanted


def test_what_is_protected_stays_but_not_twice_where_it_is_wanted() -> None:
    assert operations([G, T], [OLD_G, OLD, G, T, T], stay=[OLD, OLD_G, T]) == [Remove(T)]
    assert operations([], [OLD_G, OLD], stay=[OLD, OLD_G]) == []


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        pytest.param([D, G, T], [], id="nothing is to be removed"),
        pytest.param([D, G, T, G, T], [], id="copies, of which the first is to go"),
        pytest.param([D, T, G, T], [], id="and its guard came late"),
        pytest.param([D, T, G], [Add(T)], id="... and it is not there again"),
        pytest.param([D, OLD, OLD_G, G, T], [Remove(OLD), Remove(OLD_G)], id="what it hits not"),
    ],
)
def test_nothing_goes_in_the_place_of_a_copy(own: list[Rule], expected: list[Operation]) -> None:
    """A detour that is protected: the kernel takes the first rule that a removal fits."""
    assert operations([G, T], own, stay=[D]) == expected
    kernel = kernel_with(*own)
    kernel.run(expected)
    assert kernel.own_rules.count(D) == 1


def test_selectors_are_apart() -> None:
    other_g, other = replace(G, src=None, oif="eth1"), replace(T, src=None, oif="eth1")
    assert operations([G, T, other_g, other], [other, T, G]) == [
        Add(T),
        Add(other_g),
        Add(other),
        Remove(other),
        Remove(T),
    ]


# --- from any order to any chains ----------------------------------------------------------------


def variants(which: Rule) -> list[Rule]:
    """All that was ever made for a selector."""
    made = [L, D, D2, G, T, OLD, OLD_D, OLD_G, EARLY_T, EARLY_G, replace(T, priority=31000)]
    found = [
        replace(rule, family=which.family, src=which.src, iif=which.iif, oif=which.oif)
        for rule in made
    ]
    return [rule for rule in found if rule.dst is None or rule.family is V4]


SELECTORS: Final = (
    T,
    replace(T, src=None, oif="eth1"),
    replace(T, src=net(NET4), iif="lo"),
    replace(T, family=V6, src=net("2001:db8:0:2::10/128")),
)
EVERY: Final = [rule for which in SELECTORS for rule in variants(which)]


@st.composite
def chains(draw: st.DrawFn) -> list[Rule]:
    """A plan: for some of the selectors a whole chain."""
    made = []
    for which in draw(st.lists(st.sampled_from(SELECTORS), unique=True)):
        every = variants(which)
        rule = every.index(which)
        made += [each for each in every[: rule - 1] if draw(st.booleans())]
        made += every[rule - 1 : rule + 1]
    return made


OWN = st.lists(st.sampled_from(EVERY), max_size=14)


def leads(rule: Rule) -> bool:
    return rule.dst is None and rule.table not in (MAIN_TABLE, LOCAL_TABLE)


def unguarded(rules: Iterable[Rule]) -> set[Rule]:
    """The rules that a packet meets before a guard with its selector."""
    found, guards = set(), set()
    for rule in rules:
        if rule.table == MAIN_TABLE:
            guards.add(selector(rule))
        elif leads(rule) and selector(rule) not in guards:
            found.add(rule)
    return found


def in_order(kernel: StrictKernel) -> rule_chains.Chains:
    return rule_chains.by_selector(kernel.own_rules)


@settings(deadline=None, max_examples=150)
@given(OWN, chains())
def test_any_rules_become_any_chains(own: list[Rule], wanted: list[Rule]) -> None:
    kernel = kernel_with(*own)
    bare, standing = unguarded(kernel.own_rules), set(own) & set(wanted)
    for operation in operations(wanted, kernel.own_rules):
        kernel.run([operation])
        assert unguarded(kernel.own_rules) <= bare, "no rule comes before its guard"
        assert standing <= set(kernel.own_rules), "what stays is there all the time"
    assert in_order(kernel) == rule_chains.by_selector(wanted)
    assert operations(wanted, kernel.own_rules) == []


@settings(deadline=None, max_examples=50)
@given(OWN, chains())
def test_killed_after_any_operation_it_ends_the_same(own: list[Rule], wanted: list[Rule]) -> None:
    way = operations(wanted, kernel_with(*own).own_rules)
    for survived in range(len(way)):
        kernel = kernel_with(*own)
        kernel.run(way[:survived])
        bare = unguarded(kernel.own_rules)
        assert bare <= unguarded(kernel_with(*own).own_rules)
        for operation in operations(wanted, kernel.own_rules):
            kernel.run([operation])
            assert unguarded(kernel.own_rules) <= bare
        assert in_order(kernel) == rule_chains.by_selector(wanted)


@settings(deadline=None, max_examples=50)
@given(OWN, chains())
def test_removals_that_are_refused_let_nothing_grow(own: list[Rule], wanted: list[Rule]) -> None:
    """What was added is in place, whatever else still stands before it."""
    kernel = kernel_with(*own)
    kernel.run(each for each in operations(wanted, own_in(kernel)) if isinstance(each, Add))
    assert not [each for each in operations(wanted, own_in(kernel)) if isinstance(each, Add)]


def own_in(kernel: StrictKernel) -> tuple[Rule, ...]:
    return kernel.own_rules


@settings(deadline=None, max_examples=50)
@given(OWN, chains(), st.frozensets(st.sampled_from(EVERY)))
def test_what_is_protected_stays_in_any_case(
    own: list[Rule], wanted: list[Rule], some: frozenset[Rule]
) -> None:
    # Rules with one selector and one table are protected all together, or none of them.
    kinds = {(selector(rule), rule.table) for rule in some}
    stay = frozenset(rule for rule in EVERY if (selector(rule), rule.table) in kinds)
    kernel = kernel_with(*own)
    way = operations(wanted, kernel.own_rules, stay)
    removed = {each.rule for each in way if isinstance(each, Remove)}
    assert not removed & stay - set(wanted)
    kernel.run(way)
    assert set(wanted) | (set(own) & stay) == set(kernel.own_rules)


FOREIGN: Final = Rule(V4, 32765, 77, protocol=4, src=net("10.0.2.0/24"))  # as networkd 252 makes it


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        pytest.param([FOREIGN, G, T], [], id="older"),
        pytest.param([G, T, FOREIGN], [Add(G), Add(T), Remove(T), Remove(G)], id="younger"),
        pytest.param([G, FOREIGN, T], [Add(G), Add(T), Remove(T), Remove(G)], id="in between"),
        pytest.param([G, T, FOREIGN, G, T], [Remove(T), Remove(G)], id="killed in between"),
        pytest.param([G, T, FOREIGN, G], [Add(T), Remove(T), Remove(G)], id="... earlier"),
        pytest.param([G, T, replace(FOREIGN, priority=32764)], [], id="before ours in any case"),
        pytest.param([G, T, replace(FOREIGN, family=V6, src=None)], [], id="of the other family"),
    ],
)
def test_others_of_our_priority_come_first(rules: list[Rule], expected: list[Operation]) -> None:
    chains = rule_chains.by_selector([G, T])
    own = rule_chains.by_selector(rule for rule in rules if rule.protocol == T.protocol)
    late = rule_chains.overtaken(rules)
    missing = rule_chains.missing(chains, own, late)
    surplus = rule_chains.surplus(chains, own, lambda _: False, late)
    assert [*map(Add, missing), *map(Remove, surplus)] == expected
