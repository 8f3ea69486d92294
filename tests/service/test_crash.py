"""SIGKILL after any single operation: the next daemon reaches the same state as without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import (
    LINK_GROUP,
    MAIN_TABLE,
    PROTOCOL,
    Address,
    Family,
    Numbers,
    Operation,
    Rule,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Outcome
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.ledger import Ledger
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.memory_kernel import FakeKernel
from nicwatchd.sim.script import Scenario
from tests.service.conftest import AT_ONCE, ETH0, ETH1, PATIENCE, PRIMARY, Host, eventually, until

pytestmark = pytest.mark.long


FOREIGN = (
    Rule(Family.V4, 32765, 77, protocol=4, src=ip_network("192.0.2.0/24")),
    Rule(Family.V6, 100, 78, protocol=0),
)
# A fact that goes is believed at the first reading without it.
QUICK = replace(AT_ONCE, doubts=1, doubt_span=0.0)
# The primary has what its manager does not configure, too.
BOTH_FAMILIES = replace(
    ETH0,
    ipv4=("10.0.1.10", "10.0.1.11"),
    ipv6=("2001:db8:0:1::10",),
    subnet_ipv6=("2001:db8:0:1::/64",),
)
ETH0_INDEX = 2  # its link, in a new kernel
OTHER_NUMBERS = Numbers(priority=31000, table_base=5_000_000, group=77)


class Killed(BaseException):
    """The daemon's process is dead: no part of the program may catch this."""


class Mortal(FakeKernel):
    """A kernel whose program dies after `left` more operations, before it requests the next."""

    left: int | None = None

    async def run(self, operations: Sequence[Operation]) -> list[Outcome]:
        if self.left is None:
            return await super().run(operations)
        outcomes = await super().run(operations[: self.left])
        self.left -= len(outcomes)
        if len(outcomes) < len(operations):
            raise Killed
        return outcomes


class Old(Mortal):
    """Linux before 5.18: no IFA_PROTO."""

    async def addresses(self, index: int) -> tuple[Address, ...]:
        return tuple(replace(a, protocol=0) for a in await super().addresses(index))


@dataclass(frozen=True)
class Case:
    """What the daemon is doing when it dies. `applied`: an earlier daemon had applied eth1."""

    done: Callable[[Host], bool]  # whether it is complete
    act: Callable[[Host, Daemon], Awaitable[None]] | None = None
    policy: Policy = QUICK
    applied: bool = True
    prepare: Callable[[Host], None] | None = None  # once that one has ended
    kernel: type[Mortal] = Mortal


def eth1(host: Host) -> int:
    return max(host.kernel._state.links)


def added(host: Host) -> set[str]:
    """Our addresses on eth1: the others have no /32 or /128."""
    found = (a for a in host.kernel._state.addresses if a.index == eth1(host))
    return {str(a.ip) for a in found if a.prefixlen == a.ip.max_prefixlen}


async def plug(host: Host, daemon: Daemon) -> None:
    host.plug()
    await until(daemon, "eth1", lambda status: status.state is State.APPLIED)


async def unplug(host: Host, daemon: Daemon) -> None:
    await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
    host.imds.unplug("eth1")
    host.kernel.remove_link(eth1(host))


async def change(host: Host, daemon: Daemon) -> None:
    """In both families an address comes, and one goes; so does a subnet, and a prefix comes."""
    await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
    host.imds.step(
        "eth1",
        texts={
            "local-ipv4s": "10.0.2.10\n10.0.2.12",
            "ipv6s": "2001:db8:0:3::12",
            "subnet-ipv6-cidr-blocks": "2001:db8:0:3::/64",
            "ipv6-prefix": "2001:db8:0:3:1::/80",
        },
    )
    await daemon.reconcile()


def is_applied(host: Host) -> bool:
    return added(host) == {"10.0.2.10", "10.0.2.11", "2001:db8:0:2::10"} and bool(_tables(host))


def is_gone(host: Host) -> bool:
    return not _tables(host)


def is_changed(host: Host) -> bool:
    rules = host.kernel.ip_rule(Family.V6)
    wanted = {"10.0.2.10", "10.0.2.12", "2001:db8:0:3::12"}
    return added(host) == wanted and "2001:db8:0:2::" not in rules


def is_migrated(host: Host) -> bool:
    return _tables(host) == {OTHER_NUMBERS.table_of(index) for index in (ETH0_INDEX, eth1(host))}


def is_renumbered(host: Host) -> bool:
    """Nothing of the first edition is left."""
    own = [rule for rule in host.kernel._state.rules if rule.protocol == 236]
    return {rule.priority for rule in own} == {32765} and _tables(host) == {
        Numbers().table_of(index) for index in (ETH0_INDEX, eth1(host))
    }


def of_first_edition(host: Host) -> None:
    """What is there was made by the first edition, with its numbers; it left the primary alone."""
    state, index = host.kernel._state, eth1(host)
    table = 1_000_000 + index
    for route in [route for route in state.routes if route.protocol == PROTOCOL]:
        host.kernel.drop(route)
        if route.oif == index:
            host.kernel.put(replace(route, table=table))
    for rule in [rule for rule in state.rules if rule.protocol == PROTOCOL]:
        host.kernel.drop(rule)
    for family, subnet in ((Family.V4, "10.0.2.0/24"), (Family.V6, "2001:db8:0:2::/64")):
        for rule in (
            Rule(family, 32601, table, oif="eth1"),
            Rule(family, 32602, table, src=ip_network(subnet), iif="lo"),
        ):
            guard = replace(
                rule,
                priority=32600,
                table=MAIN_TABLE,
                suppress_prefixlength=0,
                suppress_ifgroup=LINK_GROUP,
            )
            host.kernel.put(guard)
            host.kernel.put(rule)


