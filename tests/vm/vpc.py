"""The sim's VPC around a virtual machine: each ENI is a tap of the router, and DHCP is real."""

from __future__ import annotations

from asyncio.subprocess import DEVNULL, Process
from dataclasses import replace
from typing import Final

from nicwatchd.sim import netns
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.vpc import Vpc

LEASE: Final = "3600"  # s, IPv4
# s, the shortest that dnsmasq has for DHCPv6; EC2's are 450 and (preferred) 140.
LEASE_V6: Final = "450"
RA: Final = "60,1800"  # s, between two and of the router


class TapVpc(Vpc):
    """`async with TapVpc(primary=eni) as vpc`: nothing is plugged at first, not even the primary.

    QEMU belongs into the namespace `router`, where it opens the taps. `host` stays empty.
    `advertised`: how often routers are advertised on what is plugged from now on, and for how long.
    """

    advertised = RA

    def _open_host(self) -> None:
        self._dhcp: dict[str, Process] = {}  # by MAC

    async def add_tap(self, eni: Eni, *, dhcp: bool = True) -> str:
        """The router's side of an ENI; the name of the tap. `unplug` takes it away again."""
        device = await self._do(self._add_tap, eni)
        if dhcp:
            await self.start_dhcp(eni)
        return device

    def _add_tap(self, eni: Eni) -> str:
        self._add_subnets([eni.subnet])
        port = replace(self._port(eni, f"p{next(self._numbers)}"), tap=True)
        self._prepare(port)
        netns.ip(self.router, lines_for_server(eni, port.device))
        self._enis[eni.mac], self._ports[eni.mac] = eni, port
        return port.device

    async def unplug(self, *enis: Eni) -> float:
        """Take the router's side of ENIs away."""
        for eni in enis:
            await self.stop_dhcp(eni)
        return await super().unplug(*enis)

    async def start_dhcp(self, eni: Eni) -> None:
        """Serve an ENI: DHCPv4, stateful DHCPv6, and router advertisements that point to it."""
        options = dnsmasq_options(eni, self._ports[eni.mac].device, self.advertised)
        self._dhcp[eni.mac] = await self.popen(
            self.router, "dnsmasq", *options, stdout=DEVNULL, stderr=DEVNULL
        )

    def serves_dhcp(self, eni: Eni) -> bool:
        """Whether an ENI's DHCP servers and its router's advertisements are there."""
        return eni.mac in self._dhcp

    async def stop_dhcp(self, eni: Eni) -> None:
        """End that service, if it is there."""
        server = self._dhcp.pop(eni.mac, None)
        if server is not None:
            server.terminate()
            await server.wait()


def lines_for_server(eni: Eni, device: str) -> list[str]:
    """The addresses that a server must have on a link to serve its subnets; they route nothing."""
    gateway = [f"addr add {eni.subnet.gateway}/32 dev {device}"] if eni.subnet.gateway else []
    return [
        f"route append fe80::/64 dev {device}",  # its clients; the router's own is in fe80:ec2::/64
        *gateway,
        *(
            f"addr add {cidr[1]}/{cidr.prefixlen} dev {device} nodad noprefixroute"
            for cidr in eni.subnet.ipv6
        ),
    ]


def dnsmasq_options(eni: Eni, device: str, advertised: str) -> list[str]:
    """A server for one link, which has one client: it gets the ENI's first addresses."""
    options = [
        *("--conf-file=/dev/null", "--keep-in-foreground", "--user=root", "--pid-file="),
        *("--port=0", "--leasefile-ro", "--no-ping", "--dhcp-authoritative", "--log-facility=-"),
        *(f"--interface={device}", "--except-interface=lo", "--bind-interfaces"),
        # The client is the ENI, whichever programs ask for it, one after the other.
        "--dhcp-ignore-clid",
    ]
    if eni.ipv4 and eni.subnet.ipv4:
        first, mask = eni.ipv4[0], eni.subnet.ipv4.netmask
        options.append(f"--dhcp-range={first},{first},{mask},{LEASE}")
        options.append(f"--dhcp-option=option:router,{eni.subnet.gateway}")
    if eni.ipv6:
        first6, length = eni.ipv6[0], eni.subnet.ipv6[0].prefixlen
        options.append(f"--dhcp-range={first6},{first6},{length},{LEASE_V6}")
        options += ["--enable-ra", f"--ra-param={device},{advertised}"]
    return options
