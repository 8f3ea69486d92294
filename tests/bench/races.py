"""The race as a user sees it: TCP to the IPv6 addresses of the new ENI, and to the primary."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import INTERVAL, Acceptor, Watch, paths, watch_primary
from tests.bench import host
from tests.bench.figures import Figure, Limit

ALLOWED: Final = 0.2  # s beyond one poll interval; and of silence of the primary
LAGS: Final = {
    8.0: 0.25,
    20.0: 0.25,
    90.0: 5.0,
}  # s: the lag of IPv6, and the poll interval at that age
LEASED_LAG: Final = 8.0
QUICK_LAGS: Final = (8.0,)
AFTER: Final = 2.0  # s to keep watching the primary, also after the unplug
PATIENCE: Final = 20.0  # s


@dataclass(frozen=True, slots=True)
class Race:
    """The result of one race, in s: the time until IPv6 is reachable, and the primary's silence."""

    after: float
    silence: float


async def measure(_seed: int, *, quick: bool) -> list[Figure]:
    """Run the race for each lag without DHCP, and once with DHCPv6, each on its own host.

    Start: the clock of IMDS, or the moment of the lease. End: the first answer to a TCP connection,
    tried every 100 ms, on the slowest of the paths from six far hosts and two neighbours to each
    IPv6 address of the ENI.
    """
    lags = QUICK_LAGS if quick else tuple(LAGS)
    runs = [*(_race(lag, leased=False) for lag in lags), _race(LEASED_LAG, leased=True)]
    *raced, leased = await asyncio.gather(*runs)
    figures = [
        Figure(
            f"the race, IPv6 complete at {lag:g} s: IMDS complete -> TCP by IPv6",
            [race.after],
            limits=(Limit("max", LAGS[lag] + ALLOWED),),
            note=f"tried every {INTERVAL * 1000:.0f} ms",
        )
        for lag, race in zip(lags, raced, strict=True)
    ]
    figures.append(
        Figure(
            f"the race with DHCPv6: lease -> TCP by IPv6 (IMDS: {LEASED_LAG:g} s)",
            [leased.after],
            unit="s",
            limits=(Limit("max", LEASED_LAG),),
            note="1 to 2 s of it are the kernel's duplicate address detection",
        )
    )
    silences = [race.silence for race in (*raced, leased)]
    figures.append(
        Figure(
            "longest silence of the primary during hot-plugs, both families",
            silences,
            limits=(Limit("max", ALLOWED),),
            note=f"tried every {INTERVAL * 1000:.0f} ms",
        )
    )
    return figures


async def _race(lag: float, *, leased: bool) -> Race:
    script = host.script(1, host.late_steps(lag), addresses=1)
    async with host.host(script) as ec2:
        async with Acceptor(ec2.vpc, ec2.vpc.host), watch_primary(ec2.vpc) as primary:
            daemon = await ec2.start_daemon()
            await daemon.until("eth0", "ignored")
            eni = await host.plug(ec2, script.name, (Family.V4,) if leased else ())
            after = await (_from_lease if leased else _from_imds)(ec2, eni)
            await asyncio.sleep(AFTER)
            await ec2.unplug(script.name)
            await asyncio.sleep(AFTER)
        return Race(after, primary.longest_silence)


async def _from_imds(ec2: Ec2, eni: Eni) -> float:
    complete = ec2.imds.complete_at(eni.name)
    await host.wait_for_clock(complete - 1.0)
    return await _reachable(ec2, eni) - complete


async def _from_lease(ec2: Ec2, eni: Eni) -> float:
    await ec2.vpc.lease(eni, Family.V6)
    leased = asyncio.get_running_loop().time()
    await ec2.vpc.ra(eni)
    return await _reachable(ec2, eni) - leased


async def _reachable(ec2: Ec2, eni: Eni) -> float:
    """The monotonic time since when every IPv6 path answers."""
    wanted = paths(ec2.vpc.peers(eni), eni.addresses(Family.V6))
    async with Watch(ec2.vpc, wanted) as watch:
        await watch.all_reachable(PATIENCE)
        return max(since for path in wanted if (since := watch.since(path)) is not None)
