"""Reads one ENI's metadata: the latest answer for each key, kept from poll to poll.

A poll returns the latest answer for each key. If a read fails, that one key becomes Unknown. If the
directory cannot be read, it becomes Unknown too, and the keys keep their answers: an error proves
nothing about them. If the MAC is not listed, every key becomes ABSENT; the core remembers earlier
values and doubts removals itself.

A directory with a damaged name lists these names at least: whether another key is there, nobody
knows. And a list that changed is believed only when the `mac` leaf was read after it, in the same
poll: another ENI's tree may be in answer. Nothing is asked twice while nothing changes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from nicwatchd.core.metadata import ABSENT, NOT_ASKED, Absent, Answer, EniMetadata, Unknown, Value
from nicwatchd.core.polling import Depth
from nicwatchd.core.rota import DIRECTORY
from nicwatchd.imds.client import MACS
from nicwatchd.imds.parse import LEAVES, Parsed, find_mac, parse_directory, parse_leaf
from nicwatchd.imds.probes import LISTS, MAC, NAMED, ONCE, Probes, is_news

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nicwatchd.imds.client import ImdsClient

# Concurrent reads of one ENI: a sweep takes two or three round trips, with few connections, because
# 64 ENIs share them.
CONCURRENCY: Final = 4
DAMAGED: Final = "not among the names of the directory that could be read"


class EniReader:
    """Reads `network/interfaces/macs/<mac>/`. One poll at a time; `mac` is the link's."""

    def __init__(self, client: ImdsClient, mac: str) -> None:
        self._client = client
        self._mac = mac.lower()
        self._spelling: str | None = None  # the MAC as IMDS spells it; None while not listed
        self._listed: frozenset[str] | None = None  # by the last directory that could be read
        self._answers: dict[str, Answer[Any]] = dict.fromkeys((DIRECTORY, *LEAVES), NOT_ASKED)
        self._refused: dict[str, tuple[str, ...]] = {}
        self._parsed: dict[str, tuple[str, Parsed]] = {}  # of each leaf, the last text
        self._sure: dict[str, Answer[Any]] = {}  # of each list, what was surely of this ENI
        self._doubtful: frozenset[str] = frozenset()  # the lists of which the last answer is not
        self._named = False  # whether the `mac` leaf was ever read, and right
        self._probes = Probes(self._mac)
        self._gate = asyncio.Semaphore(CONCURRENCY)

    async def poll(self, *, depth: Depth, named: frozenset[str] = frozenset()) -> EniMetadata:
        """Ask IMDS: every needed key, or a few, and more if there is news.

        `named`: see `Probes`.
        """
        self._probes.named = named
        if depth is Depth.EVERYTHING:
            await self._sweep()
        else:
            await self._probe(depth)
        return self._metadata()

    async def _sweep(self) -> None:
        await self._read_directory()
        if isinstance(self._answers[DIRECTORY], Value) and self._listed is not None:
            await self._read(self._probes.sweep(self._listed, self._answers))
        await self._confirm()

    async def _probe(self, depth: Depth) -> None:
        names = self._probes.probe(self._listed, self._answers, depth)
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
        await self._confirm()

    async def _confirm(self) -> None:
        """Read `mac` after a list has changed, so that another ENI's is not taken for this one's.

        A reading that names another MAC says nothing of the lists; the core knows that. Where the
        leaf was read before and cannot be now, what changed is unknown until it can.
        """
        definite = {
            key: self._answers[key] for key in LISTS if not isinstance(self._answers[key], Unknown)
        }
        changed = {key for key in definite.keys() & self._sure if definite[key] != self._sure[key]}
        if self._listed is not None and MAC in self._listed:
            if changed:
                self._probes.asked([MAC])
                await self._read_leaf(MAC)
            mac = self._answers[MAC]
            self._named = self._named or mac == Value(self._mac)
            if isinstance(mac, Value) and mac.value != self._mac:
                return
            if isinstance(mac, Unknown) and self._named:
                self._doubtful = frozenset(changed)
                return
        self._sure |= definite
        self._doubtful = frozenset()

    async def _read_directory(self) -> set[str]:
        """Read the directory; returns the needed keys that are newly listed."""
        text = await self._directory_text()
        before = self._listed or frozenset()
        if isinstance(text, Value):
            parsed = parse_directory(text.value, before)
            directory, self._refused[DIRECTORY] = parsed.answer, parsed.refused
        else:
            directory = text
        if isinstance(directory, Value) and not directory.whole:
            directory = Value(directory.value | (before & LEAVES.keys()), whole=False)
        self._answers[DIRECTORY] = directory
        if isinstance(directory, Unknown):
            return set()
        self._listed = directory.value if isinstance(directory, Value) else None
        listed = self._listed or frozenset()
        whole = not isinstance(directory, Value) or directory.whole
        for key in LEAVES:
            if key not in listed:
                self._answers[key] = ABSENT if whole else Unknown(f"{key}: {DAMAGED}")
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
            spelling = find_mac(listing.value, self._mac)
            if not isinstance(spelling, Value):
                return spelling
            self._spelling = spelling.value
        text = await self._client.get(f"{MACS}{self._spelling}/")
        if isinstance(text, Absent):
            self._spelling = None
            if just_listed:
                return Unknown("directory: listed, but 404 (IMDS lags)", listed=True)
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
            parsed = self._parse(key, text.value)
            self._answers[key], self._refused[key] = parsed.answer, parsed.refused
        elif isinstance(text, Absent):
            self._answers[key] = Unknown(f"{key}: listed, but 404 (IMDS lags)", listed=True)
            return isinstance(before, Value)  # may no longer be listed: the directory will tell
        else:
            self._answers[key] = text
        news = is_news(before, self._answers[key])
        if news and key == MAC and isinstance(before, Value):  # the ids were another ENI's, perhaps
            self._answers |= dict.fromkeys(
                (self._listed or frozenset()).intersection({*ONCE, *NAMED}), NOT_ASKED
            )
        return news

    def _parse(self, key: str, text: str) -> Parsed:
        """What the text says. The same text gives the same objects: nobody need compare them."""
        known = self._parsed.get(key)
        if known is None or known[0] != text:
            known = self._parsed[key] = (text, parse_leaf(key, text))
        return known[1]

    def _metadata(self) -> EniMetadata:
        refused = tuple(line for lines in self._refused.values() for line in lines)
        doubtful = {
            key: Unknown(f"{key}: it changed, and whose it is cannot be read")
            for key in self._doubtful
        }
        answers = self._answers | doubtful
        return EniMetadata.from_answers(self._answers[DIRECTORY], answers, refused)
