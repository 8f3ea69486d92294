"""The kernel's own look-up of a packet, on a real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EACCES, EINVAL, ENETUNREACH
from ipaddress import ip_address, ip_network

import pytest

from nicwatchd.core.model import PROHIBIT, IPAddress
from nicwatchd.core.packet import Packet
from nicwatchd.core.rule_walk import Says, walk
from nicwatchd.netlink.fib import Found, look_up
from nicwatchd.netlink.request import RequestSocket
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from tests.netlink.conftest import ip, network_namespace, sysctl

FAR = {4: ip_address("198.51.100.50"), 6: ip_address("2001:db8:ff::50")}
OURS = 1_000_959


@pytest.fixture
def host() -> Iterator[NetlinkKernel]:
    """A host with eth0 and eth1, each with an address, and a default route in main by eth0."""
    with network_namespace():
        ip("link set lo up")
        for number in (0, 1):
            ip(f"link add eth{number} type veth peer name p{number}")
            ip(f"link set p{number} up")
            ip(f"link set eth{number} up group 3778")
            ip(f"addr add 10.0.{number + 1}.10/24 dev eth{number}")
            ip(f"addr add 2001:db8:{number + 1}::10/64 dev eth{number} nodad")
        ip("route add default via 10.0.1.1")
        ip("-6 route add default via 2001:db8:1::1")
        kernel = NetlinkKernel(requests := RequestSocket())
        kernel.requests_of_test = requests  # type: ignore[attr-defined]
        yield kernel
        kernel.close()


async def asked(
    kernel: NetlinkKernel, src: str, dst: IPAddress | str, mark: int = 0, iif: str = ""
) -> tuple[Found | int, str, Says | None]:
    """What the kernel says, the link that it leaves by, and what the rule that decides says."""
    links, rules = await kernel.links(), await kernel.rules()
    index = next((i for i, link in links.items() if link.name == iif), 0)
    source, destination = ip_address(src), ip_address(str(dst))
    requests: RequestSocket = kernel.requests_of_test  # type: ignore[attr-defined]
    found = await look_up(requests, source, destination, mark=mark, iif=index)
    route = None if isinstance(found, int) else found.route
    link = None if isinstance(found, int) else links.get(found.oif)
    packet = Packet(source, destination, mark, iif or "lo")
    met = walk(packet, rules, route, link.group if link else 0)
    says = [each for each in met if each.says in (Says.DECIDES, Says.BLOCKS)]
    return found, link.name if link else "", says[0].says if says else None


@pytest.mark.parametrize(
    ("version", "src", "via"),
    [(4, "10.0.2.10", "10.0.1.1"), (6, "2001:db8:2::10", "2001:db8:1::1")],
)
async def test_main_decides(host: NetlinkKernel, version: int, src: str, via: str) -> None:
    found, name, says = await asked(host, src, FAR[version])
    assert isinstance(found, Found)
    assert (name, str(found.gateway), says) == ("eth0", via, Says.DECIDES)
    assert (found.route.table, found.route.dst.prefixlen) == (254, 0)


@pytest.mark.parametrize(
    ("version", "src", "net", "via"),
    [
        (4, "10.0.2.10", "10.0.2.0/24", "10.0.2.1"),
        (6, "2001:db8:2::10", "2001:db8:2::/64", "2001:db8:2::1"),
    ],
)
async def test_a_rule_decides_and_a_guard_is_too_general(
    host: NetlinkKernel, version: int, src: str, net: str, via: str
) -> None:
    ip(f"-{version} route add default via {via} dev eth1 table {OURS} proto 236")
    ip(f"-{version} rule add pref 32765 from {net} lookup main suppress_prefixlength 0 proto 236")
    ip(f"-{version} rule add pref 32765 from {net} lookup {OURS} proto 236")
    found, name, says = await asked(host, src, FAR[version])
    assert isinstance(found, Found)
    assert (name, str(found.gateway), found.route.table, says) == ("eth1", via, OURS, Says.DECIDES)
    assert found.route.protocol == 236
    rules = await host.rules()
    met = walk(Packet(ip_address(src), FAR[version]), rules, found.route, 3778)
    assert [each.says for each in met if each.rule.protocol == 236] == [
        Says.NOTHING,  # main's route for all is not the one that was found
        Says.DECIDES,
    ]


async def test_a_mark(host: NetlinkKernel) -> None:
    ip("route add default via 10.0.2.1 dev eth1 table 77")
    ip("rule add pref 50 fwmark 0x10/0xff lookup 77")
    assert (await asked(host, "10.0.1.10", FAR[4]))[1] == "eth0"
    assert (await asked(host, "10.0.1.10", FAR[4], mark=0x10))[1:] == ("eth1", Says.DECIDES)


async def test_several_next_hops(host: NetlinkKernel) -> None:
    ip(
        "route replace default nexthop via 10.0.1.1 dev eth0 weight 1 "
        "nexthop via 10.0.2.1 dev eth1 weight 1"
    )
    found, name, says = await asked(host, "10.0.2.10", FAR[4])
    assert isinstance(found, Found)
    ways = {"eth0": "10.0.1.1", "eth1": "10.0.2.1"}
    assert (str(found.gateway), says) == (ways[name], Says.DECIDES)


async def test_an_ipv4_route_by_an_ipv6_router(host: NetlinkKernel) -> None:
    ip("route del default")
    ip("-4 route add default via inet6 fe80::1 dev eth1")
    found, name, _ = await asked(host, "10.0.2.10", FAR[4])
    assert isinstance(found, Found)
    assert (name, str(found.gateway)) == ("eth1", "fe80::1")


async def test_what_is_the_hosts_own_and_what_is_near(host: NetlinkKernel) -> None:
    found, name, says = await asked(host, "10.0.2.10", "10.0.1.10")
    assert isinstance(found, Found)
    assert (name, found.route.table, found.route.kind, says) == ("lo", 255, 2, Says.DECIDES)
    found, name, _ = await asked(host, "10.0.2.10", "10.0.2.77")
    assert isinstance(found, Found)
    assert (name, found.gateway, found.route.dst) == ("eth1", None, ip_network("10.0.2.0/24"))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("action", ["unreachable", "prohibit", "blackhole"])
async def test_a_rule_that_blocks(host: NetlinkKernel, version: int, action: str) -> None:
    ip(f"-{version} rule add pref 40 to {FAR[version]} {action}")
    src = {4: "10.0.2.10", 6: "2001:db8:2::10"}[version]
    found, _, says = await asked(host, src, FAR[version])
    assert isinstance(found, int)
    assert says is Says.BLOCKS


@pytest.mark.parametrize("version", [4, 6])
async def test_an_error_route(host: NetlinkKernel, version: int) -> None:
    ip(f"-{version} route add prohibit {FAR[version]} table 77")
    ip(f"-{version} rule add pref 50 lookup 77")
    src = {4: "10.0.2.10", 6: "2001:db8:2::10"}[version]
    found, _, _ = await asked(host, src, FAR[version])
    assert found == EACCES or (isinstance(found, Found) and found.route.kind == PROHIBIT)


async def test_nothing_lets_it_pass(host: NetlinkKernel) -> None:
    ip("route del default")
    ip("-6 route del default")
    assert (await asked(host, "10.0.2.10", FAR[4]))[0] == ENETUNREACH
    assert (await asked(host, "2001:db8:2::10", FAR[6]))[0] == ENETUNREACH


async def test_a_source_that_is_not_the_hosts(host: NetlinkKernel) -> None:
    assert (await asked(host, "10.0.2.99", FAR[4]))[0] in (EINVAL, ENETUNREACH)


@pytest.mark.parametrize(("version", "src"), [(4, "10.0.2.99"), (6, "2001:db8:2::99")])
async def test_what_is_forwarded(host: NetlinkKernel, version: int, src: str) -> None:
    sysctl("ipv4/ip_forward", 1)
    sysctl("ipv6/conf/all/forwarding", 1)
    found, name, says = await asked(host, src, FAR[version], iif="eth1")
    assert isinstance(found, Found), found
    assert (name, says) == ("eth0", Says.DECIDES)
