"""A simulated IMDSv2 over HTTP, with the lag and the faults of a scenario.

It runs in the caller's event loop, on addresses or on sockets that are already bound (in another
network namespace, for example). Tests control it with `plug`, `step`, `advance`, `fault` and
`clear`, and wait for requests with `wait_for`; they need no sleep.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from aiohttp import web

from nicwatchd.sim.script import DOS, FOREVER, Do, EniScript, Fault, Scenario, Step
from nicwatchd.sim.tree import Host, below_version, kind, lookup

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - a path
TTL_HEADER: Final = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER: Final = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
TTL_MAX: Final = 21600

LOG_LENGTH: Final = 100_000
BIG: Final = 70 * 1024
SLOW_PAUSE: Final = 0.2  # seconds between the bytes of a slow answer

# The status that a fault answers; faults not listed answer the correct one. 0: no HTTP answer.
_STATUS: Final[dict[str, int]] = {
    **{do: int(do) for do in DOS if do.isdecimal()},
    **dict.fromkeys(("timeout", "refuse", "reset"), 0),
    **dict.fromkeys(("garbage", "big"), 200),
    "redirect": 302,
}

# SO_LINGER with a timeout of 0: close() sends a RST instead of a FIN.
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Request:
    """One entry of the log. `status` is 0 if a fault prevented an HTTP answer."""

    at: float  # by the server's clock: monotonic
    method: str
    path: str
    status: int
    fault: Do | None = None


@dataclass(slots=True)
class _Plugged:
    """A plugged ENI: its script, when it was plugged, and the steps that a test added."""

    script: EniScript
    since: float
    steps: list[Step]


class ImdsServer:
    """The server and its controls. ENI times count from `plug`, fault times from `start`."""

    def __init__(self, scenario: Scenario, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.scenario = scenario
        self.log: deque[Request] = deque(maxlen=LOG_LENGTH)
        self._clock = clock
        self._started = clock()
        self._plugged: dict[str, _Plugged] = {}
        self._tokens: dict[str, float] = {}  # token -> when it expires
        self._faults: dict[Fault, asyncio.Event] = {}  # the event is set when the fault ends
        self._tripped: set[Fault] = set()  # "refuse" on a path takes effect at its first request
        self._http = web.Server(self._handle, access_log=None)
        self._listeners: list[_Listener] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._news = asyncio.Event()

    # --- start and stop ---------------------------------------------------------------------

    async def start(self, *where: socket.socket | tuple[str, int]) -> None:
        """Serve on (host, port) pairs and on bound sockets, which the server will close."""
        for place in where:
            bound = place if isinstance(place, socket.socket) else _bind(*place)
            self._listeners.append(_Listener(bound, self._http))
        self._started = self._clock()
        for eni in self.scenario.enis:
            if eni.mac == self.scenario.mac:
                self.plug(eni.name)
        loop = asyncio.get_running_loop()
        for fault in self.scenario.faults:
            shifted = replace(
                fault, start=self._started + fault.start, end=self._started + fault.end
            )
            self._faults[shifted] = asyncio.Event()
            times = (fault.start, fault.end) if fault.do == "refuse" else ()
            self._timers += [
                loop.call_later(at, self._sync_listeners) for at in times if at < FOREVER
            ]
        self._sync_listeners()

    async def stop(self) -> None:
        """Close all sockets and connections."""
        for timer in self._timers:
            timer.cancel()
        for listener in self._listeners:
            await listener.close()
        for over in self._faults.values():
            over.set()
        self._drop_connections()
        await self._http.shutdown(timeout=1.0)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The URLs served, in the order of `start`."""
        return tuple(listener.url for listener in self._listeners)

    # --- controls ---------------------------------------------------------------------------

    def plug(self, eni: str | EniScript) -> None:
        """Start the timeline of an ENI: by name one of the scenario, or a new one."""
        script = self.scenario.eni(eni) if isinstance(eni, str) else eni
        self._plugged[script.name] = _Plugged(script, self._clock(), [])

    def unplug(self, name: str) -> None:
        """Remove an ENI. IMDS stops listing it at once."""
        del self._plugged[name]

    def change(self, script: EniScript) -> None:
        """Replace the script of a plugged ENI (by its name); its timeline continues."""
        self._plugged[script.name].script = script

    def step(
        self,
        name: str,
        *,
        complete: bool = False,
        listed: bool | None = None,
        hide: set[str] | None = None,
        lag: set[str] | None = None,
        texts: dict[str, str] | None = None,
    ) -> None:
        """Change what IMDS says about an ENI, now. The arguments mean the same as in `Step`."""
        plugged = self._plugged[name]
        plugged.steps.append(
            Step(
                at=self._clock() - plugged.since,
                complete=complete,
                listed=listed,
                hide=None if hide is None else frozenset(hide),
                lag=None if lag is None else frozenset(lag),
                set=texts or {},
            )
        )

    def advance(self, name: str, seconds: float) -> None:
        """Move the timeline of one ENI forward."""
        self._plugged[name].since -= seconds

    def complete_at(self, name: str) -> float:
        """The monotonic time of the last scripted step of a plugged ENI."""
        plugged = self._plugged[name]
        return plugged.since + plugged.script.complete_at()

    def fault(self, on: str, do: Do, *, retry_after: str | None = None) -> Fault:
        """Start a fault now; it lasts until it is cleared."""
        fault = Fault(on, do, start=self._clock(), retry_after=retry_after)
        self._faults[fault] = asyncio.Event()
        self._sync_listeners()
        return fault

    def clear(self, fault: Fault | None = None) -> None:
        """End one fault, or all of them."""
        for ended in [fault] if fault else list(self._faults):
            self._faults.pop(ended).set()
            self._tripped.discard(ended)
        self._sync_listeners()

    def expire_tokens(self) -> None:
        """Forget all tokens: the next GETs answer 401."""
        self._tokens.clear()

    async def wait_for(self, predicate: Callable[[deque[Request]], bool]) -> None:
        """Return once the predicate is true for the log."""
        while not predicate(self.log):
            self._news.clear()
            await self._news.wait()

    # --- answers ----------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        what = "token" if path == TOKEN_PATH else kind(below_version(path) or "")
        fault = self._fault_on(what)
        right = self._token(request) if what == "token" else self._read(request)
        do = fault.do if fault else None
        status = right.status if do is None else _STATUS.get(do, right.status)
        self.log.append(Request(self._clock(), request.method, path, status, do))
        self._news.set()
        if fault is None:
            return right
        return await self._fail(fault, request, right)

    def _token(self, request: web.BaseRequest) -> web.Response:
        if request.method != "PUT":
            return _error(405)
        if "X-Forwarded-For" in request.headers:  # EC2 refuses proxies
            return _error(403)
        ttl = request.headers.get(TTL_HEADER, "")
        if not (ttl.isdecimal() and 1 <= int(ttl) <= TTL_MAX):
            return _error(400)
        token = secrets.token_urlsafe(40) + "=="
        self._tokens[token] = self._clock() + int(ttl)
        return web.Response(text=token, headers={TTL_HEADER: ttl})

    def _read(self, request: web.BaseRequest) -> web.Response:
        if request.method not in {"GET", "HEAD"}:
            return _error(405)
        if self._clock() >= self._tokens.get(request.headers.get(TOKEN_HEADER, ""), 0.0):
            return _error(401)
        path = below_version(request.path)
        text = None if path is None else lookup(self._host(), path)
        return _error(404) if text is None else web.Response(text=text)

    def _host(self) -> Host:
        now = self._clock()
        enis = {}
        for plugged in self._plugged.values():
            keys = plugged.script.at(now - plugged.since, plugged.steps)
            if keys is not None:
                enis[plugged.script.directory] = keys
        return Host(self.scenario.mac, enis)

    # --- faults -----------------------------------------------------------------------------

    def _active(self) -> list[Fault]:
        now = self._clock()
        return [fault for fault in self._faults if fault.start <= now < fault.end]

    def _fault_on(self, what: str) -> Fault | None:
        return next((fault for fault in self._active() if fault.hits(what)), None)

    async def _fail(
        self, fault: Fault, request: web.BaseRequest, right: web.Response
    ) -> web.StreamResponse:
        match fault.do:
            case "timeout":
                await self._until_over(fault)
                _cut(request, "close")
            case "reset":
                _cut(request, "reset")
            case "refuse":
                self._tripped.add(fault)
                self._sync_listeners()
            case "half" | "slow":
                return await _dribble(request, right, fault.do)
            case "garbage":
                return web.Response(body=b"\x00\xff<html>\n\xfe\x01: not what you asked for\n")
            case "big":
                return web.Response(text="x" * BIG)
            case "redirect":
                return web.Response(status=302, headers={"Location": "/latest/meta-data/mac"})
            case status:
                return _error(int(status), fault.retry_after)
        return right  # without effect: the connection is closed

    async def _until_over(self, fault: Fault) -> None:
        lasts = None if fault.end == FOREVER else fault.end - self._clock()
        try:
            async with asyncio.timeout(lasts):
                await self._faults[fault].wait()
        except TimeoutError:
            return

    def _sync_listeners(self) -> None:
        """Refuse connections while a fault says so, and accept them otherwise."""
        refuse = any(
            fault.do == "refuse" and (fault.on in {"token", "all"} or fault in self._tripped)
            for fault in self._active()
        )
        for listener in self._listeners:
            listener.accept(not refuse)
        if refuse:
            self._drop_connections()

    def _drop_connections(self) -> None:
        for connection in list(self._http.connections):
            if connection.transport is not None:
                connection.transport.abort()


