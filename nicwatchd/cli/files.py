"""Files that commands write: what they are called, and who may read them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from nicwatchd.service.files import replacing


def time_of_day() -> datetime:
    """What time it is, for names and for dates of files."""
    return datetime.now(UTC)


def named(what: str, ending: str, at: datetime) -> Path:
    """`nicwatchd-WHAT-20261126T101500Z.ENDING` in this directory."""
    return Path(f"nicwatchd-{what}-{at:%Y%m%dT%H%M%SZ}.{ending}")


def create(path: Path) -> IO[bytes]:
    """A new file that only its owner may read, in the place of an older one. Raises OSError."""
    if _is_file(path):
        path.unlink()
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    return os.fdopen(opened, "wb", buffering=0)


@contextlib.contextmanager
def replace(path: Path) -> Iterator[IO[bytes]]:
    """As `create`, but an older file stays until the new one is complete. Raises OSError."""
    _is_file(path)
    with replacing(path, 0o600) as file:
        yield file


def _is_file(path: Path) -> bool:
    """Whether there is a file, or a link, that can be replaced. Raises OSError for what is none."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):  # /dev/stdout, say
        raise OSError(errno.EEXIST, "exists, and is no file")
    return True
