from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim import netns
from nicwatchd.sim.lab import LeakError
from nicwatchd.sim.parts import Eni, Subnet
from nicwatchd.sim.probe import Acceptor, matrix, paths, watch_primary
from nicwatchd.sim.vpc import Vpc

if TYPE_CHECKING:
    import socket
    from asyncio.subprocess import Process

MANAGED = 0x40  # IF_RA_MANAGED, include/net/if_inet6.h


async def addresses(vpc: Vpc, name: str) -> dict[str, dict[str, Any]]:
    """The global addresses of a link of the host, as `ip -j` tells them."""
    listing = await vpc.exec(vpc.host, "ip", "-j", "addr", "show", "dev", name, "scope", "global")
    # Old versions of `ip` print `{}` for what does not match.
    infos = [info for item in json.loads(listing) if item for info in item["addr_info"] if info]
    return {info["local"]: info for info in infos}


async def monitor(vpc: Vpc, what: str) -> Process:
    """`ip monitor` on the host, once it listens."""
    process = await vpc.popen(
        *(vpc.host, "ip", "-o", "-6", "monitor", what),
        stdout=asyncio.subprocess.PIPE,
    )
    # A harmless change of our own, again and again, until it is heard.
    assert process.stdout is not None
    heard = asyncio.create_task(process.stdout.readline())
    while not heard.done():
        await vpc.ip(vpc.host, "route add 2001:db8:bad::/64 dev lo")
        await vpc.ip(vpc.host, "route del 2001:db8:bad::/64 dev lo")
        await asyncio.wait([heard], timeout=0.02)
    return process


async def inet6_flags(vpc: Vpc, eni: Eni) -> int:
    """IFLA_INET6_FLAGS of a link of the host, which `ip` does not print."""
    reader = (
        "import sys; from pyroute2 import IPRoute\n"
        "with IPRoute() as ip:\n"
        "    (link,) = ip.link('get', ifname=sys.argv[1])\n"
        "    inet6 = link.get_nested('IFLA_AF_SPEC', 'AF_INET6')\n"
        "    print(inet6.get_attr('IFLA_INET6_FLAGS'))\n"
    )
    return int(await vpc.exec(vpc.host, sys.executable, "-c", reader, eni.name))


@pytest.mark.parametrize("managed", [True, False])
async def test_router_advertisement(vpc: Vpc, eni: Eni, *, managed: bool) -> None:
    await vpc.plug(eni)
    await vpc.ip(vpc.host, f"link set {eni.name} up")
    process = await monitor(vpc, "route")
    assert process.stdout is not None
    await vpc.ra(eni, managed=managed)
    while True:
        line = (await process.stdout.readline()).decode()
        if line.startswith("default"):
            break
    assert f"via fe80:ec2::1 dev {eni.name} proto ra" in line
    assert bool(await inet6_flags(vpc, eni) & MANAGED) is managed
    on_link = await vpc.exec(vpc.host, "ip", "-6", "route", "show", str(eni.subnet.ipv6[0]))
    assert f"dev {eni.name} proto kernel" in on_link
    assert await addresses(vpc, eni.name) == {}  # no SLAAC


async def test_plug_several_at_once_and_unplug(vpc: Vpc) -> None:
    enis = [Eni.numbered(f"ens{n}", Subnet.numbered(n)) for n in range(6, 10)]
    appeared = await vpc.plug(*enis)
    assert vpc.enis == (vpc.primary, *enis)
    for eni in enis:
        link = json.loads(await vpc.exec(vpc.host, "ip", "-j", "link", "show", eni.name))[0]
        assert link["address"] == eni.mac
        assert "UP" not in link["flags"]
        assert link["ifindex"] == vpc.ifindex(eni)
    assert await vpc.unplug(*enis) > appeared
    assert vpc.enis == (vpc.primary,)
    listing = json.loads(await vpc.exec(vpc.host, "ip", "-j", "link"))
    assert [link["ifname"] for link in listing] == ["lo", vpc.primary.name]


async def test_a_mac_comes_back_under_another_index(vpc: Vpc, eni: Eni) -> None:
    await vpc.plug(eni)
    first = vpc.ifindex(eni)
    await vpc.unplug(eni)
    await vpc.plug(eni)
    assert vpc.ifindex(eni) != first