class _Listener:
    """A bound socket that can switch between listening and refusing.

    It is never closed in between, because a socket of another namespace could not be bound again
    from here. On Linux, `shutdown` stops a socket from listening while it keeps its port, and
    `listen` starts it again. asyncio's servers close their sockets, so this class accepts itself.
    """

    def __init__(self, bound: socket.socket, http: web.Server) -> None:
        bound.setblocking(False)  # noqa: FBT003 - the parameter takes no name
        self._bound = bound
        self._http = http
        self._listening = False
        self._handshakes: set[asyncio.Task[object]] = set()

    @property
    def url(self) -> str:
        host, port = self._bound.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def accept(self, yes: bool) -> None:  # noqa: FBT001 - the method's name says what it means
        if yes == self._listening:
            return
        self._listening = yes
        loop = asyncio.get_running_loop()
        if yes:
            self._bound.listen(128)
            loop.add_reader(self._bound, self._take)
        else:
            loop.remove_reader(self._bound)
            self._bound.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        self.accept(False)  # noqa: FBT003 - as above
        self._bound.close()
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _take(self) -> None:
        """Accept one connection; the event loop calls this again while there are more."""
        try:
            connection, _ = self._bound.accept()
        except (BlockingIOError, ConnectionError):
            return  # the client has given up in the meantime
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object] = loop.create_task(
            loop.connect_accepted_socket(self._http, connection)
        )
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)


