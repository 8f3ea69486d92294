"""A whole host in fast motion: the core, the sim's kernel, and an IMDS that answers by a script.

The clock jumps from one moment at which something happens to the next. The service around the
core does the same with a real clock, so what converges here converges there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Final

from nicwatchd.core.host import Host
from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import Answer, EniMetadata, Value
from nicwatchd.core.model import Link, Operation
from nicwatchd.core.policy import Policy
from tests.core.build import ETH0, PRIMARY, UNLISTED
from tests.core.strict_kernel import StrictKernel

ROUNDS: Final = 4  # of deciding and carrying out; more means that it does not converge
STEPS: Final = 20_000  # moments in one run; more means that the clock stands still
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

    def __init__(
        self, policy: Policy | None = None, kernel: StrictKernel | None = None, start: float = 0.0
    ) -> None:
        self.now = start
        self.kernel = kernel or StrictKernel(ETH0)
        self.host = Host(policy or Policy(), lambda: 0.0, strict=True)
        self.round_trip = ROUND_TRIP  # of a question to IMDS [s]
        self.primary: Answer[str] = Value(PRIMARY)
        self.written: list[tuple[float, Operation]] = []
        self.told: list[Told] = []
        self.asked: list[tuple[float, int]] = []  # when, and about which interface
        self.swept: list[tuple[float, int]] = []  # ... for everything
        self._readings: dict[str, list[tuple[float, EniMetadata]]] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._news = True  # something happened since the last look
        self._links: dict[int, Link] = {}  # at the last look

    # --- scripts -----------------------------------------------------------------------------

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a moment."""

        def act() -> None:
            action()
            self._news = True

        heappush(self._agenda, (when, next(self._order), act))

    def imds(self, mac: str, when: float, reading: EniMetadata) -> None:
        """From then on IMDS says this of an ENI. Before the first it does not list it."""
        self._readings.setdefault(mac, []).append((when, reading))

    def plug(self, when: float, link: Link) -> None:
        self.at(when, lambda: self.kernel.set_link(link))

    # --- time --------------------------------------------------------------------------------

    def run(self, until: float) -> None:
        """Let time pass until then; all that is due then has been done."""
        self._news = True  # the test may have changed something
        for _ in range(STEPS):
            deadline = self.host.next_deadline(self.now)
            if self._news or deadline == self.now:
                self._news = False
                self._turn()
            self._ask()
            following = self._next()
            if following > until:
                self.now = until
                return
            assert following >= self.now
            self.now = following
            while self._agenda and self._agenda[0][0] <= self.now:
                heappop(self._agenda)[2]()
        raise AssertionError(f"the clock stands still at {self.now}")

    def _next(self) -> float:
        """When something is due. What is polled always has a next poll, or a question open."""
        deadline, poll = self.host.next_deadline(self.now), self.host.next_poll()
        for interface in self.host.interfaces.values():
            polling = interface.polling
            assert polling.in_flight or not interface.is_polled or polling.next_at > self.now
        agenda = self._agenda[0][0] if self._agenda else None
        return min((t for t in (deadline, poll, agenda) if t is not None), default=float("inf"))

    def _turn(self) -> None:
        """What the service does when something happened, or is due."""
        foreign = self.kernel.foreign
        for _ in range(ROUNDS):
            self.look()
            operations = self.host.decide(self.now)
            self.told += [
                Told(t.at, i.link.name, t.state, frozenset(r.code for r in t.reasons))
                for i, t in self.host.transitions()
            ]
            if not operations:
                break
            self.written += [(self.now, operation) for operation in operations]
            self.kernel.run(operations)
            self.host.failed([])
        else:
            raise AssertionError(f"it does not converge: {operations}")
        assert self.kernel.foreign == foreign, "what is others' was touched"

    def look(self) -> None:
        links = dict(self.kernel.links)
        for index in {i for i, _ in links.items() ^ self._links.items()}:
            self.host.hint(index, self.now)  # there was an event of it
        self._links = links
        self.host.see_links(links, self.now)
        for index in list(self.host.interfaces):
            addresses, routes = self.kernel.addresses_of(index), self.kernel.main_routes_of(index)
            self.host.see_addresses(index, addresses, routes, self.now)
        self.host.see_own(self.kernel.own_routes, tuple(self.kernel.rules))

    def _ask(self) -> None:
        if self.host.primary_mac != self.primary:
            self.host.hear_primary(self.primary)
            self._news = True
        for interface, whole in self.host.polls_due(self.now):
            self.asked.append((self.now, interface.link.index))
            if whole:
                self.swept.append(self.asked[-1])
            self._answer(interface.link.index, interface.link.mac)

    def _answer(self, index: int, mac: str) -> None:
        said = [reading for when, reading in self._readings.get(mac, []) if when <= self.now]
        reading = said[-1] if said else UNLISTED
        done = self.now + self.round_trip

        def deliver() -> None:
            self._news |= self.host.hear(index, mac, reading, self.now)

        heappush(self._agenda, (done, next(self._order), deliver))

    # --- what to look at afterwards ------------------------------------------------------------

    def state(self, index: int = 3) -> State:
        return self.host.interfaces[index].lifecycle.state

    def reasons(self, index: int = 3) -> set[str]:
        return {reason.code for reason in self.host.interfaces[index].lifecycle.reasons}

    def first(self, name: str, state: State) -> float:
        """When an interface first came into a state."""
        return next(told.at for told in self.told if (told.name, told.state) == (name, state))

    def polls(self, index: int, since: float, until: float) -> int:
        return len([1 for at, asked in self.asked if asked == index and since <= at < until])
