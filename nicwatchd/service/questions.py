"""The questions to IMDS that are under way. Each is a task; its answer goes into the inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from nicwatchd.core.metadata import Answer, EniMetadata, Unknown, Value
from nicwatchd.imds.client import ImdsClient
from nicwatchd.imds.eni import EniReader

Key = tuple[int, str]  # ifindex, MAC

# The primary's MAC is there from launch, so asking again is for an IMDS that cannot answer.
PRIMARY_FIRST, PRIMARY_CAP = 0.25, 5.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What IMDS says of one interface."""

    index: int
    mac: str
    metadata: EniMetadata


@dataclass(frozen=True, slots=True)
class PrimaryHeard:
    """What IMDS says of the primary's MAC."""

    answer: Answer[str]


class Questions:
    """At most one question for each interface, and one for the primary's MAC."""

    def __init__(
        self,
        imds: ImdsClient,
        deliver: Callable[[Reading | PrimaryHeard], None],
        clock: Callable[[], float],
    ) -> None:
        self._imds = imds
        self._deliver = deliver
        self._clock = clock
        self._readers: dict[Key, EniReader] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._asked: dict[Key, float] = {}
        self._primary: asyncio.Task[None] | None = None

    def ask(self, index: int, mac: str, *, sweep: bool) -> None:
        """Ask about one interface; the caller sees to it that no question to it is open."""
        key = (index, mac)
        self._asked[key] = self._clock()
        self._tasks[key] = asyncio.create_task(self._read(key, sweep=sweep))

    async def _read(self, key: Key, *, sweep: bool) -> None:
        index, mac = key
        reader = self._readers.setdefault(key, EniReader(self._imds, mac))
        try:
            metadata = await reader.poll(sweep=sweep)
        except Exception as error:  # noqa: BLE001 (a bug there must not silence the interface)
            why = Unknown(f"internal error: {error!r}")
            metadata = EniMetadata(directory=why)
        self._tasks.pop(key, None)
        self._asked.pop(key, None)
        self._deliver(Reading(index, mac, metadata))

    def ask_primary(self) -> None:
        """Ask for the primary's MAC until IMDS tells it."""
        if self._primary is None:
            self._primary = asyncio.create_task(self._read_primary())

    async def _read_primary(self) -> None:
        pause = PRIMARY_FIRST
        last: Answer[str] | None = None
        while not isinstance(last, Value):
            try:
                answer = await self._imds.primary_mac()
            except Exception as error:  # noqa: BLE001 (as in _read)
                answer = Unknown(f"internal error: {error!r}")
            if answer != last:
                self._deliver(PrimaryHeard(answer))
            last = answer
            await asyncio.sleep(0 if isinstance(answer, Value) else pause)
            pause = min(pause * 2, PRIMARY_CAP)

    def keep_only(self, keys: set[Key]) -> None:
        """Drop the questions of interfaces that are gone."""
        for key in set(self._readers) - keys:
            del self._readers[key]
        for key in set(self._tasks) - keys:
            self._tasks.pop(key).cancel()
            self._asked.pop(key, None)

    def oldest(self) -> float | None:
        """When the oldest open question was asked."""
        return min(self._asked.values(), default=None)

    async def close(self) -> None:
        """End all questions."""
        tasks = [*self._tasks.values()] + ([self._primary] if self._primary else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._primary = None
