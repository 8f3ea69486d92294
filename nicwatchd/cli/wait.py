"""`nicwatchd wait`: until interfaces or addresses work; also before they, or the daemon, are there.

The daemon's events only say: look again. So it does not matter what they hold, nor that some are
missed while the daemon starts anew.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nicwatchd.cli.client import RECEIVE, DaemonError, ask, connect
from nicwatchd.cli.judgement import (
    FAMILIES,
    NOT_HAD,
    WORKING,
    Document,
    addresses,
    find,
    normal,
    prefix_of,
)
from nicwatchd.cli.layout import duration
from nicwatchd.cli.output import NO_DAEMON, NOT_WELL, OK, USAGE, fail, say

RETRY: Final = 0.1  # s; between two looks for a daemon that does not run
LOOK: Final = 5.0  # s; between two looks when nothing happens
ANSWER: Final = 5.0  # s; for one answer
ESCAPE: Final = re.compile(r"\\x([0-9a-f]{2})")
NOT_ATTACHED: Final = "not attached yet"
NO_DAEMON_YET: Final = "the daemon does not run yet, or does not answer"


def wait(arguments: argparse.Namespace) -> int:
    """Wait until every target works; one line for each change of one."""
    targets = arguments.targets
    if arguments.escaped:
        targets = [ESCAPE.sub(lambda m: chr(int(m[1], 16)), each) for each in targets]
    if complaint := _misuse(targets, arguments.family, arguments.timeout):
        return fail(complaint, USAGE)
    return _Wait(
        directory=arguments.runtime_directory,
        targets=list(dict.fromkeys(targets)),
        family=arguments.family,
        until=time.monotonic() + arguments.timeout,
        timeout=arguments.timeout,
    ).run()


def _misuse(targets: list[str], family: str, timeout: float) -> str | None:
    """What is wrong with the arguments, in one line."""
    if not timeout >= 0:  # nan, too
        return f"--timeout: {timeout} is not a number of seconds"
    for target in targets:
        if not target.strip():
            return "a target is empty: name, MAC, ENI id or address"
        address = normal(target)
        if address and family in FAMILIES and family != _family_of(address):
            return f"{address} is no {FAMILIES[family]} address, so it never works for that"
    return None


@dataclass
class _Wait:
    directory: Path
    targets: list[str]
    family: str
    until: float
    timeout: float
    said: dict[str, str] = field(default_factory=dict)  # by target, what was last told of it

    def run(self) -> int:
        """Look until all is well or the time is over; the exit code."""
        runs = False
        for document in self._documents():
            runs = document is not None
            if self._look(document):
                return OK
        for target, text in self.said.items():
            fail(f"timed out after {self.timeout:g} s: {target}: {text}", NOT_WELL)
        if not runs:
            return fail(
                "the daemon does not run, or hangs: sudo systemctl restart nicwatchd", NO_DAEMON
            )
        return NOT_WELL

    def _look(self, document: Document | None) -> bool:
        """Tell what changed; whether every target works."""
        states = {target: standing(document, target, self.family) for target in self.targets}
        for target, (works, text) in states.items():
            if self.said.get(target) != text:
                say(f"{target}: {text}")
            self.said[target] = text
            if works:
                self.targets = [each for each in self.targets if each != target]
                del self.said[target]
        return not self.targets

    # --- when to look ----------------------------------------------------------------------------

    def _documents(self) -> Iterator[Document | None]:
        """The status now, and whenever something may have changed, once at least; None: no daemon.

        What works once is not looked at again: the next thing to start is to start now.
        """
        while True:
            with contextlib.suppress(DaemonError, OSError), self._events() as events:
                while True:
                    yield self._status()
                    if self._left() <= 0:
                        return
                    if not self._is_news(events):
                        break
            if self._left() <= 0:
                return
            yield None
            time.sleep(min(RETRY, max(0.0, self._left())))

    @contextlib.contextmanager
    def _events(self) -> Iterator[socket.socket]:
        """The daemon's events; whoever has them misses nothing that happens later."""
        with connect(self.directory, self._patience()) as events:
            events.sendall(b"GET /v1/events HTTP/1.0\r\n\r\n")
            if not events.recv(RECEIVE).startswith(b"HTTP/1."):
                raise DaemonError("no events")
            yield events

    def _is_news(self, events: socket.socket) -> bool:
        """Wait for an event, or until the next look is due; whether the daemon still serves."""
        ready, _, _ = select.select([events], [], [], min(LOOK, max(0.0, self._left())))
        if not ready:
            return True
        events.settimeout(0.0)
        try:
            while received := events.recv(RECEIVE):  # everything that is there: one look is enough
                if len(received) < RECEIVE:
                    return True
        except BlockingIOError:
            return True
        return False

    def _status(self) -> Document:
        document: Document = ask(self.directory, "GET", "/v1/status", self._patience())
        return document

    def _patience(self) -> float:
        return min(ANSWER, max(0.1, self._left()))

    def _left(self) -> float:
        return self.until - time.monotonic()


