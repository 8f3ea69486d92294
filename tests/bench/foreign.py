"""Objects of other software on the host: container links, routes of a routing daemon, rules."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import SETTINGS, DaemonProcess, Ec2
from tests.bench import heal, host, outside
from tests.bench.figures import Figure, Limit
from tests.bench.quiet import Process

VETHS, ROUTES, RULES = 5000, 100_000, 10_000
QUICK_DIVISOR: Final = 20
GROUP: Final = 77  # of the foreign links, which are removed at once, as if with their namespace
REST: Final = 10.0  # s
HEALS: Final = 5
SPACING: Final = 5.1  # s between two deletions: healing is limited to a burst, then 1 per 5 s
# The ENI is a macvlan here, so that veths are as irrelevant to the daemon as on EC2. No refresh is
# due within the hour, so any request would be one that a veth caused.
MACVLAN: Final = (
    SETTINGS.replace("veth", "macvlan")
    + """\
[retry]
keep = 1.0
fast_for = 1.0
refresh = 3600.0
"""
)


async def measure(_seed: int, *, quick: bool) -> list[Figure]:
    """Measure both; see the two functions."""
    divisor = QUICK_DIVISOR if quick else 1
    return [
        *await _links(VETHS // divisor),
        *await _routes_and_rules(ROUTES // divisor, RULES // divisor),
    ]


async def _links(veths: int) -> list[Figure]:
    """The daemon's CPU time while pairs of veths come and go beside an applied ENI.

    Afterwards a rule of ours is deleted, and comes back: no event was lost.
    """
    script = host.script(1, addresses=1)
    async with host.host(script) as ec2:
        daemon = await ec2.start_daemon(MACVLAN)
        eni, name = ec2.eni(script.name), ec2.vpc.host
        ec2.imds.plug(script.name)
        await ec2.vpc.ip(name, f"link add {eni.name} link eth0 address {eni.mac} type macvlan")
        await daemon.until(eni.name, "applied")
        await asyncio.sleep(REST)
        process, asked = Process(daemon.process.pid), len(ec2.imds.log)
        with outside.look_into(name) as probe:
            wanted = outside.expected(eni, ec2.vpc.ifindex(eni))
            before = process.cpu()
            pairs = (f"v{n} group {GROUP} type veth peer name w{n}" for n in range(veths))
            await ec2.vpc.ip(name, *(f"link add {pair}" for pair in pairs))
            await ec2.vpc.ip(name, f"link del group {GROUP}")
            await asyncio.sleep(REST)
            spent, asked = process.cpu() - before, len(ec2.imds.log) - asked
            await heal.delete(probe, next(iter(wanted.rules)))
            await probe.complete(wanted)
    what = f"{veths} foreign veth pairs added and removed"
    return [
        Figure(f"{what}: CPU of the daemon", [spent], "s", limits=(Limit("max", 0.5),)),
        Figure(f"{what}: requests", [float(asked)], unit="", limits=(Limit("max", 0.0),)),
    ]


async def _routes_and_rules(routes: int, rules: int) -> list[Figure]:
    """Routes of a routing daemon in main, through the primary, and foreign rules before ours."""
    script = host.script(1)
    async with host.host(script) as ec2:
        daemon = await ec2.start_daemon()
        with outside.look_into(ec2.vpc.host) as probe:
            # Rules first: after the routes, the kernel takes 10 ms for each rule.
            coming = await _cpu(daemon, _add(ec2, routes, rules))
            eni = await host.plug(ec2, script.name, tuple(Family))
            wanted = outside.expected(eni, ec2.vpc.ifindex(eni))
            await probe.complete(wanted, 60.0)
            await daemon.until(script.name, "applied")
            await asyncio.sleep(REST)
            resting = await _cpu(daemon, asyncio.sleep(REST)) / REST
            looking = await _cpu(daemon, daemon.post("/v1/reconcile"))
            heals = []
            for _ in range(HEALS):
                await asyncio.sleep(SPACING)
                heals.append(await heal.delete(probe, next(iter(wanted.rules))))
            memory, _ = Process(daemon.process.pid).memory()
    what = f"{routes:,} foreign routes in main, {rules:,} foreign rules"
    return [
        Figure(f"{what}: CPU of the daemon while they are added", [coming], "s"),
        Figure(f"{what}: CPU to read everything once", [looking]),
        Figure(f"{what}: CPU of one core, with an ENI polled 4 times a second", [resting], "%"),
        Figure(f"{what}: our rule deleted -> back", heals, show=("median", "max")),
        Figure(f"{what}: resident memory", [memory], "MiB"),
    ]


async def _add(ec2: Ec2, routes: int, rules: int) -> None:
    name = ec2.vpc.host
    v4 = (f"11.{n >> 8}.{n & 255}.0/24" for n in range(rules // 2))
    v6 = (f"3fff:{n:x}::/32" for n in range(rules // 2))
    for family, sources in ((Family.V4, v4), (Family.V6, v6)):
        lines = (f"rule add priority {1000 + n} from {s} lookup 100" for n, s in enumerate(sources))
        await ec2.vpc.ip(name, *lines, family=family)
    tail = "dev eth0 proto bird"
    n4 = (f"12.{n >> 14}.{n >> 6 & 255}.{(n & 63) * 4}/30" for n in range(routes // 2))
    n6 = (f"3fff:{n >> 16:x}:{n & 0xFFFF:x}::/48" for n in range(routes // 2))
    await ec2.vpc.ip(name, *(f"route add {net} via 10.0.1.1 {tail}" for net in n4))
    await ec2.vpc.ip(name, *(f"route add {net} via fe80:ec2::1 {tail}" for net in n6))


async def _cpu(daemon: DaemonProcess, doing: Awaitable[object]) -> float:
    """The CPU seconds that the daemon uses during an awaitable."""
    process = Process(daemon.process.pid)
    before = process.cpu()
    await doing
    return process.cpu() - before
