"""Connections to the sockets: how many at once, for how long, and whether the client is privileged.

Anyone may connect. That must neither use up the file descriptors (1024) that the daemon needs, nor
lock out root.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from nicwatchd.service.turnstile import Turnstile

IDLE: Final = 30.0  # s without a request, or without reading the answer; exceeds ACT_TIMEOUT


@dataclass(frozen=True, slots=True)
class Limits:
    """What one socket serves at once. `reserved`: of the connections, for privileged clients.

    `unprivileged_streams`: of the event streams, what anyone may have.
    """

    connections: int
    reserved: int
    streams: int
    unprivileged_streams: int


CONTROL: Final = Limits(connections=256, reserved=32, streams=64, unprivileged_streams=32)
# Nobody is privileged here, so there is nothing to reserve. A host has few scrapers and proxies.
READ_ONLY: Final = Limits(connections=128, reserved=0, streams=32, unprivileged_streams=32)


class IdleTimers:
    """Disconnects clients that neither ask nor read the answer; one timer for each connection."""

    def __init__(self, patience: float, connections: int) -> None:
        self._patience = patience
        self._connections = connections
        self._running: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def restart(self, transport: asyncio.Transport | None) -> None:
        """Start a connection's timer again from 0, unless it is closing."""
        self.stop(transport)
        if len(self._running) >= 2 * self._connections:  # nobody notifies us of closed connections
            for ended in [each for each in self._running if each.is_closing()]:
                self.stop(ended)
        if transport is not None and not transport.is_closing():
            loop = asyncio.get_running_loop()
            self._running[transport] = loop.call_later(self._patience, self._hang_up, transport)

    def stop(self, transport: asyncio.Transport | None) -> None:
        """Stop a connection's timer until the next `restart`."""
        timer = self._running.pop(transport, None) if transport else None
        if timer:
            timer.cancel()

    def _hang_up(self, transport: asyncio.Transport) -> None:
        del self._running[transport]
        transport.abort()


class Underway:
    """The requests that are being answered, until the last byte is written; `end` ends them.

    aiohttp would do that, too, but a handler that ends just when its patience does raises
    InvalidStateError there: it sets the result of a future that was cancelled a moment before. Of
    hundreds that are answered one after the other, one nearly always does.
    """

    def __init__(self) -> None:
        self.is_ending = False
        self._tasks: set[asyncio.Task[object]] = set()
        self._endless: set[asyncio.Task[object]] = set()

    def __len__(self) -> int:
        return len(self._tasks | self._endless)

    def begin(self, *, endless: bool = False) -> None:
        """The current task answers a request; `endless`: until the client disconnects."""
        task = asyncio.current_task()
        if task is not None:
            tasks = self._endless if endless else self._tasks
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def end(self, patience: float) -> None:
        """End what is endless, and after `patience` [s] the rest, too. What comes is refused."""
        self.is_ending = True
        rest = self._tasks - self._endless
        if rest:
            await asyncio.wait(rest, timeout=patience)
        left = self._tasks | self._endless
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


CHUNK: Final = bytearray(4096)  # what is read of one connection at once; used by one at a time


class Gate(asyncio.BufferedProtocol):
    """Accepts a new connection, or closes it if there are too many.

    Stands between the connection and aiohttp's handler. Clients without privileges are read a chunk
    at a time, and one after the other.
    """

    def __init__(
        self, server: web.Server, timers: IdleTimers, limits: Limits, turnstile: Turnstile
    ) -> None:
        self._server = server
        self._timers = timers
        self._limits = limits
        self._turnstile = turnstile
        self._transport: asyncio.Transport | None = None
        self._handler: web.RequestHandler | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        assert isinstance(transport, asyncio.Transport), "a stream"  # noqa: S101 (types)
        limit = self._limits.connections
        privileged = bool(self._limits.reserved) and is_privileged(transport)
        if not privileged:
            limit -= self._limits.reserved
        if len(self._server.connections) >= limit:
            transport.abort()
            return
        self._handler = handler = self._server()
        if privileged:
            transport.set_protocol(handler)
        else:
            self._transport = transport
        self._timers.restart(transport)
        handler.connection_made(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        """See `asyncio.BufferedProtocol`."""
        del sizehint
        return CHUNK

    def buffer_updated(self, nbytes: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        if self._handler is None or self._transport is None:
            return
        self._handler.data_received(bytes(CHUNK[:nbytes]))
        # If it has stopped reading, it goes on when it has handled what it has.
        if self._transport.is_reading() and not self._transport.is_closing():
            self._turnstile.hold(self._transport)

    def eof_received(self) -> None:
        """See `asyncio.BufferedProtocol`."""
        if self._handler is not None:
            self._handler.eof_received()

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._handler is not None:
            self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._handler is not None:
            self._handler.connection_lost(exc)
            self._handler = None


def is_privileged(transport: asyncio.BaseTransport | None) -> bool:
    """Whether the client is root or the daemon's own user; the kernel vouches for its uid."""
    peer = transport.get_extra_info("socket") if transport else None
    if peer is None:
        return False
    credentials = struct.Struct("3i")  # pid, uid, gid
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return credentials.unpack(raw)[1] in (0, os.geteuid())
