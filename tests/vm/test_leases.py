"""Leases, by each DHCP client: the earliest proof of an address, and welcome later as well."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import all_answer
from tests.vm.clients import Client, client_of
from tests.vm.enis import script, unlisted
from tests.vm.host import PATIENCE, VmHost

pytestmark = pytest.mark.asyncio(loop_scope="session")

CLIENTS = [
    pytest.param(name, marks=pytest.mark.client(name))
    for name in ("networkd", "NetworkManager", "dhcpcd", "dhclient")
]
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
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2), dhcp=False) as (eni,):
        await host.until("ens6", "applied", since)
        assert sorted(await added(host)) == sorted(map(str, eni.addresses()))
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        await client.lease(eni, "ens6")

        async def taken_over() -> bool:
            return await added(host) == [] and await addresses(host, "ens6") == leased(eni)

        await host.eventually(taken_over)
        await host.vm.run("nicwatchd", "reconcile")  # exits 0: nothing is waited for
        assert (await host.status("ens6"))["state"] == "applied"
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        assert await addresses(host, "ens6") == leased(eni)
    await host.until("ens6", "gone", since)
    await host.keeps_nothing()


async def added(host: VmHost) -> list[str]:
    """The addresses of the ENI that nicwatchd says it added."""
    status = await host.status("ens6")
    return [address for family in ("ipv4", "ipv6") for address in status[family]["added"]]
