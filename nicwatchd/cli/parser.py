"""What each command takes, in one place. Nothing of a command is imported before it runs.

A command is a function of a module in `nicwatchd.cli`; it takes the arguments and returns the exit
code (`nicwatchd.cli.output`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nicwatchd.cli.output import say

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

    Commands = argparse._SubParsersAction["_Parser"]  # noqa: SLF001 (it has no public name)

RUNTIME_DIRECTORY: Final = Path("/run/nicwatchd")
FAMILIES: Final = ("ipv4", "ipv6", "any", "all")
TIMES: Final = ("--since", "--until")
MANY: Final = 8  # choices that are not named in one line
TARGET: Final = "name, MAC, ENI id or address"

EPILOG: Final = """\
exit codes:
  0  everything is well
  1  not everything is well: `nicwatchd status` names what, and the remedy
  2  wrong usage, wrong settings, or the output could not be written
  3  no such interface
  4  the daemon is not running, or does not answer
  5  permission denied
"""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it returns has `module` and `function` of the command."""
    top = _Parser(
        prog="nicwatchd",
        description="Configure hot-plugged network interfaces (ENIs) on an EC2 host.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "print the version, the commit, and the versions of Python and pyroute2"
    top.add_argument("--version", action=_Version, nargs=0, help=text)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        *(_add_status, _add_explain, _add_wait, _add_watch, _add_history, _add_doctor),
        *(_add_plan, _add_reconcile, _add_release, _add_migrate),
        *(_add_record, _add_bugreport, _add_run, _add_demo),
    ):
        add(commands)
    return top


class _Parser(argparse.ArgumentParser):
    """Reports it when the help cannot be printed; argparse itself would ignore that.

    A command reports its unknown options itself, so with its own usage; and what was perhaps meant.
    """

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        found, rest = super().parse_known_args(*args, **kwargs)
        if rest and self.get_default("module"):
            meant = _meant(rest[0].partition("=")[0], self._option_string_actions)
            self.error(f"unknown argument {rest[0]!r}{meant}")
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = list(action.choices)
        text = f"there is no {str(value)!r}{_meant(str(value), known) or f'; see {self.prog} -h'}"
        if not _meant(str(value), known) and len(known) < MANY:
            text = f"{str(value)!r} is none of: {', '.join(known)}"
        raise argparse.ArgumentError(action, text)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        del file  # it is standard output
        say(self.format_help().rstrip())


def _meant(word: str, known: Iterable[str]) -> str:
    """What was perhaps meant by a word; empty if nothing is like it."""
    from difflib import get_close_matches  # only here: it takes a while

    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from nicwatchd.cli.version import version_text  # only here, as for a command

        say(version_text())
        parser.exit()


def _add(
    commands: Commands, name: str, text: str, module: str = "", function: str = ""
) -> argparse.ArgumentParser:
    """Add a command; `text` describes it, also in its own `--help`.

    By default, the function of that name in the module of that name carries it out.
    """
    description = f"{text[0].upper()}{text[1:]}."
    command = commands.add_parser(name, help=text, description=description)
    command.set_defaults(module=module or name, function=function or name)
    return command


def words(argv: Sequence[str]) -> list[str]:
    """The words of a command line, with `--since -1h` as one: else `-1h` would be an option."""
    found: list[str] = []
    for word in argv:
        if found and found[-1] in TIMES and word[:1] == "-" and word[1:2].isdigit():
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _add_run(commands: Commands) -> None:
    run = _add(commands, "run", "run the daemon (nicwatchd.service normally does this)")
    _add_config(run)
    _add_runtime_directory(run)


def _add_status(commands: Commands) -> None:
    status = _add(commands, "status", "show whether each interface works, and if not, why")
    status.add_argument("interface", nargs="?", help=f"show this interface in depth ({TARGET})")
    text = "read the journal instead of asking the daemon"
    status.add_argument("--journal", action="store_true", help=text)
    _add_json(status)
    _add_runtime_directory(status)


def _add_explain(commands: Commands) -> None:
    text = "explain why an interface is as it is, or which rule and route a packet takes"
    explain = _add(commands, "explain", text)
    explain.add_argument("interface", nargs="?", help=f"this interface ({TARGET})")
    text = "explain the way of a packet from this address"
    explain.add_argument("--from", dest="source", metavar="ADDRESS", help=text)
    explain.add_argument("--to", dest="destination", metavar="ADDRESS", help="... to this one")
    explain.add_argument("--mark", metavar="MARK", help="... with this firewall mark")
    text = "... that is forwarded, and came in by this link"
    explain.add_argument("--iif", metavar="LINK", help=text)
    explain.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    _add_json(explain)
    _add_config(explain)
    _add_runtime_directory(explain)


