"""Our picture of the kernel: which parts are stale, what to read, and what was read.

Reads: events of the kernel, and what the driver read. Gives: steps that read; facts, to the host.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from typing import Final

from nicwatchd.core.concerns import is_of_closed, is_of_defaults, leads_elsewhere
from nicwatchd.core.container_networks import CILIUM_LINK
from nicwatchd.core.fights import Place
from nicwatchd.core.forwarder import may_have_ruleset, watches_ports
from nicwatchd.core.host import Host
from nicwatchd.core.layers import LAYER_KINDS
from nicwatchd.core.model import (
    COPIED_AT_MOST,
    HEEDED,
    MAIN_TABLE,
    PROTOCOL,
    TABLE_BASE,
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    IPAddress,
    Link,
)
from nicwatchd.core.port import (
    AddressEvent,
    Event,
    FilterEvent,
    FirewallEvent,
    Heeded,
    Ipv6Event,
    LinkEvent,
    NexthopEvent,
    Overrun,
    RouteEvent,
    RuleEvent,
)
from nicwatchd.core.protocols import why_off
from nicwatchd.core.staleness import Staleness
from nicwatchd.core.steps import LinksRead, ObjectsRead, ReadLinks, ReadObjects

AT_ONCE: Final = 0.0
# Whoever removes one object of ours often removes many: one turn for all of them.
COALESCE: Final = 0.1
# A routing daemon that has all routes of the internet changes some all the time, and they are not
# copied: only that they become fewer is of interest.
CROWDED: Final = 5.0
ANYWHERE: Final = 1.0  # what may concern any ENI is costly to look at, and seldom does
# s; a little less than from one heartbeat to the next, at which such links are read again.
LOOK_AGAIN: Final = 4.0


class Picture:
    """What we know about the kernel of one host."""

    def __init__(self, host: Host) -> None:
        self.stale = Staleness()
        self.overruns = 0  # how often events were lost
        self.heeded = Heeded()  # what events are to tell of, too
        self._host = host
        self._links: dict[int, Link] = {}  # all links of the host, as last read
        self._again_at = 0.0  # when links that no event may tell of are read again

    # --- events ------------------------------------------------------------------------------

    def take_event(self, event: Event, now: float, *, by_us: bool) -> float | None:
        """Mark what an event is about as stale; returns in how many seconds a turn is due, or None.

        `by_us`: the event names our own request socket.
        """
        match event:
            case Overrun(malformed=malformed):
                self.overruns += 1
                if malformed:
                    self._host.surprise(None, "reading a notification", malformed, "")
                self.stale.void()
                return AT_ONCE
            case FilterEvent(index):
                return _note_filter(self._host, self.stale, index)
            case FirewallEvent():
                self.stale.firewall = self.stale.ruleset = True
                return COALESCE
        noted = self._note(event, now, by_us=by_us)
        if is_of_closed(event, self._host.closed_main, self._host.has_eni, by_us=by_us):
            noted = self._note_closed(noted)
        if not by_us and leads_elsewhere(event, self._host.interfaces, self._host.above.beneath):
            self.stale.ways_changed = True  # or rather, where they lead to
            noted = COALESCE if noted is None else min(noted, COALESCE)
        if is_of_defaults(event, self._host.defaults, by_us=by_us):
            self.stale.defaults = self.stale.ways_changed = True
            if isinstance(event, RouteEvent):
                return AT_ONCE
            return COALESCE if noted is None else noted
        return noted

    def _note(self, event: Event, now: float, *, by_us: bool) -> float | None:
        match event:
            case LinkEvent():
                lost = (event.gone or event.down) and self._is_home_s(event.index)
                # Its IPv4 routes go without an event.
                return self._note_home(COALESCE, self._note_link(event, now), of=lost)
            case Ipv6Event(index):
                return _note_ipv6_end(self._host, self.stale, index, now)
            case AddressEvent():
                return self._note_address(event, by_us=by_us)
            case RouteEvent() | RuleEvent() if by_us:
                return None  # the echo of our own work, which is read back anyway
            case RouteEvent(table=t, protocol=p) if t == MAIN_TABLE and p != PROTOCOL:
                return self._note_main(event)
            case NexthopEvent(oif=oif):
                concerns = self._concerns_home(event.host, (oif,)) or self._is_home_s(oif)
                return self._note_home(COALESCE, self._note_nexthop(oif), of=concerns)
            case RouteEvent(table=t, protocol=p) if p != PROTOCOL and t < TABLE_BASE:
                return COALESCE  # a foreign rule may lead to it
            case RouteEvent(family=family, oif=oif):
                _suspect(self._host, event, Place(AddRoute, oif, family))
                self.stale.own = True
                return COALESCE
            case RuleEvent(family=family, priority=priority):
                _suspect(self._host, event, Place(AddRule, priority, family))
                self.stale.rules()
                return COALESCE
        return None

    def _note_closed(self, noted: float | None) -> float:
        """Read again what closes main, and what else it has. A routing daemon may have much."""
        self.stale.closed = True
        crowded = any(len(main) > COPIED_AT_MOST for main in self._host.closed_main.values())
        delay = CROWDED if crowded else COALESCE
        return delay if noted is None else min(noted, delay)

    def _concerns_home(self, host: IPAddress | None, links: Iterable[int]) -> bool:
        """Whether a host route of main may lead an address of an ENI's to a container."""
        may_lead = host in self._host.host_routes or not self._host.enis.issuperset(links)
        return may_lead and self.stale.concerns(host)

    def _is_home_s(self, index: int) -> bool:
        """Whether it is a link behind which an ENI's address lives; 0: whether there is one."""
        homes = frozenset().union(*self._host.host_routes.values()) - self._host.enis
        return index in homes if index else bool(homes)

    def _note_home(self, delay: float, noted: float | None, *, of: bool) -> float | None:
        """Read again where the ENIs' addresses live, if the event is `of` that."""
        if not of:
            return noted
        self.stale.hosts = True
        return delay if noted is None else min(noted, delay)

    def _note_address(self, event: AddressEvent, *, by_us: bool) -> float | None:
        index = event.index
        if not by_us:
            _suspect_of_address(self._host, event)
        if index in self._host.interfaces:
            self.stale.addresses(index)
            if event.deleted:
                # With the last IPv4 address all IPv4 routes go, without an event for each. And
                # disable_ipv6 takes the addresses without an event of the link.
                self.stale.link(index, gone=False)
            return COALESCE if event.deleted else AT_ONCE
        if event.link_local:
            return None
        if event.index in self._host.above.beneath:
            self.stale.addresses(event.index)
        self.stale.everywhere = True  # it may be in an ENI's subnet
        self.stale.hosts |= event.deleted and self._is_home_s(index)  # its routes may go with it
        _meet(self.stale, self._links, index)  # its kind decides whether it has it for an ENI
        return COALESCE

    def _note_nexthop(self, oif: int) -> float | None:
        if oif:
            return self._note_routes((oif,))
        noted = self._note_routes((*self._host.interfaces, *self._host.above.beneath))
        return None if noted is None else max(noted, ANYWHERE)

    def _note_link(self, event: LinkEvent, now: float) -> float | None:
        known = event.index in self._host.interfaces or event.index in self._links
        told = event.name is not None
        of_interest = told and (
            event.kind is None
            or event.kind in self._host.policy.drivers
            or event.name == CILIUM_LINK
        )
        is_layer = event.kind in LAYER_KINDS and event.kind not in self._host.policy.drivers
        if event.index in self._host.above.layers or (told and is_layer):
            self.stale.layer(event.index, gone=event.gone)
            self.stale.addresses(event.index)
            return COALESCE  # a bridge has an event for each container that joins it
        if not known and not of_interest:
            return None
        if event.down:
            self._host.flapped(event.index)
            if event.index in self._host.interfaces:
                self._host.interfaces[event.index].facts.floating.flapped(now)
        self.stale.link(event.index, gone=event.gone)
        if event.index in self._host.interfaces:
            self.stale.addresses(event.index)
        self._host.hint(event.index, now)  # also if it is not in our picture: the MTU
        return AT_ONCE

    def _note_main(self, event: RouteEvent) -> float | None:
        links = event.hops or (event.oif,)
        concerns = self._concerns_home(event.host, links)
        _meet(self.stale, self._links, *(links if concerns else ()))  # notes have their names
        delay = COALESCE if event.deleted else AT_ONCE
        return self._note_home(delay, self._note_routes(links, event.protocol), of=concerns)

    def _note_routes(self, links: Iterable[int], protocol: int | None = None) -> float | None:
        """A route of the main table through these links changed. A routing daemon has many."""
        links = tuple(links)
        tracked = [i for i in (self._host.interfaces.get(index) for index in links) if i]
        on_top = [index for index in links if index in self._host.above.beneath]
        for index in (*on_top, *(interface.link.index for interface in tracked)):
            self.stale.addresses(index)
        if not tracked:
            return COALESCE if on_top else None
        if protocol in HEEDED:
            return AT_ONCE
        crowded = all(len(i.facts.routes) > COPIED_AT_MOST for i in tracked)
        return CROWDED if crowded else COALESCE

    def heed(self, destinations: frozenset[IPAddress]) -> None:
        """Packets to these are looked up: how routes lead there is of interest."""
        if destinations != self.heeded.destinations:
            self.heeded = replace(self.heeded, destinations=destinations)

    # --- reading -----------------------------------------------------------------------------

    def links_wanted(self, now: float) -> ReadLinks:
        """Which links to read."""
        gone = self.stale.take_gone()
        if gone:
            # A link that went to another network namespace and is back already looks as if it had
            # only been set down: same index, same MAC. But it has lost everything, so it is new.
            self._links = {i: link for i, link in self._links.items() if i not in gone}
            self._host.update_links(dict(self._links), now)
            self.stale.forget(self._host.read_in_full)
        stale = self.stale.take_links()
        if stale is not None and self._again_at <= now:
            self._again_at = now + LOOK_AGAIN
            self.stale.ruleset = True
            stale |= _untold(self._host)
        return ReadLinks(stale, self._host.keys)

    def take_links(self, wanted: ReadLinks, read: LinksRead, now: float) -> None:
        """Take the links that were wanted and read; a wanted link that was not found is gone."""
        if wanted.indices == frozenset():
            return  # nearly always
        read_now = self._links.keys() if wanted.indices is None else wanted.indices
        left = {i: link for i, link in self._links.items() if i not in read_now}
        self._links = {**left, **read.links}
        self._host.update_links(dict(self._links), now)

    def objects_wanted(self, now: float) -> ReadObjects:
        """Which addresses, routes and rules to read."""
        interfaces = self._host.interfaces.values()
        seen = {each.key: each.facts.seen for each in interfaces}
        marked, cni = self._host.outside.wanted(seen, now)
        is_marking, is_watching = may_have_ruleset(self._host), watches_ports(self._host)
        self.heeded = replace(self.heeded, firewall=is_marking or is_watching)
        return ReadObjects(
            links=self.stale.take_addresses(self._host.read_in_full),
            everywhere=self.stale.take_everywhere(),
            own=self.stale.take_own(),
            rules=self.stale.take_rules(),
            tables=self.stale.take_tables(),
            udev=frozenset(i.link.index for i in interfaces if i.facts.asks_udev(now)),
            known=self._host.keys,
            hosts=self.stale.take_hosts(self._host.candidates),
            closed=self._host.enis if self.stale.take_closed() else None,
            defaults=self.stale.take_defaults(),
            ruleset=self.stale.take_ruleset() and is_marking,
            marked=marked,
            cni=cni,
            # What has no event, such as the older iptables, is read now and then.
            published=is_watching and (self.stale.take_firewall() or cni),
            filtered=_filtered(self._host, self.stale, marked) if is_marking else frozenset(),
        )

    def take_objects(self, read: ObjectsRead, now: float) -> None:
        """Take the addresses, routes and rules that were read."""
        for index in read.udev_done & self._host.interfaces.keys():
            self._host.interfaces[index].facts.note_udev(done=True)
        self._host.outside.take(read.managers, read.clients, read.multus, self._host.keys)
        self._host.outside.take_filters(read.strict, self._host.interfaces.keys())
        for index, addresses in read.addresses.items():
            # A route of ours in main is a conclusion, and no fact.
            others = tuple(r for r in read.routes[index] if r.protocol != PROTOCOL)
            self._host.update_addresses(index, addresses, others, now)
        if read.hosts is not None:
            self._host.host_routes = read.hosts
            _meet(self.stale, self._links, *(index for on in read.hosts.values() for index in on))
        if read.closed is not None:
            self._host.closed_main = read.closed
        if read.defaults is not None:
            self._host.defaults = read.defaults
        if read.ruleset is not None:
            self._host.ruleset = read.ruleset
        if read.published is not None:
            self._host.published = read.published
        if read.everywhere is not None:
            self._host.update_foreign_addresses(read.everywhere)
        self._host.update_own(read.own, read.rules)


