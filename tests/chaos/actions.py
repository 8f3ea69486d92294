"""What can happen to a host, as values. An action names ENIs by their MAC, never by an ifindex.

Each kind is one method's, or one `match` case's, worth of doing for a world.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal, TypeAlias

from nicwatchd.core.model import (
    IPV6_DEFAULT_METRIC,
    MAIN_TABLE,
    RTPROT_STATIC,
    SCOPE_LINK,
    Address,
    Family,
    IPAddress,
    IPNetwork,
    Route,
    Rule,
)
from nicwatchd.sim.script import Do

Item: TypeAlias = IPAddress | IPNetwork  # an address of an ENI, or a delegated prefix
IPInterface: TypeAlias = IPv4Interface | IPv6Interface


# --- what others own: never to be changed by nicwatchd -----------------------------------------


@dataclass(frozen=True, slots=True)
class ForeignRule:
    """A rule of a VPN's, a container network's, an operator's."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class ForeignRoute:
    """An operator's static route of the main table through an ENI."""

    mac: str
    dst: IPNetwork

    def on(self, index: int) -> Route:
        """As the kernel reads it back, on a link with this index."""
        if self.dst.version == 4:
            return Route(self.dst, MAIN_TABLE, index, RTPROT_STATIC, scope=SCOPE_LINK)
        return Route(self.dst, MAIN_TABLE, index, RTPROT_STATIC, metric=IPV6_DEFAULT_METRIC)


@dataclass(frozen=True, slots=True)
class ForeignAddress:
    """A permanent address that an operator put on an ENI's link."""

    mac: str
    address: IPInterface

    def on(self, index: int) -> Address:
        """As the kernel reads it back, on a link with this index."""
        return Address(index, self.address.ip, self.address.network.prefixlen)


Foreign: TypeAlias = ForeignRule | ForeignRoute | ForeignAddress


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

    `frozen`: it goes on telling what is true when the delay begins.
    """

    unlisted: bool = False
    hidden: frozenset[str] = frozenset()
    lagging: frozenset[str] = frozenset()
    frozen: bool = False


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


Action: TypeAlias = (
    Attach | Detach | ImdsLags | ImdsCatchesUp | FaultBegins | FaultsEnd
    | Assign | Unassign | Move | AddCidr | RemoveCidr
    | Flap | SetDown | SetUpAgain | SwitchIpv6 | Rename
    | LeaseComes | LeaseRenews | LeaseExpires
    | PutForeign | TakeForeign | OthersRemove | OthersUngroup
    | Kill | Stop | Start | Overrun | Pass | Quiet
)  # fmt: skip
