"""By which link the host's own traffic leaves, while another ENI's default routes come and go."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.core.port import RouteAnswer
from nicwatchd.sim import dhcp
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.script import Scenario
from tests.bench import host
from tests.bench.figures import Figure, Limit
from tests.bench.outside import Outside, look_into

FAR: Final = {
    Family.V4: ip_address("198.51.100.50"),
    Family.V6: ip_address("2001:db8:5100::50"),
}
INTERVAL: Final = 0.005  # s between two looks: the error of the figure
ROUNDS: Final = 6  # attach, two leases, a flap, a lease, detach
QUICK_ROUNDS: Final = 1
AFTER: Final = 1.0  # s to keep looking after each change
ALLOWED: Final = 0.1  # s


class Stretches:
    """How long, without a break, the host's own traffic did not leave by the primary."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.looks = 0
        self._since: dict[Family, float] = {}

    def take(self, family: Family, *, by_primary: bool) -> None:
        """Take what one look saw."""
        now = time.monotonic()
        self.looks += 1
        if by_primary:
            self._since.pop(family, None)
        else:
            self.longest = max(self.longest, now - self._since.setdefault(family, now))


async def _look(outside: Outside, primary: int, stretches: Stretches) -> None:
    """Look, until cancelled."""
    while True:
        for family, far in FAR.items():
            said = await outside.kernel.route_get(None, far)
            by_primary = isinstance(said, RouteAnswer) and said.oif == primary
            stretches.take(family, by_primary=by_primary)
        await asyncio.sleep(INTERVAL)


async def measure(_seed: int, *, quick: bool) -> list[Figure]:
    """One host for each network manager whose default routes would win.

    Start: the ENI's default route is in the kernel. End: the host's own traffic leaves by the
    primary again, by the kernel's own look-up.
    """
    managers = [dhcp.TIES, dhcp.BEATS]
    rounds = QUICK_ROUNDS if quick else ROUNDS
    found = await asyncio.gather(*(_measure(manager, rounds) for manager in managers))
    return [
        Figure(
            "the host's own traffic by another ENI, which brings a default route that wins",
            [each.longest for each in found],
            limits=(Limit("max", ALLOWED),),
            note=f"{sum(each.looks for each in found)} looks",
        )
    ]


async def _measure(manager: dhcp.Manager, rounds: int) -> Stretches:
    script = host.script(1)
    async with Ec2(Scenario(host.PRIMARY_MAC, (host.PRIMARY, script)), manager) as ec2:
        with look_into(ec2.vpc.host) as outside:
            daemon = await ec2.start_daemon()
            await daemon.until("eth0", "ignored")
            stretches = Stretches()
            looking = asyncio.create_task(
                _look(outside, ec2.vpc.ifindex(ec2.vpc.primary), stretches)
            )
            for _ in range(rounds):
                await _round(ec2)
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            return stretches


async def _round(ec2: Ec2) -> None:
    eni = await host.plug(ec2, "eth1")
    for _ in range(2):
        for family in Family:
            await ec2.vpc.lease(eni, family, default=True)
        await ec2.vpc.ra(eni)
        await asyncio.sleep(AFTER)
    await ec2.vpc.ip(ec2.vpc.host, f"link set {eni.name} down")
    await ec2.vpc.ip(ec2.vpc.host, f"link set {eni.name} up")
    for family in Family:
        await ec2.vpc.lease(eni, family, default=True)
    await asyncio.sleep(AFTER)
    await ec2.unplug("eth1")
    await asyncio.sleep(AFTER)
