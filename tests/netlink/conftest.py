"""Two worlds for the same tests: a real network namespace, and the kernel in memory."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from nicwatchd.core.model import Address, Family, Link, Route, Rule
from nicwatchd.core.words import names_in, route_text, rule_words
from nicwatchd.netlink.events import EventSocket
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.sim.memory_kernel import FakeKernel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from nicwatchd.core.port import Event, EventSource, Kernel

CLONE_NEWNET = 0x40000000
FOREIGN_PID = 77  # of what the fake world does
libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def network_namespace() -> Iterator[None]:
    """In the block, this thread, its new sockets and its children use a new network namespace."""
    with Path("/proc/thread-self/ns/net").open() as home:
        if libc.unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare: run the tests as root or in `unshare -rnm`")
        try:
            yield
        finally:
            if libc.setns(home.fileno(), CLONE_NEWNET):
                os._exit(3)  # the next tests would run in the wrong namespace


def ip(*words: object) -> str:
    """Run `ip`."""
    command = ["ip", *" ".join(map(str, words)).split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


class Heard:
    """The events received so far, and a way to wait for one."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._more = asyncio.Event()

    def notify(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        async with asyncio.timeout(10):
            while True:
                self._more.clear()
                for event in self.events:
                    if wanted(event):
                        return event
                await self._more.wait()


class World(Protocol):
    """A kernel, and methods for what other programs do to it."""

    kernel: Kernel
    source: EventSource
    heard: Heard

    async def add_link(self, name: str) -> int: ...
    async def set_link(self, link: Link) -> None: ...
    async def remove_link(self, index: int) -> None: ...
    async def put(self, thing: Address | Route | Rule) -> None: ...
    async def put_all(self, routes: Sequence[Route]) -> None: ...
    async def drop(self, thing: Address | Route | Rule) -> None: ...
    def ip_rule(self, family: Family) -> str: ...
    def ip_route(self, family: Family, table: int) -> str: ...
    def close(self) -> None: ...


class RealWorld:
    """The current network namespace; other programs act through `ip`."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.source = EventSocket()
        self.source.start(self.heard.notify)
        self.kernel = NetlinkKernel()
        ip("link set lo up")

    async def add_link(self, name: str) -> int:
        ip(f"link add {name} type veth peer name p-{name}")
        ip(f"link set p-{name} up")
        return next(i for i, link in (await self.kernel.links()).items() if link.name == name)

    async def set_link(self, link: Link) -> None:
        before = (await self.kernel.links())[link.index]
        if before.name != link.name:
            ip(f"link set {before.name} down")
            ip(f"link set {before.name} name {link.name}")
        ip(f"link set {link.name} {'up' if link.up else 'down'} group {link.group}")

    async def remove_link(self, index: int) -> None:
        ip(f"link del {(await self.kernel.links())[index].name}")

    async def put(self, thing: Address | Route | Rule) -> None:
        await self._act("add", thing)

    async def put_all(self, routes: Sequence[Route]) -> None:
        names = names_in(await self.kernel.links())
        lines = "".join(f"route add {route_text(route, names)}\n" for route in routes)
        run = partial(subprocess.run, ["ip", f"-{routes[0].family}", "-batch", "-"], check=True)
        await asyncio.to_thread(run, input=lines.encode())

    async def drop(self, thing: Address | Route | Rule) -> None:
        await self._act("del", thing)

    async def _act(self, verb: str, thing: Address | Route | Rule) -> None:
        links = await self.kernel.links()
        match thing:
            case Address(index, address, prefixlen):
                nodad = "nodad" if verb == "add" and thing.family is Family.V6 else ""
                ip(f"addr {verb} {address}/{prefixlen} dev {links[index].name} {nodad}")
            case Route():
                ip(f"-{thing.family} route {verb} {route_text(thing, names_in(links))}")
            case Rule():
                ip(f"-{thing.family} rule {verb} pref {thing.priority}", *rule_words(thing))

    def ip_rule(self, family: Family) -> str:
        return ip(f"-{family} rule")

    def ip_route(self, family: Family, table: int) -> str:
        return ip(f"-{family} route show table {table}")

    def close(self) -> None:
        self.source.close()
        self.kernel.close()


class FakeWorld:
    """The kernel in memory."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.kernel = FakeKernel()
        self.source = self.kernel.events()
        self.source.start(self.heard.notify)

    async def add_link(self, name: str) -> int:
        return self.kernel.add_link(name, "02:00:00:00:00:01", kind="veth")

    async def set_link(self, link: Link) -> None:
        self.kernel.set_link(replace(link, running=link.up))

    async def remove_link(self, index: int) -> None:
        self.kernel.remove_link(index)

    async def put(self, thing: Address | Route | Rule) -> None:
        self.kernel.put(thing, pid=FOREIGN_PID)

    async def put_all(self, routes: Sequence[Route]) -> None:
        for route in routes:
            await self.put(route)

    async def drop(self, thing: Address | Route | Rule) -> None:
        self.kernel.drop(thing, pid=FOREIGN_PID)

    def ip_rule(self, family: Family) -> str:
        return self.kernel.ip_rule(family)

    def ip_route(self, family: Family, table: int) -> str:
        return self.kernel.ip_route(family, table)

    def close(self) -> None:
        self.source.close()


@pytest.fixture
def namespace() -> Iterator[None]:
    """Run the test in its own network namespace."""
    with network_namespace():
        yield


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def add_veth(namespace: None) -> str:  # noqa: ARG001 - the link is made in it
    """A veth link's name."""
    ip("link add eth1 type veth")
    return "eth1"


@pytest.fixture(params=[FakeWorld, RealWorld], ids=["fake", "real"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    with network_namespace():
        world: World = request.param()
        try:
            yield world
        finally:
            world.close()
