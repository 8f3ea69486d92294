"""A host with one ENI, its IMDS on a loopback port, and a clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import aioresponses.core
import pytest
from aiohttp import ClientResponse

from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.imds.transport import Timeouts
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.script import EniScript, Scenario

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAC = "02:00:00:00:00:02"
PRIMARY = "02:00:00:00:00:01"
ETH1 = EniScript(
    name="eth1",
    mac=MAC,
    ipv4=("10.0.2.10",),
    ipv6=("2001:db8:0:2::10",),
    subnet_ipv4="10.0.2.0/24",
    subnet_ipv6=("2001:db8:0:2::/64",),
    device_number=1,
)
# Short, so that tests of timeouts are short. No test asserts how long anything takes.
TIMEOUTS = Timeouts(connect=1.0, read=0.8, total=1.0)


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def server() -> AsyncIterator[ImdsServer]:
    made = ImdsServer(Scenario(mac=PRIMARY, enis=(ETH1,)))
    await made.start(("127.0.0.1", 0))
    made.plug("eth1")
    yield made
    await made.stop()


@pytest.fixture
async def client(server: ImdsServer, clock: Clock) -> AsyncIterator[ImdsClient]:
    options = ImdsOptions(endpoints=server.endpoints, timeouts=TIMEOUTS)
    async with ImdsClient(options, clock=clock) as made:
        yield made


class _Response(ClientResponse):
    """aioresponses 0.7.9 lacks an argument that aiohttp 3.14 requires (its issue 289)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock())
        super().__init__(*args, **kwargs)


@pytest.fixture(autouse=True)
def _aioresponses_for_aiohttp_3_14(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioresponses.core, "ClientResponse", _Response)
