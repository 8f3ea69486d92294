"""Which packets a rule takes.

Reads: a rule, and a packet. Gives: whether the rule's selectors fit, as far as they are read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nicwatchd.core.model import ALL_BITS, IPAddress, Rule

LOOPBACK: Final = "lo"  # the kernel takes packets of the host as coming in by it


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet. `iif` is the name of the link by which it came in; `lo`: this host sends it.

    `bound`: the name of the link that its socket is bound to.
    """

    src: IPAddress
    dst: IPAddress
    mark: int = 0
    iif: str = LOOPBACK
    bound: str | None = None


def meets(rule: Rule, packet: Packet) -> bool | None:
    """Whether a rule takes the packet; None: only the kernel knows."""
    if rule.family != packet.src.version:
        return False
    mask = ALL_BITS if rule.fwmask is None else rule.fwmask
    matches = (
        (rule.src is None or packet.src in rule.src)
        and (rule.dst is None or packet.dst in rule.dst)
        and rule.iif in (None, packet.iif)
        and rule.oif in (None, packet.bound)
        and (rule.fwmark is None or packet.mark & mask == rule.fwmark)
    )
    if rule.exotic:
        # All selectors must fit, so one that does not is enough; but `not` turns that around.
        return None if matches or rule.inverted else False
    return matches is not rule.inverted
