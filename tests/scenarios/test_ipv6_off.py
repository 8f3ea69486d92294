"""IPv6 is switched off on the host or on a link, or the link's MTU is too small for it."""

from __future__ import annotations

from nicwatchd.core.model import Family
from tests.scenarios.host import HostUnderTest, codes, complete, ec2_host, numbered, verdicts
from tests.scenarios.test_healing import metrics

OFF = {"ipv4": "ready", "ipv6": "off"}


def disable(host: HostUnderTest, where: str, *, disabled: bool) -> None:
    host.vpc.sysctl(host.vpc.host, {f"ipv6/conf/{where}/disable_ipv6": str(int(disabled))})


async def works_without_ipv6(host: HostUnderTest) -> None:
    """IPv4 is applied and answers; IPv6 is off; nothing is tried again and again."""
    status = await host.until("eth1", lambda s: s["state"] == "applied" and verdicts(s) == OFF)
    assert codes(status["notes"]) == {"ipv6-off"}
    await host.checked()
    async with host.changes("route", "addr", "link") as said:
        for _ in range(3):
            await host.daemon.post("/v1/reconcile")
    assert said == []
    assert (await host.status("eth1"))["state"] == "applied"
    eni = host.eni("eth1")
    await host.all_reachable("eth1", addresses=eni.addresses(Family.V4))


async def tells_no_bug(host: HostUnderTest) -> None:
    """No operation had an answer that no correct request can get, and nobody fights."""
    text = await metrics(host)
    lines = [line for line in text.splitlines() if line.startswith("nicwatchd_operations_total")]
    bugs = [line for line in lines if 'result="bug"' in line]
    assert bugs
    assert all(line.endswith(" 0.0") for line in bugs), bugs
    assert not (await host.status("eth1"))["fought_over"]


async def test_off_for_new_links_as_hardening_guides_have_it() -> None:
    async with ec2_host(numbered(1)) as host:
        disable(host, "default", disabled=True)
        await host.plug("eth1")
        await works_without_ipv6(host)
        disable(host, "eth1", disabled=False)
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        await tells_no_bug(host)


async def test_off_while_it_is_applied() -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        disable(host, "eth1", disabled=True)
        await works_without_ipv6(host)
        disable(host, "eth1", disabled=False)
        await host.until("eth1", complete)
        await tells_no_bug(host)


async def test_an_mtu_below_1280() -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.ip("link set eth1 mtu 1200")
        await works_without_ipv6(host)
        await host.ip("link set eth1 mtu 1500")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        await tells_no_bug(host)
