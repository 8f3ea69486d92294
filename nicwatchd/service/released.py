"""The result of a release, carried out by the daemon or without one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from nicwatchd.core.failures import failed
from nicwatchd.core.model import (
    DEFAULT_GROUP,
    AddRule,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    RemoveRuleset,
    SetGroup,
)
from nicwatchd.core.port import Outcome, Result
from nicwatchd.core.words import NameOf, command

KINDS: Final = {
    RemoveRule: "rules",
    RemoveRoute: "routes",
    RemoveAddress: "addresses",
    SetGroup: "link_groups",
}


@dataclass(frozen=True, slots=True)
class Released:
    """The operations that were done; those that the kernel refused, each with its message."""

    done: tuple[Operation, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, outcomes: Iterable[Outcome], name_of: NameOf) -> Released:
        """The result of all rounds: the last outcome of each operation counts.

        Rules of others are removed and added again, to keep their order: those are still there.
        """
        every = list(outcomes)
        back = {o.operation for o in every if o.result is Result.DONE}
        last = {
            o.operation: o
            for o in every
            if _is_removal(o.operation) and _opposite(o.operation) not in back
        }
        return cls(
            tuple(o.operation for o in last.values() if o.result is Result.DONE),
            tuple((command(o.operation, name_of), o.message) for o in failed(last.values())),
        )

    def as_json(self) -> dict[str, Any]:
        """For JSON: the number of removed objects of each kind, and what failed."""
        counts = {name: sum(isinstance(o, kind) for o in self.done) for kind, name in KINDS.items()}
        refused = [{"operation": operation, "error": error} for operation, error in self.failed]
        return {"released": counts, "failed": refused}


def _opposite(operation: Operation) -> Operation | None:
    return AddRule(operation.rule) if isinstance(operation, RemoveRule) else None


def _is_removal(operation: Operation) -> bool:
    if isinstance(operation, SetGroup):
        return operation.group == DEFAULT_GROUP
    return type(operation) in KINDS or isinstance(operation, RemoveRuleset)
