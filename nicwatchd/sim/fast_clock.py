"""asyncio with a simulated clock: instead of sleeping, the loop advances the clock.

This is sound as long as the code waits only for timers and for code in the same loop: no threads
and no subprocesses. Waiting for anything else ends the loop with an error. With `sockets`, it may
also wait for connections over loopback, which deliver at once and so take no time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")


# s; asyncio lets a timer fire 1 ns early, and code that wakes up early waits again: forever, if no
# time passed by itself.
TURN: Final = 1e-6


class _Impatient(selectors.DefaultSelector):
    """A selector that does not wait for timers, but adds up how long it would have waited."""

    def __init__(self, *, sockets: bool) -> None:
        super().__init__()
        self.now = 0.0
        self._sockets = sockets

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        self.now += TURN if ready or timeout is None else max(timeout, TURN)
        if ready or timeout is not None:
            return ready
        if not self._sockets:
            raise RuntimeError("all wait, and for nothing that could come")
        return super().select(None)


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop in which time costs nothing. Its clock starts at 0."""

    def __init__(self, *, sockets: bool = False) -> None:
        self._impatient = _Impatient(sockets=sockets)
        super().__init__(self._impatient)

    def time(self) -> float:
        """The simulated time, in seconds."""
        return self._impatient.now


def run(main: Coroutine[Any, Any, T], *, sockets: bool = False) -> T:
    """`asyncio.run` in fast motion."""
    with asyncio.Runner(loop_factory=partial(FastLoop, sockets=sockets)) as runner:
        return runner.run(main)
