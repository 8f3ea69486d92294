"""One interface: the facts about its link, and the conclusions from them.

Reads: the link, its addresses and routes, and readings of IMDS; the host passes them in. Gives: its
verdicts, its state, and a `View` of everything. No other module writes its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from math import inf
from typing import Final

from nicwatchd.core import dhcp
from nicwatchd.core.backoff import Share
from nicwatchd.core.evidence import Status, Verdict, Witness, judge
from nicwatchd.core.facts import UDEV_PATIENCE, Facts
from nicwatchd.core.fights import Fights
from nicwatchd.core.health import FamilyHealth, Health, worst
from nicwatchd.core.lifecycle import Event, Lifecycle, State, Transition
from nicwatchd.core.metadata import NOT_ASKED, Answer, EniMetadata, Value
from nicwatchd.core.model import (
    Family,
    Key,
    Link,
    Plan,
    Reason,
)
from nicwatchd.core.policy import AddressMode, Policy
from nicwatchd.core.polling import Polling, Progress
from nicwatchd.core.rota import requests, rota
from nicwatchd.core.sections import Own, keys_named
from nicwatchd.core.treatment import (
    Managed,
    Primary,
    Released,
    Treatment,
    is_asked_about,
    reason_of,
)
from nicwatchd.core.view import View

# The work in which an exception of ours can be caught.
JUDGING, PLANNING, ASKING = "judging", "planning", "asking IMDS"
# Times are floats: exactly at a deadline, an age can come out slightly too small.
ROUNDING: Final = 1e-6


class Interface:
    """One interface. The host gives it facts; each decision makes it draw conclusions."""

    def __init__(self, link: Link, now: float, policy: Policy, *, came: bool = False) -> None:
        """`came`: as in `Facts`."""
        self.key: Key = (link.index, link.mac)  # what identifies it; never the name
        self.facts = Facts(link, now, came=came)
        self.lifecycle = Lifecycle(now, policy.patience)
        self.polling = Polling(now)
        self.share = Share()
        self.fights = Fights()
        self.treatment: Treatment = Managed()  # until the first decision
        self.is_polled = is_asked_about(self.treatment)  # whether IMDS is asked about it
        self.witness: Witness | None = None
        self.verdicts: Mapping[Family, Verdict] = {}
        self.plan = Plan(link.index)
        self.leaves_addresses = False  # listed ones that are not on the link may be for others
        self.is_protected = False  # whether it is the primary, with a table and rules of its own
        self.own = Own(policy)  # what the settings say of it, by the last decision
        self.numbers = policy.numbers
        self.groups = frozenset({policy.numbers.group})  # our link groups, former ones too
        self._confirmed: frozenset[Family] = frozenset()
        self._judged: tuple[object, ...] | None = None  # what the verdicts were drawn from
        self._until = 0.0  # ... and for how long they hold at most
        self.failures: tuple[Reason, ...] = ()  # operations that failed in the last round
        self.shadows: tuple[Reason, ...] = ()  # foreign rules that win over ours
        self.unequal: frozenset[Family | None] = frozenset()  # families that are not as planned
        self.health: Mapping[Family, FamilyHealth] = {}
        self.worst: Health | None = None  # the health of both families; None: not judged
        self.surprised: Reason | None = None  # an exception of ours that persists
        self._surprises: dict[str, Reason] = {}  # all of these, by work
        self.changes: list[tuple[View, Transition]] = []  # which nobody was told of yet
        self._note_transitions()

    @property
    def link(self) -> Link:
        """The link as it was last read."""
        return self.facts.link

    @property
    def is_secondary(self) -> bool:
        """Whether we configure it, and it is an interface with IP addresses."""
        return isinstance(self.treatment, Managed) and self.lifecycle.state is not State.IGNORED

    # --- facts -------------------------------------------------------------------------------

    def follow(self, policy: Policy) -> None:
        """Use other settings from now on."""
        self.lifecycle.patience = policy.patience
        self.numbers = policy.numbers

    def hint(self, now: float) -> None:
        """Something happened to the link: poll IMDS at once, it may know more now. Rate-limited."""
        if self.is_polled:
            self.polling.hint(now)

    # --- conclusions -------------------------------------------------------------------------

    def treat(self, treatment: Treatment, groups: frozenset[int], *, pods: bool = False) -> None:
        """Set how it is treated, and which link groups are ours.

        `pods`: the addresses that IMDS lists for the primary may be those of a container network.
        """
        self.treatment, self.groups = treatment, groups
        self.is_polled = is_asked_about(treatment)
        left = self.own.policy.addresses is AddressMode.NONE
        self.leaves_addresses = left or (pods and isinstance(treatment, Primary))
        if isinstance(treatment, Released):
            self.fights.give_up()
            self.facts.floating.forget()

    def conclude(self, primary_mac: Answer[str], now: float, policy: Policy) -> None:
        """Judge both families of an ENI that is ours or the primary; move the state accordingly."""
        reason = reason_of(self.treatment)
        if reason and not isinstance(self.treatment, Primary):
            self.witness, self.verdicts, self._confirmed = None, {}, frozenset()
            self.judge_anew()
        else:  # the primary's addresses are to be known all the same
            self._judge(primary_mac, now, policy)
        if reason:
            self._handle(Event.DISQUALIFIED, now, (reason,))
        else:
            self._move(now)

    def _judge(self, primary_mac: Answer[str], now: float, policy: Policy) -> None:
        facts = self.facts
        basis = (primary_mac, policy, self.own.awaits, self._confirmed, *_told(facts))
        if basis == self._judged and now < self._until:
            return
        witness = _witness(facts, primary_mac, self._confirmed, now)
        verdicts = {family: judge(family, witness, policy) for family in Family}
        if awaits := self.own.awaits:  # whether it is ours at all
            verdicts = {f: Verdict(f, Status.WAITING, (awaits,)) for f in Family}
        self.witness = witness
        left = {family: _left(verdict, facts) for family, verdict in verdicts.items()}
        if left != self.verdicts:  # else what was concluded from them is kept
            self.verdicts = left
        ready, absent = self._families(Status.READY), self._families(Status.ABSENT)
        self._confirmed = (self._confirmed | ready) - absent
        # What waits for something says for how long it will.
        self._judged = None if self._families(Status.WAITING) else basis
        self._until = (self.next_deadline(now, policy) or inf) - 2 * ROUNDING

    def judge_anew(self) -> None:
        """Judge it anew with the next decision, whether anything changed or not."""
        self._judged = None

    def _move(self, now: float) -> None:
        """Give the state machine the conclusion from the verdicts."""
        off = self._families(Status.OFF)
        if self._families(Status.ABSENT) | off == frozenset(Family):
            lacks = " and ".join(f"{family.label} is off" for family in sorted(off))
            why = f"and {lacks}" if off else "(EFA-only, perhaps)"
            reason = Reason("no-ip", f"the interface has no IP addresses {why}")
            self._handle(Event.DISQUALIFIED, now, (reason,))
            return
        if self.lifecycle.state is State.IGNORED:
            self._handle(Event.QUALIFIED, now)
        if self.facts.memory.believed.directory is NOT_ASKED:
            return  # still detected: there was nothing to conclude from yet
        waiting = self._families(Status.WAITING)
        if waiting:
            reasons = (r for family in sorted(waiting) for r in self.verdicts[family].reasons)
            self._handle(Event.INCOMPLETE, now, tuple(dict.fromkeys(reasons)))
        else:
            self._handle(Event.COMPLETE, now, self.unfinished)

    def may_be_excluded(self, policy: Policy) -> bool:
        """Whether `exclude_subnets` may still turn out to name this ENI.

        It may while a family that is named there is undecided, and its subnets are not known.
        """
        believed = self.facts.memory.believed
        if policy.manage:
            return False
        named = {Family(net.version) for net in policy.exclude_subnets}
        return any(
            not isinstance(believed.of(family).cidrs, Value)
            for family in named & self._families(Status.WAITING)
        )

    def _families(self, status: Status) -> frozenset[Family]:
        return frozenset(f for f, verdict in self.verdicts.items() if verdict.status is status)

    def take_plan(self, plan: Plan) -> None:
        """Set the plan: what should be in the kernel."""
        self.plan = plan

    def fail(self, failures: tuple[Reason, ...]) -> None:
        """Record what the kernel refused in the last round."""
        self.failures = failures

    def confirm(self, now: float, unequal: AbstractSet[Family | None]) -> None:
        """Conclude whether the kernel equals the plan, if the state depends on it.

        `unequal`: the families in which it does not; None: in something that has no family.
        """
        self.unequal, equal = frozenset(unequal), not unequal
        if equal:
            self.failures = ()
        if self.lifecycle.state in (State.VALIDATED, State.APPLIED):
            unfinished = self.unfinished
            event = Event.CONFIRMED if equal and not unfinished else Event.DIFFERS
            self._handle(event, now, unfinished)

    @property
    def unfinished(self) -> tuple[Reason, ...]:
        """Why the kernel is not as planned yet: what it refused, and what DHCP may still add."""
        return (*self.failures, *dhcp.awaited(self.plan, self.own.policy), *self.plan.unfinished)

    def end(self, now: float) -> None:
        """The link is gone."""
        self._handle(Event.REMOVED, now)

    def shadow(self, shadows: tuple[Reason, ...]) -> None:
        """Record which foreign rules win over ours."""
        self.shadows = shadows

    def take_health(self, health: Mapping[Family, FamilyHealth]) -> None:
        """Record whether its families work."""
        self.health, self.worst = health, worst(each.health for each in health.values())

    def surprise(self, where: str, error: str | None) -> None:
        """Record an exception of ours that was caught; None clears it."""
        if error is None:
            self._surprises.pop(where, None)
        else:
            text = f"internal error in {where}: {error}; what is configured stays"
            self._surprises[where] = Reason("internal-error", text)
        self.surprised = next(iter(self._surprises.values()), None)

    @property
    def undecided(self) -> frozenset[Family]:
        """The families of which nothing may be removed, because they are still being judged."""
        if self._surprises.keys() & {JUDGING, PLANNING}:
            return frozenset(Family)
        if self.lifecycle.state is State.IGNORED and not self.is_protected:
            return frozenset()
        return self._families(Status.WAITING) if self.verdicts else frozenset(Family)

    def next_deadline(self, decided: float, policy: Policy) -> float | None:
        """When to judge it again if nothing happens; `decided`: when it was judged last."""
        seen = self.facts.seen
        patience = (seen + policy.patience, seen + 2 * policy.patience)
        times = [seen + UDEV_PATIENCE, *dhcp.deadlines(self.plan, policy, seen), *patience]
        if self.facts.memory.first_listed is not None:
            times.append(self.facts.memory.first_listed + policy.settling)
        overdue = self.lifecycle.next_deadline()
        if overdue is not None:
            times.append(overdue)
        times += self.fights.deadlines()
        return min((t + ROUNDING for t in times if t + ROUNDING > decided), default=None)

    # --- what is reported --------------------------------------------------------------------

    def _handle(self, event: Event, now: float, reasons: tuple[Reason, ...] = ()) -> None:
        self.lifecycle.handle(event, now, reasons)
        self._note_transitions()

    def _note_transitions(self) -> None:
        self.changes += [(self.view(), transition) for transition in self.lifecycle.drain()]

    def drain(self) -> list[tuple[View, Transition]]:
        """The transitions since the last call, each with the interface as it was then."""
        changes, self.changes = self.changes, []
        return changes

    def view(self) -> View:
        """The interface as it is now, frozen."""
        return _view(self)


def _told(facts: Facts) -> tuple[object, ...]:
    """What of a link's facts its verdicts are drawn from, but for its age."""
    kernel = (facts.link, facts.addresses, facts.routes)
    return (*kernel, facts.memory, facts.elsewhere, facts.floating.taken, facts.behind)


