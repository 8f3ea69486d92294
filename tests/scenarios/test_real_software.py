"""Real programs of others beside nicwatchd: each works, and every ENI of the host answers.

Each is started before nicwatchd, and while it runs. Where both families can be had, both are tried.
"""

from __future__ import annotations

import asyncio
import re
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import product
from pathlib import Path

import pytest

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim import containers, netns
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import Acceptor, reach
from nicwatchd.sim.router import NEXT_HOP_V4, NEXT_HOP_V6, drop_source_check
from nicwatchd.sim.vpc import Vpc
from tests.scenarios.host import DEFAULT, HostUnderTest, complete, ec2_host, numbered
from tests.scenarios.software import Software, eventually, stop

ETH1 = numbered(1)  # 10.0.2.11 and 2001:db8:ec2:2::11; eth0 has 10.0.1.10
FIRST = pytest.mark.parametrize("first", ["nicwatchd", "software"])
CONTAINER_NETS = (IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64"))
CONFIGS = Path(__file__).parent / "configs"

Start = Callable[[HostUnderTest], Awaitable[None]]


@asynccontextmanager
async def beside(first: str, start: Start, *, leased: bool = True) -> AsyncIterator[HostUnderTest]:
    """A host with an ENI that nicwatchd manages, and this software: which of them comes `first`.

    `leased`: a DHCP client and a router have configured the ENI too.
    """
    async with ec2_host(ETH1) as host:
        if first == "software":
            await host.daemon.stop()
        await host.plug("eth1")
        if leased:
            for family in Family:
                await host.vpc.lease(host.eni("eth1"), family)
            await host.advertise("eth1")
        if first == "software":
            await start(host)
            await host.daemon.start(DEFAULT)
        await host.until("eth1", complete)
        if first == "nicwatchd":
            await start(host)
        yield host


def config(name: str, **values: str) -> str:
    """A file of the folder beside this one, with {placeholders} in it."""
    text = (CONFIGS / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"<{key}>", value)
    return text


async def everybody_reaches(host: HostUnderTest) -> None:
    for name in ("eth0", "eth1"):
        await host.all_reachable(name)


async def on_link(host: HostUnderTest, address: IPAddress | str, device: str = "eth1") -> bool:
    return f" {address}/" in await host.ip(f"addr show dev {device}")


# --- BIRD ----------------------------------------------------------------------------------------

BEHIND = (IPv4Address("192.0.2.9"), IPv6Address("2001:db8:beef::9"))
GATEWAY_MAC = "06:00:00:00:00:77"


async def customer_gateway(host: HostUnderTest) -> Peer:
    """A router in the ENI's subnet, on its wire, with networks behind it that the VPC lacks."""
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


@FIRST
async def test_what_bird_learns_through_an_eni_is_the_way_of_its_answers(first: str) -> None:
    """On main: waits for w-routes (H5)."""

    async def start(host: HostUnderTest) -> None:
        behind = await customer_gateway(host)
        for namespace, of in ((behind.namespace, "gateway"), (host.vpc.host, "host")):
            bird = Software(host.vpc, namespace)
            file = bird.write("bird.conf", config(f"bird-{of}.conf"))
            bird_of[of] = bird, await bird.start("bird", "-f", "-c", file, "-s", "/run/bird.ctl")

    bird_of = {}
    async with beside(first, start) as host:

        async def learned() -> bool:
            routes = [await host.ip(f"-{family} route show proto bird") for family in Family]
            return "192.0.2.0/24 via 10.0.2.77 dev eth1" in routes[0] and (
                "2001:db8:beef::/48 via fe80::400:ff:fe00:77 dev eth1" in routes[1]
            )

        bird, _ = bird_of["host"]
        await eventually(learned, lambda: bird.log("bird"))
        behind = Peer("a host behind the gateway", bird_of["gateway"][0].namespace, *BEHIND)
        await host.all_reachable("eth1", peers=[behind])
        await host.all_reachable("eth0")

        await stop(bird_of["gateway"][1])
        table = (await host.status("eth1"))["table"]

        async def forgotten() -> bool:
            routes = [await host.ip(f"-{v} route show table {table}") for v in Family]
            return "192.0.2.0/24" not in routes[0] and "2001:db8:beef::/48" not in routes[1]

        await eventually(forgotten)
        await everybody_reaches(host)


# --- keepalived, and Pacemaker's IPaddr2 ---------------------------------------------------------

FLOATING = (IPv4Address("10.0.2.50"), IPv6Address("2001:db8:ec2:2::50"))
FIRST_ONES = [ip_address(text) for text in (*ETH1.ipv4, *ETH1.ipv6)]
WITH_FLOATING = replace(
    ETH1,
    ipv4=(*ETH1.ipv4, str(FLOATING[0])),
    ipv6=(*ETH1.ipv6, str(FLOATING[1])),
)


async def is_held(host: HostUnderTest, *, held: bool) -> None:
    async def so() -> bool:
        return [await on_link(host, address) for address in FLOATING] == [held, held]

    await eventually(so)


async def listed_and_answering(host: HostUnderTest) -> None:
    """IMDS lists the floating addresses too, and everybody reaches all addresses of the host."""
    await host.change(WITH_FLOATING)
    await host.daemon.post("/v1/reconcile")
    await host.until("eth1", complete)
    await everybody_reaches(host)


async def stays_given_up(host: HostUnderTest, give_up: Callable[[], Awaitable[object]]) -> None:
    """Give the addresses up: nobody puts them back, although IMDS lists them."""
    async with host.changes("address") as said:
        await give_up()
        await is_held(host, held=False)
        for _ in range(2):
            await host.daemon.post("/v1/reconcile")
        await host.until("eth1", complete)
        await host.all_reachable("eth0")
        await host.all_reachable("eth1", addresses=FIRST_ONES)
    added = [line for line in said if not line.startswith("Deleted")]
    assert [line for line in added if any(f" {a}/" in line for a in FLOATING)] == []


KEEPALIVED = ("keepalived", "--dont-fork", "--log-console", "--use-file", "/run/keepalived.conf")


async def keepalived(vpc: Vpc, namespace: str, **values: str) -> tuple[Software, Process]:
    program = Software(vpc, namespace)
    program.write("keepalived.conf", config("keepalived.conf", **values))
    return program, await program.start(*KEEPALIVED)


@FIRST
async def test_what_keepalived_gives_up_is_not_put_back(first: str) -> None:
    """Another node takes over; when it ends, the host has the addresses again. (H2)"""
    here, there = str(ETH1.ipv4[0]), "10.0.2.250"

    async def start(host: HostUnderTest) -> None:
        values = {"device": "eth1", "own": here, "other": there, "priority": "100"}
        await keepalived(host.vpc, host.vpc.host, **values)
        await is_held(host, held=True)

    others = []
    async with beside(first, start) as host:
        await listed_and_answering(host)

        async def take_over() -> None:
            values = {"device": "eth0", "own": there, "other": here, "priority": "150"}
            namespace = host.vpc.neighbour(host.eni("eth1").subnet).namespace
            others.append(await keepalived(host.vpc, namespace, **values))

        await stays_given_up(host, take_over)
        await stop(others[0][1])
        await is_held(host, held=True)
        await everybody_reaches(host)


class Ipaddr2:
    """Pacemaker's agent, called as Pacemaker calls it: one address, one action."""

    RUNNING, NOT_RUNNING = 0, 7  # OCF's exit codes

    def __init__(self, host: HostUnderTest) -> None:
        agent = "/usr/lib/ocf/resource.d/heartbeat/IPaddr2"
        self._software = Software(host.vpc, host.vpc.host, {"OCF_ROOT": "/usr/lib/ocf"})
        self._agent = agent

    async def all(self, action: str, code: int = 0) -> None:
        for address in FLOATING:
            settings = {
                "OCF_RESOURCE_INSTANCE": f"ip{address.version}",
                "OCF_RESKEY_ip": str(address),
                "OCF_RESKEY_nic": "eth1",
                "OCF_RESKEY_cidr_netmask": str(address.max_prefixlen),
                "OCF_RESKEY_arp_bg": "false",  # so that it has ended when it says so
                "OCF_RESKEY_arp_interval": "10",
            }
            words = (f"{key}={value}" for key, value in settings.items())
            await self._software.run("env", *words, self._agent, action, codes=(code,))


@FIRST
async def test_what_pacemakers_ipaddr2_stops_is_not_put_back(first: str) -> None:
    """Started again, the addresses are there again. (H2)"""

    async def start(host: HostUnderTest) -> None:
        agents.append(Ipaddr2(host))
        await agents[0].all("start")

    agents: list[Ipaddr2] = []
    async with beside(first, start) as host:
        await agents[0].all("monitor")
        await listed_and_answering(host)
        await stays_given_up(host, lambda: agents[0].all("stop"))
        await agents[0].all("monitor", Ipaddr2.NOT_RUNNING)
        await agents[0].all("start")
        await everybody_reaches(host)


# --- strongSwan ----------------------------------------------------------------------------------

IKE_PEERS = {"ipv4": "203.0.113.60", "ipv6": "3fff:113::60"}  # the Internet, west


async def charon(vpc: Vpc, namespace: str, **values: str) -> Software:
    program = Software(vpc, namespace, {"STRONGSWAN_CONF": "/run/strongswan.conf"})
    program.write("strongswan.conf", config("strongswan.conf"))
    program.write("swanctl.conf", config("swanctl.conf", **values))
    await program.start("/usr/lib/ipsec/charon")
    await program.logged("charon", "worker threads")  # and so it listens
    await swanctl(program, "--load-all", "--file", "/run/swanctl.conf")
    return program


async def swanctl(program: Software, *arguments: str) -> str:
    return await program.run("swanctl", *arguments, "--uri", "unix:///run/charon.vici")


async def initiate(program: Software) -> None:
    for family in IKE_PEERS:
        await swanctl(program, "--initiate", "--ike", family, "--timeout", "10")


async def ike_sources(program: Software) -> set[str]:
    """The host's addresses that its IKE connections use."""
    said = await swanctl(program, "--list-sas")
    return set(re.findall(r"local  'host' @ (\S+)\[", said))


@FIRST
async def test_strongswan_calls_from_the_primary(first: str) -> None:
    """It chooses its source by the routes of all tables, and knows no rules. (H8)"""
    anywhere = {"local4": "%any4", "local6": "%any6"}
    peers = {"4": IKE_PEERS["ipv4"], "6": IKE_PEERS["ipv6"]}

    async def start(host: HostUnderTest) -> None:
        there = {f"local{v}": address for v, address in peers.items()}
        there |= {"remote4": "0.0.0.0/0", "remote6": "::/0", "own": "far", "other": "host"}
        await charon(host.vpc, host.vpc.far, **there)
        here = anywhere | {f"remote{v}": address for v, address in peers.items()}
        here |= {"own": "host", "other": "far"}
        programs.append(await charon(host.vpc, host.vpc.host, **here))
        await initiate(programs[0])

    programs: list[Software] = []
    async with beside(first, start) as host:
        primary = set(map(str, host.eni("eth0").addresses()))
        assert await ike_sources(programs[0]) == primary
        for family in IKE_PEERS:
            await swanctl(programs[0], "--terminate", "--ike", family)
        await initiate(programs[0])  # by what there is now
        assert await ike_sources(programs[0]) == primary
        await everybody_reaches(host)


# --- dnsmasq -------------------------------------------------------------------------------------


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


# An AAAA question for box.example (RFC 1035, section 4): a header, the name, type and class.
QUESTION = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0" + b"\x03box\x07example\0" + b"\0\x1c\0\x01"


async def resolves(host: HostUnderTest, peer: Peer, server: IPAddress) -> bool:
    """Whether dnsmasq answers a peer over UDP, from the address that was asked."""
    family, loop = Family(server.version), asyncio.get_running_loop()
    kind = socket.AF_INET6 if family is Family.V6 else socket.AF_INET
    with host.vpc.socket(peer.namespace, kind, socket.SOCK_DGRAM) as asking:
        asking.bind((str(peer.address(family)), 0))
        asking.connect((str(server), 53))
        try:
            asking.send(QUESTION)
            async with asyncio.timeout(1):
                answer = await loop.sock_recv(asking, 512)
        except OSError:  # refused, or lost
            return False
    return answer[:2] == QUESTION[:2] and IPv6Address("2001:db8:53::53").packed in answer


@FIRST
async def test_dnsmasq_serves_containers_and_the_vpc(first: str) -> None:
    async def start(host: HostUnderTest) -> None:
        await containers.bridged(host.vpc, *CONTAINER_NETS)
        program = Software(host.vpc, host.vpc.host)
        file = program.write("dnsmasq.conf", config("dnsmasq.conf"))
        await program.start("dnsmasq", f"--conf-file={file}")
        await program.logged("dnsmasq", "started, version")

    async with beside(first, start) as host:
        box = await container_by_dhcp(host)
        await host.all_reachable("eth0", peers=[box])
        await host.all_reachable("eth1", peers=[box])
        for eni in map(host.eni, ("eth0", "eth1")):
            for peer, server in product([box, *host.vpc.peers(eni)], eni.addresses()):
                await eventually(partial(resolves, host, peer, server))


# --- WireGuard -----------------------------------------------------------------------------------

IN_TUNNEL = {"10.99.0.2", "fd99::2"}


class WireGuard:
    """Its program in user space, and wg-quick, on the host and at the other end of the tunnel."""

    def __init__(self, host: HostUnderTest) -> None:
        user_space = {"WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go"}
        self._host = host
        self.ends = {
            name: Software(host.vpc, namespace, user_space)
            for name, namespace in (("far", host.vpc.far), ("host", host.vpc.host))
        }

    async def up(self) -> None:
        keys = {name: (await end.run("wg", "genkey")).strip() for name, end in self.ends.items()}
        for name, end in self.ends.items():
            (other,) = keys.keys() - {name}
            public = await end.run("sh", "-c", f"echo {keys[other]} | wg pubkey")
            values = {"key": keys[name], "other": public.strip()}
            end.write("wg0.conf", config(f"wireguard-{name}.conf", **values), mode=0o600)
            await end.run("wg-quick", "up", "/run/wg0.conf")

    async def down(self, *names: str) -> None:
        """Take the tunnel down; its program ends with the link."""
        for name in names:
            await self.ends[name].run("wg-quick", "down", "/run/wg0.conf")

            async def ended(namespace: str = self.ends[name].namespace) -> bool:
                found = netns.processes(namespace)
                return all("wireguard-go" not in command_line(pid) for pid in found)

            await eventually(ended)


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return ""


async def leaves_by_the_tunnel(host: HostUnderTest) -> None:
    """What the host calls without saying from where is seen with the tunnel's addresses."""
    for far in host.vpc.far_hosts[:-1]:  # the last is the tunnel's other end

        async def through(far: Peer = far) -> bool:
            replies = [await reach(host.vpc, host.vpc.host, to) for to in far.addresses]
            return {str(reply and reply.seen_as) for reply in replies} == IN_TUNNEL

        await eventually(through)


@FIRST
async def test_a_full_tunnel_of_wireguard_comes_first(first: str) -> None:
    """wg-quick's rules have no priority, so they come before ours, whoever is older. (H4, H12)"""

    async def start(host: HostUnderTest) -> None:
        tunnels.append(WireGuard(host))
        await tunnels[0].up()

    tunnels: list[WireGuard] = []
    async with beside(first, start) as host, Acceptor(host.vpc, host.vpc.far):
        await leaves_by_the_tunnel(host)
        await host.daemon.post("/v1/reconcile")
        for far, family in product(host.vpc.far_hosts, Family):
            to, own = far.address(family), host.eni("eth1").addresses(family)[0]
            assert "dev wg0" in await host.ip(f"-{family} route get {to} from {own}")
            packets_of_its_own = await host.ip(f"-{family} route get {to} mark 51820")
            assert "dev eth0" in packets_of_its_own
        status = await host.status("eth1")
        assert status["shadowed"]
        assert any("by the rule at priority" in note["text"] for note in status["notes"])
        await host.imds_is("ok")
        # The other end takes what comes by the tunnel, whoever's address it has.
        await host.all_reachable("eth0")
        await tunnels[0].down("host", "far")
        await everybody_reaches(host)
        await host.daemon.post("/v1/reconcile")
        assert not (await host.status("eth1"))["shadowed"]


# --- a transparent proxy -------------------------------------------------------------------------


async def as_an_appliance(host: HostUnderTest, client: Peer, server: Peer) -> None:
    """Lead a client's calls to a server through the host, and the answers back.

    As an entry of the VPC's route table for an ENI does. The primary's source check is off, as for
    every appliance; that of the other ENI is on, so what leaves by it with a client's address is
    lost.
    """
    router, ports = host.vpc.router, host.vpc._ports
    ways = ((client, server, host.eni("eth1")), (server, client, host.eni("eth0")))
    for number, (sender, to, eni) in enumerate(ways, 81):
        for family, hop in ((Family.V4, f"{NEXT_HOP_V4} onlink"), (Family.V6, NEXT_HOP_V6)):
            default = "default" if family is Family.V4 else "::/0"
            device = ports[eni.mac].device
            await host.vpc.ip(router, f"route add {default} via {hop} dev {device} table {number}")
            chosen = f"from {sender.address(family)} to {to.address(family)}"
            # Only what comes from the sender itself, and not what the proxy sends in its name.
            ingress = await port_of(host, sender)
            rule = f"rule add pref 10 iif {ingress} {chosen} lookup {number}"
            await host.vpc.ip(router, rule, family=family)
    await host.vpc._do(netns.nft, router, drop_source_check(ports[host.eni("eth0").mac]))


async def port_of(host: HostUnderTest, peer: Peer) -> str:
    """The router's end of a peer's link."""
    said = await host.vpc.exec(peer.namespace, "cat", "/sys/class/net/eth0/iflink")
    shown = await host.vpc.exec(host.vpc.router, "ip", "-o", "link")
    (name,) = re.findall(rf"(?m)^{said.strip()}: ([^@:]+)", shown)
    return str(name)


@FIRST
async def test_a_transparent_proxy_calls_with_its_clients_addresses(first: str) -> None:
    """A client in the ENI's subnet, a server in the primary's: what leaves with the client's
    address goes where main says. (H10)
    """

    async def start(host: HostUnderTest) -> None:
        program = Software(host.vpc, host.vpc.host)
        await host.vpc._do(netns.nft, host.vpc.host, config("tproxy.nft"))
        for family, everything in ((Family.V4, "0.0.0.0/0"), (Family.V6, "::/0")):
            lines = ("rule add fwmark 1 lookup 100", f"route add local {everything} dev lo table 100")
            await host.vpc.ip(host.vpc.host, *lines, family=family)
        file = program.write("haproxy.conf", config("haproxy.conf"))
        await program.start("haproxy", "-db", "-V", "-f", file)
        await program.logged("haproxy", "polling")

    async with beside(first, start, leased=False) as host:
        client = host.vpc.neighbour(host.eni("eth1").subnet)
        server = host.vpc.neighbour(host.vpc.primary.subnet)
        await as_an_appliance(host, client, server)
        async with Acceptor(host.vpc, server.namespace):
            for to in server.addresses:

                async def called(to: IPAddress = to) -> bool:
                    reply = await reach(host.vpc, client.namespace, to)
                    return reply is not None and reply.seen_as == client.address(Family(to.version))

                await eventually(called)
        await host.all_reachable("eth0", "eth1")
