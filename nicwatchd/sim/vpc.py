"""An imitated VPC: a host under test, its router, six far hosts, and a neighbour per subnet.

Each is a network namespace; many VPCs live side by side in one sandbox. The router drops what EC2
drops: a packet whose source is not the ENI's own (see `nicwatchd.sim.router`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, ParamSpec, Self, TypeAlias, TypeVar
from weakref import WeakSet

from nicwatchd.sim import dhcp, netns, ra, router, sandbox
from nicwatchd.sim.parts import Eni, Peer, Subnet, far_hosts

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from nicwatchd.core.model import Family, IPAddress

P = ParamSpec("P")
R = TypeVar("R")
Socket: TypeAlias = socket.socket  # `Vpc.socket` takes the name

RUNTIME: Final = Path("/run/nicwatchd-sim")
PATIENCE: Final = 5.0  # s that a process gets after SIGTERM
HOST_SYSCTLS: Final = {
    # What a kernel without a network manager learns from an RA ranks behind the primary's.
    "ipv6/conf/default/ra_defrtr_metric": str(dhcp.LEASE_METRIC),
}

_serial = itertools.count(1)


class LeakError(Exception):
    """Something was still open in a VPC when it closed; it has been ended."""


class Vpc:
    """`async with Vpc() as vpc`: the primary ENI is plugged, up, and has its addresses by DHCP.

    `host`, `router` and `far` are the names of namespaces; `subnets` are those whose neighbours
    are to be there from the start (the primary's always is, others come with their first ENI).
    """

    def __init__(self, primary: Eni | None = None, subnets: Sequence[Subnet] = ()) -> None:
        self.id = f"vpc{os.getpid()}-{next(_serial)}"
        self.primary = primary or Eni.numbered("ens5", Subnet.numbered(1))
        self.host, self.router, far = (f"{self.id}-{part}" for part in ("host", "router", "far"))
        self.far_hosts = far_hosts(far)
        self.far = far
        self.runtime_dir = RUNTIME / self.id  # for the files of a daemon that runs on the host
        self._subnets = tuple(dict.fromkeys([self.primary.subnet, *subnets]))
        self._neighbours: dict[Subnet, Peer] = {}
        self._namespaces: list[str] = []
        self._numbers = itertools.count(1)
        self._ports: dict[str, router.Port] = {}  # by MAC
        self._enis: dict[str, Eni] = {}  # by MAC
        self._sockets: WeakSet[Socket] = WeakSet()
        self._processes: list[Process] = []
        # One thread does all the blocking work, so steps never overlap and none is cut in two.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=self.id)

    # --- opening and closing ---------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._do(self._open)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        leaks = await self._close()
        if leaks and error is None:
            raise LeakError(f"{self.id}: still open at the end: {', '.join(leaks)}")

    async def _do(self, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        work = self._worker.submit(step, *args, **kwargs)
        return await asyncio.wrap_future(work)

    def _open(self) -> None:
        sandbox.require()
        self.runtime_dir.mkdir(parents=True)
        self._add_namespaces(self.host, self.router, self.far)
        netns.sysctl(self.router, router.SYSCTLS)
        netns.sysctl(self.host, HOST_SYSCTLS)
        self._attach_peer(self.far, [a for peer in self.far_hosts for a in peer.addresses])
        self._add_subnets(self._subnets)
        self._open_host()

    def _open_host(self) -> None:
        """Bring the primary to where it is after boot."""
        self._plug(self.primary)
        netns.ip(self.host, dhcp.lines_for_primary(self.primary))
        netns.wait_until_running(self.router, [self._ports[self.primary.mac].device])

    async def _close(self) -> list[str]:
        """End and remove everything; returns what others should have ended before."""
        for process in self._processes:
            await _end(process)
        leaks = [repr(s) for s in self._sockets if s.fileno() >= 0]
        for left in list(self._sockets):
            left.close()
        leaks += await self._do(self._remove)
        self._worker.shutdown()
        return leaks

    def _remove(self) -> list[str]:
        strays = netns.processes(*self._namespaces)
        for pid in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._namespaces:
            netns.delete(*self._namespaces)
            self._namespaces.clear()
        shutil.rmtree(self.runtime_dir, ignore_errors=True)
        return [f"process {pid}" for pid in strays]

    # --- the network behind the host -------------------------------------------------------------

    def _add_namespaces(self, *names: str) -> None:
        netns.create(*names)
        self._namespaces += names
        for name in names:
            if name != self.host:
                netns.sysctl(name, router.NO_DAD)

    async def add_namespace(self, part: str) -> str:
        """One more namespace (for a container, say), gone with the VPC; returns its name."""
        name = f"{self.id}-{part}"
        await self._do(self._add_namespaces, name)
        return name

    def _add_subnets(self, subnets: Sequence[Subnet]) -> None:
        """Routers and neighbours of subnets that are new; one that got a CIDR more is not."""
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
        """Join a namespace that is not under test to the router."""
        number = next(self._numbers)
        mac = f"0e:00:00:00:{number >> 8:02x}:{number & 255:02x}"
        self._attach(("eth0", namespace, router.Port(f"p{number}", mac, tuple(addresses))))
        netns.ip(namespace, router.lines_for_peer("eth0", addresses))
        netns.wait_until_running(self.router, [f"p{number}"])

    def _attach(self, *ends: tuple[str, str, router.Port]) -> None:
        """Join links (name, namespace, port) to the router, which is ready before they show."""
        self._prepare(*(port for _, _, port in ends))
        netns.ip(self.router, [router.line_to_hand_over(port, *to) for *to, port in ends])

    def _prepare(self, *ports: router.Port) -> None:
        """Make the router's ends of new links."""
        netns.ip(self.router, [line for port in ports for line in router.lines_to_prepare(port)])
        for port in ports:
            netns.sysctl(self.router, router.port_sysctls(port))
        netns.nft(self.router, "".join(map(router.source_check, ports)))

    # --- the host's ENIs -------------------------------------------------------------------------

    @property
    def enis(self) -> tuple[Eni, ...]:
        """All that are plugged, as they are now; the primary first."""
        return tuple(self._enis.values())

    async def plug(self, *enis: Eni) -> float:
        """Hot-plug ENIs, all at once; returns the monotonic time at which the links were there."""
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
        """Detach ENIs: their links vanish. Returns the monotonic time after that."""
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
        """Addresses or prefixes of plugged ENIs (known by their MACs) are now these.

        What moves from one to another is given in one call.
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

    async def rename(self, eni: Eni, name: str, after: float = 0.016) -> Eni:
        """What udev does a few milliseconds after a link appeared. Returns the renamed ENI."""
        await asyncio.sleep(after)
        await self._do(netns.ip, self.host, [f"link set {eni.name} name {name}"])
        renamed = replace(eni, name=name)
        self._enis[eni.mac] = renamed
        return renamed

    async def lease(
        self, eni: Eni, family: Family, *, default: bool = False, metric: int = dhcp.LEASE_METRIC
    ) -> None:
        """What a DHCP client does: link up, first address, with `default` also a default route.

        Call it again to renew. IPv6 goes through duplicate address detection (1 to 2 s), as ever.
        """
        lines = dhcp.lines_for_lease(eni, family, metric)
        if default:
            lines.append(dhcp.default_route(eni, family, metric))
        await self._do(netns.ip, self.host, lines)

    async def ra(self, eni: Eni, *, managed: bool = True) -> None:
        """Send one router advertisement to an ENI whose link is up: its /64s are on-link."""
        packet = ra.advertisement(eni.subnet.ipv6, managed=managed)
        await self._do(ra.send, self.router, self._ports[eni.mac].device, packet)

    async def dropped(self, eni: Eni) -> int:
        """How many packets of an ENI the source check has dropped since the last `update`."""
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

    # --- who talks to whom -----------------------------------------------------------------------

    def neighbour(self, subnet: Subnet) -> Peer:
        """The sim's own host in a subnet."""
        return self._neighbours[subnet]

    def peers(self, *enis: Eni) -> tuple[Peer, ...]:
        """The six far hosts, and the neighbours in the ENIs' subnets and the primary's."""
        subnets = dict.fromkeys([*(eni.subnet for eni in enis), self.primary.subnet])
        return (*self.far_hosts, *(self._neighbours[subnet] for subnet in subnets))

    # --- processes, sockets, settings ------------------------------------------------------------

    async def exec(self, namespace: str, *command: str) -> str:
        """Run a command in a namespace to its end: its stdout; raises netns.CommandError."""
        process = await self.popen(
            namespace, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            out, complaint = await process.communicate()
        finally:
            await _end(process)
            self._processes.remove(process)
        if process.returncode != 0:
            raise netns.CommandError(f"`{' '.join(command)}`: {complaint.decode().strip()}")
        return out.decode()

    async def popen(
        self,
        namespace: str,
        *command: str,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a command in a namespace (/sys shows that namespace); ended when the VPC closes.

        The process id is the command's own.
        """
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", namespace, *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=env,
        )
        self._processes.append(process)
        return process

    def socket(self, namespace: str, family: int, kind: int = socket.SOCK_STREAM) -> Socket:
        """A non-blocking socket of a namespace. Whoever asked for it closes it."""
        opened = netns.open_socket(namespace, family, kind)
        self._sockets.add(opened)
        return opened

    def listen(self, namespace: str, address: str, port: int) -> Socket:
        """A listening TCP socket of a namespace, IPv6 only where the address is IPv6."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        opened = self.socket(namespace, family)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.listen(128)
        return opened

    def imds_sockets(self) -> tuple[Socket, Socket]:
        """Listening sockets on both addresses of the metadata service, in the VPC's router."""
        return (
            self.listen(self.router, router.IMDS_V4, 80),
            self.listen(self.router, router.IMDS_V6, 80),
        )

    async def ip(self, namespace: str, *commands: str, family: Family | None = None) -> None:
        """Run `ip` commands (without the word `ip`) in one process; rules need a `family`."""
        await self._do(netns.ip, namespace, commands, family)

    def sysctl(self, namespace: str, settings: Mapping[str, str]) -> None:
        """Set `net` sysctls by path, as `{"ipv4/conf/all/rp_filter": "1"}`."""
        netns.sysctl(namespace, settings)

    def ifindex(self, eni: Eni) -> int:
        """The index of an ENI's link on the host; OSError when there is none of that name."""
        return netns.ifindex(self.host, eni.name)


async def _end(process: Process) -> None:
    """SIGTERM, and SIGKILL for who does not listen."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
