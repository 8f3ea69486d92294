"""Containers on the host under test: behind a bridge, or with addresses of delegated prefixes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nicwatchd.sim.parts import Peer

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    from nicwatchd.sim.vpc import Vpc

# The host's end of the link to a delegated container. As with CNIs, the same for every container.
GATEWAY_V4: Final = "169.254.1.1"
GATEWAY_V6: Final = "fe80::1"


def forward(vpc: Vpc) -> None:
    """Turn on forwarding, as container engines do. The host still accepts RAs."""
    accept = {
        f"ipv6/conf/{name}/accept_ra": "2" for name in ("default", *(eni.name for eni in vpc.enis))
    }
    # In this order: without accept_ra=2, forwarding makes the kernel forget what RAs taught it.
    vpc.sysctl(vpc.host, accept)
    vpc.sysctl(vpc.host, {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"})


async def bridged(vpc: Vpc, ipv4: IPv4Network, ipv6: IPv6Network, bridge: str = "br0") -> Peer:
    """A new bridge of the host (address 1 of each private network) and a container (address 2)."""
    forward(vpc)
    namespace = await vpc.add_namespace(f"on-{bridge}")
    await vpc.ip(
        vpc.host,
        f"link add {bridge} type bridge",
        f"addr add {ipv4[1]}/{ipv4.prefixlen} dev {bridge}",
        f"addr add {ipv6[1]}/{ipv6.prefixlen} dev {bridge} nodad",
        f"link add c-{bridge} type veth peer name eth0 netns {namespace}",
        f"link set c-{bridge} master {bridge} up",
        f"link set {bridge} up",
    )
    await vpc.ip(
        namespace,
        "link set eth0 up",
        f"addr add {ipv4[2]}/{ipv4.prefixlen} dev eth0",
        f"addr add {ipv6[2]}/{ipv6.prefixlen} dev eth0 nodad",
        f"route add default via {ipv4[1]}",
        f"route add ::/0 via {ipv6[1]}",
    )
    return Peer(f"a container on {bridge}", namespace, ipv4[2], ipv6[2])


async def delegated(
    vpc: Vpc, name: str, ipv4: IPv4Address | None, ipv6: IPv6Address | None
) -> Peer:
    """A container with addresses of an ENI's delegated prefixes; the host routes to it."""
    forward(vpc)
    namespace = await vpc.add_namespace(name)
    await vpc.ip(vpc.host, f"link add {name} type veth peer name eth0 netns {namespace}")
    # There is no proxy ARP or NDP: the container's gateways are addresses of the host.
    outside, within = [f"link set {name} up"], ["link set eth0 up"]
    if ipv4:
        outside += [f"addr add {GATEWAY_V4}/32 dev {name}", f"route add {ipv4}/32 dev {name}"]
        within += [f"addr add {ipv4}/32 dev eth0", f"route add {GATEWAY_V4}/32 dev eth0"]
        within += [f"route add default via {GATEWAY_V4} dev eth0"]
    if ipv6:
        outside += [
            f"addr add {GATEWAY_V6}/64 dev {name} nodad",
            f"route add {ipv6}/128 dev {name}",
        ]
        within += [
            f"addr add {ipv6}/128 dev eth0 nodad",
            f"route add ::/0 via {GATEWAY_V6} dev eth0",
        ]
    await vpc.ip(vpc.host, *outside)
    await vpc.ip(namespace, *within)
    return Peer(f"container {name}", namespace, ipv4, ipv6)
