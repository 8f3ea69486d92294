"""Which parts of our picture of the kernel are stale, and must be read again.

Reads: that something happened. Gives: what to read. An event never carries a fact into the core: a
late or repeated one costs a read, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nicwatchd.core.model import (
    MAIN_TABLE,
    AddAddress,
    AddRoute,
    AddRule,
    IPAddress,
    Key,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    RemoveRuleset,
    Route,
    SetGroup,
    SetRuleset,
    SetUp,
)
from nicwatchd.core.port import Outcome


class Staleness:
    """What is stale. At first, everything."""

    def __init__(self) -> None:
        self.everything = True
        self._reading_everything: bool  # since links were taken the last time
        self.own = True  # our routes
        self._rules = True  # all rules
        self.hosts = True  # main's host routes to what the ENIs may have
        self._hosts_read: frozenset[IPAddress] = frozenset()
        self._hosts_of: Mapping[int, frozenset[IPAddress]] = {}  # as they were told, by ifindex
        self.everywhere = True  # the addresses of all links
        self.closed = True  # the families of main that error routes close
        self.defaults = True  # main's default routes
        self.ruleset = True  # our nftables table
        self.filters = False  # reverse-path filters; they are read from time to time, too
        self.firewall = True  # the rules of others in nftables
        self.ways_changed = False  # routes of others, since the last look-ups
        self._links: set[int] = set()
        self._gone: set[int] = set()
        self._addresses: set[int] = set()
        self._tables: set[int] = set()
        self._known: frozenset[Key] = frozenset()  # the interfaces whose addresses were read

    def void(self) -> None:
        """Everything that we know about the kernel is void, also whose rule wins."""
        self.everything = self.ways_changed = True

    def link(self, index: int, *, gone: bool) -> None:
        """A link changed, and perhaps what is on it: a flap drops IPv4 routes without an event."""
        self.layer(index, gone=gone)
        self.own = True

    def layer(self, index: int, *, gone: bool) -> None:
        """A link that has nothing of ours, but may stand on an ENI, changed."""
        self._links.add(index)
        if gone:
            self._gone.add(index)

    def addresses(self, index: int) -> None:
        """The addresses of a link changed, or the main table's routes through it."""
        self._addresses.add(index)

    def rules(self) -> None:
        """Rules changed: ours, or those that may win over ours."""
        self._rules = True

    def touched(self, operations: Iterable[Operation]) -> None:
        """Our operations changed something, or tried to: read that back."""
        for operation in operations:
            match operation:
                case SetGroup(index=index) | SetUp(index=index):
                    self._links.add(index)
                case AddAddress(index=index) | RemoveAddress(index=index):
                    self._addresses.add(index)
                case SetRuleset() | RemoveRuleset():
                    self.ruleset = True
                case AddRoute(route=route) | RemoveRoute(route=route) if route.table == MAIN_TABLE:
                    self.defaults = True  # all that we have in main are defaults
                case AddRule() | RemoveRule():
                    self._rules = True
                    continue
            self.own = True  # routes go with addresses, and come with links

    def refused(self, outcomes: Iterable[Outcome]) -> None:
        """Operations failed: perhaps their link has changed, which not every sysctl reports."""
        for outcome in outcomes:
            match outcome.operation:
                case AddAddress(index=index) | AddRoute(route=Route(oif=index)):
                    self._links.add(index)

    def in_the_way(self, outcomes: Iterable[Outcome]) -> None:
        """Routes were refused because there is one already: find out whose it is."""
        for outcome in outcomes:
            if isinstance(outcome.operation, AddRoute):
                self._tables.add(outcome.operation.route.table)

    # --- taking ------------------------------------------------------------------------------

    def take_gone(self) -> frozenset[int]:
        """The links that went, if only for a moment; they are no longer stale."""
        gone, self._gone = frozenset(self._gone), set()
        return gone

    def take_links(self) -> frozenset[int] | None:
        """The links to read; None: all."""
        links, self._links = frozenset(self._links), set()
        # What becomes void from here on is left for the next read.
        self._reading_everything, self.everything = self.everything, False
        return None if self._reading_everything else links

    def take_addresses(self, interfaces: Iterable[Key]) -> tuple[Key, ...]:
        """The interfaces, out of these, whose addresses are to be read."""
        stale, self._addresses = self._addresses, set()
        known, self._known = self._known, frozenset(interfaces)
        everything = self._reading_everything
        return tuple(key for key in interfaces if everything or key[0] in stale or key not in known)

    def forget(self, interfaces: Iterable[Key]) -> None:
        """Only these interfaces exist: forget that others were read."""
        self._known &= frozenset(interfaces)

    def concerns(self, host: IPAddress | None) -> bool:
        """Whether host routes to this address are of interest."""
        return host in self._hosts_read

    def take_hosts(self, candidates: Mapping[int, frozenset[IPAddress]]) -> frozenset[IPAddress]:
        """The addresses to which to read main's host routes; none while what is known holds.

        That may cost the reading of a large table: so not at each event. `candidates` are those of
        each interface, by ifindex.
        """
        before, self._hosts_of = self._hosts_of, candidates
        changed = (its for index, its in candidates.items() if its is not before.get(index))
        more = not all(its <= self._hosts_read for its in changed)
        stale = self.hosts or self._reading_everything or more
        self.hosts = False
        if stale:
            self._hosts_read = frozenset().union(*candidates.values())
        return self._hosts_read if stale else frozenset()

    def take_closed(self) -> bool:
        """Whether to read what else main has than routes through ENIs."""
        closed, self.closed = self.closed or self._reading_everything, False
        return closed

    def take_defaults(self) -> bool:
        """Whether main's default routes are to be read."""
        defaults, self.defaults = self.defaults or self._reading_everything, False
        return defaults

    def take_ruleset(self) -> bool:
        """Whether to read our nftables table, if there may be one."""
        ruleset, self.ruleset = self.ruleset or self._reading_everything, False
        return ruleset

    def take_filters(self) -> bool:
        """Whether the reverse-path filters of all ENIs are to be read, if that is of interest."""
        filters, self.filters = self.filters, False
        return filters

    def take_firewall(self) -> bool:
        """Whether the ports that others publish are to be read."""
        firewall, self.firewall = self.firewall or self._reading_everything, False
        return firewall

    def take_everywhere(self) -> bool:
        """Whether the addresses of all links are to be read."""
        everywhere, self.everywhere = self.everywhere or self._reading_everything, False
        return everywhere

    def take_own(self) -> bool:
        """Whether to read our routes."""
        own, self.own = self.own or self._reading_everything, False
        return own

    def take_rules(self) -> bool:
        """Whether to read all rules."""
        rules, self._rules = self._rules or self._reading_everything, False
        return rules

    def take_ways_changed(self) -> bool:
        """Whether packets may be led otherwise since the last look-ups, by others' routes."""
        changed, self.ways_changed = self.ways_changed, False
        return changed

    def take_tables(self) -> frozenset[int]:
        """The tables to read, to find what is in the way of our routes."""
        tables, self._tables = frozenset(self._tables), set()
        return tables
