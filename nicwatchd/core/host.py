"""What is known about the whole host: its interfaces, and the facts that they share.

Reads: what was read from the kernel and from IMDS, settings, releases, and hints from events.
Gives: the interfaces, the polls of IMDS that are due, and the news. It concludes nothing; that is
done in `nicwatchd.core.decide`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nicwatchd.core.fights import Place
from nicwatchd.core.floating import NO_RECORD, Record
from nicwatchd.core.interface import ASKING, Interface, progress
from nicwatchd.core.losses import Losses
from nicwatchd.core.metadata import NOT_ASKED, Answer, EniMetadata, Value, is_error
from nicwatchd.core.model import (
    Address,
    AddRule,
    Family,
    IPAddress,
    Item,
    Key,
    Link,
    Route,
    Rule,
    Ruleset,
)
from nicwatchd.core.moves import programmed
from nicwatchd.core.news import FightChanged, News, StateChanged, Surprised
from nicwatchd.core.outside import Outside
from nicwatchd.core.ownership import Owners, Snapshot
from nicwatchd.core.policy import Policy
from nicwatchd.core.protocols import why_off
from nicwatchd.core.releases import Releases
from nicwatchd.core.stack import Above
from nicwatchd.core.treatment import is_candidate, is_eni, is_hardware, is_primary
from nicwatchd.core.unlinked import Unlinked

if TYPE_CHECKING:
    from nicwatchd.core.firewall import Published

# Reports per interface: a bug whose error text always changes must not fill the journal.
SURPRISES_TOLD: Final = 8


class Host:
    """All interfaces of one host. Times are seconds of one monotonic clock.

    `random` returns floats in [0, 1) for the jitter. `strict`, for tests, lets exceptions of ours
    propagate. Otherwise they are caught, counted in `surprises`, and reported once.
    """

    def __init__(
        self, policy: Policy, random: Callable[[], float], *, strict: bool = False
    ) -> None:
        self.policy = policy
        self.strict = strict
        self.interfaces: dict[int, Interface] = {}
        self.primary_mac: Answer[str] = NOT_ASKED
        self.keys: frozenset[Key] = frozenset()  # of the interfaces, to tell them from former ones
        self.links: Mapping[int, Link] | None = None  # None before the first read
        self.routes: tuple[Route, ...] = ()  # only ours
        self.rules: tuple[Rule, ...] = ()  # all
        self.host_routes: Mapping[IPAddress, frozenset[int]] = {}  # main's, to what ENIs may have
        self.closed_main: Mapping[Family, tuple[Route, ...]] = {}  # see `Kernel.closed_main`
        self.defaults: tuple[Route, ...] = ()  # of main, whoever made them
        self.ruleset: Ruleset | None = None  # None: not read
        self.published: tuple[Published, ...] = ()  # ports, by containers
        self.foreign_addresses: Mapping[int, tuple[Address, ...]] = {}  # of links we do not track
        self.above = Above()  # what stands on ENIs
        self.outside = Outside()  # whose they are by others' word
        self.owners = Owners(Snapshot(), policy.numbers)
        self.releases = Releases()  # what the operator released
        self.losses = Losses()
        self.unlinked = Unlinked()  # ENIs without a link
        self.surprises = 0
        self._recalled: dict[Key, Record] = {}
        self._random = random
        self._told: set[tuple[Key | None, str, str]] = set()
        self._news: list[News] = []

    @property
    def enis(self) -> frozenset[int]:
        """The links that are ENIs of this host, by ifindex; not other NICs, or ENIs of others."""
        return frozenset(filter(self.has_eni, self.interfaces))

    def has_eni(self, index: int) -> bool:
        """Whether a link is one of them."""
        return index in self.interfaces and is_eni(self.interfaces[index].treatment)

    @property
    def candidates(self) -> dict[int, frozenset[IPAddress]]:
        """The addresses that are on an interface's link, or are to be, by our doing; by ifindex."""
        return {index: interface.facts.candidates for index, interface in self.interfaces.items()}

    @property
    def waits_for_udev(self) -> bool:
        """Whether a link is to be set up, or its name to be known, once udev is done with it."""
        interfaces = self.interfaces.values()
        return any(i.facts.waits_for_udev or i.own.unnamed for i in interfaces)

    @property
    def link_names(self) -> frozenset[str]:
        """The names of all links of the host that are known."""
        return frozenset(link.name for link in (self.links or {}).values())

    @property
    def read_in_full(self) -> tuple[Key, ...]:
        """The links whose addresses and main-table routes we need: interfaces, what stands on them.

        On a host of 5,000 containers these are few, and an event of any other costs nothing.
        """
        above = self.above
        on_top = (above.layers[i] for i in above.beneath if i not in self.interfaces)
        keys = (interface.key for interface in self.interfaces.values())
        return (*keys, *((link.index, link.mac) for link in on_top))

    def name_of(self, index: int) -> str | None:
        """The name of a link; None for one that is not there."""
        link = (self.links or {}).get(index)
        return link.name if link else None

    def set_policy(self, policy: Policy) -> None:
        """Use other settings from now on."""
        self.policy = policy
        for interface in self.interfaces.values():
            interface.follow(policy)

    # --- facts -------------------------------------------------------------------------------

    def update_links(self, links: Mapping[int, Link], now: float) -> None:
        """Take all links of the host: interfaces begin with new ones, and end with missing ones."""
        links = {i: _with_driver(link, self.interfaces.get(i)) for i, link in links.items()}
        before, self.links = self.links, links
        for index, interface in list(self.interfaces.items()):
            link = links.get(index)
            # With another MAC it is another interface: IMDS identifies interfaces by their MAC. One
            # whose driver is no longer in the settings goes on: what is ours is removed from it.
            if link is None or link.mac != interface.link.mac:
                self._end(interface, now)
        for index, link in links.items():
            if index in self.interfaces:
                self.interfaces[index].facts.update_link(link)
            elif is_candidate(link, self.policy):
                came = before is not None and index not in before
                interface = Interface(link, now, self.policy, came=came)
                self.interfaces[index] = interface
                interface.facts.floating.recall(self._recalled.pop(interface.key, Record()), now)
                self.unlinked.give_back(interface.facts, now)
        self.keys = frozenset(interface.key for interface in self.interfaces.values())
        self.releases = self.releases.among(self.keys)
        enis = {i for i, each in self.interfaces.items() if is_hardware(each.link, self.policy)}
        self.above.update(links, enis)

    def _end(self, interface: Interface, now: float) -> None:
        interface.end(now)
        self.unlinked.keep(interface.facts, interface.plan.addresses, now)
        self._news += [StateChanged(*change) for change in interface.drain()]
        del self.interfaces[interface.link.index]
        self.losses.forget(interface.link.index)
        self._told = {told for told in self._told if told[0] != interface.key}

    def update_addresses(
        self, index: int, addresses: tuple[Address, ...], routes: tuple[Route, ...], now: float
    ) -> None:
        """Take one link's addresses and the main table's routes of others through it.

        If others changed something, poll IMDS at once: it often shows the same change.
        """
        self.above.take(index, addresses, routes)
        interface = self.interfaces.get(index)
        if interface is None:
            return
        facts = interface.facts
        # Where IPv6 is switched off the kernel takes all of its addresses, too.
        is_off = facts.ipv6_ended or why_off(Family.V6, facts.link) is not None
        down = facts.flapped or not facts.link.up or is_off
        if facts.floating.look(addresses, now, down=down) and interface.is_polled:
            interface.polling.watch(now)  # whoever took an address away soon tells EC2
        if facts.update(addresses, routes):
            interface.hint(now)

    def update_foreign_addresses(self, addresses: Mapping[int, tuple[Address, ...]]) -> None:
        """Take the addresses of all links of the host; those of interfaces are known already."""
        self.foreign_addresses = {
            index: on for index, on in addresses.items() if index not in self.interfaces
        }

    def update_own(self, routes: tuple[Route, ...] | None, rules: tuple[Rule, ...] | None) -> None:
        """Take all routes of ours, and all rules of the host, as far as they were read."""
        if routes is not None:
            self.routes = routes
        if rules is not None:
            self.rules = rules

    def recall(self, records: Mapping[Key, Record]) -> None:
        """Continue from what an earlier run of the daemon saw of others' addresses."""
        self._recalled = dict(records)

    @property
    def records(self) -> dict[Key, Record]:
        """What a later run of the daemon needs to know of others' addresses."""
        found = ((i, i.facts.floating.record) for i in self.interfaces.values())
        return {i.key: record for i, record in found if record is not NO_RECORD}

    def hint(self, index: int, now: float) -> None:
        """Poll IMDS about an interface at once, since the kernel reported a change of its link."""
        if index in self.interfaces:
            self.interfaces[index].hint(now)

    def suspect(self, where: Place, who: str, stop: str = "") -> None:
        """Record whom a notification names for the removal of something of ours, what stops it."""
        if where.kind is AddRule or where.number in self.interfaces:
            self.losses.suspect(where, who, stop)

    def suspect_address(self, index: int, ip: IPAddress, who: str, process: str) -> None:
        """Record whom a notification names for the removal of an address, whosever it was."""
        if index in self.interfaces:
            self.interfaces[index].facts.floating.suspect(ip, who, process)

    def flapped(self, index: int) -> None:
        """A link was down, if only for a moment."""
        if index in self.interfaces:
            self.interfaces[index].facts.note_flap()

    def learn_primary(self, answer: Answer[str]) -> None:
        """Take IMDS's answer for the primary's MAC. It never changes: later answers are ignored."""
        if not isinstance(self.primary_mac, Value):
            self.primary_mac = answer

    def learn(self, interface: Interface, heard: EniMetadata, now: float) -> bool:
        """Take a reading of one ENI, and schedule the next; True if it changed what we know."""
        facts = interface.facts
        try:
            had: tuple[Item, ...] = ()
            if facts.memory.unread and not is_error(heard.directory):  # else nothing is told
                beside = frozenset(a.ip for on in self.foreign_addresses.values() for a in on)
                had = programmed(
                    facts.link.index, facts.addresses, self.rules, self.owners.of, beside
                )
            return facts.learn(heard, now, self.policy, had)
        except Exception as error:
            if self.strict:
                raise
            self.caught(interface, ASKING, error)
            return True
        finally:
            self.unlinked.give_up(facts.memory.listed, facts.memory.believed.subnet_id)
            # Released or not: it is the primary all the same.
            primary = is_primary(facts.link, self.primary_mac)
            known = progress(interface, heard, now, self.policy, is_primary=primary)
            interface.polling.heard(now, known, self.policy, self._random)

    # --- news --------------------------------------------------------------------------------

    def surprise(self, interface: Interface | None, where: str, error: str, trace: str) -> None:
        """Count an exception of ours that was caught, and report it once."""
        self.surprises += 1
        key = interface.key if interface else None
        told = (key, where, error)
        if told not in self._told and sum(t[0] == key for t in self._told) < SURPRISES_TOLD:
            self._told.add(told)
            view = interface.view() if interface else None
            self._news.append(Surprised(view, where, error, trace))

    def for_each(self, work: Callable[[Interface], None], where: str) -> None:
        """Do something for every interface. If it raises for one, the others are still served."""
        for interface in self.interfaces.values():
            try:
                work(interface)
            except Exception as error:
                if self.strict:
                    raise
                self.caught(interface, where, error)

    def caught(self, interface: Interface | None, where: str, error: Exception) -> None:
        """Record an exception in the work on one interface, or on all. All else goes on."""
        if interface:
            interface.surprise(where, repr(error))
        self.surprise(interface, where, repr(error), "".join(traceback.format_exception(error)))

    def report(self, news: News) -> None:
        """Have something told with the next news."""
        self._news.append(news)

    def news(self) -> list[News]:
        """What happened since the last call, in order within each interface."""
        news, self._news = self._news, []
        for interface in self.interfaces.values():
            if interface.changes:
                news += [StateChanged(*change) for change in interface.drain()]
        for interface in self.interfaces.values():
            if (began := interface.fights.news()) is not None:
                news.append(FightChanged(interface.view(), began))
        return news


def _with_driver(link: Link, known: Interface | None) -> Link:
    """The link with its driver, which is queried by name and so may be unknown in a rename."""
    if link.driver is None and known and known.link.mac == link.mac:
        return replace(link, driver=known.link.driver)
    return link
