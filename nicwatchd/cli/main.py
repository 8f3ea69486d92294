"""The `nicwatchd` command. What each command takes is in `nicwatchd.cli.parser`."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Final

from nicwatchd.cli.output import OK, USAGE, OutputError, drop, fail, prepare
from nicwatchd.cli.parser import parser, words

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells report it


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    prepare()
    try:
        arguments = parser().parse_args(words(sys.argv[1:] if argv is None else argv))
        gc.disable()  # what is imported stays: to look through it again and again takes 0.03 s
        # Each command imports what it needs when it runs: `status` must answer within 60 ms.
        command = getattr(import_module(f"nicwatchd.cli.{arguments.module}"), arguments.function)
        gc.freeze()
        gc.enable()
        return int(command(arguments))
    except ModuleNotFoundError as error:  # the packages leave out what only the demo needs
        return fail(f"this needs the Python module {error.name}: install it with pip", USAGE)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        drop(sys.stdout)
        return OK
    except OutputError as error:
        drop(sys.stdout)
        return fail(f"standard output: {error}", USAGE)
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
