"""What can happen to a host, as values. An action names ENIs by their MAC, never by an ifindex.

Each kind is one method's, or one `match` case's, worth of doing for a world.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_network
from typing import Final, Literal, TypeAlias

from nicwatchd.core.model import (
    IPV6_DEFAULT_METRIC,
    MAIN_TABLE,
    RTPROT_DHCP,
    RTPROT_RA,
    RTPROT_STATIC,
    SCOPE_LINK,
    Address,
    Family,
    Hop,
    IPAddress,
    IPNetwork,
    Route,
    Rule,
)
from nicwatchd.core.policy import Section
from nicwatchd.sim.script import Do

Item: TypeAlias = IPAddress | IPNetwork  # an address of an ENI, or a delegated prefix
IPInterface: TypeAlias = IPv4Interface | IPv6Interface


# --- what others own: never to be changed by nicwatchd -----------------------------------------


@dataclass(frozen=True, slots=True)
class ForeignRule:
    """A rule of a VPN's, a container network's, an operator's.

    Priority 0 stands for none: the kernel chooses one. `selector` is for `ip`, where it can be more
    than the model reads.
    """

    rule: Rule
    selector: str = ""

    @property
    def is_unnamed(self) -> bool:
        """Whether it names no priority."""
        return not self.rule.priority


RouteForm: TypeAlias = Literal["static", "bird", "metrics", "hops"]
BIRD, BIRD_METRIC = 12, 32  # RTPROT_BIRD, and the metric that BIRD gives its routes
MTU_AND_MSS: Final = struct.pack("=HHIHHI", 8, 2, 1400, 8, 8, 1300)  # RTA_METRICS


@dataclass(frozen=True, slots=True)
class ForeignRoute:
    """A route of main through an ENI: an operator's on-link one, or a routing daemon's, by one or
    two gateways, or with an MTU of its own."""

    mac: str
    dst: IPNetwork
    form: RouteForm = "static"

    def on(self, index: int) -> Route:
        """As the kernel reads it back, on a link with this index."""
        v4 = self.dst.version == 4
        plain = Route(self.dst, MAIN_TABLE, index, RTPROT_STATIC, metric=IPV6_DEFAULT_METRIC)
        if self.form == "static":
            return replace(plain, metric=0, scope=SCOPE_LINK) if v4 else plain
        daemons = replace(plain, protocol=BIRD, metric=BIRD_METRIC)
        if self.form == "hops":
            hops = (Hop(index, self.gateways[0], 2, v4), Hop(index, self.gateways[1], 1, v4))
            return replace(daemons, hops=hops)
        metrics = MTU_AND_MSS if self.form == "metrics" else b""
        return replace(daemons, gateway=self.gateways[0], onlink=v4, metrics=metrics)

    @property
    def gateways(self) -> tuple[IPAddress, IPAddress]:
        """Two routers, which nobody is."""
        if self.dst.version == 4:
            return IPv4Address("198.18.255.7"), IPv4Address("198.18.255.8")
        return IPv6Address("fe80::77"), IPv6Address("fe80::78")

    def words(self, name: str) -> str:
        """As `ip route` wants it, on the link with this name."""
        onlink = " onlink" if self.dst.version == 4 else ""
        if self.form == "static":
            return f"{self.dst} dev {name} proto static"
        ways = [f"via {gateway} dev {name}" for gateway in self.gateways]
        start = f"{self.dst} proto {BIRD} metric {BIRD_METRIC}"
        if self.form == "hops":
            weighed = zip(ways, (2, 1), strict=True)
            return start + "".join(f" nexthop {way} weight {w}{onlink}" for way, w in weighed)
        metrics = " mtu 1400 advmss 1300" if self.form == "metrics" else ""
        return f"{start} {ways[0]}{onlink}{metrics}"


@dataclass(frozen=True, slots=True)
class ForeignAddress:
    """A permanent address that an operator put on an ENI's link, or a cluster manager.

    The manager's is one of the ENI's own.
    """

    mac: str
    address: IPInterface

    def on(self, index: int) -> Address:
        """As the kernel reads it back, on a link with this index."""
        return Address(index, self.address.ip, self.address.network.prefixlen)


@dataclass(frozen=True, slots=True)
class ContainerRoute:
    """Main's host route to a container that has an address of an ENI's."""

    ip: IPAddress

    def on(self, index: int) -> Route:
        """As the kernel reads it back, through a link with this index."""
        dst = ip_network(self.ip)
        if dst.version == 4:
            return Route(dst, MAIN_TABLE, index, RTPROT_STATIC, scope=SCOPE_LINK)
        return Route(dst, MAIN_TABLE, index, RTPROT_STATIC, metric=IPV6_DEFAULT_METRIC)


@dataclass(frozen=True, slots=True)
class ForeignDefault:
    """A default route of main beside the primary's.

    DHCP (IPv4) or a router advertisement (IPv6) brought it on another ENI; or it is an operator's
    choice (`chosen`): it has the best metric, or leads through a link that is no ENI (no `mac`).
    """

    mac: str | None
    gateway: IPAddress
    metric: int
    chosen: bool = False

    @property
    def family(self) -> Family:
        return Family(self.gateway.version)

    def on(self, index: int) -> Route:
        """As the kernel reads it back, on a link with this index."""
        v4 = self.family is Family.V4
        learned = RTPROT_DHCP if v4 else RTPROT_RA
        return Route(
            ip_network("0.0.0.0/0" if v4 else "::/0"),
            MAIN_TABLE,
            index,
            RTPROT_STATIC if self.chosen else learned,
            self.gateway,
            metric=self.metric,
            onlink=v4,
        )

    def words(self, name: str) -> str:
        """As `ip route` wants it, on the link with this name."""
        v4 = self.family is Family.V4
        dst, onlink = ("0.0.0.0/0", " onlink") if v4 else ("::/0", "")
        by = "static" if self.chosen else "dhcp" if v4 else "ra"
        return f"{dst} via {self.gateway} dev {name} proto {by} metric {self.metric}{onlink}"


@dataclass(frozen=True, slots=True)
class NarrowRoute:
    """A route to a network in a table of others', through a link that is no ENI."""

    dst: IPNetwork
    table: int

    def on(self, index: int) -> Route:
        """As the kernel reads it back, through a link with this index."""
        v4 = self.dst.version == 4
        plain = Route(self.dst, self.table, index, RTPROT_STATIC)
        return (
            replace(plain, scope=SCOPE_LINK) if v4 else replace(plain, metric=IPV6_DEFAULT_METRIC)
        )


