"""How long until nicwatchd restores an object that somebody deletes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle, islice
from typing import Final

from nicwatchd.core.model import (
    LINK_GROUP,
    PROTOCOL,
    Family,
    OfKernel,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Rule,
    SetGroup,
    ours,
)
from nicwatchd.netlink.encode import encode
from nicwatchd.sim.ec2 import DaemonProcess
from tests.bench import host, outside
from tests.bench.figures import Figure, Limit

DELETIONS: Final = 32
QUICK_DELETIONS: Final = 3
# s between two deletions. Healing is limited to a burst of 10 and then 1 per 5 s; also, they are
# not to keep step with the polls.
SPACING: Final = (5.0, 5.3)


@asynccontextmanager
async def applied() -> AsyncIterator[tuple[outside.Outside, outside.Expected, DaemonProcess]]:
    """A host with a daemon and one applied ENI, observed from outside."""
    script = host.script(1)
    async with host.host(script) as ec2:
        with outside.look_into(ec2.vpc.host) as probe:
            daemon = await ec2.start_daemon()
            await daemon.until("eth0", "ignored")
            eni = await host.plug(ec2, script.name, tuple(Family))
            wanted = outside.expected(eni, ec2.vpc.ifindex(eni))
            await probe.complete(wanted)
            yield probe, wanted, daemon


async def measure(seed: int, *, quick: bool) -> list[Figure]:
    """Delete each kind of rule in turn, in both families, one at a time, on an applied ENI.

    Start: the kernel confirms the deletion. End: the probe outside sees the rule again.
    """
    chance = random.Random(seed)
    times = []
    async with applied() as (probe, wanted, _):
        rules = cycle(sorted(wanted.rules, key=str))
        for rule in islice(rules, QUICK_DELETIONS if quick else DELETIONS):
            await asyncio.sleep(chance.uniform(*SPACING))
            times.append(await delete(probe, rule))
    return [
        Figure(
            f"our rule deleted -> back, {len(times)} deletions",
            times,
            limits=(Limit("median", 0.150),),
            show=("max",),
        )
    ]


ALL: Final = "everything"
KINDS: Final = ("route", "address", "link group", ALL)
ROUNDS: Final = 7  # of each kind


async def measure_kinds(seed: int, *, quick: bool) -> list[Figure]:
    """Remove each other kind of object in turn, and everything of the ENI at once.

    Start: the request to the kernel. End: as above.
    """
    chance = random.Random(seed)
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    async with applied() as (probe, wanted, _):
        for number in range(1 if quick else ROUNDS):
            for kind in KINDS:
                await asyncio.sleep(chance.uniform(*SPACING))
                operations = await _objects(probe, wanted.index)
                if kind != ALL:
                    chosen = operations[kind]
                    operations = {kind: [chosen[number % len(chosen)]]}
                times[kind].append(await _remove(probe, wanted, operations))
    return [
        Figure(f"{_title(kind)} -> back", samples, limits=(Limit("median", 0.150),), show=SHOW)
        for kind, samples in times.items()
    ]


def _title(kind: str) -> str:
    return "everything of ours removed at once" if kind == ALL else f"our {kind} removed"


SHOW: Final = ("max",)
Operations = dict[str, list[OfKernel]]


async def _objects(probe: outside.Outside, index: int) -> Operations:
    """The operations that remove everything of ours, by kind."""
    kernel = probe.kernel
    rules = [rule for rule in await kernel.rules() if rule.protocol == PROTOCOL]
    added = [address for address in await kernel.addresses(index) if ours(address)]
    return {
        "rule": [RemoveRule(rule) for rule in rules],
        "route": [RemoveRoute(route) for route in await kernel.own_routes()],
        "address": [RemoveAddress(index, a.ip, a.prefixlen) for a in added],
        "link group": [SetGroup(index, 0)],
    }


async def _remove(
    probe: outside.Outside, wanted: outside.Expected, operations: Operations
) -> float:
    """Remove some objects; returns the seconds until all are back."""
    removals = [encode(operation) for some in operations.values() for operation in some]
    start = time.monotonic()  # the daemon is notified of the first before the last is removed
    replies = await probe.requests.batch(removals)
    if any(reply.errno for reply in replies):
        raise outside.NeverCameError(f"not removed: {replies}")

    async def missing() -> str:
        link = await probe.kernel.link(wanted.index)
        grouped = link is not None and link.group == LINK_GROUP
        return "the link group" if not grouped else await probe.missing(wanted)

    return await probe.until(missing) - start


async def delete(probe: outside.Outside, rule: Rule) -> float:
    """Delete one rule; returns the seconds until it is back."""
    (reply,) = await probe.requests.batch([encode(RemoveRule(rule))])
    if reply.errno:
        raise outside.NeverCameError(f"{rule} could not be deleted: {reply.message}")
    start = time.monotonic()

    async def missing() -> str:
        return "" if rule in await probe.kernel.rules() else str(rule)

    return await probe.until(missing) - start
