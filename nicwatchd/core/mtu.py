"""EC2's MTUs: 9001 within a VPC, 1500 beyond it.

A DHCP client sets the link's, by option 26. A link that we set up ourselves has the kernel's 1500,
and may get EC2's, where the settings ask for it. Its default route then says 1500: beyond the VPC a
path takes no more, and not every path tells so.

Reads: a link, and what DHCP configured on it. Gives: the MTU to set up with, the metrics of a
default route of ours, and what is told.

Source: "Network MTU for your EC2 instance", in EC2's user guide.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from nicwatchd.core.kernel_proof import leased
from nicwatchd.core.model import Address, Link, Reason
from nicwatchd.core.policy import MtuMode
from nicwatchd.core.protocols import IPV6_MIN_MTU, JUMBO

BEYOND: Final = 1500  # also what the kernel sets up an Ethernet link with
RTAX_MTU: Final = 2
METRICS: Final = struct.pack("=HHI", 8, RTAX_MTU, BEYOND)  # RTA_METRICS


def to_set_up_with(link: Link, mode: MtuMode) -> int | None:
    """The MTU to set when the link is set up; None leaves it: it is not the kernel's any more."""
    fits = link.mtu == BEYOND and link.max_mtu >= JUMBO
    return JUMBO if mode is MtuMode.EC2 and fits else None


def of_default(
    link: Link, addresses: tuple[Address, ...], mode: MtuMode, setting: int | None
) -> bytes:
    """The metrics of our default route; `setting` is the MTU that the link is just getting."""
    long = (setting or link.mtu) > BEYOND
    return METRICS if mode is MtuMode.EC2 and long and not leased(addresses) else b""


def notes(link: Link) -> Iterator[Reason]:
    """What is told of a link whose MTU is not EC2's."""
    if link.mtu >= IPV6_MIN_MTU and link.mtu not in (BEYOND, JUMBO):
        text = f"the link's MTU is {link.mtu}; EC2's are {JUMBO} within a VPC and {BEYOND} beyond"
        yield Reason("odd-mtu", text)
