"""A container network that owns the secondary ENIs, and one that does not."""

from __future__ import annotations

import pytest

from tests.scenarios.host import codes, complete, ec2_host, numbered

# The VPC CNI with NodePort support off and external SNAT on, and Cilium in its ENI mode.
OWNERS = {
    "VPC CNI": ("pref 512 to {} lookup main", "pref 1536 from {} lookup 2"),
    "Cilium": ("pref 20 to {} lookup main", "pref 111 from {} lookup 11"),
}
POD, POD6 = "10.0.2.77", "2001:db8:ec2:2::77"


@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize("owner", OWNERS)
async def test_its_rules_tell_that_it_owns_the_enis(owner: str, family: str) -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        pod = POD if family == "-4" else POD6
        for words in OWNERS[owner]:
            await host.ip(f"{family} rule add {words.format(pod)}")
        status = await host.until("eth1", "ignored")
        assert codes(status["reasons"]) == {"cni"}
        await host.daemon.post("/v1/reconcile")
        assert await host.own_rules() == []
        shown = await host.ip("addr show dev eth1") + await host.ip("-details link show dev eth1")
        assert str(host.eni("eth1").ipv4[0]) not in shown
        assert "group default" in shown


async def test_ciliums_links_alone_own_nothing() -> None:
    async with ec2_host(numbered(1)) as host:
        await host.ip("link add cilium_host type veth peer name cilium_net")
        await host.ip("link add lxc_health type veth peer name eni12ab")
        await host.ip("rule add pref 100 lookup local")
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
