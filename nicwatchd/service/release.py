"""`nicwatchd release`: take all that is ours out of the kernel, and nothing else.

The daemon must not run: it would put everything back at once. What is ours is told by the same
marks that the daemon goes by, and the steps are the core's: those that lead to a plan of nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nicwatchd.core.diff import Held, Owners, Snapshot, diff
from nicwatchd.core.kernel import Kernel, Outcome, Result
from nicwatchd.core.model import (
    PROTOCOL,
    Family,
    Link,
    Numbers,
    Operation,
    Plan,
    SetGroup,
)
from nicwatchd.core.plan import groups_of
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.platform import Lock

DEFAULT_GROUP: Final = 0  # the only group that a link can have been in before ours
DEFAULT: Final = Numbers()
ROUNDS: Final = 3  # what goes along with another object is answered as removed; then all is quiet


@dataclass(frozen=True, slots=True)
class Released:
    """What was taken away, and what the kernel did not let go, with its words."""

    done: tuple[Operation, ...] = ()
    failed: tuple[Outcome, ...] = ()


class UnknownInterfaceError(Exception):
    """There is no such interface; the text is one line for the operator."""


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
    """Release the host, or the interface with the name or MAC `only`.

    `numbers` are the settings'; what was made with others is found all the same, by the rules.
    Raises KernelError, UnknownInterfaceError.
    """
    groups = {numbers.group} | groups_of(await kernel.rules())  # before the rules go
    done: dict[Operation, None] = {}
    failed: list[Outcome] = []
    for _ in range(ROUNDS):
        operations = await _missing(kernel, ledger, only, numbers, groups)
        outcomes = await kernel.run(operations)
        failed = [o for o in outcomes if o.result not in (Result.DONE, Result.GONE)]
        done |= dict.fromkeys(o.operation for o in outcomes if o.result is Result.DONE)
        if not operations:
            break
    if not failed:
        links = await kernel.links()
        chosen = {link.index for link in _chosen(links.values(), only)}
        ledger.keep_only((i, link.mac) for i, link in links.items() if i not in chosen)
    return Released(tuple(done), tuple(failed))


async def _missing(
    kernel: Kernel, ledger: Ledger, only: str | None, numbers: Numbers, groups: AbstractSet[int]
) -> Sequence[Operation]:
    """The operations that are left to do, in the order of removal: the link group comes last."""
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
    plans = [Plan(link.index, group=DEFAULT_GROUP) for link in chosen if link.group in groups]
    indices = {link.index for link in chosen}
    held: Held = set() if only is None else _others(snapshot, indices, numbers)
    operations = diff(plans, snapshot, held, numbers)
    return sorted(operations, key=lambda operation: isinstance(operation, SetGroup))


def _chosen(links: Iterable[Link], only: str | None) -> list[Link]:
    chosen = [
        link for link in links if only is None or only.lower() in (link.name.lower(), link.mac)
    ]
    if only is not None and not chosen:
        names = ", ".join(sorted(link.name for link in links))
        raise UnknownInterfaceError(f"no interface {only!r}; there are: {names}")
    return chosen


def _others(snapshot: Snapshot, chosen: AbstractSet[int], numbers: Numbers) -> Held:
    """The other interfaces that have anything of ours. What belongs to links that are gone goes."""
    owners = Owners(snapshot, numbers)
    tables = {rule.table for rule in snapshot.rules if rule.protocol == PROTOCOL}
    having = {route.oif for route in snapshot.routes}.union(*(owners.of(t) for t in tables))
    indices = having & snapshot.links.keys() - chosen
    return {(index, family) for index in indices for family in Family}
