"""`nicwatchd plan`: what would change now, as `ip` commands. It changes nothing."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

from nicwatchd.cli.output import OK, USAGE, fail, say
from nicwatchd.core.decision import Decision
from nicwatchd.core.lifecycle import State
from nicwatchd.core.port import KernelError
from nicwatchd.core.words import command, names_in
from nicwatchd.imds.client import ImdsClient
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.service.dry_run import preview
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.platform import NOT_EC2, is_ec2
from nicwatchd.service.settings import Settings, SettingsError, load
from nicwatchd.service.status import of_view


def plan(arguments: argparse.Namespace) -> int:
    """Print what would change. Returns 0 however much that is."""
    try:
        settings = load(arguments.config)
        if settings.platform == "auto" and not is_ec2():
            document: dict[str, Any] = {"idle": NOT_EC2, "interfaces": [], "commands": []}
        else:
            document = _as_json(asyncio.run(_preview(settings, arguments)))
    except (SettingsError, KernelError) as error:
        return fail(str(error), USAGE)
    say(json.dumps(document, indent=2) if arguments.json else "\n".join(_lines(document)))
    return OK


async def _preview(settings: Settings, arguments: argparse.Namespace) -> Decision:
    kernel = NetlinkKernel()
    try:
        async with ImdsClient(settings.imds.options()) as imds:
            ledger = Ledger(arguments.runtime_directory)
            return await preview(kernel, imds, ledger, settings.policy())
    finally:
        kernel.close()


def _as_json(decision: Decision) -> dict[str, Any]:
    epoch = time.time() - decision.at
    views = [view for _, view in sorted(decision.interfaces.items())]
    name_of = names_in(decision.kernel.links)
    return {
        "idle": None,
        "interfaces": [of_view(view, epoch).model_dump(mode="json") for view in views],
        "commands": [command(operation, name_of) for operation in decision.operations],
    }


def _lines(document: dict[str, Any]) -> Iterator[str]:
    if document["idle"]:
        yield f"idle: {document['idle']}"
    for each in document["interfaces"]:
        left_alone = each["state"] == State.IGNORED
        why = "; ".join(reason["text"] for reason in each["reasons"])
        what = "left alone" if left_alone else "managed"
        yield f"{each['name']}  {each['eni'] or each['mac']}  {what}" + (f": {why}" if why else "")
        yield from (f"    note: {note['text']}" for note in each["notes"])
    yield from (f"  {each}" for each in document["commands"])
    count = len(document["commands"])
    changes = "1 change" if count == 1 else f"{count} changes"
    yield f"{changes} to make; nothing was changed" if count else "nothing to change"