def _bind(host: str, port: int) -> socket.socket:
    """A socket bound to an explicit port. If the kernel chose the port, bind to it again by number.

    Only then does the socket keep its port while it refuses. Sockets that the caller passes in must
    be bound to an explicit port too.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((host, port))
    if port == 0:
        with bound:  # two sockets may share a port as long as neither listens
            return _bind(host, bound.getsockname()[1])
    return bound


def _error(status: int, retry_after: str | None = None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    text = f'<?xml version="1.0"?><html><head><title>{status}</title></head></html>'
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


def _cut(request: web.BaseRequest, how: Literal["reset", "close"]) -> None:
    transport = request.transport
    if transport is None:
        return
    if how == "reset":
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


async def _dribble(
    request: web.BaseRequest, right: web.Response, how: Literal["half", "slow"]
) -> web.StreamResponse:
    """Send half of an answer and close, or all of it a byte at a time."""
    body = (right.text or "x").encode()
    response = web.StreamResponse(status=right.status)
    response.content_length = len(body)
    await response.prepare(request)
    if how == "half":
        await response.write(body[: len(body) // 2])
        if request.transport is not None:
            request.transport.close()
        return response
    with suppress(ConnectionResetError):  # the client has given up
        for byte in body:
            await response.write(bytes([byte]))
            await asyncio.sleep(SLOW_PAUSE)
    return response
