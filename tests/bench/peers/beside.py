"""What an ENI costs or gives the rest of the host: its own traffic, the primary, its containers.

Runs after all of scenarios.py, on the same host.
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
from tests.bench.peers import guest, publish, unbound
from tests.bench.peers.agents import Agent
from tests.bench.peers.measure import Found, Observation
from tests.bench.peers.windows import PAUSE, Windows
from tests.vm.enis import script
from tests.vm.host import PRIMARY, VmHost

TRIES: Final = 5
CONNMARK: Final = '[interfaces]\nforwarded = "connmark"\n'


class Beside:
    """The scenarios of one host, one after another."""

    def __init__(self, host: VmHost, agent: Agent, windows: Windows) -> None:
        self._host, self._agent, self._windows = host, agent, windows

    async def run(self, number: int) -> dict[str, Found]:
        """The results by scenario; ENIs are of subnet `number` and the one after it."""
        found = {"unbound": await self._unbound(number)}
        async with self._settings(), self._plugged(number + 1) as eni:
            await asyncio.sleep(self._windows.usual)
            found["published port"] = await self._published(eni)
            found["address of the primary"] = await self._address_of_primary()
        for what, seen in found.items():
            self._agent.say(what, seen)
        return found

    @asynccontextmanager
    async def _plugged(self, number: int) -> AsyncIterator[Eni]:
        eni = script(f"eni{number}", number)
        yield await self._host.plug(eni)
        await self._host.unplug(eni)
        await asyncio.sleep(PAUSE)

    @asynccontextmanager
    async def _settings(self) -> AsyncIterator[None]:
        """nicwatchd has a setting for ports that are published; the others have none."""
        if self._agent.ours:
            await self._host.settings(CONNMARK)
        yield
        if self._agent.ours:
            await self._host.settings()

    async def _unbound(self, number: int) -> Found:
        """An ENI's life: attach, two renewals of all leases, its link down and up, detach."""
        async with unbound.looking(self._host) as found:
            async with self._plugged(number) as eni:
                await asyncio.sleep(self._windows.usual)
                link = await guest.link_of(self._host, eni)
                for _ in range(2):
                    await guest.renew(self._host, PRIMARY.name, link)
                    await asyncio.sleep(self._windows.detached)
                await guest.flap(self._host, link)
                await asyncio.sleep(self._windows.detached)
            await asyncio.sleep(self._windows.detached)
        return found

    async def _published(self, eni: Eni) -> Found:
        """Whether everybody reaches a port that a container publishes, on the ENI's addresses."""
        async with publish.published(self._host):
            return await reached(self._host.vpc, self._host.paths(eni), publish.PORT)

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
        return {Family(address.version).label: seen.stays([address]) for address in (v4, v6)}


async def reached(vpc: Vpc, wanted: Iterable[Path], port: int = PORT) -> Found:
    """By family: whether each of these paths answered in one of a few tries."""
    silent = set(wanted)
    families = {Family(path.to.version) for path in silent}
    for _ in range(TRIES):
        replies = await matrix(vpc, silent, port)
        silent = {path for path, reply in replies.items() if not reply}
    lost = {Family(path.to.version) for path in silent}
    return {family.label: family in families and family not in lost for family in Family}
