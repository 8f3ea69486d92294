"""Hosts of the simulation that are well or break, each behind the documented proxy."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from nicwatchd.sim.script import EniScript
from tests.scenarios.host import QUICK, HostUnderTest, complete, numbered, settings
from tests.scenarios.software import eventually

ROOT: Final = Path(__file__).parents[2]
UNITS: Final = ROOT / "docs" / "fleet" / "systemd"
IPV4_ONLY: Final = numbered(1, ipv6=(), subnet_ipv6=())
FLUSHES: Final = 8  # of several rules each; then nicwatchd would wait between them
Break = Callable[[HostUnderTest], Awaitable[None]]


async def nothing(_: HostUnderTest) -> None:
    """It is well."""


async def one_interface(host: HostUnderTest) -> None:
    """It is well, with an ENI."""
    await host.plug("eth1")
    await host.until("eth1", complete)


async def one_ipv4_interface(host: HostUnderTest) -> None:
    """It is well, with an ENI in a subnet without IPv6."""
    await host.plug("eth1")
    await host.until("eth1", lambda status: status["ipv4"]["health"] == "working")


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


async def key_unread(host: HostUnderTest) -> None:
    """IMDS fails whenever it is asked for the IPv6 addresses."""
    host.imds.fault("leaf:ipv6s", "500")
    await host.plug("eth1")
    await host.until("eth1", lambda status: status["overdue"])


async def imds_gone(host: HostUnderTest) -> None:
    """Nothing answers at IMDS's address."""
    await one_interface(host)
    host.imds.fault("all", "refuse")
    await host.imds_is("unreachable")


async def rules_flushed(host: HostUnderTest) -> None:
    """Somebody keeps removing all rules at nicwatchd's priority."""
    await one_interface(host)
    for _ in range(FLUSHES):
        heals = await _heals(host)
        await host.vpc.ip(host.vpc.host, "rule flush pref 32765")
        await eventually(partial(_more_heals, host, heals))


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


async def bug(host: HostUnderTest) -> None:
    """An error of nicwatchd's own, planted: each judgement of eth1 raises an exception."""
    await host.plug("eth1")
    await host.logged("ZeroDivisionError")


async def hung(host: HostUnderTest) -> None:
    """The daemon lives and does nothing."""
    await one_interface(host)
    host.daemon.process.send_signal(signal.SIGSTOP)


async def goes_on(host: HostUnderTest) -> None:
    """A daemon that was stopped has to run to be ended."""
    if host.daemon.process.returncode is None:
        host.daemon.process.send_signal(signal.SIGCONT)


async def _heals(host: HostUnderTest) -> float:
    async with host.daemon._session() as session, session.get("/metrics") as response:
        text = await response.text()
    (line,) = re.findall(r'(?m)^nicwatchd_interface_heals_total\{.*"eth1".*\} (\S+)$', text)
    return float(line)


async def _more_heals(host: HostUnderTest, than: float) -> bool:
    return await _heals(host) > than


@dataclass(frozen=True)
class Case:
    """A host, and the alerts that are to fire for it; `also`: those that may."""

    name: str
    happens: Break
    alerts: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()
    enis: tuple[EniScript, ...] = (numbered(1),)
    options: Mapping[str, Any] = field(default_factory=dict)


def _alerts(*names: str) -> frozenset[str]:
    return frozenset(f"Nicwatchd{name}" for name in names)


PLANT: Final = Path(__file__).with_name("planted_bug")
QUICKLY: Final = {"config": settings(QUICK)}
CASES: Final = (
    Case("well, without an ENI", nothing),
    Case("well", one_interface),
    Case("well, IPv4 only", one_ipv4_interface, enis=(IPV4_ONLY,), options=QUICKLY),
    Case("a foreign rule", foreign_rule, _alerts("Shadowed", "IPv4NotWorking")),
    Case("a link down", link_down, _alerts("LinkDown", "IPv4NotWorking", "IPv6NotWorking")),
    Case("no IPv6", key_unread, _alerts("Overdue", "IPv6NotWorking"), options=QUICKLY),
    Case("no IMDS", imds_gone, _alerts("ImdsUnavailable"), options=QUICKLY),
    Case("rules flushed", rules_flushed, _alerts("HealsOften"), _alerts("IPv4NotWorking")),
    Case("bad settings", bad_settings, _alerts("SettingsRefused")),
    Case("default moved", default_moved, _alerts("PrimaryDefaultRoute")),
    Case("dead", killed, _alerts("Down")),
    Case("hung", hung, _alerts("Down")),
    Case(
        "a bug",
        bug,
        _alerts("Bug", "Unhealthy"),
        _alerts("IPv4NotWorking", "IPv6NotWorking", "LinkDown"),
        options={"wrapper": ("env", f"PYTHONPATH={PLANT}:{ROOT}")},
    ),
)


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
