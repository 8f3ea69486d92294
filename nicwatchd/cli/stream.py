"""The daemon's events, one after the other, as long as it runs.

A minimal HTTP client, like `nicwatchd.cli.client`: in HTTP/1.0 the answer is the lines as they
come, until one of both hangs up.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

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


def events(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """Each event as it comes; ends when the daemon does. Raises DaemonError if it refuses."""
    with connection, connection.makefile("rb", RECEIVE) as lines:
        try:
            _read_head(lines.readline, connection)
            for line in lines:
                event = _event(line)
                if event is not None:
                    yield event
        except OSError:
            return  # it ended, or hung up on us


def _read_head(readline: Any, connection: socket.socket) -> None:
    first = readline().split(maxsplit=2)
    if len(first) < 2 or not first[0].startswith(b"HTTP/1.") or not first[1].isdigit():  # noqa: PLR2004
        raise DaemonError("the daemon's answer is not HTTP")
    while readline().strip():
        pass  # the headers
    connection.settimeout(SILENCE)
    if int(first[1]) != OK:
        error = _event(readline()) or {}
        raise DaemonError(str(error.get("error", f"the daemon answers {int(first[1])}")), NO_DAEMON)


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None  # cut short
    return event if isinstance(event, dict) else None
