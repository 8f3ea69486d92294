"""`nicwatchd migrate`: take over from the tools that configured hot-plugged ENIs before."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from nicwatchd.cli.client import ACT_TIMEOUT, DaemonError, ask
from nicwatchd.cli.migration import progress
from nicwatchd.cli.migration import record as records
from nicwatchd.cli.migration.record import PENDING, Record, RecordError
from nicwatchd.cli.migration.steps import StepError
from nicwatchd.cli.migration.survey import Survey, survey
from nicwatchd.cli.migration.system import CommandError, System, run_command
from nicwatchd.cli.output import NO_RIGHT, NOT_WELL, OK, USAGE, fail, say
from nicwatchd.service.settings import SettingsError, load

HALF_DONE = "run `nicwatchd migrate` again to finish it, or `nicwatchd migrate --undo`"


def migrate(arguments: argparse.Namespace, system: System | None = None) -> int:
    """Migrate, or undo that; the exit code. `system` is for tests."""
    if os.geteuid() != 0 and not arguments.dry_run:
        return fail("run this command as root; --dry-run shows what it would do", NO_RIGHT)
    if system is None:
        system = System(arguments.root, run_command, partial(_ask, arguments), time.sleep)
    try:
        record = records.load(system)
        if arguments.undo:
            return _undo(system, record, arguments)
        if record is None or record.is_finished:
            return _begin(system, record, arguments)
        return _finish(system, record, arguments)
    except (CommandError, DaemonError, RecordError, SettingsError) as error:
        return fail(str(error), getattr(error, "code", USAGE))
    except OSError as error:
        return fail(f"{error.filename}: {error.strerror}", USAGE)


def _ask(arguments: argparse.Namespace, method: str, path: str) -> Any:
    return ask(arguments.runtime_directory, method, path, ACT_TIMEOUT)


def _begin(system: System, earlier: Record | None, arguments: argparse.Namespace) -> int:
    """Look at the host, show the plan, and carry it out. What is on record stays there."""
    policy = load(arguments.config).policy()
    leave = policy.leave_addresses
    found = survey(system, policy.addresses, leave, altnames=arguments.altnames)
    if found.refusals or not found.steps:
        _show(found, arguments, "refused" if found.refusals else "nothing")
        return NOT_WELL if found.refusals else OK
    _show(found, arguments, "planned")
    if arguments.dry_run:
        return OK
    if (refused := _refused(arguments)) is not None:
        return refused
    record = found.record()
    if earlier:
        record.tools = list(dict.fromkeys([*earlier.tools, *record.tools]))
        record.entries = [*earlier.entries, *record.entries]
    return _carry_out(system, record, arguments)


def _finish(system: System, record: Record, arguments: argparse.Namespace) -> int:
    """Go on with a migration that was cut short."""
    if record.undoing:
        return fail("an undo was begun: finish it with `nicwatchd migrate --undo`", NOT_WELL)
    rest = [entry.step.what for entry in record.entries if entry.state != records.DONE]
    heading = "a migration was begun and is not finished; what is left of it:"
    if (ended := _shown(arguments, heading, rest)) is not None:
        return ended
    return _carry_out(system, record, arguments)


def _shown(arguments: argparse.Namespace, heading: str, steps: list[str]) -> int | None:
    """Show what is to be done; the exit code where that is all, None to go on."""
    _tell(arguments, heading)
    for what in steps:
        _tell(arguments, f"  {what}")
    if arguments.dry_run:
        _tell(arguments, "nothing was changed")
        return OK
    return _refused(arguments)


def _carry_out(system: System, record: Record, arguments: argparse.Namespace) -> int:
    try:
        progress.finish(system, record, partial(_tell, arguments))
    except StepError as error:
        return fail(f"{error}; {HALF_DONE}", NOT_WELL)
    _result(arguments, "migrated", "done; `nicwatchd migrate --undo` puts all back", [])
    return OK


def _undo(system: System, record: Record | None, arguments: argparse.Namespace) -> int:
    if record is None:
        _result(arguments, "nothing", f"nothing to undo: there is no {records.FILE}", [])
        return OK
    steps = [entry.step.what for entry in reversed(record.entries) if entry.state != PENDING]
    heading = f"to be undone, of the migration from {', '.join(record.tools)}:"
    if (ended := _shown(arguments, heading, steps)) is not None:
        return ended
    try:
        left = progress.undo(system, record, partial(_tell, arguments))
    except StepError as error:
        return fail(f"{error}; run `nicwatchd migrate --undo` again", NOT_WELL)
    _result(arguments, "undone", "undone; nicwatchd runs on beside the tool", left)
    return NOT_WELL if left else OK


def _refused(arguments: argparse.Namespace) -> int | None:
    """None if `--yes` or somebody at the terminal says to go on; else the exit code."""
    if arguments.yes:
        return None
    if arguments.json or not (sys.stdin and sys.stdin.isatty()):
        return fail("there is no terminal to ask on; --yes goes on without asking", USAGE)
    say("Go on? [y/N] ")
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return None
    say("nothing was changed")
    return NOT_WELL


# --- output --------------------------------------------------------------------------------------


def _tell(arguments: argparse.Namespace, line: str) -> None:
    if not arguments.json:
        say(line)


def _show(found: Survey, arguments: argparse.Namespace, result: str) -> None:
    """Show what was found. With --json, only where nothing follows."""
    if not arguments.json:
        for line in _lines(found, result):
            say(line)
    elif result != "planned" or arguments.dry_run:
        say(json.dumps(_as_json(found, result), indent=2))


def _as_json(found: Survey, result: str) -> dict[str, Any]:
    return {
        "result": result,
        "tools": [
            {"name": each.tool, "signs": each.signs, "notes": each.notes} for each in found.findings
        ],
        "refusals": found.refusals,
        "steps": [{"what": step.what, "why": step.why} for step in found.steps],
    }


def _lines(found: Survey, result: str) -> Iterator[str]:
    for each in found.findings:
        yield f"{each.tool} is at work here: {'; '.join(each.signs)}"
        yield from (f"    note: {note}" for note in each.notes)
    if result == "refused":
        yield "nicwatchd would do less than what it replaces, so nothing was changed:"
        yield from (f"  {why}" for why in found.refusals)
    elif result == "nothing":
        yield "nothing to migrate: none of the tools that nicwatchd replaces is at work here"
    for number, step in enumerate(found.steps if result == "planned" else (), start=1):
        yield f"{number:3}. {step.what}"
        yield f"     why: {step.why}"


def _result(arguments: argparse.Namespace, result: str, text: str, left: list[str]) -> None:
    if arguments.json:
        say(json.dumps({"result": result, "left": left}, indent=2))
        return
    for line in left:
        say(f"left: {line}")
    say(text)
