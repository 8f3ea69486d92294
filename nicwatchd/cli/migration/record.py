"""The record of a migration, on disk: its steps and how far it has got.

It is written before each step, so that a migration that was cut short can be finished or undone.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from nicwatchd.cli.migration.steps import Step
from nicwatchd.cli.migration.system import System
from nicwatchd.service.files import replacing

FILE: Final = "/var/lib/nicwatchd/migration.json"
FORMAT: Final = 1
# The states of a step. What was begun may be half done; it is done again, or undone.
PENDING, BEGUN, DONE = "pending", "begun", "done"


class RecordError(Exception):
    """The record cannot be read or written; the text is one line for the operator."""


@dataclass(slots=True)
class Entry:
    """A step, its state, and what undoing it has to know."""

    step: Step
    state: str = PENDING
    before: dict[str, Any] | None = None


@dataclass(slots=True)
class Record:
    """The steps in order. `undoing`: `--undo` was begun."""

    tools: list[str] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    undoing: bool = False

    @property
    def is_finished(self) -> bool:
        """Whether every step was done, and none was undone."""
        return not self.undoing and all(entry.state == DONE for entry in self.entries)


def load(system: System) -> Record | None:
    """The record of this host; None if there is none. Raises RecordError."""
    try:
        text = system.read(FILE)
        if text is None:
            return None
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise RecordError(f"{FILE}: format {document['format']}, not {FORMAT}")
        entries = [
            Entry(Step(**row["step"]), row["state"], row["before"]) for row in document["entries"]
        ]
        return Record(list(document["tools"]), entries, bool(document["undoing"]))
    except OSError as error:
        raise RecordError(f"{FILE}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{FILE}: not a record of a migration: {error!r}") from None


def save(system: System, record: Record) -> None:
    """Write the record, and have it on the disk before anything else is done."""
    document = {"format": FORMAT, **asdict(record)}
    path = system.path(FILE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(json.dumps(document, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RecordError(f"{FILE}: {error.strerror}; nothing was done") from None


def remove(system: System) -> None:
    """All is as it was before the migration."""
    try:
        system.path(FILE).unlink(missing_ok=True)
    except OSError as error:
        raise RecordError(f"{FILE}: {error.strerror}") from None
