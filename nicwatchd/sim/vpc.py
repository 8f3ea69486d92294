"""A simulated VPC: a host under test, its router, six far hosts, and a neighbour in each subnet.

Each is a network namespace; one sandbox can hold many VPCs. The router drops what EC2 drops:
packets whose source does not belong to the ENI (see `nicwatchd.sim.router`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from nicwatchd.sim import dhcp, netns, ra, router
from nicwatchd.sim.lab import Lab
from nicwatchd.sim.parts import Eni, Peer, Subnet, far_hosts

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from nicwatchd.core.model import Family, IPAddress


class Vpc(Lab):
    """`async with Vpc() as vpc`: the primary ENI is plugged, up, and has its addresses from DHCP.

    `host`, `router` and `far` are the names of namespaces. The neighbours in `subnets` and in the
    primary's subnet exist from the start; others appear with the first ENI of their subnet.
    `manager` is what configures the host's other interfaces, from their first `lease` on.
    """

    def __init__(
        self,
        primary: Eni | None = None,
        subnets: Sequence[Subnet] = (),
        manager: dhcp.Manager = dhcp.GOOD,
    ) -> None:
        super().__init__("vpc")
        self.manager = manager
        self.primary = primary or Eni.numbered("ens5", Subnet.numbered(1))
        self.host, self.router, far = (f"{self.id}-{part}" for part in ("host", "router", "far"))
        self.far_hosts = far_hosts(far)
        self.far = far
        self._subnets = tuple(dict.fromkeys([self.primary.subnet, *subnets]))
        self._neighbours: dict[Subnet, Peer] = {}
        self._numbers = itertools.count(1)
        self._ports: dict[str, router.Port] = {}  # by MAC
        self._enis: dict[str, Eni] = {}  # by MAC

    def _open(self) -> None:
        super()._open()
        self._add_namespaces(self.host, self.router, self.far)
        netns.sysctl(self.router, router.SYSCTLS)
        self._attach_peer(self.far, [a for peer in self.far_hosts for a in peer.addresses])
        self._add_subnets(self._subnets)
        self._open_host()

    def _open_host(self) -> None:
        """Bring the primary into its state after boot."""
        self._plug(self.primary)
        # It has been up since long, so the check for duplicates of its link-local address is over.
        netns.sysctl(self.host, {f"ipv6/conf/{self.primary.name}/accept_dad": "0"})
        netns.ip(self.host, dhcp.lines_for_primary(self.primary))
        netns.wait_until_running(self.router, [self._ports[self.primary.mac].device])

    # --- the network behind the host -------------------------------------------------------------

    def _add_namespaces(self, *names: str) -> None:
        super()._add_namespaces(*names)
        for name in names:
            if name != self.host:
                netns.sysctl(name, router.NO_DAD)

    async def add_namespace(self, part: str) -> str:
        """Add a namespace, for a container for example; returns its name. It ends with the VPC."""
        name = f"{self.id}-{part}"
        await self._do(self._add_namespaces, name)
        return name

    def _add_subnets(self, subnets: Sequence[Subnet]) -> None:
        """Add gateways and neighbours of new subnets. A known subnet with a new CIDR is not new."""
        for subnet in subnets:
            for known, neighbour in list(self._neighbours.items()):
                if known.name == subnet.name:
                    self._neighbours[subnet] = neighbour
        new = [subnet for subnet in dict.fromkeys(subnets) if subnet not in self._neighbours]
        if not new:
            return
        netns.ip(self.router, router.lines_for_router(new))
        for subnet in new:
            name = f"{self.id}-{subnet.name}"
            self._neighbours[subnet] = Peer(
                f"a neighbour in {subnet.name}",
                name,
                subnet.neighbour_ipv4,
                subnet.neighbour_ipv6,
            )
            self._add_namespaces(name)
            self._attach_peer(name, self._neighbours[subnet].addresses)

    def _attach_peer(self, namespace: str, addresses: Sequence[IPAddress]) -> None:
        """Connect a namespace that is not under test to the router."""
        number = next(self._numbers)
        mac = f"0e:00:00:00:{number >> 8:02x}:{number & 255:02x}"
        self._attach(("eth0", namespace, router.Port(f"p{number}", mac, tuple(addresses))))
        netns.ip(namespace, router.lines_for_peer("eth0", addresses))
        netns.wait_until_running(self.router, [f"p{number}"])

    def _attach(self, *ends: tuple[str, str, router.Port]) -> None:
        """Connect links (name, namespace, port) to the router, which is ready before they show."""
        self._prepare(*(port for _, _, port in ends))
        netns.ip(self.router, [router.line_to_hand_over(port, *to) for *to, port in ends])

    def _prepare(self, *ports: router.Port) -> None:
        """Create the router's ends of new links."""
        netns.ip(self.router, [line for port in ports for line in router.lines_to_prepare(port)])
        for port in ports:
            netns.sysctl(self.router, router.port_sysctls(port))
        netns.nft(self.router, "".join(map(router.source_check, ports)))

    # --- the host's ENIs -------------------------------------------------------------------------

    @property
    def enis(self) -> tuple[Eni, ...]:
        """All plugged ENIs as they are now, the primary first."""
        return tuple(self._enis.values())

    async def plug(self, *enis: Eni) -> float:
        """Hot-plug ENIs at once; returns the monotonic time when the links exist."""
        return await self._do(self._plug, *enis)

    def _plug(self, *enis: Eni) -> float:
        self._add_subnets([eni.subnet for eni in enis])
        ports = [self._port(eni, f"p{next(self._numbers)}") for eni in enis]
        self._attach(*((e.name, self.host, p) for e, p in zip(enis, ports, strict=True)))
        now = time.monotonic()
        for eni, port in zip(enis, ports, strict=True):
            self._enis[eni.mac], self._ports[eni.mac] = eni, port
        return now

    def _port(self, eni: Eni, device: str) -> router.Port:
        neighbour = eni.subnet.neighbour_ipv6
        return router.Port(
            device,
            eni.mac,
            eni.addresses(),
            eni.prefixes,
            (eni.subnet.ipv4,) if eni.subnet.ipv4 else (),
            (neighbour,) if neighbour else (),
        )

    async def unplug(self, *enis: Eni) -> float:
        """Detach ENIs, so that their links vanish; returns the monotonic time after that."""
        return await self._do(self._unplug, *enis)

    def _unplug(self, *enis: Eni) -> float:
        ports = [self._ports.pop(eni.mac) for eni in enis]
        for eni in enis:
            del self._enis[eni.mac]
        netns.ip(self.router, [f"link del {port.device}" for port in ports])
        now = time.monotonic()
        netns.nft(self.router, "".join(map(router.drop_source_check, ports)))
        return now

    async def update(self, *enis: Eni) -> None:
        """Change the addresses or prefixes of plugged ENIs, which are identified by their MACs.

        To move an address from one ENI to another, pass both in one call.
        """
        await self._do(self._update, *enis)

    def _update(self, *enis: Eni) -> None:
        self._add_subnets([eni.subnet for eni in enis])
        old = [self._ports[eni.mac] for eni in enis]
        new = [self._port(e, port.device) for e, port in zip(enis, old, strict=True)]
        netns.nft(self.router, "".join(map(router.source_check, new)))
        pairs = list(zip(old, new, strict=True))
        lines = [line for pair in pairs for line in router.lines_to_withdraw(*pair)]
        netns.ip(
            self.router, lines + [line for pair in pairs for line in router.lines_to_add(*pair)]
        )
        for eni, port in zip(enis, new, strict=True):
            self._enis[eni.mac], self._ports[eni.mac] = eni, port

    async def kill(self, eni: Eni, *, carrier: bool) -> Eni:
        """Detach an ENI by force: the guest keeps a dead NIC, which has nothing of the VPC.

        Returns the ENI as it is then. Its addresses are free for others.
        """
        dead = replace(eni, ipv4=(), ipv6=(), ipv4_prefixes=(), ipv6_prefixes=())
        await self.update(dead)
        if not carrier:
            device = self._ports[eni.mac].device
            await self._do(netns.ip, self.router, [f"link set {device} down"])
        return dead

    async def rename(self, eni: Eni, name: str, after: float = 0.016) -> Eni:
        """Rename a link, as udev does a few milliseconds after it appears; returns the new ENI."""
        await asyncio.sleep(after)
        await self._do(netns.ip, self.host, [f"link set {eni.name} name {name}"])
        renamed = replace(eni, name=name)
        self._enis[eni.mac] = renamed
        return renamed

    def ifindex(self, eni: Eni) -> int:
        """The index of an ENI's link on the host. Raises OSError if there is no such link."""
        return netns.ifindex(self.host, eni.name)

    async def lease(self, eni: Eni, family: Family, *, default: bool = False) -> None:
        """Act as a DHCP client: link up, first address, and with `default` a default route.

        Call it again to renew. IPv6 addresses go through duplicate address detection (1 to 2 s).
        """
        await self._do(self._lease, eni, family, default=default)

    def _lease(self, eni: Eni, family: Family, *, default: bool) -> None:
        manager = self.manager
        # Of a link that nobody manages, or that nicwatchd set up, the kernel decides: 1024.
        self.sysctl(self.host, {f"ipv6/conf/{eni.name}/ra_defrtr_metric": str(manager.metric)})
        netns.ip(self.host, dhcp.lines_for_lease(eni, family, manager.metric))
        if not default:
            return
        verb = "replace" if manager.replaces else "append"
        try:
            netns.ip(self.host, [dhcp.default_route(eni, family, manager.metric, verb)])
        except netns.CommandError as error:
            if "File exists" not in str(error):  # a renewal
                raise

    async def relearn(self, family: Family) -> None:
        """Let the primary's default route come anew, as after a reload: now it comes last."""
        line = partial(dhcp.default_route, self.primary, family, dhcp.PRIMARY_METRIC)
        with suppress(netns.CommandError):  # another one took its place
            await self._do(netns.ip, self.host, [line("del")])
        await self._do(netns.ip, self.host, [line("append")])

    async def ra(self, eni: Eni, *, managed: bool = True) -> None:
        """Send one router advertisement to an ENI whose link is up: its /64s are on-link."""
        packet = ra.advertisement(eni.subnet.ipv6, managed=managed)
        await self._do(ra.send, self.router, self._ports[eni.mac].device, packet)

    async def dropped(self, eni: Eni) -> int:
        """How many packets from an ENI the source check has dropped since the last `update`."""
        table = self._ports[eni.mac].table
        listing = await self.exec(
            self.router, "nft", "-j", "list", "counter", "netdev", table, "dropped"
        )
        (packets,) = (
            item["counter"]["packets"]
            for item in json.loads(listing)["nftables"]
            if "counter" in item
        )
        return int(packets)

    # --- peers -----------------------------------------------------------------------------------

    def neighbour(self, subnet: Subnet) -> Peer:
        """The simulated host in a subnet."""
        return self._neighbours[subnet]

    def peers(self, *enis: Eni) -> tuple[Peer, ...]:
        """The six far hosts, and the neighbours in the ENIs' subnets and the primary's."""
        subnets = dict.fromkeys([*(eni.subnet for eni in enis), self.primary.subnet])
        return (*self.far_hosts, *(self._neighbours[subnet] for subnet in subnets))

    def imds_sockets(self) -> tuple[socket.socket, socket.socket]:
        """Listening sockets on both addresses of the metadata service, in the VPC's router."""
        return (
            self.listen(self.router, router.IMDS_V4, 80),
            self.listen(self.router, router.IMDS_V6, 80),
        )
