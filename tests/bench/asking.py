"""A program: many clients that press the control socket without end. `asking.py SOCKET NUMBER`.

Prints a line when all are connected, goes on until SIGTERM, and prints how many answers they had.
Whoever is hung up on connects again. They get only the processor time that nobody else wants
(SCHED_IDLE): what they cost is to be what the daemon does for them, and not that they run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import cycle, islice

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASK = "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"
PATHS = ("/v1/status", "/v1/interfaces", "/readyz", "/metrics")
GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"POST /v1/release HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000,
    b"GET / HTTP/1.1\r\n" + b"X-Header: y\r\n" * 5000 + b"\r\n",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 10_000,
)
counts: Counter[str] = Counter()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One question after the other, each as soon as the last is answered."""
    for path in cycle(PATHS):
        writer.write(ASK.format(path=path).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await reader.readexactly(int(length))
        counts["answers"] += 1


async def follow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The events, from their beginning again and again."""
    writer.write(ASK.format(path="/v1/events").encode())
    await reader.readuntil(b'"name":"eth0"')
    counts["streams"] += 1


async def do_not_read(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Questions without end, and no answer is taken: the reader stops at its limit."""
    while True:
        writer.write(ASK.format(path="/metrics").encode() * 100)
        await writer.drain()


async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Byte by byte."""
    while True:
        for byte in ASK.format(path="/" + "a" * 1000).encode():
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)


async def send_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What is not HTTP, or too large."""
    writer.write(GARBAGE[counts["garbage"] % len(GARBAGE)])
    counts["garbage"] += 1
    await writer.drain()
    await reader.read()


# Most ask; the others do what nobody does who wants an answer.
KINDS: tuple[Callable[..., Awaitable[None]], ...] = (
    *(ask, ask, ask, ask, follow, do_not_read, trickle, send_garbage),
)


async def main(path: str, number: int) -> None:
    """Connect all, then let each go on without end."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    pairs = [await _connect(path) for _ in range(number)]
    _print("connected")
    kinds = islice(cycle(KINDS), number)
    tasks = [
        asyncio.create_task(_again(path, kind, pair))
        for kind, pair in zip(kinds, pairs, strict=True)
    ]
    await stopping.wait()
    for task in tasks:
        task.cancel()
    _print(" ".join(f"{name}={count}" for name, count in sorted(counts.items())))


async def _again(path: str, kind: Callable[..., Awaitable[None]], pair: Pair) -> None:
    while True:
        try:
            await kind(*pair)
        except (ConnectionError, asyncio.IncompleteReadError):
            counts["hang-ups"] += 1
        pair[1].transport.abort()
        pair = await _connect(path)


async def _connect(path: str) -> Pair:
    """A connection. asyncio takes a full backlog (EAGAIN) for a connection that is under way."""
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            connection.connect(path)
        except BlockingIOError:
            connection.close()
            await asyncio.sleep(0.01)
            continue
        return await asyncio.open_unix_connection(sock=connection)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
