"""The control socket: HTTP over a Unix socket. Anyone on the host may read; writing needs rights.

| request | answer |
|---|---|
| GET /healthz | 200 while all parts of the daemon move, else 503 |
| GET /readyz | 200 while no interface waits for anything or is fought over, else 503 |
| GET /v1/status | the host: `HostStatus` |
| GET /v1/interfaces | a list of `InterfaceStatus` |
| GET /v1/interfaces/{name, MAC or ENI id} | one `InterfaceStatus`, else 404 |
| GET /v1/events | a line of JSON for each interface now, then one for each transition or fight |
| GET /metrics | figures for Prometheus |
| POST /v1/reconcile | looks at everything anew; answers `HostStatus` when that is done |
| POST /v1/release | takes all that is ours away, and leaves it alone; answers what went |

Both act on the whole host, or on one interface: `?interface=` with its name, MAC or ENI id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler

from nicwatchd.core.lifecycle import State
from nicwatchd.core.port import KernelError
from nicwatchd.service.counts import Counts
from nicwatchd.service.released import Released
from nicwatchd.service.requests import UnknownInterfaceError
from nicwatchd.service.status import HostStatus, InterfaceStatus, ReasonStatus, find
from nicwatchd.service.telling import Observer, Told

SOCKET_NAME: Final = "nicwatchd.sock"
# A question to IMDS may take its whole time-out on each endpoint.
ACT_TIMEOUT: Final = 20.0
SHUTDOWN_TIMEOUT: Final = 1.0
EVENTS_PENDING: Final = 1000  # for a reader that does not keep up
# Anyone may connect: that must not take away the file descriptors (1024) that the work needs, nor
# keep root from asking.
CONNECTIONS: Final = 256
RESERVED: Final = 32  # of them: for those with rights
STREAMS: Final = 64  # of events; half of them are for those with rights
IDLE: Final = 30.0  # s without a request, or without taking the answer; more than an act may last


class Service(Protocol):
    """What the control socket serves."""

    def status(self) -> HostStatus:
        """Everything that can be said now."""

    def counts(self) -> Counts:
        """What was counted since the start."""

    async def reconcile(self, interface: str | None = None) -> None:
        """Look at everything anew, and take up what was released."""

    async def release(self, interface: str | None = None) -> Released:
        """Take all that is ours away, and leave it alone.

        Both: of one interface or of the host. Raise UnknownInterfaceError, OSError, KernelError.
        """

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell this observer what happens; returns a function that unsubscribes it."""