def _tables(host: Host) -> set[int]:
    own = (rule.table for rule in host.kernel._state.rules if rule.protocol == 236)
    return {table for table in own if table > 255}


CASES = {
    "apply": Case(is_applied, plug, applied=False),
    "apply-without-marks": Case(is_applied, plug, applied=False, kernel=Old),
    "unplug": Case(is_gone, unplug),
    "remove": Case(is_gone, policy=replace(QUICK, exclude=("eth1",))),
    "remove-without-marks": Case(is_gone, policy=replace(QUICK, exclude=("eth1",)), kernel=Old),
    "refresh": Case(is_changed, change),
    "refresh-without-marks": Case(is_changed, change, kernel=Old),
    "first-edition": Case(is_renumbered, prepare=of_first_edition),
    "numbers": Case(is_migrated, policy=replace(QUICK, numbers=OTHER_NUMBERS)),
}


def picture(host: Host) -> list[str]:
    """The state of the kernel as text, without an order."""
    state = host.kernel._state
    things = [*state.links.values(), *state.addresses, *state.routes, *state.rules]
    return sorted(map(str, things))


def new(directory: Path) -> Path:
    """A new directory."""
    directory.mkdir()
    return directory


@asynccontextmanager
async def new_host(case: Case, directory: Path) -> AsyncIterator[Host]:
    """A host on which the case can start, with objects of others."""
    async with AsyncExitStack() as stack:
        imds = ImdsServer(Scenario(mac=PRIMARY, enis=(BOTH_FAMILIES, ETH1)))
        await imds.start(("127.0.0.1", 0))
        stack.push_async_callback(imds.stop)
        host = Host(case.kernel(), imds, directory)
        index = host.plug_primary()
        host.kernel.put(Address(index, ip_address("2001:db8:0:1::10"), 128, dynamic=True))
        host.kernel.put(Address(index, ip_address("10.0.1.99"), 24))
        for rule in FOREIGN:
            host.kernel.put(rule)
        if case.applied:
            async with host.daemon() as daemon:
                await plug(host, daemon)
        if case.prepare:
            case.prepare(host)
        yield host


async def live(case: Case, host: Host, done: Callable[[], bool]) -> bool:
    """Run a daemon until it is done or dead; returns whether it was done."""
    async with ImdsClient(ImdsOptions(host.imds.endpoints)) as client:
        ledger = Ledger(host.directory)
        events = host.kernel.events()
        daemon = Daemon(case.policy, host.kernel, events, client, ledger, host.write)
        life = asyncio.create_task(daemon.run())
        acts = asyncio.create_task(_act(case, host, daemon, done))
        await asyncio.wait({life, acts}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        finished = acts.done()
        acts.cancel()
        daemon.stop()
        with suppress(asyncio.CancelledError):
            await acts
        with suppress(Killed):
            await life
        return finished


async def _act(case: Case, host: Host, daemon: Daemon, done: Callable[[], bool]) -> None:
    if case.act:
        await case.act(host, daemon)
    await eventually(done)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_killed_after_any_operation(case: Case, tmp_path: Path) -> None:
    async with new_host(case, new(tmp_path / "undisturbed")) as host:
        before = host.kernel.writes
        await live(case, host, lambda: case.done(host))
        wanted, operations = picture(host), host.kernel.writes - before
    assert operations >= 3
    for survived in range(operations + 1):
        async with new_host(case, new(tmp_path / str(survived))) as host:
            kernel = host.kernel
            assert isinstance(kernel, Mortal)
            kernel.left = survived
            finished = await live(case, host, lambda: picture(host) == wanted)
            # Which ENI's answers come first is chance, and with it how many operations it takes.
            assert finished or kernel.left == 0
            kernel.left, written = None, kernel.writes
            async with host.daemon(case.policy) as daemon:
                await eventually(lambda: picture(host) == wanted)
                await daemon.reconcile()
                assert daemon.status().surprises == 0
            assert picture(host) == wanted, survived
            assert kernel.writes == written if finished else kernel.writes > written, survived


class Stopping(Mortal):
    """A kernel whose program is told to stop once it has sent its `at`-th batch.

    What counts are the batches once `daemon` knows enough to finish.
    """

    at = 0
    daemon: Daemon | None = None

    async def run(self, operations: Sequence[Operation]) -> list[Outcome]:
        outcomes = await super().run(operations)
        if self.daemon and not any(i.undecided for i in self.daemon.host.interfaces.values()):
            self.at -= 1
            if self.at == 0:
                self.daemon.stop()
        return outcomes


@pytest.mark.parametrize("batch", [1, 2, 3])
async def test_told_to_stop_in_the_middle_it_finishes(batch: int, tmp_path: Path) -> None:
    """Other numbers take three batches, each of which would be a bad place to end."""
    case = replace(CASES["numbers"], kernel=Stopping)
    async with new_host(case, new(tmp_path / "host")) as host:
        kernel = host.kernel
        assert isinstance(kernel, Stopping)
        async with ImdsClient(ImdsOptions(host.imds.endpoints)) as client:
            ledger, events = Ledger(host.directory), kernel.events()
            daemon = Daemon(case.policy, kernel, events, client, ledger, host.write)
            kernel.at, kernel.daemon = batch, daemon
            await asyncio.wait_for(daemon.run(), PATIENCE)
        assert kernel.at <= 0
        written, wanted = kernel.writes, picture(host)
        async with host.daemon(case.policy) as daemon:
            await eventually(lambda: is_migrated(host))
            await daemon.reconcile()
        assert (kernel.writes, picture(host)) == (written, wanted)
