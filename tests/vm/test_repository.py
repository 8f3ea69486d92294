"""A host that installs from the repository by apt, as users do: up, down and away, with traffic.

The version before is another one's work: what the newer leaves in the kernel and in /run, it finds.
"""

from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Final

import pytest
import pytest_asyncio

from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import all_answer
from tests.vm import image
from tests.vm.clients import hands_off
from tests.vm.conftest import HOST
from tests.vm.enis import script
from tests.vm.host import PATIENCE, ROOT, VmHost
from tests.vm.streams import stream, talking

pytestmark = pytest.mark.asyncio(loop_scope="session")

MADE: Final = ROOT / "build/pair"  # by systemd/packaging/repository/pair
SOURCES: Final = "/etc/apt/sources.list.d"
APT: Final = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--quiet")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[VmHost]:
    """An EC2 host that never had nicwatchd, with the repository in /srv."""
    directory = tmp_path_factory.mktemp(f"{request.param}-apt")
    archive = directory / "repository.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(MADE, "repository")
    async with VmHost(image.find(request.param), directory, archive) as booted:
        request.config.stash[HOST] = booted
        await booted.vm.run("tar", "--extract", "--file=/dev/vdb", "--directory=/srv")
        # The distribution's own cannot be reached from here.
        await booted.vm.run("sh", "-c", f"rm -f /etc/apt/sources.list {SOURCES}/*")
        await booted.vm.run("cp", "/srv/repository/nicwatchd.sources", SOURCES)
        await booted.vm.run("apt-get", "update", "--error-on=any")
        await all_answer(booted.vpc, booted.paths(booted.vpc.primary), PATIENCE)
        yield booted


async def versions(host: VmHost) -> list[str]:
    """What the repository has, the newest first."""
    lines = (await host.vm.run("apt-cache", "madison", "nicwatchd")).splitlines()
    return [line.split("|")[1].strip() for line in lines]


async def installed(host: VmHost) -> str:
    shown = await host.vm.run("dpkg-query", "--show", "--showformat=${Version}", "nicwatchd")
    return shown.strip()


async def traces(host: VmHost) -> list[str]:
    """All files that bear the name, and the links in the group of ENIs."""
    found = await host.vm.run("find", "/", "/run", "-xdev", "-name", "*nicwatchd*")
    links = await host.vm.run("ip", "-oneline", "link", "show", "group", "3778")
    return sorted([*found.splitlines(), *links.splitlines()])


async def programmed_by(host: VmHost, version: str, *enis: Eni) -> list[str]:
    """What is in the kernel once this version runs, has applied ens6 and ens7, and rests."""
    assert await installed(host) == version

    async def works() -> bool:
        states = [(await host.status(name)).get("state") for name in ("ens6", "ens7")]
        healthy = (await host.vm.try_run("nicwatchd", "status")).code == 0
        return healthy and states == ["applied"] * 2

    await host.eventually(works)
    return await host.use(*enis)


async def test_a_hotplug_works_with_what_apt_installed(host: VmHost) -> None:
    before = await traces(host)
    await host.vm.run(*APT, "install", "nicwatchd")
    assert await installed(host) == (await versions(host))[0]
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)) as (eni,):
        await host.until("ens6", "applied", since)
        await all_answer(host.vpc, host.paths(eni), PATIENCE)
        await all_answer(host.vpc, host.to_primary(eni), PATIENCE)
        await host.vm.run(*APT, "remove", "nicwatchd")
        await host.keeps_nothing()
        assert not await host.is_in_our_group("ens6")
    await host.vm.run(*APT, "purge", "nicwatchd")
    assert await traces(host) == before


@pytest.mark.long
@pytest.mark.client("networkd")
@pytest.mark.parametrize(
    "which",
    [
        pytest.param(
            -1, id="the version before", marks=[*map(pytest.mark.only, ("trixie", "bookworm"))]
        ),
        # Python is too new there for 0.1.0. What is installed first has the files of the newest.
        pytest.param(-2, id="the same files", marks=pytest.mark.only("sid")),
    ],
)
async def test_an_upgrade_and_a_downgrade_lose_no_stream(host: VmHost, which: int) -> None:
    """To addresses that nicwatchd added (ens6), and to those of leases (ens7)."""
    before = await traces(host)
    there = await versions(host)
    newer, older = there[0], there[which]
    await host.vm.run(*APT, "install", f"nicwatchd={older}")
    async with (
        hands_off(host),
        host.plugged(script("ens6", 2), dhcp=False) as (own,),
        host.plugged(script("ens7", 3)) as (leased,),
    ):
        first = await programmed_by(host, older, own, leased)
        async with AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(stream(host.vpc, address))
                for eni in (own, leased)
                for address in eni.addresses()
            ]
            async with talking(*streams):
                await host.vm.run(*APT, "upgrade")
                await programmed_by(host, newer, own, leased)
            async with talking(*streams):
                await host.vm.run(*APT, "install", "--allow-downgrades", f"nicwatchd={older}")
                assert await programmed_by(host, older, own, leased) == first
        await host.vm.run(*APT, "purge", "nicwatchd")
        await host.keeps_nothing()
        shown = ("ip", "-oneline", "address", "show", "dev", "ens6", "scope", "global")
        assert await host.vm.run(*shown) == ""
    assert await traces(host) == before
    assert await host.vm.run("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""
