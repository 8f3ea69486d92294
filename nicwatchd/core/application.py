"""The operations of one decision on their way into the kernel.

Reads: the operations, and what became of each. Gives: what to carry out next. Everything is added
before anything is removed, and a rule is removed only once what replaces it is there.
"""

from __future__ import annotations

from collections.abc import Iterable

from nicwatchd.core.diff import is_removal
from nicwatchd.core.failures import failed
from nicwatchd.core.model import AddRoute, AddRule, Operation, RemoveRule, Rule, SetGroup
from nicwatchd.core.ownership import selector
from nicwatchd.core.port import Outcome


class Application:
    """The way of one decision. At most two batches: the additions, then the removals."""

    def __init__(self, operations: tuple[Operation, ...] = ()) -> None:
        self.outcomes: tuple[Outcome, ...] = ()
        self._additions = tuple(each for each in operations if not is_removal(each))
        self._removals = tuple(each for each in operations if is_removal(each))
        self._is_adding = bool(self._additions)

    def batch(self) -> tuple[Operation, ...]:
        """What to carry out now; nothing, once all is done."""
        return self._additions if self._is_adding else self._removals

    def take(self, outcomes: Iterable[Outcome]) -> None:
        """Take what became of the batch."""
        outcomes = tuple(outcomes)
        self.outcomes += outcomes
        if self._is_adding:
            waiting = self._waiting([each.operation for each in failed(outcomes)])
            self._removals = tuple(each for each in self._removals if each not in waiting)
            self._is_adding = False
        else:
            self._removals = ()

    def _waiting(self, lost: list[Operation]) -> frozenset[Operation]:
        """The removals that have to wait, since what replaces the rules was not added.

        A rule needs the default route of its table as well. The ways around the links of another
        group are needed until all are in it, and so is the guard that tells of that group.
        """
        added = [each.rule for each in self._additions if isinstance(each, AddRule)]
        chains = {selector(each.rule) for each in lost if isinstance(each, AddRule)}
        routes = [each.route for each in lost if isinstance(each, AddRoute)]
        hollow = {route.table for route in routes if not route.dst.prefixlen}
        chains |= {selector(rule) for rule in added if rule.table in hollow}
        ungrouped = any(isinstance(each, SetGroup) for each in lost)
        return frozenset(
            each
            for each in self._removals
            if isinstance(each, RemoveRule)
            and (selector(each.rule) in chains or (ungrouped and _serves_groups(each.rule)))
        )


def _serves_groups(rule: Rule) -> bool:
    return rule.dst is not None or rule.suppress_ifgroup is not None
