"""`nicwatchd release`: take all that is ours out of the kernel, and nothing else.

What is ours is told by the marks that the daemon goes by, and the steps are the core's: those that
lead to a plan of nothing. Where the daemon runs, it takes them itself (it would put everything back
at once); here are the steps for where it does not, and the words for both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from nicwatchd.core.diff import diff
from nicwatchd.core.eni_plan import groups_of, nothing_for
from nicwatchd.core.model import (
    DEFAULT_GROUP,
    PROTOCOL,
    Family,
    Link,
    Numbers,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    SetGroup,
)
from nicwatchd.core.ownership import Held, Owners, Snapshot
from nicwatchd.core.port import Kernel, Outcome, Result
from nicwatchd.core.releases import Releases
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.platform import Lock

DEFAULT: Final = Numbers()
ROUNDS: Final = 3  # what goes along with another object is answered as removed; then all is quiet
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

    def said(self) -> dict[str, Any]:
        """As JSON has it: how many of each kind, and what failed."""
        counts = {name: sum(isinstance(o, kind) for o in self.done) for kind, name in KINDS.items()}
        failed = [{"operation": _words(o.operation), "error": o.message} for o in self.failed]
        return {"released": counts, "failed": failed}


class UnknownInterfaceError(Exception):
    """There is no such interface; the text is one line for the operator."""

    def __init__(self, wanted: str, names: Iterable[str]) -> None:
        there = ", ".join(sorted(names)) or "none"
        super().__init__(f"no interface {wanted!r}; there are: {there}")


@contextlib.contextmanager
def alone(runtime_directory: Path) -> Iterator[Ledger]:
    """The ledger, while no daemon can start. Raises AlreadyRunningError, OSError.

    Without the directory no daemon has run since boot, so that there is nothing to lock or to read.
    """
    if not runtime_directory.is_dir():
        yield Ledger(runtime_directory)
        return
    lock = Lock(runtime_directory)
    try:
        yield Ledger(runtime_directory)
    finally:
        lock.release()


async def release(
    kernel: Kernel, ledger: Ledger, only: str | None = None, numbers: Numbers = DEFAULT
) -> Released:
    """Release the host, or the interface with the name or MAC `only`, where no daemon runs.

    `numbers` are the settings'; what was made with others is found all the same, by the rules.
    The next daemon begins anew: of the host nothing stays noted. Raises KernelError,
    UnknownInterfaceError, OSError.
    """
    groups = {numbers.group} | groups_of(await kernel.rules())  # before the rules go
    outcomes: list[Outcome] = []
    for _ in range(ROUNDS):
        operations = await _missing(kernel, ledger, only, numbers, groups)
        outcomes += await kernel.run(operations)
        if not operations:
            break
    released = Released.of(outcomes)
    if only is None:
        ledger.keep_releases(Releases())
    if not released.failed:
        links = await kernel.links()
        chosen = {link.index for link in _chosen(links.values(), only)}
        ledger.keep_only((i, link.mac) for i, link in links.items() if i not in chosen)
    return released


async def _missing(
    kernel: Kernel, ledger: Ledger, only: str | None, numbers: Numbers, groups: AbstractSet[int]
) -> Sequence[Operation]:
    """The operations that are left to do."""
    links = await kernel.links()
    chosen = _chosen(links.values(), only)
    addresses = {
        link.index: ledger.mark(link.mac, await kernel.addresses(link.index)) for link in chosen
    }
    snapshot = Snapshot(
        links=links,
        addresses=addresses,
        routes=await kernel.own_routes(),
        rules=await kernel.rules(),
    )
    owners = Owners(snapshot, numbers)
    indices = {link.index for link in chosen}
    held: Held = set() if only is None else _others(snapshot, indices, owners)
    return diff([nothing_for(link, groups) for link in chosen], snapshot, held, owners)


def _chosen(links: Iterable[Link], only: str | None) -> list[Link]:
    chosen = [
        link for link in links if only is None or only.lower() in (link.name.lower(), link.mac)
    ]
    if only is not None and not chosen:
        raise UnknownInterfaceError(only, (link.name for link in links))
    return chosen


def _others(snapshot: Snapshot, chosen: AbstractSet[int], owners: Owners) -> Held:
    """The other interfaces that have anything of ours. What belongs to links that are gone goes."""
    tables = {rule.table for rule in snapshot.rules if rule.protocol == PROTOCOL}
    having = {route.oif for route in snapshot.routes}.union(*(owners.of(t) for t in tables))
    indices = having & snapshot.links.keys() - chosen
    return {(index, family) for index in indices for family in Family}


def _takes_away(operation: Operation) -> bool:
    if isinstance(operation, SetGroup):
        return operation.group == DEFAULT_GROUP
    return type(operation) in KINDS


def _words(operation: Operation) -> str:
    values = [str(getattr(operation, each.name)) for each in fields(operation)]
    return f"{type(operation).__name__}({', '.join(values)})"
