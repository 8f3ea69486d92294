"""What is known about one link, from the kernel and from IMDS, before we conclude anything.

Reads: the link, its addresses and the main table's routes through it, readings of IMDS, and what
other ENIs own. Gives: its subnets, and its claims to addresses and prefixes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from nicwatchd.core import dhcp
from nicwatchd.core.bounds import never
from nicwatchd.core.floating import Floating, Record
from nicwatchd.core.kept import Kept
from nicwatchd.core.kernel_proof import leased, on_link_prefixes
from nicwatchd.core.memory import KnownFamily, Memory, remember
from nicwatchd.core.metadata import EniMetadata, Value, contradicts
from nicwatchd.core.model import (
    HEEDED,
    SCOPE_UNIVERSE,
    AddAddress,
    Address,
    AddRoute,
    Family,
    IPAddress,
    IPNetwork,
    Item,
    Link,
    Route,
    ours,
)
from nicwatchd.core.moves import Claims, Elsewhere
from nicwatchd.core.policy import Policy

# Kernels before 6.2 refuse to rename a link that is up, and udev renames within milliseconds.
UDEV_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Home:
    """Where an address of the ENI lives on this host, if not on its link: `sign` tells how we know.

    `is_usable`: a link of the host has it, and no rule of others leads elsewhere what it sends.
    """

    sign: str
    is_usable: bool = False


class Facts:
    """The facts of one link. Times are monotonic seconds."""

    def __init__(self, link: Link, now: float, *, came: bool = False) -> None:
        """`came`: the link has appeared since the last read, so no operator has set it down."""
        self.link = link
        self.seen = now
        self.addresses: tuple[Address, ...] = ()
        self.routes: tuple[Route, ...] = ()  # the main table's, through this link
        self.memory = Memory()
        self.elsewhere: Mapping[Item, Elsewhere] = {}  # what others have instead
        self.moved: dict[Item, str] = {}  # what went to another ENI, of that name, unconfirmed here
        self.contested = False  # whether others claim what is here
        self.behind: Mapping[IPAddress, Home] = {}  # what lives elsewhere on the host
        self.floating = Floating()
        self.served = False  # an earlier link of the ENI had its first addresses from us
        self._learned: tuple[EniMetadata, Memory, Policy] | None = None  # ... that changed nothing
        self._subnets: Kept[tuple[IPNetwork, ...]] = Kept()
        self._candidates: Kept[frozenset[IPAddress]] = Kept()
        self._claims: Kept[Claims] = Kept()
        self.flapped = False  # since the last decision
        self.flaps = 0  # how often the link was reported down
        self.ipv4_ended = False  # since then: the last IPv4 address went, with all IPv4 routes
        self.ipv6_ended = False  # since then: the kernel took all of IPv6, if only for a moment
        # We set our group when we set the link up, so a link in our group was up before. A link in
        # another group is managed by somebody else, who may have set it down. But a link that has
        # just appeared is down for that reason, whatever its group.
        self.to_bring_up = not link.up and (came or link.group == 0)
        self.udev_done = False

    def age(self, now: float) -> float:
        """Seconds since the link was first seen."""
        return now - self.seen

    # --- from the kernel ---------------------------------------------------------------------

    def update_link(self, link: Link) -> None:
        """Take the link as it is now. We never set up a link that was up before."""
        self.link = link
        self.to_bring_up = self.to_bring_up and not link.up

    def note_udev(self, *, done: bool) -> None:
        """Record whether udev has finished with the link."""
        self.udev_done = done

    def note_flap(self) -> None:
        """The link was down, if only for a moment, so the kernel itself removed objects."""
        self.flapped = True
        self.flaps += 1

    def note_ipv6_end(self) -> None:
        """IPv6 went from the link, if only for a moment, with all addresses and routes."""
        self.ipv6_ended = True

    def count_begins_anew(self) -> None:
        """The losses so far were counted: what the kernel removed is no longer an excuse."""
        self.flapped = self.ipv4_ended = self.ipv6_ended = False

    def was_taken_by_kernel(self, lost: AddAddress | AddRoute) -> bool:
        """Whether the kernel itself removed it, because of what happened to the link."""
        match lost:
            case AddRoute(route) if route.family is Family.V4:
                return self.flapped or self.ipv4_ended
            case AddAddress(ip=ip) if ip.version == Family.V4.value:
                return self.flapped
            case _:
                return self.flapped or self.ipv6_ended

    def update(self, addresses: tuple[Address, ...], routes: tuple[Route, ...]) -> bool:
        """Take the link's addresses and main-table routes; True if others changed something."""
        if (addresses, routes) == (self.addresses, self.routes):
            return False  # the same values stay: what was concluded from them is kept
        before = (self._foreign(), self._telling())
        self.ipv4_ended |= _has_ipv4(self.addresses) and not _has_ipv4(addresses)
        self.addresses, self.routes = addresses, routes
        return before != (self._foreign(), self._telling())

    def _foreign(self) -> frozenset[Address]:
        return frozenset(address for address in self.addresses if not ours(address))

    def _telling(self) -> frozenset[Route]:
        """The routes that say something of the ENI. A routing daemon's change all day."""
        return frozenset(route for route in self.routes if route.protocol in HEEDED)

    @property
    def waits_for_udev(self) -> bool:
        """Whether the link is to be set up as soon as udev is done with it."""
        return self.to_bring_up and not self.udev_done

    def asks_udev(self, now: float) -> bool:
        """Whether udev is to be asked if it is done: it may yet rename the link."""
        return self.waits_for_udev or not self.udev_is_over(now)

    def first_is_due(self, now: float, policy: Policy, client: str) -> bool:
        """Whether the first addresses wait for no DHCP client (any more)."""
        return self.served or self.age(now) >= dhcp.patience(client, policy)

    def dhcpcd_is_due(self, now: float, client: str) -> bool:
        """Whether dhcpcd serves the link, and may still be about to configure it."""
        return client == dhcp.DHCPCD and not self.served and self.age(now) < dhcp.DHCPCD_PATIENCE

    def udev_is_over(self, now: float) -> bool:
        """Whether udev is done with the link, or has had enough time for it."""
        return self.udev_done or self.age(now) >= UDEV_PATIENCE

    def recall(self, memory: Memory, taken: Record, now: float, *, served: bool) -> None:
        """Continue with what was known when the ENI had another link."""
        self.memory, self.served = memory, served
        self.floating.recall(taken, now)

    # --- from IMDS ---------------------------------------------------------------------------

    def learn(
        self, heard: EniMetadata, now: float, policy: Policy, had: tuple[Item, ...] = ()
    ) -> bool:
        """Take a reading of IMDS; True if it changed what we know.

        `had` is what an earlier run of the daemon programmed.
        """
        before, taken = self.memory, self.floating.taken.keys()
        same = (heard, before, policy)
        counts = before.doubted or before.lapses or self.moved or taken or had
        if same == self._learned and not counts:
            return False  # the same as the last time, which changed nothing either
        self.memory = remember(self.memory, heard, self.link.mac, now, policy, had)
        if self.moved and not contradicts(heard, self.link.mac):
            listed = self.memory.listed
            self.moved = {item: to for item, to in self.moved.items() if item not in listed}
        # What its manager took away and IMDS lacks is not in doubt for long.
        if taken:
            self.memory = self.memory.without(self.memory.lacked(policy.doubts) & taken)
            known = self.memory.listed | self.memory.missing
            families = {Family.V4: self.memory.v4, Family.V6: self.memory.v6}
            unread = frozenset(family for family, of in families.items() if of.unread)
            self.floating.hear(known, unread, now)
        elif self.memory == before:
            self.memory, self._learned = before, same
        return self.memory != before

    # --- from both ---------------------------------------------------------------------------

    @property
    def subnets(self) -> tuple[IPNetwork, ...]:
        """The subnets that are on this link according to the kernel or IMDS."""
        return self._subnets.get((self.memory, self.addresses, self.routes), self._find_subnets)

    def _find_subnets(self) -> tuple[IPNetwork, ...]:
        believed = self.memory.believed
        listed = [
            answer.value
            for answer in (believed.v4.cidrs, believed.v6.cidrs)
            if isinstance(answer, Value)
        ]
        kernel = [on_link_prefixes(family, self.addresses, self.routes) for family in Family]
        return tuple(dict.fromkeys(subnet for part in (*listed, *kernel) for subnet in part))

    @property
    def candidates(self) -> frozenset[IPAddress]:
        """The addresses that are on this link, or are to be, by our doing."""
        return self._candidates.get((self.memory, self.addresses), self._find_candidates)

    def _find_candidates(self) -> frozenset[IPAddress]:
        items = self.memory.listed | self.memory.missing
        listed = (item for item in items if isinstance(item, IPv4Address | IPv6Address))
        mine = (address.ip for address in self.addresses if ours(address))
        return frozenset((*listed, *mine))

    def first_address(self, family: Family) -> IPAddress | None:
        """The first one that IMDS lists."""
        answer = self.memory.believed.of(family).addresses
        return answer.value[0] if isinstance(answer, Value) and answer.value else None

    @property
    def claims(self) -> Claims:
        """The claims of this link to addresses and prefixes."""
        return self._claims.get((self.memory, self.addresses), self._find_claims)

    def _find_claims(self) -> Claims:
        subnet_id = self.memory.believed.subnet_id
        return Claims(
            self.link.index,
            listed=self.memory.listed,
            doubted=self.memory.missing,
            leased=frozenset(leased(self.addresses)),
            added=frozenset(address.ip for address in self.addresses if ours(address)),
            unread=frozenset(family for family, of in self._families() if of.awaited),
            own=own_addresses(self.addresses),
            subnet_id=subnet_id.value if isinstance(subnet_id, Value) else None,
        )

    @property
    def doubts_matter(self) -> bool:
        """Whether IMDS is to be read soon again: something is missing, or others claim it."""
        return self.memory.doubted or (self.contested and self.memory.lapses)

    def leave(self, elsewhere: Mapping[Item, Elsewhere]) -> frozenset[Item]:
        """Take what others have; returns what is new in it and still listed here by IMDS."""
        news = elsewhere.keys() - self.elsewhere.keys()
        self.elsewhere = elsewhere
        if not elsewhere:
            return frozenset()  # nearly always: nothing to change
        # What IMDS does not confirm and others have is not in doubt any more: it has moved there.
        for item in (self.memory.lapsed | self._earlier()) & elsewhere.keys():
            self.moved[item] = elsewhere[item].name
        self.memory = self.memory.without(elsewhere.keys())
        return self.memory.listed & news

    def _earlier(self) -> frozenset[Item]:
        """What we added in an earlier life, and IMDS has not told of since."""
        unread = {family: of.unread for family, of in self._families()}
        told = self.memory.listed | self.memory.missing
        return frozenset(i for i in self.claims.added - told if unread[Family(i.version)])

    def _families(self) -> tuple[tuple[Family, KnownFamily], ...]:
        return (Family.V4, self.memory.v4), (Family.V6, self.memory.v6)


def own_addresses(addresses: Iterable[Address]) -> frozenset[IPAddress]:
    """The addresses that others put on a link, as far as an ENI could have them."""
    return frozenset(
        address.ip
        for address in addresses
        if address.scope == SCOPE_UNIVERSE and not ours(address) and not never(address.ip)
    )


def _has_ipv4(addresses: tuple[Address, ...]) -> bool:
    return any(address.family is Family.V4 for address in addresses)
