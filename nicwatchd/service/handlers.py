"""Answers the requests of one socket: a handler for each row of `ROUTES`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

from nicwatchd import __version__
from nicwatchd.core.model import IPAddress
from nicwatchd.core.port import KernelError
from nicwatchd.service import prometheus, readiness
from nicwatchd.service.answers import (
    ErrorAnswer,
    HealthAnswer,
    IndexAnswer,
    ReadyAnswer,
    ReleasedAnswer,
    RequestEntry,
)
from nicwatchd.service.bodies import Bodies, in_pieces
from nicwatchd.service.connections import IdleTimers, Limits, Underway, is_privileged
from nicwatchd.service.counts import Counts
from nicwatchd.service.event_stream import EventStreams, Stream
from nicwatchd.service.explanation import Explain
from nicwatchd.service.post_key import PostKey
from nicwatchd.service.released import Released
from nicwatchd.service.requests import UnknownInterfaceError
from nicwatchd.service.routes import JSON, LINES, ROUTES
from nicwatchd.service.status import HostStatus
from nicwatchd.service.telling import Observer
from nicwatchd.service.turnstile import Turnstile

# A request to IMDS may time out on each endpoint.
ACT_TIMEOUT: Final = 20.0
READS: Final = ("GET", "HEAD")
EVENTS: Final = "/v1/events"
BODY: Final = 4096  # bytes of a body that nobody reads
SCHEMA: Final = Path(__file__).with_name("openapi.json")  # by openapi.py
READ_ONLY: Final = "this socket is read-only; nicwatchd.sock beside it takes POST from root"


class Service(Protocol):
    """What the sockets serve."""

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


class Handlers:
    """The requests of one socket.

    `key`: what a POST must carry; None: nobody is privileged, and nothing may be changed.
    """

    def __init__(
        self,
        service: Service,
        explain: Explain,
        timers: IdleTimers,
        limits: Limits,
        turnstile: Turnstile,
        key: PostKey | None,
    ) -> None:
        self._service = service
        self._explain = explain
        self._timers = timers
        self._limits = limits
        self._key = key
        self._read_only = key is None
        self._streams = EventStreams(service)
        self._turnstile = turnstile
        self._bodies = Bodies()
        self.underway = Underway()

    def application(self) -> web.Application:
        """The web application; every row of `ROUTES` has its handler."""
        handlers: Mapping[str, Handler] = {
            "index": self._index,
            "healthz": self._healthz,
            "readyz": self._readyz,
            "metrics": self._metrics,
            "status": self._status,
            "interfaces": self._interfaces,
            "interface": self._interface,
            "explain": self._explanation,
            "events": self._events,
            "openapi": self._openapi,
            "reconcile": self._reconcile,
            "release": self._release,
        }
        app = web.Application(middlewares=[self._timed, self._one_at_a_time, self._guarded])
        for route in ROUTES:
            app.router.add_route(route.method, route.path, handlers[route.name])
        return app

    # --- around each request -----------------------------------------------------------------

    @web.middleware
    async def _timed(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        transport = request.transport  # None: the client has disconnected
        self._timers.restart(transport)
        self.underway.begin()
        try:
            return await handler(request)
        finally:
            self._timers.restart(transport)

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what is not allowed here; errors are JSON as all answers are."""
        if self.underway.is_ending:
            refusal = _error(503, "nicwatchd is stopping")
            refusal.force_close()  # the connection, after this answer
            return refusal
        if request.body_exists and (request.content_length or BODY + 1) > BODY:
            refusal = _error(413, "no request here needs a body")
            refusal.force_close()
            return refusal
        if self._read_only and request.method not in READS:
            return _error(403, READ_ONLY)
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            return _error(405, f"not allowed here: {error.method}", {"Allow": allowed})
        except web.HTTPNotFound:
            return _error(404, "no such path; GET / says what there is")

    @web.middleware
    async def _one_at_a_time(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let the daemon do its own work between two answers to unprivileged clients.

        They may be hundreds that ask without end; each answer takes a millisecond or so.
        """
        if self._is_privileged(request):
            return await handler(request)
        async with self._turnstile:
            await self._turnstile.step_back()
            if request.path != EVENTS:
                return await handler(request)
        return await handler(request)  # lasts

    def _is_privileged(self, request: web.Request) -> bool:
        return not self._read_only and is_privileged(request.transport)

    # --- reading -----------------------------------------------------------------------------

    async def _index(self, _: web.Request) -> web.Response:
        allowed = [route for route in ROUTES if route.method in READS or not self._read_only]
        entries = [
            RequestEntry(method=each.method, path=each.path, summary=each.summary)
            for each in allowed
        ]
        return _answer(
            IndexAnswer(version=__version__, read_only=self._read_only, requests=entries)
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        problems = readiness.stuck(self._service.status())
        answer = HealthAnswer(status="failing" if problems else "ok", problems=problems)
        return _answer(answer, failing=bool(problems))

    async def _readyz(self, request: web.Request) -> web.Response:
        status = self._service.status()
        families, interfaces, host = readiness.BOTH, status.interfaces, readiness.of_host(status)
        if (name := request.query.get("family")) is not None:
            if name not in readiness.FAMILIES:
                return _error(400, f"family is ipv4 or ipv6, not {name!r}")
            families = frozenset({readiness.FAMILIES[name]})
        if (key := request.query.get("interface")) is not None:
            only = readiness.find_interface(interfaces, key)
            if only is None:
                return _error(404, _no_interface(status, key))
            interfaces, host = [only], []
        found = [*readiness.not_ready(interfaces, families), *host]
        answer = ReadyAnswer(
            status="failing" if found else "ok",
            waiting=[readiness.line(each) for each in found],
            not_ready=found,
        )
        return _answer(answer, failing=bool(found))

    async def _metrics(self, request: web.Request) -> web.Response:
        wanted = request.query.get("process", "1")
        if wanted not in {"0", "1"}:
            return _error(400, f"process is 0 or 1, not {wanted!r}")
        await asyncio.to_thread(prometheus.load)
        from nicwatchd.service import metrics  # noqa: PLC0415 (with the library)

        status, counts, body = self._service.status(), self._service.counts(), []
        for part in metrics.parts(status, counts, process=wanted == "1"):
            body.append(part)
            # All take several milliseconds on a large host, and may take seconds on a slow one.
            await self._turnstile.step_back(pays=not self._is_privileged(request))
        headers = {"Content-Type": metrics.CONTENT_TYPE}
        return web.Response(body=in_pieces(b"".join(body)), headers=headers)

    async def _status(self, _: web.Request) -> web.Response:
        status = self._service.status()
        return _json(self._bodies.of("status", status, status.model_dump_json))

    async def _interfaces(self, _: web.Request) -> web.Response:
        interfaces = self._service.status().interfaces

        def make() -> str:
            return f"[{','.join(interface.model_dump_json() for interface in interfaces)}]"

        return _json(self._bodies.of("interfaces", interfaces, make))

    async def _interface(self, request: web.Request) -> web.Response:
        key, status = request.match_info["key"], self._service.status()
        found = readiness.find_interface(status.interfaces, key)
        return _answer(found) if found else _error(404, _no_interface(status, key))

    async def _explanation(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        found = self._explain(key)
        return _answer(found) if found else _error(404, _no_interface(self._service.status(), key))

    async def _openapi(self, _: web.Request) -> web.Response:
        return _json(_schema())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        limit = self._limits.unprivileged_streams
        if self._is_privileged(request):
            limit = self._limits.streams
        if len(self._streams) >= limit:
            return _error(503, "too many event streams are open")
        stream = self._streams.open()
        self.underway.begin(endless=True)
        try:
            return await self._stream(request, stream)
        finally:
            self._streams.close(stream)

    async def _stream(self, request: web.Request, stream: Stream) -> web.StreamResponse:
        transport = request.transport
        response = web.StreamResponse(headers={"Content-Type": LINES})
        try:
            await response.prepare(request)  # a client that has the headers misses no event
            while True:
                self._timers.stop(transport)
                await stream.wait()
                self._timers.restart(transport)
                if stream.is_made or self._is_privileged(request):
                    await response.write(stream.some())
                    await asyncio.sleep(0)  # at the beginning, there is a line for each interface
                    continue
                async with self._turnstile:
                    await self._turnstile.step_back()
                    lines = stream.some()
                await response.write(lines)
        except ConnectionResetError:
            pass  # the client has disconnected
        return response

    # --- acting ------------------------------------------------------------------------------

    async def _reconcile(self, request: web.Request) -> web.Response:
        async def act(interface: str | None) -> web.Response:
            await self._service.reconcile(interface, adopt)
            return await self._status(request)

        try:
            adopt = [ip_address(text) for text in request.query.getall("adopt", [])]
        except ValueError as error:
            return _error(400, f"adopt: {error}")
        return await self._act(request, act)

    async def _release(self, request: web.Request) -> web.Response:
        async def act(interface: str | None) -> web.Response:
            released = await self._service.release(interface)
            return _answer(ReleasedAnswer.model_validate(released.as_json()))

        return await self._act(request, act)

    async def _act(
        self, request: web.Request, act: Callable[[str | None], Awaitable[web.Response]]
    ) -> web.Response:
        """Carry out a POST for the interface that it names, or the host. It needs privileges."""
        if self._key is None or not self._is_privileged(request):
            return _error(403, "only root and nicwatchd's own user may do this")
        if refusal := self._key.refusal(request.headers):
            return _error(403, refusal)
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


@cache
def _schema() -> bytes:
    """Read, not made: that takes 20 ms, in which the loop would do nothing else."""
    return SCHEMA.read_bytes()


def _no_interface(status: HostStatus, key: str) -> str:
    return str(UnknownInterfaceError(key, (each.name for each in status.interfaces)))


def _answer(model: BaseModel, *, failing: bool = False) -> web.Response:
    return _json(model.model_dump_json().encode(), 503 if failing else 200)


def _error(status: int, text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return _json(ErrorAnswer(error=text).model_dump_json().encode(), status, headers)


def _json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=in_pieces(body), status=status, headers=headers, content_type=JSON, charset="utf-8"
    )
