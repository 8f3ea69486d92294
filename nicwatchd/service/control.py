"""The sockets: HTTP over Unix sockets. `ROUTES` (routes.py) is what they answer.

Anyone on the host may connect to both. On the control socket, POST needs root or our own user, and
the key of post_key.py, which nobody behind a proxy has. The read-only socket refuses any POST,
whoever asks: it is the one for scrapers and proxies.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.http import HttpProcessingError

from nicwatchd.service.connections import CONTROL, IDLE, READ_ONLY, Gate, IdleTimers, Limits
from nicwatchd.service.explanation import Explain, nobody
from nicwatchd.service.handlers import Handlers, Service
from nicwatchd.service.post_key import PostKey
from nicwatchd.service.turnstile import Turnstile, never

SOCKET_NAME: Final = "nicwatchd.sock"
READ_ONLY_NAME: Final = "status.sock"  # beside the other
SHUTDOWN_TIMEOUT: Final = 1.0
# Connections that wait to be accepted, and how many are, in each round of the loop.
BACKLOG: Final = 1024
ACCEPTED: Final = 4
# Of one request: the longest line, the longest header, how many headers. Ours are far smaller.
LONGEST: Final = 4096
HEADERS: Final = 64
LINGER: Final = 1.0  # s; what a refused request still sends is read, or the answer would be lost


class Control:
    """Both sockets, and the key. `start` replaces the files of a daemon that has died.

    `is_busy`: whether a turn of the daemon is underway; unprivileged clients wait for its end.
    """

    def __init__(
        self,
        service: Service,
        path: Path,
        idle: float = IDLE,
        explain: Explain = nobody,
        is_busy: Callable[[], bool] = never,
    ) -> None:
        self.path = path
        self.read_only_path = path.with_name(READ_ONLY_NAME)
        self.key = PostKey(path.parent)
        self.turnstile = turnstile = Turnstile(is_busy)
        self.sockets = (
            Socket(service, path, CONTROL, idle, explain, turnstile, self.key),
            Socket(service, self.read_only_path, READ_ONLY, idle, explain, turnstile, None),
        )

    async def start(self) -> None:
        """Start serving. Raises OSError if a socket or the key cannot be created."""
        self.key.make()  # before anybody can connect
        for each in self.sockets:
            await each.start()

    async def close(self) -> None:
        """Stop serving."""
        for each in self.sockets:
            await each.close()
        self.key.remove()


class Socket:
    """The server of one socket. `key`: what a POST must carry; None: it is read-only."""

    def __init__(
        self,
        service: Service,
        path: Path,
        limits: Limits,
        idle: float,
        explain: Explain,
        turnstile: Turnstile,
        key: PostKey | None,
    ) -> None:
        self.path = path
        self.timers = IdleTimers(idle, limits.connections)
        self._limits = limits
        self._turnstile = turnstile
        self._handlers = Handlers(service, explain, self.timers, limits, turnstile, key)
        self._runner = web.AppRunner(
            self._handlers.application(),
            access_log=None,
            logger=_log(),
            shutdown_timeout=SHUTDOWN_TIMEOUT,
            handler_cancellation=True,  # a closed connection must not count as an open stream
            lingering_time=LINGER,
            max_line_size=LONGEST,
            max_field_size=LONGEST,
            max_headers=HEADERS,
        )
        self._listening: asyncio.Server | None = None

    async def start(self) -> None:
        """Start serving. Raises OSError if the socket cannot be created."""
        self.path.unlink(missing_ok=True)  # we hold the lock, so no other daemon uses it
        await self._runner.setup()
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(self.path))
            self.path.chmod(0o666)
            loop = asyncio.get_running_loop()
            self._listening = await loop.create_unix_server(
                self._gate, sock=listening, backlog=ACCEPTED
            )
        except BaseException:
            listening.close()
            raise
        listening.listen(BACKLOG)  # asyncio takes one number for both

    def _gate(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        assert server is not None, "set up by start"  # noqa: S101 (for the type checker)
        return Gate(server, self.timers, self._limits, self._turnstile)

    async def close(self) -> None:
        """Stop serving."""
        if self._listening:
            self._listening.close()
        await self._handlers.underway.end(SHUTDOWN_TIMEOUT)
        await self._runner.cleanup()
        self.path.unlink(missing_ok=True)


def _log() -> logging.Logger:
    """Logs our own errors only. A client that sends something that is not HTTP is not our error."""
    log = logging.getLogger(__name__)
    log.addFilter(_is_ours)
    return log


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
