"""A TCP connection from a far host into the machine, which is to live through whatever happens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from nicwatchd.core.model import IPAddress
from nicwatchd.sim.vpc import Vpc

ECHO: Final = 7778
PATIENCE: Final = 60.0  # s; TCP repeats what is lost, and a busy machine is slow
PAUSE: Final = 0.1  # s, between two lines: the machine has other things to do


class Stream:
    """One connection; `speak` raises when it has died."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def speak(self, line: bytes = b"still there?\n") -> None:
        """Send a line, and return when it comes back."""
        self._writer.write(line)
        async with asyncio.timeout(PATIENCE):
            assert await self._reader.readline() == line


@asynccontextmanager
async def stream(vpc: Vpc, to: IPAddress, source: IPAddress | None = None) -> AsyncIterator[Stream]:
    """A connection from a far host, if need be a certain one, to an address of the machine."""
    family = socket.AF_INET6 if to.version == 6 else socket.AF_INET
    raw = vpc.socket(vpc.far, family)
    if source is not None:
        raw.bind((str(source), 0))
    async with asyncio.timeout(PATIENCE):
        await asyncio.get_running_loop().sock_connect(raw, (str(to), ECHO))
    reader, writer = await asyncio.open_connection(sock=raw)
    try:
        opened = Stream(reader, writer)
        await opened.speak()
        yield opened
    finally:
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def talking(*streams: Stream) -> AsyncIterator[None]:
    """Lines go to and fro on all streams until the end; raises when one of them has died."""
    over = asyncio.Event()

    async def talk(one: Stream) -> None:
        while not over.is_set():
            await one.speak()
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), PAUSE)

    async with asyncio.TaskGroup() as group:
        for one in streams:
            group.create_task(talk(one))
        yield
        over.set()
