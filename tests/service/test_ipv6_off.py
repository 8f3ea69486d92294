"""The daemon on links without IPv6."""

from __future__ import annotations

from dataclasses import replace

from nicwatchd.core.evidence import Status
from nicwatchd.core.lifecycle import State
from nicwatchd.core.port import Result
from nicwatchd.service.status import InterfaceStatus
from tests.service.conftest import Host, eventually, until


def off(status: InterfaceStatus) -> bool:
    """Whether IPv4 is applied and IPv6 off."""
    return (
        status.state is State.APPLIED
        and status.ipv6 is not None
        and status.ipv6.verdict is Status.OFF
    )


def whole(status: InterfaceStatus) -> bool:
    """Whether both families are applied."""
    return (
        status.state is State.APPLIED
        and status.ipv6 is not None
        and status.ipv6.verdict is Status.READY
    )


async def test_a_host_booted_without_ipv6(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        index = host.plug()
        host.kernel.set_link(replace(host.link(index), mtu=9001, has_ipv6=False))
        status = await until(daemon, "eth1", off)
        assert [note.code for note in status.notes] == ["ipv6-off"]
        assert "on the whole host" in status.notes[0].text
        assert status.ipv4 is not None
        assert status.ipv4.verdict is Status.READY
        await daemon.reconcile()
        writes = host.kernel.writes
        await daemon.reconcile()
        assert host.kernel.writes == writes
        assert {key[1] for key in daemon.counts().operations} == {Result.DONE}


async def test_ipv6_is_switched_off_and_on_while_applied(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        index = host.plug()
        await until(daemon, "eth1", whole)
        host.kernel.disable_ipv6(index)
        await eventually(lambda: off(daemon.status().interfaces[1]))
        host.kernel.disable_ipv6(index, disabled=False)
        await eventually(lambda: whole(daemon.status().interfaces[1]))
        assert sum(daemon.counts().heals.values()) == 0
