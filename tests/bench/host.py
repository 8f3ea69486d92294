"""The measured hosts: an ENI with everything an ENI can have, and its DHCP client."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.script import EniScript, Scenario, Step

PRIMARY_MAC: Final = "02:00:00:00:00:01"
PRIMARY: Final = EniScript(
    "eth0",
    PRIMARY_MAC,
    ("10.0.1.10",),
    ("2001:db8:0:1::10",),
    subnet_ipv4="10.0.1.0/24",
    subnet_ipv6=("2001:db8:0:1::/64",),
    device_number=0,
)
# All keys about IPv6, which come last on EC2.
IPV6_KEYS: Final = frozenset(
    {"ipv6s", "ipv6-prefix", "subnet-ipv6-cidr-blocks", "vpc-ipv6-cidr-blocks"}
)


def script(number: int, steps: Sequence[Step] = (), addresses: int = 2) -> EniScript:
    """ENI `number`, called eth<number>: addresses of both families, and a prefix of each."""
    v4, v6 = IPv4Network("10.0.2.0/24"), IPv6Network("2001:db8:0:2::/64")
    return EniScript(
        f"eth{number}",
        f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}" if number > 1 else "02:00:00:00:01:01",
        tuple(str(v4[10 + n]) for n in range(addresses)),
        tuple(str(v6[16 + n]) for n in range(addresses)),
        ipv4_prefixes=("10.0.2.208/28",),
        ipv6_prefixes=("2001:db8:0:2:aa::/80",),
        subnet_ipv4=str(v4),
        subnet_ipv6=(str(v6),),
        device_number=number,
        steps=tuple(steps),
    )


def late_steps(complete: float) -> tuple[Step, ...]:
    """The usual race: unlisted, then without IPv6 and with device number 0, then all of it."""
    return (
        Step(at=0.0, listed=False),
        Step(at=complete / 8, listed=True, hide=IPV6_KEYS, set={"device-number": "0"}),
        Step(at=complete * 3 / 8, set={"device-number": "1"}),
        Step(at=complete, complete=True),
    )


def host(*enis: EniScript) -> Ec2:
    """A host with the primary; these ENIs can be hot-plugged."""
    return Ec2(Scenario(PRIMARY_MAC, (PRIMARY, *enis)))


async def plug(ec2: Ec2, name: str, leases: Sequence[Family] = ()) -> Eni:
    """Hot-plug an ENI. A DHCP client (and an RA, for IPv6) configures its first addresses at once.

    Its timeline in IMDS starts when the link exists, so that a lag of 0 is really 0.
    """
    eni = ec2.eni(name)
    await ec2.vpc.plug(eni)
    ec2.imds.plug(name)
    for family in leases:
        await ec2.vpc.lease(eni, family)
        if family is Family.V6:
            await ec2.vpc.ra(eni)
    return eni


async def wait_for_clock(until: float) -> None:
    """Sleep until a monotonic time."""
    await asyncio.sleep(max(0.0, until - asyncio.get_running_loop().time()))


def without_first(eni: Eni, family: Family) -> Eni:
    """The ENI without the first address of a family, which a DHCP client would configure."""
    if family is Family.V4:
        return replace(eni, ipv4=eni.ipv4[1:])
    return replace(eni, ipv6=eni.ipv6[1:])
