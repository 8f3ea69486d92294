"""Which tools are at work on this host, what would be done, and what speaks against it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nicwatchd.cli.migration import (
    cloud_init,
    cloud_netconfig,
    net_utils,
    nm_cloud_setup,
    traces,
)
from nicwatchd.cli.migration.findings import Finding, Ground
from nicwatchd.cli.migration.record import Entry, Record
from nicwatchd.cli.migration.steps import Step
from nicwatchd.cli.migration.system import System
from nicwatchd.core.model import IPNetwork

TOOLS = (net_utils.find, cloud_init.find, nm_cloud_setup.find, cloud_netconfig.find)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found. With `refusals`, nothing is to be done."""

    findings: tuple[Finding, ...] = ()
    altnames: tuple[Step, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in order."""
        return (*(step for found in self.findings for step in found.steps), *self.altnames)

    def record(self) -> Record:
        """The record of a migration that has not begun."""
        return Record([found.tool for found in self.findings], [Entry(step) for step in self.steps])


def survey(
    system: System, addresses: str, leave: Iterable[IPNetwork] = (), *, altnames: bool
) -> Survey:
    """Look at the host. Raises CommandError, DaemonError, OSError.

    `addresses` and `leave` are the settings `addresses` and `leave_addresses`. `altnames`: give
    each ENI its id as an alternative name.
    """
    status = system.ask("GET", "/v1/status")
    ground = Ground(system, traces.read(system), status, addresses, tuple(leave))
    found = tuple(finding for find in TOOLS if (finding := find(ground)))
    refusals = [*_cannot_take_over(ground)] if found else []
    refusals += [f"{each.tool}: {why}" for each in found for why in each.refusals]
    names = tuple(_altnames(ground)) if altnames else ()
    return Survey(found, names, tuple(refusals))


def _cannot_take_over(ground: Ground) -> Iterator[str]:
    """Why nicwatchd could not take anything over."""
    status = ground.status
    if status["idle"]:
        yield f"nicwatchd is idle: {status['idle']}"
    elif status["released"]:
        yield "nicwatchd leaves this host alone: it was released; run `nicwatchd reconcile`"
    elif status["primary_mac"] is None:
        yield "nicwatchd does not know the primary yet: it programs nothing before that"
    yield from (f"nicwatchd has a problem: {problem}" for problem in status["problems"])


def _altnames(ground: Ground) -> Iterator[Step]:
    for interface in ground.interfaces:
        eni, name = interface["eni"], interface["name"]
        if eni:
            yield Step(
                "altname",
                f"ip link property add dev {name} altname {eni}",
                "as amazon-ec2-net-utils does; it stays while the link is there, renamed or not",
                {"mac": interface["mac"], "name": eni},
            )
