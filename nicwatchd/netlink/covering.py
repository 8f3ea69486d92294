"""Which routes cover one of some addresses, told from their raw bytes.

A routing daemon may change a thousand routes a second in tables of its own; of interest are those
by which the packets go that nicwatchd looks up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicwatchd.core.model import Family
from nicwatchd.netlink.wire import ADDRESS_FAMILY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nicwatchd.core.model import IPAddress


class Covering:
    """The prefixes that cover one of these addresses."""

    def __init__(self, addresses: Iterable[IPAddress] = ()) -> None:
        self._addresses = frozenset(addresses)
        self._prefixes: dict[tuple[int, int], frozenset[bytes]] = {}  # by family and length

    def __contains__(self, prefix: tuple[int, int, bytes | None]) -> bool:
        """Whether a prefix does: the kernel's number of its family, its length, its bytes."""
        number, length, packed = prefix
        known = self._prefixes.get((number, length))
        if known is None:
            known = self._prefixes[number, length] = frozenset(self._found(number, length))
        return (packed if packed and length else b"") in known

    def _found(self, number: int, length: int) -> Iterable[bytes]:
        for ip in self._addresses:
            if ADDRESS_FAMILY[Family(ip.version)] == number:
                bits = ip.max_prefixlen - length
                masked = int(ip) >> bits << bits
                yield masked.to_bytes(ip.max_prefixlen // 8, "big") if length else b""
