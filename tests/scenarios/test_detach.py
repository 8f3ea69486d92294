"""ENIs that go: all that is theirs goes along, nothing else does, and IMDS has no say in it."""

from __future__ import annotations

import asyncio

import pytest

from nicwatchd.sim.script import Step
from tests.scenarios.host import (
    DEFAULT,
    QUICK,
    HostUnderTest,
    complete,
    ec2_host,
    late,
    numbered,
    settings,
)

LEAVES = {
    *("local-ipv4s", "subnet-ipv4-cidr-block", "ipv6s", "subnet-ipv6-cidr-blocks"),
    *("mac", "interface-id", "subnet-id", "device-number"),
}


async def gone(host: HostUnderTest, name: str, detach: str = "") -> None:
    """Detach, and wait until the daemon has ended what it had; IMDS goes on listing the ENI.

    `detach` is a command of `ip` that takes the link away; by default EC2 does.
    """
    host.imds.step(name, lag=LEAVES)
    async with host.daemon.events() as events:
        if detach:
            await host.ip(detach)
        else:
            await host.vpc.unplug(host.eni(name))
        async with asyncio.timeout(60):
            async for status in events:
                if (status["name"], status["state"]) == (name, "gone"):
                    return


async def test_imds_lists_it_for_minutes_after() -> None:
    """The link's going is the truth. The other ENI, of the same subnet, keeps all it has."""
    stay, go = numbered(1, subnet=2), numbered(2, subnet=2)
    async with ec2_host(stay, go, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.footprint()
        await host.plug("eth2")
        await host.until("eth2", complete)
        await gone(host, "eth2")
        await host.as_before(before)
        await host.daemon.post("/v1/reconcile")
        assert await host.kernel_objects() == before.kernel
        assert complete(await host.status("eth1"))
        await host.all_reachable("eth1")


async def test_the_same_mac_under_another_ifindex_while_imds_is_stale() -> None:
    """It is served with what was known of the ENI, and only under its new numbers."""
    async with ec2_host(numbered(1)) as host:
        before = await host.footprint()
        await host.plug("eth1")
        first = await host.until("eth1", complete)
        await gone(host, "eth1")
        await host.as_before(before)
        await host.vpc.plug(host.ec2.eni("eth1"))
        second = await host.until("eth1", complete)
        await host.all_reachable("eth1")
        host.imds.step("eth1", complete=True)
        await host.daemon.post("/v1/reconcile")
        assert complete(await host.status("eth1"))
        assert second["index"] != first["index"]
        await host.all_reachable("eth1")
        tables = {rule.rpartition(" ")[2] for rule in await host.own_rules()}
        assert tables == {str(second["table"]), str((await host.status("eth0"))["table"])}
        await gone(host, "eth1")
        await host.as_before(before)


async def test_into_another_network_namespace_and_back() -> None:
    """As a container gets an ENI of its own. It comes back down, with its index and its group."""
    async with ec2_host(numbered(1)) as host:
        before = await host.footprint()
        await host.plug("eth1")
        first = await host.until("eth1", complete)
        other = await host.vpc.add_namespace("container")
        async with host.daemon.events() as events:
            await host.ip(f"link set eth1 netns {other}")
            async with asyncio.timeout(60):
                async for status in events:
                    if (status["name"], status["state"]) == ("eth1", "gone"):
                        break
        await host.as_before(before)
        assert [i["name"] for i in await host.daemon.get("/v1/interfaces")] == ["eth0"]
        await host.vpc.ip(other, f"link set eth1 netns {host.vpc.host}")
        second = await host.until("eth1", complete)
        assert second["seen"] > first["seen"]
        await host.all_reachable("eth1")


async def test_into_another_network_namespace_and_back_at_once() -> None:
    async with ec2_host(numbered(1)) as host:
        other = await host.vpc.add_namespace("container")
        await host.plug("eth1")
        first = await host.until("eth1", complete)
        script = f"ip link set eth1 netns {other} && ip -n {other} link set eth1 netns $0"
        await host.vpc.exec(host.vpc.host, "sh", "-c", script, host.vpc.host)
        second = await host.until("eth1", lambda now: complete(now) and now["seen"] > first["seen"])
        assert second["index"] == first["index"]
        await host.all_reachable("eth1")


WAITS_FOR_DHCP = settings({"address_wait": 3600.0})
NO_IP = (Step(0.0, hide=frozenset({"local-ipv4s", "ipv6s"})),)


@pytest.mark.parametrize(
    ("state", "steps", "config"),
    [
        pytest.param("detected", (), DEFAULT, id="detected"),
        pytest.param("awaiting-imds", late(3600.0), DEFAULT, id="awaiting"),
        pytest.param("validated", (), WAITS_FOR_DHCP, id="validated"),
        pytest.param("applied", (), DEFAULT, id="applied"),
        pytest.param("ignored", NO_IP, settings(QUICK), id="ignored"),
    ],
)
async def test_in_each_state(state: str, steps: tuple[Step, ...], config: str) -> None:
    async with ec2_host(numbered(1, steps=steps), config=config) as host:
        before = await host.footprint()
        if state == "detected":
            host.imds.fault("all", "timeout")
        await host.plug("eth1")
        await host.until("eth1", state)
        await gone(host, "eth1")
        host.imds.clear()
        await host.as_before(before)
