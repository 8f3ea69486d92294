"""asyncio with an invented clock: where the loop would sleep, the clock jumps instead.

Sound as long as nothing is waited for but timers and what runs in the loop itself, so: no sockets,
no threads, no subprocesses. Whoever waits for such a thing alone ends the loop with an error.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

T = TypeVar("T")


# s; asyncio lets a timer fire 1 ns early, and who is woken early waits again: for ever, if no time
# passed by itself.
TURN: Final = 1e-6


class _Impatient(selectors.SelectSelector):
    """A selector that never waits, and adds up how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("all wait, and for nothing that could come")
        self.now += TURN if ready or timeout is None else max(timeout, TURN)
        return ready


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds cost nothing. Its time begins at 0."""

    def __init__(self) -> None:
        self._impatient = _Impatient()
        super().__init__(self._impatient)

    def time(self) -> float:
        return self._impatient.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` in fast motion."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        return runner.run(main)
