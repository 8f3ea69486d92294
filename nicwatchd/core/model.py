"""The facts and the decisions, as frozen values that the whole program shares.

Facts have two sources. Those of the kernel are `Link`, `Address`, `Route` and `Rule`; they are
true when read. Those of the instance metadata service (IMDS) are in `nicwatchd.core.metadata`.

Decisions are `Plan` (what there should be for one interface) and `Operation` (one step towards it,
from `nicwatchd.core.diff`).

Reads: nothing. Gives: the kernel's objects, operations and plans, as values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network
Item: TypeAlias = IPAddress | IPNetwork  # what an ENI owns: an address, or a delegated prefix
Key: TypeAlias = tuple[int, str]  # of an interface: its ifindex and MAC, never its name


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is as it is: a stable code for programs, a sentence for people, and a remedy.

    Where `remedy` is empty, see `nicwatchd.core.remedies`. `family`: what it is about; None: both.
    """

    code: str
    text: str
    remedy: str = ""
    family: Family | None = None


# --- marks: how we recognise our own objects -------------------------------------------------

PROTOCOL: Final = 236  # 0xEC; of every route, rule and (kernel 5.18 on) address of ours
LINK_GROUP: Final = 3778  # 0xEC2; the default of `Numbers.group`
DEFAULT_GROUP: Final = 0  # the only group that a link can have been in before ours
TABLE_BASE: Final = 1_000_000  # the default of `Numbers.table_base`, and its minimum
TABLE_STEP: Final = 1_000_000  # bases are multiples of it: tables of two bases are never the same
MAIN_TABLE: Final = 254
LOCAL_TABLE: Final = 255

# Constants of linux/rtnetlink.h that decisions depend on.
RTPROT_KERNEL: Final = 2
RTPROT_BOOT: Final = 3
RTPROT_STATIC: Final = 4
RTPROT_RA: Final = 9
RTPROT_DHCP: Final = 16
# The protocols of the main table's routes that say something about the ENI itself: those of the
# kernel, of operators, and of what configures addresses. A routing daemon may have a hundred
# thousand routes, some of which change all day.
HEEDED: Final = (RTPROT_KERNEL, RTPROT_BOOT, RTPROT_STATIC, RTPROT_RA, RTPROT_DHCP)
TO_TABLE: Final = 1  # FR_ACT_TO_TBL
ALL_BITS: Final = 0xFFFFFFFF  # of a mark: the mask of a rule that names none
# The types of routes. Errors end a lookup; a throw route ends that of its table only.
UNICAST, BLACKHOLE, UNREACHABLE, PROHIBIT, THROW = 1, 6, 7, 8, 9
ERRORS: Final = {BLACKHOLE: "blackhole", UNREACHABLE: "unreachable", PROHIBIT: "prohibit"}
# Bits of the longest prefix that stands for all destinations. Nobody has a network of that size:
# it is the default, a half of it (as VPNs write it), or all IPv6 of the internet, 2000::/3.
WIDE: Final = 3
SCOPE_UNIVERSE: Final = 0
SCOPE_LINK: Final = 253
IPV6_DEFAULT_METRIC: Final = 1024  # what the kernel writes for an IPv6 route without a metric
# Of our own default routes. Who reads all tables and knows no rules takes main's by its metric.
LAST_METRIC: Final = 4_000_000_000
# Routes of main that are copied for one ENI and family. With more, by BGP perhaps, main decides.
COPIED_AT_MOST: Final = 256

# Of one priority the first rule that was added comes first, and the kernel gives rules that name
# none the one before the second rule's: this, and then down. So all rules of others that name no
# priority come before ours, whether they are older or younger.
RULE_PRIORITY: Final = 32765
# Tables are 255 modulo 256: a dump of all tables goes by that, so main (254) comes before ours.
TABLE_REST: Final = 255
TABLE_STRIDE: Final = 256
INDEX_MODULUS: Final = 2**23  # a table's number has 32 bits


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers in the kernel. Settings can change them, for hosts where others use the same.

    What was made with former numbers is still ours, by its protocol, and is replaced.
    """

    priority: int = RULE_PRIORITY  # of every rule
    table_base: int = TABLE_BASE  # of the numbers of the interfaces' tables
    group: int = LINK_GROUP  # of every ENI, so that rules can tell ENIs from other links

    def table_of(self, index: int) -> int:
        """The routing table of the interface with this ifindex."""
        return self._first_table + TABLE_STRIDE * (index % INDEX_MODULUS)

    def index_of(self, table: int) -> int | None:
        """The ifindex of the interface that has this table; None where it is no interface's."""
        index, rest = divmod(table - self._first_table, TABLE_STRIDE)
        return index if rest == 0 and 0 < index < INDEX_MODULUS else None

    @property
    def _first_table(self) -> int:
        """The first number from the base on that is no interface's and has the right rest."""
        return self.table_base - self.table_base % TABLE_STRIDE + TABLE_REST


