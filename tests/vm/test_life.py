"""The daemon stops, dies or hangs; what it programmed, and who talks through it, live on."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import all_answer
from tests.vm.channels import Entry
from tests.vm.enis import script
from tests.vm.host import PATIENCE, VmHost
from tests.vm.streams import Stream, stream

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEATH = 180.0  # s; the watchdog's 30, systemd's own patience, and a busy machine


def started(entry: Entry) -> bool:
    """Whether this is the daemon's first word."""
    return str(entry.fields.get("MESSAGE_ID")) == "81dff20752e448e7a835086952327afc"


async def main_pid(host: VmHost) -> str:
    return (await host.vm.run("systemctl", "show", "-P", "MainPID", "nicwatchd")).strip()


@asynccontextmanager
async def in_use(host: VmHost) -> AsyncIterator[tuple[Eni, Stream, list[str]]]:
    """An ENI that is applied, a connection to it, and what is programmed for it."""
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)) as (eni,):
        await host.until("ens6", "applied", since)
        programmed = await host.use(eni)
        async with stream(host.vpc, eni.ipv6[0]) as opened:
            yield eni, opened, programmed
    await host.until("ens6", "gone", since)


@pytest.mark.parametrize(
    "end",
    [
        ["systemctl", "restart", "nicwatchd"],
        ["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "nicwatchd"],
        ["systemctl", "kill", "--kill-whom=main", "--signal=STOP", "nicwatchd"],
    ],
    ids=["restart", "kill -9", "watchdog"],
)
async def test_connections_live_on(host: VmHost, end: list[str]) -> None:
    async with in_use(host) as (eni, to_eni, programmed):
        pid = await main_pid(host)
        since = host.vm.journal.now
        await host.vm.run(*end)
        await host.vm.journal.until(started, since, DEATH)
        await host.until("ens6", "applied", since)
        assert await main_pid(host) != pid
        await host.has_kept(programmed)
        await to_eni.speak()
        await all_answer(host.vpc, host.paths(eni), PATIENCE)


async def test_the_journal_answers_while_the_daemon_is_stopped(host: VmHost) -> None:
    async with in_use(host) as (_, to_eni, _):
        await host.vm.run("systemctl", "stop", "nicwatchd")
        try:
            said = await host.vm.try_run("nicwatchd", "status", "--journal")
            await to_eni.speak()
        finally:
            since = host.vm.journal.now
            await host.vm.run("systemctl", "start", "nicwatchd")
            await host.until("ens6", "applied", since)
    assert "ens6" in said.out, said
    assert said.code == 4
    assert "THE DAEMON DOES NOT RUN" in said.out
    assert re.search(r"^ens6 .* working ", said.out, re.MULTILINE), said
