"""Leases, by each DHCP client: the earliest proof of an address, and welcome later as well."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import ip_address

import pytest
import pytest_asyncio

from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import all_answer
from tests.vm.clients import Client, client_of
from tests.vm.enis import script, unlisted
from tests.vm.host import PATIENCE, VmHost
from tests.vm.streams import Stream, stream

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Debian 12 and 13 have the same dhclient, its last release.
ONCE = {"dhclient": [pytest.mark.once]}
CLIENTS = [
    pytest.param(name, marks=[pytest.mark.client(name), *ONCE.get(name, ())])
    for name in ("networkd", "NetworkManager", "dhcpcd", "dhclient")
]
# A MAC of its own: an ENI that comes back is served at once with what it had before.
THREE = replace(script("ens6", 6), ipv4=("10.0.6.10", "10.0.6.77", "10.0.6.5"))
LEASE = "10.0.6.10/24"
# After its first look, the daemon does nothing for an hour unless something happens.
NO_POLLING = """
[retry]
interval = 3600.0
fast_for = 3600.0
cap = 3600.0
patience = 3600.0
refresh = 3600.0
"""


@pytest_asyncio.fixture(loop_scope="session")
async def client(host: VmHost, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with client_of(host, request.param) as found:
        yield found


async def addresses(host: VmHost, name: str) -> list[tuple[str, bool]]:
    """The global addresses of an interface, and whether each is leased."""
    shown = json.loads(await host.vm.run("ip", "-j", "address", "show", "dev", name))
    return sorted(
        (address["local"], address.get("dynamic", False))
        for address in shown[0]["addr_info"]
        if address["scope"] == "global"
    )


def leased(eni: Eni) -> list[tuple[str, bool]]:
    """What DHCP gives an ENI."""
    return sorted((str(address), True) for address in eni.addresses())


async def waits_with_link_up(host: VmHost) -> bool:
    """Whether the ENI, by its last name, waits, and its link is up, as by-hand clients need it."""
    status = await host.status("ens6")
    return (status.get("state"), status.get("link_up")) == ("awaiting-imds", True)


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
async def test_a_lease_makes_it_look_at_once(host: VmHost, client: Client) -> None:
    """Nothing but the client's doing can be the cause: it does not poll, and IMDS lists nothing."""
    since = host.vm.journal.now
    await host.settings(NO_POLLING)
    try:
        async with host.plugged(unlisted(script("ens6", 2)), dhcp=False) as (eni,):
            await host.eventually(partial(waits_with_link_up, host))
            assert await host.ours_of("ens6") == []
            before = len(host.imds.log)
            await client.lease(eni, "ens6")
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
            # At once, or a little later: what the link's coming has hinted at is counted, too.
            async with asyncio.timeout(PATIENCE):
                await host.imds.wait_for(lambda log: len(log) > before)
            status = await host.status("ens6")
            assert status["state"] == "awaiting-imds"
            assert (status["ipv4"]["added"], status["ipv6"]["added"]) == ([], [])
            assert await addresses(host, "ens6") == leased(eni)
            host.imds.step("ens6", complete=True)
            await host.vm.try_run("nicwatchd", "reconcile")
            await host.until("ens6", "applied", since)
        await host.until("ens6", "gone", since)
        await host.keeps_nothing()
    finally:
        await host.settings()


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
async def test_a_lease_that_comes_late_takes_over(host: VmHost, client: Client) -> None:
    """Connections to the addresses live through it."""
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2), dhcp=False) as (eni,):
        await host.until("ens6", "applied", since)
        assert sorted(await added(host)) == sorted(map(str, eni.addresses()))
        await all_answer(host.vpc, host.paths(eni), PATIENCE)

        async def taken_over() -> bool:
            return await added(host) == [] and await addresses(host, "ens6") == leased(eni)

        async with talk(host, eni) as streams:
            await client.lease(eni, "ens6")
            await host.eventually(taken_over)
            for each in streams:
                await each.speak()
        await host.vm.run("nicwatchd", "reconcile")  # exits 0: nothing is waited for
        assert (await host.status("ens6"))["state"] == "applied"
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        assert await addresses(host, "ens6") == leased(eni)
    await host.until("ens6", "gone", since)
    await host.keeps_nothing()


@asynccontextmanager
async def talk(host: VmHost, eni: Eni) -> AsyncIterator[list[Stream]]:
    """Connections from a far host to all addresses of an ENI."""
    async with AsyncExitStack() as stack:
        opened = (stream(host.vpc, address) for address in eni.addresses())
        yield [await stack.enter_async_context(each) for each in opened]


# dhcpcd takes an address off to add its own, behind all others: so they wait for it, if it runs.
@pytest.mark.parametrize("client", [c for c in CLIENTS if c.values != ("dhcpcd",)], indirect=True)
async def test_the_first_address_is_there_at_once_and_stays_the_first(
    host: VmHost, client: Client
) -> None:
    """The kernel takes the first IPv4 address as the source of what is not bound to one."""
    since = host.vm.journal.now
    async with host.plugged(THREE, dhcp=False) as (eni,):
        await host.until("ens6", "applied", since)
        ours = [f"{address}/32" for address in eni.ipv4]
        # networkd drops what it finds when it begins with a link, and nicwatchd puts it back.
        await host.eventually(partial(are_in_order, host, ours))
        async with talk(host, eni) as streams:
            await client.lease(eni, "ens6")
            await host.eventually(partial(is_leased, host, eni))
            for each in streams:
                await each.speak()
        await host.vm.run("nicwatchd", "reconcile")
        assert await in_order(host) == [*(f"{address}/32" for address in eni.ipv4), LEASE]
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
    await host.until("ens6", "gone", since)


async def are_in_order(host: VmHost, wanted: list[str]) -> bool:
    return await in_order(host) == wanted


async def in_order(host: VmHost) -> list[str]:
    """The IPv4 addresses of the ENI with their lengths, in the kernel's order."""
    shown = await host.vm.run("ip", "-4", "-oneline", "address", "show", "dev", "ens6")
    return [line.split()[3] for line in shown.splitlines()]


async def is_leased(host: VmHost, eni: Eni) -> bool:
    """Whether the first address of each family is a client's."""
    dynamic = {address for address, is_leased in await addresses(host, "ens6") if is_leased}
    return {eni.ipv4[0], eni.ipv6[0]} == set(map(ip_address, dynamic))


async def added(host: VmHost) -> list[str]:
    """The addresses of the ENI that nicwatchd says it added."""
    status = await host.status("ens6")
    return [address for family in ("ipv4", "ipv6") for address in status[family]["added"]]
