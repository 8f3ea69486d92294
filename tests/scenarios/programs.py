"""How others' programs are started, asked and ended: what the scenarios beside them share."""

from __future__ import annotations

import asyncio
import re
import socket
from asyncio.subprocess import Process
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim import netns
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.router import NEXT_HOP_V4, NEXT_HOP_V6, drop_source_check
from nicwatchd.sim.vpc import Vpc
from tests.scenarios.host import HostUnderTest
from tests.scenarios.software import Software, config, eventually

# --- BIRD ----------------------------------------------------------------------------------------

# Networks behind a customer's gateway; the VPC does not have them.
BEHIND: Final = (IPv4Address("192.0.2.9"), IPv6Address("2001:db8:beef::9"))
# Its MAC on the ENI's wire, and so its link-local address, which is BGP's next hop in IPv6.
GATEWAY_MAC: Final = "06:00:00:00:00:77"
LEARNED: Final = {
    Family.V4: "192.0.2.0/24 via 10.0.2.77 dev eth1",
    Family.V6: "2001:db8:beef::/48 via fe80::400:ff:fe00:77 dev eth1",
}


async def customer_gateway(host: HostUnderTest) -> Peer:
    """Put a router on the wire of eth1. What is sent to it by any other way is lost."""
    vpc = host.vpc
    namespace = await vpc.add_namespace("gateway")
    port = vpc._ports[host.eni("eth1").mac].device
    link = f"link add link {port} name gw0 address {GATEWAY_MAC} netns {namespace}"
    await vpc.ip(vpc.router, f"{link} type macvlan mode bridge")
    await vpc.ip(
        namespace,
        "link set gw0 up",
        "addr add 10.0.2.77/24 dev gw0",
        "addr add 2001:db8:ec2:2::77/64 dev gw0 nodad",
        f"addr add {BEHIND[0]}/24 dev lo",
        f"addr add {BEHIND[1]}/48 dev lo nodad",
    )
    return Peer("a host behind the gateway", namespace, *BEHIND)


async def bird(vpc: Vpc, namespace: str, of: str, **values: str) -> tuple[Software, Process]:
    """BIRD with the configuration of the host or of the gateway."""
    program = Software(vpc, namespace)
    file = program.write("bird.conf", config(f"bird-{of}.conf", **values))
    return program, await program.start("bird", "-f", "-c", file, "-s", "/run/bird.ctl")


# --- what moves addresses ------------------------------------------------------------------------

FLOATING: Final = (IPv4Address("10.0.2.50"), IPv6Address("2001:db8:ec2:2::50"))


async def keepalived(
    vpc: Vpc, namespace: str, device: str, own: str, other: str, priority: int
) -> tuple[Software, Process]:
    """One of the two nodes that share FLOATING; `own` and `other` are their IPv4 addresses."""
    program = Software(vpc, namespace)
    values = {"device": device, "own": own, "other": other, "priority": str(priority)}
    file = program.write("keepalived.conf", config("keepalived.conf", **values))
    command = ("keepalived", "--dont-fork", "--log-console", "--use-file", file)
    return program, await program.start(*command)


class Ipaddr2:
    """Pacemaker's agent for FLOATING on eth1, called as Pacemaker calls it."""

    AGENT: Final = "/usr/lib/ocf/resource.d/heartbeat/IPaddr2"
    RUNNING: Final = 0  # OCF's exit codes
    NOT_RUNNING: Final = 7

    def __init__(self, host: HostUnderTest) -> None:
        self._software = Software(host.vpc, host.vpc.host, OCF_ROOT="/usr/lib/ocf")

    async def all(self, action: str, code: int = RUNNING) -> None:
        """Start, stop or monitor both addresses; each call must end with this code."""
        for address in FLOATING:
            settings = {
                "OCF_RESOURCE_INSTANCE": f"ip{address.version}",
                "OCF_RESKEY_ip": str(address),
                "OCF_RESKEY_nic": "eth1",
                "OCF_RESKEY_cidr_netmask": str(address.max_prefixlen),
                "OCF_RESKEY_nodad": "true",  # nobody answers on EC2, and it takes 2 s
                "OCF_RESKEY_arp_bg": "false",  # what it started has ended when it ends
                "OCF_RESKEY_arp_interval": "10",  # ms
            }
            words = (f"{key}={value}" for key, value in settings.items())
            await self._software.run("env", *words, self.AGENT, action, codes=(code,))


