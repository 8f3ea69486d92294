"""The `nicwatchd` command.

Exit codes: 0 all is well; 1 not all is well (an interface waits, the journal has nothing);
2 it could not be done at all (wrong words, bad settings, no right, no daemon).
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import Final

from nicwatchd import __version__

OK: Final = 0
NOT_WELL: Final = 1
FAILED: Final = 2
RUNTIME_DIRECTORY: Final = Path("/run/nicwatchd")


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    _prepare_output()
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        return OK
    except KeyboardInterrupt:
        return 130


def _prepare_output() -> None:
    """Print anything in any locale, and to nowhere where the caller closed standard output."""
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nicwatchd",
        description="Makes a hot-plugged network interface on an EC2 host simply work.",
        epilog="Exit codes: 0 all is well; 1 not all is well; 2 it could not be done.",
    )
    parser.add_argument("--version", action="version", version=f"nicwatchd {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="serve this host (systemd does this)")
    _add_config(run)
    _add_runtime_directory(run)
    run.set_defaults(command=_run)

    status = commands.add_parser("status", help="each interface's state, and what it waits for")
    status.add_argument("interface", nargs="?", help="only this one: its name, MAC or ENI id")
    status.add_argument("--journal", action="store_true", help="ask the journal, not the daemon")
    _add_json(status)
    _add_runtime_directory(status)
    status.set_defaults(command=_status)

    reconcile = commands.add_parser("reconcile", help="look at everything anew, IMDS too (root)")
    _add_json(reconcile)
    _add_runtime_directory(reconcile)
    reconcile.set_defaults(command=_reconcile)

    release = commands.add_parser(
        "release", help="take all that is ours out of the kernel (root; the daemon stopped)"
    )
    release.add_argument("interface", nargs="?", help="only this one's: its name or MAC")
    _add_config(release)
    _add_json(release)
    _add_runtime_directory(release)
    release.set_defaults(command=_release)

    demo = commands.add_parser("demo", help="hot-plug an ENI whose IPv6 metadata comes late")
    _add_json(demo)
    demo.set_defaults(command=_demo)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="instead of the system's file")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON for programs")


def _add_runtime_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime-directory",
        type=Path,
        default=RUNTIME_DIRECTORY,
        metavar="DIR",
        help="where the socket, the lock and the ledger are (default: %(default)s)",
    )


# Each command imports what it needs when it runs: `status` must answer in well under 100 ms.


def _run(arguments: argparse.Namespace) -> int:
    from nicwatchd.service.main import CannotRunError, run
    from nicwatchd.service.platform import AlreadyRunningError
    from nicwatchd.service.settings import SettingsError

    try:
        run(arguments.config, arguments.runtime_directory)
    except (SettingsError, CannotRunError, AlreadyRunningError) as error:
        return fail(str(error))
    return OK


def _status(arguments: argparse.Namespace) -> int:
    from nicwatchd.cli import status

    return status.status(arguments)


def _reconcile(arguments: argparse.Namespace) -> int:
    from nicwatchd.cli import status

    return status.reconcile(arguments)


def _release(arguments: argparse.Namespace) -> int:
    from nicwatchd.cli import release

    return release.release(arguments)


def _demo(arguments: argparse.Namespace) -> int:
    try:
        from nicwatchd.cli import demo
    except ModuleNotFoundError as error:  # the packages leave out what only the demo needs
        return fail(f"the demo needs Python's {error.name}: apt-get install python3-rich")

    return demo.demo(as_json=arguments.json)


def fail(text: str) -> int:
    """Say in one line why it could not be done; the exit code for that."""
    sys.stderr.write(f"nicwatchd: {text}\n")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
