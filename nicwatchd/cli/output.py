"""Output and exit codes of the commands."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Final, TextIO

# The exit codes. Every command's help and manual page have this list.
OK: Final = 0
NOT_WELL: Final = 1  # an interface does not work (yet), or something could not be done
USAGE: Final = 2  # wrong usage, wrong settings, or the output could not be written
NO_INTERFACE: Final = 3
NO_DAEMON: Final = 4  # it is not running, or does not answer
NO_RIGHT: Final = 5
FORBIDDEN: Final = "only root and nicwatchd's own user may do this"  # as the daemon says it


class OutputError(Exception):
    """The output could not be written; the text is one line for the operator."""


def prepare() -> None:
    """Make any text printable in any locale, and discard output if standard output is closed."""
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print a line. Raises OutputError, or BrokenPipeError if the reader has gone."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from None


def fail(text: str, code: int) -> int:
    """Print in one line why the command failed; returns the exit code `code`."""
    try:
        sys.stderr.write(f"nicwatchd: {text}\n")
        sys.stderr.flush()
    except OSError:
        drop(sys.stderr)
    return code


def drop(stream: TextIO) -> None:
    """Discard what is still buffered, so that the interpreter does not fail on it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
