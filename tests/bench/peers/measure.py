"""One observation of a host from outside: TCP probes, IMDS's log, the guest's CPU counters."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, Self

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim.probe import Path, Watch, watch_primary
from tests.bench.peers import judge
from tests.vm.host import VmHost

# s between two connections on a path: sixteen to the ENI, two to the primary. Each costs an
# emulated host about 4 ms of a core.
PROBES: Final = 0.5
PROBES_PRIMARY: Final = 0.25
SAMPLES: Final = 3.0  # s between two reads of the CPU counters

# All processes so far, including short-lived ones; then those that only the benchmark runs. Not the
# root's counter, which counts ticks, and emulation loses some of them.
CGROUPS: Final = "/sys/fs/cgroup"
SLICES: Final = tuple(f"{CGROUPS}/{name}/cpu.stat" for name in ("init.scope", "system.slice"))
OWN_UNITS: Final = tuple(
    f"{CGROUPS}/system.slice/{unit}.service/cpu.stat"
    for unit in ("answer", "qemu-guest-agent", "journal-stream")
)

Found = dict[str, Any]  # as in the JSON; times in s, None: never


class Observation:
    """`async with Observation(host) as seen`: the primary is watched, the CPU counters are read.

    `begin` sets the start of all times; read the results after the end.
    """

    def __init__(self, host: VmHost) -> None:
        self._host = host
        self._stack = AsyncExitStack()
        self._watches: list[Watch] = []
        self._over = asyncio.Event()
        self._cpu: list[tuple[float, float]] = []

    async def __aenter__(self) -> Self:
        self._primary = watch_primary(self._host.vpc, PROBES_PRIMARY)
        await self._stack.enter_async_context(self._primary)
        self._cpu.append(await cpu(self._host))
        self._task = asyncio.create_task(self._sample())
        self.begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = time.monotonic()
        self._over.set()
        await self._task
        await self._stack.aclose()

    async def _sample(self) -> None:
        """Sample until the end, and once more. Not cancelled: that would leave an answer unread."""
        while not self._over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), SAMPLES)
            self._cpu.append(await cpu(self._host))

    def begin(self, at: float | None = None) -> None:
        """Count times from now, or from a monotonic time."""
        self.began = time.monotonic() if at is None else at

    async def watch(self, paths: Iterable[Path]) -> Watch:
        """Probe these paths until the end."""
        watch = Watch(self._host.vpc, paths, interval=PROBES)
        self._watches.append(await self._stack.enter_async_context(watch))
        return watch

    async def last(self, seconds: float) -> None:
        """Return once this much time has passed since `begin`."""
        await asyncio.sleep(max(0.0, self.began + seconds - time.monotonic()))

    # --- afterwards ------------------------------------------------------------------------------

    def stays(self, wanted: Iterable[IPAddress]) -> float | None:
        """Since when all peers reached these addresses until the end; None: they did not."""
        to = set(wanted)
        moments = [
            judge.stays_from(
                sorted(a.replied for a in attempts if a.replied is not None), self._ended
            )
            for watch in self._watches
            for path, attempts in watch.attempts.items()
            if path.to in to
        ]
        moment = judge.latest(moments)
        return None if moment is None else max(0.0, moment - self.began)

    def silence_of(self, wanted: Iterable[IPAddress]) -> float | None:
        """The longest silence on any path to these addresses; None if it lasts until the end."""
        to = set(wanted)
        if self.stays(to) is None:
            return None
        return max(w.silence(path) for w in self._watches for path in w.attempts if path.to in to)

    @property
    def silence(self) -> float:
        """The longest silence of the primary."""
        return self._primary.longest_silence

    def outcome(self, addresses: Iterable[IPAddress]) -> Found:
        """All results for one ENI."""
        to = list(addresses)
        found: Found = {
            family.label: self.stays(a for a in to if a.version == family) for family in Family
        }
        reached = judge.latest(found.values())
        until = self._ended if reached is None else self.began + reached
        return {
            **found,
            "window": self._ended - self.began,
            "requests until then": self._requests(until),
            "requests": self._requests(self._ended),
            "cpu until then": self._cpu_seconds(until),
            "cpu": self._cpu_seconds(self._ended),
            "silence of the primary": self.silence,
        }

    def _cpu_seconds(self, until: float) -> float:
        return judge.at_moment(self._cpu, until) - judge.at_moment(self._cpu, self.began)

    def _requests(self, until: float) -> int:
        return sum(self.began <= request.at < until for request in self._host.imds.log)


async def cpu(host: VmHost) -> tuple[float, float]:
    """The time, and the guest's CPU seconds so far, minus those of the benchmark's units."""
    before = time.monotonic()
    text = await host.vm.run("grep", "usage_usec", *SLICES, *OWN_UNITS)
    return (before + time.monotonic()) / 2, judge.usage(text, OWN_UNITS)
