"""One NIC with many addresses: how long the daemon takes, compared with `ip -batch`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from ipaddress import ip_network
from statistics import median
from typing import Final

from nicwatchd.core.model import LINK_GROUP, MAIN_TABLE, PROTOCOL, Family, IPAddress, Route, Rule
from nicwatchd.sim import netns
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.script import Step
from tests.bench import host, outside
from tests.bench.figures import Figure, Limit

ADDRESSES: Final = 50  # of each family
ROUNDS: Final = 9
QUICK_ROUNDS: Final = 2
LAG: Final = 3.0  # s: by then DHCP and the start of the link have finished
DETACHED: Final = 0.200  # s
TIMES: Final = 1.5  # at most this many times as long as `ip -batch`
LINK_LOCAL: Final = ip_network("fe80::/64")
UNLISTED: Final = (Step(listed=False), Step(at=LAG, complete=True))


async def measure(_seed: int, *, quick: bool) -> list[Figure]:
    """Hot-plug an ENI with 50 + 50 addresses; DHCP configures the first of each family.

    Start: IMDS receives the last request before the end, so everything after its answer counts.
    End: the probe outside sees everything in the kernel. `ip -batch`: from the start of the
    process to its end, with the same operations, on a host without the daemon.
    """
    rounds = QUICK_ROUNDS if quick else ROUNDS
    by_daemon, detached = await _by_daemon(rounds)
    by_batch = await _by_batch(rounds)
    baseline = median(by_batch)
    what = f"one NIC with {ADDRESSES} + {ADDRESSES} addresses"
    return [
        Figure(f"{what}: last answer from IMDS -> applied", by_daemon, show=("median", "max")),
        Figure(f"{what}: `ip -batch` of the same operations", by_batch, show=("median", "max")),
        Figure(
            f"{what}: nicwatchd relative to `ip -batch`",
            [taken / baseline for taken in by_daemon],
            unit="",
            suffix=" x",
            limits=(Limit("median", TIMES),),
        ),
        Figure(
            f"{what} unplugged -> nothing of ours left",
            detached,
            limits=(Limit("max", DETACHED),),
            show=("median",),
        ),
        Figure(
            f"rules of one ENI with {ADDRESSES} + {ADDRESSES} addresses, relative to 1 + 1",
            [await _rules(ADDRESSES) / await _rules(1)],
            unit="",
            suffix=" x",
            limits=(Limit("max", 1.0),),
        ),
    ]


async def _by_daemon(rounds: int) -> tuple[list[float], list[float]]:
    """The times to apply, and the times to clean up after the unplug."""
    scripts = [host.script(n, UNLISTED, ADDRESSES) for n in range(1, rounds + 1)]
    times, detached = [], []
    async with host.host(*scripts) as ec2:
        with outside.look_into(ec2.vpc.host) as probe:
            daemon = await ec2.start_daemon()
            await daemon.until("eth0", "ignored")
            for script in scripts:
                eni = await host.plug(ec2, script.name, tuple(Family))
                wanted = outside.expected(eni, ec2.vpc.ifindex(eni))
                await host.wait_for_clock(ec2.imds.complete_at(script.name))
                end = await probe.complete(wanted)
                times.append(end - max(r.at for r in ec2.imds.log if r.at <= end))
                detached.append(await _detach(ec2, probe, script.name))
                await asyncio.sleep(1.0)
    return times, detached


async def _detach(ec2: Ec2, probe: outside.Outside, name: str) -> float:
    """Unplug an ENI; returns the seconds until no rule of ours is left. Routes go with the link."""

    async def left() -> str:
        return ", ".join(str(r) for r in await probe.kernel.rules() if r.protocol == PROTOCOL)

    gone = asyncio.create_task(probe.until(left))  # it sees the rules until they go
    start = await ec2.vpc.unplug(ec2.eni(name))
    end = await gone
    ec2.imds.unplug(name)
    return max(0.0, end - start)


async def _rules(addresses: int) -> float:
    """The number of our rules for an ENI with this many addresses of each family."""
    script = host.script(1, (), addresses)
    async with host.host(script) as ec2:
        with outside.look_into(ec2.vpc.host) as probe:
            await ec2.start_daemon()
            eni = await host.plug(ec2, script.name, tuple(Family))
            await probe.complete(outside.expected(eni, ec2.vpc.ifindex(eni)))
            return sum(rule.protocol == PROTOCOL for rule in await probe.kernel.rules())


async def _by_batch(rounds: int) -> list[float]:
    script = host.script(1, (), ADDRESSES)
    times = []
    async with host.host(script) as ec2:
        with outside.look_into(ec2.vpc.host) as probe:
            for _ in range(rounds):
                eni = await host.plug(ec2, script.name, tuple(Family))
                wanted = outside.expected(eni, ec2.vpc.ifindex(eni))
                await asyncio.sleep(LAG)
                times.append(await asyncio.to_thread(_batch, ec2, list(_lines(eni, wanted))))
                await probe.complete(wanted)
                await _clean(ec2, wanted, script.name)
    return times


def _batch(ec2: Ec2, lines: list[str]) -> float:
    """Seconds that one `ip -batch` takes.

    `ip` accepts rules of one family only, so there are two processes, minus an empty one.
    """
    ipv6_rules = [line for line in lines if line.startswith("rule ") and "::" in line]
    others = [line for line in lines if line not in ipv6_rules]
    return _run(ec2, others) + _run(ec2, ipv6_rules, "-6") - _run(ec2, [])


def _run(ec2: Ec2, lines: list[str], *options: str) -> float:
    text = "".join(f"{line}\n" for line in lines)
    start = time.monotonic()
    netns.run("ip", *options, "-n", ec2.vpc.host, "-batch", "-", stdin=text)
    return time.monotonic() - start


async def _clean(ec2: Ec2, wanted: outside.Expected, name: str) -> None:
    """Rules outlive the link."""
    await asyncio.to_thread(_batch, ec2, [_rule("del", rule) for rule in wanted.rules])
    await ec2.unplug(name)


def _lines(eni: Eni, wanted: outside.Expected) -> Iterator[str]:
    """The operations as lines for `ip`, in the daemon's order. (`ip` cannot mark addresses.)"""
    yield f"link set dev {eni.name} group {LINK_GROUP}"
    for ip in (*eni.ipv4[1:], *eni.ipv6[1:]):
        flags = "nodad preferred_lft 0 valid_lft forever" if ip.version == Family.V6 else ""
        yield f"addr add {ip} dev {eni.name} noprefixroute {flags}"
    for route in sorted(wanted.routes, key=lambda route: route.gateway is not None):
        yield _route(route, eni.name, eni.addresses(route.family)[0])
    # The guards first: all have one priority, so the order is that in which they are added.
    for rule in sorted(wanted.rules, key=lambda rule: rule.table != MAIN_TABLE):
        yield _rule("add", rule)


def _route(route: Route, device: str, source: IPAddress) -> str:
    words = [f"route add {route.dst} dev {device}"]
    words.append(f"table {route.table} proto {route.protocol}")
    words += [f"via {route.gateway}"] if route.gateway else []
    words += ["onlink"] if route.onlink else []
    words += [f"src {source}"] if route.dst != LINK_LOCAL else []
    words += ["scope link"] if route.scope else []
    words += [f"metric {route.metric}"] if route.metric else []
    return " ".join(words)


def _rule(verb: str, rule: Rule) -> str:
    words = [f"rule {verb} priority {rule.priority} from {rule.src or outside.ANY[rule.family]}"]
    words += [f"iif {rule.iif}"] if rule.iif else []
    words += [f"oif {rule.oif}"] if rule.oif else []
    words.append(f"lookup {rule.table} protocol {rule.protocol}")
    if rule.suppress_ifgroup is not None:
        words.append(f"suppress_prefixlength 0 suppress_ifgroup {rule.suppress_ifgroup}")
    return " ".join(words)
