"""A link that is not ours after all, or no longer, is as it was found."""

from __future__ import annotations

import pytest

from tests.scenarios.host import (
    DEFAULT,
    HostUnderTest,
    codes,
    complete,
    ec2_host,
    late,
    numbered,
    settings,
)


async def link(host: HostUnderTest) -> tuple[bool, str]:
    """Whether the link is up, and its group."""
    words = (await host.ip("link show dev eth1")).split()
    return "UP" in words[2].strip("<>").split(","), words[words.index("group") + 1]


async def own_routes(host: HostUnderTest) -> list[str]:
    objects = await host.kernel_objects()
    return [line for kind, lines in objects.items() if "route" in kind for line in lines]


@pytest.mark.parametrize("excluded", ["10.0.2.0/24", "2001:db8:ec2:2::/64"])
async def test_the_link_of_an_excluded_subnet_is_never_set_up(excluded: str) -> None:
    """IMDS tells the subnets late, the IPv6 ones last."""
    config = settings(exclude_subnets=[excluded])
    async with ec2_host(numbered(1, steps=late(5.0)), config=config) as host:
        async with host.changes("link", "address", "route") as said:
            await host.plug("eth1")
            status = await host.until("eth1", "ignored")
        assert codes(status["reasons"]) == {"excluded"}
        assert await link(host) == (False, "default")
        assert [line for line in said if "state UP" in line and " eth1" in line] == []
        assert await host.own_rules() == []


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("[retry]", 'exclude_subnets = ["10.0.2.0/24"]\n[retry]', "excluded"),
        ('"c-*"', '"c-*", "eth1"', "excluded"),
        ('drivers = ["veth"]', 'drivers = ["ena"]', "driver"),
    ],
    ids=["by subnet", "by name", "by driver"],
)
async def test_a_reload_that_leaves_it_out_takes_back_what_we_did(
    before: str, after: str, code: str
) -> None:
    async with ec2_host(numbered(1)) as host:
        routes = await own_routes(host)
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.ip("addr add 192.0.2.1/32 dev eth1")
        assert before in DEFAULT
        await host.reload(DEFAULT.replace(before, after))
        status = await host.until("eth1", "ignored")
        assert codes(status["reasons"]) == {code}
        await host.daemon.post("/v1/reconcile")
        assert await link(host) == (True, "default")  # it was in use: it stays up
        shown = await host.ip("addr show dev eth1")
        assert "192.0.2.1" in shown
        assert "10.0.2.11" not in shown
        assert "2001:db8:ec2:2::11" not in shown
        assert await own_routes(host) == routes
        assert await host.own_rules() == []
