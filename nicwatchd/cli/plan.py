"""`nicwatchd plan`: what would change now, as `ip` commands. It changes nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from nicwatchd.cli.diagnosis.managers import beside, tools
from nicwatchd.cli.migration.system import System, run_command
from nicwatchd.cli.output import OK, USAGE, fail, say
from nicwatchd.core.decision import Decision
from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    RemoveRuleset,
    SetGroup,
    SetRuleset,
    SetUp,
)
from nicwatchd.core.ownership import Owners
from nicwatchd.core.port import KernelError
from nicwatchd.core.words import command, names_in
from nicwatchd.imds.client import ImdsClient
from nicwatchd.imds.condition import Condition
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.service.dry_run import preview
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.platform import NOT_EC2, is_ec2
from nicwatchd.service.settings import Settings, SettingsError, load
from nicwatchd.service.status import of_view, shown

ADD, CHANGE, REMOVE = "+", "~", "-"
ADDITIONS: Final = (AddAddress, AddRoute, AddRule, SetRuleset)
REMOVALS: Final = (RemoveAddress, RemoveRoute, RemoveRule, RemoveRuleset)
FINE: Final = ("ok", "unasked")
WIDTH: Final = 80
PRIMARY: Final = "the primary, which the host's own software configures; this"
KEEPS_OFF: Final = "keeps packets from other interfaces' addresses off its routes"


def plan(arguments: argparse.Namespace) -> int:
    """Print what would change. Returns 0 however much that is."""
    try:
        settings = load(arguments.config)
        if settings.platform == "auto" and not is_ec2():
            document = _idle()
        else:
            document = _as_json(asyncio.run(_preview(settings, arguments)))
            document["beside"] = [*_beside(arguments, document)]
    except (SettingsError, KernelError) as error:
        return fail(str(error), USAGE)
    say(json.dumps(document, indent=2) if arguments.json else "\n".join(_lines(document)))
    return OK


@dataclass(frozen=True, slots=True)
class _Previewed:
    decision: Decision
    imds: Condition


async def _preview(settings: Settings, arguments: argparse.Namespace) -> _Previewed:
    kernel = NetlinkKernel()
    try:
        async with ImdsClient(settings.imds.options()) as imds:
            ledger = Ledger(arguments.runtime_directory)
            decision = await preview(kernel, imds, ledger, settings.policy())
            return _Previewed(decision, imds.condition)
    finally:
        kernel.close()


# --- the document ------------------------------------------------------------------------------


def _idle() -> dict[str, Any]:
    return {
        "idle": NOT_EC2,
        "imds": None,
        "primary_mac": None,
        "interfaces": [],
        "commands": [],
        "changes": [],
        "counts": dict.fromkeys(("add", "change", "remove"), 0),
        "beside": [],
    }


def _as_json(previewed: _Previewed) -> dict[str, Any]:
    decision, imds = previewed.decision, previewed.imds
    epoch = time.time() - decision.at
    views = [view for _, view in sorted(decision.interfaces.items())]
    name_of = names_in(decision.kernel.links)
    changes = [
        {
            "interface": None if index is None else name_of(index),
            "kind": _kind(operation),
            "command": command(operation, name_of),
        }
        for operation, index in _attributed(decision)
    ]
    kinds = Counter(each["kind"] for each in changes)
    primary = decision.primary_mac
    return {
        "idle": None,
        "imds": {"state": imds.state, "detail": shown(imds.detail)},
        "primary_mac": primary.value if isinstance(primary, Value) else None,
        "interfaces": [of_view(view, epoch).model_dump(mode="json") for view in views],
        "commands": [each["command"] for each in changes],
        "changes": changes,
        "counts": {"add": kinds[ADD], "change": kinds[CHANGE], "remove": kinds[REMOVE]},
    }


def _kind(operation: Operation) -> str:
    if isinstance(operation, REMOVALS):
        return REMOVE
    is_new = isinstance(operation, ADDITIONS) and not getattr(operation, "replace", False)
    return ADD if is_new else CHANGE


def _attributed(decision: Decision) -> Iterator[tuple[Operation, int | None]]:
    """Each operation, and the interface that it is for; None: the host, or one that is gone."""
    planned = {rule: i for i, view in decision.interfaces.items() for rule in view.plan.rules}
    standing = {group: i for i, view in decision.interfaces.items() for group in view.plan.standing}
    numbers = next((view.numbers for view in decision.interfaces.values()), None)
    owners = Owners(decision.kernel, numbers) if numbers else None
    for operation in decision.operations:
        index: int | None = None
        match operation:
            case SetGroup() if operation in standing:
                index = standing[operation]
            case AddAddress(index=at) | RemoveAddress(index=at) | SetGroup(index=at):
                index = at
            case SetUp(index=at):
                index = at
            case AddRoute(route=route) | RemoveRoute(route=route):
                index = route.oif
            case AddRule(rule=rule):
                index = planned.get(rule)
            case RemoveRule(rule=rule):
                found = owners.of(rule.table) if owners else frozenset()
                index = next(iter(found)) if len(found) == 1 else None
        yield operation, index if index in decision.interfaces else None


def _beside(arguments: argparse.Namespace, document: dict[str, Any]) -> Iterator[str]:
    def nobody(*_: str) -> Any:
        raise AssertionError("a plan asks no daemon")

    system = System(arguments.root, run_command, nobody, time.sleep)
    found, _ = tools(system, document["interfaces"], document["primary_mac"])
    return beside(found)


# --- the text ----------------------------------------------------------------------------------


def _lines(document: dict[str, Any]) -> Iterator[str]:
    if document["idle"]:
        yield from _wrapped("", f"idle: {document['idle']}")
    imds = document["imds"]
    if imds and imds["state"] not in FINE:
        text = f"IMDS is {imds['state']} ({imds['detail']}): what it lists is not in this plan"
        yield from _wrapped("", text)
    changes = document["changes"]
    for each in document["interfaces"]:
        own = [change for change in changes if change["interface"] == each["name"]]
        yield from _wrapped("", f"{each['name']}  {each['eni'] or each['mac']}  {_what(each, own)}")
        for note in each["notes"]:
            yield from _wrapped("    ", f"note: {note['text']}")
        yield from (f"  {change['kind']} {change['command']}" for change in own)
    rest = [change for change in changes if change["interface"] is None]
    if rest:
        yield "the host"
        yield from (f"  {change['kind']} {change['command']}" for change in rest)
    yield _sum(document["counts"])
    for text in document["beside"]:
        yield from _wrapped("", f"Beside: {text}")


def _wrapped(indent: str, text: str) -> list[str]:
    """A text within the width. Commands are not wrapped: they are for pasting."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "    ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _what(interface: dict[str, Any], changes: list[dict[str, Any]]) -> str:
    why = "; ".join(reason["text"] for reason in interface["reasons"])
    if interface.get("primary") and changes:
        is_group = all(" group " in change["command"] for change in changes)
        protects = "" if is_group else " protects its addresses, and"
        return f"{PRIMARY}{protects} {KEEPS_OFF}:"
    if interface["state"] == State.IGNORED and changes:
        return f"left alone: {why}; but this {KEEPS_OFF}:"
    if interface["state"] == State.IGNORED:
        what = "left alone"
    else:
        what = "would be managed" if changes else "managed, nothing to change"
    return f"{what}: {why}" if why else f"{what}:" if changes else what


def _sum(counts: dict[str, int]) -> str:
    if not any(counts.values()):
        return "nothing to change"
    changed = f"{counts['change']} to change, " if counts["change"] else ""
    return f"{counts['add']} to add, {changed}{counts['remove']} to remove; nothing was changed"
