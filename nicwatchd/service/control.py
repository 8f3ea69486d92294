"""The control socket: HTTP over a Unix socket. Anyone on the host may read; POST needs privileges.

| request | answer |
|---|---|
| GET /healthz | 200 while every part of the daemon makes progress, else 503 |
| GET /readyz | 200 while every ENI works, the primary is known, and all is well; else 503 |
| GET /v1/status | the host: `HostStatus` |
| GET /v1/interfaces | a list of `InterfaceStatus` |
| GET /v1/interfaces/{name, MAC or ENI id} | one `InterfaceStatus`, else 404 |
| GET /v1/explain/{the same, or an address} | why it is in its state: `Explanation`, else 404 |
| GET /v1/events | a line of JSON for each interface now, then one for each transition or fight |
| GET /metrics | metrics for Prometheus |
| POST /v1/reconcile | re-reads kernel and IMDS; answers `HostStatus` once that is done |
| POST /v1/release | removes everything we configured, for good; answers what was removed |

Both act on the whole host, or on one interface: `?interface=` with its name, MAC or ENI id.
`reconcile` takes `adopt=` with an address, as often as needed: its manager ends, so nicwatchd puts
it back when the manager takes it away. `nicwatchd migrate` uses this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web
from aiohttp.http import HttpProcessingError
from aiohttp.typedefs import Handler

from nicwatchd.core.model import IPAddress
from nicwatchd.core.port import KernelError
from nicwatchd.service import explanation
from nicwatchd.service.counts import Counts
from nicwatchd.service.released import Released
from nicwatchd.service.requests import UnknownInterfaceError
from nicwatchd.service.status import HostStatus, InterfaceStatus, find
from nicwatchd.service.telling import Observer, Told

SOCKET_NAME: Final = "nicwatchd.sock"
# A request to IMDS may time out on each endpoint.
ACT_TIMEOUT: Final = 20.0
SHUTDOWN_TIMEOUT: Final = 1.0
EVENTS_PENDING: Final = 1000  # for a client that reads too slowly
# Anyone may connect. That must neither use up the file descriptors (1024) that the daemon needs,
# nor lock out root.
CONNECTIONS: Final = 256
RESERVED: Final = 32  # of these: for privileged clients
STREAMS: Final = 64  # of events; half of them reserved for privileged clients
IDLE: Final = 30.0  # s without a request, or without reading the answer; exceeds ACT_TIMEOUT


class Service(Protocol):
    """What the control socket serves."""

    def status(self) -> HostStatus:
        """The current status of the host."""

    def counts(self) -> Counts:
        """The counters since the start."""

    async def reconcile(
        self, interface: str | None = None, adopt: Iterable[IPAddress] = ()
    ) -> None:
        """Re-read everything, and manage again what was released: one interface, or the host.

        `adopt`: addresses whose manager ends; they are put back when it takes them away.
        This and `release` raise UnknownInterfaceError, OSError, KernelError.
        """

    async def release(self, interface: str | None = None) -> Released:
        """Remove everything we configured, and leave it alone: one interface, or the host."""

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell this observer what happens; returns a function that unsubscribes it."""


class _IdleTimers:
    """Disconnects clients that neither ask nor read the answer; one timer for each connection."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._running: dict[asyncio.Transport, asyncio.TimerHandle] = {}

    def restart(self, transport: asyncio.Transport | None) -> None:
        """Start a connection's timer again from 0, unless it is closing."""
        self.stop(transport)
        if len(self._running) >= 2 * CONNECTIONS:  # we are not notified of closed connections
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


class _Gate(asyncio.Protocol):
    """Accepts a new connection, or closes it if there are too many."""

    def __init__(self, server: web.Server, timers: _IdleTimers) -> None:
        self._server = server
        self._timers = timers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a stream"  # noqa: S101 (types)
        limit = CONNECTIONS if _is_privileged(transport) else CONNECTIONS - RESERVED
        if len(self._server.connections) >= limit:
            transport.abort()
            return
        handler = self._server()
        transport.set_protocol(handler)
        self._timers.restart(transport)
        handler.connection_made(transport)


def _log() -> logging.Logger:
    """Logs our own errors only. A client that sends something that is not HTTP is not our error."""

    def is_ours(record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))

    log = logging.getLogger(__name__)
    log.addFilter(is_ours)
    return log


