"""TCP connections into the host that talk all the while, and that nothing may harm."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Self

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.vpc import Vpc
from tests.scenarios.host import WITHIN, HostUnderTest

ECHO: Final = 7778
PAUSE: Final = 0.002  # s between two lines of one connection
LONG: Final = 0.05  # s to wait for an answer


class Stream:
    """One connection, which sends a line as soon as the one before came back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.lines = 0
        self.waits: list[tuple[float, float]] = []  # the long ones, from a line to its answer

    async def talk(self) -> None:
        """For good; raises when an answer is missing or another one's."""
        for number in itertools.count():
            line = b"%d\n" % number
            sent = time.monotonic()
            self._writer.write(line)
            async with asyncio.timeout(WITHIN):
                answer = await self._reader.readline()
            if answer != line:
                raise ConnectionError(f"{answer!r} instead of {line!r}")
            self.lines += 1
            if time.monotonic() - sent > LONG:
                self.waits.append((sent, time.monotonic()))
            await asyncio.sleep(PAUSE)

    async def goes_on(self) -> None:
        """Wait until more of it came through, all of it from now on."""
        until = self.lines + 2
        async with asyncio.timeout(WITHIN):
            while self.lines < until:  # noqa: ASYNC110 (nothing else to await than the lines)
                await asyncio.sleep(PAUSE)


@asynccontextmanager
async def streams(host: HostUnderTest, name: str, *families: Family) -> AsyncIterator[list[Stream]]:
    """From a far host and from one in the primary's subnet to the addresses of an ENI.

    `families`: to those of these only.

    At the end they still talk, and EC2's source check dropped no packet of the host meanwhile: none
    left by a wrong interface.
    """
    enis = [host.vpc.primary, host.eni(name)]
    callers = [host.vpc.far_hosts[0], host.vpc.neighbour(host.vpc.primary.subnet)]
    pairs = [(peer, to) for peer in callers for to in enis[1].addresses(*families)]
    async with talking(host.vpc, pairs) as opened:
        dropped = [await host.vpc.dropped(eni) for eni in enis]
        await asyncio.gather(*(stream.goes_on() for stream in opened))
        yield opened
        await asyncio.gather(*(stream.goes_on() for stream in opened))
        now = [await host.vpc.dropped(eni) for eni in enis]
        assert now == dropped, f"dropped: {dropped} before, {now} now"


@asynccontextmanager
async def talking(
    vpc: Vpc, pairs: Iterable[tuple[Peer, IPAddress]], to: str | None = None
) -> AsyncIterator[list[Stream]]:
    """From these peers to these addresses of the host, or of the namespace `to`.

    At the end they still talk.
    """
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_echo(vpc, to or vpc.host))
        opened = [await stack.enter_async_context(_stream(vpc, *pair)) for pair in pairs]
        talks = await stack.enter_async_context(_Talks(opened))
        yield opened
        await asyncio.gather(*(stream.goes_on() for stream in opened))
        talks.check()


class _Talks:
    """The streams' tasks."""

    def __init__(self, opened: list[Stream]) -> None:
        self._opened = opened

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(stream.talk()) for stream in self._opened]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    def check(self) -> None:
        """Raise what ended one of them."""
        for task in self._tasks:
            if task.done():
                task.result()


@asynccontextmanager
async def _echo(vpc: Vpc, namespace: str) -> AsyncIterator[None]:
    writers = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        async for line in reader:
            writer.write(line)

    servers = [
        await asyncio.start_server(answer, sock=vpc.listen(namespace, address, ECHO))
        for address in ("0.0.0.0", "::")
    ]
    try:
        yield
    finally:
        for writer in writers:
            writer.close()
        for server in servers:
            server.close()
            await server.wait_closed()


@asynccontextmanager
async def _stream(vpc: Vpc, peer: Peer, to: IPAddress) -> AsyncIterator[Stream]:
    family = Family(to.version)
    raw = vpc.socket(peer.namespace, socket.AF_INET6 if family is Family.V6 else socket.AF_INET)
    raw.bind((str(peer.address(family)), 0))
    async with asyncio.timeout(WITHIN):
        await asyncio.get_running_loop().sock_connect(raw, (str(to), ECHO))
    reader, writer = await asyncio.open_connection(sock=raw)
    try:
        yield Stream(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()
