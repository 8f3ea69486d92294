"""IPv6 that is switched off: for links, as hardening guides do, or when the host boots."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import pytest_asyncio

from nicwatchd.core.model import Family
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import all_answer, paths
from tests.vm import image
from tests.vm.clients import hands_off
from tests.vm.conftest import DEFAULT
from tests.vm.enis import script
from tests.vm.host import PATIENCE, VmHost, package

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def without_ipv6(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[VmHost]:
    """A host of its own, booted with `ipv6.disable=1`: of the first image only, as a boot is long.

    Debian's kernels have IPv6 built in, so nothing but the kernel's command line does it.
    """
    first = (request.config.getoption("image") or [DEFAULT])[0]
    directory = tmp_path_factory.mktemp("without-ipv6")
    booted = VmHost(image.find(first), directory, package(), kernel_words=("ipv6.disable=1",))
    async with booted:
        await booted.install()
        # What deletes foreign rules when a link appears, until it has read the package's drop-in.
        await booted.vm.run("systemctl", "restart", "systemd-networkd")
        yield booted


async def is_off(host: VmHost) -> bool:
    """Whether IPv4 is complete, and IPv6 off."""
    status = await host.status("ens6")
    verdicts = [(status.get(family) or {}).get("verdict") for family in ("ipv4", "ipv6")]
    return (status.get("state"), verdicts) == ("applied", ["ready", "off"])


async def is_whole(host: VmHost) -> bool:
    """Whether both families are complete."""
    status = await host.status("ens6")
    verdicts = [(status.get(family) or {}).get("verdict") for family in ("ipv4", "ipv6")]
    return (status.get("state"), verdicts) == ("applied", ["ready", "ready"])


async def operations(host: VmHost) -> set[str]:
    """What was asked of the kernel and what came of it, and how often, as the metrics have it."""
    lines = (await host.metrics()).splitlines()
    return {line for line in lines if line.startswith("nicwatchd_operations_total")}


async def tells_no_bug(host: VmHost) -> None:
    """No operation had an answer that no correct request can get, and nothing was caught."""
    bugs = [line for line in await operations(host) if 'result="bug"' in line]
    assert bugs
    assert all(line.endswith(" 0.0") for line in bugs), bugs
    said = await host.host_status()
    assert (said["problems"], said["surprises"]) == ([], 0)


async def works_without_ipv6(host: VmHost, eni: Eni) -> None:
    """IPv4 answers, IPv6 is off and said to be, and there is nothing to try again."""
    await host.eventually(partial(is_off, host))
    wanted = paths(host.vpc.peers(eni), eni.addresses(Family.V4))
    await all_answer(host.vpc, wanted, PATIENCE)
    await host.vm.run("nicwatchd", "reconcile")
    before = await operations(host)
    await host.vm.run("nicwatchd", "reconcile")  # exits 0: it waits for nothing
    assert await operations(host) == before
    assert await is_off(host)
    status = await host.status("ens6")
    assert "ipv6-off" in {note["code"] for note in status["notes"]}
    assert not status["fought_over"]
    await tells_no_bug(host)


async def test_by_sysctl_before_and_after_the_hot_plug(host: VmHost) -> None:
    since = host.vm.journal.now
    async with hands_off(host), off_for_new_links(host):
        async with host.plugged(script("ens6", 2), dhcp=False) as (eni,):
            await works_without_ipv6(host, eni)
            await switch(host, "ens6", off=False)
            await host.eventually(partial(is_whole, host))
            await all_answer(host.vpc, host.paths(eni), PATIENCE)
            await switch(host, "ens6", off=True)
            await works_without_ipv6(host, eni)
        await host.until("ens6", "gone", since)
    await host.keeps_nothing()


@asynccontextmanager
async def off_for_new_links(host: VmHost) -> AsyncIterator[None]:
    await switch(host, "default", off=True)
    try:
        yield
    finally:
        await switch(host, "default", off=False)


async def switch(host: VmHost, where: str, *, off: bool) -> None:
    await host.vm.run("sysctl", "--write", f"net.ipv6.conf.{where}.disable_ipv6={int(off)}")


async def test_when_the_host_boots(without_ipv6: VmHost) -> None:
    host = without_ipv6
    since = host.vm.journal.now
    async with host.plugged(script("ens6", 2)) as (eni,):
        await works_without_ipv6(host, eni)
        await host.vm.run("systemctl", "restart", "nicwatchd")
        await host.eventually(partial(is_off, host))
        await tells_no_bug(host)
        await host.vm.run("nicwatchd", "release", "--all")  # exits 0: it has removed all
        assert "proto 236" not in await host.vm.run("ip", "-4", "rule")
        await host.vm.run("nicwatchd", "reconcile")
        await host.eventually(partial(is_off, host))
    await host.until("ens6", "gone", since)
    assert "proto 236" not in await host.vm.run("ip", "-4", "rule")
    assert await host.vm.run("systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""
