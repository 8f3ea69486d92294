"""`nicwatchd doctor`: what hurts or would hurt on this host, and what mends it.

It changes nothing, and works without a daemon, and mostly without root.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import textwrap
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from nicwatchd.cli.client import ask
from nicwatchd.cli.diagnosis.checks import examine
from nicwatchd.cli.diagnosis.facts import Facts
from nicwatchd.cli.diagnosis.findings import Finding, Severity
from nicwatchd.cli.diagnosis.look import look
from nicwatchd.cli.migration.system import System, run_command
from nicwatchd.cli.output import NOT_WELL, OK, USAGE, fail, say
from nicwatchd.core.port import KernelError
from nicwatchd.service.status import shown

WIDTH: Final = 80
CODE: Final = 18  # columns of the longest code and a space
MEND: Final = "      mend  "


def doctor(arguments: argparse.Namespace) -> int:
    """Print the findings; 1 if there is any."""
    try:
        facts = facts_of(arguments)
    except KernelError as error:
        return fail(str(error), USAGE)
    findings, fine = examine(facts)
    if arguments.json:
        say(json.dumps(as_json(facts, findings, fine), indent=2))
    else:
        say("\n".join(_lines(facts, findings, fine)))
    return NOT_WELL if findings else OK


def facts_of(arguments: argparse.Namespace) -> Facts:
    """What there is to judge by. Raises KernelError."""
    system = System(
        arguments.root, run_command, partial(ask, arguments.runtime_directory), time.sleep
    )
    return asyncio.run(look(system, arguments.config, arguments.runtime_directory))


def as_json(facts: Facts, findings: list[Finding], fine: list[str]) -> dict[str, Any]:
    """For programs."""
    return {
        "findings": [
            {"code": f.code, "severity": f.severity, "text": shown(f.text), "mend": f.mend}
            for f in findings
        ],
        "ok": fine,
        "not_looked_at": list(facts.unseen),
        "daemon": facts.daemon.status is not None,
    }


def _lines(facts: Facts, findings: list[Finding], fine: list[str]) -> Iterator[str]:
    for finding in findings:
        yield from _paragraph(f"{finding.severity:<6}{finding.code:<{CODE}}", shown(finding.text))
        for number, line in enumerate(finding.mend.splitlines()):
            yield f"{'' if number else MEND:<{len(MEND)}}{line}"
    yield from _paragraph("ok    ", ", ".join(fine) or "nothing")
    if facts.unseen:
        yield from _paragraph("      ", f"not looked at: {'; '.join(map(shown, facts.unseen))}")
    yield _count(findings)


def _paragraph(head: str, text: str) -> list[str]:
    """A text behind a head, within the width."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _count(findings: list[Finding]) -> str:
    fails = sum(f.severity is Severity.FAIL for f in findings)
    warns = len(findings) - fails
    if not findings:
        return "nothing to mend"
    return f"{_number(fails, 'failure')}, {_number(warns, 'warning')}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
