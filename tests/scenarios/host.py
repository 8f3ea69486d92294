"""A simulated EC2 host with nicwatchd, and the helpers with which scenarios judge it.

async with ec2_host(numbered(1)) as host:
    await host.plug("eth1")
    await host.until("eth1", "applied")
    await host.all_reachable("eth1")
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from nicwatchd.core.model import IPAddress, Numbers
from nicwatchd.sim.dhcp import GOOD, Manager
from nicwatchd.sim.ec2 import SETTINGS, DaemonProcess, Ec2, Status, eni_of
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.parts import Eni, Peer
from nicwatchd.sim.probe import Acceptor, Watch, all_answer, paths, watch_primary
from nicwatchd.sim.script import EniScript, Fault, Scenario, Step
from nicwatchd.sim.vpc import Vpc

# Generous, because it only ends what hangs. The longest lag here is 90 s.
WITHIN: Final = 120.0
# s without any answer from the primary. Many tests share few cores, so a packet or two may be late;
# the benchmarks measure the real figure.
DISTURBED: Final = 2.0
RELOADED: Final = "settings reloaded"  # what the daemon says
OTHERS: Final = ("lives-elsewhere", "left-alone", "taken-away")  # notes on addresses of others

# The whole life of an interface in seconds instead of minutes, for verdicts that take long.
QUICK: Final = {
    "fast_for": 30.0,
    "keep": 2.0,
    "patience": 4.0,
    "refresh": 0.5,
    "settling": 1.5,
    "doubts": 2,
    "doubt_span": 1.0,
}


def numbered(number: int, subnet: int | None = None, **changes: Any) -> EniScript:
    """ethN, with number 10 + N of subnet N + 1 (or the one named) in both families.

    So eth0, the primary, is in 10.0.1.0/24 and eth1 in 10.0.2.0/24. `changes` are other fields.
    """
    net = number + 1 if subnet is None else subnet
    plain = EniScript(
        name=f"eth{number}",
        mac=f"02:00:00:00:00:{number + 1:02x}",
        ipv4=(f"10.0.{net}.{10 + number}",),
        ipv6=(f"2001:db8:ec2:{net}::{10 + number}",),
        subnet_ipv4=f"10.0.{net}.0/24",
        subnet_ipv6=(f"2001:db8:ec2:{net}::/64",),
        device_number=number,
        subnet_id=f"subnet-{net:017x}",
    )
    return replace(plain, **changes)


PRIMARY: Final = numbered(0)
IPV6_KEYS: Final = frozenset({"ipv6s", "subnet-ipv6-cidr-blocks", "vpc-ipv6-cidr-blocks"})


def settings(retry: Mapping[str, float] = {}, **interfaces: object) -> str:
    """The sim's settings and these, which are sections [retry] and [interfaces]."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in interfaces.items()]
    lines += ["[retry]", *(f"{key} = {value}" for key, value in retry.items())]
    return SETTINGS + "\n".join(lines) + "\n"


DEFAULT: Final = settings()


