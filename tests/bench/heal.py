"""Our rules are deleted: how long until they are back?"""

from __future__ import annotations

import asyncio
import random
import time
from itertools import cycle, islice
from typing import Final

from nicwatchd.core.model import Family, RemoveRule, Rule
from nicwatchd.netlink.encode import encode
from tests.bench import host, outside
from tests.bench.figures import Figure, Limit

DELETIONS: Final = 32
QUICK_DELETIONS: Final = 3
# s between two deletions. Healing is limited to a burst of 10 and then 1 per 5 s; also, they are
# not to keep step with the polls.
SPACING: Final = (5.0, 5.3)


async def measure(seed: int, *, quick: bool) -> list[Figure]:
    """Each kind of rule in turn, both families, deleted one at a time on an applied ENI.

    Start: the kernel has confirmed the deletion. End: the rule is seen again from outside.
    """
    chance = random.Random(seed)
    script = host.script(1)
    times = []
    async with host.host(script) as ec2:
        with outside.look_into(ec2.vpc.host) as probe:
            daemon = await ec2.start_daemon()
            await daemon.until("eth0", "ignored")
            eni = await host.plug(ec2, script.name, tuple(Family))
            wanted = outside.expected(eni, ec2.vpc.ifindex(eni))
            await probe.complete(wanted)
            rules = cycle(sorted(wanted.rules, key=str))
            for rule in islice(rules, QUICK_DELETIONS if quick else DELETIONS):
                await asyncio.sleep(chance.uniform(*SPACING))
                times.append(await _delete(probe, rule))
    return [
        Figure(
            f"our rule deleted -> back, {len(times)} deletions",
            times,
            limits=(Limit("median", 0.150),),
            show=("max",),
        )
    ]


async def _delete(probe: outside.Outside, rule: Rule) -> float:
    """Delete one rule; s until it is back."""
    (reply,) = await probe.requests.batch([encode(RemoveRule(rule))])
    if reply.errno:
        raise outside.NeverCameError(f"{rule} could not be deleted: {reply.message}")
    start = time.monotonic()

    async def missing() -> str:
        return "" if rule in await probe.kernel.rules() else str(rule)

    return await probe.until(missing) - start