def _untold(host: Host) -> frozenset[int]:
    """The links of which something may change without an event.

    The driver of one could not be told, perhaps because it was just being renamed. IPv6 is off on
    another, and may be switched on while the link is down.
    """
    links = (interface.link for interface in host.interfaces.values())
    return frozenset(i.index for i in links if i.driver is None or why_off(Family.V6, i))


def _note_filter(host: Host, stale: Staleness, index: int) -> float | None:
    """A reverse-path filter was set: read them again where that is of interest."""
    is_ours = index == 0 or index in host.interfaces
    concerns = is_ours and may_have_ruleset(host)
    stale.filters |= concerns
    return COALESCE if concerns else None


def _filtered(host: Host, stale: Staleness, marked: frozenset[int]) -> frozenset[int]:
    """The links whose filters to read: all upon news, else those that are looked at anyway."""
    return frozenset(host.interfaces) if stale.take_filters() else marked


def _suspect(host: Host, event: AddressEvent | RouteEvent | RuleEvent, where: Place) -> None:
    """Record who removed something of ours. The kernel itself is no suspect."""
    if event.culprit and event.pid:
        host.suspect(where, event.culprit, event.stop)


def _meet(stale: Staleness, known: Container[int], *indices: int) -> None:
    """Read the links among these that were of no interest when they came."""
    for index in indices:
        if index and index not in known:
            stale.layer(index, gone=False)


def _suspect_of_address(host: Host, event: AddressEvent) -> None:
    """Record who removed an address, of whomever: it may be the manager of a floating one."""
    _suspect(host, event, Place(AddAddress, event.index))
    if not (event.deleted and event.ip):
        return
    if event.index in host.interfaces:
        host.interfaces[event.index].facts.floating.hear_gone(event.ip)
    if event.pid:
        who = f"port id {event.pid}"
        who += f", perhaps {event.process}" if event.process else ""
        host.suspect_address(event.index, event.ip, who, event.process)


def _note_ipv6_end(host: Host, stale: Staleness, index: int, now: float) -> float | None:
    """Nobody chose the addresses that go with the protocol, which may be on again by now."""
    interface = host.interfaces.get(index)
    if interface is None:
        return None
    interface.facts.note_ipv6_end()
    interface.facts.floating.flapped(now)
    stale.link(index, gone=False)
    stale.addresses(index)
    return COALESCE
