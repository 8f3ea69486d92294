"""The loop: wait for an event, take a turn, ask IMDS, answer requests that are done.

Everything arrives in one inbox: netlink events, answers from IMDS, signals, requests from the
control socket. One task reads it, so nothing here needs a lock. The core decides what to do, and
when the next turn is due: `nicwatchd.core.turn`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Final

from nicwatchd import __version__
from nicwatchd.core import asking
from nicwatchd.core.host import Host
from nicwatchd.core.model import IPAddress
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Event, EventSource, Kernel, KernelError
from nicwatchd.core.releases import Releases
from nicwatchd.core.steps import Applied, Apply, MacsReading, PrimaryReading, Reading
from nicwatchd.core.turn import Request, Turn
from nicwatchd.imds.client import ImdsClient
from nicwatchd.service import journal, systemd
from nicwatchd.service.clock import Sleep, now
from nicwatchd.service.counts import Counters, Counts, InUse
from nicwatchd.service.detour import HostDetour
from nicwatchd.service.driver import Driver
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.questions import Questions
from nicwatchd.service.released import Released
from nicwatchd.service.reporting import Reporting
from nicwatchd.service.requests import NewPolicy, Reconcile, Release, Wake, key_of
from nicwatchd.service.status import HostStatus, headline
from nicwatchd.service.telling import (
    ImdsChanged,
    KernelTrouble,
    Observer,
    Reported,
    Resumed,
    Started,
    Stopped,
    Teller,
)

STUCK: Final = 30.0  # seconds after which a turn, or a request to IMDS, counts as stuck

Item = Wake | Event | Reading | PrimaryReading | MacsReading | NewPolicy | Reconcile | Release


class Daemon:
    """The service of one host. `run` returns after `stop`."""

    def __init__(  # the caller creates each part
        self,
        policy: Policy,
        kernel: Kernel,
        events: EventSource,
        imds: ImdsClient,
        ledger: Ledger,
        send: journal.Sink,
        clock: Callable[[], float] = now,
        slept: Callable[[], float] | None = None,
    ) -> None:
        self._clock = clock
        self._slept = slept or Sleep()
        self._kernel = kernel
        self._events = events
        self._imds = imds
        self._ledger = ledger
        self.turn = Turn(policy, random.random, clock())
        self.turn.host.releases = ledger.releases
        self.turn.host.recall(ledger.floating)
        self._driver = Driver(kernel, ledger)
        imds.detour = HostDetour(self.turn.host, kernel)
        self._inbox: asyncio.Queue[Item] = asyncio.Queue()
        self._questions = Questions(imds, self._inbox.put_nowait, clock)
        self._stopping = asyncio.Event()
        self._waiting: list[tuple[Reconcile | Release, Request]] = []
        self._last_turn = clock()  # when the last turn ended
        self._imds_state: tuple[str, str | None] = ("unasked", None)  # and the link bound to
        self._trouble = ""
        self._teller = Teller(clock)
        self._counters = Counters()
        self._teller.subscribe(self._counters.observe)
        self._teller.subscribe(journal.Journal(send).observe)
        started = time.time()
        self._settings = InUse(started)
        self.reporting = Reporting(
            self.turn, imds, self._counters, started, lambda: self._teller.epoch
        )

    @property
    def host(self) -> Host:
        """What the core knows about the host."""
        return self.turn.host

    # --- the loop ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until stopped. Sends READY after the first turn, without waiting for IMDS."""
        self._events.start(self._inbox.put_nowait)
        self._report(Started(__version__))
        try:
            await self._take_turn()
            self._counters.is_running = True
            self._ask()
            systemd.notify(ready=True, status=headline(self.host.interfaces.values()))
            while not self._stopping.is_set():
                await self._wait()
                if self.turn.is_due(self._clock()):
                    await self._take_turn()
                self._ask()
                self._answer()
        finally:
            self._events.close()
            await self._questions.close()
            self._report(Stopped())

    def stop(self) -> None:
        """Stop after the current turn, so that a plan is never left half applied."""
        self._stopping.set()
        self._inbox.put_nowait(Wake())

    def put(self, item: Item) -> None:
        """Put an item into the inbox."""
        self._inbox.put_nowait(item)

    def use(self, policy: Policy) -> None:
        """Use new settings."""
        self._settings = InUse(time.time())
        self.put(NewPolicy(policy))

    def keep_settings(self, why: str) -> None:
        """The files have other settings, which cannot be used. It is a problem until mended."""
        self._settings = replace(self._settings, failed=why)

    async def _take_turn(self) -> None:
        """Carry out the steps of one turn."""
        turn = self.turn
        turn.start(self._clock())
        try:
            while turn.step:
                self._events.heed(turn.picture.heeded)
                self._events.drop_echoes(self._kernel.port_id)
                answer = await self._driver.carry_out(turn.step)
                if isinstance(answer, Applied):
                    self._counters.count_outcomes(answer.outcomes)
                turn.answer(answer, self._clock())
                self.reporting.changed()
                if not isinstance(turn.step, Apply):  # what is written comes first
                    self._tell()
            self._trouble = ""
        except KernelError as error:
            turn.fail(self._clock())
            self.reporting.changed()
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._report(KernelTrouble(self._trouble))
        self._ledger.try_floating(self.host.records)  # again after the next turn, if need be
        self._last_turn = self._clock()
        # Not fed while a part is stuck, because a restart can fix that. A restart does not help
        # against a kernel that refuses requests.
        status = headline(self.host.interfaces.values())
        systemd.notify(watchdog=not self._stuck(), status=status)

    async def _wait(self) -> None:
        """Wait until an item arrives or a turn is due; then take all items in the inbox."""
        timeout = max(0.0, self.turn.next_at().at - self._clock())
        items: list[Item] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):  # without a task of its own, unlike wait_for
                items.append(await self._inbox.get())
        while not self._inbox.empty():
            items.append(self._inbox.get_nowait())
        if slept := self._slept():  # and anything may have changed without an event
            self._report(Resumed(slept))
            self._questions.ask_afresh()
            asking.poll_all(self.host, self._clock())
            self.turn.look_at_everything(self._clock())
        for item in items:
            self._guard("taking what happened", partial(self._take, item))
        self.reporting.changed()
        self._tell()

    def _guard(self, where: str, work: Callable[[], None]) -> None:
        """Do a part of the work. What it raises is a bug that costs this part, and no other."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 (a daemon that is gone serves nobody)
            self.host.caught(None, where, error)

    def _take(self, item: Item) -> None:
        now = self._clock()
        match item:
            case Wake():
                pass
            case Reading() | PrimaryReading() | MacsReading():
                self.turn.take_reading(item, now)
            case NewPolicy(policy=policy):
                self.turn.set_policy(policy, now)
                if self._questions.ask_afresh():
                    asking.poll_all(self.host, now)
            case Reconcile(only=only):
                self._questions.ask_afresh()
                if self._record(item, self.host.releases.minus(only)):
                    self._waiting.append((item, self.turn.reconcile(only, now, item.adopt)))
            case Release(only=only):
                if self._record(item, self.host.releases.plus(only)):
                    self._waiting.append((item, self.turn.release(only, now)))
            case _:
                by_us = getattr(item, "pid", 0) == self._kernel.port_id
                self.turn.take_event(item, now, by_us=by_us)

    def _record(self, item: Reconcile | Release, releases: Releases) -> bool:
        """Record what is released from now on; whether that succeeded."""
        try:
            self._ledger.keep_releases(releases)
        except OSError as error:
            if not item.done.done():
                item.done.set_exception(error)
            return False
        return True

    def _ask(self) -> None:
        """Send the requests to IMDS that are due, and drop those for interfaces that are gone."""
        self._questions.ask_due(self.turn.host, self._clock(), primary=self.turn.asks_primary)

    # --- requests ----------------------------------------------------------------------------

    async def reconcile(
        self, interface: str | None = None, adopt: Iterable[IPAddress] = ()
    ) -> None:
        """Re-read everything; returns once the answers from IMDS have been used.

        Manages again what was released, or only that one interface. Raises UnknownInterfaceError,
        and OSError if that cannot be recorded.
        """
        only = key_of(interface, self.status().interfaces)
        request = Reconcile(only, asyncio.get_running_loop().create_future(), frozenset(adopt))
        self._inbox.put_nowait(request)
        await request.done

    async def release(self, interface: str | None = None) -> Released:
        """Remove everything we configured, for one interface or the host, and leave it alone.

        Raises UnknownInterfaceError, and OSError if that cannot be recorded: nothing is done then.
        """
        only = key_of(interface, self.status().interfaces)
        request = Release(only, asyncio.get_running_loop().create_future())
        self._inbox.put_nowait(request)
        return await request.done

    def _answer(self) -> None:
        """Answer the requests whose revision has been reached."""
        for item, request in self._waiting:
            if not self.turn.is_reached(request) or item.done.done():
                continue
            if isinstance(item, Release):
                item.done.set_result(Released.of(request.outcomes, self.host.name_of))
            else:
                item.done.set_result(None)
        self._waiting = [each for each in self._waiting if not each[0].done.done()]

    # --- reports -----------------------------------------------------------------------------

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Call this observer for each event; returns a function that unsubscribes it."""
        return self._teller.subscribe(observer)

    def _report(self, news: Reported) -> None:
        self._guard("telling", partial(self._teller.tell, news))

    def _tell(self) -> None:
        for news in self.turn.news():
            self._report(news)
        condition = self._imds.condition
        state = (condition.state, condition.device)
        if state != self._imds_state:
            self._imds_state = state
            self._report(ImdsChanged(condition))

    def status(self) -> HostStatus:
        """The current status of the host."""
        return self.reporting.status(self.problems(), self._settings.failed or None)

    def counts(self) -> Counts:
        """The counters since the start."""
        return self.reporting.counts(self._settings, self._clock() - self._last_turn)

    def problems(self) -> list[str]:
        """What is wrong with the daemon itself. Empty: nothing, and every part makes progress."""
        kernel = self._trouble and f"kernel: {self._trouble}"
        bug = self.turn.broken and f"internal error: {self.turn.broken}"
        told = (kernel, bug, self._settings.failed, self._ledger.trouble)
        return [*filter(None, told), *self._stuck()]

    def _stuck(self) -> list[str]:
        """The parts that have made no progress for too long."""
        return stuck(self._clock(), self._last_turn, self._questions.oldest())


def stuck(at: float, last_turn: float, oldest: float | None) -> list[str]:
    """What has made no progress for too long. `oldest`: when the oldest question was asked."""
    problems = []
    if at - last_turn > STUCK:
        problems.append(f"the loop has made no progress for {at - last_turn:.0f} s")
    if oldest is not None and at - oldest > STUCK:
        problems.append(f"a request to IMDS has taken {at - oldest:.0f} s so far")
    return problems
