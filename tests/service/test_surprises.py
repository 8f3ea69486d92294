"""A bug in the work on one interface: the others are served, health says so, one journal entry."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

import pytest

from nicwatchd.core import asking, host_plan, interface
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import LINK_GROUP, Family
from nicwatchd.imds.eni import EniReader
from nicwatchd.service import journal
from nicwatchd.service.control import Control
from nicwatchd.service.daemon import Daemon
from tests.service.conftest import MAC, Host, eventually, until

PLACES: Final = {
    "judging": (interface, "judge"),
    "planning": (host_plan.HostPlan, "_subject"),
    "asking IMDS": (EniReader, "poll"),
}


def plant(patch: pytest.MonkeyPatch, where: str) -> None:
    """Have the work on eth1 raise there."""
    place, name = PLACES[where]
    real = getattr(place, name)

    def is_eth1(thing: Any) -> bool:
        link = getattr(thing, "link", None)
        return getattr(thing, "_mac", getattr(link, "mac", None)) == MAC

    def raises(*args: Any, **more: Any) -> Any:
        if any(map(is_eth1, args)):
            raise ZeroDivisionError("planted")
        return real(*args, **more)

    patch.setattr(place, name, raises)


def entries(host: Host) -> list[str]:
    return [e.message for e in host.entries if e.message_id == journal.SURPRISE]


async def health(daemon: Daemon, host: Host) -> tuple[int, str]:
    """What /healthz answers."""
    control = Control(daemon, host.directory / "health.sock")
    await control.start()
    try:
        reader, writer = await asyncio.open_unix_connection(control.path)
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
    finally:
        await control.close()
    return int(head.split()[1]), body


@pytest.mark.parametrize("where", PLACES)
async def test_a_bug_costs_one_interface(
    host: Host, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary = host.plug_primary()
    index = host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
        before = [host.kernel.ip_rule(family) for family in Family]
        plant(monkeypatch, where)
        host.kernel.overrun()
        asking.poll_all(daemon.turn.host, 0.0)
        await eventually(lambda: bool(entries(host)))

        # The other one is served, again and again.
        for _ in range(3):
            host.kernel.set_link(replace(host.link(primary), group=0))
            await eventually(lambda: host.link(primary).group == LINK_GROUP)

        (message,) = entries(host)
        (eni,) = (i.eni for i in daemon.status().interfaces if i.name == "eth1")
        assert message == (
            f"eth1 {eni}: internal error in {where}: ZeroDivisionError('planted'); "
            "everything else continues"
        )
        status, text = await health(daemon, host)
        assert status == 503
        assert f"eth1: internal error in {where}: ZeroDivisionError('planted')" in text
        assert daemon.status().surprises >= 1
        assert [host.kernel.ip_rule(family) for family in Family] == before

        monkeypatch.undo()
        host.kernel.overrun()
        asking.poll_all(daemon.turn.host, 0.0)
        await eventually(lambda: daemon.status().problems == [])
        assert (await health(daemon, host))[0] == 200
        assert host.link(index).group == LINK_GROUP


async def test_a_bug_in_taking_what_happened_costs_that_alone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary = host.plug_primary()
    async with host.daemon() as daemon:
        await until(daemon, "eth0", lambda status: status.state is State.IGNORED)

        def raises(*_args: object, **_more: object) -> None:
            raise ZeroDivisionError("planted")

        monkeypatch.setattr(daemon.turn, "take_event", raises)
        host.kernel.overrun()
        await eventually(lambda: bool(entries(host)))
        (message,) = entries(host)
        assert message.startswith("internal error in taking what happened: ZeroDivisionError(")
        monkeypatch.undo()
        host.kernel.set_link(replace(host.link(primary), group=0))
        await eventually(lambda: host.link(primary).group == LINK_GROUP)


async def test_a_bug_of_an_observer_costs_no_other_its_news(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:

        def raises(_told: object) -> None:
            raise ZeroDivisionError("planted")

        daemon.subscribe(raises)
        heard: list[object] = []
        daemon.subscribe(heard.append)
        host.plug()
        await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
        assert len(heard) > 1
        await eventually(lambda: bool(entries(host)))
        assert len(entries(host)) == 1  # told once, however often it happens
        assert daemon.status().surprises > 1
