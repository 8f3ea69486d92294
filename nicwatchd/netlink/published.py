"""Ports that containers publish: read with `nft` and `iptables-save` when the rules changed.

The number of the ruleset's generation tells that something changed, for the price of one short
request; a seal on what leads anywhere, that it may concern a port (`nicwatchd.netlink.nat_seal`).
To list the rules takes processes, and of thousands of rules some tenths of a second: so at most a
hundredth of a core is spent on that, however often others change theirs. What was not spent is
saved up, for hosts that start some containers now and then.
"""

from __future__ import annotations

import logging
import resource
from time import monotonic, process_time
from typing import TYPE_CHECKING, Final

from nicwatchd.core.model import Family
from nicwatchd.netlink import programs
from nicwatchd.netlink.encode import Request
from nicwatchd.netlink.nat_seal import nat_seal
from nicwatchd.netlink.nftables import (
    NFGENMSG,
    NFNL_SUBSYS_NFTABLES,
    open_nftables_socket,
)
from nicwatchd.netlink.request import RequestSocket

if TYPE_CHECKING:
    from nicwatchd.core.firewall import Published

log = logging.getLogger(__name__)

NFT_MSG_GETGEN: Final = NFNL_SUBSYS_NFTABLES | 16
SHARE: Final = 100  # of so many seconds, one may be spent on listing
SAVED_UP: Final = 2.0  # s, at most
PATIENCE: Final = 5.0  # s
COMMANDS: Final = {Family.V4: "iptables-save", Family.V6: "ip6tables-save"}


class PublishedPorts:
    """What is published in the network namespace in which this is used first."""

    def __init__(self) -> None:
        self._requests: RequestSocket | None = None
        self._generation: bytes | int = b""  # of what is known; an errno where it cannot be told
        self._seal: str | None = None  # likewise
        self._even_at = 0.0  # when what was spent is the share of the time again
        self._known: tuple[Published, ...] = ()

    def close(self) -> None:
        """Close the socket, if there ever was one."""
        if self._requests:
            self._requests.close()

    async def read(self) -> tuple[Published, ...]:
        """The ports; none where the rules cannot be listed. Raises KernelError."""
        if self._even_at - monotonic() > SHARE * SAVED_UP:
            return self._known
        try:
            if self._requests is None:
                self._requests = RequestSocket(open_nftables_socket)
        except OSError:  # a kernel without nftables
            return ()
        body = NFGENMSG.pack(0, 0, 0)
        generation = await self._requests.get(Request(NFT_MSG_GETGEN, 0, body))
        if generation != self._generation:
            began = _cpu()
            seal = await nat_seal(self._requests)
            if seal != self._seal:
                self._known = await _list()
            self._generation, self._seal = generation, seal
            self._even_at = max(self._even_at, monotonic()) + SHARE * (_cpu() - began)
        return self._known


def _cpu() -> float:
    """The CPU time of this process and of those that it ran [s]."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + children.ru_utime + children.ru_stime


async def _list() -> tuple[Published, ...]:
    # Imported on demand: few hosts have firewall rules and a secondary ENI.
    from nicwatchd.core.firewall import both  # noqa: PLC0415
    from nicwatchd.core.firewall_iptables import from_iptables  # noqa: PLC0415
    from nicwatchd.core.firewall_nft import from_nft, is_compat  # noqa: PLC0415
    from nicwatchd.core.published import published  # noqa: PLC0415

    listed = await _output("nft", "-j", "list", "ruleset")
    if not listed:
        return ()
    try:
        firewall = from_nft(listed)
        if is_compat(listed):  # iptables' own extensions, which nft does not spell out
            saved = [from_iptables(await _output(COMMANDS[f], "-t", "nat"), f) for f in Family]
            firewall = both([firewall, *saved])
        return published(firewall)
    except Exception as error:  # noqa: BLE001 (rules of others in a form we do not know)
        log.warning("the firewall's rules are not understood: %r", error)
        return ()


async def _output(name: str, *arguments: str) -> str:
    """What a program prints; nothing if it is not there, fails, or takes too long."""
    program = programs.find(name)
    if program is None:
        return ""
    try:
        ended = await programs.run(program, *arguments, patience=PATIENCE)
    except OSError:  # TimeoutError is one
        return ""
    return ended.out if ended.code == 0 else ""
