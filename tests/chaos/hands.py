"""What others do to a host of namespaces: with `ip`, and by keeping the daemon from listening."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from nicwatchd.core.model import PROTOCOL, Address, Family, Link, Route, Rule
from nicwatchd.core.words import address_text, names_in, route_text, rule_words
from nicwatchd.sim.ec2 import DaemonProcess
from nicwatchd.sim.netns import CommandError
from nicwatchd.sim.vpc import Vpc

# A link that no ENI is: its changes are reported to everybody who watches links.
BYSTANDER: Final = "c-crowd"
# Messages in one batch of `ip`. The daemon's buffer holds about 4,000 of them: a few batches.
CROWD: Final = 2_000


def words(thing: Address | Route | Rule, links: Mapping[int, Link]) -> str:
    """An object as `ip` wants it after `add` or `del`; `ip` reads what it prints."""
    match thing:
        case Address():
            return address_text(thing, names_in(links))
        case Route():
            return route_text(thing, names_in(links))
        case Rule():
            return f"pref {thing.priority} {' '.join(rule_words(thing))}"


KINDS: Final = {Address: "addr", Route: "route", Rule: "rule"}


async def run(
    vpc: Vpc, verb: str, things: Iterable[Address | Route | Rule], links: Mapping[int, Link]
) -> None:
    """`ip ... add` or `ip ... del` of these, one process for each family."""
    chosen = list(things)
    for family in Family:
        lines = [f"{KINDS[type(t)]} {verb} {words(t, links)}" for t in chosen if t.family is family]
        if lines:
            await vpc.ip(vpc.host, *lines, family=family)


async def flush_rules(vpc: Vpc) -> None:
    """Remove all rules of ours."""
    for family in Family:
        with suppress(CommandError):  # the daemon may be at it too: a rule can be gone by its turn
            await vpc.ip(vpc.host, f"rule flush protocol {PROTOCOL}", family=family)


@asynccontextmanager
async def deaf(vpc: Vpc, daemon: DaemonProcess) -> AsyncIterator[None]:
    """What is done within, the daemon does not hear: it hears that it missed something.

    It is stopped, and its buffer is filled with somebody's changes of a link of no interest.
    """
    before = dropped(daemon.process.pid)
    await vpc.ip(vpc.host, f"link add {BYSTANDER} type bridge", f"link set {BYSTANDER} up")
    crowd = [f"link set {BYSTANDER} group {1 + n % 2}" for n in range(CROWD)]
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        while dropped(daemon.process.pid) == before:
            await vpc.ip(vpc.host, *crowd)
        yield
        await vpc.ip(vpc.host, f"link del {BYSTANDER}")
    finally:
        daemon.process.send_signal(signal.SIGCONT)


def dropped(pid: int) -> int:
    """How many messages the kernel has dropped for the netlink sockets of a process."""
    mine = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    rows = Path(f"/proc/{pid}/net/netlink").read_text(encoding="ascii").splitlines()[1:]
    columns = (row.split() for row in rows)
    return sum(int(row[8]) for row in columns if f"socket:[{row[9]}]" in mine)