# --- whether a target works ----------------------------------------------------------------------


def standing(document: Document | None, target: str, family: str) -> tuple[bool, str]:
    """Whether a target works for a family (or any, or all), and how it is, in words."""
    if document is None:
        return False, NO_DAEMON_YET
    if document.get("idle"):
        return False, f"nicwatchd is idle: {document['idle']}"
    interface = find(document["interfaces"], target)
    if interface is None:
        return False, _nobody_has(document, target)
    name = "" if interface["name"] == target else f"{interface['name']}, "
    address = normal(target)
    if address is not None:
        works, text = _address_standing(interface, address)
    else:
        works, text = _interface_standing(interface, family)
    return works, name + text


def _nobody_has(document: Document, target: str) -> str:
    if normal(target):
        return "no interface has this address yet"
    for each in document.get("unlinked", []):
        if target.lower() in (each["mac"], each.get("eni")):
            return "IMDS lists it, and this host has no link of it yet"
    return NOT_ATTACHED


def _address_standing(interface: Document, address: str) -> tuple[bool, str]:
    key = _family_of(address)
    part = interface.get(key) or {}
    if address not in addresses(interface):
        prefix = prefix_of(interface, address)
        return part.get("health") == WORKING, _told(interface, key, f"prefix {prefix}")
    if "health" in part:
        works = address in part["answering"]
    else:  # of an older daemon
        works = interface["state"] == "applied" and address in part["addresses"]
    return works, _told(interface, key, "") if works else _why_not(interface, [key])


def _interface_standing(interface: Document, family: str) -> tuple[bool, str]:
    has = [key for key in FAMILIES if _may_have(interface, key)]
    wanted = has if family in ("any", "all") else [family]
    working = [key for key in wanted if _works(interface, key)]
    missing = [key for key in wanted if key not in working]
    reached = bool(working) and (family == "any" or not missing)
    parts = [_told(interface, key, _first(interface, key)) for key in working]
    if not reached:
        parts.append(_why_not(interface, missing))
    return reached, "; ".join(parts)


def _may_have(interface: Document, key: str) -> bool:
    """Whether the ENI has a family, or may still turn out to have it."""
    part = interface.get(key)
    if not part:
        return False
    return part.get("health") is not None or part["verdict"] not in NOT_HAD


def _works(interface: Document, key: str) -> bool:
    part = interface.get(key) or {}
    if "health" in part:
        return bool(part["health"] == WORKING)
    return interface["state"] == "applied" and part.get("verdict") == "ready"


def _first(interface: Document, key: str) -> str:
    part = interface[key]
    items = [*part.get("answering", ()), *part["addresses"], *part["prefixes"]]
    return str(items[0]) if items else ""


def _told(interface: Document, key: str, what: str) -> str:
    """That a family works, since when."""
    after = (interface.get(key) or {}).get("worked_after")
    when = "" if after is None else f", {duration(after)} after it was seen"
    return f"{FAMILIES[key]}{f' {what}' if what else ''} works{when}"


def _why_not(interface: Document, keys: list[str]) -> str:
    """Why the families do not work, or not yet."""
    causes = [c for key in keys for c in (interface.get(key) or {}).get("causes", [])]
    texts = [cause["text"] for cause in causes or interface["reasons"]]
    labels = " and ".join(FAMILIES[key] for key in keys)
    waits, several = not causes or interface.get("waits"), len(keys) > 1
    verb = ("wait" if several else "waits") if waits else f"{'do' if several else 'does'} not work"
    if interface["state"] == "ignored" and interface.get("health") is None:
        labels, verb = "", "left alone"
    why = "; ".join(dict.fromkeys(texts)) or "nothing is known of it yet"
    return f"{labels} {verb}: {why}".strip()


def _family_of(address: str) -> str:
    return "ipv6" if ":" in address else "ipv4"
