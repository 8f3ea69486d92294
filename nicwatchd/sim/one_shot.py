"""A host without nicwatchd: what reads IMDS once, when an ENI is attached, and configures that.

As the hotplug hooks of images do it: ask until IMDS lists the MAC, configure the addresses that it
lists then, and end. What IMDS lists later is not seen.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from nicwatchd.core.model import Family
from nicwatchd.sim.imds import TOKEN_HEADER, TOKEN_PATH, TTL_HEADER
from nicwatchd.sim.parts import ROUTER_V6, Eni
from nicwatchd.sim.router import IMDS_V4

if TYPE_CHECKING:
    import socket

    from nicwatchd.sim.vpc import Vpc

AGAIN: Final = 0.5  # s between two questions while the MAC is not listed
GIVE_UP: Final = 30.0  # s, as cloud-init does
TABLE: Final = 101
MACS: Final = "/latest/meta-data/network/interfaces/macs/"


async def configure_once(vpc: Vpc, eni: Eni) -> dict[Family, list[str]]:
    """Configure what IMDS lists of the ENI as soon as it lists the MAC; returns the addresses.

    Raises TimeoutError if that is not within GIVE_UP.
    """

    def opened(address: tuple[Any, ...]) -> socket.socket:
        return vpc.socket(vpc.host, address[0])

    connector = aiohttp.TCPConnector(socket_factory=opened, force_close=True)
    async with (
        asyncio.timeout(GIVE_UP),
        aiohttp.ClientSession(f"http://{IMDS_V4}", connector=connector) as session,
    ):
        while f"{eni.mac}/" not in await _lines(session, MACS):  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(AGAIN)
        ipv4 = await _lines(session, f"{MACS}{eni.mac}/local-ipv4s")
        ipv6 = await _lines(session, f"{MACS}{eni.mac}/ipv6s")
    for family, addresses, router in (
        (Family.V4, ipv4, eni.subnet.gateway),
        (Family.V6, ipv6, ROUTER_V6),
    ):
        if addresses:
            await vpc.ip(vpc.host, *_commands(eni, addresses, str(router)), family=family)
    return {Family.V4: ipv4, Family.V6: ipv6}


def _commands(eni: Eni, addresses: list[str], router: str) -> list[str]:
    """The addresses, a table with a default route, and a rule for each address."""
    return [
        f"link set {eni.name} up",
        *(f"address replace {address} dev {eni.name} noprefixroute" for address in addresses),
        f"route replace default via {router} dev {eni.name} onlink table {TABLE}",
        *(f"rule add from {address} lookup {TABLE}" for address in addresses),
    ]


async def _lines(session: aiohttp.ClientSession, path: str) -> list[str]:
    """The lines of a key; none if IMDS does not have it (yet).

    Asks until IMDS is reached: on such a host, the new interface can cost even that for a moment.
    """
    while True:
        try:
            async with session.put(TOKEN_PATH, headers={TTL_HEADER: "60"}) as answer:
                token = await answer.text()
            async with session.get(path, headers={TOKEN_HEADER: token}) as answer:
                return (await answer.text()).split() if answer.ok else []
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(AGAIN)
