"""The steps of a migration: what each does, what it has to know before, and how it is undone.

A step is plain data, so that it can be kept on disk: a kind, its arguments, and two texts for
people. Doing a step again, or undoing it again, changes nothing: a migration may be cut short
anywhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final, Protocol

from nicwatchd.cli.client import DaemonError, query
from nicwatchd.cli.migration import coverage, traces
from nicwatchd.cli.migration.system import CommandError, System
from nicwatchd.cli.migration.traces import SourceRule
from nicwatchd.service.files import replacing

Facts = dict[str, Any]

SETTLING: Final = 60.0  # s until nicwatchd has put back what went along with a tool's
PAUSE: Final = 0.2  # s between two looks
ENABLED: Final = ("enabled", "enabled-runtime")
RUNNING: Final = ("active", "activating", "reloading")
MASKED: Final = ("masked", "masked-runtime")


class StepError(Exception):
    """A step could not be done; the text is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `what` is done, and `why`: for people."""

    kind: str
    what: str
    why: str
    args: Facts = field(default_factory=dict)


class Action(Protocol):
    """What a kind of steps does. Raises StepError, CommandError, OSError, DaemonError."""

    def before(self, system: System, args: Facts) -> Facts:
        """What `undo` has to know, as it is before the step."""

    def do(self, system: System, args: Facts) -> None:
        """Do it, or do it again."""

    def undo(self, system: System, args: Facts, before: Facts) -> str:
        """Put back what was there before; returns what was left as it is, and why."""


class _File:
    """Write a file (`path`, `text`), or remove it (no `text`)."""

    def before(self, system: System, args: Facts) -> Facts:
        path = system.path(args["path"])
        if path.is_symlink():
            return {"link": str(path.readlink())}
        return {"text": system.read(args["path"]), "mode": _mode(path)}

    def do(self, system: System, args: Facts) -> None:
        _put(system.path(args["path"]), args.get("text"), 0o644)

    def undo(self, system: System, args: Facts, before: Facts) -> str:
        path, now = system.path(args["path"]), system.read(args["path"])
        if now not in (args.get("text"), before.get("text")):
            return f"{args['path']} was changed since, and is left as it is"
        if "link" in before:
            path.unlink(missing_ok=True)
            path.symlink_to(before["link"])
        else:
            _put(path, before["text"], before["mode"])
        return ""


class _Units:
    """Disable and stop units (`units`); `mask` them, too, or let them run (`keep`)."""

    def before(self, system: System, args: Facts) -> Facts:
        return {
            unit: [system.systemctl("is-enabled", unit), system.systemctl("is-active", unit)]
            for unit in args["units"]
        }

    def do(self, system: System, args: Facts) -> None:
        off = [u for u in args["units"] if system.systemctl("is-enabled", u) in ENABLED]
        on = [u for u in args["units"] if system.systemctl("is-active", u) in RUNNING]
        if off:
            system.must("systemctl", "disable", *off)
        if on and not args.get("keep"):
            system.must("systemctl", "stop", *on)
        if args.get("mask"):
            system.must("systemctl", "mask", *args["units"])

    def undo(self, system: System, args: Facts, before: Facts) -> str:
        units = args["units"]
        if args.get("mask"):
            unmask = [unit for unit in units if before[unit][0] not in MASKED]
            if unmask:
                system.must("systemctl", "unmask", *unmask)
        enable = [unit for unit in units if before[unit][0] in ENABLED]
        start = [unit for unit in units if before[unit][1] in RUNNING]
        if enable:
            system.must("systemctl", "enable", *enable)
        if start:
            system.must("systemctl", "start", *start)
        return ""


class _Command:
    """Run `do`, and to undo it `undo`; both are lists of commands."""

    def before(self, system: System, args: Facts) -> Facts:
        del system, args
        return {}

    def do(self, system: System, args: Facts) -> None:
        for command in args["do"]:
            system.must(*command)

    def undo(self, system: System, args: Facts, before: Facts) -> str:
        del before
        for command in args["undo"]:
            system.must(*command)
        return ""


class _Rules:
    """Remove `rules` of a tool, as `ip` writes them, and flush its `tables`."""

    def before(self, system: System, args: Facts) -> Facts:
        del system, args
        return {}

    def do(self, system: System, args: Facts) -> None:
        there = {str(rule) for rule in traces.read(system).rules if not rule.ours}
        for family, rule in args["rules"]:
            if rule in there:
                system.must("ip", f"-{family}", "rule", "del", *rule.split())
        for family, table in args["tables"]:
            # A table that has no routes (any more) does not exist: `ip` fails, and all is well.
            system.run(("ip", f"-{family}", "route", "flush", "table", str(table)))

    def undo(self, system: System, args: Facts, before: Facts) -> str:
        del system, args, before
        return ""  # the tool itself makes them again, once it is started


class _Addresses:
    """Remove `addresses` of a tool (link, address/length): nicwatchd puts its own there."""

    def before(self, system: System, args: Facts) -> Facts:
        del system, args
        return {}

    def do(self, system: System, args: Facts) -> None:
        there = {(a.link, f"{a.ip}/{a.prefixlen}") for a in traces.read(system).addresses}
        for link, address in args["addresses"]:
            if (link, address) in there:
                system.must("ip", "address", "del", address, "dev", link)

    def undo(self, system: System, args: Facts, before: Facts) -> str:
        del system, args, before
        return ""  # as above


class _Adopt:
    """Have nicwatchd put back `addresses` of an `interface` when the tool takes them away."""

    def before(self, system: System, args: Facts) -> Facts:
        del system, args
        return {}

    def do(self, system: System, args: Facts) -> None:
        _adopt(system, args["interface"], args["addresses"])

    def undo(self, system: System, args: Facts, before: Facts) -> str:
        del system, args, before
        return ""


class _Confirm:
    """Wait until nicwatchd has what the tool has: `rules`, and `addresses` of links."""

    def before(self, system: System, args: Facts) -> Facts:
        del system, args
        return {}

    def do(self, system: System, args: Facts) -> None:
        rules = [SourceRule(p, ip_network(source), table) for p, source, table in args["rules"]]
        for link, ips in args["addresses"].items():
            if not coverage.is_on(link, map(ip_address, ips), traces.read(system)):
                _adopt(system, link, ips)  # a daemon that was restarted since has forgotten that
        for _ in range(round(SETTLING / PAUSE)):
            missing = self._missing(system, rules, args["addresses"])
            if not missing:
                return
            system.pause(PAUSE)
        raise StepError(f"nicwatchd does not have it after {SETTLING:g} s: {'; '.join(missing)}")

    def _missing(
        self, system: System, rules: list[SourceRule], addresses: Mapping[str, list[str]]
    ) -> list[str]:
        kernel = traces.read(system)
        status = system.ask("GET", "/v1/status")
        missing = list(coverage.missing_rules(rules, status["interfaces"], kernel))
        for link, ips in addresses.items():
            gone = [ip for ip in ips if ip_address(ip) not in kernel.on(link)]
            missing += [f"the address {ip} is not on {link}" for ip in gone]
        return missing

    def undo(self, system: System, args: Facts, before: Facts) -> str:
        del system, args, before
        return ""


class _Altname:
    """Give the link with this `mac` an alternative `name`. It stays when the link is renamed."""

    def before(self, system: System, args: Facts) -> Facts:
        link = _link_of(system, args["mac"])
        return {"had": link is not None and args["name"] in link.get("altnames", [])}

    def do(self, system: System, args: Facts) -> None:
        link = _link_of(system, args["mac"])
        if link is not None and args["name"] not in link.get("altnames", []):
            name = link["ifname"]
            system.must("ip", "link", "property", "add", "dev", name, "altname", args["name"])

    def undo(self, system: System, args: Facts, before: Facts) -> str:
        link = None if before["had"] else _link_of(system, args["mac"])
        if link is not None and args["name"] in link.get("altnames", []):
            name = link["ifname"]
            system.must("ip", "link", "property", "del", "dev", name, "altname", args["name"])
        return ""


ACTIONS: Final[Mapping[str, Action]] = {
    "file": _File(),
    "units": _Units(),
    "command": _Command(),
    "rules": _Rules(),
    "addresses": _Addresses(),
    "adopt": _Adopt(),
    "confirm": _Confirm(),
    "altname": _Altname(),
}


def attempt(work: Callable[[], str | None]) -> str:
    """Do a part of a step; returns what it says. All that can go wrong is a StepError."""
    try:
        return work() or ""
    except OSError as error:
        raise StepError(f"{error.filename or ''}: {error.strerror}") from error
    except (CommandError, DaemonError) as error:
        raise StepError(str(error)) from error


def _adopt(system: System, link: str, ips: Iterable[str]) -> None:
    asked = query(link) + "".join(f"&adopt={ip}" for ip in ips)
    system.ask("POST", f"/v1/reconcile{asked}")


def _link_of(system: System, mac: str) -> dict[str, Any] | None:
    rows = json.loads(system.must("ip", "-json", "link", "show"))
    return next((row for row in rows if row.get("address") == mac), None)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o7777
    except FileNotFoundError:
        return 0o644


def _put(path: Path, text: str | None, mode: int) -> None:
    """Write a file as a whole, or remove it."""
    if text is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.nicwatchd")
    with replacing(path, mode, new) as file:
        file.write(text.encode(errors="surrogateescape"))
        os.fchmod(file.fileno(), mode)
