"""What a check may say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from nicwatchd.cli.diagnosis.facts import Facts


class Severity(StrEnum):
    """How bad it is."""

    FAIL = "FAIL"  # something does not work
    WARN = "WARN"  # something would not work in some case, or works by luck


@dataclass(frozen=True, slots=True)
class Finding:
    """What hurts, and what mends it: commands for a shell, one in a line, `#` before remarks.

    `about`: for a verdict of the daemon, the names and addresses that it is about.
    """

    code: str
    severity: Severity
    text: str
    mend: str
    about: tuple[str, ...] = ()


def fail(code: str, text: str, *mend: str) -> Finding:
    """Something does not work."""
    return Finding(code, Severity.FAIL, text, "\n".join(mend))


def warn(code: str, text: str, *mend: str) -> Finding:
    """Something would hurt."""
    return Finding(code, Severity.WARN, text, "\n".join(mend))


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what it looks at, in a word or three, and whether the facts for it are there."""

    title: str
    find: Callable[[Facts], Iterator[Finding]]
    can_see: Callable[[Facts], bool] = lambda _: True
