"""One link and all that is known, concluded and planned of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from nicwatchd.core.backoff import Limiter, jittered
from nicwatchd.core.eni_plan import Subject
from nicwatchd.core.evidence import Status, Verdict, Witness, judge, leased, on_link_prefixes
from nicwatchd.core.fights import Fights
from nicwatchd.core.lifecycle import Event, Lifecycle, State
from nicwatchd.core.memory import Memory, remember
from nicwatchd.core.metadata import NOT_ASKED, Answer, EniMetadata, Value
from nicwatchd.core.model import (
    Address,
    Family,
    IPNetwork,
    Item,
    Key,
    Link,
    Plan,
    Reason,
    Route,
    ours,
)
from nicwatchd.core.moves import Claims
from nicwatchd.core.policy import Policy

# Kernels before 6.2 refuse to rename a link that is up, and udev renames within milliseconds.
UDEV_PATIENCE: Final = 5.0
NEVER: Final = float("inf")
# Times are floats: just at a deadline, an age can come out a hair below its span.
ROUNDING: Final = 1e-6
# From this interval on, each poll reads everything: there is time for it. The slow refresh, and a
# poll for a doubt, do so in any case: of what was not read again, they say nothing.
SWEEP_INTERVAL: Final = 5.0
# Events of a link ask IMDS at once, the first few of them; whoever changes a link all the time (an
# operator's script, a cable that is loose) causes no more than 7 requests in so many seconds.
HINT_BURST, HINT_INTERVAL = 3, 10.0

# The reasons to ignore an interface that IMDS is asked about all the same: it may get an address;
# it shares its subnet with others (and if enslaved, has its addresses on a bridge that is no ENI).
ASKED_ABOUT: Final = frozenset({"no-ip", "enslaved", "released"})


@dataclass(slots=True)
class Polling:
    """When IMDS is asked next about one interface, and how much. Times are monotonic seconds."""

    next_at: float
    interval: float = 0.0
    whole_at: float = 0.0  # from then on a poll reads all keys; before, one, and more upon news
    in_flight: bool = False
    again_at: float = NEVER  # something happened while a question was under way: one more then


class Interface:
    """One interface. The host feeds it facts, and asks it to conclude."""

    def __init__(self, link: Link, now: float, policy: Policy, *, came: bool = False) -> None:
        """`came`: the link was not there at the last look, so it is no operator who set it down."""
        self.link = link
        self.lifecycle = Lifecycle(now, policy.patience)
        self.memory = Memory()
        self.addresses: tuple[Address, ...] = ()
        self.routes: tuple[Route, ...] = ()  # the main table's, through this link
        self.verdicts: dict[Family, Verdict] = {}
        self.confirmed: frozenset[Family] = frozenset()
        self.polling = Polling(next_at=now)
        self.elsewhere: Mapping[Item, str] = {}  # what another ENI, of that name, has instead
        self.failures: tuple[Reason, ...] = ()  # of the operations of the last pass
        self.shadows: tuple[Reason, ...] = ()  # foreign rules that win over ours
        self.fights = Fights()
        self.flapped = False  # since the last decision
        self.plan = Plan(link.index)
        self.is_primary = False
        self.numbers = policy.numbers
        self.groups = frozenset({policy.numbers.group})  # the link groups of ours, former ones too
        # Our group is set together with the link, so a link that has it was set up before. One in
        # another group is in somebody's care: after a restart nothing else tells that it was up.
        # Only a link that came meanwhile has one and is down by that.
        self.to_bring_up = not link.up and (came or link.group == 0)
        self.udev_done = False
        self._hints = Limiter(HINT_BURST, HINT_INTERVAL)
        self._hinted_until = now  # the poll that is due then is for all hints before it

    @property
    def key(self) -> Key:
        """What tells it from all others; never the name."""
        return (self.link.index, self.link.mac)

    def age(self, now: float) -> float:
        """Seconds since the link was seen."""
        return now - self.lifecycle.seen

    # --- facts -------------------------------------------------------------------------------

    def see_link(self, link: Link) -> None:
        """Take the link as it is now. One that was up once is never set up by us again."""
        self.link = link
        self.to_bring_up = self.to_bring_up and not link.up

    def see(self, addresses: tuple[Address, ...], routes: tuple[Route, ...]) -> bool:
        """Take the link's addresses and main-table routes; whether others' work changed."""
        before = (self._foreign(), frozenset(self.routes))
        self.addresses, self.routes = addresses, routes
        return before != (self._foreign(), frozenset(self.routes))

    def _foreign(self) -> frozenset[Address]:
        return frozenset(address for address in self.addresses if not ours(address))

    def hear(
        self,
        heard: EniMetadata,
        now: float,
        policy: Policy,
        random: Callable[[], float],
        had: tuple[Item, ...] = (),
    ) -> bool:
        """Take a reading of IMDS, and arrange the next one; whether it says anything new.

        `had` is what was programmed by an earlier life.
        """
        before = self.memory
        self.memory = remember(self.memory, heard, self.link.mac, now, policy, had)
        age = self.age(now)
        interval = policy.schedule.after(self.polling.interval, age, complete=self._complete)
        if self.is_primary and isinstance(heard.directory, Value):
            interval = policy.schedule.refresh  # it is there from launch; only its subnets count
        whole = min(SWEEP_INTERVAL, policy.schedule.refresh)
        if self.memory.doubted:  # enough readings within the span, and not one more
            pause = policy.doubt_span / max(1, policy.doubts - 1)
            interval, whole = min(interval, pause), min(whole, pause)
        again_at, next_at = self.polling.again_at, now + jittered(interval, random)
        self.polling = Polling(next_at, interval, whole_at=next_at if interval >= whole else NEVER)
        if self._hinted_until > now:  # what is hinted until then waits for that poll
            again_at = min(again_at, self._hinted_until)
        if again_at < NEVER:
            self.poll_at(max(now, again_at))
        return self.memory != before

    @property
    def _complete(self) -> bool:
        verdicts = self.verdicts.values()
        return bool(verdicts) and all(v.status is Status.READY for v in verdicts)

    def poll_at(self, when: float) -> None:
        """Ask IMDS then at the latest, for everything; once more, if a question is under way."""
        if self.polling.in_flight:
            self.polling.again_at = min(when, self.polling.again_at)
        else:
            # What is due before that is no larger for it.
            self.polling.next_at = min(when, self.polling.next_at)
            self.polling.whole_at = min(when, self.polling.whole_at)

    def hint(self, now: float) -> None:
        """Something happened to the link: ask IMDS at once, where the same may show; in measure."""
        if self.is_polled and now > self._hinted_until:
            self._hinted_until = now + self._hints.delay(now)
            self.poll_at(self._hinted_until)

    @property
    def is_polled(self) -> bool:
        """Whether IMDS is asked about this interface: ours, the primary, and where it matters."""
        if self.lifecycle.state is not State.IGNORED:
            return True
        return self.is_primary or any(r.code in ASKED_ABOUT for r in self.lifecycle.reasons)

    @property
    def subnets(self) -> tuple[IPNetwork, ...]:
        """The subnets that are on this link, as the kernel or IMDS say."""
        believed = self.memory.believed
        said = [
            answer.value
            for answer in (believed.v4.cidrs, believed.v6.cidrs)
            if isinstance(answer, Value)
        ]
        kernel = [on_link_prefixes(family, self.addresses, self.routes) for family in Family]
        return tuple(dict.fromkeys(subnet for part in (*said, *kernel) for subnet in part))

    @property
    def claims(self) -> Claims:
        """What ties addresses and prefixes to this interface."""
        families = {Family.V4: self.memory.v4, Family.V6: self.memory.v6}
        known = [part for of in families.values() for part in of.assigned]
        doubted = frozenset(item for part in known for item in part.doubted)
        return Claims(
            self.link.index,
            listed=frozenset(item for part in known for item in part.items) - doubted,
            doubted=doubted,
            leased=frozenset(leased(self.addresses)),
            added=frozenset(address.ip for address in self.addresses if ours(address)),
            unread=frozenset(family for family, of in families.items() if of.unread),
        )

    def leave(self, elsewhere: Mapping[Item, str]) -> frozenset[Item]:
        """Take what other ENIs have; gives what is new of it and IMDS still lists here too."""
        news = elsewhere.keys() - self.elsewhere.keys()
        self.elsewhere = elsewhere
        if not elsewhere:
            return frozenset()  # as nearly always: what is known needs no second look
        # Its own list lacks it and another's has it: no doubt is left.
        self.memory = self.memory.without(elsewhere.keys())
        return self.claims.listed & news

    # --- conclusions -------------------------------------------------------------------------

    def ignore(self, reason: Reason, now: float) -> None:
        """Conclude that the interface is not ours to program."""
        self.verdicts = {}
        self.confirmed = frozenset()
        self.lifecycle.handle(Event.DISQUALIFIED, now, (reason,))

    def conclude(self, primary_mac: Answer[str], now: float, policy: Policy) -> None:
        """Judge both families."""
        believed = self.memory.believed
        first = self.memory.first_listed
        witness = Witness(
            link=self.link,
            # A lease that outlived a move to another ENI proves nothing here.
            addresses=tuple(a for a in self.addresses if a.ip not in self.elsewhere),
            routes=self.routes,
            imds=believed,
            primary_mac=primary_mac,
            age=self.age(now),
            listed_for=None if first is None else now - first,
            confirmed=self.confirmed,
        )
        verdicts = {family: judge(family, witness, policy) for family in Family}
        self.verdicts = {
            family: replace(verdict, usable=verdict.usable.without(self.elsewhere))
            for family, verdict in verdicts.items()
        }
        by_status = {
            status: frozenset(f for f, v in self.verdicts.items() if v.status is status)
            for status in Status
        }
        self.confirmed = (self.confirmed | by_status[Status.READY]) - by_status[Status.ABSENT]
        if by_status[Status.ABSENT] == frozenset(Family):
            reason = Reason("no-ip", "the interface has no IP addresses (EFA-only, perhaps)")
            self.lifecycle.handle(Event.DISQUALIFIED, now, (reason,))
            return
        if self.lifecycle.state is State.IGNORED:
            self.lifecycle.handle(Event.QUALIFIED, now)
        if believed.directory is NOT_ASKED:
            return  # still detected: there was nothing to conclude from yet
        waiting = self._reasons(by_status[Status.WAITING])
        if waiting:
            self.lifecycle.handle(Event.INCOMPLETE, now, waiting)
        else:
            self.lifecycle.handle(Event.COMPLETE, now, self._unfinished(policy))

    def _reasons(self, families: frozenset[Family]) -> tuple[Reason, ...]:
        """What the families wait for, without repetition."""
        of = (self.verdicts[family].reasons for family in sorted(families))
        return tuple(dict.fromkeys(reason for reasons in of for reason in reasons))

    def confirm(self, now: float, policy: Policy, *, equal: bool) -> None:
        """Conclude whether the kernel equals the plan, where that is the question."""
        if equal:
            self.failures = ()
        if self.lifecycle.state in (State.VALIDATED, State.APPLIED):
            unfinished = self._unfinished(policy)
            event = Event.CONFIRMED if equal and not unfinished else Event.DIFFERS
            self.lifecycle.handle(event, now, unfinished)

    def _unfinished(self, policy: Policy) -> tuple[Reason, ...]:
        """Why the kernel is not as planned yet: what it refused, what DHCP is given time for."""
        wait = f"a DHCP client has {policy.address_wait:g} s from the link's coming to bring"
        awaited = (Reason("address-awaited", f"{wait} {ip}") for ip in self.plan.awaited)
        return (*self.failures, *awaited)

    @property
    def held(self) -> frozenset[Family]:
        """The families that nothing may be removed of: those still being judged."""
        if self.lifecycle.state is State.IGNORED:
            return frozenset()
        waiting = (f for f, v in self.verdicts.items() if v.status is Status.WAITING)
        return frozenset(waiting) if self.verdicts else frozenset(Family)

    @property
    def notes(self) -> tuple[Reason, ...]:
        """What is worth knowing of it and is nothing to wait for."""
        notes = [note for verdict in self.verdicts.values() for note in verdict.notes]
        notes += [
            reason
            for verdict in self.verdicts.values()
            if verdict.status is Status.ABSENT
            for reason in verdict.reasons
        ]
        notes += self._left_to_others()
        notes += self.shadows
        if self.fights.reason:
            notes.append(self.fights.reason)
        notes += [Reason("refused", text) for text in self.memory.believed.refused]
        if self.lifecycle.state is State.IGNORED:
            notes += self.failures  # what does not let itself be removed
        else:
            if not self.link.up:
                notes.append(Reason("link-down", "the link is down; its routes return with it"))
            if self.link.group not in {0, *self.groups}:
                group = self.numbers.group
                text = f"the link is in group {self.link.group}, set by others, not {group}"
                notes.append(Reason("foreign-group", f"{text}: its on-link routes are not hidden"))
        return tuple(notes)

    def _left_to_others(self) -> list[Reason]:
        """What IMDS or DHCP say is here, but another ENI has."""
        claims = self.claims
        listed = "IMDS lists {} here, but it stays on {} until IMDS does not list it there"
        brought = "DHCP brought {}, but IMDS lists it on {}"
        texts = [
            (listed if item in claims.listed else brought).format(item, name)
            for item, name in sorted(self.elsewhere.items(), key=lambda known: str(known[0]))
            if item in claims.listed | claims.leased
        ]
        return [Reason("held-elsewhere", text) for text in texts]

    def subject(
        self, neighbours: tuple[IPNetwork, ...], now: float, policy: Policy, bridge: int | None
    ) -> Subject:
        """The interface as the planner sees it."""
        return Subject(
            link=self.link,
            usable={family: verdict.usable for family, verdict in self.verdicts.items()},
            addresses=self.addresses,
            routes=self.routes,
            neighbours=neighbours,
            first_due=self.age(now) >= policy.address_wait,
            bring_up=self.to_bring_up and self._udev_is_over(now),
            waits_for_udev=self.to_bring_up and not self._udev_is_over(now),
            groups=self.groups,
            bridge=bridge,
        )

    @property
    def waits_for_udev(self) -> bool:
        """Whether the link is to be set up as soon as udev is done with it."""
        return self.to_bring_up and not self.udev_done

    def _udev_is_over(self, now: float) -> bool:
        return self.udev_done or self.age(now) >= UDEV_PATIENCE

    def next_deadline(self, decided: float, policy: Policy) -> float | None:
        """When to judge this interface anew, if nothing happens; `decided`: the last time."""
        seen = self.lifecycle.seen
        times = [seen + UDEV_PATIENCE, seen + policy.address_wait, seen + policy.patience]
        if self.memory.first_listed is not None:
            times.append(self.memory.first_listed + policy.settling)
        overdue = self.lifecycle.next_deadline()
        if overdue is not None:
            times.append(overdue)
        times += self.fights.deadlines()
        return min((t + ROUNDING for t in times if t + ROUNDING > decided), default=None)
