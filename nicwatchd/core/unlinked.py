"""ENIs of which the kernel has no link: what is known of those that had one, and what IMDS lists.

A link goes and comes back with the same MAC when a driver is reloaded, when a PCI device was lent
to vfio-pci, when a container had it. EC2 knows nothing of that: the ENI is the same, and so is what
it has. Its memory is kept while IMDS lists the MAC, for an hour at most, and is given to the link
when it comes back; until IMDS confirms it there, what IMDS lists on another ENI counts for more.

Reads: interfaces that end, what IMDS lists of other ENIs, and its list of MACs. Gives: the memory
of a link that is back; the MACs that IMDS lists and the kernel lacks; when to ask for that list.
Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final

from nicwatchd.core.facts import Facts
from nicwatchd.core.floating import Record
from nicwatchd.core.known import Doubt
from nicwatchd.core.memory import Memory
from nicwatchd.core.metadata import Answer, Value
from nicwatchd.core.model import Family, IPAddress, Item, Link
from nicwatchd.core.policy import Policy

AGE: Final = 3600.0  # s for which an ENI without a link is remembered
MOST: Final = 64  # ENIs that are remembered: as many as a host can have
# Nothing that is programmed depends on the list of MACs while no ENI is remembered.
SELDOM: Final = 300.0  # s


@dataclass(frozen=True, slots=True)
class Former:
    """An ENI whose link went at `gone`.

    `name` is that of the link. `served`: nicwatchd, and no DHCP client, had configured its first
    addresses. `taken` is what managers of floating addresses had taken away.
    """

    name: str
    gone: float
    memory: Memory
    served: bool = False
    taken: Record = field(default_factory=Record)
    doubt: Doubt | None = None  # readings in which IMDS did not list the MAC


class Unlinked:
    """The ENIs of one host that have no link."""

    def __init__(self) -> None:
        self.formers: Mapping[str, Former] = {}  # by MAC, the longest gone first
        self.listed: Mapping[
            str, float
        ] = {}  # what IMDS lists and the kernel lacks, and since when
        self._next_at: float | None = None  # None: it was never thought of
        self._in_flight = False

    # --- what is remembered ------------------------------------------------------------------

    def keep(self, facts: Facts, planned: Iterable[IPAddress], now: float) -> None:
        """A link went. What other ENIs have of its items is theirs.

        `planned` are the addresses that we had put on the link, or were about to.
        """
        mac = facts.link.mac
        if facts.memory.first_listed is None:
            return  # IMDS never told of it
        firsts = {facts.first_address(family) for family in Family} - {None}
        former = Former(
            facts.link.name,
            now,
            facts.memory.unsure().without(facts.elsewhere.keys()),
            served=firsts <= {*planned},
            taken=Record(taken=facts.floating.record.taken),
        )
        others = [(m, each) for m, each in self.formers.items() if m != mac]
        self.formers = dict([*others, (mac, former)][-MOST:])
        self._next_at = now

    def give_back(self, facts: Facts, now: float) -> None:
        """A link has come: give it what is known of its ENI, if that is anything."""
        mac = facts.link.mac
        former = self.formers.get(mac)
        self.formers = {m: each for m, each in self.formers.items() if m != mac}
        self.listed = {m: since for m, since in self.listed.items() if m != mac}
        if former and now - former.gone <= AGE:
            facts.recall(former.memory, former.taken, now, served=former.served)

    def give_up(self, items: AbstractSet[Item], subnet_id: Answer[str]) -> None:
        """IMDS lists these items on an ENI that has a link, in this subnet."""
        for mac, former in self.formers.items():
            own = former.memory.believed.subnet_id
            apart = isinstance(own, Value) and isinstance(subnet_id, Value) and own != subnet_id
            memory = former.memory if apart else former.memory.without(items)
            if memory is not former.memory:
                self.formers = {**self.formers, mac: replace(former, memory=memory)}

    # --- what IMDS lists ---------------------------------------------------------------------

    @property
    def next_at(self) -> float:
        """When IMDS is to be asked for its list of MACs."""
        return inf if self._next_at is None or self._in_flight else self._next_at

    def asks(self, now: float, policy: Policy) -> bool:
        """Whether to ask IMDS for its list of MACs now; said once."""
        if self._next_at is None:
            self._next_at = now + policy.schedule.refresh
        due = self.next_at <= now
        self._in_flight = self._in_flight or due
        return due

    def learn(
        self,
        answer: Answer[frozenset[str]],
        links: Mapping[int, Link],
        now: float,
        policy: Policy,
    ) -> None:
        """Take IMDS's list of MACs; `links` are all that the kernel has."""
        self._in_flight = False
        self.formers = {m: each for m, each in self.formers.items() if now - each.gone <= AGE}
        if isinstance(answer, Value):
            lacking = answer.value - {link.mac for link in links.values()}
            self.listed = {mac: self.listed.get(mac, now) for mac in sorted(lacking)}
            if answer.whole:
                self._doubt(answer.value, now, policy)
        pause = policy.schedule.refresh if self.formers else SELDOM
        if any(former.doubt for former in self.formers.values()):
            pause = min(pause, policy.doubt_span / max(1, policy.doubts - 1))
        self._next_at = now + pause

    def _doubt(self, listed: AbstractSet[str], now: float, policy: Policy) -> None:
        """Doubt what IMDS does not list; what it lacked often enough is detached."""
        found = {}
        for mac, former in self.formers.items():
            doubt = None
            if mac not in listed:
                doubt = (former.doubt or Doubt(0, now)).once_more()
            if doubt is None or not doubt.is_enough(now, policy):
                found[mac] = replace(former, doubt=doubt)
        self.formers = found
