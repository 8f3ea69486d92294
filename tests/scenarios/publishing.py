"""Ports that containers publish, in the words of Docker, Podman and kube-proxy.

Each form leads PUBLISHED, TCP and UDP, of all addresses of the host to PORT of a container, in both
families. Their own marks and chains are as the programs make them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from typing import Final

from nicwatchd.core.model import Family, IPAddress
from nicwatchd.sim import netns
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import PORT, TIMEOUT, Acceptor, Path, matrix
from tests.scenarios.host import WITHIN, HostUnderTest
from tests.scenarios.software import Software

PUBLISHED: Final = 8080
BOTH: Final = ("tcp", "udp")


# --- how they publish --------------------------------------------------------------------------


def _ends(box: Peer) -> list[tuple[str, str, IPAddress]]:
    """For each family of a container: the table's family, the word for addresses, the address."""
    names = {Family.V4: "ip", Family.V6: "ip6"}
    return [(names[Family(ip.version)], names[Family(ip.version)], ip) for ip in box.addresses]


def _place(ip: IPAddress) -> str:
    return f"[{ip}]:{PORT}" if Family(ip.version) is Family.V6 else f"{ip}:{PORT}"


async def _load(host: HostUnderTest, text: str) -> None:
    await host.vpc._do(netns.nft, host.vpc.host, text)


async def docker_nftables(host: HostUnderTest, box: Peer, bridge: str = "br0") -> None:
    """Docker's own nftables backend (moby 29)."""
    for family, word, ip in _ends(box):
        rules = "".join(
            f"{protocol} dport {PUBLISHED} counter dnat to {_place(ip)} comment DNAT\n"
            for protocol in BOTH
        )
        loopback = "127.0.0.0/8" if word == "ip" else "::1"
        await _load(
            host,
            f"""
table {family} docker-bridges {{
  map nat-postrouting-out-jumps {{ type ifname : verdict; elements = {{ "{bridge}" : jump out }} }}
  chain out {{ fib saddr type local counter masquerade comment "MASQ TO LOCAL"; }}
  chain published {{
    {rules}  }}
  chain nat-OUTPUT {{
    type nat hook output priority -100; policy accept;
    {word} daddr != {loopback} fib daddr type local counter jump published
  }}
  chain nat-PREROUTING {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local counter jump published
  }}
  chain nat-POSTROUTING {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname != "{bridge}" {word} saddr {ip} counter masquerade comment MASQUERADE
    oifname vmap @nat-postrouting-out-jumps
  }}
  chain filter-FORWARD {{
    type filter hook forward priority filter; policy accept;
    oifname "{bridge}" ct state established,related counter accept
    oifname "{bridge}" iifname != "{bridge}" {word} daddr {ip} th dport {PORT} counter accept
  }}
}}
""",
        )


async def docker_iptables(host: HostUnderTest, box: Peer, bridge: str = "br0") -> None:
    """Docker's iptables backend, by iptables-nft."""
    tables = Software(host.vpc, host.vpc.host)
    for family, _, ip in _ends(box):
        program = "iptables-nft" if family == "ip" else "ip6tables-nft"
        loopback = "127.0.0.0/8" if family == "ip" else "::1/128"
        local = "-m addrtype --dst-type LOCAL -j DOCKER"
        lines = [
            "-N DOCKER",
            f"-A PREROUTING {local}",
            f"-A OUTPUT ! -d {loopback} {local}",
            f"-A POSTROUTING -s {ip} ! -o {bridge} -j MASQUERADE",
        ]
        for protocol in BOTH:
            to = f"-p {protocol} -m {protocol} --dport"
            lines += [
                f"-A DOCKER ! -i {bridge} {to} {PUBLISHED} -j DNAT --to-destination {_place(ip)}",
                f"-A POSTROUTING -s {ip} -d {ip} {to} {PORT} -j MASQUERADE",
            ]
        for line in lines:
            await tables.run(program, "-w", "-t", "nat", *line.split())


