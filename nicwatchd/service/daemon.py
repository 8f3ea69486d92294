"""The loop: wait for something, look, decide, carry out, read back, tell.

Everything that happens comes through one inbox: netlink events, IMDS's answers, signals, requests
of the control socket. One task takes it out, so nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from nicwatchd import __version__
from nicwatchd.core.host import Failure, Host
from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import AddAddress, Operation
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Event, EventSource, Kernel, KernelError, Result
from nicwatchd.core.releases import Releases
from nicwatchd.imds.client import ImdsClient
from nicwatchd.service import journal, systemd
from nicwatchd.service.counts import Counts
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.offline_release import Released
from nicwatchd.service.outcomes import describe, explain, verb
from nicwatchd.service.questions import PrimaryHeard, Questions, Reading
from nicwatchd.service.requests import NewPolicy, Reconcile, Release, Wake, key_of
from nicwatchd.service.shadows import look_for_shadows
from nicwatchd.service.status import (
    HostStatus,
    ImdsStatus,
    InterfaceStatus,
    headline,
    of_interface,
)
from nicwatchd.service.world import World

HEARTBEAT: Final = 5.0  # the loop moves at least so often; WatchdogSec is several times that
STUCK: Final = 30.0  # a pass, or a question to IMDS, that takes longer is stuck
ROUNDS: Final = 4  # of deciding and carrying out before what still differs waits a moment
RETRY_FIRST, RETRY_CAP = 0.1, 5.0  # seconds between tries at what the kernel did not accept
KERNEL_PAUSE: Final = 1.0  # after the kernel did not answer
REST_CAP: Final = 1.0  # seconds between two looks, at the most
UDEV_POLL: Final = 0.1  # the database has no event of its own that we could hear


Item = Wake | Event | Reading | PrimaryHeard | NewPolicy | Reconcile | Release


class Daemon:
    """The service of one host. `run` returns after `stop`."""

    def __init__(  # the parts of the service, each made by the caller
        self,
        policy: Policy,
        kernel: Kernel,
        events: EventSource,
        imds: ImdsClient,
        ledger: Ledger,
        send: journal.Sink,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._kernel = kernel
        self._events = events
        self._imds = imds
        self._send = send
        self.host = Host(policy, random.random)
        self.host.releases = ledger.releases
        self._ledger = ledger
        self._world = World(kernel, self.host, ledger, clock)
        self._inbox: asyncio.Queue[Item] = asyncio.Queue()
        self._questions = Questions(imds, self._inbox.put_nowait, clock)
        self._stopping = asyncio.Event()
        self._due = clock()  # when to look next
        self._rested = clock()  # when an event may make us look again
        self._news = False  # something was taken that the next look is for
        self._retry = RETRY_FIRST
        self._moved = clock()  # when the loop last got through
        self._waiting: list[Reconcile] = []
        self._transitions: Counter[State] = Counter()
        self._operations: Counter[tuple[str, Result]] = Counter()
        self._releasing: list[Release] = []
        self._imds_state = ""
        self._trouble = ""
        self.started = time.time()
        self._listeners: list[Callable[[InterfaceStatus], None]] = []

    # --- the loop ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until stopped. READY comes after the first look, and does not wait for IMDS."""
        self._events.start(self._inbox.put_nowait)
        self._send(journal.STARTED, f"nicwatchd {__version__} started", journal.INFO, {})
        try:
            await self._turn()
            self._ask(self._clock())
            systemd.notify(ready=True, status=headline(self.host.interfaces.values()))
            while not self._stopping.is_set():
                await self._wait()
                if self._clock() >= self._due:
                    await self._turn()
                self._ask(self._clock())
                self._answer_waiting()
        finally:
            self._events.close()
            await self._questions.close()
            self._send(journal.STOPPED, "nicwatchd stopped", journal.INFO, {})

    def stop(self) -> None:
        """End after the turn that is under way: a plan that was begun is finished."""
        self._stopping.set()
        self._inbox.put_nowait(Wake())

    def put(self, item: Item) -> None:
        """Hand the loop something to do."""
        self._inbox.put_nowait(item)

    async def reconcile(self, interface: str | None = None) -> None:
        """Look at everything anew; returns when IMDS's answers were used.

        Takes up what was released, or of that one interface only. Raises UnknownInterfaceError,
        and OSError where that cannot be noted.
        """
        only = key_of(interface, self.status().interfaces)
        request = Reconcile(only, asyncio.get_running_loop().create_future())
        self._inbox.put_nowait(request)
        await request.done

    async def release(self, interface: str | None = None) -> Released:
        """Take all that is ours away, of one interface or of the host, and leave it alone.

        Raises UnknownInterfaceError, and OSError where that cannot be noted: then nothing is done.
        """
        only = key_of(interface, self.status().interfaces)
        request = Release(only, asyncio.get_running_loop().create_future())
        self._inbox.put_nowait(request)
        return await request.done

    def subscribe(self, listener: Callable[[InterfaceStatus], None]) -> Callable[[], None]:
        """Call `listener` with the status at each transition or fight; the answer ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def _wait(self) -> None:
        """Until something arrives or is due; then take all that is there."""
        poll = self.host.next_poll()
        until = self._due if poll is None else min(self._due, poll)
        timeout = max(0.0, until - self._clock())
        with contextlib.suppress(TimeoutError):
            self._take(await asyncio.wait_for(self._inbox.get(), timeout))
        while not self._inbox.empty():
            self._take(self._inbox.get_nowait())

    def _take(self, item: Item) -> None:
        now = self._clock()
        delay: float | None = 0.0
        match item:
            case Wake():
                delay = None
            case Reading():
                new = self.host.hear(item.index, item.mac, item.metadata, now)
                delay = 0.0 if new else None
            case PrimaryHeard():
                self.host.hear_primary(item.answer)
            case NewPolicy():
                self.host.set_policy(item.policy)
                self._world.forget()
            case Reconcile(only=only):
                if self._note(item, self.host.releases.minus(only)):
                    self.host.poll_all(now)
                    self._waiting.append(item)
            case Release(only=only):
                if self._note(item, self.host.releases.plus(only)):
                    self._releasing.append(item)
            case _:
                delay = self._world.note(item)
        if delay is not None:
            self._news = True
            self._due = min(self._due, max(now + delay, self._rested))

    def _note(self, item: Reconcile | Release, releases: Releases) -> bool:
        """Leave this alone, and look at everything; whether that could be noted."""
        try:
            self._ledger.keep_releases(releases)
        except OSError as error:
            if not item.done.done():
                item.done.set_exception(error)
            return False
        self.host.releases = releases
        self._world.forget()
        return True

    async def _turn(self) -> None:
        """One whole pass, and the arrangements for the next.

        On a host where a look takes long, and events come without an end, one rests between looks
        for as long as they take: there are other things to do.
        """
        began, self._news = self._clock(), False
        try:
            settled = await self._pass()
        except KernelError as error:
            self._trouble_with_kernel(str(error))
            self._world.forget()
            self._moved = self._clock()
            self._due = self._moved + KERNEL_PAUSE
            self._feed_watchdog()
            return
        self._trouble = ""
        self._answer_releasing()
        self._moved = now = self._clock()
        self._rested = now + min(now - began, REST_CAP)
        deadline = self.host.next_deadline(now)
        self._due = now + HEARTBEAT if deadline is None else min(deadline, now + HEARTBEAT)
        if not settled:
            self._due = min(self._due, now + self._retry)
        self._retry = RETRY_FIRST if settled else min(self._retry * 2, RETRY_CAP)
        if any(interface.waits_for_udev for interface in self.host.interfaces.values()):
            self._due = min(self._due, now + UDEV_POLL)
        self._feed_watchdog()

    def _feed_watchdog(self) -> None:
        """Unless a part is stuck: a restart helps that, but not a kernel that refuses."""
        systemd.notify(watchdog=not self._stuck(), status=headline(self.host.interfaces.values()))

    async def _pass(self) -> bool:
        """Look, decide, carry out, and read back; whether the kernel is now as planned."""
        wrote = False
        before: Sequence[Operation] = ()
        for _ in range(ROUNDS):
            await self._world.refresh()
            operations = self.host.decide(self._clock())
            self._publish()
            if not operations or operations == before:
                break
            await self._carry_out(operations)
            before, wrote = operations, True
        shadowed = any(interface.shadows for interface in self.host.interfaces.values())
        if wrote or self._world.rules_changed or shadowed:
            self._world.rules_changed = False
            await look_for_shadows(self._kernel, self.host)
        return not operations

    async def _carry_out(self, operations: Sequence[Operation]) -> None:
        unnoted: list[Failure] = []
        try:
            self._world.about_to_run(operations)
        except OSError as error:
            # Without the note an address could not be told from others': rather none than that.
            text = f"the ledger cannot be written: {error.strerror}"
            additions = [o for o in operations if isinstance(o, AddAddress)]
            unnoted = [Failure(o, describe(o, text)) for o in additions]
            operations = [o for o in operations if not isinstance(o, AddAddress)]
        outcomes = await self._kernel.run(operations)
        for request in self._releasing:
            request.outcomes.extend(outcomes)
        self._world.touched(operations)
        self._operations.update((verb(o.operation), o.result) for o in outcomes)
        bad = (outcome for outcome in outcomes if outcome.result not in (Result.DONE, Result.GONE))
        self.host.failed([*unnoted, *[await explain(outcome, self._kernel) for outcome in bad]])

    # --- IMDS --------------------------------------------------------------------------------

    def _ask(self, now: float) -> None:
        """Put the questions that are due, and drop those of interfaces that are gone."""
        self._questions.keep_only({i.key for i in self.host.interfaces.values()})
        if self.host.interfaces and not isinstance(self.host.primary_mac, Value):
            self._questions.ask_primary()
        for interface, sweep in self.host.polls_due(now):
            self._questions.ask(interface.link.index, interface.link.mac, sweep=sweep)

    def _answer_waiting(self) -> None:
        """Reconcile requests are answered once no question is open, and all answers are used."""
        interfaces = self.host.interfaces.values()
        if not self._news and not any(interface.polling.in_flight for interface in interfaces):
            for request in self._waiting:
                if not request.done.done():
                    request.done.set_result(None)
            self._waiting.clear()

    def _answer_releasing(self) -> None:
        """Release requests are answered after the pass that did it."""
        for request in self._releasing:
            if not request.done.done():
                request.done.set_result(Released.of(request.outcomes))
        self._releasing.clear()

    # --- telling -----------------------------------------------------------------------------

    def _publish(self) -> None:
        for interface, transition in self.host.transitions():
            self._transitions[transition.state] += 1
            status = of_interface(interface, self._epoch)
            journal.write_transition(self._send, transition, status)
            self._tell(status)
        for interface, began in self.host.fights():
            status = of_interface(interface, self._epoch)
            journal.write_fight(self._send, status, began=began)
            self._tell(status)
        condition = self._imds.condition
        if condition.state not in (self._imds_state, "unasked"):
            priority = journal.INFO if condition.state == "ok" else journal.WARNING
            fields = {"NICWATCHD_IMDS": condition.state}
            self._send(journal.IMDS_CHANGED, str(condition), priority, fields)
            self._imds_state = condition.state

    def _tell(self, status: InterfaceStatus) -> None:
        for listener in self._listeners:
            listener(status)

    def _trouble_with_kernel(self, text: str) -> None:
        if text != self._trouble:
            self._trouble = text
            message = f"the kernel did not answer as agreed: {text}; looking again"
            self._send(journal.KERNEL_TROUBLE, message, journal.WARNING, {})

    @property
    def _epoch(self) -> float:
        """The Unix time at the monotonic clock's 0, by the time of day as it is set now."""
        return time.time() - self._clock()

    def status(self) -> HostStatus:
        """Everything that can be said now."""
        host, condition = self.host, self._imds.condition
        return HostStatus(
            version=__version__,
            pid=os.getpid(),
            started=self.started,
            primary_mac=host.primary_mac.value if isinstance(host.primary_mac, Value) else None,
            container_network=host.container_network,
            imds=ImdsStatus(
                state=condition.state,
                detail=condition.detail,
                endpoint=condition.endpoint,
                requests=self._imds.requests,
            ),
            problems=self.problems(),
            released=host.releases.everything,
            surprises=host.surprises,
            interfaces=[of_interface(i, self._epoch) for _, i in sorted(host.interfaces.items())],
        )

    def counts(self) -> Counts:
        """What was counted since the start."""
        return Counts(
            transitions=self._transitions,
            heals=self.host.heals,
            operations=self._operations,
            imds=self._imds.outcomes,
            overruns=self._world.overruns,
            since_pass=self._clock() - self._moved,
        )

    def problems(self) -> list[str]:
        """What is wrong with the daemon itself; none means that all parts have moved lately."""
        return ([f"kernel: {self._trouble}"] if self._trouble else []) + self._stuck()

    def _stuck(self) -> list[str]:
        """The parts that have not moved for too long."""
        now = self._clock()
        problems = []
        if now - self._moved > STUCK:
            problems.append(f"the loop has not moved for {now - self._moved:.0f} s")
        oldest = self._questions.oldest()
        if oldest is not None and now - oldest > STUCK:
            problems.append(f"a question to IMDS is open for {now - oldest:.0f} s")
        return problems
