"""What a release took away, for the one who asked: of the daemon, or where none runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

from nicwatchd.core.model import (
    DEFAULT_GROUP,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    SetGroup,
)
from nicwatchd.core.port import Outcome, Result

KINDS: Final = {
    RemoveRule: "rules",
    RemoveRoute: "routes",
    RemoveAddress: "addresses",
    SetGroup: "link_groups",
}


@dataclass(frozen=True, slots=True)
class Released:
    """What was taken away, and what the kernel did not let go, with its words."""

    done: tuple[Operation, ...] = ()
    failed: tuple[Outcome, ...] = ()

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Released:
        """What the outcomes of all rounds come to: of each operation the last one counts."""
        last = {o.operation: o for o in outcomes if _takes_away(o.operation)}
        return cls(
            tuple(o.operation for o in last.values() if o.result is Result.DONE),
            tuple(o for o in last.values() if o.result not in (Result.DONE, Result.GONE)),
        )

    def as_json(self) -> dict[str, Any]:
        """As JSON has it: how many of each kind, and what failed."""
        counts = {name: sum(isinstance(o, kind) for o in self.done) for kind, name in KINDS.items()}
        failed = [{"operation": _words(o.operation), "error": o.message} for o in self.failed]
        return {"released": counts, "failed": failed}


def _takes_away(operation: Operation) -> bool:
    if isinstance(operation, SetGroup):
        return operation.group == DEFAULT_GROUP
    return type(operation) in KINDS


def _words(operation: Operation) -> str:
    values = [str(getattr(operation, each.name)) for each in fields(operation)]
    return f"{type(operation).__name__}({', '.join(values)})"
