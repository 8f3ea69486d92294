"""How long until nicwatchd sees what is assigned to an ENI in place, or taken away from it."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, replace
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import Ec2, eni_of
from nicwatchd.sim.script import EniScript
from tests.bench import host, outside
from tests.bench.figures import Figure, Limit

SETTLE: Final = 185.0  # s after the hot-plug: with IPv4 only, IPv6 is waited for until 180 s
ROUNDS: Final = 8  # of each host: one thing comes, and goes
QUICK_ROUNDS: Final = 3
LONGEST: Final = 15.0  # s, longer than any interval between two polls
PATIENCE: Final = 120.0  # s
INTERVAL: Final = 0.01  # s between two looks: for a minute, on eight hosts
GONE: Final = 40.0  # s

IPV4, IPV6 = "an IPv4 address", "an IPv6 address"
PREFIX4, PREFIX6 = "an IPv4 prefix", "an IPv6 prefix"
ADDRESSES: Final = (IPV4, IPV6)


@dataclass(frozen=True, slots=True)
class Sample:
    """One thing that came and went. Times in s."""

    eni: str  # the kind of ENI
    kind: str
    came: float
    went: float


def _base(number: int) -> dict[str, EniScript]:
    """The kinds of ENIs: what is asked for differs, and so does how often."""
    whole = host.script(number)
    usual = replace(whole, ipv4_prefixes=(), ipv6_prefixes=())
    return {
        "both families": usual,
        "IPv4 only": replace(usual, ipv6=(), subnet_ipv6=()),
        "both families, with prefixes": whole,
    }


def _more(script: EniScript, kind: str) -> EniScript:
    """The ENI with one thing more."""
    match kind:
        case "an IPv4 address":
            return replace(script, ipv4=(*script.ipv4, "10.0.2.99"))
        case "an IPv6 address":
            return replace(script, ipv6=(*script.ipv6, "2001:db8:0:2::99"))
        case "an IPv4 prefix":
            return replace(script, ipv4_prefixes=(*script.ipv4_prefixes, "10.0.2.128/28"))
        case _:
            prefixes = (*script.ipv6_prefixes, "2001:db8:0:2:bb::/80")
            return replace(script, ipv6_prefixes=prefixes)


async def measure(seed: int, *, quick: bool) -> list[Figure]:
    """Assign one thing in place, wait, and take it away, several times on several hosts.

    No event on the host tells of it. Start: IMDS lists it, or not any more. End: the probe outside
    sees all of it in the kernel, or nothing. It begins at any moment between two polls.
    """
    chance = random.Random(seed)
    rounds = QUICK_ROUNDS if quick else ROUNDS
    runs = [_lane(lane, name, rounds, chance) for lane, name in enumerate(_base(1))]
    samples = [sample for lane in await asyncio.gather(*runs) for sample in lane]
    addresses = [sample for sample in samples if sample.kind in ADDRESSES]
    prefixes = [sample for sample in samples if sample.kind not in ADDRESSES]
    return [
        _figure("an address assigned in place -> applied", addresses, median=3.0, most=6.0),
        _figure("a prefix assigned in place -> applied", prefixes, median=None, most=10.0),
        Figure(
            f"taken away in place -> gone, {len(samples)} times",
            [sample.went for sample in samples],
            unit="s",
            limits=(Limit("max", GONE),),
            show=("median",),
            details={"by kind": _by_kind(samples, "went")},
        ),
    ]


def _figure(what: str, samples: list[Sample], median: float | None, most: float) -> Figure:
    limits = (Limit("max", most),)
    return Figure(
        f"{what}, {len(samples)} times",
        [sample.came for sample in samples],
        unit="s",
        limits=limits if median is None else (Limit("median", median), *limits),
        show=("median",),
        details={"by kind": _by_kind(samples, "came")},
    )


def _by_kind(samples: list[Sample], which: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for sample in samples:
        name = f"{sample.kind}; {sample.eni}"
        found.setdefault(name, []).append(round(getattr(sample, which), 3))
    return found


async def _lane(lane: int, name: str, rounds: int, chance: random.Random) -> list[Sample]:
    """One host, with one ENI, to which one thing after another is assigned."""
    await asyncio.sleep(lane * 0.7)  # hosts created at once would only wait for each other
    script = _base(1)[name]
    families = [family for family in Family if family is Family.V4 or script.subnet_ipv6]
    kinds = [IPV4, PREFIX4] if families == [Family.V4] else [IPV4, PREFIX6, IPV6, PREFIX4]
    samples = []
    async with host.host(script) as ec2:
        with outside.look_into(ec2.vpc.host) as probe:
            daemon = await ec2.start_daemon()
            await daemon.until("eth0", "ignored")
            eni = await host.plug(ec2, script.name, families)
            await probe.complete(outside.expected(eni, ec2.vpc.ifindex(eni)))
            await asyncio.sleep(SETTLE)
            for number in range(rounds):
                kind = kinds[number % len(kinds)]
                await asyncio.sleep(chance.uniform(0.0, LONGEST))
                came, went = await _come_and_go(ec2, probe, script, kind, chance)
                samples.append(Sample(name, kind, came, went))
    return samples


async def _come_and_go(
    ec2: Ec2, probe: outside.Outside, script: EniScript, kind: str, chance: random.Random
) -> tuple[float, float]:
    """Assign one thing, and take it away; returns how long each took."""
    more, index = _more(script, kind), ec2.vpc.ifindex(eni_of(script))
    usual = outside.expected(eni_of(script), index)
    wanted = outside.expected(eni_of(more), index)
    start = _tell(ec2, script, more)
    came = await probe.complete(wanted, PATIENCE, INTERVAL) - start
    await asyncio.sleep(chance.uniform(0.0, LONGEST))
    start = _tell(ec2, more, script)
    extra = replace(
        wanted,
        rules=wanted.rules - usual.rules,
        routes=wanted.routes - usual.routes,
        addresses=wanted.addresses - usual.addresses,
    )

    async def left() -> str:
        return await probe.present(extra)

    return came, await probe.until(left, PATIENCE, INTERVAL) - start


def _tell(ec2: Ec2, before: EniScript, now: EniScript) -> float:
    """Let IMDS list what the ENI has now; returns the monotonic time."""
    facts = now.facts()
    gone = before.facts().keys() - facts.keys()
    ec2.imds.step(now.name, complete=True, texts=facts, hide=set(gone))
    return time.monotonic()
