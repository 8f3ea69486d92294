"""Our nftables table: read over netlink, written by the program `nft`.

Reading costs two short requests and no process. A ruleset may have thousands of rules of others;
the kernel filters by the table.
"""

from __future__ import annotations

import os
import socket
from errno import ENOENT, EPERM
from hashlib import sha256
from struct import Struct
from typing import TYPE_CHECKING, Final

from nicwatchd.core.forwarding import GONE, TABLE
from nicwatchd.core.model import Reason, SetRuleset
from nicwatchd.core.port import KernelError, Outcome, Result
from nicwatchd.netlink import programs
from nicwatchd.netlink.encode import Request
from nicwatchd.netlink.request import RequestSocket
from nicwatchd.netlink.wire import attribute

if TYPE_CHECKING:
    from nicwatchd.core.model import OfNftables

# linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
NETLINK_NETFILTER: Final = 12
NFNL_SUBSYS_NFTABLES: Final = 10 << 8
NFT_MSG_GETTABLE: Final = NFNL_SUBSYS_NFTABLES | 1
NFT_MSG_GETRULE: Final = NFNL_SUBSYS_NFTABLES | 7
NFPROTO_INET: Final = 1
NFTA_TABLE_NAME: Final = 1
NFTA_RULE_TABLE: Final = 1
NFGENMSG: Final = Struct("!BBH")  # family, version, and in answers the ruleset's generation
PATIENCE: Final = 10.0  # s; nft takes milliseconds, and some more beside a ruleset of thousands

MISSING: Final = Reason(
    "nft-missing",
    "the program `nft` is not installed (package nftables), so ports that containers publish on"
    ' this interface do not answer; `forwarded = "connmark"` needs it',
)


def open_nftables_socket() -> socket.socket:
    """A netlink socket for nftables, of the current network namespace."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_NETLINK, kind, NETLINK_NETFILTER)
    sock.bind((0, 0))
    return sock


class Nftables:
    """nftables of the network namespace in which it is used first. The caller closes it."""

    def __init__(self) -> None:
        self._requests: RequestSocket | None = None

    def close(self) -> None:
        """Close the socket, if there ever was one."""
        if self._requests:
            self._requests.close()

    async def seal(self) -> str | Reason | None:
        """See `Kernel.ruleset`. Each change of a rule gives it another handle.

        Raises KernelError.
        """
        name = TABLE.split()[1].encode() + b"\0"
        family = NFGENMSG.pack(NFPROTO_INET, 0, 0)
        try:
            if self._requests is None:
                self._requests = RequestSocket(open_nftables_socket)
        except OSError as error:
            return _refused(os.strerror(error.errno or 0))
        body = family + attribute(NFTA_TABLE_NAME, name)
        answer = await self._requests.get(Request(NFT_MSG_GETTABLE, 0, body))
        if answer == EPERM:  # of a dry run by a plain user, who reads all else
            raise KernelError("nftables cannot be read without CAP_NET_ADMIN")
        if isinstance(answer, int):
            return None if answer == ENOENT else _refused(os.strerror(answer))
        body = family + attribute(NFTA_RULE_TABLE, name)
        rules = await self._requests.dump(Request(NFT_MSG_GETRULE, 0, body), _without_generation)
        return sha256(b"".join(rules)).hexdigest()

    async def run(self, operation: OfNftables) -> Outcome:
        """Carry out an operation, in one transaction."""
        text = operation.text if isinstance(operation, SetRuleset) else GONE
        program = programs.find("nft")
        message = MISSING.text if program is None else await _load(program, text)
        return Outcome(operation, Result.REFUSED if message else Result.DONE, 0, message)


async def _load(program: str, text: str) -> str:
    """Load a ruleset; the error that `nft` wrote, or nothing."""
    try:
        ended = await programs.run(program, "-f", "-", patience=PATIENCE, text=text)
    except TimeoutError:
        return f"{program} did not end in {PATIENCE:g} s"
    except OSError as error:
        return f"{program} cannot be started: {error.strerror}"
    if ended.code == 0:
        return ""
    lines = ended.complaint.strip().splitlines()
    return lines[0] if lines else f"{program} ended with {ended.code}"


def _refused(why: str) -> Reason:
    text = f"nftables cannot be read: {why}; so ports that containers publish on this interface"
    return Reason("nft-refused", f"{text} do not answer")


def _without_generation(body: bytes) -> bytes:
    return body[NFGENMSG.size :]