@dataclass(frozen=True)
class HostUnderTest:
    """The host, and shorthands for what scenarios do and check."""

    ec2: Ec2
    daemon: DaemonProcess
    primary: Watch

    @property
    def vpc(self) -> Vpc:
        return self.ec2.vpc

    @property
    def imds(self) -> ImdsServer:
        return self.ec2.imds

    def eni(self, name: str) -> Eni:
        """The ENI as it is plugged now, or as it will be."""
        mac = self.ec2.scenario.eni(name).mac
        return next((eni for eni in self.vpc.enis if eni.mac == mac), self.ec2.eni(name))

    async def plug(self, *names: str) -> None:
        await self.ec2.plug(*names)

    async def change(self, script: EniScript) -> None:
        """Change the addresses or prefixes of an ENI; IMDS lists them at once."""
        await self.reassign(script)
        self.tell(script)

    async def reassign(self, *scripts: EniScript) -> None:
        """Change the addresses or prefixes that EC2 assigns. There is no event on the host."""
        for script in scripts:
            now = self.eni(script.name)
            await self.vpc.update(replace(eni_of(script), name=now.name, subnet=now.subnet))

    def tell(self, script: EniScript) -> None:
        """Make IMDS answer for this ENI what the script says."""
        facts = script.facts()
        gone = self.ec2.scenario.eni(script.name).facts().keys() - facts.keys()
        self.imds.step(script.name, complete=True, texts=facts, hide=set(gone))

    async def advertise(self, name: str) -> None:
        """Send router advertisements, as routers repeat them, until the kernel has taken one.

        The first may be lost, because a link carries no packets for a moment after it is up.
        """
        async with asyncio.timeout(WITHIN):
            while not await self.ip(f"-6 route show default proto ra dev {self.eni(name).name}"):
                await self.vpc.ra(self.eni(name))
                await asyncio.sleep(0.1)

    async def until(self, name: str, wanted: str | Callable[[Status], bool]) -> Status:
        return await self.daemon.until(name, wanted, WITHIN)

    async def status(self, name: str) -> Status:
        status: Status = await self.daemon.get(f"/v1/interfaces/{name}")
        return status

    async def shows(self, name: str, key: str, value: object) -> None:
        """Poll until an interface has this status. What is only for people has no event."""
        async with asyncio.timeout(WITHIN):
            while (await self.status(name))[key] != value:  # noqa: ASYNC110 (see above)
                await asyncio.sleep(0.02)

    async def all_reachable(
        self, *names: str, addresses: Sequence[IPAddress] = (), peers: Sequence[Peer] = ()
    ) -> None:
        """Wait until every far host and neighbour reaches each address (or those named) by TCP."""
        enis = [self.eni(name) for name in names]
        wanted = addresses or [address for eni in enis for address in eni.addresses()]
        tried = paths([*self.vpc.peers(*enis), *peers], wanted)
        assert len(tried) >= 8, "six far hosts, a neighbour, and one in the primary's subnet"
        await all_answer(self.vpc, tried, WITHIN)

    async def everybody_reaches(self, *, within: float = WITHIN) -> None:
        """Wait until all that should answer does: the last thing that a scenario is judged by.

        Every far host and the neighbours in all ENIs' subnets, to each address of the applied ENIs
        whose link is up, and of the primary; not to those that a note leaves to containers or to
        others: whoever answers there may be gone by now.
        """
        said = {status["mac"]: status for status in await self.daemon.get("/v1/interfaces")}
        enis = [eni for eni in self.vpc.enis if eni.mac in said and works(said[eni.mac])]
        everybody = self.vpc.peers(*self.vpc.enis)
        texts = [n["text"] for eni in enis for n in said[eni.mac]["notes"] if n["code"] in OTHERS]
        words = {word.strip(",;:") for text in texts for word in text.split()}
        judged = [ip for eni in enis for ip in eni.addresses() if str(ip) not in words]
        tried = paths(everybody, judged)
        tried += paths(everybody, self.vpc.primary.addresses())
        await all_answer(self.vpc, tried, within)

    async def imds_is(self, state: str) -> None:
        """Wait until the daemon reports this state of the metadata service."""
        async with asyncio.timeout(WITHIN):
            while True:
                status = await self.daemon.get("/v1/status")
                if status["imds"]["state"] == state:
                    return
                await asyncio.sleep(0.02)

    async def logged(self, words: str) -> None:
        """Wait until the daemon has written this to standard error."""
        async with asyncio.timeout(WITHIN):
            while words not in self.daemon.log:  # noqa: ASYNC110 (a file has no event)
                await asyncio.sleep(0.02)

    async def reload(self, config: str) -> None:
        """Give the daemon other settings, and wait until it has taken them."""
        before = self.daemon.log.count(RELOADED)
        self.daemon.config.write_text(config, encoding="utf-8")
        self.daemon.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(WITHIN):
            while self.daemon.log.count(RELOADED) == before:  # noqa: ASYNC110 (a file has no event)
                await asyncio.sleep(0.02)

    async def ip(self, words: str) -> str:
        """What `ip` prints on the host."""
        return await self.vpc.exec(self.vpc.host, "ip", *words.split())

    async def kernel_objects(self) -> dict[str, list[str]]:
        """All rules of the host, and all routes of ours."""
        questions = ["rule", "-6 rule"]
        questions += [f"{v} route show table all proto 236" for v in ("-4", "-6")]
        answers = {q: await self.ip(q) for q in questions}
        return {q: sorted(line.strip() for line in a.splitlines()) for q, a in answers.items()}

    async def own_rules(self, *names: str) -> list[str]:
        """The selectors and tables of our rules, without the guards, both families.

        `names`: of these ENIs alone.
        """
        tables = {str(Numbers().table_of(self.vpc.ifindex(self.eni(name)))) for name in names}
        lines = [*(await self.ip("rule")).splitlines(), *(await self.ip("-6 rule")).splitlines()]
        ours = (line for line in lines if "proto 236" in line and "suppress" not in line)
        rules = [line.split(":", 1)[1].strip().removesuffix(" proto 236") for line in ours]
        return [rule for rule in rules if not names or rule.rpartition(" ")[2] in tables]

    async def checked(self) -> None:
        """Wait until the kernel has checked all addresses for duplicates.

        That changes each address and adds its route of table local, a second or two after the
        address came: link-local ones among them.
        """
        async with asyncio.timeout(WITHIN):
            while "tentative" in await self.ip("-6 address"):  # noqa: ASYNC110 (it answers at once)
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def changes(self, *kinds: str) -> AsyncIterator[list[str]]:
        """The kernel's notifications of these kinds (as `ip monitor` names them) during the block.

        They are complete after the block, which waits for a marker that it adds itself.
        """
        said: list[str] = []
        pipe = asyncio.subprocess.PIPE
        command = ("ip", "-oneline", "monitor", *dict.fromkeys([*kinds, "rule"]))
        monitor = await self.vpc.popen(self.vpc.host, *command, stdout=pipe)
        await self._mark(monitor, [])
        yield said
        await self._mark(monitor, said)
        monitor.terminate()
        await monitor.wait()

    async def _mark(self, monitor: asyncio.subprocess.Process, said: list[str]) -> None:
        """Read the output of a monitor up to our marker rule, and leave that out."""
        assert monitor.stdout is not None
        async with asyncio.timeout(WITHIN):
            while True:
                for verb in ("add", "del"):  # again and again: it may not listen yet
                    await self.ip(f"rule {verb} pref 31999 fwmark 0xec2 lookup 77")
                while line := await _line_within(monitor.stdout, 0.5):
                    if "31999" in line and line.startswith("Deleted"):
                        return
                    if "31999" not in line:
                        said.append(line)

    async def as_before(self, before: Footprint) -> None:
        """Wait until the kernel's objects are those of before, and no more files are open.

        It may have been `before` that caught a connection in the making.
        """
        now = before
        try:
            async with asyncio.timeout(WITHIN):
                while not (now := await self.footprint()).is_no_more_than(before):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)  # what closes has no event
        except TimeoutError:
            raise AssertionError(f"there was {before}, there is {now}") from None

    async def footprint(self) -> Footprint:
        return Footprint(await self.kernel_objects(), descriptors(self.daemon.process.pid))


