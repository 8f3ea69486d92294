"""`nicwatchd release`: done by the daemon if it is running, else by the command itself."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from nicwatchd.cli.client import ACT_TIMEOUT, DaemonError, ask, query
from nicwatchd.cli.output import NOT_WELL, OK, fail, say
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import KernelError
from nicwatchd.netlink.capability import has_net_admin
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.service.offline_release import alone
from nicwatchd.service.offline_release import release as release_alone
from nicwatchd.service.platform import AlreadyRunningError
from nicwatchd.service.requests import UnknownInterfaceError
from nicwatchd.service.settings import SettingsError, load


def release(arguments: argparse.Namespace) -> int:
    """Release, and print what was removed; 1 if something could not be removed."""
    if not has_net_admin():
        return fail("CAP_NET_ADMIN is missing: run this command as root")
    try:
        said = _release(arguments)
    except (DaemonError, KernelError, UnknownInterfaceError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{arguments.runtime_directory}: {error.strerror}")
    say(json.dumps(said, indent=2) if arguments.json else "\n".join(_lines(said)))
    return NOT_WELL if said["failed"] else OK


def _release(arguments: argparse.Namespace) -> dict[str, Any]:
    try:
        with alone(arguments.runtime_directory) as ledger:
            kernel = NetlinkKernel()
            try:
                policy = _policy(arguments.config)
                work = release_alone(kernel, ledger, arguments.interface, policy)
                return asyncio.run(work).as_json()
            finally:
                kernel.close()
    except AlreadyRunningError:
        path = f"/v1/release{query(arguments.interface)}"
        said: dict[str, Any] = ask(arguments.runtime_directory, "POST", path, ACT_TIMEOUT)
        return said


def _policy(config: Path | None) -> Policy:
    """The settings, else the defaults: wrong settings must not block a removal."""
    try:
        return load(config).policy()
    except SettingsError as error:
        fail(f"{error}; using the default settings")
        return Policy()


def _lines(said: dict[str, Any]) -> list[str]:
    words = [f"{n} {kind.replace('_', ' ')}" for kind, n in said["released"].items() if n]
    lines = [f"released: {', '.join(words)}" if words else "nothing to release"]
    return lines + [f"not released: {one['operation']}: {one['error']}" for one in said["failed"]]
