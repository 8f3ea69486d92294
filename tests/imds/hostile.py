"""A metadata service that is hostile: it speaks bytes, not HTTP, and each request may meet another.

What answers in the place of IMDS controls every byte, and when it comes.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\n"
TOKEN = b"t" * 56
BOMB = gzip.compress(bytes(50 << 20))  # 50 KiB that would be 50 MiB


def reply(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole answer."""
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", body]
    return b"\r\n".join(lines)


@dataclass
class Hostile:
    """Says `say` to whatever is asked for a path that holds `on`, and is well-behaved otherwise.

    `say`: chunks to send, one after the other; `pause`: s between them; `endless`: the last one is
    sent until the client hangs up; `reset`: the connection is reset then, else it is closed, or
    kept open without a word (`hold`).
    """

    say: tuple[bytes, ...] = ()
    pause: float = 0.0
    endless: bool = False
    reset: bool = False
    hold: bool = False
    on: str = "ipv6s"
    asked: list[str] = field(default_factory=list)
    tree: dict[str, bytes] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                path = head.split()[1].decode()
                self.asked.append(path)
                if self.on in path:
                    await self._attack(writer)
                    break
                writer.write(self._answer(path))
                await writer.drain()
        if self.reset:
            writer.transport.abort()
        writer.close()

    def _answer(self, path: str) -> bytes:
        if path.endswith("/api/token"):
            return reply(TOKEN)
        key = path.partition("/meta-data/")[2]
        if key in self.tree:
            return reply(self.tree[key])
        return reply(b"", status=b"404 Not Found")

    async def _attack(self, writer: asyncio.StreamWriter) -> None:
        for chunk in self.say:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(self.pause)
        while self.endless:
            writer.write(self.say[-1])
            await writer.drain()
            await asyncio.sleep(self.pause)
        if self.hold:
            await asyncio.Event().wait()


@asynccontextmanager
async def serving(hostile: Hostile) -> AsyncIterator[str]:
    """Its endpoint."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await hostile.serve(reader, writer)
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
