"""An ENI in a bond, which has its addresses: main's routes through the bond lead into the VPC.

Of a bridge, which needs no such machine: `tests/scenarios`. Of a VLAN: `test_operators.py`.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import all_answer
from nicwatchd.sim.vpc import Vpc
from tests.vm.enis import script
from tests.vm.host import PATIENCE, VmHost
from tests.vm.streams import stream

pytestmark = pytest.mark.asyncio(loop_scope="session")

SMALL = 1280  # bytes, the least that IPv6 allows
LARGE = b"x" * 3000 + b"\n"
FILES = "/run/systemd/network"
# The primary in a bond that has its MAC, its addresses and its routes.
BOND = {
    "05-bond.netdev": """\
[NetDev]
Name=bond0
Kind=bond
MACAddress=02:00:00:00:00:01

[Bond]
Mode=active-backup
""",
    "05-bond.network": """\
[Match]
Name=bond0

[Network]
Address=10.0.1.10/24
Address=2001:db8:0:1::10/128
IPv6AcceptRA=no

[Route]
Gateway=10.0.1.1
Metric=512

[Route]
Gateway=fe80:ec2::1
Metric=512

[Route]
Destination=2001:db8:0:1::/64
""",
    "05-bond-port.network": """\
[Match]
PermanentMACAddress=02:00:00:00:00:01

[Network]
Bond=bond0
""",
}


@asynccontextmanager
async def bond(host: VmHost) -> AsyncIterator[None]:
    """networkd puts the primary into a bond."""
    for name, text in BOND.items():
        await host.vm.write(f"{FILES}/{name}", text)
    await host.vm.run("networkctl", "reload")
    try:
        yield
    finally:
        await host.vm.run("rm", *(f"{FILES}/{name}" for name in BOND))
        await host.vm.run("ip", "link", "delete", "bond0")
        await host.vm.run("networkctl", "reload")


@asynccontextmanager
async def narrow(vpc: Vpc, peer: Peer) -> AsyncIterator[None]:
    """The router's link to a peer takes small packets only: it says so to who sends large ones."""
    (route,) = json.loads(await vpc.exec(vpc.router, "ip", "-json", "route", "get", str(peer.ipv4)))
    await vpc.ip(vpc.router, f"link set {route['dev']} mtu {SMALL}")
    try:
        yield
    finally:
        await vpc.ip(vpc.router, f"link set {route['dev']} mtu 1500")


async def learns_a_small_mtu(host: VmHost) -> None:
    """Have the primary send large packets to a far host until it was told of each family's MTU."""
    far = host.vpc.far_hosts[0]
    async with narrow(host.vpc, far):
        for ip in host.vpc.primary.addresses():
            caller = far.address(Family(ip.version))
            async with stream(host.vpc, ip, caller) as to_primary:
                await to_primary.speak(LARGE)
            assert f"mtu {SMALL}" in await host.vm.run("ip", "route", "get", str(caller))


async def test_the_primary_in_a_bond(host: VmHost) -> None:
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)) as (eni,):
        await host.until("ens6", "applied", since)
        async with bond(host):
            await host.eventually(partial(host.is_in_our_group, "bond0"))
            await all_answer(host.vpc, host.from_afar(host.vpc.primary), PATIENCE)
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
            await learns_a_small_mtu(host)
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
    await host.until("ens6", "gone", since)
    await all_answer(host.vpc, host.paths(host.vpc.primary), PATIENCE)
    await host.keeps_nothing()
