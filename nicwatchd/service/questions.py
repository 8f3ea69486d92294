"""The open questions to IMDS. Each is a task that delivers its answer to the inbox."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable

from nicwatchd.core import asking
from nicwatchd.core.host import Host
from nicwatchd.core.metadata import Answer, EniMetadata, Unknown, Value
from nicwatchd.core.model import Key
from nicwatchd.core.steps import MacsReading, PrimaryReading, Question, Reading
from nicwatchd.imds.client import ImdsClient
from nicwatchd.imds.eni import EniReader

# Seconds between retries. The primary's MAC exists from launch, so we retry only if IMDS fails.
PRIMARY_FIRST, PRIMARY_CAP = 0.25, 5.0


class Questions:
    """At most one question for each interface, one for the primary's MAC, one for all MACs."""

    def __init__(
        self,
        imds: ImdsClient,
        deliver: Callable[[Reading | PrimaryReading | MacsReading], None],
        clock: Callable[[], float],
    ) -> None:
        self._imds = imds
        self._deliver = deliver
        self._clock = clock
        self._readers: dict[Key, EniReader] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._asked: dict[Key, float] = {}
        self._known: frozenset[Key] = frozenset()  # the interfaces, as of the last time
        self._primary: asyncio.Task[None] | None = None
        self._macs: asyncio.Task[None] | None = None  # the last question for the list of MACs

    def ask_due(self, host: Host, now: float, *, primary: bool) -> None:
        """Ask what is due, and drop the questions about interfaces that are gone.

        `primary`: whether the primary's MAC is to be asked for.
        """
        self._keep_only(host.keys)
        if primary:
            self.ask_primary()
        if host.unlinked.asks(now, host.policy):
            self._macs = asyncio.create_task(self._read_macs())
        for question in asking.questions(host, now):
            self.ask(question)

    async def _read_macs(self) -> None:
        try:
            reading = MacsReading(await self._imds.macs())
        except Exception as error:  # noqa: BLE001 (as in _read)
            reading = MacsReading(_internal(error), repr(error), traceback.format_exc())
        self._deliver(reading)

    def ask(self, question: Question) -> None:
        """Ask about one interface. A question that is still open is of the link before it went."""
        key = (question.index, question.mac)
        if key in self._tasks:
            self._drop(key)
        self._asked[key] = self._clock()
        self._tasks[key] = asyncio.create_task(self._read(key, question))

    async def _read(self, key: Key, question: Question) -> None:
        reader = self._readers.setdefault(key, EniReader(self._imds, question.mac))
        try:
            reading = Reading(*key, await reader.poll(depth=question.depth, named=question.named))
        except Exception as error:  # noqa: BLE001 (a bug must not stop the polls of an interface)
            metadata = EniMetadata(directory=_internal(error))
            reading = Reading(*key, metadata, repr(error), traceback.format_exc())
        self._tasks.pop(key, None)
        self._asked.pop(key, None)
        self._deliver(reading)

    def ask_primary(self) -> None:
        """Ask for the primary's MAC until IMDS answers."""
        if self._primary is None:
            self._primary = asyncio.create_task(self._read_primary())

    def ask_afresh(self) -> bool:
        """Find out now how IMDS is, and the primary's MAC; whether there was a pause of ours.

        Whoever has just enabled IMDS does not wait for that.
        """
        if self._primary is not None and not self._primary.done():
            self._primary.cancel()
            self._primary = asyncio.create_task(self._read_primary())
        return self._imds.ask_afresh()

    async def _read_primary(self) -> None:
        pause = PRIMARY_FIRST
        last: Answer[str] | None = None
        while not isinstance(last, Value):
            try:
                reading = PrimaryReading(await self._imds.primary_mac())
            except Exception as error:  # noqa: BLE001 (as in _read)
                reading = PrimaryReading(_internal(error), repr(error), traceback.format_exc())
            answer = reading.answer
            if answer != last:
                self._deliver(reading)
            last = answer
            await asyncio.sleep(0 if isinstance(answer, Value) else pause)
            pause = min(pause * 2, PRIMARY_CAP)

    def _keep_only(self, keys: frozenset[Key]) -> None:
        """Cancel the questions about all other interfaces."""
        if keys is self._known:
            return  # nearly always
        self._known = keys
        for key in (self._readers.keys() | self._tasks.keys()) - keys:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        """Cancel the question about an interface, and forget what IMDS answered so far."""
        self._readers.pop(key, None)
        self._asked.pop(key, None)
        if key in self._tasks:
            self._tasks.pop(key).cancel()

    def oldest(self) -> float | None:
        """When the oldest open question was asked; None if there is none."""
        return min(self._asked.values(), default=None)

    async def close(self) -> None:
        """Cancel all questions."""
        tasks = [*self._tasks.values(), *filter(None, (self._primary, self._macs))]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._primary = None


def _internal(error: Exception) -> Unknown:
    return Unknown(f"internal error: {error!r}")
