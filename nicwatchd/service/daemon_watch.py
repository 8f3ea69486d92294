"""What a running daemon says of its interfaces, as lines of a recording."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp

from nicwatchd.recording.format import Line, Said
from nicwatchd.service.control import SOCKET_NAME

RETRY: Final = 0.5  # s, until a daemon answers
LONGEST: Final = 4 << 20  # bytes of a line; an ENI of hundreds of addresses has some 100,000
FAMILIES: Final = ("ipv4", "ipv6")


class DaemonWatch:
    """Follows `GET /v1/events`, as soon as there is a daemon, and whenever there is one again."""

    def __init__(
        self,
        runtime_directory: Path,
        say: Callable[[Line], None],
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._path = str(runtime_directory / SOCKET_NAME)
        self._say = say
        self._clock = clock  # seconds since the recording began
        self._wall = wall  # Unix time

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._follow()
            except (aiohttp.ClientError, OSError, LookupError, TypeError, ValueError):
                await asyncio.sleep(RETRY)

    async def _follow(self) -> None:
        forever = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
        connector = aiohttp.UnixConnector(self._path)
        async with aiohttp.ClientSession(
            "http://nicwatchd", connector=connector, timeout=forever, read_bufsize=LONGEST
        ) as session:
            async with session.get("/v1/status") as response:
                status = await response.json()
            async with session.get("/v1/events") as events:
                since = self._clock() - (self._wall() - float(status["started"]))
                self._say(Line(t=self._clock(), daemon_since=since))
                try:
                    async for line in events.content:
                        self._say(Line(t=self._clock(), said=_said(json.loads(line))))
                except aiohttp.ClientError:
                    pass  # it was killed
        self._say(Line(t=self._clock(), daemon_gone=True))
        await asyncio.sleep(RETRY)


def _said(status: dict[str, Any]) -> Said:
    health = {family: (status.get(family) or {}).get("health") for family in FAMILIES}
    return Said(
        mac=status["mac"],
        name=status["name"],
        state=status["state"],
        reasons=tuple(sorted({reason["code"] for reason in status["reasons"]})),
        overdue=status["overdue"],
        health={family: value for family, value in health.items() if value},
    )
