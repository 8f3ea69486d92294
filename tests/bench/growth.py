"""How what nicwatchd costs grows with the host: `make bench-growth`, which takes minutes.

Each figure is taken at 1, 4, 16 and 64 ENIs of 50 addresses in both families, and on a host of 16
ENIs at 1, 10 and 50 addresses. It is printed with its exponent: 1 means that twice as many cost
twice as much.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nicwatchd.core.model import PROTOCOL, Family, Rule
from nicwatchd.sim import sandbox
from nicwatchd.sim.ec2 import Ec2
from tests.bench import crowd, heal, host, hotplug, outside, report
from tests.bench.quiet import Process

SIZES: Final = (1, 4, 16, 64)
QUICK_SIZES: Final = (1, 16)
ADDRESSES: Final = (1, 10, 50)
AT: Final = 16  # ENIs on which the addresses are varied
SETTLE, REST = 65.0, 75.0  # s: until nothing is asked often any more, and of a round of renewals
QUICK_SETTLE, QUICK_REST = 65.0, 15.0
EVENTS: Final = 8  # of each kind
RESTS: Final = 5  # without an event, but some with a heartbeat
CALM: Final = 5.0  # s after many renewals
APART: Final = 1.1  # s between two of them: a turn of its own for each
CHURN: Final = 0.1  # s between two renewals of others, each with a foreign link that comes or goes

ENIS: Final = "ENIs of 50 + 50 addresses"
OF_EACH: Final = f"addresses of each family, on {AT} ENIs"
IDLE: Final = "idle with renewals, of one core [%]"
RENEWED: Final = "CPU of one renewal [ms]"
READ: Final = "CPU of one request at rest that finds nothing new [ms]"
RULE_CPU: Final = "CPU of one deleted rule [ms]"
RULE: Final = "our rule deleted -> back, median [ms]"
PLUGGED: Final = "one more ENI: plugged -> complete [ms]"
CHURNED: Final = "... beside 10 renewals and 10 foreign links a second [ms]"
ASKED: Final = "requests to IMDS at rest, per NIC and minute"
MEMORY: Final = "memory (RSS) [MiB]"
START: Final = "start -> all applied [s]"
START_CPU: Final = "... CPU [s]"


@dataclass(frozen=True, slots=True)
class Budget:
    """At most so much at some of the sizes; `exponent`: at most this one."""

    at: Mapping[int, float]
    exponent: float = math.inf


BUDGETS: Final[Mapping[str, Budget]] = {
    IDLE: Budget({1: 0.08, 16: 0.2, 64: 0.5}, 1.1),
    RENEWED: Budget({64: 2.0}),
    READ: Budget({64: 1.0}),
    RULE_CPU: Budget({64: 10.0}),
    RULE: Budget({1: 150.0, 64: 150.0}),
    PLUGGED: Budget({}),
    CHURNED: Budget({}),
    ASKED: Budget(dict.fromkeys(SIZES, 15.0)),
    MEMORY: Budget({1: 56.0, 64: 66.0}),
    START: Budget({64: 2.5}),
    START_CPU: Budget({64: 1.2}),
}


async def measure(size: int, addresses: int, *, quick: bool) -> dict[str, float]:
    """All figures of a host with so many ENIs of so many addresses, by their names."""
    scripts = [crowd.script(number, addresses) for number in range(1, size + 3)]
    more = [scripts.pop(), scripts.pop()]
    async with host.host(*scripts, *more) as ec2:
        await crowd.plug_all(ec2, scripts)
        names = [script.name for script in scripts]
        began = time.monotonic()
        started = await crowd.start(ec2)
        await crowd.all_applied(started.daemon, size)
        found = {START: time.monotonic() - began, START_CPU: started.process.cpu()}
        renewing = asyncio.create_task(renewals(ec2, names))
        await asyncio.sleep(QUICK_SETTLE if quick else SETTLE)
        with outside.look_into(ec2.vpc.host) as probe:
            found |= await _at_rest(
                ec2, started.process, names, QUICK_REST if quick else REST, renewing
            )
            found |= await _events(ec2, started.process, names, probe)
            found[PLUGGED] = await _plug(ec2, more[0].name, probe)
            churn = asyncio.create_task(_churn(ec2, names))
            found[CHURNED] = await _plug(ec2, more[1].name, probe)
            churn.cancel()
            await asyncio.gather(churn, return_exceptions=True)
        found[MEMORY], _ = started.process.memory()
    return found


async def _plug(ec2: Ec2, name: str, probe: outside.Outside) -> float:
    """Milliseconds from the hot-plug to all of it in the kernel."""
    at = time.monotonic()
    eni = await host.plug(ec2, name, tuple(Family))
    return 1000 * (await probe.complete(outside.expected(eni, ec2.vpc.ifindex(eni))) - at)


async def _churn(ec2: Ec2, names: Sequence[str]) -> None:
    """Leases are renewed, one ENI after the other, and links of others come and go."""
    for number in itertools.count():
        await renew(ec2, names[number % len(names)])
        verb = "del" if number % 2 else "add"
        await ec2.vpc.ip(ec2.vpc.host, f"link {verb} churn type dummy")
        await asyncio.sleep(CHURN)


async def renewals(ec2: Ec2, names: Sequence[str], every: float = REST) -> None:
    """DHCP renews each ENI every so many seconds, one after the other, from the lease on.

    Who begins later lets addresses become deprecated, after 140 s: that is a change, and no rest.
    """
    begin = time.monotonic()
    for number in itertools.count():
        await host.wait_for_clock(begin + number * every / len(names))
        await renew(ec2, names[number % len(names)])


async def _at_rest(
    ec2: Ec2, process: Process, names: Sequence[str], seconds: float, renewing: asyncio.Task[None]
) -> dict[str, float]:
    """With renewals for so many seconds, and then without them."""
    begin, before = time.monotonic(), process.cpu()
    await asyncio.sleep(seconds)
    end, after = time.monotonic(), process.cpu()
    asked = _asked(ec2, names, begin, end)
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    asking = time.monotonic()
    polled = process.cpu()
    await asyncio.sleep(seconds / 2)
    cpu, now = process.cpu() - polled, time.monotonic()
    count = _asked(ec2, names, asking, now)
    for name in names:  # for the time of what is measured next
        await renew(ec2, name)
    await asyncio.sleep(CALM)
    return {
        IDLE: 100 * (after - before) / (end - begin),
        ASKED: 60 * asked / len(names) / (end - begin),
        READ: 1000 * cpu / max(1, count),
    }


def _asked(ec2: Ec2, names: Sequence[str], begin: float, end: float) -> int:
    """How many requests there were about these ENIs."""
    macs = (ec2.eni(name).mac for name in names)
    return sum(len(hotplug.requests_about(ec2.imds, mac, begin, end)) for mac in macs)


async def renew(ec2: Ec2, name: str) -> None:
    for family in Family:
        await ec2.vpc.lease(ec2.eni(name), family)


async def _events(
    ec2: Ec2, process: Process, names: Sequence[str], probe: outside.Outside
) -> dict[str, float]:
    """What one event costs beyond as long a rest."""
    rest = _median([await _cost(process) for _ in range(RESTS)])
    renewed, rules, back = [], [], []
    for number in range(EVENTS):
        await renew(ec2, names[number % len(names)])
        renewed.append(await _cost(process) - rest)
    apart = max(1, len(names) // EVENTS)  # of several ENIs, if there are several
    for rule in (await own_rules(probe))[::apart][:EVENTS]:
        before = process.cpu()
        back.append(await heal.delete(probe, rule))
        await asyncio.sleep(APART)
        rules.append(process.cpu() - before - rest)
    return {
        RENEWED: 1000 * _median(renewed),
        RULE_CPU: 1000 * _median(rules),
        RULE: 1000 * _median(back),
    }


async def own_rules(probe: outside.Outside) -> list[Rule]:
    """Our rules for whole subnets, one of each family of an ENI; if there is none, all others."""
    every = await probe.kernel.rules()
    ours = [r for r in every if r.protocol == PROTOCOL and r.suppress_ifgroup is None]
    return [r for r in ours if r.iif] or ours


async def _cost(process: Process) -> float:
    """The CPU seconds of the next APART seconds."""
    before = process.cpu()
    await asyncio.sleep(APART)
    return process.cpu() - before


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else math.nan


def exponent(values: Mapping[int, float]) -> float:
    """By which power of the size a figure grows: the slope of its logarithm, by least squares."""
    points = [(math.log(size), math.log(max(value, 1e-9))) for size, value in values.items()]
    x = sum(p[0] for p in points) / len(points)
    y = sum(p[1] for p in points) / len(points)
    spread = sum((p[0] - x) ** 2 for p in points)
    return sum((p[0] - x) * (p[1] - y) for p in points) / spread if spread else 0.0


def table(found: Mapping[int, Mapping[str, float]], *, by: str) -> tuple[str, list[str]]:
    """The figures as Markdown, and what is over its budget. `by`: what the sizes are of."""
    sizes, missed = sorted(found), []
    budgeted = by == ENIS
    rows = [f"| {by} | " + " | ".join(map(str, sizes)) + " | exponent | budget |"]
    rows.append("|---" * (len(sizes) + 3) + "|")
    for what, usual in BUDGETS.items():
        budget = usual if budgeted else Budget({})
        values = {size: found[size][what] for size in sizes}
        power = exponent(values)
        over = [f"{s}: {values[s]:.3g}" for s, most in budget.at.items() if values.get(s, 0) > most]
        over += [f"exponent {power:.2f}"] if power > budget.exponent else []
        missed += [f"{what}: {', '.join(over)}"] if over else []
        limits = [f"{most:g} at {size}" for size, most in budget.at.items()]
        limits += [f"exponent {budget.exponent:g}"] if budget.exponent < math.inf else []
        shown = " | ".join(f"{values[size]:.3g}" for size in sizes)
        rows.append(f"| {what} | {shown} | {power:.2f} | {', '.join(limits)} |")
    return "\n".join(rows) + "\n", missed


def main() -> int:
    """The command line; the exit code: 1 if a budget is exceeded."""
    parser = argparse.ArgumentParser(prog="bench-growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sizes; writes nothing")
    arguments = parser.parse_args()
    sandbox.require()
    sizes = [(size, ADDRESSES[-1]) for size in (QUICK_SIZES if arguments.quick else SIZES)]
    if not arguments.quick:
        sizes += [(AT, addresses) for addresses in ADDRESSES if addresses != ADDRESSES[-1]]
    found = {}
    for size, addresses in sizes:
        found[(size, addresses)] = asyncio.run(measure(size, addresses, quick=arguments.quick))
        sys.stdout.write(f"{size} ENIs of {addresses} + {addresses}: measured\n")
        sys.stdout.flush()
    text, missed = table({s: its for (s, a), its in found.items() if a == ADDRESSES[-1]}, by=ENIS)
    if not arguments.quick:
        more, _ = table({a: its for (s, a), its in found.items() if s == AT}, by=OF_EACH)
        text += f"\n{more}"
    sys.stdout.write(text)
    for what in missed:
        sys.stdout.write(f"over budget: {what}\n")
    if not arguments.quick:
        report.fill_in("make bench-growth", text)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
