"""The `nicwatchd` command.

Exit codes: 0 all is well; 1 not all is well (an interface waits, the journal has nothing);
2 it could not be done at all (wrong words, bad settings, no right, no daemon).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nicwatchd import __version__
from nicwatchd.cli.output import OK, OutputError, drop, fail, prepare, say

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

RUNTIME_DIRECTORY: Final = Path("/run/nicwatchd")


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    prepare()
    try:
        arguments = _parser().parse_args(argv)
        return int(arguments.command(arguments))
    except BrokenPipeError:  # the reader (head, less) has seen enough
        drop(sys.stdout)
        return OK
    except OutputError as error:
        drop(sys.stdout)
        return fail(f"standard output: {error}")
    except KeyboardInterrupt:
        return 130


class _Parser(argparse.ArgumentParser):
    """argparse itself would keep it to itself when the help could not be printed."""

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        del file  # it is standard output
        say(self.format_help().rstrip())


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        say(f"{parser.prog} {__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="nicwatchd",
        description="Makes a hot-plugged network interface on an EC2 host simply work.",
        epilog="Exit codes: 0 all is well; 1 not all is well; 2 it could not be done.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print it, and end")
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

    reconcile = commands.add_parser("reconcile", help="look anew, take up what was released (root)")
    reconcile.add_argument("interface", nargs="?", help="only this one: its name, MAC or ENI id")
    _add_json(reconcile)
    _add_runtime_directory(reconcile)
    reconcile.set_defaults(command=_reconcile)

    release = commands.add_parser("release", help="take all that is ours out of the kernel (root)")
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


if __name__ == "__main__":
    sys.exit(main())
