"""Broken hosts: `status` names the cause, and what it says mends it; exit code and /readyz follow.

The table is in broken_hosts.py; what does not fit into it is here. Truth is reachability by TCP.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from typing import Any

import aiohttp
import pytest

from nicwatchd.sim.probe import PORT, Acceptor, Path, all_answer, matrix, paths
from tests.scenarios.broken_hosts import AFTER, HOSTS, BrokenHost, Where
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.host import WITHIN, HostUnderTest, complete, ec2_host
from tests.scenarios.software import eventually

Cause = tuple[str, str]  # the text and the remedy
PACE = 0.05


# --- what is told ------------------------------------------------------------------------------


async def readyz(host: HostUnderTest) -> int:
    async with (
        aiohttp.ClientSession(
            "http://nicwatchd", connector=aiohttp.UnixConnector(str(host.daemon.socket))
        ) as session,
        session.get("/readyz") as response,
    ):
        return response.status


async def is_well(host: HostUnderTest) -> None:
    """Wait until /readyz says so; then `status` does, too."""

    async def ready() -> bool:
        return await readyz(host) == 200

    await eventually(ready)
    said = await nicwatchd_on(host.vpc, "status")
    assert said.code == 0, said.out


async def is_not_well(host: HostUnderTest) -> str:
    """What `status` prints, which agrees with /readyz."""
    assert await readyz(host) == 503
    said = await nicwatchd_on(host.vpc, "status")
    assert said.code == 1, said.out
    return flat(said.out)


def flat(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def told(document: dict[str, Any], broken: BrokenHost) -> list[Cause]:
    """The causes of this code that the daemon tells, in both families, each once."""
    found = [i for i in document["interfaces"] if i["name"] == broken.on]
    reasons: Iterator[dict[str, str]] = iter(())
    if found and broken.where is Where.CAUSES:
        parts = [found[0][family] for family in ("ipv4", "ipv6") if found[0][family]]
        reasons = (cause for part in parts for cause in part["causes"])
    elif found:
        reasons = iter(found[0][broken.where.value])
    return list(
        dict.fromkeys((r["text"], r["remedy"]) for r in reasons if r["code"] == broken.code)
    )


async def until_told(host: HostUnderTest, broken: BrokenHost) -> list[Cause]:
    """Wait until the daemon tells the cause with all its words, and no more changes."""
    last: dict[str, Any] = {}

    async def is_told() -> bool:
        nonlocal last
        last = await host.daemon.get("/v1/status")
        texts = [text for text, _ in told(last, broken)]
        return any(all(words in text for words in broken.words) for text in texts)

    await eventually(is_told, lambda: f"not told: {broken.code}: {last}")
    await host.daemon.post("/v1/reconcile")
    causes = told(await host.daemon.get("/v1/status"), broken)
    assert any(all(words in text for words in broken.words) for text, _ in causes), causes
    return causes


async def prints(host: HostUnderTest, broken: BrokenHost, causes: Sequence[Cause]) -> None:
    """What a person reads of it: the causes, and what mends each."""
    if broken.is_well:
        await is_well(host)
        shown = flat((await nicwatchd_on(host.vpc, "status", broken.on)).out)
    else:
        shown = await is_not_well(host)
    for text, remedy in causes:
        assert flat(text) in shown, shown
        assert flat(remedy) in shown, shown
        assert re.fullmatch(broken.remedy, remedy), remedy


# --- what is true ------------------------------------------------------------------------------


def dead_paths(host: HostUnderTest, broken: BrokenHost) -> tuple[Path, ...]:
    """The paths that do not answer while it is broken."""
    peers = host.vpc.far_hosts
    if not broken.from_far:
        peers = (host.vpc.neighbour(host.eni("eth1").subnet),)
    return paths(peers, map(ip_address, broken.dead))


@asynccontextmanager
async def answering(host: HostUnderTest, broken: BrokenHost) -> AsyncIterator[None]:
    """Whoever answers on the port: the host does already, a container has to."""
    if broken.port == PORT:
        yield
        return
    async with Acceptor(host.vpc, f"{host.vpc.id}-on-br0"):
        yield


async def is_dead(host: HostUnderTest, broken: BrokenHost) -> None:
    tried = dead_paths(host, broken)
    assert tried or not broken.dead
    answers = await matrix(host.vpc, tried, broken.port)
    assert [str(path) for path, reply in answers.items() if reply] == []


async def run_as_printed(host: HostUnderTest, command: str) -> None:
    """Run a remedy in the host's network namespace, where the tests are root already."""
    plain = command.replace("sudo ", "")
    await host.vpc.exec(host.vpc.host, "sh", "-c", plain)


async def mend(host: HostUnderTest, broken: BrokenHost, causes: Sequence[Cause]) -> None:
    if broken.mend is not None:
        await broken.mend(host)
        return
    for command in dict.fromkeys(remedy for _, remedy in causes):
        await run_as_printed(host, command)


# --- the table -----------------------------------------------------------------------------------


def cases() -> Iterator[Any]:
    for broken in HOSTS:
        for moment in broken.moments:
            marks = [pytest.mark.lasts(broken.lasts)] if broken.lasts else []
            yield pytest.param(broken, moment, id=f"{broken}-{moment}", marks=marks)


@pytest.mark.parametrize(("broken", "moment"), list(cases()))
async def test_a_broken_host_is_named_and_mended(broken: BrokenHost, moment: str) -> None:
    async def before(ec2: Any) -> None:
        await broken.prepare(ec2)
        if moment != AFTER:
            await ec2.plug(*(eni.name for eni in broken.enis))
            await broken.spoil(ec2)

    settled = moment == AFTER
    async with ec2_host(
        *broken.enis,
        config=broken.config,
        wrapper=broken.wrapper,
        settled=settled,
        before=before,
        watched=not broken.harms_primary,
    ) as host:
        if moment == AFTER:
            await host.plug(*(eni.name for eni in broken.enis))
            for eni in broken.enis:
                await host.until(eni.name, complete)
            await is_well(host)
            await broken.spoil(host.ec2)
        async with answering(host, broken):
            causes = await until_told(host, broken)
            await prints(host, broken, causes)
            await is_dead(host, broken)
            await mend(host, broken, causes)
            await is_well(host)
            await all_answer(host.vpc, dead_paths(host, broken), WITHIN, broken.port)
        for eni in broken.enis:
            await host.until(eni.name, complete)
