"""`nicwatchd release` without a daemon: one turn of the core, with everything released.

A running daemon does this itself, because it would restore everything at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from nicwatchd.core.model import Key, Link
from nicwatchd.core.policy import Coexist, Policy
from nicwatchd.core.port import Kernel
from nicwatchd.core.releases import Releases
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
    links = (await kernel.links()).values()
    key = None if only is None else _key(links, only)
    # We do not ask IMDS, so the turn decides and removes nothing for the other interfaces.
    turn = Turn(_for_every_link(links, policy or Policy()), lambda: 0.0, now=0.0)
    request = turn.release(key, now=0.0)
    driver = Driver(kernel, ledger)
    turn.start(now=0.0)
    while turn.step:
        turn.answer(await driver.carry_out(turn.step), now=0.0)
    released = Released.of(request.outcomes, turn.host.name_of)
    if key is None:
        ledger.keep_releases(Releases())
    if not released.failed:
        ledger.keep_only(turn.host.keys - {key} if key else ())
    return released


def _for_every_link(links: Iterable[Link], policy: Policy) -> Policy:
    """The policy without exclusions, so that what is ours is removed from every link."""
    drivers = policy.drivers | {link.driver for link in links if link.driver}
    return replace(policy, drivers=drivers, exclude=(), exclude_subnets=(), coexist=Coexist.FORCE)


def _key(links: Iterable[Link], wanted: str) -> Key:
    """The interface with this name or MAC."""
    for link in links:
        if wanted.lower() in (link.name.lower(), link.mac):
            return (link.index, link.mac)
    raise UnknownInterfaceError(wanted, (link.name for link in links))
