"""Entries on their way to systemd-journald, or to standard error.

journald may be stopped, with its socket full. Then a blocking send would stop the loop, and with it
all healing. So what cannot be sent waits here, up to a bound, until journald reads again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

from nicwatchd.service import protocols
from nicwatchd.service.journal import DEBUG, ENTRIES_LOST, WARNING

IDENTIFIER: Final = "nicwatchd"
# Bytes that wait at most; the oldest entries go first, so that the last state of each interface is
# kept. An entry about an interface has some KiB.
WAITING: Final = 1 << 20


class Outlet(Protocol):
    """A `journal.Sink`. `lost`: how many entries were given up since the start."""

    lost: int

    def __call__(
        self, message_id: UUID, message: str, priority: int, fields: Mapping[str, str]
    ) -> None:
        """Write one entry; never waits for its reader, never raises OSError."""

    def close(self) -> None:
        """Close it; what waits is lost."""


def outlet() -> Outlet:
    """Journald if it is running, else standard error."""
    return ToJournald() if protocols.JOURNAL.exists() else ToStderr()


class ToStderr:
    """Writes the message as one line to standard error, without the fields."""

    lost = 0

    def __call__(
        self, message_id: UUID, message: str, priority: int, fields: Mapping[str, str]
    ) -> None:
        """See `Outlet`."""
        del message_id, fields
        _complain(message, priority)

    def close(self) -> None:
        """See `Outlet`."""


class ToJournald:
    """Sends entries to journald, in order, and never waits for it."""

    def __init__(self, path: Path = protocols.JOURNAL) -> None:
        self.lost = 0
        self._path = path
        self._untold = 0  # of those that are lost
        self._waiting: deque[bytes] = deque()
        self._size = 0  # bytes of those
        self._socket: socket.socket | None = None
        self._watched: tuple[asyncio.AbstractEventLoop, socket.socket] | None = None

    def __call__(
        self, message_id: UUID, message: str, priority: int, fields: Mapping[str, str]
    ) -> None:
        """See `Outlet`."""
        self._keep(_entry(message_id, message, priority, fields))
        try:
            self._send_waiting()
        except OSError:  # there is no journald, or no memory: no reason to exit
            self._disconnect()
            if not _stderr_is_the_journal():
                self._drop()
                _complain(message, priority)

    def close(self) -> None:
        """See `Outlet`."""
        self._disconnect()

    def _keep(self, entry: bytes) -> None:
        self._waiting.append(entry)
        self._size += len(entry)
        while self._size > WAITING and len(self._waiting) > 1:
            self._drop()
            self.lost += 1
            self._untold += 1

    def _drop(self) -> None:
        """Drop the oldest entry."""
        self._size -= len(self._waiting.popleft())

    def _send_waiting(self) -> None:
        """Send what waits, the oldest first, until the socket is full. Raises OSError."""
        if self._socket is None:
            self._socket = protocols.journal_connect(self._path)
        try:
            if self._untold:
                protocols.journal_put(self._socket, _loss(self._untold))
                self._untold = 0
            while self._waiting:
                protocols.journal_put(self._socket, self._waiting[0])
                self._drop()
        except BlockingIOError:
            self._watch(self._socket)
        else:
            self._unwatch()

    def _watch(self, full: socket.socket) -> None:
        """Go on once journald has read; without a loop, with the next entry."""
        if self._watched is None:
            with contextlib.suppress(RuntimeError):
                loop = asyncio.get_running_loop()
                loop.add_writer(full, self._go_on)
                self._watched = (loop, full)

    def _unwatch(self) -> None:
        if self._watched:
            loop, full = self._watched
            loop.remove_writer(full)
            self._watched = None

    def _go_on(self) -> None:
        try:
            self._send_waiting()
        except OSError:  # it has ended: with the next entry again
            self._disconnect()

    def _disconnect(self) -> None:
        self._unwatch()
        if self._socket:
            self._socket.close()
            self._socket = None


def _entry(message_id: UUID, message: str, priority: int, fields: Mapping[str, str]) -> bytes:
    return protocols.journal_entry(
        {
            "MESSAGE": message,
            "MESSAGE_ID": message_id.hex,
            "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            **fields,
        }
    )


def _loss(number: int) -> bytes:
    what = "1 entry was" if number == 1 else f"{number} entries were"
    text = f"{what} lost while the journal took none; status and metrics missed nothing"
    return _entry(ENTRIES_LOST, text, WARNING, {"NICWATCHD_LOST": str(number)})


def _complain(message: str, priority: int) -> None:
    if priority < DEBUG:
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


def _stderr_is_the_journal() -> bool:
    """Whether standard error leads to journald, too: then it would block as well (systemd.exec)."""
    with contextlib.suppress(OSError, ValueError):
        there = os.fstat(sys.stderr.fileno())
        return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"
    return False
