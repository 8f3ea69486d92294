"""What is done to a link itself: up and down, MTU, a bridge above it, a macvlan on top of it."""

from __future__ import annotations

from nicwatchd.core.model import Family
from tests.scenarios.host import QUICK, codes, complete, ec2_host, numbered, settings

ETH1 = numbered(
    1, ipv4=("10.0.2.11", "10.0.2.12"), ipv6=("2001:db8:ec2:2::11", "2001:db8:ec2:2::12")
)


async def test_a_flap() -> None:
    """The kernel takes the routes and all IPv6 addresses; each comes back."""
    async with ec2_host(ETH1) as host:
        await host.plug("eth1")
        await host.vpc.lease(host.eni("eth1"), Family.V4)
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        before = await host.footprint()
        for _ in range(3):
            await host.vpc.ip(host.vpc.host, "link set eth1 down", "link set eth1 up")
        await host.as_before(before)
        await host.until("eth1", complete)
        await host.all_reachable("eth1")


async def test_an_mtu_costs_nothing() -> None:
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        before = await host.kernel_objects()
        async with host.changes("address", "route", "rule") as said:
            for mtu in (9001, 1500, 1280):
                await host.ip(f"link set eth1 mtu {mtu}")
                await host.daemon.post("/v1/reconcile")
        # The kernel itself may end its check of eth1's link-local address only now.
        others = [line for line in said if "proto kernel" not in line]
        assert not [line for line in others if "proto 236" in line or "dev eth1" in line]
        assert await host.kernel_objects() == before
        await host.all_reachable("eth1")


async def test_an_operators_down_stands_and_so_does_the_up() -> None:
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.kernel_objects()
        rules = await host.own_rules()
        await host.ip("link set eth1 down")
        await host.shows("eth1", "link_up", value=False)
        await host.daemon.post("/v1/reconcile")
        status = await host.status("eth1")
        assert (status["state"], codes(status["notes"])) == ("applied", {"link-down"})
        assert "UP" not in (await host.ip("-brief link show dev eth1")).split("<")[1]
        assert await host.own_rules() == rules, "what comes from its addresses has no other way"
        await host.ip("link set eth1 up")
        await host.all_reachable("eth1")
        assert await host.kernel_objects() == before


async def test_into_a_bridge_and_out_of_it() -> None:
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        clean = await host.kernel_objects()
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.kernel_objects()
        await host.vpc.ip(host.vpc.host, "link add br0 type bridge", "link set eth1 master br0")
        status = await host.until("eth1", "ignored")
        assert codes(status["reasons"]) == {"enslaved"}
        await host.daemon.post("/v1/reconcile")
        assert await host.kernel_objects() == clean
        assert "10.0.2." not in await host.ip("addr show dev eth1")
        await host.ip("link set eth1 nomaster")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        assert await host.kernel_objects() == before


async def test_a_macvlan_on_top() -> None:
    """Its addresses are its owner's; the ENI's stay, and so does all that sends by them."""
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.kernel_objects()
        await host.vpc.ip(
            host.vpc.host,
            "link add mv0 link eth1 type macvlan mode bridge",
            "addr add 192.0.2.7/24 dev mv0",
            "addr add 2001:db8:7::7/64 dev mv0 nodad",
            "link set mv0 up",
        )
        await host.daemon.post("/v1/reconcile")
        shown = await host.ip("-oneline addr show dev mv0 scope global")
        assert "192.0.2.7/24" in shown
        assert "2001:db8:7::7/64" in shown
        assert await host.kernel_objects() == before
        assert [i["name"] for i in await host.daemon.get("/v1/interfaces")] == ["eth0", "eth1"]
        await host.all_reachable("eth1")
        await host.ip("link set mv0 down")
        await host.ip("link del mv0")
        await host.daemon.post("/v1/reconcile")
        assert await host.kernel_objects() == before
        assert complete(await host.status("eth1"))


async def test_an_mtu_too_small_for_ipv6_takes_ipv6_only_and_gives_it_back() -> None:
    """Below 1280 the kernel switches IPv6 off on the link, addresses and all."""
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.footprint()
        await host.ip("link set eth1 mtu 1000")
        # A verdict of its own: nothing that the kernel would refuse is tried.
        status = await host.until("eth1", lambda now: "ipv6-off" in codes(now["notes"]))
        assert status["state"] in {"validated", "applied"}
        assert codes(status["reasons"]) == set()
        await host.all_reachable("eth1", addresses=host.eni("eth1").ipv4)
        await host.ip("link set eth1 mtu 1500")
        await host.until("eth1", complete)
        await host.as_before(before)
        await host.all_reachable("eth1")


async def test_a_link_that_nicwatchd_sets_up_gets_ec2s_mtu_where_the_settings_ask_for_it() -> None:
    async with ec2_host(numbered(1), config=settings(mtu="ec2")) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        assert "mtu 9001" in await host.ip("link show dev eth1")
        for family in ("-4", "-6"):
            assert "mtu 1500" in await host.ip(f"{family} route show default table all dev eth1")
        assert "mtu 1500" in await host.ip("link show dev eth0")
        await host.all_reachable("eth1")
