"""What the rest of the program may ask of a kernel, and what a kernel may answer.

`Kernel` and `EventSource` are the contract. `nicwatchd.netlink` implements it over rtnetlink,
`nicwatchd.sim.memory_kernel` in memory, and one set of tests checks both. Expected errors (a link
that is gone, a rule that exists already) are data: an `Outcome`. `KernelError` means that the
kernel did not answer, so everything has to be read again.

Reads: a kernel's answers. Gives: what they mean (`judge`), and the contract of a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from errno import (
    EACCES,
    EADDRNOTAVAIL,
    EAFNOSUPPORT,
    EAGAIN,
    EBUSY,
    EEXIST,
    EHOSTUNREACH,
    EINTR,
    EINVAL,
    ENETDOWN,
    ENETUNREACH,
    ENOBUFS,
    ENODEV,
    ENOENT,
    ENOMEM,
    ENOSPC,
    EOPNOTSUPP,
    EPERM,
    ESRCH,
)
from os import strerror
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    IPAddress,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from nicwatchd.core.firewall import Published
    from nicwatchd.core.model import Address, Link, Reason, Route, Rule


class KernelError(Exception):
    """The kernel did not answer, or the answer was not usable. Read everything again."""


# --- operations and what became of them --------------------------------------------------------


class Result(Enum):
    """What an answer of the kernel means to us."""

    DONE = "done"  # it is as the operation wants it, whoever did it
    GONE = "gone"  # the link is gone
    RETRY = "retry"  # not now: the kernel is not in the state that we planned for; read again
    REFUSED = "refused"  # permission denied, or the host forbids it
    BUG = "bug"  # an answer that no correct request can get


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation. `message` is the kernel's own words, where it had any."""

    operation: Operation
    result: Result
    errno: int = 0
    message: str = ""


# For every operation, unless EXCEPTIONS says otherwise.
RESULTS: Final[Mapping[int, Result]] = {
    0: Result.DONE,
    ENODEV: Result.GONE,
    # The link is down, or the router's address is not (yet) on-link.
    ENETDOWN: Result.RETRY,
    ENETUNREACH: Result.RETRY,
    EHOSTUNREACH: Result.RETRY,
    # The kernel is busy or short of memory.
    EAGAIN: Result.RETRY,
    EBUSY: Result.RETRY,
    EINTR: Result.RETRY,
    ENOBUFS: Result.RETRY,
    ENOMEM: Result.RETRY,
    ENOSPC: Result.RETRY,
    EPERM: Result.REFUSED,
    EACCES: Result.REFUSED,  # IPv6 is switched off on the link (disable_ipv6)
    # ... and on the whole host (ipv6.disable=1): rules, and all else.
    EAFNOSUPPORT: Result.REFUSED,
    EOPNOTSUPP: Result.REFUSED,
}
EXCEPTIONS: Final[Mapping[tuple[type[Operation], int], Result]] = {
    # An address exists once on a link, and a rule is all of its fields: "exists" means "done".
    (AddAddress, EEXIST): Result.DONE,
    (AddRule, EEXIST): Result.DONE,
    # The link has just lost IPv6, since its MTU is too small for it now: the next read shows it.
    (AddAddress, EINVAL): Result.RETRY,
    # The existing route with this key may lead elsewhere: the next read shows what it is.
    (AddRoute, EEXIST): Result.RETRY,
    # The preferred source is not on the host (any more): the kernel has no errno of its own for it.
    (AddRoute, EINVAL): Result.RETRY,
    # "Does not exist" means "removed".
    (RemoveAddress, EADDRNOTAVAIL): Result.DONE,
    (RemoveRoute, ESRCH): Result.DONE,
    (RemoveRule, ENOENT): Result.DONE,
}


