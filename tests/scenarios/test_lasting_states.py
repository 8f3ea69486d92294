"""What is missing for good: the right lasting state, why, and that it is no end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.sim.script import Step
from tests.scenarios.host import (
    QUICK,
    codes,
    complete,
    ec2_host,
    numbered,
    settings,
    verdicts,
    waits_for,
)

IPV4_ONLY = numbered(1, ipv6=(), subnet_ipv6=())
IPV6_ONLY = numbered(1, ipv4=(), subnet_ipv4=None)


async def test_ipv4_only() -> None:
    async with ec2_host(IPV4_ONLY, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", waits_for("undecided-ipv6"))
        status = await host.until("eth1", "applied")
        assert verdicts(status) == {"ipv4": "ready", "ipv6": "absent"}
        assert codes(status["notes"]) == {"no-sign-of-ipv6"}
        await host.all_reachable("eth1")
        rules = await host.ip("-6 rule")
        assert not [word for word in ("eth1", str(status["table"])) if word in rules]


async def test_ipv6_only() -> None:
    async with ec2_host(IPV6_ONLY, config=settings(QUICK)) as host:
        await host.plug("eth1")
        # DHCPv4 hands out such an address there; it is no sign of IPv4.
        lease = "valid_lft 3600 preferred_lft 3600"
        await host.vpc.ip(host.vpc.host, f"addr add 169.254.7.7/16 dev eth1 {lease}")
        await host.until("eth1", waits_for("undecided-ipv4"))
        status = await host.until("eth1", "applied")
        assert verdicts(status) == {"ipv4": "absent", "ipv6": "ready"}
        assert codes(status["notes"]) == {"no-sign-of-ipv4"}
        await host.all_reachable("eth1")
        rules = await host.ip("-4 rule")
        assert not [word for word in ("eth1", str(status["table"])) if word in rules]


LISTS = frozenset({"local-ipv4s", "ipv6s"})
SUBNETS = frozenset({"subnet-ipv4-cidr-block", "subnet-ipv6-cidr-blocks"})


@pytest.mark.parametrize("hidden", [LISTS, LISTS | SUBNETS], ids=["with-subnets", "without"])
async def test_efa_only_until_addresses_come_all_the_same(hidden: frozenset[str]) -> None:
    eni = numbered(1, steps=(Step(0.0, hide=hidden),))
    async with ec2_host(eni, config=settings(QUICK)) as host:
        before = await host.kernel_objects()
        await host.plug("eth1")
        status = await host.until("eth1", "ignored")
        assert codes(status["reasons"]) == {"no-ip"}
        assert await host.kernel_objects() == before
        host.imds.step("eth1", complete=True)
        await host.until("eth1", complete)
        await host.all_reachable("eth1")


NO_IPV6 = numbered(1, ipv6=())


async def test_an_ipv6_subnet_and_an_eni_without_ipv6() -> None:
    async with ec2_host(NO_IPV6, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", waits_for("no-ipv6s"))
        status = await host.until("eth1", "applied")
        assert verdicts(status) == {"ipv4": "ready", "ipv6": "absent"}
        assert codes(status["notes"]) == {"no-ipv6-assigned"}
        await host.all_reachable("eth1")


async def test_an_expected_family_is_waited_for_for_ever() -> None:
    wanted = settings(QUICK, expect=["ipv6"])
    async with ec2_host(NO_IPV6, config=wanted) as host:
        await host.plug("eth1")
        status = await host.until("eth1", lambda now: bool(now["overdue"]))
        assert status["state"] == "awaiting-imds"
        assert codes(status["reasons"]) == {"no-ipv6s"}
        ready = await host.daemon.get("/readyz")
        assert ready["status"] == "failing"
        assert "eth1 IPv6: not working: IMDS lists no ipv6s yet" in ready["waiting"][0]
        await host.all_reachable("eth1")


async def test_an_ra_with_the_managed_flag_and_nothing_else() -> None:
    unlisted = replace(IPV4_ONLY, steps=(Step(0.0, listed=False),))
    async with ec2_host(unlisted, config=settings(QUICK | {"patience": 6.0})) as host:
        await host.plug("eth1")
        await host.vpc.ip(host.vpc.host, "link set eth1 up")
        await host.advertise("eth1")
        host.imds.step("eth1", listed=True)
        # Longer than the settling time: the flag says that IPv6 will come.
        await host.until("eth1", waits_for("no-ipv6s", "no-subnet-ipv6-cidr-blocks"))
        status = await host.until("eth1", "applied")
        assert verdicts(status) == {"ipv4": "ready", "ipv6": "absent"}
        assert codes(status["notes"]) == {"no-ipv6-assigned"}
        await host.all_reachable("eth1")