class _Clocks:
    """Hangs up on who neither asks nor takes the answer, each by a clock of its own."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._running: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def wind(self, transport: asyncio.Transport | None) -> None:
        """From now on, again; not for who has hung up already."""
        self.stop(transport)
        if len(self._running) >= 2 * CONNECTIONS:  # nobody tells us of those that ended
            for ended in [each for each in self._running if each.is_closing()]:
                self.stop(ended)
        if transport is not None and not transport.is_closing():
            loop = asyncio.get_running_loop()
            self._running[transport] = loop.call_later(self._patience, self._hang_up, transport)

    def stop(self, transport: asyncio.Transport | None) -> None:
        """No more, until it is wound again."""
        clock = self._running.pop(transport, None) if transport else None
        if clock:
            clock.cancel()

    def _hang_up(self, transport: asyncio.Transport) -> None:
        del self._running[transport]
        transport.abort()


class _Gate(asyncio.Protocol):
    """Lets a new connection in, or hangs up on it where there are too many."""

    def __init__(self, server: web.Server, clocks: _Clocks) -> None:
        self._server = server
        self._clocks = clocks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a stream"  # noqa: S101 (types)
        most = CONNECTIONS if _has_rights(transport) else CONNECTIONS - RESERVED
        if len(self._server.connections) >= most:
            transport.abort()
            return
        handler = self._server()
        transport.set_protocol(handler)
        self._clocks.wind(transport)
        handler.connection_made(transport)


def _log() -> logging.Logger:
    """Tells of our own errors; what others send that is no HTTP is answered, and no news."""

    def is_ours(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))

    log = logging.getLogger(__name__)
    log.addFilter(is_ours)
    return log


class Control:
    """The server. `start` takes the socket's path over from a dead predecessor."""

    def __init__(self, service: Service, path: Path, idle: float = IDLE) -> None:
        self._service = service
        self.path = path
        self._clocks = _Clocks(idle)
        self._streams = 0
        app = web.Application(middlewares=[self._timed])
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
                web.get("/v1/status", self._status),
                web.get("/v1/interfaces", self._interfaces),
                web.get("/v1/interfaces/{key}", self._interface),
                web.get("/v1/events", self._events),
                web.post("/v1/reconcile", self._reconcile),
                web.post("/v1/release", self._release),
            ]
        )
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_log(),
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            handler_cancellation=True,  # who hangs up leaves no stream behind that counts
        )
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to serve. Raises OSError when the socket cannot be made."""
        self.path.unlink(missing_ok=True)  # the lock says that nobody else uses it
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_unix_server(self._gate, str(self.path))
        self.path.chmod(0o666)

    def _gate(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None, "set up by start"  # noqa: S101 (for the type checker)
        return _Gate(server, self._clocks)

    async def close(self) -> None:
        """End serving."""
        if self._listening:
            self._listening.close()
        await self._runner.cleanup()
        self.path.unlink(missing_ok=True)

    @web.middleware
    async def _timed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport  # None: it hung up meanwhile
        self._clocks.wind(transport)
        try:
            return await handler(request)
        finally:
            self._clocks.wind(transport)

    async def _healthz(self, _: web.Request) -> web.Response:
        problems = self._service.status().problems
        return _verdict(not problems, {"problems": problems})

    async def _readyz(self, _: web.Request) -> web.Response:
        unsettled = unready(self._service.status())
        return _verdict(not unsettled, {"waiting": unsettled})

    async def _metrics(self, _: web.Request) -> web.Response:
        # Only where somebody asks: it costs a daemon that nobody scrapes neither time nor memory.
        from nicwatchd.service import metrics  # noqa: PLC0415

        body = metrics.render(self._service.status(), self._service.counts())
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self._service.status().model_dump_json())

    async def _interfaces(self, _: web.Request) -> web.Response:
        interfaces = self._service.status().interfaces
        return _json(f"[{','.join(interface.model_dump_json() for interface in interfaces)}]")

    async def _interface(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        found = find(self._service.status().interfaces, key)
        if found is None:
            return _error(404, f"no interface {key!r}")
        return _json(found.model_dump_json())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._streams >= (STREAMS if _may_write(request) else STREAMS // 2):
            return _error(503, "too many streams of events are open")
        self._streams += 1
        try:
            return await self._stream(request)
        finally:
            self._streams -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        pending: asyncio.Queue[InterfaceStatus] = asyncio.Queue(maxsize=EVENTS_PENDING)
        for interface in self._service.status().interfaces:
            pending.put_nowait(interface)
        unsubscribe = self._service.subscribe(lambda told: _offer(pending, told))
        try:
            await response.prepare(request)  # whoever has the headers misses nothing any more
            while not pending.full():  # who reads so slowly has missed something: hang up
                self._clocks.stop(transport)
                said = await pending.get()
                self._clocks.wind(transport)
                await response.write(said.model_dump_json().encode() + b"\n")
        except ConnectionResetError:
            pass  # the reader has left
        finally:
            unsubscribe()
        return response

    async def _reconcile(self, request: web.Request) -> web.Response:
        async def act(interface: str | None) -> web.Response:
            await self._service.reconcile(interface)
            return await self._status(request)

        return await _act(request, act)

    async def _release(self, request: web.Request) -> web.Response:
        async def act(interface: str | None) -> web.Response:
            released = await self._service.release(interface)
            return web.json_response(released.as_json())

        return await _act(request, act)


async def _act(
    request: web.Request, act: Callable[[str | None], Awaitable[web.Response]]
) -> web.Response:
    """Do what needs rights and may take a while, for the interface that was named, if one was."""
    if not _may_write(request):
        return _error(403, "only root and nicwatchd's own user may do this")
    try:
        return await asyncio.wait_for(act(request.query.get("interface")), ACT_TIMEOUT)
    except TimeoutError:
        return _error(504, f"not done within {ACT_TIMEOUT:g} s; it goes on")
    except UnknownInterfaceError as error:
        return _error(404, str(error))
    except KernelError as error:
        return _error(500, str(error))
    except OSError as error:
        return _error(507, f"nothing was done, as it could not be noted: {error.strerror}")


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _offer(pending: asyncio.Queue[InterfaceStatus], told: Told) -> None:
    if told.status is not None:
        with contextlib.suppress(asyncio.QueueFull):
            pending.put_nowait(told.status)


def unready(status: HostStatus) -> list[str]:
    """Each interface that is not settled, with its reasons, a line each."""
    lines = [
        f"{i.name}: {i.state}{' (overdue)' if i.overdue else ''}: "
        + ("; ".join(reason.text for reason in _unsettling(i)) or "under way")
        for i in status.interfaces
        if not i.is_settled
    ]
    primary_needed = status.interfaces and not (status.idle or status.released)
    primary_needed = primary_needed and status.primary_mac is None
    return [*lines, "the primary interface is not known yet"] if primary_needed else lines


def _unsettling(interface: InterfaceStatus) -> list[ReasonStatus]:
    """Why an interface is not settled."""
    waits = interface.reasons if interface.state is not State.IGNORED else []
    return [*waits, interface.fight] if interface.fight else waits


def _verdict(good: bool, more: dict[str, list[str]]) -> web.Response:  # noqa: FBT001
    body = {"status": "ok" if good else "failing", **more}
    return web.json_response(body, status=200 if good else 503)


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


def _may_write(request: web.Request) -> bool:
    """Whether the peer is root or runs as we do; the kernel vouches for its uid."""
    return request.transport is not None and _has_rights(request.transport)


def _has_rights(transport: asyncio.BaseTransport) -> bool:
    peer = transport.get_extra_info("socket")
    if peer is None:
        return False
    credentials = struct.Struct("3i")  # pid, uid, gid
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return credentials.unpack(raw)[1] in (0, os.geteuid())
