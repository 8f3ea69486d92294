"""ENIs of two VPCs with equal subnets on one host, and with one address."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.core.model import Family
from tests.scenarios.host import DEFAULT, codes, complete, ec2_host, numbered

pytestmark = pytest.mark.long


# The sim has one router, so the second ENI's subnet is the same network there.
OTHER = replace(numbered(2, subnet=2), subnet_id="subnet-00000000000000099")


@pytest.mark.parametrize("leased", [False, True], ids=["static", "dhcp"])
async def test_equal_subnets(*, leased: bool) -> None:
    async with ec2_host(numbered(1), OTHER) as host:
        await host.plug("eth1", "eth2")
        if leased:
            for name in ("eth1", "eth2"):
                for family in Family:
                    await host.vpc.lease(host.eni(name), family)
        for name in ("eth1", "eth2"):
            await host.until(name, complete)
        await host.all_reachable("eth1", "eth2")
        await host.daemon.kill()
        await host.daemon.start(DEFAULT)
        for name in ("eth1", "eth2"):
            await host.until(name, complete)
            assert not codes((await host.status(name))["notes"])
        await host.all_reachable("eth1", "eth2")


async def test_one_address_in_two_vpcs() -> None:
    """The sim delivers to eth1 only; IMDS lists eth1's address on eth2 as well."""
    first = numbered(1)
    async with ec2_host(first, OTHER) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.plug("eth2")
        host.tell(replace(OTHER, ipv4=first.ipv4, ipv6=first.ipv6))
        status = await host.until("eth2", lambda s: "same-address" in codes(s["notes"]))
        await host.until("eth2", complete)
        assert all("eth1" in n["text"] for n in status["notes"])
        await host.all_reachable("eth1")
        for address in host.eni("eth1").addresses():
            assert str(address) in await host.ip("addr show dev eth2")
        for to, source in (("198.51.100.50", first.ipv4), ("2001:db8:5100::50", first.ipv6)):
            bound = await host.ip(f"route get {to} oif eth2")
            assert " dev eth2 " in bound
            assert f" src {source[0]} " in bound
            assert " dev eth1 " in await host.ip(f"route get {to} from {source[0]}")
