"""ENIs that come and go, on a host where networkd runs DHCP."""

import json

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim.probe import all_answer
from tests.vm.clients import hands_off
from tests.vm.enis import late, script
from tests.vm.host import PATIENCE, VmHost
from tests.vm.streams import stream

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def of_the_primary(host: VmHost) -> list[str]:
    """What the host has for its primary, without remaining lifetimes."""
    addresses = json.loads(await host.vm.run("ip", "-j", "address", "show", "dev", "ens5"))
    of = [f"{a['local']}/{a['prefixlen']}" for a in addresses[0]["addr_info"]]
    for family in ("-4", "-6"):
        routes = json.loads(await host.vm.run("ip", "-j", family, "route", "show", "dev", "ens5"))
        of += [f"{r['dst']} {r.get('gateway')} {r['protocol']} {r['metric']}" for r in routes]
    return sorted(of)


async def test_ipv6_works_before_imds_knows_of_it(host: VmHost) -> None:
    before = await of_the_primary(host)
    since = host.vm.journal.now
    eni_script = late(script("ens6", 2))
    async with stream(host.vpc, host.vpc.primary.ipv6[0]) as to_primary:
        async with host.plugged(eni_script) as (eni,):
            # IMDS stays without IPv6 as long as it takes: the lease proves it.
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
            assert (await host.status("ens6"))["ipv6"]["addresses"] == [str(eni.ipv6[0])]
            host.imds.step("ens6", complete=True)
            await host.until("ens6", "applied", since)
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
            await all_answer(host.vpc, host.to_primary(eni), PATIENCE)
            await to_primary.speak()
        await host.until("ens6", "gone", since)
        await to_primary.speak()
    await host.keeps_nothing()
    assert await of_the_primary(host) == before


async def test_each_transition_is_in_the_journal_with_its_fields(host: VmHost) -> None:
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)):
        await host.until("ens6", "applied", since)
    await host.until("ens6", "gone", since)
    found = [
        entry.fields
        for entry in host.vm.journal.entries[since:]
        if "NICWATCHD_PREVIOUS_STATE" in entry.fields  # others tell of causes
        and entry.fields["NICWATCHD_MAC"] == "02:00:00:00:00:02"
    ]
    states = [fields["NICWATCHD_STATE"] for fields in found]
    assert states[0] == "detected"
    assert states[-1] == "gone"
    assert {"validated", "applied"} <= set(states)
    for fields, previous in zip(found[1:], states, strict=False):
        assert fields["NICWATCHD_PREVIOUS_STATE"] == previous
        assert fields["_SYSTEMD_UNIT"] == "nicwatchd.service"
        assert int(fields["NICWATCHD_ELAPSED_USEC"]) > 0
        assert json.loads(fields["NICWATCHD_STATUS"])["state"] == fields["NICWATCHD_STATE"]


@pytest.mark.client("networkd")
async def test_without_dhcp_nicwatchd_alone_brings_up_the_link(host: VmHost) -> None:
    since = host.vm.journal.now
    async with hands_off(host):
        async with host.plugged(script("ens6", 2), dhcp=False) as (eni,):
            await host.until("ens6", "applied", since)
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
            status = await host.status("ens6")
            assert status["ipv4"]["added"] == [str(eni.ipv4[0])]
            assert status["ipv6"]["added"] == [str(eni.ipv6[0])]
        await host.until("ens6", "gone", since)


@pytest.mark.client("networkd")
@pytest.mark.parametrize("drop_in", [True, False], ids=["with the drop-in", "without it"])
async def test_a_second_hotplug_leaves_the_first_its_rules(host: VmHost, *, drop_in: bool) -> None:
    """networkd deletes foreign rules when it configures a link, unless the drop-in is there."""
    mask = "/run/systemd/networkd.conf.d/10-nicwatchd.conf"
    if not drop_in:
        await host.vm.run("install", "-D", "/dev/null", mask)
        await host.vm.run("systemctl", "restart", "systemd-networkd")
    since = host.vm.journal.now
    first, second = script("ens6", 2), script("ens7", 3)
    try:
        async with host.plugged(first) as (eni,):
            await host.until("ens6", "applied", since)
            before = await host.use(eni)
            async with stream(host.vpc, eni.ipv6[0]) as to_first, host.plugged(second) as (other,):
                await host.until("ens7", "applied", since)
                await all_answer(host.vpc, host.paths(eni, other), PATIENCE)
                await to_first.speak()

                async def are_there() -> bool:
                    return set(before) <= set(await host.ours())

                # networkd may have deleted them a moment ago, and puts its own routes in order.
                await host.eventually(are_there)
    finally:
        if not drop_in:
            await host.vm.run("rm", mask)
            await host.vm.run("systemctl", "restart", "systemd-networkd")
    await host.until("ens6", "gone", since)
    await host.keeps_nothing()


async def test_families_are_both_reachable_from_the_primarys_subnet(host: VmHost) -> None:
    """The crossed flows: whoever is in one ENI's subnet, and talks to the other's address."""
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)) as (eni,):
        await host.until("ens6", "applied", since)
        wanted = host.paths(eni)
        assert {Family(path.to.version) for path in wanted} == set(Family)
        await all_answer(host.vpc, wanted, PATIENCE)
