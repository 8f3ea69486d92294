"""The operations of one decision on their way into the kernel.

Reads: the operations, and what became of each. Gives: what to carry out next. Everything is added
before anything is removed, a rule is added only once its table leads somewhere, and it is removed
only once what replaces it is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

from nicwatchd.core.diff import is_removal
from nicwatchd.core.failures import failed, is_in_the_way
from nicwatchd.core.model import (
    AddRoute,
    AddRule,
    Family,
    Operation,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
)
from nicwatchd.core.ownership import selector
from nicwatchd.core.port import Outcome


class Application:
    """The way of one decision, in at most three batches.

    These are the additions; the rules, where one leads into a table that was empty; the removals.
    `routes` are ours that were there before.
    """

    def __init__(
        self, operations: tuple[Operation, ...] = (), routes: Iterable[Route] = ()
    ) -> None:
        self.outcomes: tuple[Outcome, ...] = ()
        self._additions = tuple(each for each in operations if not is_removal(each))
        self._open = frozenset(_table(route) for route in routes if not route.dst.prefixlen)
        removals = tuple(each for each in operations if is_removal(each))
        self._batches = [batch for batch in (*self._in_steps(), removals) if batch]

    def _in_steps(self) -> tuple[tuple[Operation, ...], ...]:
        """The additions: where they lead into a new table, its way out is to be there first."""
        new = {_table(each.route) for each in self._additions if _is_way_out(each)} - self._open
        rules = tuple(each for each in self._additions if isinstance(each, AddRule))
        if not any(_table(each.rule) in new for each in rules):
            return (self._additions,)
        return tuple(each for each in self._additions if not isinstance(each, AddRule)), rules

    def batch(self) -> tuple[Operation, ...]:
        """What to carry out now; nothing, once all is done."""
        return self._batches[0] if self._batches else ()

    def take(self, outcomes: Iterable[Outcome]) -> None:
        """Take what became of the batch."""
        self.outcomes += tuple(outcomes)
        waiting = self._waiting([each.operation for each in failed(self.outcomes)])
        waiting |= self._leading_nowhere()
        left = [tuple(o for o in batch if o not in waiting) for batch in self._batches[1:]]
        self._batches = [batch for batch in left if batch]

    def _waiting(self, lost: list[Operation]) -> frozenset[Operation]:
        """The removals that have to wait, since what replaces the rules was not added.

        A rule needs the default route of its table as well. The ways around the links of another
        group are needed until all are in it, and so is the guard that tells of that group.
        """
        added = [each.rule for each in self._additions if isinstance(each, AddRule)]
        chains = {selector(each.rule) for each in lost if isinstance(each, AddRule)}
        routes = [each.route for each in lost if isinstance(each, AddRoute)]
        hollow = {_table(route) for route in routes if not route.dst.prefixlen}
        chains |= {selector(rule) for rule in added if _table(rule) in hollow}
        ungrouped = any(isinstance(each, SetGroup) for each in lost)
        return frozenset(
            each
            for batch in self._batches
            for each in batch
            if isinstance(each, RemoveRule)
            and (selector(each.rule) in chains or (ungrouped and _serves_groups(each.rule)))
        )

    def _leading_nowhere(self) -> frozenset[Operation]:
        """The rules that would lead into a table without a way out, and what goes before them.

        The kernel may have no IPv6 on a link any more: if it had nothing of it, no event told that.
        """
        lost = [o.operation for o in failed(self.outcomes) if not is_in_the_way(o)]
        tried = (o.operation for o in self.outcomes)
        ways = [(_table(each.route), each in lost) for each in tried if _is_way_out(each)]
        hollow = {table for table, is_lost in ways if is_lost} - self._open
        hollow -= {table for table, is_lost in ways if not is_lost}
        rules = [each for each in self._additions if isinstance(each, AddRule)]
        chains = {selector(each.rule) for each in rules if _table(each.rule) in hollow}
        return frozenset(each for each in rules if selector(each.rule) in chains)


def _table(thing: Route | Rule) -> tuple[int, Family]:
    return thing.table, thing.family


def _is_way_out(operation: Operation) -> TypeGuard[AddRoute]:
    """Whether it adds a default route."""
    return isinstance(operation, AddRoute) and not operation.route.dst.prefixlen


def _serves_groups(rule: Rule) -> bool:
    return rule.dst is not None or rule.suppress_ifgroup is not None
