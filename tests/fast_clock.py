"""asyncio with an invented clock: where the loop would sleep, the clock jumps instead.

Sound as long as nothing is waited for but timers and what runs in the loop itself: no threads, no
subprocesses. Whoever waits for such a thing alone ends the loop with an error. With `sockets`, it
may be a connection over loopback, which has what was sent at once: that takes no time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")


# s; asyncio lets a timer fire 1 ns early, and who is woken early waits again: for ever, if no time
# passed by itself.
TURN: Final = 1e-6


class _Impatient(selectors.DefaultSelector):
    """A selector that waits for no timer, and adds up how long it would have."""

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
    """An event loop whose seconds cost nothing. Its time begins at 0."""

    def __init__(self, *, sockets: bool = False) -> None:
        self._impatient = _Impatient(sockets=sockets)
        super().__init__(self._impatient)

    def time(self) -> float:
        return self._impatient.now


def run(main: Coroutine[Any, Any, T], *, sockets: bool = False) -> T:
    """`asyncio.run` in fast motion."""
    with asyncio.Runner(loop_factory=partial(FastLoop, sockets=sockets)) as runner:
        return runner.run(main)
