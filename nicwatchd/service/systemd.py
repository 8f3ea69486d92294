"""What systemd is told over its notification socket; nothing where there is none."""

from __future__ import annotations

import contextlib
import time

from nicwatchd.service import protocols

try:
    from systemd.daemon import notify as _tell
except ImportError:  # as in journal.py
    _tell = protocols.notify


def _try(state: str) -> None:
    """Tell it. Like sd_notify(3) advises, no failure of that is ours: systemd acts on silence."""
    with contextlib.suppress(OSError):
        _tell(state)


def notify(*, status: str, ready: bool = False, watchdog: bool = False) -> None:
    """Tell the state: `status` is a line for people, `watchdog` that all parts have moved."""
    said = [f"STATUS={status}"]
    if ready:
        said.append("READY=1")
    if watchdog:
        said.append("WATCHDOG=1")
    _try("\n".join(said))


def reloading() -> None:
    """A reload began; `notify(ready=True)` ends it."""
    _try(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """The end began."""
    _try("STOPPING=1")
