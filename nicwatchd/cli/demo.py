"""`nicwatchd demo`: shows how nicwatchd wins the race against the metadata service.

It hot-plugs an ENI into two simulated EC2 hosts at once: one with nicwatchd, and one where a reader
of the metadata service runs once, at the event. The service learns of the ENI in pieces, and lists
its IPv6 addresses only after 8 s. Everything except EC2 is real: the kernels' routing, HTTP, TCP,
and the daemon, which is a separate process.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from nicwatchd.cli.output import NOT_WELL, OK, USAGE, OutputError, fail, say
from nicwatchd.core.model import Family
from nicwatchd.sim import sandbox
from nicwatchd.sim.ec2 import SCENARIOS, DaemonError, DaemonProcess, Ec2, Status
from nicwatchd.sim.one_shot import configure_once
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import Acceptor, Path, Watch, paths, watch_primary
from nicwatchd.sim.scenario import load
from nicwatchd.sim.vpc import Vpc

NAME: Final = "eth1"
NOT_PRINTED: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
PATIENCE: Final = 30.0  # s; everything should work after 9
LEASE_AFTER: Final = 0.5  # s; about what a DHCP client takes on EC2
REFRESH: Final = 4  # screen updates per second
SPARSE: Final = 0.4  # s between two tries on the host without nicwatchd, where it is not measured
WIDTH: Final = 80  # at most; what is longer goes on in the next line
WITH, WITHOUT = "nicwatchd", "without"

STORY: Final = """
This simulates the hot-plug of an ENI into two hosts: one with nicwatchd, and
one without, where a reader of the metadata service configures what it learns
at the event. The service does not list the ENI for 1 s. Then it shows a wrong
device number, and no IPv6 until 8 s have passed. On both hosts a DHCP client
configures the IPv4 address. Meanwhile six remote hosts and two hosts in the
ENI's and the primary's subnet try to connect to each.
"""


@dataclass
class Play:
    """What the user sees. Times are seconds since the links appeared."""

    console: Console
    started: float = 0.0
    watches: dict[str, Watch] = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)

    @property
    def now(self) -> float:
        """Seconds since the links appeared."""
        return time.monotonic() - self.started

    def say(self, text: str, host: str = WITH) -> None:
        """Add a line to the timeline: what happens on which host."""
        line = f"{self.now:6.2f} s  {host:9}  {text}"
        self.timeline.append(line)
        self.show(line, indent=21)

    def show(self, line: str, indent: int = 4) -> None:
        """Print a line; what does not fit goes on in the next, indented, with whole words."""
        width = min(WIDTH, self.console.width)
        lines = textwrap.wrap(
            line,
            width,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
        self.console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)

    def since(self, path: Path, host: str = WITH) -> float | None:
        """When a path started to answer for good; None if it does not answer."""
        at = self.watches[host].since(path) if host in self.watches else None
        return None if at is None else at - self.started

    def reachable(self, host: str) -> dict[str, float | None]:
        """Since when each path of a host answers."""
        watch = self.watches.get(host)
        return {str(path): self.since(path, host) for path in (watch.attempts if watch else ())}

    def __rich__(self) -> Group:
        # A table's own title would be filled up with blanks.
        return Group("", f"[italic]Since when {NAME} answers TCP from there[/]", self.table())

    def table(self) -> Table:
        """Since when each remote host reaches the ENI, by host and family."""
        table = Table()
        table.add_column("\nfrom")
        for host in (WITH, WITHOUT):
            for family in Family:
                table.add_column(f"{host}\n{family.label}", justify="right", min_width=9)
        for name in self._names():
            cells = (
                self._cell(name, host, family) for host in (WITH, WITHOUT) for family in Family
            )
            table.add_row(name, *cells)
        return table

    def _names(self) -> Iterator[str]:
        watch = self.watches.get(WITH)
        yield from dict.fromkeys(_from(path) for path in (watch.attempts if watch else ()))

    def _cell(self, name: str, host: str, family: Family) -> str:
        watch = self.watches.get(host)
        for path in watch.attempts if watch else ():
            if (_from(path), path.to.version) == (name, family):
                at = self.since(path, host)
                return "[red]no answer[/]" if at is None else f"[green]{at:.2f} s[/]"
        return "-"


def _from(path: Path) -> str:
    """Where a path begins, as the table says it; the neighbours' names are their subnets'."""
    return path.peer.name.replace("a neighbour in ", "subnet ").replace("-", "/", 1)


def demo(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 only if everything went well."""
    try:
        sandbox.reexec()
        return asyncio.run(_play(as_json=arguments.json))
    except sandbox.SandboxError as error:
        return fail(str(error), USAGE)
    except OSError as error:  # from rich, which writes to standard output itself
        if error.errno not in NOT_PRINTED:
            raise
        raise OutputError(error.strerror) from None