# --- strongSwan ----------------------------------------------------------------------------------

IKE_PEERS: Final = {"ipv4": "203.0.113.60", "ipv6": "3fff:113::60"}  # the Internet, west


class StrongSwan:
    """charon and swanctl on the host, and at IKE_PEERS."""

    def __init__(self, host: HostUnderTest) -> None:
        conf = "/run/strongswan.conf"
        self._here = Software(host.vpc, host.vpc.host, STRONGSWAN_CONF=conf)
        self._there = Software(host.vpc, host.vpc.far, STRONGSWAN_CONF=conf)

    async def start(self) -> None:
        """Start both, and connect over both families."""
        v4, v6 = IKE_PEERS.values()
        anywhere, networks = ("%any4", "%any6"), ("0.0.0.0/0", "::/0")
        await self._charon(self._there, "far", "host", (v4, v6), networks)
        await self._charon(self._here, "host", "far", anywhere, (v4, v6))
        await self.connect()

    async def _charon(
        self, at: Software, own: str, other: str, local: tuple[str, str], remote: tuple[str, str]
    ) -> None:
        values = {"own": own, "other": other, "local4": local[0], "local6": local[1]}
        values |= {"remote4": remote[0], "remote6": remote[1]}
        at.write("strongswan.conf", config("strongswan.conf"))
        at.write("swanctl.conf", config("swanctl.conf", **values))
        await at.start("/usr/lib/ipsec/charon")
        await at.logged("charon", "worker threads")  # and so it listens
        await self._swanctl(at, "--load-all", "--file", "/run/swanctl.conf")

    @staticmethod
    async def _swanctl(at: Software, *arguments: str) -> str:
        return await at.run("swanctl", *arguments, "--uri", "unix:///run/charon.vici")

    async def connect(self) -> None:
        for family in IKE_PEERS:
            await self._swanctl(self._here, "--initiate", "--ike", family, "--timeout", "10")

    async def disconnect(self) -> None:
        for family in IKE_PEERS:
            await self._swanctl(self._here, "--terminate", "--ike", family)

    async def sources(self) -> set[str]:
        """The host's addresses that the connections use."""
        said = await self._swanctl(self._here, "--list-sas")
        return set(re.findall(r"local  'host' @ (\S+)\[", said))


# --- dnsmasq -------------------------------------------------------------------------------------

# What it answers for box.example; and the question for that, AAAA (RFC 1035, section 4): a header,
# the name, the type and the class.
ANSWER: Final = IPv6Address("2001:db8:53::53")
QUESTION: Final = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + b"\x03box\x07example\0" + b"\0\x1c\0\1"


async def container_by_dhcp(host: HostUnderTest) -> Peer:
    """A container on br0 that has its addresses and routes from dnsmasq alone."""
    namespace = await host.vpc.add_namespace("box")
    link = f"link add c-box type veth peer name eth0 netns {namespace}"
    await host.vpc.ip(host.vpc.host, link, "link set c-box master br0 up")
    await host.vpc.ip(namespace, "link set eth0 up")
    box = Software(host.vpc, namespace)
    script = box.write("udhcpc.sh", config("udhcpc.sh"), mode=0o755)
    await box.run("busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-T", "1", "-s", script)

    async def addresses() -> list[str]:
        shown = await host.vpc.exec(namespace, "ip", "-o", "addr", "show", "scope", "global")
        return re.findall(r"inet6? (\S+)/", shown)

    async def both() -> bool:
        return len(await addresses()) == len(Family)

    await eventually(both)
    ipv4, ipv6 = sorted(map(ip_address, await addresses()), key=lambda a: a.version)
    assert isinstance(ipv4, IPv4Address)
    assert isinstance(ipv6, IPv6Address)
    return Peer("a container with a lease of dnsmasq", namespace, ipv4, ipv6)


async def resolves(vpc: Vpc, peer: Peer, server: IPAddress) -> bool:
    """Whether dnsmasq answers a peer over UDP, from the address that was asked."""
    family, loop = Family(server.version), asyncio.get_running_loop()
    kind = socket.AF_INET6 if family is Family.V6 else socket.AF_INET
    with vpc.socket(peer.namespace, kind, socket.SOCK_DGRAM) as asking:
        asking.bind((str(peer.address(family)), 0))
        asking.connect((str(server), 53))
        try:
            asking.send(QUESTION)
            async with asyncio.timeout(1):
                answer = await loop.sock_recv(asking, 512)
        except OSError:  # refused, or lost
            return False
    return answer[:2] == QUESTION[:2] and ANSWER.packed in answer


