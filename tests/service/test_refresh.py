"""Events that change nothing cost no write; those of a link ask IMDS."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Address, Rule
from nicwatchd.service.status import InterfaceStatus
from nicwatchd.sim.memory_kernel import FakeKernel
from tests.service.conftest import Host, eventually, until


def is_applied(status: InterfaceStatus) -> bool:
    return status.state is State.APPLIED


async def test_renewals_write_nothing(host: Host) -> None:
    host.plug_primary()
    index = host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
        leases = (
            Address(index, ip_address("10.0.2.10"), 24, dynamic=True),
            Address(index, ip_address("2001:db8:0:2::10"), 128, dynamic=True),
        )
        for lease in leases:
            host.kernel.put(lease)
        await daemon.reconcile()
        written = host.kernel.writes
        for _ in range(100):
            for lease in leases:
                host.kernel.put(lease)  # the same once more, as a renewal does it
            await daemon.reconcile()
        assert host.kernel.writes == written
        assert is_applied(daemon.status().interfaces[1])


async def test_an_event_of_the_link_asks_imds_at_once(host: Host) -> None:
    host.plug_primary()
    index = host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
        await daemon.reconcile()
        # Long after the hot-plug, when the next poll is a minute away.
        daemon.host.interfaces[index].lifecycle.seen -= 3600.0
        await daemon.reconcile()
        host.imds.step("eth1", texts={"local-ipv4s": "10.0.2.10\n10.0.2.11\n10.0.2.12"})
        host.kernel.set_link(replace(host.link(index)))  # a change that is not in our picture

        async def there() -> bool:
            return "10.0.2.12" in {str(a.ip) for a in await host.kernel.addresses(index)}

        await eventually(there)


async def test_a_link_that_went_and_came_between_two_looks_is_a_new_one(host: Host) -> None:
    """Into another network namespace and back: same index, same MAC, down, and still in our group.

    It could also be that an operator had set it down, which would have to stand.
    """
    host.plug_primary()
    index = host.plug()
    async with host.daemon() as daemon:
        first = await until(daemon, "eth1", is_applied)
        link = replace(host.link(index), up=False, running=False)
        assert link.group == 3778
        host.kernel.remove_link(index)
        host.kernel.set_link(link)
        await until(daemon, "eth1", lambda now: is_applied(now) and now.seen > first.seen)
        await eventually(lambda: host.link(index).up)
        host.kernel.set_link(replace(host.link(index), up=False, running=False))
        await daemon.reconcile()
        assert not host.link(index).up, "this time it was an operator"


class Slow(FakeKernel):
    """A host on which a turn takes long, so that the daemon rests for as long after it."""

    async def rules(self) -> tuple[Rule, ...]:
        await asyncio.sleep(0.1)
        return await super().rules()


async def test_reconcile_is_over_when_its_answers_are_used(host: Host) -> None:
    host.kernel = Slow()
    host.plug_primary()
    index = host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
        host.imds.step("eth1", texts={"local-ipv4s": "10.0.2.10\n10.0.2.11\n10.0.2.12"})
        await daemon.reconcile()
        there = {str(address.ip) for address in await host.kernel.addresses(index)}
        assert "10.0.2.12" in there