class Family(IntEnum):
    """An IP family; the number is the version, as in `ipaddress`' `.version`."""

    V4 = 4
    V6 = 6

    @property
    def label(self) -> str:
        """The name for people: IPv4 or IPv6."""
        return f"IPv{self.value}"


def contains(outer: IPNetwork, inner: IPNetwork) -> bool:
    """Whether `inner` lies in `outer`; never, across families."""
    if isinstance(outer, IPv4Network) and isinstance(inner, IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(outer, IPv6Network) and isinstance(inner, IPv6Network):
        return inner.subnet_of(outer)
    return False


# --- the kernel's objects --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Link:
    """A network interface of the kernel. It is identified by (index, mac), never by its name."""

    index: int
    mac: str  # lower case, colons; "" where the link has none
    name: str
    up: bool  # IFF_UP, the administrative state
    running: bool = True  # IFF_LOWER_UP
    kind: str | None = None  # IFLA_INFO_KIND: veth, bridge, ...; None for hardware
    driver: str | None = None  # ethtool's driver name: ena, ixgbevf, vif, ...
    group: int = 0
    master: int = 0  # ifindex of the bridge, bond or VRF it is enslaved to; 0 for none
    lower: int = 0  # IFLA_LINK: the ifindex of the link that it was made on; 0: none here
    ra_received: bool = False  # IFLA_INET6_FLAGS: a router advertisement came (0x20)
    ra_managed: bool = False  # ... with the flag "addresses by DHCPv6" (0x40)
    mtu: int = 0  # 0: not known
    max_mtu: int = 0  # the largest that the driver takes; 0: not known
    # Whether the kernel has IPv6 on the link at all: not with a smaller MTU than IPv6 needs, and on
    # no link with `ipv6.disable=1`. IPv4 is always there: no NIC's MTU may be too small for it.
    has_ipv6: bool = True
    disable_ipv6: bool = False  # the sysctl of this name, of the link


@dataclass(frozen=True, slots=True)
class Address:
    """An address on a link. Remaining lifetimes are left out, because they always change."""

    index: int
    ip: IPAddress
    prefixlen: int
    scope: int = SCOPE_UNIVERSE
    dynamic: bool = False  # a finite valid lifetime
    deprecated: bool = False  # a preferred lifetime of 0
    tentative: bool = False  # duplicate address detection is under way, or failed
    from_ra: bool = False  # made by a router advertisement (SLAAC, temporary)
    protocol: int = 0  # IFA_PROTO; 0 on kernels without it

    @property
    def family(self) -> Family:
        """The family of the address."""
        return Family(self.ip.version)


def ours(address: Address) -> bool:
    """Whether an address is ours: we added it, and no DHCP client has taken it over since."""
    return address.protocol == PROTOCOL and not address.dynamic


@dataclass(frozen=True, slots=True)
class Hop:
    """One of several next hops of a route."""

    oif: int
    gateway: IPAddress | None = None
    weight: int = 1
    onlink: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A route. `metric` is as the kernel reads it back (IPv6: 1024).

    Several next hops are in `hops`; then `oif` is the first one's link. An IPv4 route may have an
    IPv6 gateway. `kind` is UNICAST, but where it says otherwise; then `oif` leads nowhere.
    """

    dst: IPNetwork
    table: int
    oif: int
    protocol: int = PROTOCOL
    gateway: IPAddress | None = None
    prefsrc: IPAddress | None = None
    metric: int = 0
    scope: int = SCOPE_UNIVERSE  # IPv6 has no scopes: always SCOPE_UNIVERSE there
    onlink: bool = False
    tos: int = 0  # IPv6 has none in its routes
    metrics: bytes = b""  # RTA_METRICS (mtu, advmss, initcwnd, ...), as the kernel lists them
    hops: tuple[Hop, ...] = ()
    kind: int = UNICAST

    @property
    def family(self) -> Family:
        """The family of the route."""
        return Family(self.dst.version)

    @property
    def key(self) -> tuple[int, IPNetwork, int, int]:
        """Table, destination, metric and tos: the kernel has only one route for each of these."""
        return (self.table, self.dst, self.metric, self.tos)

    @property
    def links(self) -> frozenset[int]:
        """The links that it leads through, by ifindex."""
        return frozenset(hop.oif for hop in self.hops) or frozenset({self.oif})

    @property
    def is_on_link(self) -> bool:
        """Whether it leads to its destination without a router."""
        return self.gateway is None and not self.hops and self.kind == UNICAST

    @property
    def is_wide(self) -> bool:
        """Whether it stands for all destinations, or nearly so."""
        return self.dst.prefixlen <= WIDE


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy routing rule that looks up a table. All its fields together are its identity."""

    family: Family
    priority: int
    table: int
    protocol: int = PROTOCOL
    src: IPNetwork | None = None
    dst: IPNetwork | None = None
    iif: str | None = None
    oif: str | None = None
    fwmark: int | None = None
    fwmask: int | None = None
    suppress_prefixlength: int | None = None
    suppress_ifgroup: int | None = None
    inverted: bool = False  # FIB_RULE_INVERT: `not`; never of ours
    exotic: bool = False  # selects by more than is read here (user, port, TOS, ...); never of ours
    action: int = TO_TABLE  # others are foreign: 2 goto, 6 blackhole, 7 unreachable, ...


Object: TypeAlias = Address | Route | Rule


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Our nftables table as it was read (see `nicwatchd.core.forwarding`).

    `text` is what it was made from; "": there is one, but others changed it; None: there is none.
    `problem`: why it cannot be written, or be read at all.
    """

    text: str | None = None
    problem: Reason | None = None


# --- decisions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What there should be for one interface. `addresses` are those that we add, in order.

    `preferred` is the one IPv6 address among them that the kernel may choose as a source by itself.
    `awaited` are addresses that a DHCP client still has time to configure; until then the interface
    is not `applied`. `away` are addresses that are certainly not for this link: ours are removed
    even while the interface is being judged. `notes` are for people.
    """

    index: int
    group: int | None = None  # the link group to set; None leaves it
    bring_up: bool = False
    mtu: int | None = None  # to set together with that
    addresses: tuple[IPAddress, ...] = ()
    preferred: IPAddress | None = None
    awaited: tuple[IPAddress, ...] = ()
    away: frozenset[IPAddress] = frozenset()
    housed: frozenset[IPAddress] = frozenset()  # ... since another link of the host has them
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    elsewhere: frozenset[IPNetwork] = frozenset()  # items that another ENI owns
    standing: tuple[SetGroup, ...] = ()  # the groups of links that stand on it: a bridge, a VLAN
    remarks: tuple[Reason, ...] = ()  # about these
    main_decides: bool = False  # main has more routes through the link than are copied
    unfinished: tuple[Reason, ...] = ()  # why the interface cannot be `applied` yet
    notes: tuple[Reason, ...] = ()

    @property
    def groups(self) -> tuple[SetGroup, ...]:
        """All link groups to set, its own first."""
        own = () if self.group is None else (SetGroup(self.index, self.group),)
        return (*own, *self.standing)


@dataclass(frozen=True, slots=True)
class SetGroup:
    """Put a link into a link group."""

    index: int
    group: int


@dataclass(frozen=True, slots=True)
class SetUp:
    """Set a link administratively up, with this MTU; None leaves that."""

    index: int
    mtu: int | None = None


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Add a /32 or /128: noprefixroute, IFA_PROTO ours; IPv6 also nodad.

    An IPv6 address has preferred_lft 0 unless it is `preferred`. `replace`: it is there and ours,
    and only that is to change.
    """

    index: int
    ip: IPAddress
    preferred: bool = False
    replace: bool = False


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Remove an address of ours."""

    index: int
    ip: IPAddress
    prefixlen: int


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Add a route; with `replace`, in the place of one of ours that has the same key."""

    route: Route
    replace: bool = False


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """Remove a route of ours."""

    route: Route


@dataclass(frozen=True, slots=True)
class AddRule:
    """Add a rule."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class RemoveRule:
    """Remove a rule of ours."""

    rule: Rule


@dataclass(frozen=True, slots=True)
class SetRuleset:
    """Make our nftables table, or replace it, in one transaction; `text` is for `nft -f`."""

    text: str


@dataclass(frozen=True, slots=True)
class RemoveRuleset:
    """Remove our nftables table."""


OfKernel: TypeAlias = (
    SetGroup | SetUp | AddAddress | RemoveAddress | AddRoute | RemoveRoute | AddRule | RemoveRule
)
OfNftables: TypeAlias = SetRuleset | RemoveRuleset
Operation: TypeAlias = OfKernel | OfNftables