async def _play(*, as_json: bool) -> int:
    console = Console(stderr=as_json)
    console.print(STORY, highlight=False, soft_wrap=True)
    play = Play(console)
    scenario = load(SCENARIOS / "race.toml")
    async with (
        Ec2(scenario) as ec2,
        Ec2(scenario) as other,
        Acceptor(ec2.vpc, ec2.vpc.host),
        Acceptor(other.vpc, other.vpc.host),
    ):
        daemon = await ec2.start_daemon()
        async with watch_primary(ec2.vpc) as primary:
            status = await _hot_plug(play, ec2, other, daemon)
            await _show_kernel(play, ec2.vpc)
            await ec2.unplug(NAME)
            await daemon.until_gone(NAME)
            left = any([line async for _, line in _ours(ec2.vpc)])
            play.say(f"unplugged; {'something' if left else 'nothing'} was left behind")
        silence = f"{primary.longest_silence:.2f} s"
        play.say(f"longest silence of the primary interface: {silence}")
        well = {
            "applied": status.get("state") == "applied",
            "reachable": all(at is not None for at in play.reachable(WITH).values()),
            "primary undisturbed": primary.undisturbed,
            "nothing left": not left,
        }
    _conclude(play, well, as_json=as_json)
    return OK if all(well.values()) else NOT_WELL


async def _hot_plug(play: Play, ec2: Ec2, other: Ec2, daemon: DaemonProcess) -> Status:
    """Plug the ENI, and wait until every path to nicwatchd's host answers; the daemon's word."""
    eni = ec2.eni(NAME)
    status: Status = {}
    async with AsyncExitStack() as stack:
        play.started = time.monotonic()
        await stack.enter_async_context(_following(play, daemon))
        play.started = max(await asyncio.gather(ec2.plug(NAME), other.plug(NAME)))
        play.say(f"{NAME} ({eni.mac}) is hot-plugged", "both")
        for host, each, interval in ((WITH, ec2, None), (WITHOUT, other, SPARSE)):
            watch = _watch(each, eni, interval)
            play.watches[host] = await stack.enter_async_context(watch)
        with Live(play, console=play.console, refresh_per_second=REFRESH, transient=True):
            await _lease(play, eni, ec2.vpc, other.vpc)
            async with asyncio.TaskGroup() as readers:
                readers.create_task(_read_once(play, other, eni))
                try:
                    status = await daemon.until(NAME, "applied", within=PATIENCE)
                    play.say("the metadata is complete; waiting for every path to answer")
                    await play.watches[WITH].all_reachable(PATIENCE)
                except (TimeoutError, DaemonError) as error:
                    play.say(str(error))
    play.console.print(play)
    return status


def _watch(ec2: Ec2, eni: Eni, interval: float | None) -> Watch:
    wanted = paths(ec2.vpc.peers(eni), eni.addresses())
    return Watch(ec2.vpc, wanted, interval=interval) if interval else Watch(ec2.vpc, wanted)


async def _lease(play: Play, eni: Eni, *vpcs: Vpc) -> None:
    await asyncio.sleep(LEASE_AFTER)
    for vpc in vpcs:
        await vpc.lease(eni, Family.V4)
    play.say(f"a DHCP client configures {eni.ipv4[0]}", "both")


async def _read_once(play: Play, other: Ec2, eni: Eni) -> None:
    """The host without nicwatchd: its reader runs once."""
    try:
        found = await configure_once(other.vpc, eni)
    except TimeoutError:
        play.say("the reader does not find the ENI, and gives up", WITHOUT)
        return
    missing = [family.label for family, addresses in found.items() if not addresses]
    listed = ", ".join(address for addresses in found.values() for address in addresses)
    play.say(f"the reader finds {listed} and no {missing[0]}, and ends", WITHOUT)


@asynccontextmanager
async def _following(play: Play, daemon: DaemonProcess) -> AsyncIterator[None]:
    """Print each transition of the interface while the body runs."""

    async def follow(events: AsyncIterator[Status]) -> None:
        last = ""
        async for status in events:
            # An event may be about something else of it, its health say.
            if status["name"] == NAME and (text := _transition(status)) != last:
                last = text
                play.say(text)

    async with daemon.events() as events:
        task = asyncio.create_task(follow(events))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _transition(status: Status) -> str:
    why = "; ".join(reason["text"] for reason in status["reasons"])
    return f"{NAME} is {status['state']}" + (f": {why}" if why else "")


async def _ours(vpc: Vpc) -> AsyncIterator[tuple[str, str]]:
    """Our rules and routes as `ip` prints them, each with what it is."""
    for family, flag in ((Family.V4, "-4"), (Family.V6, "-6")):
        rules = await vpc.exec(vpc.host, "ip", flag, "rule")
        for line in rules.splitlines():
            if line.endswith("proto 236"):
                yield f"{family.label} rules", line.replace("\t", "  ")
        shown = ("route", "show", "table", "all", "proto", "236")
        routes = await vpc.exec(vpc.host, "ip", flag, *shown)
        for line in routes.splitlines():
            yield f"{family.label} routes", line


async def _show_kernel(play: Play, vpc: Vpc) -> None:
    play.console.print("\nWhat nicwatchd added:", highlight=False)
    before = ""
    async for title, line in _ours(vpc):
        if title != before:
            play.console.print(f"\n  {title}", highlight=False)
        before = title
        play.show(f"  {' '.join(line.split())}")
    play.console.print()


def _conclude(play: Play, well: dict[str, bool], *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {
            "well": well,
            "timeline": play.timeline,
            "reachable": play.reachable(WITH),
            "without": play.reachable(WITHOUT),
        }
        say(json.dumps(document, indent=2))
    for what, good in well.items():
        play.console.print(f"{'[green]yes[/]' if good else '[red]NO[/]'}  {what}")
