"""Reads one ENI's metadata: the latest answer for each key, kept from poll to poll.

A poll returns the latest answer for each key. If a read fails, that one key becomes Unknown. If the
directory cannot be read, it becomes Unknown too, and the keys keep their answers: an error proves
nothing about them. If the MAC is not listed, every key becomes ABSENT; the core remembers earlier
values and doubts removals itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from nicwatchd.core.metadata import ABSENT, NOT_ASKED, Absent, Answer, EniMetadata, Unknown, Value
from nicwatchd.imds.client import MACS
from nicwatchd.imds.parse import LEAVES, find_mac, parse_directory, parse_leaf
from nicwatchd.imds.probes import DIRECTORY, Probes, is_news

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nicwatchd.imds.client import ImdsClient

# Concurrent reads of one ENI: a sweep takes two or three round trips, with few connections, because
# 64 ENIs share them.
CONCURRENCY: Final = 4


class EniReader:
    """Reads `network/interfaces/macs/<mac>/`. One poll at a time; `mac` is the link's."""

    def __init__(self, client: ImdsClient, mac: str) -> None:
        self._client = client
        self._mac = mac.lower()
        self._spelling: str | None = None  # the MAC as IMDS spells it; None while not listed
        self._listed: frozenset[str] | None = None  # by the last directory that could be read
        self._answers: dict[str, Answer[Any]] = dict.fromkeys((DIRECTORY, *LEAVES), NOT_ASKED)
        self._refused: dict[str, tuple[str, ...]] = {}
        self._probes = Probes(self._mac)
        self._gate = asyncio.Semaphore(CONCURRENCY)

    async def poll(self, *, sweep: bool) -> EniMetadata:
        """Ask IMDS. `sweep` re-reads every needed key; else one probe, and more if it has news."""
        if sweep:
            await self._sweep()
        else:
            await self._probe()
        return self._metadata()

    async def _sweep(self) -> None:
        await self._read_directory()
        if isinstance(self._answers[DIRECTORY], Value) and self._listed is not None:
            await self._read(self._probes.sweep(self._listed, self._answers))

    async def _probe(self) -> None:
        names = self._probes.probe(self._listed, self._answers)
        news = await self._read(name for name in names if name != DIRECTORY)
        if DIRECTORY in names:
            news |= await self._read_directory()
        elif news:  # one value has appeared, changed or vanished: others may have too
            self._probes.asked([DIRECTORY])
            news |= await self._read_directory()
        if news and self._listed is not None:
            more = self._probes.after_news(news, self._listed, self._answers)
            more = [key for key in more if key not in names]
            self._probes.asked(more)
            await self._read(more)

    async def _read_directory(self) -> set[str]:
        """Read the directory; returns the needed keys that are newly listed."""
        text = await self._directory_text()
        if isinstance(text, Value):
            parsed = parse_directory(text.value)
            directory, self._refused[DIRECTORY] = parsed.answer, parsed.refused
        else:
            directory = text
        self._answers[DIRECTORY] = directory
        if isinstance(directory, Unknown):
            return set()
        before = self._listed or frozenset()
        self._listed = directory.value if isinstance(directory, Value) else None
        listed = self._listed or frozenset()
        for key in LEAVES:
            if key not in listed:
                self._answers[key] = ABSENT
                self._refused.pop(key, None)
            elif key not in before:
                self._answers[key] = NOT_ASKED
        return set(LEAVES.keys() & (listed - before))

    async def _directory_text(self) -> Answer[str]:
        """The text of the MAC's directory. Looks up IMDS's spelling of the MAC first if needed."""
        just_listed = self._spelling is None
        if just_listed:
            listing = await self._client.get(MACS)
            if not isinstance(listing, Value):
                return listing
            self._spelling = find_mac(listing.value, self._mac)
        if self._spelling is None:
            return ABSENT
        text = await self._client.get(f"{MACS}{self._spelling}/")
        if isinstance(text, Absent):
            self._spelling = None
            if just_listed:
                return Unknown("directory: listed, but 404 (IMDS lags)")
        return text

    async def _read(self, keys: Iterable[str]) -> set[str]:
        """Read leaves concurrently; returns those with news."""
        keys = list(keys)
        results = await asyncio.gather(*(self._read_leaf(key) for key in keys))
        return {key for key, news in zip(keys, results, strict=True) if news}

    async def _read_leaf(self, key: str) -> bool:
        before = self._answers[key]
        async with self._gate:
            text = await self._client.get(f"{MACS}{self._spelling}/{key}")
        if isinstance(text, Value):
            parsed = parse_leaf(key, text.value)
            self._answers[key], self._refused[key] = parsed.answer, parsed.refused
        elif isinstance(text, Absent):
            self._answers[key] = Unknown(f"{key}: listed, but 404 (IMDS lags)")
            return isinstance(before, Value)  # may no longer be listed: the directory will tell
        else:
            self._answers[key] = text
        return is_news(before, self._answers[key])

    def _metadata(self) -> EniMetadata:
        refused = tuple(line for lines in self._refused.values() for line in lines)
        return EniMetadata.from_answers(self._answers[DIRECTORY], self._answers, refused)