async def podman(host: HostUnderTest, box: Peer, bridge: str = "br0") -> None:
    """Podman's netavark, which masks what the host itself publishes with 0x2000."""
    dnat, subnets = "", ""
    for _, word, ip in _ends(box):
        subnets += f"{word} saddr {ip} {word} daddr != {ip} masquerade\n"
        for protocol in BOTH:
            dnat += f"{word} saddr {ip} {protocol} dport {PUBLISHED} jump SETMARK\n"
            dnat += (
                f"meta nfproto {'ipv4' if word == 'ip' else 'ipv6'} {protocol} dport {PUBLISHED}"
            )
            dnat += f" dnat {word} to {_place(ip)}\n"
    await _load(
        host,
        f"""
table inet netavark {{
  chain SETMARK {{ meta mark set meta mark | 0x00002000; }}
  chain HOSTPORT-DNAT {{
    {dnat}  }}
  chain PREROUTING {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump HOSTPORT-DNAT
  }}
  chain OUTPUT {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump HOSTPORT-DNAT
  }}
  chain POSTROUTING {{
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & 0x00002000 == 0x00002000 masquerade
    iifname "{bridge}" oifname != "{bridge}" jump SUBNETS
  }}
  chain SUBNETS {{
    {subnets}  }}
}}
""",
    )


async def kube_proxy(host: HostUnderTest, box: Peer, bridge: str = "br0") -> None:  # noqa: ARG001 (it knows no bridge)
    """A NodePort of kube-proxy's nftables mode: what comes from outside is masqueraded as well."""
    for family, word, ip in _ends(box):
        elements = ", ".join(f"{protocol} . {PUBLISHED} : goto external" for protocol in BOTH)
        rules = "".join(
            f"meta l4proto {protocol} dnat {word} to {_place(ip)}\n" for protocol in BOTH
        )
        await _load(
            host,
            f"""
table {family} kube-proxy {{
  map service-nodeports {{
    type inet_proto . inet_service : verdict
    elements = {{ {elements} }}
  }}
  chain mark-for-masquerade {{ meta mark set meta mark | 0x00004000; }}
  chain endpoint {{
    {word} saddr {ip} jump mark-for-masquerade
    {rules}  }}
  chain external {{
    jump mark-for-masquerade
    goto endpoint
  }}
  chain services {{
    fib daddr type local meta l4proto . th dport vmap @service-nodeports
  }}
  chain nat-prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }}
  chain nat-output {{
    type nat hook output priority -100; policy accept;
    jump services
  }}
  chain masquerading {{
    meta mark & 0x00004000 == 0 return
    meta mark set meta mark ^ 0x00004000
    masquerade fully-random
  }}
  chain nat-postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    jump masquerading
  }}
}}
""",
        )


FIREWALLD: Final = """
table inet firewalld {{
  chain mangle_PREROUTING {{
    type filter hook prerouting priority mangle + 10; policy accept;
  }}
  chain nat_PREROUTING {{
    type nat hook prerouting priority dstnat + 10; policy accept;
    jump nat_PRE_public_allow
  }}
  chain nat_PRE_public_allow {{
    {forwards}  }}
  chain nat_POSTROUTING {{
    type nat hook postrouting priority srcnat + 10; policy accept;
    iifname "{bridge}" oifname != {{ "lo", "{bridge}" }} masquerade
  }}
  chain filter_PREROUTING {{
    type filter hook prerouting priority filter + 10; policy accept;
    icmpv6 type {{ nd-router-advert, nd-neighbor-solicit }} accept
    {filter}
  }}
  chain filter_INPUT {{
    type filter hook input priority filter + 10; policy accept;
    ct state {{ established, related }} accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
  }}
  chain filter_FORWARD {{
    type filter hook forward priority filter + 10; policy accept;
    ct state {{ established, related }} accept
    ct status dnat accept
    iifname "lo" accept
    iifname "{bridge}" accept
    ct state invalid drop
    reject with icmpx admin-prohibited
  }}
}}
"""
# Its IPv6_rpfilter: `yes`, which its package sets, and `loose`.
STRICT_IPV6: Final = "meta nfproto ipv6 fib saddr . mark . iif oif missing drop"
LOOSE_IPV6: Final = "meta nfproto ipv6 fib saddr . mark oif missing drop"


