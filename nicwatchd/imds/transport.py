"""One bounded HTTP request. However it ends, the result is a `Reply` or a `Failure`.

The bounds: no redirects, no proxy from the environment, no cookies, a time limit for each step, a
body of at most 64 KiB, and the host's request budget.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

import aiohttp

from nicwatchd.imds.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from nicwatchd.imds.budget import Budget

# 64 addresses of 40 characters in two families are 5 KiB; a longer body is not metadata.
BODY_LIMIT: Final = 64 * 1024

# In the steady state there is one request a minute: connections are kept open for longer than that.
KEEPALIVE: Final = 90.0

# IMDS answers in a few milliseconds; the total time limit is 5 s by default.
DURATIONS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)

# The fwmark that systemd (v261) exempts when it locks IMDS with a prohibit route.
SYSTEMD_IMDS_MARK: Final = 0x7FFF0815


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to open a connection, to wait for bytes each time, and for the whole request."""

    connect: float = 1.0
    read: float = 2.0
    total: float = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer. The repr leaves out the body, which may be a token."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """No usable answer. `lost`: the connection failed, so the endpoint may be dead."""

    why: str
    lost: bool


class Transport:
    """The HTTP sessions that all requests share (keep-alive). `requests` counts those sent.

    There is one session for requests that follow the host's routes, and one for each link that
    requests were bound to: a connection never serves two of them.
    """

    def __init__(self, timeouts: Timeouts, budget: Budget) -> None:
        self._timeouts = timeouts
        self._budget = budget
        self._mark = False
        self._sessions: dict[str | None, aiohttp.ClientSession] = {}  # by the link bound to
        self.requests = 0
        self.outcomes: Counter[str] = Counter()  # by HTTP status; "none": no usable answer
        self.durations = Histogram(DURATIONS)  # of all requests, in s, however they ended
        self.last_request: float | None = None  # when one was sent, Unix epoch
        self.last_success: float | None = None  # when one had a 200

    async def __aenter__(self) -> Self:
        self._sessions[None] = self._open(None)
        return self

    def _open(self, device: str | None) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=16, keepalive_timeout=KEEPALIVE, socket_factory=partial(self._socket, device)
            ),
            timeout=aiohttp.ClientTimeout(
                total=self._timeouts.total,
                sock_connect=self._timeouts.connect,
                sock_read=self._timeouts.read,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,  # a small body must not decompress into a large one
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], device: str | None = None
    ) -> Reply | Failure:
        """Send one request as soon as the budget allows. Never raises because of the network.

        `device`: the link that the request is bound to, by its name; None: the host's routes decide
        where it leaves.
        """
        if device is not None and (why := _why_not_bound(device)):
            return Failure(why, lost=True)
        delay = self._budget.reserve(patience=self._timeouts.total)
        if delay is None:
            return Failure("the host's request budget is used up", lost=False)
        if delay > 0:
            await asyncio.sleep(delay)
        outcome = await self._attempt(method, url, headers, device)
        if isinstance(outcome, OSError) and outcome.errno == errno.EACCES and not self._mark:
            self._mark = True
            outcome = await self._attempt(method, url, headers, device)
        if isinstance(outcome, OSError):
            return Failure(_explain_os_error(outcome), lost=True)
        return outcome

    async def _attempt(
        self, method: str, url: str, headers: Mapping[str, str], device: str | None
    ) -> Reply | Failure | OSError:
        self.requests += 1
        self.last_request = time.time()
        began = time.monotonic()
        outcome = await self._try(method, url, headers, device)
        self.durations.observe(time.monotonic() - began)
        if isinstance(outcome, Reply) and outcome.status == HTTPStatus.OK:
            self.last_success = time.time()
        self.outcomes[str(outcome.status) if isinstance(outcome, Reply) else "none"] += 1
        return outcome

    async def _try(
        self, method: str, url: str, headers: Mapping[str, str], device: str | None
    ) -> Reply | Failure | OSError:
        try:
            return await self._exchange(method, url, headers, device)
        except TimeoutError as error:
            return Failure(self._timed_out(error), lost=True)
        except aiohttp.ServerDisconnectedError:
            return Failure("connection closed without an answer", lost=True)
        except aiohttp.ClientPayloadError:
            return Failure("the body ended early", lost=False)
        except OSError as error:
            return error
        except (aiohttp.ClientError, ValueError) as error:
            # The text of these errors may contain what the server sent: report only their type.
            return Failure(f"not understood ({type(error).__name__})", lost=False)

    def _timed_out(self, error: TimeoutError) -> str:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return f"no connection after {self._timeouts.connect:g} s"
        if isinstance(error, aiohttp.SocketTimeoutError):
            return f"timed out after {self._timeouts.read:g} s"
        return f"timed out after {self._timeouts.total:g} s"

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], device: str | None
    ) -> Reply | Failure:
        if None not in self._sessions:
            raise RuntimeError("Transport is used outside its `async with`")
        if device not in self._sessions:
            self._sessions[device] = self._open(device)
        async with self._sessions[device].request(
            method,
            url,
            headers={"Accept-Encoding": "identity", **headers},
            allow_redirects=False,
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > BODY_LIMIT:
                    response.close()  # and with it the connection: the rest is not worth reading
                    return Failure(f"the body is larger than {BODY_LIMIT // 1024} KiB", lost=False)
            return Reply(response.status, response.headers, bytes(body))

    def _socket(self, device: str | None, info: aiohttp.AddrInfoType) -> socket.socket:
        opened = socket.socket(*info[:3])
        opened.setblocking(False)  # noqa: FBT003 - the parameter takes no name
        try:
            if device is not None:
                _bind(opened, device)
            if self._mark:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, SYSTEMD_IMDS_MARK)
        except OSError:
            opened.close()
            raise
        return opened


def _bind(opened: socket.socket, device: str) -> None:
    """Bind a socket to a link, so that only routes through the link count.

    Since Linux 5.7 this needs no capability for a socket that is not bound yet; before that, it
    needs CAP_NET_RAW, which the daemon does not have.
    """
    name = device.encode(errors="surrogateescape")
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name)


def _why_not_bound(device: str) -> str:
    """Why no socket can be bound to a link; empty if one can."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as tried:
        try:
            _bind(tried, device)
        except PermissionError:
            return "this kernel lets only CAP_NET_RAW bind to a link (Linux 5.7 and later lets all)"
        except OSError as error:
            return os.strerror(error.errno or 0).lower()
    return ""


def _explain_os_error(error: OSError) -> str:
    code = error.errno
    if code in {errno.EACCES, errno.EPERM}:
        return "permission denied: a prohibit route or a firewall locks IMDS (systemd-imdsd?)"
    return os.strerror(code).lower() if code else "connection failed"