def progress(
    interface: Interface,
    heard: EniMetadata,
    now: float,
    policy: Policy,
    *,
    is_primary: bool,
) -> Progress:
    """What the schedule of its polls depends on, after a poll was answered."""
    age, found = interface.facts.age(now), {v.status for v in interface.verdicts.values()}
    # What has not shown for so long is not waited for; where it comes later, the rota finds it.
    over = {Status.ABSENT} if age >= policy.schedule.patience else set()
    listed = heard.directory.value if isinstance(heard.directory, Value) else None
    return Progress(
        age=age,
        complete=Status.READY in found and found <= {Status.READY, Status.OFF} | over,
        doubted=interface.facts.doubts_matter,
        is_slow=is_primary and listed is not None,
        listed=listed is not None,
        requests=requests(rota(listed or frozenset(), keys_named(policy.sections))),
        share=interface.share,
    )


def _view(interface: Interface) -> View:
    facts, lifecycle = interface.facts, interface.lifecycle
    return View(
        link=facts.link,
        treatment=interface.treatment,
        state=lifecycle.state,
        since=lifecycle.since,
        seen=facts.seen,
        reasons=lifecycle.reasons,
        overdue=lifecycle.overdue,
        memory=facts.memory,
        addresses=facts.addresses,
        witness=interface.witness,
        verdicts=interface.verdicts,
        plan=interface.plan,
        elsewhere=facts.elsewhere,
        taken=facts.floating.taken,
        moved=dict(facts.moved),
        fight=interface.fights.reason,
        fought_at=interface.fights.last,
        shadows=interface.shadows,
        failures=interface.failures,
        surprise=interface.surprised,
        numbers=interface.numbers,
        groups=interface.groups,
        section=interface.own.policy.section,
        unfinished=interface.unfinished,
        unequal=interface.unequal,
        is_young=_is_young(interface),
        is_protected=interface.is_protected,
        to_bring_up=facts.to_bring_up,
        leaves_addresses=interface.leaves_addresses,
        health=interface.health,
    )