class Control:
    """The server. `start` replaces the socket file of a daemon that has died."""

    def __init__(
        self,
        service: Service,
        path: Path,
        idle: float = IDLE,
        explain: explanation.Explain = explanation.nobody,
    ) -> None:
        self._service = service
        self.path = path
        self._timers = _IdleTimers(idle)
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
                web.get("/v1/explain/{key}", explanation.handler(explain)),
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
            handler_cancellation=True,  # a closed connection must not count as an open stream
        )
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Start serving. Raises OSError if the socket cannot be created."""
        self.path.unlink(missing_ok=True)  # we hold the lock, so no other daemon uses it
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_unix_server(self._gate, str(self.path))
        self.path.chmod(0o666)

    def _gate(self) -> asyncio.Protocol:
        server = self._runner.server
        assert server is not None, "set up by start"  # noqa: S101 (for the type checker)
        return _Gate(server, self._timers)

    async def close(self) -> None:
        """Stop serving."""
        if self._listening:
            self._listening.close()
        await self._runner.cleanup()
        self.path.unlink(missing_ok=True)

    @web.middleware
    async def _timed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport  # None: the client has disconnected
        self._timers.restart(transport)
        try:
            return await handler(request)
        finally:
            self._timers.restart(transport)

    async def _healthz(self, _: web.Request) -> web.Response:
        # Settings that cannot be used stop no part; a restart, which this may cause, would fail.
        status = self._service.status()
        problems = [each for each in status.problems if each != status.bad_settings]
        return _verdict(not problems, {"problems": problems})

    async def _readyz(self, _: web.Request) -> web.Response:
        status = self._service.status()
        return _verdict(status.ready, {"waiting": status.unready})

    async def _metrics(self, _: web.Request) -> web.Response:
        # Imported on demand: a daemon that nobody scrapes pays neither time nor memory for it.
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
            return _error(503, "too many event streams are open")
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
            await response.prepare(request)  # a client that has the headers misses no event
            while not pending.full():  # a client that reads too slowly misses some: disconnect it
                self._timers.stop(transport)
                status = await pending.get()
                self._timers.restart(transport)
                await response.write(status.model_dump_json().encode() + b"\n")
        except ConnectionResetError:
            pass  # the client has disconnected
        finally:
            unsubscribe()
        return response

    async def _reconcile(self, request: web.Request) -> web.Response:
        async def act(interface: str | None) -> web.Response:
            await self._service.reconcile(interface, adopt)
            return await self._status(request)

        try:
            adopt = [ip_address(text) for text in request.query.getall("adopt", [])]
        except ValueError as error:
            return _error(400, f"adopt: {error}")
        return await _act(request, act)

    async def _release(self, request: web.Request) -> web.Response:
        async def act(interface: str | None) -> web.Response:
            released = await self._service.release(interface)
            return web.json_response(released.as_json())

        return await _act(request, act)


async def _act(
    request: web.Request, act: Callable[[str | None], Awaitable[web.Response]]
) -> web.Response:
    """Carry out a POST for the interface that it names, or the host. It needs privileges."""
    if not _may_write(request):
        return _error(403, "only root and nicwatchd's own user may do this")
    try:
        return await asyncio.wait_for(act(request.query.get("interface")), ACT_TIMEOUT)
    except TimeoutError:
        return _error(504, f"not done within {ACT_TIMEOUT:g} s; the daemon continues")
    except UnknownInterfaceError as error:
        return _error(404, str(error))
    except KernelError as error:
        return _error(500, str(error))
    except OSError as error:
        return _error(507, f"nothing was done: it could not be recorded: {error.strerror}")


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)


def _offer(pending: asyncio.Queue[InterfaceStatus], told: Told) -> None:
    if told.status is not None:
        with contextlib.suppress(asyncio.QueueFull):
            pending.put_nowait(told.status)


def _verdict(good: bool, more: dict[str, list[str]]) -> web.Response:  # noqa: FBT001
    body = {"status": "ok" if good else "failing", **more}
    return web.json_response(body, status=200 if good else 503)


def _json(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


def _may_write(request: web.Request) -> bool:
    """Whether the client is root or the daemon's own user."""
    return request.transport is not None and _is_privileged(request.transport)


def _is_privileged(transport: asyncio.BaseTransport) -> bool:
    """The same for a connection; the kernel vouches for the uid of its peer."""
    peer = transport.get_extra_info("socket")
    if peer is None:
        return False
    credentials = struct.Struct("3i")  # pid, uid, gid
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return credentials.unpack(raw)[1] in (0, os.geteuid())
