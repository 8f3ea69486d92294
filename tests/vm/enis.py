"""ENIs for the machine, and what IMDS tells of them."""

from __future__ import annotations

from dataclasses import replace

from nicwatchd.sim.script import EniScript, Step

IPV6_KEYS = frozenset({"ipv6s", "subnet-ipv6-cidr-blocks", "vpc-ipv6-cidr-blocks"})
# What IMDS says until a test lets it go on: no IPv6, and a wrong number.
RACE = Step(at=0.0, hide=IPV6_KEYS, set={"device-number": "0"})


def script(name: str, number: int) -> EniScript:
    """An ENI of subnet `number`, with one address of each family; IMDS knows all of it at once."""
    return EniScript(
        name,
        f"02:00:00:00:00:{number:02x}",
        ipv4=(f"10.0.{number}.10",),
        ipv6=(f"2001:db8:0:{number:x}::10",),
        subnet_ipv4=f"10.0.{number}.0/24",
        subnet_ipv6=(f"2001:db8:0:{number:x}::/64",),
        device_number=number - 1,
    )


def late(eni: EniScript) -> EniScript:
    """The same, with IPv6 unknown to IMDS until `ImdsServer.step(name, complete=True)`."""
    return replace(eni, steps=(RACE,))


def unlisted(eni: EniScript) -> EniScript:
    """The same, and IMDS does not know its MAC until then."""
    return replace(eni, steps=(Step(at=0.0, listed=False),))