Foreign: TypeAlias = (
    ForeignRule | ForeignRoute | ForeignDefault | ForeignAddress | ContainerRoute | NarrowRoute
)


@dataclass(frozen=True, slots=True)
class Lease:
    """An address that a DHCP client brought: the subnet's prefix length in IPv4, /128 in IPv6."""

    mac: str
    address: IPInterface

    @property
    def family(self) -> Family:
        return Family(self.address.version)

    def on(self, index: int) -> Address:
        return Address(index, self.address.ip, self.address.network.prefixlen, dynamic=True)


# --- EC2 ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delay:
    """How IMDS is behind with one ENI. Keys in `hidden` are not listed, in `lagging` answer 404.

    `frozen`: it goes on telling what is true when the delay begins. `damaged`: of these keys' texts
    one line is spoilt, the one that the number picks; `misspelt`: so is the key's own name.
    """

    unlisted: bool = False
    hidden: frozenset[str] = frozenset()
    lagging: frozenset[str] = frozenset()
    frozen: bool = False
    damaged: frozenset[tuple[str, int]] = frozenset()
    misspelt: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Attach:
    """An ENI comes, as a link that is down, and IMDS is behind with it from the start."""

    mac: str
    name: str
    delay: Delay = Delay()


@dataclass(frozen=True, slots=True)
class Detach:
    """The link goes. `listed`: IMDS lists it still, until the next quiet point."""

    mac: str
    listed: bool


@dataclass(frozen=True, slots=True)
class Die:
    """EC2 detaches the ENI by force: the link stays, and what it had is another's, or nobody's.

    `listed`: IMDS goes on with its old answers until the next quiet point. Its first IPv4 address
    is nobody else's.
    """

    mac: str
    taker: str | None
    carrier: bool
    listed: bool


@dataclass(frozen=True, slots=True)
class Reuse:
    """A prefix is an ENI's no more, and one of its addresses becomes another's at once.

    `stale`: IMDS goes on listing the prefix until the next quiet point. On the primary somebody
    puts the address on the link.
    """

    giver: str
    taker: str
    prefix: IPNetwork
    address: IPAddress
    stale: bool

    @property
    def on_link(self) -> ForeignAddress:
        """The address on the taker's link."""
        make = IPv4Interface if self.address.version == 4 else IPv6Interface
        return ForeignAddress(self.taker, make(self.address))


