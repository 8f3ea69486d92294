"""A recorder asks IMDS by the daemon's schedule; the clock is invented."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.metadata import Answer, Value
from nicwatchd.core.policy import Policy
from nicwatchd.core.rota import requests, rota
from nicwatchd.imds.client import MACS
from nicwatchd.service.imds_watch import TICK, ImdsWatch
from nicwatchd.sim import fast_clock
from tests.core.build import ETH0, ETH1, MAC, PRIMARY
from tests.imds.trees import Tree, branch

if TYPE_CHECKING:
    from collections.abc import Callable

    from nicwatchd.core.model import Link
    from nicwatchd.service.imds_watch import HeardClient

END = 1500.0


class Client(Tree):
    """A tree, as the recorder's client; `log` has when each path was asked for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__({PRIMARY: branch(PRIMARY, subnet=1), MAC: branch(MAC)})
        self.clock = clock
        self.log: list[tuple[float, str]] = []

    async def get(self, path: str) -> Answer[str]:
        self.log.append((self.clock(), path.removeprefix(MACS)))
        return await super().get(path)

    async def primary_mac(self) -> Answer[str]:
        return Value(PRIMARY)

    async def macs(self) -> Answer[frozenset[str]]:
        return Value(frozenset(self.branches))


async def record(until: float, *links: Link) -> Client:
    """What a recorder asks of a host that has these links from the beginning."""
    clock = asyncio.get_running_loop().time
    client = Client(clock)
    found = {link.index: link for link in links}
    watch = ImdsWatch(cast("HeardClient", client), Policy(), lambda _: None, clock, lambda: found)
    running = asyncio.create_task(watch.run())
    await asyncio.sleep(until)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return client


@pytest.mark.long
def test_a_recorder_asks_as_often_as_the_daemon() -> None:
    client = fast_clock.run(record(END, ETH0, ETH1))
    schedule = Schedule()

    def asked(mac: str, since: float, until: float) -> list[str]:
        return [path for at, path in client.log if since <= at < until and path.startswith(mac)]

    first, then = len(asked(MAC, 1.0, 10.0)), len(asked(MAC, 10.0, 35.0))
    assert 9.0 / (schedule.first_interval + TICK) <= first <= 9.0 * 10
    assert 25.0 / (schedule.interval + TICK) <= then <= 25.0 * 5
    minutes = (END - 600.0) / 60.0
    for mac in (MAC, PRIMARY):
        at_rest = asked(mac, 600.0, END)
        assert len(at_rest) == pytest.approx(15 * minutes, rel=0.05)
        counts = Counter(path.partition("/")[2] or "directory" for path in at_rest)
        turns = rota(client.branches[mac].texts.keys())
        polls = (END - 600.0) / schedule.at_rest(requests(turns), 2)
        for key, every in turns.items():
            assert abs(counts[key] - polls / every) <= 1 + 0.01 * polls, key
