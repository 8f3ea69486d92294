"""Ports that containers publish on the host's addresses, with `forwarded = "connmark"`."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest

from nicwatchd.sim import containers
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import Path, paths
from tests.scenarios.host import HostUnderTest, complete, ec2_host, numbered, settings
from tests.scenarios.publishing import FORMS, all_published, answering, docker_nftables, silent

CONNMARK = settings(forwarded="connmark")
BRIDGED = (IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64"))


async def bridged(host: HostUnderTest) -> Peer:
    return await containers.bridged(host.vpc, *BRIDGED)


def to(host: HostUnderTest, *names: str) -> tuple[Path, ...]:
    """From everybody to all addresses of these ENIs."""
    enis = [host.eni(name) for name in names]
    return paths(host.vpc.peers(*enis), [ip for eni in enis for ip in eni.addresses()])


@pytest.mark.parametrize("form", FORMS)
async def test_a_published_port_answers_on_every_eni(form: str) -> None:
    async with ec2_host(numbered(1), numbered(2), config=CONNMARK) as host:
        box = await bridged(host)
        await FORMS[form](host, box, "br0")
        await host.plug("eth1")
        await host.until("eth1", complete)
        async with answering(host, box):
            await all_published(host, to(host, "eth0", "eth1"))
            await host.plug("eth2")
            await host.until("eth2", complete)
            await all_published(host, to(host, "eth0", "eth1", "eth2"))


async def test_without_the_setting_it_does_not() -> None:
    """What the setting is for; and nothing of it is there."""
    async with ec2_host(numbered(1)) as host:
        box = await bridged(host)
        await docker_nftables(host, box)
        await host.plug("eth1")
        await host.until("eth1", complete)
        async with answering(host, box):
            await all_published(host, to(host, "eth0"))
            assert await silent(host, to(host, "eth1"))
        assert "nicwatchd" not in await host.vpc.exec(host.vpc.host, "nft", "list", "tables")
        assert "fwmark" not in await host.ip("rule")