@dataclass(frozen=True, slots=True)
class ImdsLags:
    """IMDS is behind with one ENI (in the place of how it was behind before)."""

    mac: str
    delay: Delay


@dataclass(frozen=True, slots=True)
class ImdsCatchesUp:
    """IMDS tells the truth about all ENIs, and lists no others."""


@dataclass(frozen=True, slots=True)
class FaultBegins:
    """IMDS goes wrong; see `nicwatchd.sim.script.Fault`. Until FaultsEnd."""

    on: str
    do: Do


@dataclass(frozen=True, slots=True)
class FaultsEnd:
    """All faults of IMDS are over."""


@dataclass(frozen=True, slots=True)
class Assign:
    """An address or a prefix becomes an ENI's."""

    mac: str
    item: Item


@dataclass(frozen=True, slots=True)
class Unassign:
    """An address or a prefix is an ENI's no more."""

    mac: str
    item: Item


@dataclass(frozen=True, slots=True)
class Move:
    """An address or a prefix moves to another ENI of the same subnet."""

    giver: str
    taker: str
    item: Item


@dataclass(frozen=True, slots=True)
class AddCidr:
    """A subnet gets one more IPv6 CIDR."""

    subnet: str
    cidr: IPNetwork


@dataclass(frozen=True, slots=True)
class RemoveCidr:
    """... and loses it; no ENI has anything in it."""

    subnet: str
    cidr: IPNetwork


# --- the host ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flap:
    """The link goes down and up at once."""

    mac: str


@dataclass(frozen=True, slots=True)
class SetDown:
    """An operator sets the link down."""

    mac: str


@dataclass(frozen=True, slots=True)
class SetUpAgain:
    """... and up again."""

    mac: str


@dataclass(frozen=True, slots=True)
class SwitchIpv6:
    """The sysctl disable_ipv6 of the link changes."""

    mac: str
    on: bool


@dataclass(frozen=True, slots=True)
class Rename:
    """The link gets another name."""

    mac: str
    name: str


@dataclass(frozen=True, slots=True)
class LeaseComes:
    """A DHCP client brings an address."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class LeaseRenews:
    """... brings it once more."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class LeaseExpires:
    """... and the address goes."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class PutForeign:
    """Somebody else puts something into the kernel."""

    thing: Foreign


@dataclass(frozen=True, slots=True)
class TakeForeign:
    """... and takes it away."""

    thing: Foreign


Kind: TypeAlias = Literal["rule", "route", "address", "all rules"]


@dataclass(frozen=True, slots=True)
class OthersRemove:
    """Somebody removes something of ours.

    `pick` chooses among what is there: the world takes it modulo their number. None: no effect.
    """

    what: Kind
    pick: int


@dataclass(frozen=True, slots=True)
class OthersUngroup:
    """Somebody sets the link's group back to 0."""

    mac: str


# --- the daemon, and time ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL."""


@dataclass(frozen=True, slots=True)
class Stop:
    """SIGTERM."""


@dataclass(frozen=True, slots=True)
class Start:
    """The daemon starts."""


@dataclass(frozen=True, slots=True)
class Overrun:
    """The daemon's event socket overflows: what was on its way is lost, and it is told so."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Time passes: a share of the longest that a world lets pass between two actions."""

    share: float


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing is wrong any more. Time passes until nothing is due; then all must be right."""


@dataclass(frozen=True, slots=True)
class Reload:
    """The settings have other sections for these ENIs, by MAC; None: none."""

    changes: tuple[tuple[str, Section | None], ...]


Action: TypeAlias = (
    Attach | Detach | Die | Reuse | ImdsLags | ImdsCatchesUp | FaultBegins | FaultsEnd
    | Assign | Unassign | Move | AddCidr | RemoveCidr
    | Flap | SetDown | SetUpAgain | SwitchIpv6 | Rename
    | LeaseComes | LeaseRenews | LeaseExpires
    | PutForeign | TakeForeign | OthersRemove | OthersUngroup
    | Kill | Stop | Start | Overrun | Pass | Quiet | Reload
)  # fmt: skip
