"""What a release took away, for the one who asked: of the daemon, or where none runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from nicwatchd.core.failures import failed
from nicwatchd.core.model import (
    DEFAULT_GROUP,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
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
    """What was taken away; and what the kernel did not let go, with its words for why."""

    done: tuple[Operation, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, outcomes: Iterable[Outcome], name_of: NameOf) -> Released:
        """What the outcomes of all rounds come to: of each operation the last one counts."""
        last = {o.operation: o for o in outcomes if _takes_away(o.operation)}
        return cls(
            tuple(o.operation for o in last.values() if o.result is Result.DONE),
            tuple((command(o.operation, name_of), o.message) for o in failed(last.values())),
        )

    def as_json(self) -> dict[str, Any]:
        """As JSON has it: how many of each kind, and what failed."""
        counts = {name: sum(isinstance(o, kind) for o in self.done) for kind, name in KINDS.items()}
        refused = [{"operation": words, "error": error} for words, error in self.failed]
        return {"released": counts, "failed": refused}


def _takes_away(operation: Operation) -> bool:
    if isinstance(operation, SetGroup):
        return operation.group == DEFAULT_GROUP
    return type(operation) in KINDS
