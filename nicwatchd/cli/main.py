"""The `nicwatchd` command.

Exit codes: 0 everything is well; 1 not everything is well (an interface is waiting or fought over,
the daemon has problems, something could not be removed, or a migration was refused or failed); 2
usage or settings error, permission denied, no daemon, no entry in the journal, or the output could
not be written.
"""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nicwatchd import __version__
from nicwatchd.cli.output import OK, OutputError, drop, fail, prepare, say

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    Commands = argparse._SubParsersAction["_Parser"]  # noqa: SLF001 (it has no public name)

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
    """Reports it when the help cannot be printed; argparse itself would ignore that."""

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
        description="Configure hot-plugged network interfaces (ENIs) on an EC2 host.",
        epilog="Exit codes: 0 everything is well; 1 not everything is well; "
        "2 usage or settings error, permission denied, or the daemon is not running.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        *(_add_run, _add_status, _add_reconcile, _add_release),
        *(_add_plan, _add_migrate, _add_demo),
    ):
        add(commands)
    return parser


def _add_command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    """Add a command; `text` describes it, also in its own `--help`."""
    description = f"{text[0].upper()}{text[1:]}."
    return commands.add_parser(name, help=text, description=description)


def _add_run(commands: Commands) -> None:
    run = _add_command(commands, "run", "run the daemon (nicwatchd.service normally does this)")
    _add_config(run)
    _add_runtime_directory(run)
    run.set_defaults(command=_run)


def _add_status(commands: Commands) -> None:
    text = "show the state of each interface, and what it is waiting for"
    status = _add_command(commands, "status", text)
    status.add_argument(
        "interface", nargs="?", help="show this interface only (name, MAC or ENI id)"
    )
    text = "read the journal instead of asking the daemon"
    status.add_argument("--journal", action="store_true", help=text)
    _add_json(status)
    _add_runtime_directory(status)
    status.set_defaults(command=_status)


def _add_reconcile(commands: Commands) -> None:
    text = "read the kernel and IMDS again now, and end all releases (root)"
    reconcile = _add_command(commands, "reconcile", text)
    text = "end the release of this interface only (name, MAC or ENI id)"
    reconcile.add_argument("interface", nargs="?", help=text)
    _add_json(reconcile)
    _add_runtime_directory(reconcile)
    reconcile.set_defaults(command=_reconcile)


def _add_release(commands: Commands) -> None:
    text = "remove everything nicwatchd configured, and stop managing the host or interface (root)"
    release = _add_command(commands, "release", text)
    text = "release this interface only (name or MAC); default: the whole host"
    release.add_argument("interface", nargs="?", help=text)
    _add_config(release)
    _add_json(release)
    _add_runtime_directory(release)
    release.set_defaults(command=_release)


def _add_plan(commands: Commands) -> None:
    text = "show what nicwatchd would change now, as ip commands; changes nothing"
    plan = _add_command(commands, "plan", text)
    _add_config(plan)
    _add_json(plan)
    _add_runtime_directory(plan)
    plan.set_defaults(command=_plan)


def _add_migrate(commands: Commands) -> None:
    text = "take over from the tools that configured hot-plugged interfaces before (root)"
    migrate = _add_command(commands, "migrate", text)
    text = "show what would be done and why, and change nothing"
    migrate.add_argument("--dry-run", action="store_true", help=text)
    text = "put back all that a migration changed"
    migrate.add_argument("--undo", action="store_true", help=text)
    text = "go on without asking"
    migrate.add_argument("--yes", action="store_true", help=text)
    text = "give each ENI its id (eni-...) as an alternative name, as amazon-ec2-net-utils does"
    migrate.add_argument("--altnames", action="store_true", help=text)
    migrate.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    _add_config(migrate)
    _add_json(migrate)
    _add_runtime_directory(migrate)
    migrate.set_defaults(command=_migrate)


def _add_demo(commands: Commands) -> None:
    demo = _add_command(commands, "demo", "simulate a hot-plug with late IPv6 metadata")
    _add_json(demo)
    demo.set_defaults(command=_demo)


def _add_config(parser: argparse.ArgumentParser) -> None:
    text = "read the settings from FILE (default: /etc/nicwatchd/nicwatchd.toml)"
    parser.add_argument("--config", type=Path, metavar="FILE", help=text)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="machine-readable output")


def _add_runtime_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime-directory",
        type=Path,
        default=RUNTIME_DIRECTORY,
        metavar="DIR",
        help="directory of the socket, the lock and the ledger (default: %(default)s)",
    )


# Each command imports what it needs when it runs: `status` must answer in well under 100 ms.


def _run(arguments: argparse.Namespace) -> int:
    gc.disable()  # what is imported stays: to look through it again and again takes 0.03 s
    from nicwatchd.service.main import CannotRunError, run
    from nicwatchd.service.platform import AlreadyRunningError
    from nicwatchd.service.settings import SettingsError

    gc.freeze()
    gc.enable()
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


def _plan(arguments: argparse.Namespace) -> int:
    from nicwatchd.cli import plan

    return plan.plan(arguments)


def _migrate(arguments: argparse.Namespace) -> int:
    from nicwatchd.cli import migrate

    return migrate.migrate(arguments)


def _demo(arguments: argparse.Namespace) -> int:
    try:
        from nicwatchd.cli import demo
    except ModuleNotFoundError as error:  # the packages leave out what only the demo needs
        return fail(
            f"the demo needs the Python module {error.name}; run: apt-get install python3-rich"
        )

    return demo.demo(as_json=arguments.json)


if __name__ == "__main__":
    sys.exit(main())
