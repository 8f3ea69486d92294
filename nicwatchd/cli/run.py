"""`nicwatchd run`: the daemon."""

from __future__ import annotations

import argparse

from nicwatchd.cli.output import NO_RIGHT, OK, USAGE, fail
from nicwatchd.service import (
    lean,  # noqa: F401 (before `main`, which would import more)
    main,
)
from nicwatchd.service.platform import AlreadyRunningError
from nicwatchd.service.settings import SettingsError


def run(arguments: argparse.Namespace) -> int:
    """Serve until stopped."""
    try:
        main.run(arguments.config, arguments.runtime_directory)
    except main.NotPermittedError as error:
        return fail(str(error), NO_RIGHT)
    except (SettingsError, main.CannotRunError, AlreadyRunningError) as error:
        return fail(str(error), USAGE)
    return OK
