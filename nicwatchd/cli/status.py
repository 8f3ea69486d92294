"""`nicwatchd status` and `nicwatchd reconcile`."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from nicwatchd.cli.client import ACT_TIMEOUT, DEAD, DaemonError, ask, query
from nicwatchd.cli.judgement import Document, changed, find, is_well, works
from nicwatchd.cli.layout import Paint, duration, wrap
from nicwatchd.cli.output import NO_DAEMON, NO_INTERFACE, NOT_WELL, OK, fail, say
from nicwatchd.cli.overview import no_interface, overview

NOT_HEALED: Final = "what is in the kernel stays, but nothing heals it or follows a change"


def status(arguments: argparse.Namespace) -> int:
    """Print whether each interface works; 0 if all do and the daemon has no problems.

    Of one interface, in depth; then only that one counts. Without a daemon, what the journal knows.
    """
    try:
        if arguments.journal:
            ask(arguments.runtime_directory, "GET", "/healthz")
            document = _from_journal()
        else:
            document = ask(arguments.runtime_directory, "GET", "/v1/status")
    except DaemonError as error:
        if error.code != NO_DAEMON:
            return fail(str(error), error.code)
        return _without_daemon(arguments, error)
    return _show(document, arguments)


def reconcile(arguments: argparse.Namespace) -> int:
    """Have the daemon read everything again, and print the states afterwards."""
    try:
        path = f"/v1/reconcile{query(arguments.interface)}"
        document = ask(arguments.runtime_directory, "POST", path, ACT_TIMEOUT)
    except DaemonError as error:
        return fail(str(error), error.code)
    return _print(document, overview(document, time.time(), Paint()), as_json=arguments.json)


def _show(document: Document, arguments: argparse.Namespace) -> int:
    """Print the document, or the interface that the arguments name; the exit code by it."""
    now, paint = time.time(), Paint()
    if arguments.interface is None:
        return _print(document, overview(document, now, paint), as_json=arguments.json)
    found = find(document["interfaces"], arguments.interface)
    if found is None:
        return fail(no_interface(arguments.interface, document), NO_INTERFACE)
    document["interfaces"] = [found]
    document.pop("unlinked", None)
    from nicwatchd.cli.depth import depth

    _say(document, depth(found, now, paint), as_json=arguments.json)
    return OK if works(found) else NOT_WELL


def _print(document: Document, lines: Iterable[str], *, as_json: bool) -> int:
    _say(document, lines, as_json=as_json)
    return OK if is_well(document) else NOT_WELL


def _say(document: Document, lines: Iterable[str], *, as_json: bool) -> None:
    say(json.dumps(document, indent=2) if as_json else "\n".join(lines))


# --- without a daemon ----------------------------------------------------------------------------


def _without_daemon(arguments: argparse.Namespace, error: DaemonError) -> int:
    """Say that it does not run or hangs, with the age of what is known, and what the journal knows.

    One line on standard error says it in any case. The exit code is that of a missing daemon.
    """
    fail(str(error), NO_DAEMON)
    try:
        document = _from_journal()
    except DaemonError as unreadable:
        return fail(str(unreadable), NO_DAEMON)
    if arguments.json:
        document["problems"] = [str(error)]
    else:
        say("\n".join(_obituary(document, error)))
    _show(document, arguments)
    return NO_DAEMON


def _from_journal() -> Document:
    """The last known status of each interface. Raises DaemonError."""
    from nicwatchd.service.journal import JournalUnreadableError, read_statuses

    try:
        statuses = read_statuses()
    except JournalUnreadableError as error:
        raise DaemonError(str(error), NOT_WELL) from None
    interfaces: list[Any] = [status.model_dump(mode="json") for status in statuses]
    return {"source": "journal", "interfaces": interfaces}


def _obituary(document: Document, error: DaemonError) -> Iterator[str]:
    """What comes before all else: the daemon's end, and the age of what is known."""
    known = max((changed(each) for each in document["interfaces"]), default=None)
    age = "" if known is None else f"; the last change was {duration(time.time() - known)} ago"
    text = f"THE DAEMON {error.state.upper()}: below is what the journal of this boot knows{age}. "
    yield from wrap(f"{text}Meanwhile {NOT_HEALED}.")
    verb = "start" if error.state == DEAD else "restart"
    yield from wrap(f"sudo systemctl {verb} nicwatchd", "Mend: ", "      ")
    yield from wrap("journalctl -u nicwatchd -n 20", "Why:  ", "      ")
    yield ""
