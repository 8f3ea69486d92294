"""Notifications to systemd; without a notification socket, they do nothing."""

from __future__ import annotations

import contextlib
import time

from nicwatchd.service import protocols

try:
    from systemd.daemon import notify as _tell
except ImportError:  # as in journal.py
    _tell = protocols.notify


def _try(state: str) -> None:
    """Send it. Ignores failures, as sd_notify(3) advises: systemd notices what is missing."""
    with contextlib.suppress(OSError):
        _tell(state)


def notify(*, status: str, ready: bool = False, watchdog: bool = False) -> None:
    """Send the state. `status`: a line for people; `watchdog`: every part has made progress."""
    lines = [f"STATUS={status}"]
    if ready:
        lines.append("READY=1")
    if watchdog:
        lines.append("WATCHDOG=1")
    _try("\n".join(lines))


def reloading() -> None:
    """Report that a reload has begun; `notify(ready=True)` ends it."""
    _try(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """Report that the daemon is stopping."""
    _try("STOPPING=1")
