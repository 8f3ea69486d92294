"""What the IMDS client asks about the host where its routes do not lead to IMDS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from errno import EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from nicwatchd.core.host import Host
from nicwatchd.core.port import Kernel, KernelError
from nicwatchd.core.ways import ways_to_imds
from nicwatchd.imds.client import Detour

# What ends a lookup without a link.
ENDS: Final[Mapping[int, str]] = {
    EACCES: "a prohibit route or rule",
    EHOSTUNREACH: "an unreachable route",
    EINVAL: "a blackhole route or rule",
    ENETUNREACH: "no route",
}


class HostDetour(Detour):
    """The links of a host, and its routes as the kernel looks them up."""

    def __init__(self, host: Host, kernel: Kernel) -> None:
        self._host = host
        self._kernel = kernel

    def devices(self, failures: int) -> Sequence[str]:
        """See `Detour`."""
        host = self._host
        return ways_to_imds(host.interfaces.values(), host.policy, host.name_of, failures)

    async def route_to(self, endpoint: str) -> str:
        """See `Detour`."""
        try:
            destination = ip_address(urlsplit(endpoint).hostname or "")
            answer = await self._kernel.route_get(None, destination)
        except (ValueError, KernelError):  # a name instead of an address; the kernel is busy
            return ""
        if isinstance(answer, int):
            return ENDS.get(answer, "")
        name = self._host.name_of(answer.oif)
        return f"by {name}" if name else ""
