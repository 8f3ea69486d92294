"""What an ENI costs or gives the rest of the host: its own traffic, the primary, its containers.

Runs after all of scenarios.py, on the same host, or alone: `--beside`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import eni_of
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import PORT, Path, matrix, paths
from nicwatchd.sim.vpc import Vpc
from tests.bench.peers import guest, unbound
from tests.bench.peers.agents import Agent
from tests.bench.peers.measure import Found, Observation
from tests.bench.peers.windows import PAUSE, Windows
from tests.vm.containers import PUBLISHED, publishing
from tests.vm.enis import script
from tests.vm.host import PRIMARY, VmHost

FIRST: Final = 9  # of two subnets that scenarios.py leaves
TRIES: Final = 5
CONNMARK: Final = '[interfaces]\nforwarded = "connmark"\n'


class Beside:
    """The scenarios of one host, one after another."""

    def __init__(self, host: VmHost, agent: Agent, windows: Windows) -> None:
        self._host, self._agent, self._windows = host, agent, windows

    async def run(self) -> dict[str, Found]:
        """The results by scenario."""
        found = await self._life(FIRST)
        found["published port"] = await self._published(FIRST + 1)
        for what, seen in found.items():
            self._agent.say(what, seen)
        return found

    @asynccontextmanager
    async def _plugged(self, number: int) -> AsyncIterator[Eni]:
        eni = script(f"eni{number}", number)
        yield await self._host.plug(eni)
        await self._host.unplug(eni)
        await asyncio.sleep(PAUSE)

    async def _life(self, number: int) -> dict[str, Found]:
        """From attach to detach: two renewals of all leases, and the link down and up, between."""
        found: dict[str, Found] = {}
        async with unbound.looking(self._host) as seen:
            async with self._plugged(number) as eni:
                await asyncio.sleep(self._windows.usual)
                found["neighbour"] = await self._neighbour(eni)
                found["address of the primary"] = await self._address_of_primary()
                link = await self._host.link_of(eni)
                for _ in range(2):
                    await guest.renew(self._host, PRIMARY.name, link)
                    await asyncio.sleep(self._windows.detached)
                await guest.flap(self._host, link)
                await asyncio.sleep(self._windows.detached)
            await asyncio.sleep(self._windows.detached)
        return {**found, "unbound": seen}

    async def _neighbour(self, eni: Eni) -> Found:
        """Whether a host in the ENI's subnet reaches the primary's addresses."""
        vpc = self._host.vpc
        return await reached(vpc, paths([vpc.neighbour(eni.subnet)], vpc.primary.addresses()))

    async def _published(self, number: int) -> Found:
        """Whether everybody reaches a port that a container publishes, on an ENI's addresses.

        nicwatchd has a setting for that; the others have none.
        """
        if self._agent.ours:
            await self._host.settings(CONNMARK)
        async with self._plugged(number) as eni:
            await asyncio.sleep(self._windows.usual)
            async with publishing(self._host):
                found = await reached(self._host.vpc, self._host.paths(eni), PUBLISHED)
        if self._agent.ours:
            await self._host.settings()
        return found

    async def _address_of_primary(self) -> Found:
        """A second address of each family for the primary: when its peers reach it."""
        vpc = self._host.vpc
        subnet = vpc.primary.subnet
        assert subnet.ipv4 is not None
        v4, v6 = subnet.ipv4[11], subnet.ipv6[0][0x11]
        more = replace(PRIMARY, ipv4=(*PRIMARY.ipv4, str(v4)), ipv6=(*PRIMARY.ipv6, str(v6)))
        await vpc.update(eni_of(more))
        async with Observation(self._host) as seen:
            await seen.watch(paths(vpc.peers(vpc.primary), (v4, v6)))
            seen.begin()
            self._host.imds.step(PRIMARY.name, texts=more.facts())
            await seen.last(self._windows.usual)
        await vpc.update(eni_of(PRIMARY))
        self._host.imds.step(PRIMARY.name, complete=True)
        stays = {Family(address.version).label: seen.stays([address]) for address in (v4, v6)}
        return {**stays, "silence of the primary": seen.silence}


async def reached(vpc: Vpc, wanted: Iterable[Path], port: int = PORT) -> Found:
    """By family: whether each of these paths answered in one of a few tries."""
    silent = set(wanted)
    families = {Family(path.to.version) for path in silent}
    for _ in range(TRIES):
        replies = await matrix(vpc, silent, port)
        silent = {path for path, reply in replies.items() if not reply}
    lost = {Family(path.to.version) for path in silent}
    return {family.label: family in families and family not in lost for family in Family}