async def _line_within(stream: asyncio.StreamReader, seconds: float) -> str:
    """The next line, or none if there is none for so long."""
    try:
        async with asyncio.timeout(seconds):
            return (await stream.readline()).decode().strip()
    except TimeoutError:
        return ""


@dataclass(frozen=True)
class Footprint:
    """What must not grow: the number of kernel objects and of the daemon's open files, by kind."""

    kernel: dict[str, list[str]]
    descriptors: Counter[str]

    def is_no_more_than(self, before: Footprint) -> bool:
        return self.kernel == before.kernel and self.descriptors <= before.descriptors


def descriptors(pid: int) -> Counter[str]:
    """The open files of a process, by kind. Without TCP: connections to IMDS come and go."""
    kinds = _socket_kinds(pid)
    found: Counter[str] = Counter()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:  # closed while we looked
            continue
        inode = target.removeprefix("socket:[").removesuffix("]")
        found[kinds.get(inode, "other socket") if target.startswith("socket:") else target] += 1
    del found["tcp"]
    return found


def _socket_kinds(pid: int) -> dict[str, str]:
    """The kind of each socket in a process' network namespace, by inode."""
    columns = {"tcp": 9, "tcp6": 9, "unix": 6, "netlink": 9}
    kinds: dict[str, str] = {}
    for table, column in columns.items():
        lines = Path(f"/proc/{pid}/net/{table}").read_text(encoding="utf-8").splitlines()[1:]
        kinds |= {line.split()[column]: table.removesuffix("6") for line in lines}
    return kinds


