"""Lets clients without privileges through one at a time, after the daemon's own work.

They may be hundreds that ask without end, and send whatever they like. What each of them costs is
little; what all of them cost at once would come between an event and the turn that heals. They also
get a share of the processor's time alone: a daemon that is always busy is one that the kernel lets
wait, where others want the processor, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

READS: Final = 4  # by such clients, in each round of the loop
LOOK: Final = 0.002  # s between two looks whether the turn is over
# s. A turn takes milliseconds. One that takes longer may be stuck, and then /healthz has to say so.
LONG: Final = 0.25
# Of a processor, what the loop may use while such clients are served, and how much of it (s of CPU
# time) at once: some answers after a rest.
SHARE: Final = 0.25
CREDIT: Final = 0.02
# s. What the daemon itself uses counts, too, but nobody waits for more than this of it.
DEBT: Final = 0.01


def never() -> bool:
    """Whether a turn is underway where there are none."""
    return False


class Turnstile(asyncio.Lock):
    """Whoever holds it may be served. `is_busy`: whether a turn of the daemon is underway."""

    def __init__(self, is_busy: Callable[[], bool] = never) -> None:
        super().__init__()
        self._is_busy = is_busy
        self._busy_since: float | None = None
        self._credit = CREDIT
        self._counted: tuple[float, float] | None = None  # until when, and CPU time until then
        self._held: dict[asyncio.Transport, None] = {}  # in the order in which they may read on

    async def step_back(self, *, pays: bool = True) -> None:
        """Let the loop do all other work that is due, and a turn that is underway end.

        Who does not pay, root, has no share of the processor to keep to, and waits for no turn.
        """
        await asyncio.sleep(0)
        if not pays:
            return
        if (
            owed := self._owed()
        ):  # once: to look again costs, and on a slow host as much as is gained
            await asyncio.sleep(owed)
        while self._is_in_a_turn():  # noqa: ASYNC110 (the core has no event for it)
            await asyncio.sleep(LOOK)

    def hold(self, transport: asyncio.Transport) -> None:
        """Read nothing from this client until it is its turn again."""
        transport.pause_reading()
        if not self._held:
            asyncio.get_running_loop().call_soon(self._pay)
        self._held[transport] = None

    def _pay(self) -> None:
        """Read on, as soon as the share of the processor allows it."""
        if owed := self._owed():
            asyncio.get_running_loop().call_later(owed, self._read_on)
        else:
            self._read_on()

    def _read_on(self) -> None:
        loop = asyncio.get_running_loop()
        if self._is_in_a_turn():
            loop.call_later(LOOK, self._read_on)
            return
        for transport in list(self._held)[:READS]:
            del self._held[transport]
            transport.resume_reading()
        if self._held:
            loop.call_soon(self._pay)

    def _is_in_a_turn(self) -> bool:
        """Whether a turn is underway that is to end first."""
        if not self._is_busy():
            self._busy_since = None
            return False
        now = asyncio.get_running_loop().time()
        if self._busy_since is None:
            self._busy_since = now
        return now - self._busy_since < LONG

    def _owed(self) -> float:
        """The seconds to wait until the loop has used no more than its share of the processor."""
        self._count(asyncio.get_running_loop().time())
        return max(0.0, -self._credit / SHARE)

    def _count(self, now: float) -> None:
        used = time.thread_time()
        if self._counted:
            then, used_then = self._counted
            credit = self._credit + (now - then) * SHARE - (used - used_then)
            self._credit = min(CREDIT, max(-DEBT, credit))
        self._counted = (now, used)
