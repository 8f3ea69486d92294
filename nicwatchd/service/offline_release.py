"""`nicwatchd release` without a daemon: one turn of the core, with everything released.

A running daemon does this itself, because it would restore everything at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from nicwatchd.core.decision import Decision
from nicwatchd.core.model import Key, Link, Operation, SetGroup
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Kernel
from nicwatchd.core.releases import Releases
from nicwatchd.core.steps import Apply
from nicwatchd.core.turn import Turn
from nicwatchd.service.driver import Driver
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.platform import Lock
from nicwatchd.service.released import Released
from nicwatchd.service.requests import UnknownInterfaceError


@contextlib.contextmanager
def locked_ledger(runtime_directory: Path) -> Iterator[Ledger]:
    """The ledger, with the lock held so that no daemon can start.

    Without the directory, no daemon has run since boot, and there is nothing to lock or to read.
    Raises AlreadyRunningError, OSError.
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
    kernel: Kernel, ledger: Ledger, only: str | None = None, policy: Policy | None = None
) -> Released:
    """Release the host, or the interface with the name or MAC `only`.

    Records no release, so the next daemon manages it again. A release of the host also ends earlier
    releases. Raises KernelError, UnknownInterfaceError, OSError.
    """
    keys = await _wanted(kernel, only)
    turn = _turn(policy)
    request, *_ = [turn.release(key, now=0.0) for key in keys]
    driver = Driver(kernel, ledger)
    turn.start(now=0.0)
    while turn.step:
        turn.answer(await driver.carry_out(turn.step), now=0.0)
    if turn.broken:
        raise RuntimeError(f"internal error, not everything is released: {turn.broken}")
    released = Released.of(request.outcomes, turn.host.name_of)
    if only is None:
        ledger.keep_releases(Releases())
    if not released.failed:
        ledger.keep_only(() if only is None else turn.host.keys - {*keys})
    return released


async def preview(
    kernel: Kernel,
    ledger: Ledger,
    only: str | None = None,
    policy: Policy | None = None,
    *,
    unprotected: str | None = None,
) -> Decision:
    """What a release would do: its first decision, of which nothing is carried out or recorded.

    `unprotected`: the MAC of the primary, where its protection goes, too, as it does with the last
    other ENI; it keeps its link group. Raises KernelError, UnknownInterfaceError.
    """
    keys = await _wanted(kernel, only)
    kept = [] if unprotected is None else await _wanted(kernel, unprotected)
    turn = _turn(policy)
    for key in (*keys, *kept):
        turn.release(key, now=0.0)
    driver = Driver(kernel, ledger, read_only=True)
    turn.start(now=0.0)
    while turn.step and not isinstance(turn.step, Apply):
        turn.answer(await driver.carry_out(turn.step), now=0.0)
    if turn.step:
        turn.fail(now=0.0)
    if turn.broken or not turn.decision:
        raise RuntimeError(f"internal error, nothing is decided: {turn.broken}")
    grouped = {key[0] for key in kept if key}
    done = (o for o in turn.decision.operations if not _is_group_of(o, grouped))
    return replace(turn.decision, operations=tuple(done))


def _is_group_of(operation: Operation, links: Collection[int]) -> bool:
    return isinstance(operation, SetGroup) and operation.index in links


def _turn(policy: Policy | None) -> Turn:
    """We do not ask IMDS, so the turn decides and removes nothing for what is not released."""
    return Turn(replace(policy or Policy(), every_link=True), lambda: 0.0, now=0.0)


async def _wanted(kernel: Kernel, only: str | None) -> list[Key | None]:
    """What to release: the host, or the links with this name or MAC."""
    return [None] if only is None else _keys((await kernel.links()).values(), only)


def _keys(links: Collection[Link], wanted: str) -> list[Key | None]:
    """The interface with this name, or all with this MAC: a VLAN has that of its ENI, say."""
    found: list[Key | None] = [
        (link.index, link.mac) for link in links if wanted.lower() in (link.name.lower(), link.mac)
    ]
    if not found:
        raise UnknownInterfaceError(wanted, (link.name for link in links))
    return found
