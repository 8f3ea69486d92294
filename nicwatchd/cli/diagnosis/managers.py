"""Which other programs configure ENIs here: those that `nicwatchd migrate` takes over from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from nicwatchd.cli.diagnosis.facts import Tool
from nicwatchd.cli.migration import cloud_init, cloud_netconfig, net_utils, nm_cloud_setup, traces
from nicwatchd.cli.migration.findings import Finding, Ground
from nicwatchd.cli.migration.system import CommandError, System
from nicwatchd.cli.migration.traces import Traces

FINDERS: Final[dict[str, Callable[[Ground], Finding | None]]] = {
    cloud_init.TOOL: cloud_init.find,
    net_utils.TOOL: net_utils.find,
    nm_cloud_setup.TOOL: nm_cloud_setup.find,
    cloud_netconfig.TOOL: cloud_netconfig.find,
}


def tools(
    system: System, interfaces: list[dict[str, Any]], primary_mac: str | None
) -> tuple[tuple[Tool, ...], tuple[str, ...]]:
    """Those at work, and what could not be looked at, one line each.

    `interfaces` are as in `GET /v1/status`.
    """
    status = {"interfaces": interfaces, "primary_mac": primary_mac}
    try:
        kernel = traces.read(system)
    except CommandError:
        kernel = Traces()  # their signs are files and units
    ground = Ground(system, kernel, status, "auto")
    found, unseen = [], []
    for name, find in FINDERS.items():
        try:
            finding = find(ground)
        except (CommandError, OSError) as error:
            unseen.append(f"{name}: {str(error).partition(': ')[2] or error}")
            continue
        if finding:
            found.append(Tool(name, finding.signs))
    return tuple(found), tuple(unseen)


def beside(found: tuple[Tool, ...]) -> Iterator[str]:
    """What a plan says of them."""
    for tool in found:
        yield f"{tool.name} on (its rules stand before ours)"
