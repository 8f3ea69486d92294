"""Settings are read only where nobody else may write them: they decide what root's daemon does.

A file, and the directory it is found in, must belong to root or to the user that reads it, and
others must not be able to write to it.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import Final

LIMIT: Final = 1 << 20  # bytes; a host of 64 ENIs, with a section for each, has some 20 KiB
UID_MAP: Final = Path("/proc/self/uid_map")
EVERY_UID: Final = "4294967295"  # so many are mapped outside of user namespaces
NOBODY: Final = 65534  # whose files are of users that a user namespace has no number for
NULL: Final = os.makedev(1, 3)  # /dev/null: no settings


class UntrustedError(Exception):
    """A file or directory is not to be trusted; the text is one line that says what mends it."""


def read(path: Path) -> bytes:
    """What is in a file of settings. Raises OSError and UntrustedError."""
    opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(opened, "rb") as file:
        found = os.fstat(opened)
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == NULL:
            return b""
        if stat.S_ISDIR(found.st_mode):
            return path.read_bytes()  # for its error
        if not stat.S_ISREG(found.st_mode):
            raise UntrustedError(f"{path}: is not a regular file")
        _check(path, found)
        content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise UntrustedError(f"{path}: is larger than {LIMIT >> 20} MiB")
    return content


def check_directory(path: Path) -> None:
    """Raises UntrustedError if others may put files there, or take some away; and OSError."""
    found = path.stat()
    if found.st_mode & stat.S_ISVTX:  # as /tmp: what others put there is theirs, and told by that
        return
    _check(path, found)


def _check(path: Path, found: os.stat_result) -> None:
    owner, quoted = found.st_uid, shlex.quote(str(path))
    if owner not in (0, os.geteuid()) and not _is_nameless(owner):
        raise UntrustedError(
            f"{path}: belongs to uid {owner}, who could change the settings; "
            f"mend that: sudo chown root: {quoted}"
        )
    if found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_ours(found)):
        mode = stat.S_IMODE(found.st_mode)
        raise UntrustedError(
            f"{path}: others may write to it (its mode is {mode:04o}), so it is not used; "
            f"mend that: sudo chmod go-w {quoted}"
        )


def _is_ours(found: os.stat_result) -> bool:
    """Whether a group is that of a user alone, by whose umask of 002 it may write."""
    ours = (os.geteuid(), os.getegid())
    return os.geteuid() != 0 and (found.st_uid, found.st_gid) == ours


def _is_nameless(uid: int) -> bool:
    """Whether a file's owner has no number in our user namespace, so that nobody there is it."""
    return uid == NOBODY and UID_MAP.read_text(encoding="ascii").split()[-1] != EVERY_UID
