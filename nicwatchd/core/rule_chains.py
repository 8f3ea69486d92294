"""The rules that are missing or surplus, selector by selector.

Reads: the rules that there should be and the own ones that there are, both in order. Gives: rules
to add, and rules to remove after that.

All rules of ours have one priority, so their order is that in which they were added. It matters
only among rules of one selector, a *chain*: a guard must come before its rule. A new rule comes
last. So whatever has to come after it is added once more, and then its first copy is removed: no
packet sees a gap. The kernel removes the first rule that fits, and compares only what the request
names: that of `from A` fits `from A to B` as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final, TypeAlias

from nicwatchd.core.model import PROTOCOL, Rule
from nicwatchd.core.ownership import SHARED_TABLES, Selector, selector

Chains: TypeAlias = Mapping[Selector, list[Rule]]
Overtaken: TypeAlias = Mapping[Selector, int]
NONE: Final[Overtaken] = MappingProxyType({})


def by_selector(rules: Iterable[Rule]) -> Chains:
    """The chains, each in its order."""
    chains: dict[Selector, list[Rule]] = {}
    for rule in rules:
        chains.setdefault(selector(rule), []).append(rule)
    return chains


def overtaken(rules: Iterable[Rule]) -> dict[Selector, int]:
    """How many rules of each chain, from its beginning, have others' of their priority behind them.

    Rules of others come first, so ours are added once more. systemd-networkd 252 makes such rules
    where its settings name no priority: it takes the highest that no rule has which it knows of,
    and it knows none of ours.
    """
    every = tuple(rules)
    ours = {(rule.family, rule.priority) for rule in every if rule.protocol == PROTOCOL}
    others = ((n, (r.family, r.priority)) for n, r in enumerate(every) if r.protocol != PROTOCOL)
    last = {where: n for n, where in others if where in ours}
    found: dict[Selector, int] = {}
    count: Counter[Selector] = Counter()
    ends = max(last.values(), default=0)  # mostly there is none
    for place, rule in enumerate(every[:ends]):
        if rule.protocol == PROTOCOL:
            count[selector(rule)] += 1
            if place < last.get((rule.family, rule.priority), 0):
                found[selector(rule)] = count[selector(rule)]
    return found


def before_marks(wanted: Chains, own: Sequence[Rule], late: Overtaken) -> dict[Selector, int]:
    """How many rules of each chain for a source stand before a rule for a mark, or will.

    A mark says by which ENI a connection came in. That decides, also where the container has an
    address of another ENI. Rules for marks that are still to be added come last.
    """
    marked = {key: chain for key, chain in wanted.items() if chain[0].fwmark is not None}
    if not marked:
        return {}  # nearly always
    there = by_selector(own)
    last = {r.family: n for n, r in enumerate(own) if r in marked.get(selector(r), ())}
    last |= {rule.family: len(own) for rule in missing(marked, there, late)}
    found: Counter[Selector] = Counter()
    for place, rule in enumerate(own):
        by_source = rule.src is not None and rule.iif is None
        if by_source and place < last.get(rule.family, 0):
            found[selector(rule)] += 1
    return {key: max(count, late.get(key, 0)) for key, count in found.items()}


def missing(wanted: Chains, own: Chains, late: Overtaken = NONE) -> list[Rule]:
    """The rules to add, in order. `late` are the own ones that have to stand further behind."""
    return [
        rule
        for key, chain in wanted.items()
        if chain != own.get(key) or key in late
        for rule in chain[_in_place(chain, own.get(key, []), late.get(key, 0)) :]
    ]


def surplus(
    wanted: Chains,
    own: Chains,
    protects: Callable[[Rule], bool],
    late: Overtaken = NONE,
) -> list[Rule]:
    """The rules to remove once the missing ones are there, in order; one entry for each copy.

    What is in no chain and is protected stays. Where the kernel would remove it in the place of a
    copy, the copy stays, too, with its guard.
    """
    found: list[Rule] = []
    for key, there in own.items():
        chain = wanted.get(key, [])
        if there == chain and key not in late:
            continue  # nearly always
        stay = set(chain[: _in_place(chain, there, late.get(key, 0))])
        kept = [rule for rule in there if rule not in chain and protects(rule)]
        leaves: list[Rule] = []
        for rule, copies in Counter(there).items():
            if rule not in kept:
                leaves += [rule] * (copies - (rule in stay))
        copies_left = {gone for gone in leaves if any(_hits(gone, rule) for rule in kept)}
        if copies_left:
            copies_left |= {rule for rule in chain if rule.table in SHARED_TABLES}
        found += [rule for rule in leaves if rule not in copies_left]
    return sorted(found, key=_rank)


def _in_place(chain: list[Rule], there: list[Rule], late: int) -> int:
    """How many rules of a chain, from its beginning, are there, in order, and can stay.

    Of copies only the last one counts: it is what a removal leaves. The first `late` rules that are
    there count for nothing.
    """
    last = {rule: place for place, rule in enumerate(there) if place >= late}
    count = 0
    for rule in sorted(last, key=lambda rule: last[rule]):
        if count < len(chain) and rule == chain[count]:
            count += 1
    stays = set(chain[:count])
    leaves = [(place, r) for place, r in enumerate(there) if place != last.get(r) or r not in stays]
    for number, rule in enumerate(chain[:count]):
        if any(place > last[rule] and _hits(gone, rule) for place, gone in leaves):
            return number  # it would be removed in the place of the one that is meant
    return count


def _hits(gone: Rule, rule: Rule) -> bool:
    """Whether a removal fits another rule: the kernel compares only what a request names."""
    return gone != rule and gone == replace(rule, dst=gone.dst and rule.dst)


def _rank(rule: Rule) -> int:
    """What is guarded goes before what guards it, after what its own removal would fit as well."""
    if rule.table in SHARED_TABLES:
        return 2 if rule.dst is not None else 3
    return 0 if rule.dst is not None else 1
