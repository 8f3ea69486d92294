"""The settings that decisions depend on, as one frozen value.

Reads: nothing; `nicwatchd.service.settings` makes it. Gives: one value for all decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.model import Family, IPNetwork, Numbers

# Seven bits, since a host may have 64 ENIs. Tailscale has 0xff0000, kube-proxy 0x4000 and 0x8000,
# the VPC CNI and Cilium's services 0x80, CNI's portmap and Podman 0x2000, Cilium 0xf00, WireGuard
# 51820 (0xca6c), Docker's swarm and firewalld's small numbers. Cilium and Calico claim all of
# 0xffff0000; nothing of seven bits is left beside all of these and the small numbers of operators.
DEFAULT_MASK: Final = 0x7F00_0000
BOTH: Final = frozenset(Family)


class AddressMode(StrEnum):
    """Which of the addresses that IMDS lists nicwatchd adds to the link."""

    AUTO = "auto"  # all; the first only once no DHCP client is waited for
    ALL = "all"
    NONE = "none"


class RuleMode(StrEnum):
    """How traffic from an ENI is selected."""

    AUTO = "auto"  # by address while there are few, else by subnet
    SUBNET = "subnet"  # one rule for a subnet, for locally generated traffic
    ADDRESS = "address"  # one rule for an address, for forwarded traffic also


class Ipv6Router(StrEnum):
    """Which IPv6 router a table's default route uses."""

    EC2 = "ec2"  # fe80:ec2::1, which answers in every subnet
    RA = "ra"  # the one that the kernel learned on the link


class Coexist(StrEnum):
    """What to do with ENIs that a container network (CNI) owns."""

    BESIDE = "beside"  # leave them alone
    FORCE = "force"  # manage them all the same


class MtuMode(StrEnum):
    """What to do about the MTU of a link that we set up ourselves."""

    EC2 = "ec2"  # jumbo frames on the link, and no more than 1500 beyond the subnet
    LEAVE = "leave"


class PrimaryMode(StrEnum):
    """What to do for the primary while there are secondary ENIs."""

    PROTECT = "protect"  # what its addresses send leaves by it, whatever comes into main
    LEAVE = "leave"


PRIMARY_EGRESS: Final = "primary"
LEAVE_EGRESS: Final = "leave"


class Forwarded(StrEnum):
    """What to do for connections that come in by an ENI and lead to a container."""

    OFF = "off"
    CONNMARK = "connmark"  # mark them, so that what comes back leaves by that ENI


@dataclass(frozen=True, slots=True)
class Section:
    """An `[[interface]]` section of the settings: for which interfaces, and what it sets.

    An interface must match all that is not None of `name` (a shell pattern), `mac` (lower case) and
    the ids. What is None of the rest stays as the general settings have it.
    """

    name: str | None = None
    mac: str | None = None
    eni: str | None = None
    subnet: str | None = None
    vpc: str | None = None
    security_group: str | None = None
    manage: bool | None = None  # True: whoever else may own it; False: leave it alone
    addresses: AddressMode | None = None
    leave_addresses: tuple[IPNetwork, ...] | None = None
    rules: RuleMode | None = None
    families: frozenset[Family] | None = None
    expect: frozenset[Family] | None = None

    def __str__(self) -> str:
        """As the settings file has it, on one line: what it matches by."""
        names = ("name", "mac", "eni", "subnet", "vpc", "security_group")
        keys = ((name, getattr(self, name)) for name in names)
        return " ".join(("[[interface]]", *(f'{k} = "{v}"' for k, v in keys if v is not None)))


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants, for the host or for one interface. Times are seconds.

    `sections` make the policy of one interface from the host's (`nicwatchd.core.sections`); only
    that has `manage`, and `section` where one applies.
    """

    drivers: frozenset[str] = frozenset({"ena", "ixgbevf", "vif"})  # EC2's, past and present
    exclude: tuple[str, ...] = ()  # shell patterns for interface names, or MACs
    exclude_subnets: tuple[IPNetwork, ...] = ()  # ENIs in these are left alone
    expect: frozenset[Family] = frozenset()  # families to wait for even without evidence
    families: frozenset[Family] = BOTH  # the others are left alone on ENIs
    addresses: AddressMode = AddressMode.AUTO
    leave_addresses: tuple[IPNetwork, ...] = ()  # what is in these is never put on a link
    rules: RuleMode = RuleMode.AUTO
    primary: PrimaryMode = PrimaryMode.PROTECT
    mtu: MtuMode = MtuMode.LEAVE
    # Who carries the host's own traffic: PRIMARY_EGRESS, LEAVE_EGRESS (whoever main says), or an
    # ENI by its name, MAC or id.
    egress: str = PRIMARY_EGRESS
    ipv6_router: Ipv6Router = Ipv6Router.EC2
    coexist: Coexist = Coexist.BESIDE
    forwarded: Forwarded = Forwarded.OFF
    forwarded_mask: int = DEFAULT_MASK  # the bits of marks that are ours; side by side
    # For a release that asks no IMDS: all that has a MAC is an ENI, and no move is seen as over.
    every_link: bool = False
    numbers: Numbers = field(default_factory=Numbers)
    sections: tuple[Section, ...] = ()  # the first that matches an interface counts
    manage: bool | None = None
    section: Section | None = None
    kernel_proof: bool = True  # program what DHCP and RA prove before IMDS lists it
    schedule: Schedule = field(default_factory=Schedule)
    settling: float = 30.0  # without evidence for a family until then, it is absent
    address_wait: float = 0.0  # how long a DHCP client has for an interface's first address
    doubts: int = 3  # a known item is given up once so many readings in a row lack it ...
    doubt_span: float = 30.0  # ... over at least this time

    @property
    def patience(self) -> float:
        """When waiting becomes overdue, and a family without addresses counts as absent."""
        return self.schedule.patience
