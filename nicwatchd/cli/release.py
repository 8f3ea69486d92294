"""`nicwatchd release`: carried out by the daemon if it is running, else by the command itself."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from nicwatchd.cli.client import ACT_TIMEOUT, DaemonError, ask, query
from nicwatchd.cli.output import NO_INTERFACE, NO_RIGHT, NOT_WELL, OK, USAGE, fail, say
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import KernelError
from nicwatchd.netlink.capability import has_net_admin
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.service.offline_release import locked_ledger
from nicwatchd.service.offline_release import release as release_offline
from nicwatchd.service.platform import AlreadyRunningError
from nicwatchd.service.requests import UnknownInterfaceError
from nicwatchd.service.settings import SettingsError, load


def release(arguments: argparse.Namespace) -> int:
    """Release, and print what was removed; 1 if something could not be removed."""
    if not has_net_admin():
        return fail("CAP_NET_ADMIN is missing: run this command as root", NO_RIGHT)
    try:
        document = _release(arguments)
    except DaemonError as error:
        return fail(str(error), error.code)
    except UnknownInterfaceError as error:
        return fail(str(error), NO_INTERFACE)
    except KernelError as error:
        return fail(str(error), NOT_WELL)
    except OSError as error:
        return fail(f"{arguments.runtime_directory}: {error.strerror}", USAGE)
    say(json.dumps(document, indent=2) if arguments.json else "\n".join(_lines(document)))
    return NOT_WELL if document["failed"] else OK


def _release(arguments: argparse.Namespace) -> dict[str, Any]:
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
        fail(f"{error}; using the default settings", USAGE)
        return Policy()


def _lines(document: dict[str, Any]) -> list[str]:
    counts = [f"{n} {kind.replace('_', ' ')}" for kind, n in document["released"].items() if n]
    failed = [f"not released: {each['operation']}: {each['error']}" for each in document["failed"]]
    return [f"released: {', '.join(counts)}" if counts else "nothing to release", *failed]
