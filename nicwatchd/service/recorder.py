"""Records what the kernel, IMDS and a running daemon say over time. It changes nothing."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nicwatchd import __version__
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import EventSource, Kernel
from nicwatchd.recording.format import FORMAT, VERSION, Header, Line, written
from nicwatchd.recording.mask import Mask
from nicwatchd.service.daemon_watch import DaemonWatch
from nicwatchd.service.imds_watch import HeardClient, ImdsWatch
from nicwatchd.service.kernel_watch import KernelWatch
from nicwatchd.service.ledger import Ledger

DIGITS: Final = 4  # of times: a tenth of a millisecond


class Recorder:
    """One recording, as lines to `write`. The caller opens and closes each part.

    `clock` is monotonic seconds, `wall` Unix time.
    """

    def __init__(
        self,
        policy: Policy,
        kernel: Kernel,
        events: EventSource,
        client: HeardClient,
        runtime_directory: Path,
        write: Callable[[str], None],
        mask: Mask,
        *,
        masked: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._write = write
        self._mask = mask
        self._clock = clock
        self._began = clock()
        self._last = 0.0
        self._error: OSError | None = None  # of writing
        self._failed = asyncio.Event()
        self._header = Header(
            format=FORMAT,
            version=VERSION,
            masked=masked,
            nicwatchd=__version__,
            kernel=os.uname().release,
            policy=policy,
            releases=Ledger(runtime_directory).releases,
        )
        self._kernel = KernelWatch(
            kernel, events, policy, runtime_directory, self._say, self._elapsed
        )
        self._imds = ImdsWatch(
            client, policy, self._say, self._elapsed, lambda: self._kernel.candidates
        )
        self._kernel.hinted = self._imds.hint
        self._daemon = DaemonWatch(runtime_directory, self._say, self._elapsed, wall)

    async def record(self, duration: float, stopping: asyncio.Event) -> None:
        """Record for so many seconds, or until `stopping` is set. Raises OSError of `write`."""
        self._began = self._clock()
        self._put(self._header)
        watches = [
            asyncio.create_task(each.run()) for each in (self._kernel, self._imds, self._daemon)
        ]
        ends = [asyncio.create_task(each.wait()) for each in (stopping, self._failed)]
        try:
            done, _ = await asyncio.wait(
                [*watches, *ends], timeout=duration, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()  # a watch ends only by an exception
        finally:
            for task in (*watches, *ends):
                task.cancel()
            await asyncio.gather(*watches, *ends, return_exceptions=True)
        # The daemon may have asked a moment ago, and acted upon what is not recorded yet.
        await self._imds.look_once_more()
        self._say(Line(t=self._elapsed(), end=True))
        if self._error:
            raise self._error

    def _elapsed(self) -> float:
        return self._clock() - self._began

    def _say(self, line: Line) -> None:
        """Write a line; no time is before that of the line before."""
        self._last = max(self._last, round(line.t, DIGITS))
        self._put(line.model_copy(update={"t": self._last}))

    def _put(self, what: Header | Line) -> None:
        """Write a line. Once that has failed, the recording ends: a later line may fit again."""
        if self._error:
            return
        try:
            self._write(written(what, self._mask))
        except OSError as error:
            self._error = error
            self._failed.set()