def _is_young(interface: Interface) -> bool:
    witness = interface.witness
    return witness is not None and witness.age < interface.own.policy.patience


def _witness(
    facts: Facts, primary_mac: Answer[str], confirmed: frozenset[Family], now: float
) -> Witness:
    """What the verdicts are made from. `confirmed`: the families that were READY before."""
    first = facts.memory.first_listed
    return Witness(
        link=facts.link,
        # A lease that outlived a move to another ENI proves nothing here.
        addresses=tuple(a for a in facts.addresses if a.ip not in facts.elsewhere),
        routes=facts.routes,
        imds=facts.memory.believed,
        primary_mac=primary_mac,
        age=facts.age(now),
        listed_for=None if first is None else now - first,
        confirmed=confirmed,
        forgot=facts.memory.forgot,
        earlier=facts.memory.earlier,
    )


def _left(verdict: Verdict, facts: Facts) -> Verdict:
    """The verdict without what others have; an ENI is not ready with nothing of its own left.

    Of a few items it is worth a note: the rest works. With none of its addresses, "applied" would
    say that it works. But what its manager took away is to be where the manager wants it.
    """
    usable = verdict.usable.without(facts.elsewhere)
    if verdict.status is Status.READY and verdict.usable.listed and not usable.listed:
        name = facts.elsewhere[verdict.usable.listed[0]].name
        text = f"none of the addresses that IMDS lists is here; {name} has them"
        waiting = (Reason("held-elsewhere", text),)
        return replace(verdict, status=Status.WAITING, reasons=waiting, usable=usable)
    # What lives elsewhere on the host now is used there.
    gone = facts.floating.taken.keys() - facts.behind.keys()
    return replace(verdict, usable=usable.without(gone))
