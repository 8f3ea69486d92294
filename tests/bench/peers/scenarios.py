"""The scenarios that run on each host, one after another, and what is observed from outside."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim.ec2 import eni_of
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import Watch, matrix, paths
from nicwatchd.sim.script import EniScript, Step
from tests.bench.peers import guest, judge
from tests.bench.peers.agents import Agent
from tests.bench.peers.beside import Beside
from tests.bench.peers.measure import PROBES, Found, Observation, cpu
from tests.bench.peers.windows import PAUSE, Windows
from tests.vm.enis import RACE, script
from tests.vm.host import VmHost

LAG: Final = 20.0  # s until IMDS lists IPv6 and the correct device number


class Play:
    """All scenarios on one booted host."""

    def __init__(self, host: VmHost, agent: Agent, windows: Windows) -> None:
        self._host, self._agent, self._windows = host, agent, windows

    async def run(self, at_boot: Mapping[str, list[str]]) -> dict[str, Found]:
        """The results by scenario. At the start and at the end, the host has only its primary."""
        found: dict[str, Found] = {}
        found["race"] = await self._race(2)
        found["race without DHCPv6"] = await self._race(3, dhcpv6=False)
        found |= await self._life(4, at_boot)
        if works(found["complete"]):
            found["flush"] = await self._flush(6)
        if self._agent.ours:
            found["second without the drop-in"] = await self._without_drop_in(7)
        return found | await Beside(self._host, self._agent, self._windows).run()

    # --- a hot-plug ------------------------------------------------------------------------------

    async def _race(self, number: int, *, dhcpv6: bool = True) -> Found:
        late = replace(script(f"eni{number}", number), steps=(RACE, Step(at=LAG, complete=True)))
        found = await self._plug(late, self._windows.race, dhcpv6=dhcpv6)
        await self._detach(late)
        return self._agent.say("race" if dhcpv6 else "race without DHCPv6", found)

    async def _plug(self, eni: EniScript, window: float, *, dhcpv6: bool = True) -> Found:
        """Hot-plug an ENI, and observe it for this long after IMDS's clock for it starts."""
        async with Observation(self._host) as seen:
            plugged = await self._host.plug(eni, dhcp=dhcpv6)
            if not dhcpv6:  # long before the link is up
                await self._host.vpc.start_dhcp(replace(plugged, ipv6=()))
            seen.begin(self._host.imds.complete_at(eni.name) - eni.complete_at())
            await seen.watch(self._host.paths(plugged))
            await seen.last(window)
        return seen.outcome(plugged.addresses())

    async def _detach(self, eni: EniScript) -> None:
        await self._host.unplug(eni)
        await asyncio.sleep(PAUSE)

    async def _life(self, number: int, at_boot: Mapping[str, list[str]]) -> dict[str, Found]:
        """An ENI whose metadata is complete at once, from its hot-plug to its detach."""
        eni = script(f"eni{number}", number)
        found = {
            "complete": self._agent.say("complete", await self._plug(eni, self._windows.usual))
        }
        found["quiet"] = self._agent.say("quiet", await self._quiet())
        if works(found["complete"]):  # else nothing of it can get better or worse
            found["in place"] = self._agent.say("in place", await self._in_place(eni))
        second = await self._second(eni_of(eni), script(f"eni{number + 1}", number + 1))
        found["second"] = self._agent.say("second", second)
        found["detach"] = self._agent.say("detach", await self._last_detach(eni, at_boot))
        return found

    async def _without_drop_in(self, number: int) -> Found:
        """A second hot-plug, while systemd-networkd deletes the rules of others."""
        first, second = (script(f"eni{n}", n) for n in (number, number + 1))
        plugged = await self._host.plug(first)
        await guest.mask_drop_in(self._host)
        await self._host.use(plugged)
        found = self._agent.say("second without the drop-in", await self._second(plugged, second))
        await guest.unmask_drop_in(self._host)
        await self._host.use(plugged)  # systemd-networkd, restarted, knows no IPv6 router yet
        await self._detach(first)
        return found

    async def _quiet(self) -> Found:
        """The cost while nothing happens and nobody probes."""
        started, before = await cpu(self._host)
        await asyncio.sleep(self._windows.quiet)
        ended, after = await cpu(self._host)
        minutes = (ended - started) / 60
        requests = sum(started <= request.at < ended for request in self._host.imds.log)
        return {"cpu": (after - before) / minutes, "requests": requests / minutes}

    async def _flush(self, number: int) -> Found:
        """Delete all rules while another ENI is idle."""
        eni = script(f"eni{number}", number)
        plugged = await self._host.plug(eni)
        await asyncio.sleep(self._windows.usual)
        async with Observation(self._host) as seen:
            await seen.watch(self._host.paths(plugged))
            seen.begin()
            await guest.flush_rules(self._host)
            took = time.monotonic() - seen.began
            await seen.last(self._windows.usual)
        await self._detach(eni)
        silences = {family.label: seen.silence_of(plugged.addresses(family)) for family in Family}
        return self._agent.say("flush", {**silences, "flushing took": took})

    # --- an ENI that changes ---------------------------------------------------------------------

    async def _in_place(self, eni: EniScript) -> Found:
        more = with_more(eni)
        addresses = added(more)
        now = eni_of(more)
        await self._host.vpc.update(now)
        for address in addresses["prefix"]:
            await guest.hold(self._host, address)
        async with Observation(self._host) as seen:
            await seen.watch(paths(self._host.vpc.peers(now), sum(addresses.values(), ())))
            seen.begin()
            self._host.imds.step(eni.name, texts=more.facts())
            await seen.last(self._windows.usual)
        found: Found = {
            f"{what}, {Family(address.version).label}": seen.stays([address])
            for what, both in addresses.items()
            for address in both
        }
        return {**found, "left": await self._taken_away(eni, more)}

    async def _taken_away(self, eni: EniScript, more: EniScript) -> Found:
        """How long the guest keeps what it had for them; None: until the end of the window."""
        for address in added(more)["prefix"]:
            await guest.let_go(self._host, address)
        gone = {str(a): "address" for a in added(more)["address"]}
        gone |= dict.fromkeys((*more.ipv4_prefixes, *more.ipv6_prefixes), "prefix")
        was_there = judge.mentioned(await guest.all_of_it(self._host), gone)
        await self._host.vpc.update(eni_of(eni))
        self._host.imds.step(eni.name, complete=True)
        began = time.monotonic()
        found: dict[str, float | None] = dict.fromkeys(
            thing for thing in gone if thing in was_there
        )
        while None in found.values() and time.monotonic() < began + self._windows.removal:
            there = judge.mentioned(await guest.all_of_it(self._host), gone)
            passed = time.monotonic() - began
            found = {t: None if t in there else at or passed for t, at in found.items()}
            await asyncio.sleep(1.0)
        return {f"{gone[thing]} {thing}": at for thing, at in found.items()}

    async def _second(self, first: Eni, second: EniScript) -> Found:
        """A hot-plug beside an ENI that works: the longest silence of what worked before."""
        replies = await matrix(self._host.vpc, self._host.paths(first))
        watch = Watch(self._host.vpc, [path for path, r in replies.items() if r], interval=PROBES)
        async with guest.rule_log(self._host) as log, watch:
            found = await self._plug(second, self._windows.usual)
        if watch.attempts:
            found["silence of the first"] = watch.longest_silence
        found["paths of the first"] = f"{len(watch.attempts)} of {len(replies)}"
        if self._agent.ours:
            found["rules missing"] = log.missing
        await self._detach(second)
        return found

    async def _last_detach(self, eni: EniScript, at_boot: Mapping[str, list[str]]) -> Found:
        async with Observation(self._host) as seen:
            await self._host.unplug(eni)
            await seen.last(self._windows.detached)
        after = await guest.snapshot(self._host)
        return {
            "silence of the primary": seen.silence,
            "left behind": judge.left_behind(at_boot, after),
        }


def works(found: Found) -> bool:
    """Whether all peers reached at least one family."""
    return any(found[family.label] is not None for family in Family)


def with_more(eni: EniScript) -> EniScript:
    """An ENI with a second address and a delegated prefix of each family."""
    subnet = eni_of(eni).subnet
    assert subnet.ipv4 is not None
    v4, v6 = subnet.ipv4, subnet.ipv6[0]
    return replace(
        eni,
        ipv4=(*eni.ipv4, str(v4[11])),
        ipv6=(*eni.ipv6, str(v6[0x11])),
        ipv4_prefixes=(f"{v4[64]}/28",),
        ipv6_prefixes=(f"{v6[0xAA << 48]}/80",),
    )


def added(more: EniScript) -> dict[str, tuple[IPAddress, ...]]:
    """The second addresses, and one address out of each prefix."""
    eni = eni_of(more)
    of_prefixes: tuple[IPv4Address | IPv6Address, ...] = tuple(p[1] for p in eni.prefixes)
    return {"address": (eni.ipv4[1], eni.ipv6[1]), "prefix": of_prefixes}
