"""By how much the commands that ask the daemon keep its loop from other work."""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from nicwatchd.sim.ec2 import DaemonProcess, Ec2
from tests.bench import command, crowd, host, pinging
from tests.bench.figures import Figure, Limit
from tests.scenarios.commands import NICWATCHD

ENIS: Final = 16
ADDRESSES: Final = 10  # of each family
ROUNDS: Final = 5  # each with a new daemon: what a command costs only once counts, too
QUICK_ROUNDS: Final = 1
KEPT: Final = 0.005  # s, added
SETTLE: Final = 5.0  # s
PAUSE: Final = 0.2  # s
GLANCE: Final = 1.0  # s for which `watch` runs
SCRAPE: Final = "GET /metrics"
SCHEMA: Final = "GET /v1/openapi.json"
WATCH: Final = "watch"
# It has the loop itself look at everything, IMDS too, which is no other work than the daemon's own.
RECONCILE: Final = "reconcile"


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time, by the monotonic clock, in ns."""

    begin: int
    end: int


@dataclass(slots=True)
class Spans:
    """When each command ran, and beside each as long a time in which nothing did."""

    busy: dict[str, list[Span]] = field(default_factory=dict)
    rest: dict[str, list[Span]] = field(default_factory=dict)


def commands(ec2: Ec2, config: Path, files: Path) -> Mapping[str, list[str]]:
    """What an operator runs, by what it is called in the table. `history` asks no daemon."""
    source = str(ec2.eni("eth1").ipv4[0])
    own = ["--config", str(config)]
    lines = {
        "status": [],
        "status --json": [],
        "status eth1": [],
        "explain eth1": [],
        "explain --from --to": ["explain", "--from", source, "--to", "198.51.100.50", *own],
        "wait eth1": [],
        WATCH: [],
        "doctor": ["doctor", *own],
        "plan": ["plan", *own],
        "record": ["record", "--duration", "3", "--output", str(files / "recording"), *own],
        "bugreport": ["bugreport", "--output", str(files / "report"), *own],
        RECONCILE: [],
    }
    directory = ["--runtime-directory", str(ec2.vpc.runtime_dir)]
    return {name: [*(words or name.split()), *directory] for name, words in lines.items()}


async def measure(seed: int, *, quick: bool) -> list[Figure]:
    """Run each command once beside a program that asks for `GET /` each millisecond.

    Each round has another order, since the daemon has its own times for a long turn.

    A sample is the longest time for which the loop was kept from an answer while a command ran,
    less the longest in as long a time at rest; of each command, the median of all rounds counts.
    """
    scripts = [crowd.script(number, ADDRESSES) for number in range(1, ENIS + 1)]
    added: dict[str, list[float]] = {}
    rest: list[float] = []
    chance = random.Random(seed)
    async with host.host(*scripts) as ec2:
        await crowd.plug_all(ec2, scripts)
        for _ in range(QUICK_ROUNDS if quick else ROUNDS):
            daemon = await ec2.start_daemon()
            await crowd.all_applied(daemon, ENIS)
            await command.ready(daemon)
            await asyncio.sleep(SETTLE)
            spans = Spans()
            async with _pinging(daemon) as asked:
                await _run_all(ec2, daemon, spans, chance)
            await daemon.stop()
            for name, its in spans.busy.items():
                pairs = zip(its, spans.rest[name], strict=True)
                added.setdefault(name, []).extend(
                    asked.longest(busy) - asked.longest(quiet) for busy, quiet in pairs
                )
            rest += [asked.longest(span) for its in spans.rest.values() for span in its]
    return _figures(added, rest)


def _figures(added: Mapping[str, Sequence[float]], rest: Sequence[float]) -> list[Figure]:
    medians = {name: statistics.median(its) for name, its in added.items()}
    reconcile = medians.pop(RECONCILE)
    most = max(medians, key=lambda name: medians[name])
    what = f"{ENIS} ENIs with {2 * ADDRESSES} addresses: the loop is kept from other work"
    return [
        Figure(
            f"{what} by a command, {len(medians)} commands",
            list(medians.values()),
            limits=(Limit("max", KEPT),),
            show=("median",),
            note=f"the most by `{most}`",
            details={"added": {name: list(its) for name, its in added.items()}},
        ),
        Figure(f"{what} by `reconcile`, which has it look at everything", [reconcile]),
        Figure(f"{what} by itself, at rest", rest, show=("median", "max")),
    ]


async def _run_all(ec2: Ec2, daemon: DaemonProcess, spans: Spans, chance: random.Random) -> None:
    with tempfile.TemporaryDirectory() as directory:
        lines = commands(ec2, daemon.config, Path(directory))
        names = [*lines, SCRAPE, SCHEMA]
        chance.shuffle(names)
        for name in names:
            begin = time.monotonic_ns()
            if name in lines:
                await _run(ec2, name, lines[name])
            else:
                await _get(daemon, name.split()[1])
            await _note(spans, name, begin)


async def _note(spans: Spans, name: str, begin: int) -> None:
    """Note the time of a command that began then and ends now, and rest for as long."""
    busy = Span(begin, time.monotonic_ns())
    await asyncio.sleep(PAUSE)
    begin = time.monotonic_ns()
    await asyncio.sleep((busy.end - busy.begin) / 1e9)
    spans.busy.setdefault(name, []).append(busy)
    spans.rest.setdefault(name, []).append(Span(begin, time.monotonic_ns()))
    await asyncio.sleep(PAUSE)


async def _run(ec2: Ec2, name: str, words: Sequence[str]) -> None:
    process = await ec2.vpc.popen(ec2.vpc.host, *NICWATCHD, *words, stdout=DEVNULL, stderr=PIPE)
    if name == WATCH:
        await asyncio.sleep(GLANCE)
        process.terminate()
    _, complaint = await process.communicate()
    if process.returncode and name != WATCH:
        raise RuntimeError(f"{name}: {process.returncode}: {complaint.decode()}")


async def _get(daemon: DaemonProcess, path: str) -> None:
    connector = aiohttp.UnixConnector(str(daemon.socket))
    async with (
        aiohttp.ClientSession("http://nicwatchd", connector=connector) as session,
        session.get(path) as response,
    ):
        response.raise_for_status()
        await response.read()


class Asked:
    """What the program found; complete once it has ended."""

    def __init__(self) -> None:
        self._began: list[int] = []  # of each question
        self._kept: list[int] = []

    def take(self, text: str) -> None:
        """Take what it printed."""
        for line in text.splitlines():
            began, kept = map(int, line.split())
            self._began.append(began)
            self._kept.append(kept)

    def longest(self, span: Span) -> float:
        """For how many seconds at the most the loop was kept from an answer in that time."""
        first = max(0, bisect_right(self._began, span.begin) - 1)  # it may have been on its way
        return max(self._kept[first : bisect_left(self._began, span.end)]) / 1e9


@asynccontextmanager
async def _pinging(daemon: DaemonProcess) -> AsyncIterator[Asked]:
    words = (sys.executable, pinging.__file__, str(daemon.socket), str(daemon.process.pid))
    process = await asyncio.create_subprocess_exec(*words, stdout=PIPE)
    asked = Asked()
    try:
        assert process.stdout is not None, "a pipe"
        if await process.stdout.readline() != b"connected\n":
            raise RuntimeError("it could not connect")
        yield asked
    finally:
        if process.returncode is None:
            process.terminate()
        out, _ = await process.communicate()
    asked.take(out.decode())
