"""The daemon's events, one after the other, as long as it runs.

A minimal HTTP client, like `nicwatchd.cli.client`: in HTTP/1.0 the answer is the lines as they
come, until one of both hangs up.
"""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from nicwatchd.cli.client import DaemonError
from nicwatchd.cli.output import NO_DAEMON, NO_RIGHT

CONNECT_TIMEOUT: Final = 5.0  # s, also for the first line of the answer
SILENCE: Final = None  # events may be far apart
RECEIVE: Final = 1 << 16
OK: Final = 200


class NotRunningError(Exception):
    """Nothing listens on the socket (yet)."""


def connect(where: Path) -> socket.socket:
    """A stream of events that has begun. Raises NotRunningError, DaemonError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_TIMEOUT)
        connection.connect(str(where))
        connection.sendall(b"GET /v1/events HTTP/1.0\r\n\r\n")
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise NotRunningError(f"nothing listens on {where}") from None
    except PermissionError:
        connection.close()
        raise DaemonError(f"{where}: permission denied", NO_RIGHT) from None
    except OSError as error:
        connection.close()
        raise DaemonError(f"{where}: no answer: {error}") from None
    return connection


def events(connection: socket.socket, reader: TextIO | None = None) -> Iterator[dict[str, Any]]:
    """Each event as it comes; ends when the daemon does. Raises DaemonError if it refuses.

    `reader`: where the events go. Raises BrokenPipeError once nobody reads there any more: the
    next event, which would show it, may be hours away.
    """
    with connection:
        lines = _lines(connection, _watched(reader))
        try:
            _read_head(lines, connection)
            for line in lines:
                event = _event(line)
                if event is not None:
                    yield event
        except BrokenPipeError:
            raise
        except OSError:
            return  # it ended, or hung up on us


def _watched(reader: TextIO | None) -> int | None:
    """The descriptor to watch; None where there is none."""
    try:
        return None if reader is None else reader.fileno()
    except (OSError, ValueError):
        return None


def _lines(connection: socket.socket, reader: int | None) -> Iterator[bytes]:
    """What the daemon sends, line by line. Raises OSError; BrokenPipeError as `events` does."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    if reader is not None:
        poll.register(reader, 0)  # errors are told in any case
    rest = b""
    while True:
        limit = connection.gettimeout()
        ready = dict(poll.poll(None if limit is None else limit * 1000))
        if reader in ready:
            raise BrokenPipeError
        if not ready:
            raise TimeoutError
        data = connection.recv(RECEIVE)
        *whole, rest = (rest + data).split(b"\n")
        yield from whole
        if not data:
            yield rest
            return


def _read_head(lines: Iterator[bytes], connection: socket.socket) -> None:
    first = next(lines, b"").split(maxsplit=2)
    if len(first) < 2 or not first[0].startswith(b"HTTP/1.") or not first[1].isdigit():  # noqa: PLR2004
        raise DaemonError("the daemon's answer is not HTTP")
    while next(lines, b"").strip():
        pass  # the headers
    connection.settimeout(SILENCE)
    if int(first[1]) != OK:
        error = _event(next(lines, b"")) or {}
        raise DaemonError(str(error.get("error", f"the daemon answers {int(first[1])}")), NO_DAEMON)


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None  # cut short
    return event if isinstance(event, dict) else None
