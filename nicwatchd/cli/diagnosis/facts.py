"""What was read of a host: everything that the checks judge by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, TypeAlias

from nicwatchd.core.firewall import Firewall
from nicwatchd.core.model import (
    Address,
    Family,
    IPAddress,
    IPNetwork,
    Link,
    Reason,
    Route,
    Rule,
    contains,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Asked, RouteAnswer

Version: TypeAlias = tuple[int, int, int]

FINE: Final = ("ok", "unasked")  # states of IMDS in which nothing keeps anybody from it


@dataclass(frozen=True, slots=True)
class Sysctls:
    """The kernel's settings of a link. None: not read."""

    rp_filter: int | None = None  # the one in force: the greater of the link's and `all`
    accept_ra: int | None = None
    forwarding: int | None = None  # of IPv6
    disable_ipv6: int | None = None


@dataclass(frozen=True, slots=True)
class Eni:
    """An ENI of the host, or what may be one.

    `addresses` are on the link, global. `own` are those that it has by IMDS or DHCP, and that are
    to answer; `listed` those that IMDS lists, whether the link has their family or not. `vpc` is
    its VPC's id. `dns`: whom systemd-resolved asks by this link. `exceeded`: packets to link-local
    services that EC2 dropped; None: not known. `unconfigured`: notes on addresses that nobody put
    on the link.
    """

    link: Link
    eni: str | None = None
    device: int | None = None
    is_primary: bool = False
    is_managed: bool = False
    addresses: tuple[Address, ...] = ()
    own: frozenset[IPAddress] = frozenset()
    listed: frozenset[IPAddress] = frozenset()
    subnets: tuple[IPNetwork, ...] = ()
    vpc: str | None = None
    sysctls: Sysctls = Sysctls()
    dns: tuple[IPAddress, ...] = ()
    exceeded: int | None = None
    unconfigured: tuple[Reason, ...] = ()

    @property
    def name(self) -> str:
        """The link's name."""
        return self.link.name

    @property
    def index(self) -> int:
        """The link's number."""
        return self.link.index

    def sources(self, family: Family | None = None) -> tuple[IPAddress, ...]:
        """Its own addresses that are on the link and may be used."""
        on = (a.ip for a in self.addresses if not a.tentative)
        return tuple(ip for ip in on if ip in self.own and family in (None, ip.version))

    def has(self, ip: IPAddress) -> bool:
        """Whether an address is in one of its subnets."""
        return any(contains(subnet, ip_network(ip)) for subnet in self.subnets)


@dataclass(frozen=True, slots=True)
class Imds:
    """How IMDS answered. `seconds`: what one answer took at least, once there was a token.

    `since`: when it was asked first (Unix epoch, s).
    """

    state: str = "ok"
    detail: str = ""
    seconds: float = 0.0
    endpoints: tuple[IPAddress, ...] = ()
    since: float = 0.0

    @property
    def is_fine(self) -> bool:
        """Whether nothing keeps this command from it."""
        return self.state in FINE


@dataclass(frozen=True, slots=True)
class Asker:
    """A process that asks IMDS: its name and origin, how many connections were seen, what stops it.

    `stop`: a command, or words; empty: not known.
    """

    name: str
    connections: int
    stop: str = ""


@dataclass(frozen=True, slots=True)
class Daemon:
    """The daemon of this host. `status` is None where it did not answer.

    `uid`: as whom it runs, or would run. `unit` and `enabled` are systemd's words.
    """

    pid: int | None = None
    uid: int | None = None
    status: Mapping[str, Any] | None = None
    unit: str = ""
    enabled: str = ""

    @property
    def works(self) -> bool:
        """Whether it answers, and manages this host."""
        return self.status is not None and not self.status.get("idle")

    @property
    def imds(self) -> Mapping[str, Any]:
        """What it says of IMDS; nothing if it does not answer."""
        return (self.status or {}).get("imds") or {}

    @property
    def imds_is_fine(self) -> bool:
        """Whether nothing keeps the daemon from IMDS, as far as it says."""
        return self.imds.get("state", "ok") in FINE

    def interface(self, mac: str) -> Mapping[str, Any]:
        """What it says of the interface with this MAC; nothing if it does not know it."""
        every = (self.status or {}).get("interfaces", ())
        return next((each for each in every if each["mac"] == mac), {})


@dataclass(frozen=True, slots=True)
class Tool:
    """Another program that configures ENIs, and by what that shows."""

    name: str
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Networkd:
    """systemd-networkd, where it runs: what its settings say about the objects of others."""

    manages_rules: bool = False
    manages_routes: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """A host at one moment. None stands for what could not be looked at; `unseen` says why."""

    policy: Policy = field(default_factory=Policy)
    config: Path = Path("/etc/nicwatchd/nicwatchd.toml")
    settings_error: str = ""
    not_ec2: str = ""  # why a daemon would idle
    enis: tuple[Eni, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    defaults: tuple[Route, ...] = ()  # main's, ours too
    errors: tuple[Route, ...] = ()  # main's error routes for all destinations
    host_routes: Mapping[IPAddress, frozenset[int]] = field(default_factory=dict)
    answers: Mapping[Asked, RouteAnswer | int] = field(default_factory=dict)
    firewall: Firewall | None = None
    imds: Imds = Imds()
    askers: tuple[Asker, ...] = ()  # where IMDS is asked too much: who does
    daemon: Daemon = Daemon()
    tools: tuple[Tool, ...] = ()
    networkd: Networkd | None = None
    kernel: Version | None = None
    instance: str = ""  # the instance's id
    unseen: tuple[str, ...] = ()

    @property
    def primary(self) -> Eni | None:
        """The primary ENI."""
        return next((eni for eni in self.enis if eni.is_primary), None)

    @property
    def others(self) -> tuple[Eni, ...]:
        """The secondary ENIs."""
        return tuple(eni for eni in self.enis if not eni.is_primary)

    @property
    def served(self) -> Iterator[Eni]:
        """The ENIs whose addresses are to answer: the primary, and the managed ones."""
        return (eni for eni in self.enis if eni.is_primary or eni.is_managed)

    def by_index(self, index: int) -> Eni | None:
        """The ENI with this link."""
        return next((eni for eni in self.enis if eni.index == index), None)

    def oif(self, asked: Asked) -> int | None:
        """The link by which the kernel sends it; None where it does not, or was not asked."""
        answer = self.answers.get(asked)
        return answer.oif if isinstance(answer, RouteAnswer) else None

    def name_of(self, index: int) -> str | None:
        """A link's name."""
        return self.names.get(index)
