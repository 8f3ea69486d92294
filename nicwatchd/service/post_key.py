"""The key that each POST must carry, beside the uid for which the kernel vouches.

A proxy lends its uid to everybody who reaches it. But it sends only what its client sends, and the
client of a proxy cannot read the key: it is in a file for root and the daemon's own user, and new
at each start.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

HEADER: Final = "Nicwatchd-Key"
NAME: Final = "post.key"  # in the runtime directory
LENGTH: Final = 32  # bytes of randomness
# Whoever sends one of these is a proxy (RFC 9110, RFC 7239, and what is common).
OF_PROXIES: Final = (
    *("Via", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"),
    *("X-Forwarded-Server", "X-Real-IP"),
)
PROXIED: Final = "a proxy may not forward this (header {name}); ask the socket itself"
MISSING: Final = (
    "the header {header} is missing, with the key in {path}: a nicwatchd command that is older "
    "than the daemon does not send it, so update the command"
)
WRONG: Final = (
    "the header {header} is not the key in {path}, which is new at each start: read it again"
)


class PostKey:
    """The key of a daemon that runs."""

    def __init__(self, runtime_directory: Path) -> None:
        self.path = runtime_directory / NAME
        self._value = ""

    def make(self) -> None:
        """Make a new key. Raises OSError if it cannot be written."""
        self._value = os.urandom(LENGTH).hex()
        new = self.path.with_suffix(".new")
        new.unlink(missing_ok=True)  # a daemon died here
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._value)
        new.replace(self.path)  # also one that belongs to another user: the directory is ours

    def remove(self) -> None:
        """Remove the file; we hold the lock, so it is no other daemon's."""
        self.path.unlink(missing_ok=True)

    def refusal(self, headers: Mapping[str, str]) -> str:
        """Why a POST with these headers (of any case) is refused; empty if it is not."""
        import hmac  # noqa: PLC0415 (takes 10 ms, and the command does without)

        for name in OF_PROXIES:
            if name in headers:
                return PROXIED.format(name=name)
        sent = headers.get(HEADER)
        if sent is None:
            return MISSING.format(header=HEADER, path=self.path)
        if not hmac.compare_digest(sent.encode(errors="replace"), self._value.encode()):
            return WRONG.format(header=HEADER, path=self.path)
        return ""


def read(runtime_directory: Path) -> str:
    """The key for a POST to the daemon; empty: we may not read it, or the daemon has none.

    A daemon of an older version has none. One that refuses what lacks the key says so itself.
    """
    with contextlib.suppress(OSError, ValueError):
        return (runtime_directory / NAME).read_text(encoding="ascii").strip()
    return ""
