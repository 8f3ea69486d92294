"""The VPC's router as text: the input of `ip` and `nft` for each of its ports.

A port is the router's end of a veth; at the other end is an ENI of the host, a neighbour or the far
hosts. (If the host is a virtual machine, the port of an ENI is a tap.) There is no bridge. As on
EC2, the router answers for all hosts (proxy ARP and NDP) and delivers by MAC, so a packet reaches a
host even before the host has configured the address.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import TYPE_CHECKING, Final

from nicwatchd.core.model import Family
from nicwatchd.sim.parts import ROUTER_V6, Subnet

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv6Address

    from nicwatchd.core.model import IPAddress, IPNetwork

IMDS_V4: Final = "169.254.169.254"
IMDS_V6: Final = "fd00:ec2::254"
# The gateway of neighbours and far hosts; and the next hop that stands for an ENI on the router,
# which is a permanent neighbour entry with the ENI's MAC. No host has or resolves the next hops.
GATEWAY_V4: Final = "169.254.0.1"
NEXT_HOP_V4: Final = "169.254.0.2"
NEXT_HOP_V6: Final = "fe80::ec2:2"

# Only the host under test does duplicate address detection, as a real one does: it takes 1 to 2 s.
NO_DAD: Final = {"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0"}
SYSCTLS: Final = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/conf/default/proxy_arp": "1",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/forwarding": "1",
    "ipv6/conf/all/proxy_ndp": "1",
    "ipv6/conf/default/proxy_ndp": "1",
}


@dataclass(frozen=True, slots=True)
class Port:
    """One port: the MAC and sources that it accepts packets from, and that are routed to it."""

    device: str  # the router's end of the veth, or the tap
    mac: str  # of the other end
    addresses: tuple[IPAddress, ...]
    prefixes: tuple[IPNetwork, ...] = ()
    asks_for: tuple[IPNetwork, ...] = ()  # IPv4 networks for which ARP requests are allowed
    proxied: tuple[IPv6Address, ...] = ()  # addresses for which the router answers NDP
    tap: bool = False

    @property
    def sources(self) -> frozenset[str]:
        """The sources that the source check accepts, and that are routed to this port."""
        return frozenset(map(str, (*self.addresses, *self.prefixes)))

    @property
    def table(self) -> str:
        """The nftables table of this port."""
        return f"port-{self.device}"


def port_sysctls(port: Port) -> dict[str, str]:
    """Let proxies answer at once, not after up to 0.8 s. Per port: there is no default to set."""
    return {f"{ip}/neigh/{port.device}/proxy_delay": "0" for ip in ("ipv4", "ipv6")}


def lines_for_router(subnets: Iterable[Subnet]) -> list[str]:
    """The addresses that belong to the VPC itself, on the router's loopback."""
    return [f"addr replace {address}/32 dev lo" for address in (IMDS_V4, GATEWAY_V4)] + [
        f"addr replace {IMDS_V6}/128 dev lo nodad",
        *(f"addr replace {subnet.gateway}/32 dev lo" for subnet in subnets if subnet.gateway),
    ]


def lines_to_prepare(port: Port) -> list[str]:
    """The router's end of a new link, complete before the other end appears anywhere."""
    veth = [f"link add {port.device} type veth peer name x{port.device} address {port.mac}"]
    # No second link-local address, because a DHCP server might send from it.
    tap = [f"tuntap add {port.device} mode tap", f"link set {port.device} addrgenmode none"]
    return [
        *(tap if port.tap else veth),
        f"link set {port.device} up",
        f"addr add {ROUTER_V6}/64 dev {port.device} nodad",
        f"neigh add {NEXT_HOP_V4} lladdr {port.mac} dev {port.device} nud permanent",
        f"neigh add {NEXT_HOP_V6} lladdr {port.mac} dev {port.device} nud permanent",
        *(f"neigh add proxy {address} dev {port.device}" for address in port.proxied),
        *lines_to_add(None, port),
    ]


def line_to_hand_over(port: Port, name: str, namespace: str) -> str:
    """Move the other end into its namespace, under its name: the hot-plug itself."""
    return f"link set x{port.device} netns {namespace} name {name}"


def lines_to_add(old: Port | None, new: Port) -> list[str]:
    """The routes that a changed port (or a new one) gains."""
    before = old.sources if old else frozenset()
    via = {4: f"via {NEXT_HOP_V4} onlink", 6: f"via {NEXT_HOP_V6}"}
    return [
        f"route add {source} {via[6 if ':' in source else 4]} dev {new.device}"
        for source in sorted(new.sources - before)
    ]


def lines_to_withdraw(old: Port, new: Port) -> list[str]:
    """The routes that a changed port loses. An address that moves is removed before it is added."""
    return [f"route del {source} dev {new.device}" for source in sorted(old.sources - new.sources)]


def source_check(port: Port) -> str:
    """The ruleset that makes a port drop what EC2 drops. Replaces an earlier one atomically."""
    v4, v6 = merged(port, Family.V4), merged(port, Family.V6)
    asked = ", ".join([*map(str, port.asks_for), "169.254.0.0/16"])
    rules = [
        f"ether saddr != {port.mac} counter name dropped drop",
        # Duplicate address detection and group membership: EC2 has no multicast, so nobody
        # answers. It is not spoofing either, so it is not counted.
        "ip6 saddr :: drop",
        "ip6 saddr fe80::/10 accept",
        "ip saddr 0.0.0.0 udp dport 67 accept",
        "arp saddr ip 0.0.0.0 drop",
    ]
    if v4:
        rules += [
            f"ip saddr {{ {v4} }} accept",
            # The router answers ARP for its own addresses and for hosts of the same subnet.
            f"arp saddr ip {{ {v4} }} arp daddr ip {{ {asked} }} accept",
        ]
    if v6:
        rules.append(f"ip6 saddr {{ {v6} }} accept")
    body = "\n".join(f"    {rule}" for rule in [*rules, "counter name dropped drop"])
    return f"""{drop_source_check(port)}
table netdev {port.table} {{
  counter dropped {{ }}
  chain source_check {{
    type filter hook ingress device "{port.device}" priority 0; policy drop;
{body}
  }}
}}
"""


def merged(port: Port, family: Family) -> str:
    """The sources of one family as elements of an nftables set, which must not overlap."""
    mine = [source for source in port.sources if (":" in source) is (family is Family.V6)]
    if family is Family.V6:
        return ", ".join(map(str, collapse_addresses(map(IPv6Network, mine))))
    return ", ".join(map(str, collapse_addresses(map(IPv4Network, mine))))


def drop_source_check(port: Port) -> str:
    """The ruleset that removes a port's table, whether or not it exists."""
    return f"table netdev {port.table}\ndelete table netdev {port.table}\n"


def lines_for_peer(device: str, addresses: Iterable[IPAddress]) -> list[str]:
    """The end of a neighbour or of the far hosts: all packets go to the router, as on EC2."""
    return [
        f"link set {device} up",
        *(f"addr add {address}/{address.max_prefixlen} dev {device}" for address in addresses),
        f"route add default via {GATEWAY_V4} dev {device} onlink",
        f"route add ::/0 via {ROUTER_V6} dev {device}",
    ]
