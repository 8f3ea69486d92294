"""What the decisions of one host concluded, for the next one: most of it stays as it is.

Reads: what each conclusion is drawn from, as values. Gives: the last one, if from the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from math import inf

from nicwatchd.core.diff import Differ
from nicwatchd.core.kept import Kept, KeptOf
from nicwatchd.core.model import Item, Numbers, Plan, Rule
from nicwatchd.core.moves import Followed, ruled
from nicwatchd.core.neighbourhood import Places, Standing
from nicwatchd.core.ownership import Owners, Snapshot
from nicwatchd.core.several import Several


class Settled:
    """What the last contests of one host came to, and from what."""

    def __init__(self) -> None:
        self.moves: tuple[object, ...] | None = None  # what those that were told are drawn from
        self.followed = Followed()
        self.usable = Several()
        self.taken: Kept[dict[int, dict[Item, int]]] = Kept()
        self.items: KeptOf[int, frozenset[Item]] = KeptOf()  # by ifindex


class Made:
    """The last plans of one host: of each interface as it was made, and with what others add."""

    def __init__(self) -> None:
        self.common: Kept[object] = Kept()  # what all are made from
        self.bare: KeptOf[int, Plan] = KeptOf()  # of an interface alone, by ifindex
        self.whole: KeptOf[int, Plan] = KeptOf()  # ... beside the others

    def keep_only(self, indices: AbstractSet[int]) -> None:
        """Forget the others: their links are gone."""
        self.bare.keep_only(indices)
        self.whole.keep_only(indices)


class Earlier:
    """What earlier decisions concluded; `at`: when the first of them was made."""

    def __init__(self, at: float = -inf) -> None:
        self.at = at
        self.places = Places()
        self.settled = Settled()
        self.made = Made()  # plans
        self.differ = Differ()
        self._owners: Kept[Owners] = Kept()
        self._ruled: Kept[Mapping[Item, int]] = Kept()
        self._standing: Kept[Standing] = Kept()
        self._rule_owners: Kept[Mapping[Rule, int]] = Kept()

    def owners(self, kernel: Snapshot, numbers: Numbers, *, marks_end: bool) -> Owners:
        """Whose the rules of ours in the kernel are."""
        basis = (kernel, numbers, marks_end)
        return self._owners.get(basis, lambda: Owners(kernel, numbers, marks_end=marks_end))

    def ruled(self, rules: tuple[Rule, ...], owners: Owners) -> Mapping[Item, int]:
        """To which ENI's table these rules send each address and prefix."""
        return self._ruled.get((rules, owners), lambda: ruled(rules, owners.of))

    def standing(self, rules: tuple[Rule, ...], numbers: Numbers) -> Standing:
        """What these rules say of the ENIs' networks."""
        basis = (rules, numbers.priority)
        return self._standing.get(basis, lambda: Standing(rules, numbers.priority))

    def rule_owners(self, plans: Mapping[int, Plan]) -> Mapping[Rule, int]:
        """In whose plan each rule is; the plans are by ifindex."""
        of = tuple((index, plan.rules) for index, plan in plans.items())
        return self._rule_owners.get(of, lambda: {r: index for index, rules in of for r in rules})
