"""systemd's protocols, implemented for hosts without the systemd module (systemd-python).

Sources: sd_notify(3), and "Native Journal Protocol" and "Journal JSON Format" in systemd's
documentation. They are stable interfaces.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from errno import EMSGSIZE
from pathlib import Path
from typing import Any, Final

JOURNAL: Final = Path("/run/systemd/journal/socket")
# journald accepts a memory file only if it can no longer be changed.
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def notify(state: str) -> None:
    """Send a notification to systemd; nothing if NOTIFY_SOCKET is not set. Raises OSError."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect(address)
        sender.sendall(state.encode())


def journal_connect(path: Path = JOURNAL) -> socket.socket:
    """A socket to journald, which never waits. Raises OSError."""
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    sender = socket.socket(socket.AF_UNIX, kind)
    try:
        sender.connect(str(path))
    except OSError:
        sender.close()
        raise
    return sender


def journal_entry(fields: Mapping[str, str]) -> bytes:
    """One entry, as it is sent."""
    return b"".join(_field(name, value) for name, value in fields.items())


def journal_put(sender: socket.socket, entry: bytes) -> None:
    """Send one entry, a large one as a memory file.

    Raises OSError; BlockingIOError if journald's socket is full.
    """
    try:
        sender.sendall(entry)
    except OSError as error:
        if error.errno != EMSGSIZE:
            raise
        _send_as_file(sender, entry)


def _field(name: str, value: str) -> bytes:
    """One field: NAME=value; a value with line breaks is preceded by its length instead."""
    data = value.encode()
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"


def _send_as_file(sender: socket.socket, entry: bytes) -> None:
    descriptor = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(descriptor, "wb") as file:
        file.write(entry)
        file.flush()
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
        socket.send_fds(sender, [b""], [file.fileno()])


def journal_entries(
    matches: Sequence[str], options: Sequence[str] = ("--boot",)
) -> Iterator[dict[str, Any]]:
    """The matching entries, the oldest first. Matches of one field are ORed, of several ANDed.

    Raises OSError if there is no journalctl, and subprocess.CalledProcessError if it fails.
    """
    # Without --all, fields of more than 4096 bytes are null.
    command = ["journalctl", "--quiet", "--output=json", "--all", *options, *matches]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError):  # cut short, by a full disk say
            yield json.loads(line)