def judge(operation: Operation, errno: int, message: str = "") -> Outcome:
    """The outcome of an operation that the kernel answered with `errno` (0: success)."""
    result = EXCEPTIONS.get((type(operation), errno)) or RESULTS.get(errno, Result.BUG)
    if errno and not message:
        message = strerror(errno)
    return Outcome(operation, result, errno, message)


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """Where the kernel would send a packet: the table that decided, and the link (0: none)."""

    table: int
    oif: int


# A packet to look up: its source (None: an unbound socket), its destination, and the link to which
# the socket is bound (0: none).
Asked: TypeAlias = tuple[IPAddress | None, IPAddress, int]


class Kernel(Protocol):
    """The kernel of one network namespace. Each method may raise `KernelError`."""

    @property
    def port_id(self) -> int | None:
        """The `pid` of events that we ourselves caused; None while there is no connection."""

    async def links(self) -> dict[int, Link]:
        """Every link, by index."""

    async def link(self, index: int) -> Link | None:
        """One link, None when there is none."""

    async def addresses(self, index: int) -> tuple[Address, ...]:
        """The addresses of one link, both families; none when the link is gone."""

    async def all_addresses(self) -> dict[int, tuple[Address, ...]]:
        """The addresses of all links, both families, link-local ones left out; by ifindex."""

    async def link_routes(self, index: int) -> tuple[Route, ...]:
        """The main table's unicast routes with a next hop through the link, whoever made them.

        Of more than a thousand in a family, the rest may be left out, but for default routes and
        for what the kernel, DHCP and router advertisements made.
        """

    async def host_routes(
        self, addresses: AbstractSet[IPAddress]
    ) -> dict[IPAddress, frozenset[int]]:
        """The main table's host routes (/32, /128) to any of these: the links of their hops."""

    async def closed_main(self, but: AbstractSet[int]) -> dict[Family, tuple[Route, ...]]:
        """The main table of each family in which an error route is wide (`Route.is_wide`).

        All routes, error and throw routes too, but narrow ones through a link in `but` alone. Of
        more than a thousand in a family, the rest may be left out, but for wide ones.
        """

    async def defaults(self) -> tuple[Route, ...]:
        """The main table's unicast default routes of both families, whoever made them."""

    async def own_routes(self) -> tuple[Route, ...]:
        """Every unicast route of our protocol, in all tables."""

    async def table_routes(self, table: int) -> tuple[Route, ...]:
        """Every unicast route in a table, whoever made it."""

    async def rules(self) -> tuple[Rule, ...]:
        """Every rule of the host, by family, in the order in which the kernel evaluates them."""

    async def ruleset(self) -> str | Reason | None:
        """A seal on our nftables table, which any change breaks; None: there is no such table.

        Or the reason why it cannot be read.
        """

    async def published(self) -> tuple[Published, ...]:
        """The ports that containers publish, as far as they can be read."""

    async def nft_problem(self) -> Reason | None:
        """Why our nftables table cannot be written, as far as that can be told beforehand."""

    async def run(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry the operations out in order, all of them; an outcome for each."""

    async def route_get(
        self, src: IPAddress | None, dst: IPAddress, *, oif: int = 0
    ) -> RouteAnswer | int:
        """Which table decides on a packet of this host; an errno when none lets it pass.

        `oif` stands for a socket that is bound to the link. The source must be an address of the
        host, else the answer proves nothing; None stands for a socket that is not bound to one.
        """

    async def route_gets(self, asked: Sequence[Asked]) -> list[RouteAnswer | int]:
        """As `route_get`, for each of these, in order: for hundreds it takes a few milliseconds."""


# --- events ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """A link changed. Without a name it says only that the link must be read again."""

    index: int
    name: str | None = None
    kind: str | None = None
    gone: bool = False
    down: bool = False  # it is not up, though it may be again by now


@dataclass(frozen=True, slots=True)
class Ipv6Event:
    """The kernel takes all of IPv6 from a link; the events of its addresses come next.

    It does so when the link goes down, and when IPv6 is switched off on it, if only for a moment.
    """

    index: int


@dataclass(frozen=True, slots=True)
class AddressEvent:
    """An address of the link was added, removed or changed."""

    index: int
    pid: int = 0  # port id of the requester; 0: the kernel itself, or (mostly for IPv6) unknown
    deleted: bool = False
    culprit: str = ""  # as in RouteEvent; the kernel marks our addresses from 5.18 on
    link_local: bool = False  # no route of ours can be about it
    ip: IPAddress | None = None  # of a deleted address
    process: str = ""  # the name of the process that deleted it, where it could be found
    stop: str = ""  # as in RouteEvent


@dataclass(frozen=True, slots=True)
class RouteEvent:
    """A route came or went: ours, of main, in a table that may be ours, `wide` or `heeded`."""

    family: Family
    table: int
    protocol: int
    oif: int  # 0: none, or several: `hops`
    deleted: bool = False
    pid: int = 0  # port id of the requester; 0: the kernel itself
    culprit: str = ""  # for people; filled in when an object of ours was deleted
    hops: tuple[int, ...] = ()  # the links of several next hops
    host: IPAddress | None = None  # where it leads to, if to one address, by the main table
    wide: bool = False  # of any table: it is for all destinations (`Route.is_wide`)
    error: bool = False  # of main: it is an error route, and wide
    heeded: bool = False  # of any table: it is for one of the `Heeded.destinations`
    stop: str = ""  # what ends what the culprit does: a command, or words; "" if not known


@dataclass(frozen=True, slots=True)
class NexthopEvent:
    """A next-hop object came, went or changed, and routes with it; `oif` 0: by whichever link.

    Or a route did that names but the object's number; `host` and `heeded` as in `RouteEvent`.
    """

    oif: int
    host: IPAddress | None = None
    heeded: bool = False


@dataclass(frozen=True, slots=True)
class RuleEvent:
    """A rule was added or removed."""

    family: Family
    priority: int
    protocol: int
    deleted: bool = False
    pid: int = 0  # as in RouteEvent
    culprit: str = ""  # as in RouteEvent
    stop: str = ""  # as in RouteEvent


@dataclass(frozen=True, slots=True)
class FilterEvent:
    """The reverse-path filter for IPv4 of a link was set; `index` 0: that for all links."""

    index: int


@dataclass(frozen=True, slots=True)
class FirewallEvent:
    """Somebody changed something of nftables; told only where that is `Heeded`, and not each."""


@dataclass(frozen=True, slots=True)
class Overrun:
    """Events were lost. What we know is void: read everything again.

    `malformed`: one of them came, and could not be read; this is why.
    """

    malformed: str = ""


Event: TypeAlias = (
    LinkEvent
    | Ipv6Event
    | AddressEvent
    | RouteEvent
    | NexthopEvent
    | RuleEvent
    | FilterEvent
    | FirewallEvent
    | Overrun
)


@dataclass(frozen=True, slots=True)
class Heeded:
    """What events tell of beside what they always do: it costs something, or is seldom of interest.

    `destinations`: routes of all tables that lead to one of these, other than by the table local.
    `firewall`: changes of nftables.
    """

    destinations: frozenset[IPAddress] = frozenset()
    firewall: bool = False


class EventSource(Protocol):
    """Where events come from."""

    def start(self, notify: Callable[[Event], None]) -> None:
        """Begin; `notify` is called in the running loop, once for each event, and must not block.

        All that happens after it returns is reported, so read the kernel after it, not before.
        """

    def heed(self, heeded: Heeded) -> None:
        """From now on tell of this as well, and of nothing that was heeded before."""

    def drop_echoes(self, port_id: int | None) -> None:
        """From now on do not tell of routes and rules that this port id changes, if possible."""

    def drain(self) -> None:
        """Tell at once what has happened so far; else it may be told a little later."""

    def close(self) -> None:
        """End; there is no event after it."""
