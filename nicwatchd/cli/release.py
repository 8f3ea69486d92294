"""`nicwatchd release`: carried out by the daemon if it is running, else by the command itself."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from nicwatchd.cli.client import ACT_TIMEOUT, DaemonError, ask, query
from nicwatchd.cli.judgement import find
from nicwatchd.cli.layout import wrap
from nicwatchd.cli.output import FORBIDDEN, NO_INTERFACE, NO_RIGHT, NOT_WELL, OK, USAGE, fail, say
from nicwatchd.core.decision import Decision
from nicwatchd.core.model import Operation, RemoveAddress, RemoveRoute, SetGroup
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import KernelError
from nicwatchd.core.words import command, device, names_in
from nicwatchd.netlink.capability import has_net_admin
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.offline_release import locked_ledger, preview
from nicwatchd.service.offline_release import release as release_offline
from nicwatchd.service.platform import AlreadyRunningError
from nicwatchd.service.released import Released
from nicwatchd.service.requests import UnknownInterfaceError
from nicwatchd.service.settings import SettingsError, load

EMPTY: Final = (
    "the interface is an empty text (an unset shell variable?); name one, or say --all for the host"
)
BOTH: Final = "either one interface or --all, not both"
WITHOUT_TERMINAL: Final = (
    "this would release the whole host, and there is no terminal to ask on: "
    "name an interface, or say --all"
)
NAMES: Final = {
    "rules": ("rule", "rules"),
    "routes": ("route", "routes"),
    "addresses": ("address", "addresses"),
    "link_groups": ("link group", "link groups"),
}


def release(arguments: argparse.Namespace) -> int:
    """Release, and print what was removed; 1 if something could not be removed."""
    refused = _wrong_words(arguments)
    if refused:
        return fail(refused, USAGE)
    if not arguments.dry_run and not has_net_admin():
        return fail(FORBIDDEN, NO_RIGHT)
    try:
        return _release(arguments)
    except DaemonError as error:
        return fail(str(error), error.code)
    except UnknownInterfaceError as error:
        return fail(str(error), NO_INTERFACE)
    except KernelError as error:
        return fail(str(error), NOT_WELL)
    except BrokenPipeError:  # the reader has seen enough
        raise
    except OSError as error:
        return fail(f"{arguments.runtime_directory}: {error.strerror}", USAGE)


def _wrong_words(arguments: argparse.Namespace) -> str:
    """What is wrong with the arguments; nothing, if they can be carried out."""
    if arguments.interface == "":
        return EMPTY
    if arguments.interface is not None:
        return BOTH if arguments.all else ""
    if arguments.all or arguments.dry_run or (_has_terminal() and not arguments.json):
        return ""
    return WITHOUT_TERMINAL


def _has_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _release(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        decision = _preview(arguments)
        document = _planned(decision)
        say(json.dumps(document, indent=2) if arguments.json else "\n".join(_shown(document)))
        return OK
    if arguments.interface is None and not arguments.all and not _agreed(_preview(arguments)):
        say("nothing was changed")
        return NOT_WELL
    document = _carry_out(arguments)
    say(json.dumps(document, indent=2) if arguments.json else "\n".join(_lines(document)))
    return NOT_WELL if document["failed"] else OK


def _carry_out(arguments: argparse.Namespace) -> dict[str, Any]:
    try:
        with locked_ledger(arguments.runtime_directory) as ledger:
            kernel = NetlinkKernel()
            try:
                policy = _policy(arguments.config)
                work = release_offline(kernel, ledger, arguments.interface, policy)
                return asyncio.run(work).as_json()
            finally:
                kernel.close()
    except AlreadyRunningError:
        path = f"/v1/release{query(arguments.interface)}"
        document: dict[str, Any] = ask(arguments.runtime_directory, "POST", path, ACT_TIMEOUT)
        return document


def _policy(config: Path | None) -> Policy:
    """The policy from the settings, else the default: wrong settings must not block a removal."""
    try:
        return load(config).policy()
    except SettingsError as error:
        fail(f"{error.in_one_line}; using the default settings", USAGE)
        return Policy()


def _lines(document: dict[str, Any]) -> list[str]:
    told = document["released"].items()
    counts = [_count(n, *NAMES.get(kind, (kind, kind))) for kind, n in told if n]
    failed = [f"not released: {each['operation']}: {each['error']}" for each in document["failed"]]
    return [f"released: {', '.join(counts)}" if counts else "nothing to release", *failed]


# --- beforehand --------------------------------------------------------------------------------


def _preview(arguments: argparse.Namespace) -> Decision:
    kernel = NetlinkKernel()
    try:
        ledger = Ledger(arguments.runtime_directory)
        policy = _policy(arguments.config)
        primary = None if arguments.interface is None else _unprotected(arguments)
        work = preview(kernel, ledger, arguments.interface, policy, unprotected=primary)
        return asyncio.run(work)
    finally:
        kernel.close()


def _unprotected(arguments: argparse.Namespace) -> str | None:
    """The MAC of the primary, if a daemon would end its protection with this last other ENI."""
    try:
        interfaces = ask(arguments.runtime_directory, "GET", "/v1/status")["interfaces"]
    except DaemonError:
        return None  # without one, only what is named goes
    named = find(interfaces, arguments.interface)
    served = [i for i in interfaces if not i.get("primary") and i["state"] != "ignored"]
    if named is None or served != [named]:
        return None
    return next((str(i["mac"]) for i in interfaces if i.get("primary")), None)


def _planned(decision: Decision) -> dict[str, Any]:
    """What would go: counts as after a release, the links, and the commands."""
    name_of = names_in(decision.kernel.links)
    return {
        "would_release": Released(decision.operations).as_json()["released"],
        "interfaces": [device(index, name_of) for index in sorted(_links(decision.operations))],
        "commands": [command(operation, name_of) for operation in decision.operations],
    }


def _links(operations: Iterable[Operation]) -> frozenset[int]:
    """The links that lose something other than their group; or their group, if that is all."""
    taken, grouped = set(), set()
    for operation in operations:
        match operation:
            case RemoveAddress(index=index):
                taken.add(index)
            case RemoveRoute(route=route):
                taken |= route.links
            case SetGroup(index=index):
                grouped.add(index)
    return frozenset(taken or grouped)


def _shown(document: dict[str, Any]) -> Iterator[str]:
    commands = document["commands"]
    if not commands:
        yield "nothing to release"
        return
    yield f"would be released, of {_and(document['interfaces'])}:"
    yield from (f"  - {each}" for each in commands)
    yield f"{_counted(document['would_release'])}; nothing was changed"


def _agreed(decision: Decision) -> bool:
    """Say what goes, and ask. Whoever only presses return does not agree."""
    document = _planned(decision)
    if document["commands"]:
        what, links = _counted(document["would_release"]), _and(document["interfaces"])
        say("\n".join(wrap(f"This takes {what} of {links} out of the kernel.")))
        say("Connections from outside their subnets will break.")
    else:
        say("There is nothing of nicwatchd's in the kernel.")
    say("A daemon that runs leaves the host alone then, until `nicwatchd reconcile`.")
    say("Continue? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _counted(counts: dict[str, int]) -> str:
    """`8 rules, 5 routes, 2 addresses and 1 link group`."""
    return _and([_count(n, *NAMES[kind]) for kind, n in counts.items() if n])


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _and(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1] if words else "")))
