"""`nicwatchd release`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Final

from nicwatchd.cli.main import NOT_WELL, OK, fail
from nicwatchd.core.kernel import KernelError
from nicwatchd.core.model import (
    Numbers,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    SetGroup,
)
from nicwatchd.netlink.capability import has_net_admin
from nicwatchd.netlink.kernel import NetlinkKernel
from nicwatchd.service.platform import AlreadyRunningError
from nicwatchd.service.release import Released, UnknownInterfaceError, alone
from nicwatchd.service.release import release as release_host
from nicwatchd.service.settings import SettingsError, load

KINDS: Final = {
    RemoveRule: "rules",
    RemoveRoute: "routes",
    RemoveAddress: "addresses",
    SetGroup: "link_groups",
}


def release(arguments: argparse.Namespace) -> int:
    """Release, and tell what went; 1 when something would not go."""
    if not has_net_admin():
        return fail("CAP_NET_ADMIN is missing: run it as root")
    try:
        with alone(arguments.runtime_directory) as ledger:
            kernel = NetlinkKernel()
            try:
                numbers = _numbers(arguments.config)
                work = release_host(kernel, ledger, arguments.interface, numbers)
                released = asyncio.run(work)
            finally:
                kernel.close()
    except AlreadyRunningError:
        return fail(
            "the daemon runs, and would put everything back: `systemctl stop nicwatchd` first"
        )
    except (KernelError, UnknownInterfaceError) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"{arguments.runtime_directory}: {error.strerror}")
    said = _said(released)
    text = json.dumps(said, indent=2) if arguments.json else "\n".join(_lines(released))
    sys.stdout.write(f"{text}\n")
    return NOT_WELL if released.failed else OK


def _numbers(config: Path | None) -> Numbers:
    """The settings' numbers; a package is to be removable whatever the settings say."""
    try:
        return load(config).policy().numbers
    except SettingsError as error:
        fail(f"{error}; going by the default numbers")
        return Numbers()


def _said(released: Released) -> dict[str, object]:
    counts = {name: sum(isinstance(o, kind) for o in released.done) for kind, name in KINDS.items()}
    failed = [
        {"operation": _describe(outcome.operation), "error": outcome.message}
        for outcome in released.failed
    ]
    return {"released": counts, "failed": failed}


def _lines(released: Released) -> list[str]:
    counts = {kind: sum(isinstance(o, kind) for o in released.done) for kind in KINDS}
    words = [f"{n} {KINDS[kind].replace('_', ' ')}" for kind, n in counts.items() if n]
    lines = [f"released: {', '.join(words)}" if words else "nothing of nicwatchd's is left"]
    return lines + [f"not released: {_describe(o.operation)}: {o.message}" for o in released.failed]


def _describe(operation: Operation) -> str:
    values = [str(getattr(operation, field.name)) for field in fields(operation)]
    return f"{type(operation).__name__}({', '.join(values)})"
