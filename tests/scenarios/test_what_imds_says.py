"""Directories and lists that come in pieces, are damaged, or lack what an ENI cannot lose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nicwatchd.sim.script import Step
from tests.scenarios.host import (
    QUICK,
    HostUnderTest,
    codes,
    complete,
    ec2_host,
    numbered,
    settings,
)
from tests.scenarios.software import eventually

pytestmark = pytest.mark.long


ETH1 = numbered(
    1,
    ipv4=("10.0.2.11", "10.0.2.20"),
    ipv6=("2001:db8:ec2:2::11", "2001:db8:ec2:2::20"),
    ipv4_prefixes=("10.0.2.128/28",),
    ipv6_prefixes=("2001:db8:ec2:2:8000::/80",),
)
FACTS = ETH1.facts()
LISTS4 = {"local-ipv4s", "ipv4-prefix", "subnet-ipv4-cidr-block"}
LISTS6 = {"ipv6s", "ipv6-prefix", "subnet-ipv6-cidr-blocks"}
SHOWN = {"device-number", "network-card"}


def requests(host: HostUnderTest, key: str = "") -> int:
    """How often a key of eth1 was asked for; without one, its directory."""
    return sum(request.path.endswith(f"/{ETH1.mac}/{key}") for request in host.imds.log)


async def asked(host: HostUnderTest, times: int, key: str = "") -> None:
    """Wait until a key of eth1 was asked for so many times more."""
    until = requests(host, key) + times
    await host.imds.wait_for(lambda _: requests(host, key) >= until)


@pytest.mark.parametrize(
    "hidden",
    [LISTS4 | LISTS6 | SHOWN, set(FACTS) - {"mac"}],
    ids=["ids only", "nothing but the MAC"],
)
async def test_what_is_complete_after_ids_only_is_seen_with_the_next_request(
    hidden: set[str],
) -> None:
    """The prober raised here from the 7th poll on, and only the next sweep was a minute away."""
    steps = (Step(0.0, hide=frozenset(hidden)),)
    async with ec2_host(numbered(1, steps=steps)) as host:
        await host.plug("eth1")
        await host.until("eth1", "awaiting-imds")
        await asked(host, 40)
        before = requests(host)
        host.imds.step("eth1", complete=True)
        await host.until("eth1", complete)
        assert requests(host) <= before + 3, "the one that was under way, the next, and one more"
        await host.all_reachable("eth1")


LACKING: Mapping[str, tuple[dict[str, Any], set[str]]] = {
    "a damaged line": ({"texts": {"local-ipv4s": "10.0.2.11\n10.0.2.2\ufffd"}}, {"refused"}),
    "a damaged first line": (
        {
            "texts": {
                "local-ipv4s": "10.0.2.1\ufffd\n10.0.2.20",
                "ipv6s": "null\n2001:db8:ec2:2::20",
            }
        },
        {"refused"},
    ),
    "no first address": ({"texts": {"local-ipv4s": "10.0.2.20"}}, {"no-first-ipv4"}),
    "no addresses": ({"hide": {"local-ipv4s"}}, {"no-local-ipv4s"}),
    "another CIDR": (
        {"texts": {"subnet-ipv4-cidr-block": "10.0.9.0/24"}},
        {"no-subnet-ipv4-cidr-block"},
    ),
    "no IPv6": ({"hide": LISTS6}, {"no-ipv6s", "no-subnet-ipv6-cidr-blocks"}),
    "the MAC alone": (
        {"hide": set(FACTS) - {"mac"}},
        {f"no-{key}" for key in LISTS4 | LISTS6 if "prefix" not in key},
    ),
}


@pytest.mark.parametrize(("change", "notes"), LACKING.values(), ids=LACKING)
async def test_what_imds_lacks_for_long_is_not_removed(
    change: dict[str, Any], notes: set[str]
) -> None:
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1", addresses=host.eni("eth1").ipv4)
        before = await host.kernel_objects()
        async with host.changes("address", "route", "rule") as said:
            host.imds.step("eth1", **change)
            await asked(host, 12)  # each of them is a whole reading: as many as take a doubt's time
        assert not [line for line in said if "proto 236" in line or "Deleted" in line]
        assert await host.kernel_objects() == before

        async def is_told() -> bool:  # an ENI that is back may only be told of late
            return codes((await host.status("eth1"))["notes"]) == notes

        await eventually(is_told)
        assert complete(await host.status("eth1"))
        host.imds.step("eth1", complete=True)
        await host.shows("eth1", "notes", [])
        assert await host.kernel_objects() == before
