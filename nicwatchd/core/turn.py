"""The turn: read, decide, apply, read back. There is no second path.

Whatever happens - an event, an answer of IMDS, a signal, a request, a time-out - only makes a turn
due. The turn says what to read, what to apply and what to look up, one `Step` at a time, and when
the next turn is due. Its result is a `Decision`. The daemon, `nicwatchd release`, a dry run and the
tests drive this same turn: they carry out its steps, and decide nothing.

Reads: events, readings, settings, requests, and the answers to its steps. Gives: steps, questions
to IMDS, news, the next appointment, and the decision. Times are monotonic seconds.

    turn.start(now)
    while turn.step:
        <let events tell of `turn.picture.heeded`, too>
        turn.answer(<what the driver got for turn.step>, now)

One table, `TURN`, says which phase follows which; the diagram in docs/turn.md is made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from nicwatchd.core import asking
from nicwatchd.core.agenda import Agenda, Appointment, Why
from nicwatchd.core.application import Application
from nicwatchd.core.basis import Basis
from nicwatchd.core.chronicle import Chronicle
from nicwatchd.core.decide import Decider
from nicwatchd.core.decision import Decision
from nicwatchd.core.failures import explain, failed, is_in_the_way
from nicwatchd.core.health_book import HealthBook
from nicwatchd.core.host import Host
from nicwatchd.core.interface import ASKING
from nicwatchd.core.lookups import Lookups
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import IPAddress, Key
from nicwatchd.core.news import News
from nicwatchd.core.picture import Picture
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Event, Outcome
from nicwatchd.core.sections import keys_named
from nicwatchd.core.steps import (
    Applied,
    Apply,
    LinksRead,
    LookedUp,
    LookUp,
    MacsReading,
    ObjectsRead,
    PrimaryReading,
    Question,
    Reading,
    ReadLinks,
    ReadObjects,
    Step,
    StepAnswer,
)

ROUNDS: Final = 4  # of applying and reading back in one turn; the rest waits for the next turn


class Phase(StrEnum):
    """What the turn waits for."""

    RESTING = "resting"  # for the next appointment
    LINKS = "reading links"
    OBJECTS = "reading objects"  # addresses, routes and rules
    APPLYING = "applying"
    LOOKING_UP = "looking up"  # whose rule wins, according to the kernel


class Move(StrEnum):
    """What leads from one phase to the next."""

    DUE = "due"
    READ = "read"
    DIFFERS = "differs"  # decided: the kernel is not as planned
    EQUAL = "equal"  # decided: it is as planned, or a round changed nothing
    MORE = "more"  # a batch was carried out: now the rules for new tables, or the removals
    APPLIED = "applied"  # to be read back
    ENOUGH = "enough rounds"  # what still differs waits for the next turn
    ANSWERED = "answered"
    FAILED = "failed"  # the kernel did not answer, or deciding raised an exception


TURN: Final[Mapping[Phase, Mapping[Move, Phase]]] = {
    Phase.RESTING: {Move.DUE: Phase.LINKS},
    Phase.LINKS: {Move.READ: Phase.OBJECTS, Move.FAILED: Phase.RESTING},
    Phase.OBJECTS: {
        Move.DIFFERS: Phase.APPLYING,
        Move.EQUAL: Phase.LOOKING_UP,
        Move.FAILED: Phase.RESTING,
    },
    Phase.APPLYING: {
        Move.MORE: Phase.APPLYING,
        Move.APPLIED: Phase.LINKS,
        Move.ENOUGH: Phase.LOOKING_UP,
        Move.FAILED: Phase.RESTING,
    },
    Phase.LOOKING_UP: {Move.ANSWERED: Phase.RESTING, Move.FAILED: Phase.RESTING},
}


ANSWERS: Final = {
    ReadLinks: LinksRead,
    ReadObjects: ObjectsRead,
    Apply: Applied,
    LookUp: LookedUp,
}


@dataclass(slots=True)
class Request:
    """An operator's request, made at the time `at`. It is done when the turn of `revision` is over.

    `revision` is None while the request waits for answers of IMDS. `outcomes` are those of all
    operations since the request.
    """

    at: float
    revision: int | None = None
    outcomes: list[Outcome] = field(default_factory=list)


class Turn:
    """The turns of one host, one after the other, and their results.

    `random` and `strict` are as in `Host`.
    """

    def __init__(
        self,
        policy: Policy,
        random: Callable[[], float],
        now: float,
        *,
        strict: bool = False,
    ) -> None:
        self.host = Host(policy, random, strict=strict)
        self.phase = Phase.RESTING
        self.step: Step | None = None  # for the driver to carry out and to answer
        self.decision: Decision | None = None  # the last one
        self.broken = ""  # the exception that the last turn ended with, a bug
        self.completed = 0  # the revision up to which turns were completed
        self.picture = Picture(self.host)
        self._decider = Decider(self.host)
        self._basis = Basis(self.host, self._decider.forwarder)  # of the last decision
        self._lookups = Lookups(self.host)
        self._health = HealthBook(self.host)
        self._chronicle = Chronicle(self.host)
        self._agenda = Agenda(now)
        self._requests: list[Request] = []
        self._application = Application()  # of the decision that is carried out
        self._failed: list[Outcome] | None = None  # of the last round, until they are explained
        self.settled = True  # whether the kernel is as planned
        self._began, self._round = now, 0  # of the turn under way: when, and its rounds so far
        self._held = False  # whether the last decision held when it began

    # --- what happens ------------------------------------------------------------------------

    def take_event(self, event: Event, now: float, *, by_us: bool = False) -> None:
        """The kernel reported a change; `by_us`: our own request socket caused it."""
        if (delay := self.picture.take_event(event, now, by_us=by_us)) is not None:
            self._agenda.news(now, delay)

    def take_reading(self, reading: Reading | PrimaryReading | MacsReading, now: float) -> None:
        """IMDS answered."""
        if isinstance(reading, MacsReading):
            self.host.unlinked.learn(reading.answer, self.host.links or {}, now, self.host.policy)
            interface, is_news = None, False
        elif isinstance(reading, PrimaryReading):
            self.host.learn_primary(reading.answer)
            interface, is_news = None, True
        else:
            known = self.host.interfaces.get(reading.index)
            # A late answer may be about a former link with this index.
            interface = known if known and known.link.mac == reading.mac else None
            is_news = False
            if interface:
                interface.surprise(ASKING, reading.error or None)
                is_news = self.host.learn(interface, reading.metadata, now)
        if reading.error:
            self.host.surprise(interface, ASKING, reading.error, reading.trace)
        numbered = _number(self._requests, self.host, self._decider.revision + 1)
        if numbered or is_news or reading.error:
            self._agenda.news(now)

    def set_policy(self, policy: Policy, now: float) -> None:
        """Use other settings from now on."""
        before = self.host.policy
        self.host.set_policy(policy)
        if keys_named(policy.sections) - keys_named(before.sections):
            asking.poll_all(self.host, now)  # nobody asked for these keys so far
        self.look_at_everything(now)

    def reconcile(self, only: Key | None, now: float, adopt: Iterable[IPAddress] = ()) -> Request:
        """Read everything again, IMDS too, and end the release of `only`; None: all releases.

        `adopt`: addresses whose manager ends; we put them back when it takes them off its link.
        """
        self.host.releases = self.host.releases.minus(only)
        for interface in self.host.interfaces.values():
            if only in (None, interface.key):
                interface.facts.floating.adopt(adopt)
        asking.poll_all(self.host, now)
        self.look_at_everything(now)
        self._requests.append(request := Request(now))
        return request

    def release(self, only: Key | None, now: float) -> Request:
        """Remove what we configured for `only` (None: the host), and leave it alone from now on."""
        self.host.releases = self.host.releases.plus(only)
        self.look_at_everything(now)
        self._requests.append(request := Request(now, self._decider.revision + 1))
        return request

    def is_reached(self, request: Request) -> bool:
        """Whether a request has been carried out, as far as the kernel allowed it."""
        return request.revision is not None and request.revision <= self.completed

    def look_at_everything(self, now: float) -> None:
        """What is known of the kernel is void: read all of it."""
        self.picture.stale.void()
        self._agenda.news(now)

    # --- the turn ----------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin a turn; `step` is then the first step."""
        self._began, self._round = now, 0
        self.host.losses.noticed = self._agenda.started(now)
        self._guard(lambda: self._move(Move.DUE, now), now)

    def answer(self, answer: StepAnswer, now: float) -> None:
        """Take the answer to `step`, which is then the next step, or None: the turn is over."""
        if type(answer) is not ANSWERS.get(type(self.step)):
            raise TypeError(f"{answer} answers no {self.step}")
        self._guard(lambda: self._advance(answer, now), now)

    def _guard(self, work: Callable[[], None], now: float) -> None:
        """Do a part of the turn. What it raises ends this turn, and no other."""
        try:
            work()
        except Exception as error:
            if self.host.strict:
                raise
            self.broken = repr(error)
            self.host.caught(None, "deciding", error)
            self.fail(now)

    def _advance(self, answer: StepAnswer, now: float) -> None:
        match self.step, answer:
            case ReadLinks() as step, LinksRead():
                self.picture.take_links(step, answer, now)
                self._move(Move.READ, now)
            case ReadObjects(), ObjectsRead():
                self.picture.take_objects(answer, now)
                self._decide(answer, now)
            case Apply() as step, Applied():
                self._take_outcomes(step, answer, now)
            case LookUp() as step, LookedUp():
                self._lookups.take(step, answer)
                self._end(now)

    def fail(self, now: float) -> None:
        """The kernel did not answer: what we know about it is void, and the turn is aborted."""
        self.picture.stale.void()
        # What the tables would have told is still to be explained.
        self.picture.stale.in_the_way(o for o in self._failed or () if is_in_the_way(o))
        self._agenda.failed(now)
        self._move(Move.FAILED, now)

    def _move(self, move: Move, now: float) -> None:
        self.phase = TURN[self.phase][move]
        match self.phase:
            case Phase.RESTING:
                self.step = None
            case Phase.LINKS:
                self.step = self.picture.links_wanted(now)
            case Phase.OBJECTS:
                self.step = self.picture.objects_wanted(now)
            case Phase.APPLYING:
                self.step = Apply(self._application.batch(), dict(self.host.keys))
            case Phase.LOOKING_UP:
                changed = self.picture.stale.take_ways_changed()
                self.step = self._lookups.wanted(now, changed=changed, held=self._held)
                self.picture.heed(self._lookups.destinations)
                if not self.step.probes:
                    self._end(now)

    def _decide(self, read: ObjectsRead, now: float) -> None:
        self._held = self._holds(now)
        if self._held:
            self._move(Move.EQUAL, now)
            return
        self._basis.take()
        before = self.decision.operations if self.decision and self._round else ()
        if self._failed is not None:
            failures, self._failed = self._failed, None  # once only, even if it raises
            self._decider.explain(list(explain(failures, read.tables, self.host.name_of)))
        self.decision = self._decider.decide(now)
        # An interface whose answer is missing may be gone or not polled now: do not wait for it.
        _number(self._requests, self.host, self._decider.revision)
        operations = self.decision.operations
        self.settled = not operations
        self._application = Application(operations, self.decision.kernel.routes)
        self._move(Move.DIFFERS if operations and operations != before else Move.EQUAL, now)

    def _holds(self, now: float) -> bool:
        """Whether the last decision is still right: nothing is new, nothing is left to do."""
        busy = self.broken or self._round or self._failed or self._requests
        return not (busy or self._decider.is_stale(now)) and self._basis.holds(self.decision, now)

    def _take_outcomes(self, step: Apply, applied: Applied, now: float) -> None:
        self.picture.stale.touched(step.operations)
        self._chronicle.take_outcomes(applied.outcomes, self._decider.told_of)
        for request in self._requests:
            request.outcomes += applied.outcomes
        self._application.take(applied.outcomes)
        if self._application.batch():
            self._move(Move.MORE, now)
            return
        # Close the books of the decision that was carried out.
        self._round += 1
        self._lookups.wrote(outcome.operation for outcome in self._application.outcomes)
        self._failed = failed(self._application.outcomes)
        self._decider.close(self._failed, now)
        self.picture.stale.refused(self._failed)
        self.picture.stale.in_the_way(o for o in self._failed if is_in_the_way(o))
        if self.decision:
            self.decision = replace(self.decision, outcomes=self._application.outcomes)
        self._move(Move.APPLIED if self._round < ROUNDS else Move.ENOUGH, now)

    def _end(self, now: float) -> None:
        judged = self._health.conclude(self._lookups.reached, now, held=self._held)
        is_same = self._held and not (judged or self._lookups.is_asking)
        self._chronicle.note(now, is_same=is_same)
        if self.decision and not is_same:  # who wins was asked after it was made
            views = self._health.views(judged=judged)
            self.decision = replace(self.decision, interfaces=views)
        self.completed, self.broken = self._decider.revision, ""
        self._agenda.turned(
            self._began,
            now,
            settled=self.settled,
            deadline=self._basis.next_deadline(self._decider.at, now, held=self._held),
            waits_for_udev=self.host.waits_for_udev,
        )
        self._requests = [r for r in self._requests if not self.is_reached(r)]
        self._move(Move.ANSWERED, now)

    # --- when, what to ask, and what to report -----------------------------------------------

    def next_at(self) -> Appointment:
        """When the driver must act next, and why: start a turn, or ask IMDS its questions."""
        due, poll = self._agenda.next, asking.next_poll(self.host)
        return due if poll is None or due.at <= poll else Appointment(poll, Why.POLL)

    def is_due(self, now: float) -> bool:
        """Whether a turn is to start now."""
        return self._agenda.next.at <= now

    @property
    def asks_primary(self) -> bool:
        """Whether IMDS is to be asked for the primary's MAC."""
        return bool(self.host.interfaces) and not isinstance(self.host.primary_mac, Value)

    def questions(self, now: float) -> list[Question]:
        """What to ask IMDS now; each is given once. Answers come by `take_reading`, at any time."""
        return asking.questions(self.host, now)

    def news(self) -> list[News]:
        """What happened since the last call."""
        return [*self.host.news(), *self._chronicle.drain()]


def _number(requests: Iterable[Request], host: Host, revision: int) -> bool:
    """Give this revision to the requests for which IMDS has answered everything; if any."""
    waiting = [request for request in requests if request.revision is None]
    answered = [request for request in waiting if asking.answered_since(host, request.at)]
    for request in answered:
        request.revision = revision
    return bool(answered)
