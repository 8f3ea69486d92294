"""Who wins over our rules, as the kernel itself answers."""

from __future__ import annotations

from errno import EACCES, EHOSTUNREACH, ENETUNREACH
from typing import Final

from nicwatchd.core import shadow
from nicwatchd.core.host import Host
from nicwatchd.core.port import Kernel, RouteAnswer

# How the kernel says that a rule or route forbids a packet; other errors prove nothing of rules.
FORBIDDEN: Final = frozenset({ENETUNREACH, EHOSTUNREACH, EACCES})


async def look_for_shadows(kernel: Kernel, host: Host) -> None:
    """Note at each interface which foreign rules win over ours. Raises KernelError."""
    rules = await kernel.rules()
    for interface in host.interfaces.values():
        shadows = []
        for probe in shadow.probes(interface.plan, interface.addresses):
            answer = await kernel.route_get(probe.src, probe.dst, oif=probe.oif)
            if isinstance(answer, RouteAnswer):
                shadows.append(shadow.shadow(probe, answer.table, rules))
            elif answer in FORBIDDEN:
                shadows.append(shadow.shadow(probe, None, rules))
        interface.shadows = tuple(dict.fromkeys(s for s in shadows if s is not None))
