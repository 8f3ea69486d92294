"""Requests to the daemon.

A minimal HTTP client for the control socket: importing an HTTP library (http.client 30 ms, aiohttp
130 ms) would take longer than the request.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Final

from nicwatchd.cli.output import NO_DAEMON, NO_INTERFACE, NO_RIGHT, NOT_WELL, USAGE
from nicwatchd.service.post_key import HEADER, read

TIMEOUT: Final = 5.0  # s; a daemon that is not stuck answers in milliseconds
ACT_TIMEOUT: Final = 30.0  # s; the daemon waits up to 20 s for IMDS or the kernel
RECEIVE: Final = 1 << 16
BAD_REQUEST: Final = 400
DEAD, HANGS, SILENT = "does not run", "hangs", "does not answer"
# Exit codes by HTTP status. 503 comes with an error from a daemon that is stopping.
CODES: Final = {400: USAGE, 403: NO_RIGHT, 404: NO_INTERFACE, 503: NO_DAEMON}


class DaemonError(Exception):
    """The daemon did not answer, or refused: a line for the operator, and the exit code.

    `state` says what the daemon does: it runs not at all, or hangs, or gives no valid answer.
    """

    def __init__(self, text: str, code: int = NO_DAEMON, state: str = SILENT) -> None:
        super().__init__(text)
        self.code = code
        self.state = state


def ask(runtime_directory: Path, method: str, path: str, timeout: float = TIMEOUT) -> Any:
    """The daemon's answer to one request. Raises DaemonError."""
    where = runtime_directory / "nicwatchd.sock"
    try:
        status, document = _exchange(where, method, path, timeout)
    except (FileNotFoundError, ConnectionRefusedError):
        raise DaemonError(
            f"the daemon is not running (nothing listens on {where}); "
            "start it: sudo systemctl start nicwatchd",
            state=DEAD,
        ) from None
    except PermissionError:
        raise DaemonError(f"{where}: permission denied", NO_RIGHT) from None
    except TimeoutError:
        text = f"the daemon hangs: no answer on {where} within {timeout:g} s"
        advice = "restart it: sudo systemctl restart nicwatchd"
        raise DaemonError(f"{text}; {advice}", state=HANGS) from None
    except (OSError, ValueError) as error:
        raise DaemonError(f"{where}: no answer: {error}") from None
    if status >= BAD_REQUEST and "error" in document:
        raise DaemonError(str(document["error"]), CODES.get(status, NOT_WELL))
    return document


def _exchange(where: Path, method: str, path: str, timeout: float) -> tuple[int, Any]:
    """Send a request without a body; returns the status and the JSON document.

    In HTTP/1.0, the answer ends when the server closes the connection. Raises OSError, and
    ValueError if the answer is not HTTP with JSON.
    """
    with _connected(where, timeout) as connection:
        # Read now, it is the key of the daemon that we are connected to: a new one makes a new key
        # before it listens.
        key = read(where.parent) if method == "POST" else ""
        header = f"{HEADER}: {key}\r\n" if key else ""
        connection.sendall(f"{method} {path} HTTP/1.0\r\n{header}\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(RECEIVE), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1."):
        raise ValueError("the answer is not HTTP")
    return int(head.split(maxsplit=2)[1]), json.loads(body)


def connect(runtime_directory: Path, timeout: float) -> socket.socket:
    """A connection to the daemon. Raises OSError."""
    return _connected(runtime_directory / "nicwatchd.sock", timeout)


def _connected(where: Path, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(str(where))
    except BaseException:
        connection.close()
        raise
    return connection


def query(interface: str | None) -> str:
    """The query string that names an interface; empty for the whole host."""
    if interface is None:
        return ""
    from urllib.parse import quote

    return f"?interface={quote(interface, safe='')}"


def fetch(runtime_directory: Path, path: str, timeout: float = TIMEOUT) -> str:
    """The text that the daemon answers to a GET, whatever its HTTP status. Raises DaemonError."""
    where = runtime_directory / "nicwatchd.sock"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(where))
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(RECEIVE), b""))
    except (FileNotFoundError, ConnectionRefusedError):
        raise DaemonError(f"the daemon is not running (nothing listens on {where})") from None
    except OSError as error:
        raise DaemonError(f"{where}: no answer: {error}") from None
    return answer.partition(b"\r\n\r\n")[2].decode(errors="backslashreplace")
