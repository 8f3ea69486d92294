"""The rules that are missing or surplus, selector by selector.

Reads: the rules that there should be and the own ones that there are, both in order. Gives: rules
to add, and rules to remove after that.

All rules of ours have one priority, so their order is that in which they were added. It matters
only among rules of one selector, a *chain*: a guard must come before its rule. A new rule comes
last. So whatever has to come after it is added once more, and then its first copy is removed (the
kernel removes the first that fits): no packet sees a gap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from nicwatchd.core.model import Rule
from nicwatchd.core.ownership import SHARED_TABLES, Selector, selector

Chains: TypeAlias = Mapping[Selector, list[Rule]]


def by_selector(rules: Iterable[Rule]) -> Chains:
    """The chains, each in its order."""
    chains: dict[Selector, list[Rule]] = {}
    for rule in rules:
        chains.setdefault(selector(rule), []).append(rule)
    return chains


def missing(wanted: Chains, own: Chains) -> list[Rule]:
    """The rules to add, in order."""
    return [
        rule
        for key, chain in wanted.items()
        for rule in chain[_in_place(chain, own.get(key, [])) :]
    ]


def surplus(
    wanted: Chains,
    own: Chains,
    protects: Callable[[Rule], bool],
) -> list[Rule]:
    """The rules to remove once the missing ones are there, in order; one entry for each copy.

    What is in no chain and is protected stays.
    """
    found: list[Rule] = []
    for key, there in own.items():
        chain = wanted.get(key, [])
        stay = set(chain[: _in_place(chain, there)])
        for rule, copies in Counter(there).items():
            if rule in chain or not protects(rule):
                found += [rule] * (copies - (rule in stay))
    return sorted(found, key=_rank)


def _in_place(chain: list[Rule], there: list[Rule]) -> int:
    """How many rules of a chain, from its beginning, are there and in order.

    Of copies only the last one counts: it is what a removal leaves.
    """
    last = reversed(dict.fromkeys(reversed(there)))
    count = 0
    for rule in last:
        if count < len(chain) and rule == chain[count]:
            count += 1
    return count


def _rank(rule: Rule) -> int:
    """What is guarded goes before what guards it."""
    if rule.table not in SHARED_TABLES and rule.dst is None:
        return 0
    return 1 if rule.dst is None else 2