async def test_rename(vpc: Vpc, eni: Eni) -> None:
    await vpc.plug(replace(eni, name="eth1"))
    index = vpc.ifindex(replace(eni, name="eth1"))
    renamed = await vpc.rename(replace(eni, name="eth1"), "ens6")
    assert renamed == eni
    assert vpc.enis == (vpc.primary, eni)
    assert vpc.ifindex(eni) == index


async def test_leases_look_like_dhcp(vpc: Vpc, eni: Eni) -> None:
    await vpc.plug(eni)
    for family in Family:
        await vpc.lease(eni, family, default=True)
    found = await addresses(vpc, eni.name)
    assert list(found) == [str(eni.ipv4[0]), str(eni.ipv6[0])]  # none but the first
    v4, v6 = found.values()
    assert (v4["prefixlen"], v4["valid_life_time"], v4["dynamic"]) == (24, 3600, True)
    assert (v6["prefixlen"], v6["noprefixroute"], v6["dynamic"]) == (128, True, True)
    assert 0 < v6["preferred_life_time"] <= 140 < v6["valid_life_time"] <= 450
    for flag, protocol in (("-4", "dhcp"), ("-6", "ra")):
        routes = json.loads(await vpc.exec(vpc.host, "ip", flag, "-j", "route", "show", "default"))
        assert [(r["dev"], r["protocol"], r["metric"]) for r in routes] == [
            (vpc.primary.name, protocol, 1024),
            (eni.name, protocol, 2048),
        ]


async def test_side_by_side(vpc: Vpc) -> None:
    """VPCs have the same addresses and do not see each other."""
    async with Vpc() as other:
        assert other.id != vpc.id
        everywhere = paths(other.peers(), other.primary.addresses())
        assert set((await matrix(other, everywhere)).values()) == {None}  # nobody accepts here
        async with Acceptor(other, other.host):
            assert None not in (await matrix(other, everywhere)).values()


async def test_nothing_is_left() -> None:
    def kept() -> tuple[object, ...]:
        return (
            # This process' own: other tests may run beside it in the same sandbox.
            sorted(path.name for path in netns.NAMES.glob(f"vpc{os.getpid()}-*")),
            len(list(Path("/proc/self/fd").iterdir())),
            {thread.name for thread in threading.enumerate()},
            asyncio.all_tasks(),
        )

    async with Vpc():
        pass  # what comes with the first use (the loop's child watcher, /run/netns) may stay
    before = kept()
    async with Vpc() as vpc, Acceptor(vpc, vpc.host), watch_primary(vpc) as watch:
        await vpc.plug(Eni.numbered("ens6", Subnet.numbered(2)))
        await watch.all_reachable(5)
        sleeper = await vpc.popen(vpc.host, "sleep", "1000")
        runtime = vpc.runtime_dir
        assert runtime.is_dir()
    assert sleeper.returncode is not None
    assert not runtime.exists()
    assert kept() == before


async def leave_a_mess(vpc: Vpc, forgotten: list[socket.socket], error: Exception | None) -> None:
    """Listening sockets and a daemon are still there at the end."""
    async with vpc:
        forgotten += vpc.imds_sockets()
        await vpc.exec(vpc.host, "sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 &")
        if error:
            raise error


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [(None, LeakError, r"socket.*process \d+"), (ZeroDivisionError("a"), ZeroDivisionError, "a")],
)
async def test_a_mess_is_removed_and_reported(
    error: Exception | None, expected: type[Exception], message: str
) -> None:
    vpc = Vpc()
    forgotten: list[socket.socket] = []
    with pytest.raises(expected, match=message):
        await leave_a_mess(vpc, forgotten, error)
    assert [listener.fileno() for listener in forgotten] == [-1, -1]
    assert [name for name in netns.NAMES.iterdir() if name.name.startswith(vpc.id)] == []


async def test_a_failed_command_tells_why(vpc: Vpc) -> None:
    with pytest.raises(netns.CommandError, match=r"link show nonesuch.*does not exist"):
        await vpc.exec(vpc.host, "ip", "link", "show", "nonesuch")
    with pytest.raises(netns.CommandError, match="set nonesuch up"):
        await vpc.ip(vpc.host, "link set nonesuch up")


async def test_processes_see_the_hosts_own_sysfs(vpc: Vpc) -> None:
    assert (await vpc.exec(vpc.host, "ls", "/sys/class/net")).split() == [vpc.primary.name, "lo"]