# --- WireGuard -----------------------------------------------------------------------------------

IN_TUNNEL: Final = {"10.99.0.2", "fd99::2"}  # the host's addresses
WG_MARK: Final = 51820  # of what WireGuard itself sends; wg-quick's choice


class WireGuard:
    """wireguard-go and wg-quick on the host, and at the other end of the tunnel."""

    def __init__(self, host: HostUnderTest) -> None:
        namespaces = {"far": host.vpc.far, "host": host.vpc.host}
        program = {"WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go"}
        self._ends = {end: Software(host.vpc, at, **program) for end, at in namespaces.items()}

    async def up(self) -> None:
        keys = {name: (await end.run("wg", "genkey")).strip() for name, end in self._ends.items()}
        for name, end in self._ends.items():
            (other,) = keys.keys() - {name}
            public = await end.run("sh", "-c", f"echo {keys[other]} | wg pubkey")
            values = {"key": keys[name], "other": public.strip()}
            end.write("wg0.conf", config(f"wireguard-{name}.conf", **values), mode=0o600)
            await end.run("wg-quick", "up", "/run/wg0.conf")

    async def down(self) -> None:
        """Take the tunnel down at both ends; wireguard-go ends with its link."""
        for end in self._ends.values():
            await end.run("wg-quick", "down", "/run/wg0.conf")

            async def ended(namespace: str = end.namespace) -> bool:
                return not any(map(_is_wireguard, netns.processes(namespace)))

            await eventually(ended)


def _is_wireguard(pid: int) -> bool:
    try:
        return "wireguard-go" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return False


# --- HAProxy with TPROXY -------------------------------------------------------------------------


async def haproxy(host: HostUnderTest) -> None:
    """A transparent proxy for what comes in by eth1 and is not for the host."""
    await host.vpc._do(netns.nft, host.vpc.host, config("tproxy.nft"))
    for family, everything in ((Family.V4, "0.0.0.0/0"), (Family.V6, "::/0")):
        local = f"route add local {everything} dev lo table 100"
        await host.vpc.ip(host.vpc.host, "rule add fwmark 1 lookup 100", local, family=family)
    program = Software(host.vpc, host.vpc.host)
    file = program.write("haproxy.conf", config("haproxy.conf"))
    await program.start("haproxy", "-db", "-V", "-f", file)
    await program.logged("haproxy", "polling")


async def lead_through(host: HostUnderTest, client: Peer, server: Peer) -> None:
    """Lead a client's calls to a server into the host by eth1, and the answers by eth0.

    So do entries of the VPC's route tables for an appliance. The primary's source check is off, as
    an appliance's must be. Eth1's is on: what leaves there with a client's address is lost.
    """
    router, ports = host.vpc.router, host.vpc._ports
    ways = ((client, server, host.eni("eth1")), (server, client, host.eni("eth0")))
    for table, (sender, to, eni) in enumerate(ways, 81):
        port, device = ports[eni.mac].device, await _port_of(host, sender)
        for family, hop in ((Family.V4, f"{NEXT_HOP_V4} onlink"), (Family.V6, NEXT_HOP_V6)):
            net = "0.0.0.0/0" if family is Family.V4 else "::/0"
            # Only what comes from the sender itself, and not what the proxy sends in its name.
            which = f"iif {device} from {sender.address(family)} to {to.address(family)}"
            rule = f"rule add pref 10 {which} lookup {table}"
            route = f"route add {net} via {hop} dev {port} table {table}"
            await host.vpc.ip(router, rule, route, family=family)
    await host.vpc._do(netns.nft, router, drop_source_check(ports[host.eni("eth0").mac]))


async def _port_of(host: HostUnderTest, peer: Peer) -> str:
    """The router's end of a peer's link."""
    index = await host.vpc.exec(peer.namespace, "cat", "/sys/class/net/eth0/iflink")
    shown = await host.vpc.exec(host.vpc.router, "ip", "-o", "link")
    (name,) = re.findall(rf"(?m)^{index.strip()}: ([^@:]+)", shown)
    return str(name)