def _add_wait(commands: Commands) -> None:
    text = "wait until interfaces or addresses work; also before they are attached"
    wait = _add(commands, "wait", text)
    wait.add_argument("targets", nargs="+", metavar="TARGET", help=TARGET)
    text = "the family that must work (default: %(default)s, every one that the interface has)"
    wait.add_argument("--for", dest="family", choices=FAMILIES, default="all", help=text)
    text = "the targets are escaped, as by systemd-escape (for nicwatchd-wait@.service)"
    wait.add_argument("--escaped", action="store_true", help=text)
    text = "give up after so many seconds (default: %(default)g)"
    wait.add_argument("--timeout", type=_seconds, default=180.0, metavar="SECONDS", help=text)
    _add_runtime_directory(wait)


def _add_watch(commands: Commands) -> None:
    watch = _add(commands, "watch", "show live what happens to interfaces; ends with Ctrl-C")
    watch.add_argument("interface", nargs="?", help=f"this interface only ({TARGET})")
    _add_json(watch)
    _add_runtime_directory(watch)


def _add_history(commands: Commands) -> None:
    text = "show what happened to interfaces, from the journal of this and earlier boots"
    history = _add(commands, "history", text)
    history.add_argument("interface", nargs="?", help="this interface only (name, MAC or ENI id)")
    text = "not older than this: -1h, -2d, 10:00, 2026-11-26 10:00 (default: this boot)"
    history.add_argument("--since", metavar="TIME", help=text)
    history.add_argument("--until", metavar="TIME", help="not newer than this")
    history.add_argument("--svg", type=Path, metavar="FILE", help="draw a picture into this file")
    text = "read the journal files in this directory instead, perhaps of another host"
    history.add_argument("--directory", type=Path, metavar="DIR", help=text)
    _add_json(history)


def _add_doctor(commands: Commands) -> None:
    text = "look for what hurts or would hurt on this host, and say what mends it; changes nothing"
    doctor = _add(commands, "doctor", text)
    doctor.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    _add_json(doctor)
    _add_config(doctor)
    _add_runtime_directory(doctor)


def _add_plan(commands: Commands) -> None:
    text = "show what nicwatchd would change now, as ip commands; changes nothing"
    plan = _add(commands, "plan", text)
    plan.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    _add_config(plan)
    _add_json(plan)
    _add_runtime_directory(plan)


def _add_reconcile(commands: Commands) -> None:
    text = "re-read kernel and IMDS now, and manage released interfaces again (root)"
    reconcile = _add(commands, "reconcile", text, module="status")
    text = "end the release of this interface only (name, MAC or ENI id)"
    reconcile.add_argument("interface", nargs="?", help=text)
    _add_json(reconcile)
    _add_runtime_directory(reconcile)


def _add_release(commands: Commands) -> None:
    text = "remove everything nicwatchd configured; breaks its connections (root)"
    release = _add(commands, "release", text)
    text = "release this interface only (name, MAC or ENI id); default: the whole host, after a "
    text += "question"
    release.add_argument("interface", nargs="?", help=text)
    text = "release the whole host without a question"
    release.add_argument("--all", action="store_true", help=text)
    text = "show what would be removed, and change nothing"
    release.add_argument("--dry-run", action="store_true", help=text)
    _add_config(release)
    _add_json(release)
    _add_runtime_directory(release)


def _add_migrate(commands: Commands) -> None:
    text = "take over from the tools that configured hot-plugged interfaces before (root)"
    migrate = _add(commands, "migrate", text)
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


def _add_record(commands: Commands) -> None:
    text = "record what the kernel and IMDS say, to be replayed in a simulator; changes nothing"
    record = _add(commands, "record", text)
    text = "record for so many seconds (default: %(default)g), or until Ctrl-C"
    record.add_argument("--duration", type=_seconds, default=120.0, metavar="SECONDS", help=text)
    _add_output(record)
    _add_no_mask(record)
    _add_config(record)
    _add_runtime_directory(record)


def _add_bugreport(commands: Commands) -> None:
    text = "collect all that a maintainer needs to see in one archive (root)"
    report = _add(commands, "bugreport", text)
    _add_output(report)
    _add_no_mask(report)
    _add_config(report)
    _add_runtime_directory(report)


def _add_demo(commands: Commands) -> None:
    demo = _add(commands, "demo", "simulate a hot-plug with late IPv6 metadata")
    _add_json(demo)


def _add_config(command: argparse.ArgumentParser) -> None:
    text = "read the settings from FILE (default: /etc/nicwatchd/nicwatchd.toml)"
    command.add_argument("--config", type=Path, metavar="FILE", help=text)


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="machine-readable output")


def _add_output(command: argparse.ArgumentParser) -> None:
    text = "write it to FILE (default: a name with the time, in this directory)"
    command.add_argument("--output", type=Path, metavar="FILE", help=text)


def _add_no_mask(command: argparse.ArgumentParser) -> None:
    text = "leave public addresses as they are"
    command.add_argument("--no-mask", action="store_true", help=text)


def _add_runtime_directory(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--runtime-directory",
        type=Path,
        default=RUNTIME_DIRECTORY,
        metavar="DIR",
        help="directory of the socket, the lock and the ledger (default: %(default)s)",
    )
