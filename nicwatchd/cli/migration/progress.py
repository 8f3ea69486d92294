"""Carry out the steps of a record, to the end or back to the beginning."""

from __future__ import annotations

from collections.abc import Callable

from nicwatchd.cli.migration import record as records
from nicwatchd.cli.migration.record import BEGUN, DONE, PENDING, Entry, Record
from nicwatchd.cli.migration.steps import ACTIONS, attempt
from nicwatchd.cli.migration.system import System

Tell = Callable[[str], None]


def finish(system: System, record: Record, tell: Tell) -> None:
    """Do what is not done yet. Raises StepError, RecordError; what was done is on record."""
    for entry in record.entries:
        if entry.state != DONE:
            tell(f"{entry.step.what} ...")
            _do(system, record, entry)


def _do(system: System, record: Record, entry: Entry) -> None:
    action, args = ACTIONS[entry.step.kind], entry.step.args
    if entry.state == PENDING:  # else it was begun: what was there before is on record

        def look() -> None:
            entry.before = action.before(system, args)

        attempt(look)
        entry.state = BEGUN
        records.save(system, record)
    attempt(lambda: action.do(system, args))
    entry.state = DONE
    records.save(system, record)


def undo(system: System, record: Record, tell: Tell) -> list[str]:
    """Undo what was done or begun, the last step first; returns what was left as it is.

    Raises StepError, RecordError; the rest can be undone later. In the end there is no record.
    """
    left = []
    record.undoing = True
    records.save(system, record)
    for entry in reversed(record.entries):
        if entry.state == PENDING:
            continue
        tell(f"undo: {entry.step.what} ...")
        left.append(_undo(system, entry))
        entry.state = PENDING
        records.save(system, record)
    records.remove(system)
    return [text for text in left if text]


def _undo(system: System, entry: Entry) -> str:
    action, args, before = ACTIONS[entry.step.kind], entry.step.args, entry.before or {}
    return attempt(lambda: action.undo(system, args, before))
