"""What systemd is told over its notification socket; nothing where there is none."""

from __future__ import annotations

import time

from nicwatchd.service import protocols

try:
    from systemd.daemon import notify as _tell
except ImportError:  # as in journal.py
    _tell = protocols.notify


def notify(*, status: str, ready: bool = False, watchdog: bool = False) -> None:
    """Tell the state: `status` is a line for people, `watchdog` that all parts have moved."""
    said = [f"STATUS={status}"]
    if ready:
        said.append("READY=1")
    if watchdog:
        said.append("WATCHDOG=1")
    _tell("\n".join(said))


def reloading() -> None:
    """A reload began; `notify(ready=True)` ends it."""
    _tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """The end began."""
    _tell("STOPPING=1")
