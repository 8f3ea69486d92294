"""Files that commands write: what they are called, and who may read them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO


def named(what: str, ending: str, now: Callable[[], datetime] | None = None) -> Path:
    """`nicwatchd-WHAT-20261126T101500Z.ENDING` in this directory."""
    at = now() if now else datetime.now(UTC)
    return Path(f"nicwatchd-{what}-{at:%Y%m%dT%H%M%SZ}.{ending}")


def create(path: Path) -> IO[bytes]:
    """A new file that only its owner may read; an older one is replaced. Raises OSError."""
    path.unlink(missing_ok=True)
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(opened, "wb", buffering=0)
