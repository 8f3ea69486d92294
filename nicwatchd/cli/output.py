"""What the commands say, and the exit codes that they end with."""

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
    """What was to be printed could not be; the text is one line for the operator."""


def prepare() -> None:
    """Print anything in any locale, and to nowhere where the caller closed standard output."""
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print. Raises OutputError, and BrokenPipeError where nobody reads any more."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from None


def fail(text: str) -> int:
    """Say in one line why it could not be done; the exit code for that."""
    try:
        sys.stderr.write(f"nicwatchd: {text}\n")
        sys.stderr.flush()
    except OSError:
        drop(sys.stderr)
    return FAILED


def drop(stream: TextIO) -> None:
    """Let what is in the buffer go nowhere, so that the interpreter's end does not fail by it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
