"""`nicwatchd watch`: what happens to interfaces, as it happens.

Each line has the time since the first one. It ends with Ctrl-C (0: that is how one ends it), or
with the daemon (4).
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from nicwatchd.cli.client import DaemonError, ask
from nicwatchd.cli.output import NO_DAEMON, OK, fail, say
from nicwatchd.cli.stream import NotRunningError, connect, events

COLUMNS: Final = 80
AGAIN: Final = 0.2  # s until it is looked again whether the daemon runs
FAMILIES: Final = (("ipv4", "IPv4"), ("ipv6", "IPv6"))
# Types of events that are told by their cause, with the word for it.
CAUSES: Final[Mapping[str, str]] = {
    "lost": "lost",
    "restored": "restored",
    "changed": "changed",
    "link": "link",
    "bypassed": "bypassed",
    "family-given-up": "given up",
    "egress": "egress",
    "fight": "fought over",
    "internal-error": "bug",
}
STATES: Final[Mapping[str, str]] = {
    "detected": "attached",
    "awaiting-imds": "waiting",
    "validated": "configuring",
    "applied": "configured",
    "ignored": "left alone",
    "gone": "detached",
}
SHOWN: Final = 2  # addresses of a family; the others are counted


def watch(arguments: argparse.Namespace) -> int:
    """Print what happens, until Ctrl-C (0) or until the daemon ends (4)."""
    try:
        connection = _connected(arguments.runtime_directory / "nicwatchd.sock")
        _tell_missing(arguments)
        printer = _Printer(arguments.interface, as_json=arguments.json)
        for event in events(connection, sys.stdout):
            printer.take(event)
        return fail("the daemon has ended", NO_DAEMON)
    except DaemonError as error:
        return fail(str(error), error.code)
    except KeyboardInterrupt:
        return OK


def _connected(where: Path) -> socket.socket:
    """A stream of events, as soon as the daemon runs."""
    told = False
    while True:
        try:
            return connect(where)
        except NotRunningError as error:
            if not told:
                _note(f"the daemon is not running ({error}); waiting for it")
            told = True
            time.sleep(AGAIN)


def _tell_missing(arguments: argparse.Namespace) -> None:
    """Say so if what is wanted is not there (yet)."""
    wanted = arguments.interface
    if wanted is None:
        return
    there = ask(arguments.runtime_directory, "GET", "/v1/interfaces")
    if not any(matches(each, wanted.lower()) for each in there if isinstance(each, dict)):
        _note(f"there is no {wanted!r} yet; waiting for it")


def _note(text: str) -> None:
    fail(text, OK)


class _Printer:
    """Prints events about the interfaces that are wanted, each only if it says something new."""

    def __init__(self, wanted: str | None, *, as_json: bool) -> None:
        self._wanted = None if wanted is None else wanted.lower()
        self._as_json = as_json
        self._began: float | None = None
        self._macs: set[str] = set()  # of what was wanted once: the rest of it is, too
        self._last: dict[str, tuple[str, str]] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Print one event, if it is to be."""
        if not self._is_wanted(event):
            return
        if self._as_json:
            say(json.dumps(event))
            return
        line = what_happened(event)
        mac = str(event.get("mac"))
        if self._last.get(mac) != line:
            self._last[mac] = line
            at = time.monotonic()
            self._began = at if self._began is None else self._began
            name = None if self._wanted else str(event.get("name", "?"))
            for text in lines(at - self._began, name, *line):
                say(text)

    def _is_wanted(self, event: Mapping[str, Any]) -> bool:
        if self._wanted is None:
            return True
        mac = str(event.get("mac"))
        if mac in self._macs or matches(event, self._wanted):
            self._macs.add(mac)
            return True
        return False


def matches(event: Mapping[str, Any], wanted: str) -> bool:
    """Whether an interface has this name, MAC, ENI id or address."""
    if wanted in (str(event.get(key)).lower() for key in ("name", "mac", "eni")):
        return True
    try:
        address = str(ip_address(wanted))
    except ValueError:
        return False
    return any(address in part.get("addresses", ()) for part in _parts(event))


def _parts(event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for family, _ in FAMILIES:
        if isinstance(part := event.get(family), dict):
            yield part


def what_happened(event: Mapping[str, Any]) -> tuple[str, str]:
    """The word and the details of an event."""
    kind = str(event.get("type", ""))
    cause = event.get("cause")
    text = str(cause.get("text", "")) if isinstance(cause, dict) else str(cause or "")
    if changed := event.get("changed"):
        text = f"{changed}; {text}"
    if kind in CAUSES and text:
        return CAUSES[kind], text
    return _as_it_is(event)


def _as_it_is(event: Mapping[str, Any]) -> tuple[str, str]:
    """The state of an interface, and what is to be said of it."""
    state = str(event.get("state", "?"))
    if event.get("fought_over") and isinstance(fight := event.get("fight"), dict):
        return "fought over", str(fight.get("text", ""))
    health = event.get("health")
    if health and state not in ("ignored", "gone", "detected"):
        return _verdict(event, str(health)), "; ".join(filter(None, _families(event)))
    if health and event.get("primary"):
        word = "primary" if health == "working" else _verdict(event, str(health))
        return word, "; ".join(filter(None, _families(event)))
    if state == "detected":
        what = "managed" if event.get("previous") == "ignored" else STATES[state]
        return what, str(event.get("eni") or event.get("mac", ""))
    reasons = event.get("reasons") or ()
    why = "; ".join(str(r.get("text")) for r in reasons if isinstance(r, dict))
    if state == "applied":
        return STATES[state], why or "; ".join(filter(None, _families(event)))
    return STATES.get(state, state), why


def _verdict(event: Mapping[str, Any], health: str) -> str:
    parts = [part.get("health") for part in _parts(event)]
    if health == "working":
        return "working"
    if event.get("waits"):
        return "working" if "working" in parts else "waiting"
    return "NOT WORKING" if health == "not-working" else health


def _families(event: Mapping[str, Any]) -> Iterator[str]:
    """What is to be said of each family; once what is the same of both."""
    said: dict[tuple[str, str], list[str]] = {}  # by the word and the details
    for family, label in FAMILIES:
        part = event.get(family)
        if not isinstance(part, dict):
            continue
        causes = part.get("causes") or ()
        why = "; ".join(str(c.get("text")) for c in causes if isinstance(c, dict))
        health, waits = part.get("health"), part.get("waits")
        items = [*part.get("addresses", ()), *part.get("prefixes", ())]
        if health == "working" or (health is None and "health" not in part and items):
            more = f" +{len(items) - SHOWN}" if len(items) > SHOWN else ""
            said["", f"{', '.join(map(str, items[:SHOWN]))}{more}"] = [label]
        elif health:
            word = "waits" if waits else str(health).replace("-", " ")
            said.setdefault((word, why), []).append(label)
    for (word, details), labels in said.items():
        verb = "wait" if word == "waits" and len(labels) > 1 else word
        yield f"{' and '.join(labels)} {verb}: {details}" if word else f"{labels[0]} {details}"


def lines(since: float, name: str | None, what: str, details: str) -> Iterator[str]:
    """An event for people, within 80 columns."""
    head = f"{f'+{since:.2f} s':<9} " + (f"{name:<8} " if name is not None else "")
    head += f"{what:<11} "
    parts = textwrap.wrap(details, COLUMNS - len(head)) or [""]
    yield f"{head}{parts[0]}".rstrip()
    yield from (" " * len(head) + part for part in parts[1:])
