"""A dry run: what it decides is what a daemon then does, and it leaves no trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from nicwatchd.core import diff
from nicwatchd.core.decision import Decision
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Plan
from nicwatchd.core.steps import Apply
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.service.driver import Driver
from nicwatchd.service.dry_run import preview
from nicwatchd.service.ledger import Ledger
from tests.service.conftest import AT_ONCE, Host, until
from tests.service.test_release import furnish, picture


async def dry(host: Host) -> Decision:
    """Take a dry run, and check that nothing changed by it."""
    before, written = picture(host), host.kernel.writes
    files = {path: path.read_text() for path in host.directory.iterdir()}
    async with ImdsClient(ImdsOptions(host.imds.endpoints)) as imds:
        decision = await preview(host.kernel, imds, Ledger(host.directory), AT_ONCE)
    assert (picture(host), host.kernel.writes) == (before, written)
    assert {path: path.read_text() for path in host.directory.iterdir()} == files
    return decision


async def test_a_daemon_does_as_it_says(host: Host) -> None:
    furnish(host)
    decision = await dry(host)
    assert decision.operations
    async with host.daemon() as daemon:
        await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
        plans = {index: i.plan for index, i in daemon.host.interfaces.items()}
    assert plans == {index: view.plan for index, view in decision.interfaces.items()}
    assert (await dry(host)).operations == ()


async def test_what_is_released_is_left(host: Host) -> None:
    furnish(host)
    async with host.daemon() as daemon:
        await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
        await daemon.release()
    decision = await dry(host)
    assert decision.operations == ()
    assert {view.plan for view in decision.interfaces.values()} <= {Plan(2), Plan(3)}


async def test_a_bug_is_no_decision(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would print that there is nothing to change."""
    furnish(host)

    def raises(*_args: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(diff.Differ, "diff", raises)
    with pytest.raises(RuntimeError, match="planted"):
        await dry(host)


async def test_its_driver_refuses_to_apply(host: Host, tmp_path: Path) -> None:
    driver = Driver(host.kernel, Ledger(tmp_path), read_only=True)
    with pytest.raises(RuntimeError, match="a dry run applies nothing"):
        await driver.carry_out(Apply((), {}))
