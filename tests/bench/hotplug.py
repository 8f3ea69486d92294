"""The time from "IMDS is complete" to "everything is in the kernel", for lags of 0 to 30 s."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.imds import ImdsServer, Request
from nicwatchd.sim.script import EniScript, Step
from tests.bench import host, outside
from tests.bench.figures import Figure, Limit

LANES: Final = 8  # hosts side by side; each costs about 2 % of a core while it waits
PLUGS: Final = 12  # hot-plugs of each, one after another
QUICK_PLUGS: Final = 1
LONGEST_LAG: Final = 30.0  # s; the longest ever reported on EC2
PAUSE: Final = 0.5  # s from applied to the unplug
FIRST: Final = 10.0  # s in which the daemon asks most often


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of lag, and the families in which DHCP configures the first address.

    `before` is what IMDS says until it is complete.
    """

    name: str
    leases: tuple[Family, ...]
    before: tuple[str, ...]


KINDS: Final = (
    Kind("IPv6 comes last; DHCPv4", (Family.V4,), ("unlisted", "without IPv6")),
    Kind("IPv6 comes last; DHCPv4 and v6", (Family.V4, Family.V6), ("unlisted", "without IPv6")),
    Kind("the MAC is not listed; DHCPv4 and v6", (Family.V4, Family.V6), ("unlisted",)),
    Kind("IPv6 is listed, but 404; DHCPv4", (Family.V4,), ("unlisted", "404")),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One hot-plug. Times in s.

    `first`, `later`: the requests about this ENI while it waited, in FIRST and after.
    """

    kind: str
    lag: float
    latency: float
    first: int
    later: int


def steps(kind: Kind, lag: float, chance: random.Random) -> tuple[Step, ...]:
    """The timeline of one ENI: its stages before `lag` begin at different times."""
    begins = [0.0, *sorted(chance.uniform(0, lag) for _ in kind.before[1:])]
    stages = {
        "unlisted": Step(listed=False),
        "without IPv6": Step(listed=True, hide=host.IPV6_KEYS, set={"device-number": "0"}),
        "404": Step(listed=True, lag=host.IPV6_KEYS, set={"device-number": "0"}),
    }
    before = [replace(stages[name], at=at) for name, at in zip(kind.before, begins, strict=True)]
    return (*before, Step(at=lag, complete=True))


async def measure(seed: int, *, quick: bool) -> list[Figure]:
    """Hot-plug ENIs on several hosts in parallel, with lags drawn uniformly from 0 to 30 s.

    Start: the last scripted step, by the clock of the IMDS server. End: the probe outside first
    finds every rule, route and address of the ENI in the kernel.
    """
    chance = random.Random(seed)
    plugs = QUICK_PLUGS if quick else PLUGS
    lanes = [
        [(KINDS[(lane + n) % len(KINDS)], chance.uniform(0, LONGEST_LAG)) for n in range(plugs)]
        for lane in range(LANES)
    ]
    runs = [
        _lane(lane, [(kind, lag, steps(kind, lag, chance)) for kind, lag in plan])
        for lane, plan in enumerate(lanes)
    ]
    samples = [sample for lane in await asyncio.gather(*runs) for sample in lane]
    return _figures(samples, seed)


async def _lane(lane: int, plan: list[tuple[Kind, float, tuple[Step, ...]]]) -> list[Sample]:
    """One host, with one ENI plugged after another."""
    scripts = [host.script(number, steps) for number, (_, _, steps) in enumerate(plan, 1)]
    await asyncio.sleep(lane * 0.7)  # hosts created at once would only wait for each other
    samples = []
    async with host.host(*scripts) as ec2:
        with outside.look_into(ec2.vpc.host) as probe:
            daemon = await ec2.start_daemon()
            await daemon.until("eth0", "ignored")
            for (kind, lag, _), script in zip(plan, scripts, strict=True):
                samples.append(await _one(ec2, probe, kind, lag, script))
                await asyncio.sleep(PAUSE)
                await ec2.unplug(script.name)
                await asyncio.sleep(PAUSE)
    return samples


async def _one(
    ec2: Ec2, probe: outside.Outside, kind: Kind, lag: float, script: EniScript
) -> Sample:
    eni = await host.plug(ec2, script.name, kind.leases)
    index = ec2.vpc.ifindex(eni)
    wanted = outside.expected(eni, index)
    start = ec2.imds.complete_at(script.name)
    await host.wait_for_clock(start - 0.05)
    if time.monotonic() < start and not await probe.missing(wanted):
        raise outside.NeverCameError(f"{kind.name}: applied before IMDS could tell of it")
    await host.wait_for_clock(start)
    latency = await probe.complete(wanted) - start
    asked = [request.at for request in requests_about(ec2.imds, script.mac, start - lag, start)]
    first = sum(at < start - lag + FIRST for at in asked)
    return Sample(kind.name, lag, latency, first, len(asked) - first)


def requests_about(imds: ImdsServer, mac: str, start: float, end: float) -> list[Request]:
    """The requests about one ENI in a period.

    A request for the list of MACs is about the one ENI that is not listed yet.
    """
    about = (mac, "/network/interfaces/macs/")
    return [
        request
        for request in imds.log
        if start <= request.at < end
        and (about[0] in request.path.lower() or request.path.endswith(about[1]))
    ]


def _figures(samples: list[Sample], seed: int) -> list[Figure]:
    long = [sample for sample in samples if sample.lag >= FIRST]
    later = sum(sample.lag - FIRST for sample in long)
    return [
        _latency([s for s in samples if s.lag < FIRST], "0 to 10 s", seed, (0.080, 0.150)),
        _latency(long, "10 to 30 s", seed, (0.150, 0.300)),
        Figure(
            f"IMDS requests while waiting, per NIC, in the first {FIRST:.0f} s",
            [sample.first / FIRST for sample in long],
            unit="",
            suffix="/s",
            limits=(Limit("max", 10.0),),
            show=("median",),
        ),
        Figure(
            f"IMDS requests while waiting, per NIC, then, over {later:.0f} s of waits",
            [sum(sample.later for sample in long) / later] if long else [],
            unit="",
            suffix="/s",
            limits=(Limit("max", 5.0),),
        ),
    ]


def _latency(samples: list[Sample], lags: str, seed: int, limits: tuple[float, float]) -> Figure:
    by_kind = {
        kind.name: [round(s.latency, 4) for s in samples if s.kind == kind.name] for kind in KINDS
    }
    median, p99 = limits
    return Figure(
        f"IMDS complete -> applied, lag {lags}, {len(samples)} hot-plugs",
        [sample.latency for sample in samples],
        limits=(Limit("median", median), Limit("p99", p99)),
        show=("max",),
        details={"seed": seed, "by kind": by_kind, "lags": [round(s.lag, 3) for s in samples]},
    )
