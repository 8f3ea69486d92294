"""Output and exit codes of the commands."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Final, TextIO

OK: Final = 0
NOT_WELL: Final = 1
FAILED: Final = 2


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


def fail(text: str) -> int:
    """Print in one line why the command failed; returns the exit code for that."""
    try:
        sys.stderr.write(f"nicwatchd: {text}\n")
        sys.stderr.flush()
    except OSError:
        drop(sys.stderr)
    return FAILED


def drop(stream: TextIO) -> None:
    """Discard what is still buffered, so that the interpreter does not fail on it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
