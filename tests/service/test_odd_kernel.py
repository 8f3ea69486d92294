"""The whole daemon on a real kernel that has every form of link, address, rule and route."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import PROTOCOL, Rule
from nicwatchd.core.policy import Policy
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.netlink.events import EventSocket
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.ledger import Ledger
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.script import Scenario
from tests.netlink.conftest import network_namespace
from tests.netlink.forms import NAMES, build
from tests.service.conftest import ETH1, PRIMARY, Entry, eventually, until

# So that links of every name are looked at, and not only the ENI.
POLICY = Policy(drivers=frozenset({"veth", "bridge", "macvlan"}))


@pytest.fixture
async def kernel() -> AsyncIterator[NetlinkKernel]:
    with network_namespace():
        build()
        kernel = NetlinkKernel()
        yield kernel
        kernel.close()


async def ours(kernel: NetlinkKernel) -> list[Rule]:
    return [rule for rule in await kernel.rules() if rule.protocol == PROTOCOL]


def flush_ours() -> None:
    for family in ("-4", "-6"):
        words = ["ip", family, "rule", "flush", "protocol", str(PROTOCOL)]
        subprocess.run(words, check=True)


async def test_an_eni_is_served_beside_all_of_them(kernel: NetlinkKernel, tmp_path: Path) -> None:
    entries: list[Entry] = []
    eth1 = next(link for link in (await kernel.links()).values() if link.name == "eth1")
    async with AsyncExitStack() as stack:
        imds = ImdsServer(Scenario(mac=PRIMARY, enis=(replace(ETH1, mac=eth1.mac),)))
        await imds.start(("127.0.0.1", 0))
        stack.push_async_callback(imds.stop)
        imds.plug("eth1")
        client = await stack.enter_async_context(ImdsClient(ImdsOptions(imds.endpoints)))
        daemon = Daemon(
            POLICY,
            kernel,
            EventSocket(),
            client,
            Ledger(tmp_path),
            lambda *entry: entries.append(Entry(*entry)),
        )
        running = asyncio.create_task(daemon.run())
        await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
        before = await ours(kernel)
        assert before
        flush_ours()

        async def is_back() -> bool:
            return sorted(map(str, await ours(kernel))) == sorted(map(str, before))

        await eventually(is_back)
        assert len(daemon.status().interfaces) > len(NAMES)
        assert daemon.host.surprises == 0
        assert daemon.problems() == []
        daemon.stop()
        await running
    assert all(entry.message.isprintable() for entry in entries)
