"""A simulated EC2 host: a VPC, a metadata service that follows a scenario, and nicwatchd.

async with Ec2(load(SCENARIOS / "race.toml")) as ec2:
    daemon = await ec2.start_daemon()
    await ec2.plug("eth1")
    await daemon.until("eth1", "applied")
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from nicwatchd.sim.dhcp import GOOD, Manager
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.parts import Eni, Subnet
from nicwatchd.sim.script import EniScript, Scenario
from nicwatchd.sim.vpc import Vpc

SCENARIOS: Final = Path(__file__).with_name("scenarios")
# Seconds. Generous, because they only end what hangs: several daemons may start at once.
START_TIMEOUT: Final = 60.0
UNTIL_TIMEOUT: Final = 60.0

# The simulated ENIs are veths; links to containers are named c-*; no firmware says EC2.
SETTINGS: Final = """\
platform = "ec2"
[interfaces]
drivers = ["veth"]
exclude = ["c-*"]
"""

Status = dict[str, Any]  # the JSON of one interface


def eni_of(script: EniScript) -> Eni:
    """The ENI as the VPC knows it: what EC2 has assigned, whatever IMDS shows in the meantime."""
    cidr = script.subnet_ipv4 or next(iter(script.subnet_ipv6), "none")
    return Eni(
        script.name,
        script.mac,
        Subnet(
            cidr.replace("/", "-"),
            IPv4Network(script.subnet_ipv4) if script.subnet_ipv4 else None,
            tuple(IPv6Network(text) for text in script.subnet_ipv6),
        ),
        tuple(IPv4Interface(text).ip for text in script.ipv4),
        tuple(IPv6Interface(text).ip for text in script.ipv6),
        tuple(IPv4Network(text) for text in script.ipv4_prefixes),
        tuple(IPv6Network(text) for text in script.ipv6_prefixes),
    )


class Ec2:
    """The host. The scenario's primary is plugged from the start; `plug` adds the other ENIs.

    `manager` is its network manager, as far as a test lets it do something: see `Vpc.lease`.
    """

    def __init__(self, scenario: Scenario, manager: Manager = GOOD) -> None:
        self.scenario = scenario
        scripts = {script.mac: script for script in scenario.enis}
        self.vpc = Vpc(primary=eni_of(scripts[scenario.mac]), manager=manager)
        self.imds = ImdsServer(scenario)
        self.daemons: list[DaemonProcess] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.vpc)
        await self.imds.start(*self.vpc.imds_sockets())
        self._stack.push_async_callback(self.imds.stop)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for daemon in self.daemons:
                await daemon.stop()
        finally:
            await self._stack.__aexit__(kind, error, trace)

    def eni(self, name: str) -> Eni:
        """An ENI of the scenario, as the VPC plugs it."""
        return eni_of(self.scenario.eni(name))

    async def plug(self, *names: str) -> float:
        """Hot-plug ENIs of the scenario at once; returns the monotonic time when the links exist.

        Their timelines in IMDS start right after that; until then IMDS does not list them.
        """
        at = await self.vpc.plug(*(self.eni(name) for name in names))
        for name in names:
            self.imds.plug(name)
        return at

    async def unplug(self, *names: str) -> None:
        """Detach ENIs. IMDS stops listing them at once."""
        await self.vpc.unplug(*(self.eni(name) for name in names))
        for name in names:
            self.imds.unplug(name)

    async def start_daemon(
        self, settings: str = SETTINGS, wrapper: Sequence[str] = ()
    ) -> DaemonProcess:
        """Start nicwatchd on the host, as a separate process, and wait until it answers.

        `wrapper` is a command that execs the daemon: `env NAME=VALUE`, `nsenter`, `setpriv`.
        """
        daemon = DaemonProcess(self.vpc)
        self.daemons.append(daemon)
        await daemon.start(settings, wrapper)
        return daemon


class DaemonError(Exception):
    """The daemon exited, or did not reach the expected state; the text includes its output."""


class DaemonProcess:
    """nicwatchd on the VPC's host, and requests to its socket."""

    def __init__(self, vpc: Vpc) -> None:
        self._vpc = vpc
        self._directory = vpc.runtime_dir
        self._log = self._directory / "daemon.log"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def config(self) -> Path:
        """Its settings file."""
        return self._directory / "nicwatchd.toml"

    @property
    def socket(self) -> Path:
        """Its control socket."""
        return self._directory / "nicwatchd.sock"

    @property
    def key(self) -> str:
        """What a POST to the control socket must carry."""
        return (self._directory / "post.key").read_text(encoding="ascii")

    async def start(self, settings: str, wrapper: Sequence[str] = ()) -> None:
        """Start it; returns once it answers on its socket (which is before READY)."""
        self.config.write_text(settings, encoding="utf-8")
        command = [*wrapper, sys.executable, "-m", "nicwatchd.cli.main", "run"]
        command += ["--config", str(self.config), "--runtime-directory", str(self._directory)]
        with self._log.open("ab") as log:
            self._process = await self._vpc.popen(self._vpc.host, *command, stdout=log, stderr=log)
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not await self._answers():  # noqa: ASYNC110 (a missing socket has no event)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise DaemonError(f"the daemon does not answer:\n{self.log}") from None

    async def _answers(self) -> bool:
        if self.process.returncode is not None:
            raise DaemonError(f"the daemon exited with {self.process.returncode}:\n{self.log}")
        try:
            await self.get("/healthz")
        except aiohttp.ClientConnectionError:
            return False
        return True

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process. Raises DaemonError if it was not started."""
        if self._process is None:
            raise DaemonError("the daemon was not started")
        return self._process

    @property
    def log(self) -> str:
        """What it wrote to standard error."""
        return self._log.read_text(encoding="utf-8")

    async def stop(self) -> int:
        """Stop it as systemd does; returns its exit code. Raises DaemonError if it had crashed."""
        if self.process.returncode is None:
            self.process.terminate()
        elif self.process.returncode not in (0, -signal.SIGKILL):
            raise DaemonError(f"the daemon exited with {self.process.returncode}:\n{self.log}")
        return await self.process.wait()

    async def kill(self) -> None:
        """Kill it, as a crash would."""
        self.process.kill()
        await self.process.wait()

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.UnixConnector(str(self.socket))
        return aiohttp.ClientSession("http://nicwatchd", connector=connector)

    async def get(self, path: str) -> Any:
        """The JSON at a path of the control socket."""
        async with self._session() as session, session.get(path) as response:
            return await response.json()

    async def post(self, path: str) -> Any:
        """The JSON that answers a POST, which carries the daemon's key."""
        headers = {"Nicwatchd-Key": self.key}
        async with self._session() as session, session.post(path, headers=headers) as response:
            return await response.json()

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[Status]]:
        """Each interface as it is now, then at each transition. No transition is missed."""
        forever = aiohttp.ClientTimeout(total=None)
        async with (
            self._session() as session,
            session.get("/v1/events", timeout=forever) as response,
        ):
            yield (json.loads(line) async for line in response.content)

    async def until(
        self,
        name: str,
        wanted: str | Callable[[Status], bool],
        within: float = UNTIL_TIMEOUT,
    ) -> Status:
        """The first status of an interface in this state, or for which this predicate is true."""
        if isinstance(wanted, str):
            state, wanted = wanted, lambda status: status["state"] == state
        last: Status | None = None
        try:
            async with asyncio.timeout(within), self.events() as events:
                async for status in events:
                    if status["name"] != name:
                        continue
                    last = status
                    if wanted(status):
                        return status
        except (TimeoutError, aiohttp.ClientError):
            pass
        raise DaemonError(f"{name} did not reach the state; last status: {last}\n{self.log}")

    async def until_gone(self, name: str, within: float = UNTIL_TIMEOUT) -> None:
        """Return once the daemon no longer has this interface."""
        try:
            async with asyncio.timeout(within), self.events() as events:
                known = [interface["name"] for interface in await self.get("/v1/interfaces")]
                while name in known:
                    status = await anext(events)
                    if (status["name"], status["state"]) == (name, "gone"):
                        return
        except (TimeoutError, StopAsyncIteration, aiohttp.ClientError):
            raise DaemonError(f"the daemon still has {name}\n{self.log}") from None
