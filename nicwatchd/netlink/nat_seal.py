"""A seal on all rules that may lead what arrives to a container: another rule breaks it.

Those are the rules of the tables that have a chain for NAT at prerouting, with their sets and maps.
What others change elsewhere all day, such as what a firewall lets in, leaves it whole. Numbers that
the kernel gives to rules and chains stand for them, for rules count the packets that they see.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from nicwatchd.netlink.encode import Request
from nicwatchd.netlink.nftables import (
    NFGENMSG,
    NFNL_SUBSYS_NFTABLES,
    NFT_MSG_GETRULE,
    NFT_MSG_GETTABLE,
    NFTA_RULE_TABLE,
    NFTA_TABLE_NAME,
)
from nicwatchd.netlink.wire import attribute, attributes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nicwatchd.netlink.request import RequestSocket

# linux/netfilter/nf_tables.h; numbers there are big-endian
NFT_MSG_GETCHAIN: Final = NFNL_SUBSYS_NFTABLES | 4
NFT_MSG_GETSET: Final = NFNL_SUBSYS_NFTABLES | 10
NFT_MSG_GETSETELEM: Final = NFNL_SUBSYS_NFTABLES | 13
TABLE_HANDLE: Final = 4
CHAIN_TABLE, CHAIN_HANDLE, CHAIN_HOOK, CHAIN_TYPE = 1, 2, 4, 7
HOOK_NUMBER: Final = 1
RULE_HANDLE: Final = 3
SET_TABLE, SET_NAME, SET_FLAGS, SET_HANDLE = 1, 2, 3, 16
ELEMENTS_TABLE, ELEMENTS_SET = 1, 2
ANONYMOUS: Final = 0x1  # a set that is part of a rule, and goes with it
PREROUTING: Final = bytes(4)
NAT: Final = b"nat\0"

Row = tuple[int, dict[int, bytes]]  # the number of the family, and what is said of one thing


async def nat_seal(requests: RequestSocket) -> str:
    """The seal as of now. Raises KernelError."""
    chains = await _all(requests, NFT_MSG_GETCHAIN)
    tables = {(f, row.get(CHAIN_TABLE, b"")) for f, row in chains if _leads_on(row)}
    seal = sha256()
    for family, row in await _all(requests, NFT_MSG_GETTABLE):
        name = row.get(NFTA_TABLE_NAME, b"")
        if (family, name) not in tables:
            continue
        its = [r for f, r in chains if (f, r.get(CHAIN_TABLE)) == (family, name)]
        seal.update(row.get(TABLE_HANDLE, b"") + _numbers(its, CHAIN_HANDLE))
        of = attribute(NFTA_RULE_TABLE, name)
        rules = (r for _, r in await _all(requests, NFT_MSG_GETRULE, family, of))
        seal.update(_numbers(rules, RULE_HANDLE))
        for each in await _elements(requests, family, name):
            seal.update(each)
    return seal.hexdigest()


async def _elements(requests: RequestSocket, family: int, table: bytes) -> list[bytes]:
    """The sets and maps of a table, with all that is in them."""
    found: list[bytes] = []
    for _, row in await _all(requests, NFT_MSG_GETSET, family, attribute(SET_TABLE, table)):
        if not int.from_bytes(row.get(SET_FLAGS, b""), "big") & ANONYMOUS:
            name = row.get(SET_NAME, b"")
            of = attribute(ELEMENTS_TABLE, table) + attribute(ELEMENTS_SET, name)
            body = NFGENMSG.pack(family, 0, 0) + of
            request = Request(NFT_MSG_GETSETELEM, 0, body)
            found.append(row.get(SET_HANDLE, b"") + name)
            found += await requests.dump(request, lambda said: said[NFGENMSG.size :])
    return found


async def _all(requests: RequestSocket, kind: int, family: int = 0, of: bytes = b"") -> list[Row]:
    """All things of a kind that there are, of one family or all."""

    def decode(body: bytes) -> Row:
        return NFGENMSG.unpack_from(body)[0], attributes(body, NFGENMSG.size)

    return await requests.dump(Request(kind, 0, NFGENMSG.pack(family, 0, 0) + of), decode)


def _leads_on(chain: dict[int, bytes]) -> bool:
    hook = attributes(chain.get(CHAIN_HOOK, b""), 0)
    return chain.get(CHAIN_TYPE) == NAT and hook.get(HOOK_NUMBER) == PREROUTING


def _numbers(rows: Iterable[dict[int, bytes]], kind: int) -> bytes:
    return b"".join(row.get(kind, b"") for row in rows)
