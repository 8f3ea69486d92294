"""A container in the machine that publishes a port on all addresses, as Docker does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nicwatchd.core.model import Family
from tests.vm.host import VmHost

PUBLISHED: Final = 8080
UNIT: Final = "box"
LISTENING: Final = ("ip", "netns", "exec", "box", "ss", "-Hltn", "sport", "=", ":7777")

# A bridge with a container, and the rules for it. The firewall of Docker itself lets these pass.
BEGIN: Final = r"""
set -eu
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip netns add box
ip link add br0 type bridge
ip address add 172.18.0.1/24 dev br0
ip address add fd00:18::1/64 dev br0 nodad
ip link add c-box type veth peer name eth0 netns box
ip link set c-box master br0 up
ip link set br0 up
ip -n box link set lo up
ip -n box link set eth0 up
ip -n box address add 172.18.0.2/24 dev eth0
ip -n box address add fd00:18::2/64 dev eth0 nodad
ip -n box route add default via 172.18.0.1
ip -n box -6 route add default via fd00:18::1
nft -f - <<'RULES'
table ip docker {
    chain pre {
        type nat hook prerouting priority dstnat
        fib daddr type local tcp dport 8080 counter dnat to 172.18.0.2:7777
    }
    chain post {
        type nat hook postrouting priority srcnat
        oifname != "br0" ip saddr 172.18.0.0/24 counter masquerade
    }
}
table ip6 docker {
    chain pre {
        type nat hook prerouting priority dstnat
        fib daddr type local tcp dport 8080 counter dnat to [fd00:18::2]:7777
    }
    chain post {
        type nat hook postrouting priority srcnat
        oifname != "br0" ip6 saddr fd00:18::/64 counter masquerade
    }
}
RULES
"""
END: Final = r"""
nft 'delete table ip docker; delete table ip6 docker'
ip link del br0
ip netns del box
sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
"""


@asynccontextmanager
async def publishing(host: VmHost) -> AsyncIterator[None]:
    """The container answers on PUBLISHED of all addresses of the machine, if routing lets it.

    Forwarding is on only meanwhile.
    """

    async def listens() -> bool:
        return len((await host.vm.run(*LISTENING)).splitlines()) >= len(Family)

    await host.vm.run("sh", "-c", BEGIN)
    await host.vm.run(
        *("systemd-run", "--quiet", "--collect", f"--unit={UNIT}"),
        "--property=NetworkNamespacePath=/run/netns/box",
        "/usr/local/bin/answer",
    )
    try:
        await host.eventually(listens)
        yield
    finally:
        await host.vm.run("systemctl", "stop", UNIT)
        await host.vm.run("sh", "-c", END)
