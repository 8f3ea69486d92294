"""The DHCP clients that an image may have, each used on a new ENI as its users use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from nicwatchd.sim.parts import Eni
from tests.vm.host import VmHost

# Before whatever others write there.
NO_DHCP_FILE: Final = "/run/systemd/network/05-test.network"
# The ENIs that tests give to other clients: of subnet 2, and of 6 in test_leases.py.
NO_DHCP: Final = (
    "[Match]\nPermanentMACAddress=02:00:00:00:00:02 02:00:00:00:00:06\n[Link]\nUnmanaged=yes\n"
)
# What dhclient remembers by an interface's name. Where another ENI had that name, it asks for that
# one's lease, is refused, and flushes the interface.
OLD_LEASES: Final = ("/var/lib/dhcp/dhclient.leases", "/var/lib/dhcp/dhclient6.leases")
# Of those that somebody starts on an interface: the commands. A default route that dhclient brings
# is given a metric behind the primary's, as dhcpcd and the images' networkd do by themselves.
BY_HAND: Final = {
    "dhcpcd": ("dhcpcd --nobackground {name}",),
    "dhclient": ("dhclient -d -4 -e IF_METRIC=2048 {name}", "dhclient -d -6 {name}"),
}


@asynccontextmanager
async def hands_off(host: VmHost) -> AsyncIterator[None]:
    """systemd-networkd leaves the ENIs of subnets 2 and 6 alone."""
    await host.vm.write(NO_DHCP_FILE, NO_DHCP)
    await host.vm.run("networkctl", "reload")
    try:
        yield
    finally:
        await host.vm.run("rm", NO_DHCP_FILE)
        await host.vm.run("networkctl", "reload")


class Client:
    """`async with client_of(host, name) as client`: no other one serves these ENIs."""

    def __init__(self, host: VmHost, name: str) -> None:
        self._host, self._commands = host, BY_HAND.get(name, ())

    async def lease(self, eni: Eni, name: str) -> None:
        """Let there be a DHCP server, and have the client get its leases from it.

        One that manages the interface has asked before, and asks again by itself.
        """
        await self._host.vpc.start_dhcp(eni)
        if self._commands:
            # `dhclient -6` ends at once where the link-local address, which it binds to, is still
            # tentative; Debian's ifupdown waits as well before it starts one.
            await self._host.eventually(partial(self._settled, name))
            await self._host.vm.run("rm", "-f", *OLD_LEASES)
        for number, command in enumerate(self._commands):
            words = command.format(name=name).split()
            await self._host.vm.run("systemd-run", f"--unit=client-{number}", *words)

    async def _settled(self, name: str) -> bool:
        """Whether the interface has a link-local address that it may use."""
        show = ("ip", "-6", "address", "show", "dev", name, "scope", "link")
        return bool(await self._host.vm.run(*show, "-tentative"))

    async def stop(self) -> None:
        """End what `lease` started, if it did not end with the interface."""
        for number, _ in enumerate(self._commands):
            await self._host.vm.try_run("systemctl", "stop", f"client-{number}")
            await self._host.vm.try_run("systemctl", "reset-failed", f"client-{number}")


@asynccontextmanager
async def client_of(host: VmHost, name: str) -> AsyncIterator[Client]:
    """A client of the image, by name: see `Recipe.clients`."""
    client = Client(host, name)
    if name not in BY_HAND:
        yield client
        return
    async with hands_off(host):
        try:
            yield client
        finally:
            await client.stop()
