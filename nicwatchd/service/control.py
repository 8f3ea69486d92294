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
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web
from aiohttp.http import HttpProcessingError

from nicwatchd.core.lifecycle import State
from nicwatchd.service.counts import Counts
from nicwatchd.service.status import HostStatus, InterfaceStatus, ReasonStatus

SOCKET_NAME: Final = "nicwatchd.sock"
# A question to IMDS may take its whole time-out on each endpoint.
RECONCILE_TIMEOUT: Final = 20.0
SHUTDOWN_TIMEOUT: Final = 1.0
EVENTS_PENDING: Final = 1000  # for a reader that does not keep up
# Anyone may connect: that must not take away the file descriptors (1024) that the work needs, nor
# keep root from asking.
CONNECTIONS: Final = 256
RESERVED: Final = 32  # of them: for those with rights

Listener = Callable[[InterfaceStatus], None]


class Service(Protocol):
    """What the control socket serves."""

    def status(self) -> HostStatus:
        """Everything that can be said now."""

    def counts(self) -> Counts:
        """What was counted since the start."""

    async def reconcile(self) -> None:
        """Look at everything anew."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` at each transition; the answer ends that."""


class _Gate(asyncio.Protocol):
    """Lets a new connection in, or hangs up on it where there are too many."""

    def __init__(self, server: web.Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a stream"  # noqa: S101 (types)
        most = CONNECTIONS if _has_rights(transport) else CONNECTIONS - RESERVED
        if len(self._server.connections) >= most:
            transport.abort()
            return
        handler = self._server()
        transport.set_protocol(handler)
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

    def __init__(self, service: Service, path: Path) -> None:
        self._service = service
        self.path = path
        app = web.Application()
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
            ]
        )
        self._runner = web.AppRunner(
            app, access_log=None, logger=_log(), shutdown_timeout=SHUTDOWN_TIMEOUT
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
        return _Gate(server)

    async def close(self) -> None:
        """End serving."""
        if self._listening:
            self._listening.close()
        await self._runner.cleanup()
        self.path.unlink(missing_ok=True)

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
            return web.json_response({"error": f"no interface {key!r}"}, status=404)
        return _json(found.model_dump_json())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        pending: asyncio.Queue[InterfaceStatus] = asyncio.Queue(maxsize=EVENTS_PENDING)
        for interface in self._service.status().interfaces:
            pending.put_nowait(interface)
        unsubscribe = self._service.subscribe(lambda status: _offer(pending, status))
        try:
            await response.prepare(request)  # whoever has the headers misses nothing any more
            while not pending.full():  # who reads so slowly has missed something: hang up
                said = await pending.get()
                await response.write(said.model_dump_json().encode() + b"\n")
        except ConnectionResetError:
            pass  # the reader has left
        finally:
            unsubscribe()
        return response

    async def _reconcile(self, request: web.Request) -> web.Response:
        if not _may_write(request):
            error = "only root and nicwatchd's own user may do this"
            return web.json_response({"error": error}, status=403)
        try:
            await asyncio.wait_for(self._service.reconcile(), RECONCILE_TIMEOUT)
        except TimeoutError:
            error = f"not done within {RECONCILE_TIMEOUT:g} s; it goes on"
            return web.json_response({"error": error}, status=504)
        return await self._status(request)


def _offer(pending: asyncio.Queue[InterfaceStatus], status: InterfaceStatus) -> None:
    with contextlib.suppress(asyncio.QueueFull):
        pending.put_nowait(status)


def find(interfaces: list[InterfaceStatus], key: str) -> InterfaceStatus | None:
    """The interface with this name, MAC or ENI id."""
    wanted = key.lower()
    return next((i for i in interfaces if wanted in (i.name.lower(), i.mac, i.eni)), None)


def unready(status: HostStatus) -> list[str]:
    """Each interface that is not settled, with its reasons, a line each."""
    lines = [
        f"{i.name}: {i.state}{' (overdue)' if i.overdue else ''}: "
        + ("; ".join(reason.text for reason in _unsettling(i)) or "under way")
        for i in status.interfaces
        if not i.is_settled
    ]
    primary_needed = status.idle is None and status.interfaces and status.primary_mac is None
    return [*lines, "the primary interface is not known yet"] if primary_needed else lines


def _unsettling(interface: InterfaceStatus) -> list[ReasonStatus]:
    """Why an interface is not settled."""
    waits = interface.reasons if interface.state is not State.IGNORED else []
    return [*waits, *(note for note in interface.notes if note.code == "fought-over")]


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
