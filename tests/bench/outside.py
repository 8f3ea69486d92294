"""The probe outside the daemon: reads the host's kernel through its own socket.

It polls and subscribes to nothing. It knows nothing about the daemon except the marks that the
README documents. `tests.promised` says what should be in the kernel, not the daemon's planner.
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

INTERVAL: Final = 0.002  # s between two polls: the error of a figure
PATIENCE: Final = 20.0  # s after which we give up


class NeverCameError(Exception):
    """The expected state was not reached; the text says what is missing."""


class Outside:
    """Looks into one network namespace."""

    def __init__(self, kernel: NetlinkKernel, requests: RequestSocket) -> None:
        self.kernel = kernel
        self.requests = requests

    async def missing(self, wanted: Expected) -> str:
        """What is missing in the kernel; "" if nothing is."""
        lacking: frozenset[object] = wanted.rules - frozenset(await self.kernel.rules())
        if not lacking:
            routes = await self.kernel.own_routes()
            lacking = wanted.routes - {replace(route, prefsrc=None) for route in routes}
        if not lacking:
            there = {address.ip for address in await self.kernel.addresses(wanted.index)}
            lacking = wanted.addresses - there
        return ", ".join(map(str, lacking))

    async def present(self, unwanted: Expected) -> str:
        """What of this is in the kernel; "" if nothing is."""
        routes = await self.kernel.own_routes()
        found: set[object] = {rule for rule in await self.kernel.rules() if rule in unwanted.rules}
        found |= unwanted.routes & {replace(route, prefsrc=None) for route in routes}
        found |= unwanted.addresses & {a.ip for a in await self.kernel.addresses(unwanted.index)}
        return ", ".join(map(str, found))

    async def complete(
        self, wanted: Expected, within: float = PATIENCE, interval: float = INTERVAL
    ) -> float:
        """The monotonic time at which everything wanted was first in the kernel."""
        return await self.until(lambda: self.missing(wanted), within, interval)

    async def until(
        self,
        missing: Callable[[], Awaitable[str]],
        within: float = PATIENCE,
        interval: float = INTERVAL,
    ) -> float:
        """The monotonic time of the first poll that finds nothing missing (to `interval`)."""
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
