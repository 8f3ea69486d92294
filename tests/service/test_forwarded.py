"""Our nftables table beside the daemon: recorded, adopted, shown by a dry run, removed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Reason, RemoveRuleset, Ruleset, SetRuleset
from nicwatchd.core.policy import Forwarded, Policy
from nicwatchd.core.port import KernelError
from nicwatchd.core.steps import Apply, ReadObjects
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.service import offline_release
from nicwatchd.service.driver import Driver
from nicwatchd.service.dry_run import preview
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.status import InterfaceStatus
from nicwatchd.sim.memory_kernel import FakeKernel
from tests.service.conftest import AT_ONCE, Host, eventually, until

ON = replace(AT_ONCE, forwarded=Forwarded.CONNMARK)
READ = ReadObjects(
    (), own=False, rules=False, tables=frozenset(), udev=frozenset(), known=frozenset()
)
READ_IT = replace(READ, ruleset=True)
SEALED = "table ..."  # the kernel in memory gives the text itself as the seal


def applied(status: InterfaceStatus) -> bool:
    return status.state is State.APPLIED


async def on(host: Host, policy: Policy = ON) -> None:
    """A daemon that has served the ENI and is gone."""
    async with host.daemon(policy) as daemon:
        await until(daemon, "eth1", applied)


async def dry(host: Host, policy: Policy) -> list[object]:
    """What a dry run would do to the table."""
    async with ImdsClient(ImdsOptions(host.imds.endpoints)) as imds:
        decision = await preview(host.kernel, imds, Ledger(host.directory), policy)
    return [o for o in decision.operations if isinstance(o, SetRuleset | RemoveRuleset)]


async def test_it_is_made_adopted_and_removed(host: Host) -> None:
    host.plug_primary()
    host.plug()
    assert len(await dry(host, ON)) == 1
    await on(host)
    text = await host.kernel.ruleset()
    assert isinstance(text, str)
    assert "ct mark" in text
    assert Ledger(host.directory).ruleset == (text, text)
    assert await dry(host, ON) == []
    writes = host.kernel.writes
    async with host.daemon(ON) as daemon:
        await until(daemon, "eth1", applied)
        await daemon.reconcile()
        assert host.kernel.writes == writes
    assert await dry(host, AT_ONCE) == [RemoveRuleset()]
    await on(host, AT_ONCE)
    assert await host.kernel.ruleset() is None
    assert Ledger(host.directory).ruleset is None
    assert all(rule.fwmark is None for rule in await host.kernel.rules())


async def test_a_release_without_a_daemon(host: Host) -> None:
    host.plug_primary()
    host.plug()
    await on(host)
    released = await offline_release.release(host.kernel, Ledger(host.directory))
    assert not released.failed
    assert await host.kernel.ruleset() is None


async def test_a_release_by_a_daemon(host: Host) -> None:
    host.plug_primary()
    host.plug()
    async with host.daemon(ON) as daemon:
        await until(daemon, "eth1", applied)
        await daemon.release()
        assert await host.kernel.ruleset() is None
        await daemon.reconcile()
        await until(daemon, "eth1", applied)

        async def is_there() -> bool:
            return await host.kernel.ruleset() is not None

        await eventually(is_there)


async def test_what_cannot_be_recorded_is_not_made(host: Host) -> None:
    """Nobody would remove it."""
    driver = Driver(host.kernel, Ledger(host.directory))
    (host.directory / "nftables.new").mkdir()
    answer = await driver.carry_out(Apply((SetRuleset(SEALED),), {}))
    assert "ledger" in str(answer)
    assert await host.kernel.ruleset() is None


async def test_what_was_written_and_what_others_made_of_it(host: Host) -> None:
    kernel, ledger = host.kernel, Ledger(host.directory)
    driver = Driver(kernel, ledger)

    async def read(step: ReadObjects = READ_IT) -> Ruleset | None:
        return (await driver.carry_out(step)).ruleset  # type: ignore[union-attr]

    assert await read(READ) is None
    assert await read() == Ruleset()
    await driver.carry_out(Apply((SetRuleset(SEALED),), {}))
    assert await read() == Ruleset(SEALED)
    assert await read(READ) == Ruleset(SEALED), "what was recorded is read without being asked for"
    kernel.flush_ruleset("others'")
    assert await read() == Ruleset("")
    kernel.flush_ruleset()
    assert await read() == Ruleset()
    assert ledger.ruleset is None
    # A daemon that died between the record and the table, or between the table and its seal.
    for left in (None, SEALED):
        ledger.keep_ruleset((SEALED, ""))
        kernel.flush_ruleset(left)
        assert await read() == Ruleset(None if left is None else "")


async def test_why_it_cannot_be_read(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver(host.kernel, Ledger(host.directory))
    problem = Reason("nft-refused", "no")
    host.kernel.nft_fails = problem
    assert (await driver.carry_out(READ_IT)).ruleset == Ruleset(None, problem)  # type: ignore[union-attr]

    async def refused(_: FakeKernel) -> Reason:
        return problem

    async def busy(_: FakeKernel) -> str:
        raise KernelError("busy")

    monkeypatch.setattr(FakeKernel, "ruleset", refused)
    assert (await driver.carry_out(READ_IT)).ruleset == Ruleset(None, problem)  # type: ignore[union-attr]
    monkeypatch.setattr(FakeKernel, "ruleset", busy)
    assert (await driver.carry_out(READ_IT)).ruleset is None  # type: ignore[union-attr]


async def test_the_record_is_in_plain_sight(host: Host) -> None:
    host.plug_primary()
    host.plug()
    await on(host)
    said = json.loads((host.directory / "nftables.json").read_text())
    assert said["text"].startswith("table inet nicwatchd;\n")
