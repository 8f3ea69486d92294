"""The status is made once, however many ask; and it is never old."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from operator import is_

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.service import reporting
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.status import InterfaceStatus, of_view
from tests.service.conftest import Host, eventually, until


async def at_rest(daemon: Daemon) -> list[InterfaceStatus]:
    """What is said once two readings of everything give the same: an ENI may just have got well."""
    before: list[InterfaceStatus] = []
    async with asyncio.timeout(10):
        while True:
            await daemon.reconcile()
            now = daemon.status().interfaces
            if len(before) == len(now) and all(map(is_, before, now)):
                return now
            before = now


async def test_what_did_not_change_is_not_made_anew(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def counted(*arguments: object) -> InterfaceStatus:
        status = of_view(*arguments)  # type: ignore[arg-type] # whatever it is called with
        made.append(status.name)
        return status

    host.plug_primary()
    index = host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
        before = await at_rest(daemon)
        monkeypatch.setattr(reporting, "of_view", counted)
        for _ in range(3):
            again = daemon.status().interfaces
            assert [a is b for a, b in zip(before, again, strict=True)] == [True, True]
        await daemon.reconcile()  # reads everything anew, and finds the same
        daemon.status()
        assert made == []
        host.kernel.set_link(replace(host.link(index), up=False, running=False))
        await eventually(lambda: not daemon.status().interfaces[1].link_up)
        assert set(made) == {"eth1"}


async def test_the_times_follow_the_clock_when_it_is_set(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        await until(daemon, "eth0", lambda status: status.state is State.IGNORED)
        await daemon.reconcile()
        (before,) = daemon.status().interfaces
        now = time.time
        monkeypatch.setattr(time, "time", lambda: now() + 3600)
        await daemon.reconcile()
        (after,) = daemon.status().interfaces
        assert after.seen - before.seen == pytest.approx(3600, abs=1)
