"""`nicwatchd wait` on a host, in the order in which a host that boots has things."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.probe import Acceptor, all_answer, paths
from nicwatchd.sim.script import Scenario, Step
from nicwatchd.sim.vpc import Vpc
from tests.scenarios.commands import NICWATCHD
from tests.scenarios.host import DEFAULT, IPV6_KEYS, PRIMARY, WITHIN, ec2_host, numbered

ETH1 = numbered(1, interface_id="eni-0a1b2c3d4e5f60720", ipv4=("10.0.2.11", "10.0.2.12"))
LATE = numbered(
    1,
    interface_id="eni-0a1b2c3d4e5f60720",
    steps=(Step(0.0, hide=IPV6_KEYS), Step(3.0, complete=True)),
)
V4, V6 = "10.0.2.11", "2001:db8:ec2:2::11"


class Waiting:
    """A `nicwatchd wait` that runs on the host."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def until(self, text: str) -> None:
        """Read its lines up to one with this text."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN):
            while not self.said or text not in self.said[-1]:
                line = (await self.process.stdout.readline()).decode().strip()
                assert line, f"it ended; said: {self.said}"
                self.said.append(line)

    async def end(self) -> int:
        """Its exit code."""
        async with asyncio.timeout(WITHIN):
            out, _ = await self.process.communicate()
        self.said += out.decode().splitlines()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def waiting(vpc: Vpc, *words: str) -> AsyncIterator[Waiting]:
    pipe = asyncio.subprocess.PIPE
    command = (*NICWATCHD, "wait", *words, "--runtime-directory", str(vpc.runtime_dir))
    process = await vpc.popen(vpc.host, *command, stdout=pipe, stderr=pipe)
    try:
        yield Waiting(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_before_the_daemon_runs_and_before_the_attach() -> None:
    async with (
        Ec2(Scenario(PRIMARY.mac, (PRIMARY, ETH1))) as ec2,
        Acceptor(ec2.vpc, ec2.vpc.host),
        waiting(ec2.vpc, "eni-0a1b2c3d4e5f60720") as by_id,
        waiting(ec2.vpc, V6) as by_address,
        waiting(ec2.vpc, "eth0", ETH1.mac) as both,
    ):
        for each in (by_id, by_address, both):
            await each.until("the daemon does not run yet")
        await ec2.start_daemon(DEFAULT)
        await by_id.until("not attached yet")
        await by_address.until("no interface has this address yet")
        await both.until("eth0: IPv4")
        await ec2.plug("eth1")
        assert [await each.end() for each in (by_id, by_address, both)] == [0, 0, 0]
        # It promised that it works, now; from everywhere.
        await all_answer(
            ec2.vpc, paths(ec2.vpc.peers(*ec2.vpc.enis), ec2.eni("eth1").addresses()), within=2.0
        )
        assert by_id.said[-1].startswith("eni-0a1b2c3d4e5f60720: eth1, IPv4 10.0.2.11 works, ")
        assert f"IPv6 {V6} works, " in by_id.said[-1]
        assert by_address.said[-1].startswith(f"{V6}: eth1, IPv6 works, ")
        assert both.said[-1].startswith(f"{ETH1.mac}: eth1, IPv4 10.0.2.11 works, ")


async def test_ipv4_comes_before_ipv6() -> None:
    async with (
        ec2_host(LATE) as host,
        waiting(host.vpc, "eth1", "--for", "ipv4") as ipv4,
        waiting(host.vpc, "eth1", "--for", "any") as anything,
        waiting(host.vpc, "eth1", "--for", "ipv6") as ipv6,
        waiting(host.vpc, "eth1") as everything,
    ):
        for each in (ipv4, anything, ipv6, everything):
            await each.until("not attached yet")
        await host.plug("eth1")
        assert [await each.end() for each in (ipv4, anything)] == [0, 0]
        status = await host.status("eth1")
        assert (status["ipv4"]["health"], status["ipv6"]["health"]) == ("working", "not-working")
        assert ipv6.process.returncode is None
        assert everything.process.returncode is None
        assert [await each.end() for each in (ipv6, everything)] == [0, 0]
        assert any("IPv4 10.0.2.11 works, " in line for line in everything.said)
        assert any("IPv6 waits: " in line for line in everything.said)


async def test_an_address_that_is_assigned_later_and_the_last_reason() -> None:
    one = numbered(1, interface_id="eni-0a1b2c3d4e5f60720")
    async with ec2_host(one) as host:
        await host.plug("eth1")
        await host.until("eth1", "applied")
        async with waiting(host.vpc, "10.0.2.12", "--timeout", "0.3") as short:
            assert await short.end() == 1
        async with waiting(host.vpc, "10.0.2.12") as later:
            await later.until("no interface has this address yet")
            await host.change(ETH1)
            assert await later.end() == 0
        assert later.said[-1].startswith("10.0.2.12: eth1, IPv4 works")
