"""Hosts of the simulation that are well or break, each behind the documented proxy."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nicwatchd.sim.script import Fault
from tests.scenarios.host import (
    QUICK,
    HostUnderTest,
    complete,
    ec2_host,
    late,
    numbered,
    settings,
)

UNITS: Final = Path(__file__).parents[2] / "docs" / "fleet" / "systemd"
FLUSHES: Final = 30  # of all rules: a heal each
Break = Callable[[HostUnderTest], Awaitable[None]]


async def nothing(_: HostUnderTest) -> None:
    """It is well."""


async def one_interface(host: HostUnderTest) -> None:
    """It is well, with an ENI."""
    await host.plug("eth1")
    await host.until("eth1", complete)


async def foreign_rule(host: HostUnderTest) -> None:
    """A rule of somebody else's sends what eth1's IPv4 address says out by the primary."""
    await one_interface(host)
    await host.vpc.ip(
        host.vpc.host,
        "route add default via 10.0.1.1 dev eth0 table 100",
        "rule add pref 100 from 10.0.2.0/24 lookup 100",
    )


async def link_down(host: HostUnderTest) -> None:
    """Somebody sets the link down."""
    await one_interface(host)
    await host.vpc.ip(host.vpc.host, "link set eth1 down")


async def no_ipv6(host: HostUnderTest) -> None:
    """IMDS never lists the IPv6 address."""
    await host.plug("eth1")
    await host.until("eth1", lambda status: status["overdue"])


async def imds_gone(host: HostUnderTest) -> None:
    """A firewall drops what goes to IMDS."""
    await one_interface(host)
    await host.imds_is("unreachable")


async def rules_flushed(host: HostUnderTest) -> None:
    """Somebody keeps removing a rule."""
    await one_interface(host)
    for number in range(FLUSHES):
        heals = await _heals(host)
        await host.vpc.ip(host.vpc.host, f"rule flush pref {await _priority(host)}")
        while await _heals(host) == heals and number < 10:  # then they come once in 5 s
            await asyncio.sleep(0.05)


async def bad_settings(host: HostUnderTest) -> None:
    """The file has a mistake when it is read again."""
    await one_interface(host)
    host.daemon.config.write_text('exclud = ["eth1"]\n')
    host.daemon.process.send_signal(signal.SIGHUP)
    await host.logged("the old ones remain in effect")


async def default_moved(host: HostUnderTest) -> None:
    """Somebody gives eth1 the best default route."""
    await one_interface(host)
    await host.vpc.ip(host.vpc.host, "route add default via 10.0.2.1 dev eth1 metric 0")


async def killed(host: HostUnderTest) -> None:
    """The daemon dies."""
    await one_interface(host)
    await host.daemon.kill()


async def hung(host: HostUnderTest) -> None:
    """The daemon lives and does nothing."""
    await one_interface(host)
    host.daemon.process.send_signal(signal.SIGSTOP)


async def _heals(host: HostUnderTest) -> float:
    async with host.daemon._session() as session, session.get("/metrics") as response:
        text = await response.text()
    (line,) = re.findall(r'(?m)^nicwatchd_interface_heals_total\{.*"eth1".*\} (\S+)$', text)
    return float(line)


async def _priority(host: HostUnderTest) -> str:
    rules = [line for line in (await host.ip("rule")).splitlines() if "proto 236" in line]
    return rules[0].partition(":")[0] if rules else "32765"


@dataclass(frozen=True)
class Case:
    """A host, and the alerts that are to fire for it; `also`: those that may."""

    name: str
    happens: Break
    alerts: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()
    options: Mapping[str, Any] = field(default_factory=dict)


@asynccontextmanager
async def on_port(host: HostUnderTest, address: str) -> AsyncIterator[None]:
    """The proxy of docs/fleet in front of a host's read-only socket, at the port that it has."""
    unit = (UNITS / "nicwatchd-proxy.service").read_text()
    (command,) = re.findall("(?m)^ExecStart=(.*)$", unit)
    socket = str(host.daemon.socket.with_name("status.sock"))
    words = command.replace("/run/nicwatchd/status.sock", socket).split()
    proxy = await asyncio.create_subprocess_exec(
        "systemd-socket-activate", f"--listen={address}", *words, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        proxy.terminate()
        await proxy.wait()
