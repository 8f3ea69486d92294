"""A whole host in fast motion: the core, the sim's kernel, and an IMDS that answers by a script.

The clock jumps from one moment at which something happens to the next. What is driven is the turn
that the service drives with a real clock, so what converges here converges there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Final

from nicwatchd.core.host import Host
from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import ABSENT, Answer, EniMetadata, Value
from nicwatchd.core.model import Link, Operation, Ruleset
from nicwatchd.core.news import News, StateChanged
from nicwatchd.core.policy import Policy
from nicwatchd.core.polling import Depth
from nicwatchd.core.port import Outcome, Overrun, Result
from nicwatchd.core.steps import (
    Applied,
    Apply,
    LinksRead,
    LookedUp,
    LookUp,
    MacsReading,
    ObjectsRead,
    PrimaryReading,
    Reading,
    ReadLinks,
    ReadObjects,
    Step,
    StepAnswer,
)
from nicwatchd.core.turn import Turn
from tests.core.build import ETH0, PRIMARY, UNLISTED
from tests.core.strict_kernel import StrictKernel

STEPS: Final = 40_000  # moments in one run; more means that the clock stands still
ROUND_TRIP: Final = 0.01


@dataclass(frozen=True)
class Told:
    """A transition, as a line of the journal has it."""

    at: float
    name: str
    state: State
    codes: frozenset[str]


class FastMotion:
    """`run(until)` lets time pass; scripts are set with `at` and `imds`."""

    kind: type[Turn] = Turn  # of turns

    def __init__(
        self, policy: Policy | None = None, kernel: StrictKernel | None = None, start: float = 0.0
    ) -> None:
        self.now = start
        self.kernel = kernel or StrictKernel(ETH0)
        self.turn = self.begin(policy or Policy())
        self.round_trip = ROUND_TRIP  # of a question to IMDS [s]
        self.primary: Answer[str] = Value(PRIMARY)
        self.udev_done: set[int] = set()  # the links that udev has finished with
        self.managers: dict[int, str] = {}  # whose links are, by udev's word
        self.clients: dict[int, str] = {}  # the DHCP clients that are waited for by name
        self.strict: set[int] = set()  # the links with a strict reverse-path filter
        self.multus: tuple[str, ...] = ()  # the files that configure it
        self.written: list[tuple[float, Operation]] = []
        self.told: list[Told] = []
        self.news: list[News] = []
        self.asked: list[tuple[float, int]] = []  # when, and about which interface
        self.swept: list[tuple[float, int]] = []  # ... for everything
        self.macs: Answer[frozenset[str]] | None = None  # the list of MACs; None: as it is
        self.asked_macs: list[float] = []
        self._readings: dict[str, list[tuple[float, EniMetadata]]] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._links: dict[int, Link] = {}  # as last read
        self._asking_primary: Turn | None = None  # which has that question under way

    def begin(self, policy: Policy) -> Turn:
        """A core as a daemon that starts has it."""
        return self.kind(policy, lambda: 0.0, self.now, strict=True)

    @property
    def host(self) -> Host:
        return self.turn.host

    # --- scripts -----------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a moment."""

        def act() -> None:
            action()
            self.happened()

        heappush(self._agenda, (when, next(self._order), act))

    def imds(self, mac: str, when: float, reading: EniMetadata) -> None:
        """From then on IMDS says this of an ENI. Before the first it does not list it."""
        self._readings.setdefault(mac, []).append((when, reading))

    def plug(self, when: float, link: Link) -> None:
        self.at(when, lambda: self.kernel.set_link(link))

    # --- time --------------------------------------------------------------------------------

    def run(self, until: float) -> None:
        """Let time pass until then; all that is due then has been done."""
        self.happened()  # the test may have changed something
        for _ in range(STEPS):
            if self.turn.is_due(self.now):
                self._take_turn()
            self._ask()
            self._ask_macs()
            following = self._next()
            if following > until:
                self.now = until
                return
            assert following >= self.now
            self.now = following
            while self._agenda and self._agenda[0][0] <= self.now:
                heappop(self._agenda)[2]()
        raise AssertionError(f"the clock stands still at {self.now}")

    def happened(self) -> None:
        """Something happened in the kernel: everything is stale, as after an overrun."""
        self.turn.take_event(Overrun(), self.now)

    def _next(self) -> float:
        """When something is due. What is polled always has a next poll, or a question open."""
        for interface in self.host.interfaces.values():
            polling = interface.polling
            assert polling.in_flight or not interface.is_polled or polling.next_at > self.now
        agenda = self._agenda[0][0] if self._agenda else float("inf")
        return min(agenda, max(self.now, self.turn.next_at().at))

    def _take_turn(self) -> None:
        """Carry out the steps of one turn, as the service does."""
        foreign = self.kernel.foreign
        turn = self.turn
        turn.start(self.now)
        while turn.step:
            turn.answer(self._carry_out(turn.step), self.now)
            self._tell()
        assert self.kernel.foreign == foreign, "what is others' was touched"
        assert turn.settled, f"it does not converge: {self.wanted}"
        if turn.decision and not turn.decision.throttled:
            own = self.kernel.own_rules
            assert len(set(own)) == len(own), "copies are for moments only"

    def decide(self) -> tuple[Operation, ...]:
        """Begin a turn, and stop where it wants something applied: that; nothing, if it is over."""
        self.happened()
        self.turn.start(self.now)
        return self.go_on()

    def go_on(self) -> tuple[Operation, ...]:
        """Carry out what the turn wants but for applying; as above."""
        while self.turn.step:
            if isinstance(self.turn.step, Apply):
                return self.turn.step.operations
            self.turn.answer(self._carry_out(self.turn.step), self.now)
            self._tell()
        return ()

    def apply(self, refused: Mapping[Operation, Outcome] | None = None) -> tuple[Operation, ...]:
        """Say of what the turn wants applied that it was, but for what is refused; then go on.

        The kernel is left as it is: the test does there what is to be done.
        """
        assert isinstance(self.turn.step, Apply)
        done = (Outcome(operation, Result.DONE) for operation in self.turn.step.operations)
        outcomes = tuple((refused or {}).get(each.operation, each) for each in done)
        self.turn.answer(Applied(outcomes), self.now)
        self._tell()
        return self.go_on()

    def _hint_of_links(self) -> None:
        """There was an event of each link that changed, by us or by others."""
        links = dict(self.kernel.links)
        for index in {i for i, _ in links.items() ^ self._links.items()}:
            self.host.hint(index, self.now)
        self._links = links

    def _tell(self) -> None:
        news = self.turn.news()
        self.news += news
        self.told += [
            Told(t.at, each.view.link.name, t.state, frozenset(r.code for r in t.reasons))
            for each in news
            if isinstance(each, StateChanged) and (t := each.transition)
        ]

    def _carry_out(self, step: Step) -> StepAnswer:
        kernel = self.kernel
        match step:
            case ReadLinks(indices=indices):
                self._hint_of_links()
                links = kernel.links
                chosen = links if indices is None else links.keys() & indices
                return LinksRead({index: links[index] for index in chosen})
            case ReadObjects():
                read = [index for index, _ in step.links]
                return ObjectsRead(
                    addresses={index: kernel.addresses_of(index) for index in read},
                    routes={index: kernel.main_routes_of(index) for index in read},
                    everywhere=kernel.all_addresses() if step.everywhere else None,
                    own=kernel.own_routes if step.own else None,
                    rules=tuple(kernel.rules) if step.rules else None,
                    tables={table: kernel.table_routes(table) for table in step.tables},
                    udev_done=step.udev & self.udev_done,
                    managers={index: self.managers.get(index, "") for index in step.marked},
                    clients={index: self.clients.get(index, "") for index in step.marked},
                    strict={index: index in self.strict for index in step.filtered},
                    multus=self.multus if step.cni else None,
                    hosts=kernel.host_routes(step.hosts) if step.hosts else None,
                    closed=None if step.closed is None else kernel.closed_main(step.closed),
                    defaults=kernel.defaults() if step.defaults else None,
                    ruleset=Ruleset(kernel.state.ruleset) if step.ruleset else None,
                )
            case Apply(operations=operations):
                outcomes = tuple(self._apply(operations))
                if any(each.result in (Result.DONE, Result.GONE) for each in outcomes):
                    self.at(self.now, lambda: None)  # the kernel tells of what we do, too
                return Applied(outcomes)
            case LookUp(probes=probes):
                return LookedUp(tuple(kernel.route_get(probe) for probe in probes))

    def _apply(self, operations: tuple[Operation, ...]) -> list[Outcome]:
        self.written += [(self.now, operation) for operation in operations]
        self.kernel.run(operations)
        return [Outcome(operation, Result.DONE) for operation in operations]

    def _ask(self) -> None:
        if self.turn.asks_primary and self.host.primary_mac != self.primary:
            self._answer_primary()
        for question in self.turn.questions(self.now):
            self.asked.append((self.now, question.index))
            if question.depth is Depth.EVERYTHING:
                self.swept.append(self.asked[-1])
            self._answer(question.index, question.mac)

    def _ask_macs(self) -> None:
        if not self.host.unlinked.asks(self.now, self.host.policy):
            return
        last = {
            mac: [reading for when, reading in said if when <= self.now][-1:]
            for mac, said in self._readings.items()
        }
        # An error is no absence.
        listed = {m for m, said in last.items() if said and said[0].directory is not ABSENT}
        answer = self.macs or Value(frozenset({PRIMARY, *listed}))
        self.asked_macs.append(self.now)

        def deliver() -> None:
            self.turn.take_reading(MacsReading(answer), self.now)

        heappush(self._agenda, (self.now + self.round_trip, next(self._order), deliver))

    def _answer_primary(self) -> None:
        """One question at a time, as of the others; and its answer takes as long."""
        turn, primary = self.turn, self.primary
        if self._asking_primary is turn:
            return
        self._asking_primary = turn

        def deliver() -> None:
            if self.turn is turn:
                self._asking_primary = None
                turn.take_reading(PrimaryReading(primary), self.now)

        heappush(self._agenda, (self.now + ROUND_TRIP, next(self._order), deliver))

    def _answer(self, index: int, mac: str) -> None:
        said = [reading for when, reading in self._readings.get(mac, []) if when <= self.now]
        reading = said[-1] if said else UNLISTED
        done = self.now + self.round_trip

        def deliver() -> None:
            self.turn.take_reading(Reading(index, mac, reading), self.now)

        heappush(self._agenda, (done, next(self._order), deliver))

    # --- what to look at afterwards ------------------------------------------------------------

    @property
    def wanted(self) -> tuple[Operation, ...]:
        """What the last decision wanted applied."""
        return self.turn.decision.operations if self.turn.decision else ()

    def state(self, index: int = 3) -> State:
        return self.host.interfaces[index].lifecycle.state

    def reasons(self, index: int = 3) -> set[str]:
        return {reason.code for reason in self.host.interfaces[index].lifecycle.reasons}

    def first(self, name: str, state: State) -> float:
        """When an interface first came into a state."""
        return next(told.at for told in self.told if (told.name, told.state) == (name, state))

    def polls(self, index: int, since: float, until: float) -> int:
        return len([1 for at, asked in self.asked if asked == index and since <= at < until])
