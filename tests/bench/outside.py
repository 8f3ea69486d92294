"""The probe outside: what is in the host's kernel, read by a socket of our own.

It asks again and again and subscribes to nothing, and knows nothing of the daemon but the marks
that the README documents. What ought to be there is `tests.promised`'s to say, and not the daemon's
planner's.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nicwatchd.netlink.request import RequestSocket, open_request_socket
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.sim import netns
from tests.promised import ANY, Expected, expected

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ANY", "Expected", "NeverCameError", "Outside", "expected", "look_into"]

INTERVAL: Final = 0.002  # s between two looks: what a figure may be too long by
PATIENCE: Final = 20.0  # s after which something will not come any more


class NeverCameError(Exception):
    """What was waited for did not come; the text says what is missing."""


class Outside:
    """Looks into one network namespace."""

    def __init__(self, kernel: NetlinkKernel, requests: RequestSocket) -> None:
        self.kernel = kernel
        self.requests = requests

    async def missing(self, wanted: Expected) -> str:
        """What is not in the kernel yet; "" when all is there."""
        lacking: frozenset[object] = wanted.rules - frozenset(await self.kernel.rules())
        if not lacking:
            routes = await self.kernel.own_routes()
            lacking = wanted.routes - {replace(route, prefsrc=None) for route in routes}
        if not lacking:
            there = {address.ip for address in await self.kernel.addresses(wanted.index)}
            lacking = wanted.addresses - there
        return ", ".join(map(str, lacking))

    async def complete(
        self, wanted: Expected, within: float = PATIENCE, interval: float = INTERVAL
    ) -> float:
        """The monotonic time at which everything wanted was seen in the kernel."""
        return await self.until(lambda: self.missing(wanted), within, interval)

    async def until(
        self,
        missing: Callable[[], Awaitable[str]],
        within: float = PATIENCE,
        interval: float = INTERVAL,
    ) -> float:
        """The monotonic time of the first look in which nothing is missing (to `interval`)."""
        give_up = time.monotonic() + within
        while lacking := await missing():
            if time.monotonic() > give_up:
                raise NeverCameError(f"not there after {within:g} s: {lacking}")
            await asyncio.sleep(interval)
        return time.monotonic()


@contextmanager
def look_into(namespace: str) -> Iterator[Outside]:
    """A probe of a namespace."""

    def connect() -> socket.socket:
        with netns.inside(namespace):
            return open_request_socket()

    requests = RequestSocket(connect)
    kernel = NetlinkKernel(requests)
    try:
        yield Outside(kernel, requests)
    finally:
        kernel.close()
