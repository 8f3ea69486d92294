"""What systemd is told over its notification socket; nothing where there is none."""

from __future__ import annotations

import time

from systemd import daemon


def notify(*, status: str, ready: bool = False, watchdog: bool = False) -> None:
    """Tell the state: `status` is a line for people, `watchdog` that all parts have moved."""
    said = [f"STATUS={status}"]
    if ready:
        said.append("READY=1")
    if watchdog:
        said.append("WATCHDOG=1")
    daemon.notify("\n".join(said))


def reloading() -> None:
    """A reload began; `notify(ready=True)` ends it."""
    daemon.notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """The end began."""
    daemon.notify("STOPPING=1")
