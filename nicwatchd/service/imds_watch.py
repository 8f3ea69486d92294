"""What IMDS says over time, as lines of a recording: polls as the daemon does, tells changes.

Only paths that the daemon reads are asked for: `mac` and those below `network/interfaces/macs/`. A
token is fetched, too, and never told.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from nicwatchd.core.backoff import Share
from nicwatchd.core.metadata import ABSENT, Answer, EniMetadata, Value
from nicwatchd.core.model import Key, Link
from nicwatchd.core.policy import Policy
from nicwatchd.core.polling import Depth, Polling, Progress
from nicwatchd.core.rota import requests, rota
from nicwatchd.core.sections import keys_named
from nicwatchd.imds.client import Detour, ImdsClient, ImdsOptions
from nicwatchd.imds.eni import EniReader
from nicwatchd.imds.transport import Failure, Reply
from nicwatchd.recording.format import ImdsAnswer, Line

TICK: Final = 0.02  # s; how exactly polls keep their times
MACS_EVERY: Final = 60.0  # s, between two looks at the list of all MACs
UNKNOWN_EVERY: Final = 1.0  # s, until IMDS names the primary
LAST: Final = 2.0  # s for the last look


class HeardClient(ImdsClient):
    """Calls `heard` with each answer that is not as the last one for its path."""

    def __init__(
        self, options: ImdsOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(options, clock=clock)
        self.heard: Callable[[ImdsAnswer], None] = lambda _: None
        self._answers: dict[str, ImdsAnswer] = {}

    async def _get(self, path: str) -> Reply | Failure:
        outcome = await super()._get(path)
        answer = _told(path, outcome)
        if self._answers.get(path) != answer:
            self._answers[path] = answer
            self.heard(answer)
        return outcome


def _told(path: str, outcome: Reply | Failure) -> ImdsAnswer:
    if isinstance(outcome, Failure):
        return ImdsAnswer(path=path, failure=outcome.why)
    try:
        body = outcome.body.decode("utf-8") if outcome.status == 200 else ""  # noqa: PLR2004
    except UnicodeDecodeError:
        return ImdsAnswer(path=path, failure="garbage (not UTF-8)")
    return ImdsAnswer(path=path, status=outcome.status, body=body)


class Links(Detour):
    """Where the host's routes do not lead to IMDS: the links that may be ENIs."""

    def __init__(self, candidates: Callable[[], dict[int, Link]]) -> None:
        self._candidates = candidates

    def devices(self, failures: int) -> Sequence[str]:
        """See `Detour`."""
        names = sorted(link.name for link in self._candidates().values() if link.running)
        return names[failures % len(names) :][:1] if names else ()


class _Polled:
    """One ENI: its reader, and when to ask. It was first seen at `since`."""

    def __init__(self, client: ImdsClient, mac: str, now: float) -> None:
        self.reader = EniReader(client, mac)
        self.polling = Polling(now)
        self.since = now
        self.task: asyncio.Task[None] | None = None


class ImdsWatch:
    """Polls about each link of `candidates`, and about what the host has in all."""

    def __init__(
        self,
        client: HeardClient,
        policy: Policy,
        say: Callable[[Line], None],
        clock: Callable[[], float],
        candidates: Callable[[], dict[int, Link]],
    ) -> None:
        self._client = client
        self._policy = policy
        self._named = keys_named(policy.sections)
        self._say = say
        self._clock = clock
        self._candidates = candidates
        self._polled: dict[Key, _Polled] = {}
        self._primary: Answer[str] = ABSENT
        client.heard = lambda answer: say(Line(t=clock(), imds=answer))
        client.detour = Links(candidates)

    async def look_once_more(self) -> None:
        """Read everything of each ENI: what IMDS has learned since the last polls.

        To be called after `run` has ended. Gives up after LAST seconds.
        """
        readers = [polled.reader for polled in self._polled.values()]
        polls = (reader.poll(depth=Depth.EVERYTHING, named=self._named) for reader in readers)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST):
                await asyncio.gather(*polls, return_exceptions=True)

    def hint(self, index: int) -> None:
        """Something happened to a link: IMDS may know more now."""
        for (known, _), polled in self._polled.items():
            if known == index:
                polled.polling.hint(self._clock())

    async def run(self) -> None:
        """Poll until cancelled."""
        asking = asyncio.create_task(self._ask_of_host())  # which may take long to fail
        try:
            while not asking.done():
                self._ask_of_enis()
                await asyncio.sleep(TICK)
            asking.result()
        finally:
            tasks = [asking, *(polled.task for polled in self._polled.values() if polled.task)]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_of_host(self) -> None:
        """The primary's MAC until it is known, and then all MACs now and then."""
        while True:
            self._primary = await self._client.primary_mac()
            known = isinstance(self._primary, Value)
            if known:
                await self._client.macs()
            await asyncio.sleep(MACS_EVERY if known else UNKNOWN_EVERY)

    def _ask_of_enis(self) -> None:
        now = self._clock()
        keys = {(link.index, link.mac): link for link in self._candidates().values()}
        for key in self._polled.keys() - keys.keys():
            if task := self._polled.pop(key).task:
                task.cancel()
        for key in keys:
            polled = self._polled.get(key)
            if polled is None:
                polled = self._polled[key] = _Polled(self._client, key[1], now)
            if polled.polling.is_due(now):
                depth = polled.polling.send(now)
                polled.task = asyncio.create_task(self._poll(polled, key[1], depth))

    async def _poll(self, polled: _Polled, mac: str, depth: Depth) -> None:
        try:
            metadata = await polled.reader.poll(depth=depth, named=self._named)
        except Exception as error:  # noqa: BLE001 (as in the daemon: a bug ends no polls)
            metadata = EniMetadata()
            self._say(Line(t=self._clock(), note=f"internal error: {error!r}"))
        now, directory = self._clock(), metadata.directory
        listed = directory.value if isinstance(directory, Value) else None
        polled_now = list(self._polled.values())
        number = polled_now.index(polled) if polled in polled_now else 0
        progress = Progress(
            age=now - polled.since,
            complete=_is_complete(metadata),
            doubted=False,
            # As the daemon asks about the primary: it exists since launch.
            is_slow=self._primary == Value(mac) and listed is not None,
            listed=listed is not None,
            requests=requests(rota(listed or frozenset(), self._named)),
            share=Share(number, max(1, len(polled_now))),
        )
        polled.polling.heard(now, progress, self._policy, random.random)


def _is_complete(metadata: EniMetadata) -> bool:
    """Whether IMDS lists both families; of an ENI without IPv6 that costs two minutes of asking."""
    families = (metadata.v4, metadata.v6)
    return all(
        isinstance(each.addresses, Value) and isinstance(each.cidrs, Value) for each in families
    )
