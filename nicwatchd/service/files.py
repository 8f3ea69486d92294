"""Files as a program with rights handles them where others may have a hand in the directory.

No link is followed, no pipe is waited for, and a file is replaced as a whole or not at all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

STICKY_OPEN: Final = stat.S_ISVTX | stat.S_IWOTH  # as /tmp: others add, and change their own only


@contextmanager
def replacing(path: Path, mode: int = 0o666, new: Path | None = None) -> Iterator[IO[bytes]]:
    """Write a file; what was there stays until the body has ended well. Raises OSError.

    `new`: what the file is called until then, in the same directory.
    """
    new = new or path.with_suffix(".new")
    new.unlink(missing_ok=True)  # of one that died over it
    opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(opened, "wb") as file:
            yield file
        new.replace(path)
    except BaseException as error:
        new.unlink(missing_ok=True)  # it takes the space that was missing, perhaps
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # to write says only why
        raise


def read(path: Path) -> str:
    """The text of a file, which is no link. Raises OSError, and ValueError if it is not UTF-8."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(opened, encoding="utf-8") as file:
        return file.read()


def is_open_to_others(directory: Path) -> bool:
    """Whether others may remove or replace what is in a directory. Raises OSError."""
    mode = directory.stat().st_mode
    return bool(mode & stat.S_IWOTH) and mode & STICKY_OPEN != STICKY_OPEN
