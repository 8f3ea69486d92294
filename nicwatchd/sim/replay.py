"""Replays a recording: the turn of the daemon, on a kernel in memory, in invented time.

    python -m nicwatchd.sim.replay FILE       (make replay FILE=...)

Prints each interface's states with their times, and compares them with what the daemon said while
the recording was made. The exit code is 1 where they are not the same, and 2 for a bad file.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Final

from nicwatchd.core.lifecycle import Transition
from nicwatchd.core.metadata import Value
from nicwatchd.core.model import Ruleset
from nicwatchd.core.news import HealthChanged, StateChanged
from nicwatchd.core.port import Event
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
from nicwatchd.core.turn import Turn
from nicwatchd.core.view import View
from nicwatchd.imds.eni import EniReader
from nicwatchd.recording.format import RecordingError, Said
from nicwatchd.sim import fast_clock
from nicwatchd.sim.compare import Replayed, objects_of, phases_of, report
from nicwatchd.sim.memory_kernel import FakeKernel
from nicwatchd.sim.recorded import KernelSteps, RecordedImds, Recording, load

# s beyond the end: what the recorder learned of IMDS at last is still to be asked for.
AFTER: Final = 1.0
WAITING: Final = 0.1  # s between two questions for the primary's MAC, until IMDS answers
ROUND_TRIP: Final = 0.002  # s, of a question to IMDS

Item = Event | Reading | PrimaryReading | MacsReading | None


def replay(recording: Recording) -> Replayed:
    """The states of each interface, as the turn goes through them on what was recorded."""

    async def run() -> Replayed:
        return await _Replay(recording).run()

    return fast_clock.run(run())


class _Replay:
    """One replay, in the loop whose time is invented."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        self._kernel = FakeKernel()
        self._events = self._kernel.events()
        self._steps = KernelSteps(recording, self._kernel)
        self._imds = RecordedImds(recording, self._clock)
        self._inbox: asyncio.Queue[Item] = asyncio.Queue()
        self._said: list[tuple[float, Said]] = []
        self._last: dict[str, Transition] = {}  # by MAC
        self._readers: dict[tuple[int, str], EniReader] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn: Turn

    async def run(self) -> Replayed:
        """Replay all of it."""
        world = asyncio.create_task(self._world())
        try:
            await asyncio.sleep(self._recording.daemon_since or 0.0)
            header = self._recording.header
            self._turn = Turn(header.policy, lambda: 0.0, self._clock(), strict=True)
            self._turn.host.releases = header.releases
            self._events.start(self._inbox.put_nowait)
            while not world.done():
                await self._once()
            await world
        finally:
            for task in (world, *self._tasks):
                task.cancel()
            await asyncio.gather(world, *self._tasks, return_exceptions=True)
        kernel = self._kernel
        addresses = [each for on in (await kernel.all_addresses()).values() for each in on]
        objects = objects_of((*addresses, *await kernel.own_routes(), *await kernel.rules()))
        return Replayed(phases_of(self._said, self._recording.duration + AFTER), objects)

    async def _world(self) -> None:
        """Let happen what was recorded, each thing at its time."""
        lines = (line for line in self._recording.lines if line.is_of_kernel or line.outside)
        for at, now in groupby(lines, lambda line: line.t):
            await asyncio.sleep(at - self._clock())
            await self._steps.take(now)
        await asyncio.sleep(self._recording.duration + AFTER - self._clock())
        self._inbox.put_nowait(None)

    # --- the loop, as the daemon has it --------------------------------------------------------

    async def _once(self) -> None:
        if self._turn.is_due(self._clock()):
            await self._take_turn()
        self._ask()
        timeout = max(0.0, self._turn.next_at().at - self._clock())
        items: list[Item] = []
        with suppress(TimeoutError):
            items.append(await asyncio.wait_for(self._inbox.get(), timeout))
        while not self._inbox.empty():
            items.append(self._inbox.get_nowait())
        for item in items:
            self._take(item)
        self._tell()

    def _take(self, item: Item) -> None:
        match item:
            case None:
                pass
            case Reading() | PrimaryReading() | MacsReading():
                self._turn.take_reading(item, self._clock())
            case event:
                by_us = getattr(event, "pid", 0) == self._kernel.port_id
                self._turn.take_event(event, self._clock(), by_us=by_us)

    async def _take_turn(self) -> None:
        turn = self._turn
        turn.start(self._clock())
        while turn.step:
            self._events.heed(turn.picture.heeded)
            turn.answer(await self._carry_out(turn.step), self._clock())
            self._tell()

    def _tell(self) -> None:
        for news in self._turn.news():
            if isinstance(news, StateChanged):
                self._said.append((news.transition.at, _said(news.view, news.transition)))
                self._last[news.view.link.mac] = news.transition
            elif isinstance(news, HealthChanged):
                last = self._last[news.view.link.mac]
                self._said.append((news.at, _said(news.view, last)))

    # --- its steps -----------------------------------------------------------------------------

    async def _carry_out(self, step: Step) -> StepAnswer:
        kernel = self._kernel
        match step:
            case ReadLinks(indices=indices):
                links = await kernel.links()
                chosen = links if indices is None else links.keys() & indices
                return LinksRead({index: links[index] for index in chosen})
            case ReadObjects():
                return await self._read_objects(step)
            case Apply(operations=operations):
                return Applied(tuple(await kernel.run(operations)))
            case LookUp(probes=probes):
                asked = [(each.src, each.dst, each.oif) for each in probes]
                return LookedUp(tuple(await kernel.route_gets(asked)))

    async def _read_objects(self, step: ReadObjects) -> ObjectsRead:
        kernel, outside = self._kernel, self._steps.outside
        indices = [index for index, _ in step.links]
        text = await kernel.ruleset()
        ruleset = Ruleset(text if isinstance(text, str) else None, outside.nft)
        return ObjectsRead(
            addresses={index: await kernel.addresses(index) for index in indices},
            routes={index: await kernel.link_routes(index) for index in indices},
            everywhere=await kernel.all_addresses() if step.everywhere else None,
            own=await kernel.own_routes() if step.own else None,
            rules=await kernel.rules() if step.rules else None,
            tables={table: await kernel.table_routes(table) for table in step.tables},
            hosts=await kernel.host_routes(step.hosts) if step.hosts else None,
            closed=None if step.closed is None else await kernel.closed_main(step.closed),
            defaults=await kernel.defaults() if step.defaults else None,
            ruleset=ruleset if step.ruleset else None,
            udev_done=step.udev & outside.udev_done,
            managers={index: outside.managers.get(index, "") for index in step.marked},
            clients={index: outside.clients.get(index, "") for index in step.marked},
            multus=outside.multus if step.cni else None,
            published=outside.published if step.published else None,
            strict={index: index in outside.strict for index in step.filtered},
        )

    # --- questions to IMDS ---------------------------------------------------------------------

    def _ask(self) -> None:
        now, turn = self._clock(), self._turn
        self._readers = {k: r for k, r in self._readers.items() if k in turn.host.keys}
        if turn.asks_primary and "primary" not in {task.get_name() for task in self._tasks}:
            self._start(self._ask_primary(), "primary")
        if turn.host.unlinked.asks(now, turn.host.policy):
            self._start(self._ask_macs(), "macs")
        for question in turn.questions(now):
            self._start(self._ask_of_eni(question), "eni")

    def _start(self, asking: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(asking, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask_primary(self) -> None:
        answer = await self._imds.primary_mac()
        self._inbox.put_nowait(PrimaryReading(answer))
        await asyncio.sleep(ROUND_TRIP if isinstance(answer, Value) else WAITING)

    async def _ask_macs(self) -> None:
        await asyncio.sleep(ROUND_TRIP)
        self._inbox.put_nowait(MacsReading(await self._imds.macs()))

    async def _ask_of_eni(self, question: Question) -> None:
        await asyncio.sleep(ROUND_TRIP)
        key = (question.index, question.mac)
        reader = self._readers.setdefault(key, EniReader(self._imds, question.mac))
        metadata = await reader.poll(depth=question.depth, named=question.named)
        self._inbox.put_nowait(Reading(*key, metadata))


def _said(view: View, last: Transition) -> Said:
    """What the daemon would say of an interface; `last` is its last transition."""
    health = {family.label.lower(): str(each.health) for family, each in view.health.items()}
    return Said(
        mac=view.link.mac,
        name=view.link.name,
        state=last.state,
        reasons=tuple(sorted({reason.code for reason in last.reasons})),
        overdue=last.overdue,
        health=health,
    )


def main(argv: list[str]) -> int:
    """Replay the file that is named; returns the exit code."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m nicwatchd.sim.replay FILE\n")
        return 2
    try:
        recording = load(Path(argv[0]))
    except (RecordingError, OSError) as error:
        sys.stderr.write(f"replay: {error}\n")
        return 2
    lines, same = report(recording, replay(recording))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