async def firewalld(
    host: HostUnderTest, box: Peer, bridge: str = "br0", check: str = LOOSE_IPV6
) -> None:
    """A forward-port of firewalld's nftables backend (1.3) in a zone that masquerades."""
    forwards = "".join(
        f"meta nfproto {'ipv4' if word == 'ip' else 'ipv6'} {protocol} dport {PUBLISHED}"
        f" fib daddr type local dnat {word} to {_place(ip)}\n"
        for _, word, ip in _ends(box)
        for protocol in BOTH
    )
    text = FIREWALLD.format(forwards=forwards, bridge=bridge, filter=check)
    await _load(host, text)


Form = Callable[[HostUnderTest, Peer, str], Awaitable[None]]
FORMS: Final[dict[str, Form]] = {
    "Docker, nftables": docker_nftables,
    "Docker, iptables": docker_iptables,
    "Podman": podman,
    "kube-proxy": kube_proxy,
    "firewalld": firewalld,
}


# --- who answers -------------------------------------------------------------------------------


@asynccontextmanager
async def answering(host: HostUnderTest, *boxes: Peer) -> AsyncIterator[None]:
    """The containers answer on PORT, by TCP and UDP."""
    async with AsyncExitStack() as stack:
        for box in boxes:
            await stack.enter_async_context(Acceptor(host.vpc, box.namespace))
            await stack.enter_async_context(_udp(host, box))
        yield


class _Echo(asyncio.DatagramProtocol):
    """Sends the caller its own address."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, _: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(f"{addr[0]}\n".encode(), addr)


@asynccontextmanager
async def _udp(host: HostUnderTest, box: Peer) -> AsyncIterator[None]:
    loop, transports = asyncio.get_running_loop(), []
    for ip in box.addresses:
        family = socket.AF_INET6 if Family(ip.version) is Family.V6 else socket.AF_INET
        opened = host.vpc.socket(box.namespace, family, socket.SOCK_DGRAM)
        opened.bind((str(ip), PORT))
        transports.append((await loop.create_datagram_endpoint(_Echo, sock=opened))[0])
    yield
    for transport in transports:
        transport.close()
    await asyncio.sleep(0)  # the loop closes them in its next round


async def _ask_by_udp(host: HostUnderTest, path: Path) -> bool:
    family = socket.AF_INET6 if Family(path.to.version) is Family.V6 else socket.AF_INET
    with host.vpc.socket(path.peer.namespace, family, socket.SOCK_DGRAM) as caller:
        caller.bind((str(path.peer.address(Family(path.to.version))), 0))
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TIMEOUT):
                # Connected: an answer from another address is none.
                await loop.sock_connect(caller, (str(path.to), PUBLISHED))
                await loop.sock_sendall(caller, b"?")
                return bool(ip_address((await loop.sock_recv(caller, 64)).decode().strip()))
        except OSError:
            return False


async def silent(host: HostUnderTest, tried: Iterable[Path]) -> list[str]:
    """The paths on which a published port does not answer, by TCP or by UDP."""
    every = list(tried)
    by_tcp = await matrix(host.vpc, every, PUBLISHED)
    by_udp = await asyncio.gather(*(_ask_by_udp(host, path) for path in every))
    lost = [f"{path} by TCP" for path, reply in by_tcp.items() if not reply]
    return lost + [f"{p} by UDP" for p, answered in zip(every, by_udp, strict=True) if not answered]


async def all_published(host: HostUnderTest, tried: Iterable[Path]) -> None:
    """Wait until published ports answer on all these paths."""
    every, lost = list(tried), [""]
    try:
        async with asyncio.timeout(WITHIN):
            while lost := await silent(host, every):  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.1)  # a busy machine drops packets
    except TimeoutError:
        raise AssertionError(f"no answer: {'; '.join(lost)}") from None
