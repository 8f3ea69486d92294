"""Rules of others: those that networkd makes without a priority, and where VRFs put `local`."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import all_answer
from tests.vm.enis import script
from tests.vm.host import PATIENCE, VmHost

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAR = {4: "198.51.100.50", 6: "2001:db8:5100::50"}
TABLE = 101
# As netplan writes it, which gives all interfaces one metric: here the primary's.
FILE = "/run/systemd/network/10-netplan-ens6.network"
LINK = """\
[Match]
Name=ens6

[Link]
RequiredForOnline=no

[Network]
DHCP=yes
LinkLocalAddressing=ipv6

[DHCPv4]
RouteMetric=512

[IPv6AcceptRA]
RouteMetric=512
"""
# As cloud-init has netplan do it: IPv6 without a default route, no priorities. networkd then takes
# the highest that no rule has which it knows of, and version 252 knows of none of ours: 32765, too.
RULES = f"""
[Route]
Destination=0.0.0.0/0
Gateway=10.0.2.1
GatewayOnLink=true
Table={TABLE}

[Route]
Destination=10.0.2.0/24
Scope=link
Table={TABLE}

[Route]
Destination=2001:db8:0:2::/64
Table={TABLE}

[RoutingPolicyRule]
From=10.0.2.10
Table={TABLE}

[RoutingPolicyRule]
From=2001:db8:0:2::10
Table={TABLE}
"""
# Calls each of the addresses from each other and from itself, in each family.
CALL_ALL = """
import socket, sys
for source in sys.argv[1:]:
    for to in sys.argv[1:]:
        if (":" in source) == (":" in to):
            with socket.create_connection((to, 7777), 10, (source, 0)) as call:
                assert call.recv(64).decode().strip() == source
"""


async def table_of(host: VmHost, eni: Eni, version: int) -> str:
    """The table that routes what leaves for a far host from the ENI's first address."""
    source = next(ip for ip in eni.addresses() if ip.version == version)
    words = ("ip", "-json", f"-{version}", "route", "get", FAR[version], "from", str(source))
    (found,) = json.loads(await host.vm.run(*words))
    assert found["dev"] == "ens6"
    return str(found.get("table", "main"))


async def priorities(host: VmHost, version: int) -> list[int]:
    """Of networkd's rules."""
    rules = json.loads(await host.vm.run("ip", "-json", f"-{version}", "rule"))
    return [rule["priority"] for rule in rules if str(rule["table"]) == str(TABLE)]


async def theirs_are_first(host: VmHost, eni: Eni) -> bool:
    """Whether networkd's table routes what it has a route for, and ours the rest."""
    if not (await priorities(host, 4) and await priorities(host, 6)):
        return False
    ours = str((await host.status("ens6"))["table"])
    return [await table_of(host, eni, version) for version in (4, 6)] == [str(TABLE), ours]


async def is_told(host: VmHost) -> bool:
    """Whether the status names the rule that wins."""
    (priority,) = await priorities(host, 4)
    notes = (await host.status("ens6"))["notes"]
    texts = [note["text"] for note in notes if note["code"] == "shadowed"]
    return any(f"by the rule at priority {priority} (table {TABLE})" in text for text in texts)


async def test_netplans_rules_without_a_priority_and_its_default_that_ties(host: VmHost) -> None:
    since = host.vm.journal.now
    await host.vm.write(FILE, LINK)
    await host.vm.run("networkctl", "reload")
    try:
        async with host.plugged(script("ens6", 2)) as (eni,):
            await host.until("ens6", "applied", since)
            await all_answer(host.vpc, host.paths(eni), PATIENCE)

            await host.vm.write(FILE, LINK + RULES)
            await host.vm.run("networkctl", "reload")
            await host.eventually(partial(theirs_are_first, host, eni))  # the younger ones
            await host.eventually(partial(is_told, host))
            await all_answer(host.vpc, host.paths(eni), PATIENCE)

            await host.vm.run("nicwatchd", "release", "--all")
            since = host.vm.journal.now
            await host.vm.run("nicwatchd", "reconcile")
            await host.until("ens6", "applied", since)
            assert await theirs_are_first(host, eni)  # now the older ones
            await host.eventually(partial(is_told, host))
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
        await host.until("ens6", "gone", since)
        await host.keeps_nothing()
    finally:
        await host.vm.run("rm", FILE)
        await host.vm.run("networkctl", "reload")
    await all_answer(host.vpc, host.paths(host.vpc.primary), PATIENCE)


@asynccontextmanager
async def vrf(host: VmHost) -> AsyncIterator[None]:
    """There is a VRF, and `local` is behind its rule, as the kernel's documentation has it."""
    families = ("-4", "-6")
    await host.vm.run("ip", "link", "add", "red", "up", "type", "vrf", "table", "1010")
    for family in families:
        await host.vm.run("ip", family, "rule", "add", "pref", "32765", "lookup", "local")
        await host.vm.run("ip", family, "rule", "del", "pref", "0")
    try:
        yield
    finally:
        kernels = ("lookup", "local", "protocol", "kernel")
        for family in families:
            await host.vm.run("ip", family, "rule", "add", "pref", "0", *kernels)
            await host.vm.run("ip", family, "rule", "del", "pref", "32765", "lookup", "local")
        await host.vm.run("ip", "link", "del", "red")
        for family in families:  # the kernel has made it, with the first VRF since the boot
            await host.vm.try_run("ip", family, "rule", "del", "pref", "1000")


async def answers_itself(host: VmHost, eni: Eni) -> bool:
    """Whether the host's addresses, the primary's and the ENI's, reach each other on the host."""
    ips = map(str, (*host.vpc.primary.addresses(), *eni.addresses()))
    return (await host.vm.try_run("python3", "-c", CALL_ALL, *ips)).code == 0


async def test_a_vrf_host_answers_itself(host: VmHost) -> None:
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)) as (eni,):
        await host.until("ens6", "applied", since)
        programmed = await host.use(eni)
        async with vrf(host):
            await host.eventually(partial(answers_itself, host, eni))  # its `local` is younger
            await all_answer(host.vpc, host.paths(eni), PATIENCE)

            await host.vm.run("nicwatchd", "release", "--all")
            since = host.vm.journal.now
            await host.vm.run("nicwatchd", "reconcile")
            await host.until("ens6", "applied", since)
            assert await answers_itself(host, eni)  # its `local` is older
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
        await host.vm.run("nicwatchd", "reconcile")
        assert sorted(await host.ours()) == sorted(programmed)
    await host.until("ens6", "gone", since)
    await host.keeps_nothing()
