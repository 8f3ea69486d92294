"""`nicwatchd demo`: shows how nicwatchd wins the race against the metadata service.

It hot-plugs an ENI into a simulated EC2 host. The metadata service learns of the ENI in pieces, and
lists its IPv6 addresses only after 8 s. Everything except EC2 is real: the kernel, its routing,
HTTP, TCP, and the daemon, which is a separate process.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import json
import time
from collections.abc import AsyncIterator
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
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import Acceptor, Path, Watch, paths, watch_primary
from nicwatchd.sim.scenario import load
from nicwatchd.sim.vpc import Vpc

NAME: Final = "eth1"
NOT_PRINTED: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
PATIENCE: Final = 30.0  # s; everything should work after 9
LEASE_AFTER: Final = 0.5  # s; about what a DHCP client takes on EC2
REFRESH: Final = 4  # screen updates per second

STORY: Final = """
This simulates the hot-plug of an ENI. The metadata service does not list the
ENI for 1 s. Then it shows a wrong device number, and no IPv6 until 8 s have
passed. A DHCP client configures the IPv4 address. Meanwhile six remote hosts
and two hosts in the ENI's and the primary's subnet try to connect.
"""


@dataclass
class Play:
    """What the user sees. Times are seconds since the link appeared."""

    console: Console
    started: float = 0.0
    watch: Watch | None = None
    timeline: list[str] = field(default_factory=list)
    state: str = "not plugged"

    @property
    def now(self) -> float:
        """Seconds since the link appeared."""
        return time.monotonic() - self.started

    def say(self, text: str) -> None:
        """Add a line to the timeline."""
        line = f"{self.now:6.2f} s  {text}"
        self.timeline.append(line)
        self.console.print(line, highlight=False, soft_wrap=True)

    def since(self, path: Path) -> float | None:
        """When a path started to answer for good; None if it does not answer."""
        at = self.watch.since(path) if self.watch else None
        return None if at is None else at - self.started

    def table(self) -> Table:
        """Since when each host reaches the ENI, for each family."""
        table = Table(title=f"{NAME} is {self.state}: reachable by TCP since", title_justify="left")
        table.add_column("from")
        for family in Family:
            table.add_column(family.label, justify="right", min_width=9)
        rows: dict[str, dict[int, str]] = {}
        for path in self.watch.attempts if self.watch else ():
            at = self.since(path)
            cell = "[red]no answer[/]" if at is None else f"[green]{at:.2f} s[/]"
            rows.setdefault(path.peer.name, {})[path.to.version] = cell
        for name, cells in rows.items():
            table.add_row(name, *(cells.get(family, "-") for family in Family))
        return table

    def __rich__(self) -> Group:
        return Group("", self.table())


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
    async with Ec2(load(SCENARIOS / "race.toml")) as ec2, Acceptor(ec2.vpc, ec2.vpc.host):
        daemon = await ec2.start_daemon()
        async with watch_primary(ec2.vpc) as primary:
            await _hot_plug(play, ec2, daemon)
            status = await daemon.get(f"/v1/interfaces/{NAME}")
            await _show_kernel(play, ec2.vpc)
            await ec2.unplug(NAME)
            await daemon.until_gone(NAME)
            left = await _ours(ec2.vpc)
            play.say(f"unplugged; {'something' if left else 'nothing'} was left behind")
        play.say(f"longest silence of the primary interface: {primary.longest_silence:.2f} s")
        well = {
            "applied": status["state"] == "applied",
            "reachable": all(play.since(path) is not None for path in _attempts(play)),
            "primary undisturbed": primary.undisturbed,
            "nothing left": not left,
        }
    _conclude(play, well, as_json=as_json)
    return OK if all(well.values()) else NOT_WELL


def _attempts(play: Play) -> list[Path]:
    return list(play.watch.attempts) if play.watch else []


async def _hot_plug(play: Play, ec2: Ec2, daemon: DaemonProcess) -> None:
    """Plug the ENI, and wait until every path answers, for at most PATIENCE."""
    eni = ec2.eni(NAME)
    async with AsyncExitStack() as stack:
        play.started = time.monotonic()
        await stack.enter_async_context(_following(play, daemon))
        play.started = await ec2.plug(NAME)
        play.say(f"{NAME} ({eni.mac}) is hot-plugged")
        wanted = paths(ec2.vpc.peers(eni), eni.addresses())
        play.watch = await stack.enter_async_context(Watch(ec2.vpc, wanted))
        with Live(play, console=play.console, refresh_per_second=REFRESH, transient=True):
            await _lease(play, ec2.vpc, eni)
            try:
                await daemon.until(NAME, "applied", within=PATIENCE)
                play.say("the metadata is complete; waiting for every path to answer")
                await play.watch.all_reachable(PATIENCE)
            except (TimeoutError, DaemonError) as error:
                play.say(str(error))
    play.console.print(play)


async def _lease(play: Play, vpc: Vpc, eni: Eni) -> None:
    await asyncio.sleep(LEASE_AFTER)
    await vpc.lease(eni, Family.V4)
    play.say(f"a DHCP client configures {eni.ipv4[0]}")


@asynccontextmanager
async def _following(play: Play, daemon: DaemonProcess) -> AsyncIterator[None]:
    """Print each transition of the interface while the body runs."""

    async def follow(events: AsyncIterator[Status]) -> None:
        async for status in events:
            if status["name"] == NAME:
                play.state = status["state"]
                play.say(_transition(status))

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


async def _ours(vpc: Vpc) -> str:
    """Our rules and routes, as `ip` prints them."""
    parts = []
    for family in ("-4", "-6"):
        rules = await vpc.exec(vpc.host, "ip", family, "rule")
        own = [line for line in rules.splitlines() if line.endswith("proto 236")]
        routes = await vpc.exec(
            vpc.host, "ip", family, "route", "show", "table", "all", "proto", "236"
        )
        parts += [*own, *(line.strip() for line in routes.splitlines())]
    return "\n".join(parts)


async def _show_kernel(play: Play, vpc: Vpc) -> None:
    play.console.print("\nRules and routes that nicwatchd added:\n", highlight=False)
    play.console.print(await _ours(vpc), highlight=False, soft_wrap=True)
    play.console.print()


def _conclude(play: Play, well: dict[str, bool], *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {
            "well": well,
            "timeline": play.timeline,
            "reachable": {str(path): play.since(path) for path in _attempts(play)},
        }
        say(json.dumps(document, indent=2))
    for what, good in well.items():
        play.console.print(f"{'[green]yes[/]' if good else '[red]NO[/]':>4}  {what}")