async def nothing(_: Ec2) -> None:
    """Nothing happens before the daemon starts."""


@asynccontextmanager
async def ec2_host(
    *enis: EniScript,
    primary: EniScript = PRIMARY,
    faults: Sequence[Fault] = (),
    config: str = DEFAULT,
    wrapper: Sequence[str] = (),
    settled: bool = True,
    manager: Manager = GOOD,
    before: Callable[[Ec2], Awaitable[None]] = nothing,
    judged: bool = True,
    watched: bool = True,
) -> AsyncIterator[HostUnderTest]:
    """A host with its primary plugged, which must not be disturbed until the end.

    `settled`: start once the daemon knows the primary. `wrapper`: a command that execs the daemon.
    `before`: what happens on the host before the daemon starts.

    At the end everybody must reach all that works; with `judged=False` not, where a scenario ends
    with something in the way. With `watched=False` the primary may be disturbed, too.
    """
    scenario = Scenario(primary.mac, (primary, *enis), tuple(faults))
    async with AsyncExitStack() as stack:
        ec2 = await stack.enter_async_context(Ec2(scenario, manager))
        await stack.enter_async_context(Acceptor(ec2.vpc, ec2.vpc.host))
        await before(ec2)
        watch = await stack.enter_async_context(watch_primary(ec2.vpc))
        daemon = await ec2.start_daemon(config, wrapper)
        host = HostUnderTest(ec2, daemon, watch)
        if settled:
            await host.until(primary.name, "ignored")
        yield host
        if judged and daemon.process.returncode is None:
            await host.everybody_reaches()
    if not watched or (manager is not GOOD and before is not nothing):
        return  # ... or it was cut off already when the daemon began
    silences = {str(path): watch.silence(path) for path in watch.attempts}
    if max(silences.values()) > DISTURBED + watch.late:
        raise AssertionError(f"the primary was disturbed; silent for, in s: {silences}")


def codes(reasons: Sequence[Mapping[str, str]]) -> set[str]:
    """The stable codes of reasons or notes."""
    return {reason["code"] for reason in reasons}


def waits_for(*wanted: str) -> Callable[[Status], bool]:
    """Whether an interface waits, and for exactly this."""
    return lambda status: (
        status["state"] == "awaiting-imds" and codes(status["reasons"]) == set(wanted)
    )


def verdicts(status: Status) -> dict[str, str]:
    """The verdict on each family."""
    return {family: status[family]["verdict"] for family in ("ipv4", "ipv6") if status[family]}


def complete(status: Status) -> bool:
    """Whether an interface is applied, with both families."""
    ready = {"ipv4": "ready", "ipv6": "ready"}
    return status["state"] == "applied" and verdicts(status) == ready


def works(status: Status) -> bool:
    """Whether the daemon says that an interface is applied, and that nothing is in its way."""
    up = "link-down" not in codes(status["notes"])
    return complete(status) and up and not status["shadowed"]


def late(at: float) -> tuple[Step, ...]:
    """The race: unlisted, then without IPv6 and with a wrong number, then complete."""
    return (
        Step(0.0, listed=False),
        Step(1.0, listed=True, hide=IPV6_KEYS, set={"device-number": "0"}),
        Step(3.0, set={"device-number": "1"}),
        Step(at, complete=True),
    )
