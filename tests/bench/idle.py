"""What the daemon costs on a host where nothing happens, in instructions (see tests/vm).

`make bench-idle`. Unlike `quiet`, it does not depend on the machine: on how fast its processor is,
and on what a page costs there that was not touched for a while.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Final

from tests.bench import counted, host
from tests.bench.figures import Figure, Limit
from tests.bench.quiet import RENEWAL
from tests.vm.host import PRIMARY, VmHost

ENI: Final = "ens6"
BUDGETED: Final = 2  # addresses of each family; `quiet` has so many
ADDRESSES: Final = (BUDGETED, 50)
SETTLE, QUIET = 180, 180  # s, of the machine's time
SHARE: Final = 0.001  # of a core
MINUTE: Final = 60.0  # s
PATH: Final = "/run/idle.py"

# A line each second: the time, the daemon's CPU in ns, TCP segments sent (to IMDS; there is nobody
# else), netlink messages about addresses, routes and rules, and the renewals so far. As networkctl
# renews DHCPv4 alone, what DHCPv6 does to an address is done by hand.
PROGRAM: Final = r"""
import os, socket, subprocess, sys, time

pid, seconds, renewal, *leased = sys.argv[1:]
GROUPS = 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000  # addresses, routes, rules
events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
events.bind((0, GROUPS))
events.setblocking(False)


def cpu():
    tasks = f"/proc/{pid}/task"
    lines = (open(f"{tasks}/{each}/schedstat").read() for each in os.listdir(tasks))
    return sum(int(line.split()[0]) for line in lines)


def segments():
    names, values = [line.split() for line in open("/proc/net/snmp") if line.startswith("Tcp:")]
    return int(values[names.index("OutSegs")])


def heard():
    count = 0
    try:
        while events.recv(65536):
            count += 1
    except BlockingIOError:
        return count


began, step, told, renewed = time.monotonic(), 0, 0, 0
while True:
    told += heard()
    print(round(time.monotonic() - began), cpu(), segments(), told, renewed, flush=True)
    if step == int(seconds):
        break
    step += 1
    if step % int(renewal) == 0:
        for link, address in zip(leased[::2], leased[1::2]):
            subprocess.run(["networkctl", "renew", link], check=True)
            change = f"ip -6 address change {address}/128 dev {link} noprefixroute"
            subprocess.run(f"{change} valid_lft 450 preferred_lft 140".split(), check=True)
        renewed += 1
    time.sleep(max(0, began + step - time.monotonic()))
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """Counters at one moment: seconds, ns of CPU, and how often something had happened."""

    at: int
    cpu: int
    segments: int
    events: int
    renewals: int


def samples_in(text: str) -> list[Sample]:
    """What the program printed."""
    return [Sample(*map(int, line.split())) for line in text.splitlines()]


@dataclass(frozen=True, slots=True)
class Second:
    """What one second cost, in ns of CPU, and what happened in it."""

    cpu: int
    asked: bool  # IMDS
    told: bool  # by the kernel, of addresses, routes or rules
    renewed: bool


def seconds_of(samples: Sequence[Sample]) -> list[Second]:
    """The seconds between the samples."""
    return [
        Second(
            after.cpu - before.cpu,
            asked=after.segments > before.segments,
            told=after.events > before.events,
            renewed=after.renewals > before.renewals,
        )
        for before, after in pairwise(samples)
    ]


def items(seconds: Sequence[Second]) -> dict[str, list[float]]:
    """Million instructions of the seconds in which the daemon had just one thing to do."""
    busy = [each for each in seconds if each.cpu]
    return {
        "a turn without news": [
            each.cpu / 1e6 for each in busy if not (each.asked or each.told or each.renewed)
        ],
        "a look at IMDS": [
            each.cpu / 1e6 for each in busy if each.asked and not (each.told or each.renewed)
        ],
        "renewals": [each.cpu / 1e6 for each in busy if each.renewed and not each.asked],
    }


async def measure(*, quick: bool) -> list[Figure]:
    """One applied ENI beside the primary; for minutes nothing happens but renewals of leases.

    The budget is for a core that carries out one instruction in a nanosecond, which is slow. The
    machine's clock jumps over idle time, so this takes little of ours.
    """
    figures: list[Figure] = []
    async with counted.installed() as on:
        await on.vm.run("systemctl", "restart", "systemd-networkd")  # for its drop-in
        await on.vm.write(PATH, PROGRAM)
        for addresses in ADDRESSES[:1] if quick else ADDRESSES:
            figures += await _with_eni(on, addresses)
    return figures


async def _with_eni(on: VmHost, addresses: int) -> list[Figure]:
    script = replace(host.script(1, (), addresses), name=ENI)
    since = on.vm.journal.now
    async with on.plugged(script):
        await on.until(ENI, "applied", since)
        await on.vm.run("sleep", str(SETTLE))
        show = ("systemctl", "show", "--value", "--property", "MainPID", "nicwatchd")
        pid = (await on.vm.run(*show)).strip()
        words = [pid, str(QUIET), str(round(RENEWAL))]
        words += [PRIMARY.name, PRIMARY.ipv6[0], ENI, script.ipv6[0]]
        samples = samples_in(await on.vm.run("python3", PATH, *words))
    await on.until(ENI, "gone", since)
    return figures_of(samples, addresses)


def figures_of(samples: Sequence[Sample], addresses: int) -> list[Figure]:
    """The figures of one measurement."""
    first, last = samples[0], samples[-1]
    spent, span = last.cpu - first.cpu, last.at - first.at
    found = items(seconds_of(samples))
    parts = [f"{what}: {median(each):.1f}" for what, each in found.items() if each]
    what = f"idle, an ENI with {addresses} + {addresses} addresses"
    return [
        Figure(
            f"{what}: million instructions in a minute",
            [spent / 1e6 / span * MINUTE],
            unit="",
            note=", ".join(parts),
        ),
        Figure(
            f"{what}: of a core that takes 1 ns for one",
            [spent / 1e9 / span],
            unit="%",
            limits=(Limit("max", SHARE),) if addresses == BUDGETED else (),
        ),
    ]


if __name__ == "__main__":
    sys.exit(counted.main("bench-idle", __doc__, measure))
