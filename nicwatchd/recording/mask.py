"""Masks public addresses, in values and in any text. Pure.

Under one key, each public address or network always has the same replacement, no two have the same
one, and what lies in one network before lies in one network afterwards, so a masked recording
replays like the original. These stay as they are: private, shared (100.64/10), link-local, ULA and
documentation addresses, IMDS's own, MACs, and the ids of AWS.

IPv6: 2000::/4, where all public addresses are, becomes 3000::/4, of which nobody has any. The bits
12 to 63 are scrambled; the registry's first bits and the interface part stay. IPv4 has no room of
that size: the first octet becomes another public one, and the next two are scrambled. So a masked
IPv4 address may be somebody's; it is never the one that stood there. The last octet stays, because
EC2 gives a meaning to the first and the last addresses of a subnet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Any, Final

from nicwatchd.core.model import IPAddress, IPNetwork

KEPT: Final = tuple(
    map(
        IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3"),
        ),
    )
)
# The public parts of these /8s go into class E, which has no public addresses.
MIXED: Final = (100, 169, 172, 192, 198, 203)
CLASS_E: Final = 240
PUBLIC: Final = tuple(n for n in range(1, 224) if n not in (10, 127, *MIXED))

PUBLIC_V6: Final = IPv6Network("2000::/4")
MASKED_BIT: Final = 1 << 124  # of 3000::/4
KEPT_V6: Final = (IPv6Network("2001:db8::/32"), IPv6Network("2001:2::/48"))
# Prefixes of 96 bits before an IPv4 address.
EMBEDDING: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))

SCRAMBLED: Final = {4: (8, 24), 6: (12, 64)}  # the first bit, and the one after the last

_V4: Final = r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?!\d|\.\d)"
# The first group follows no word: "iface:2600::1" is an address, and "\n2600::1" too.
_HEAD: Final = r"(?:(?:(?<![0-9A-Za-z])|(?<=\\[nrt]))[0-9A-Fa-f]{1,4})?:"
_V6: Final = _HEAD + r"[0-9A-Fa-f:]*:(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f:]*)"
_LENGTH: Final = r"(?:/\d{1,3}(?!\d))?"
_TOKEN: Final = re.compile(
    rf"\b(?P<kind>ec2|ip)-(?P<name>\d{{1,3}}(?:-\d{{1,3}}){{3}})|(?P<v6>{_V6}{_LENGTH})|(?P<v4>{_V4}{_LENGTH})"
)
_V4_TOKEN: Final = re.compile(rf"{_V4}{_LENGTH}")


class Mask:
    """Replaces public addresses, under one key; with None, it replaces nothing."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        turn = 0 if key is None else 1 + _hash(key, b"turn") % (len(PUBLIC) - 1)
        turned = (*PUBLIC[turn:], *PUBLIC[:turn])
        self._octets = dict(zip(PUBLIC, turned, strict=True))
        self._octets |= {octet: CLASS_E + place for place, octet in enumerate(MIXED)}
        self._scrambled = lru_cache(maxsize=65536)(self._scramble)

    def address(self, ip: IPAddress) -> IPAddress:
        """The replacement of an address; itself, if it is not public."""
        if self._key is None:
            return ip
        if isinstance(ip, IPv4Address):
            if ip.packed[0] not in self._octets or any(ip in kept for kept in KEPT):
                return ip
            return IPv4Address(self._scrambled(4, self._first_octet(int(ip))))
        if any(ip in prefix for prefix in EMBEDDING):
            inner = int(self.address(IPv4Address(int(ip) & 0xFFFFFFFF)))
            return IPv6Address(int(ip) >> 32 << 32 | inner)
        if ip not in PUBLIC_V6 or any(ip in kept for kept in KEPT_V6):
            return ip
        return IPv6Address(self._scrambled(6, int(ip)) | MASKED_BIT)

    def network(self, network: IPNetwork) -> IPNetwork:
        """The replacement of a network; itself, if it holds what stays as it is, or nearly all."""
        if isinstance(network, IPv4Network):
            stays = network.prefixlen < SCRAMBLED[4][0] or any(map(network.overlaps, KEPT))
        else:
            stays = any(map(network.overlaps, KEPT_V6))
        if stays:
            return network
        masked = int(self.address(network.network_address)) & int(network.netmask)
        if isinstance(network, IPv4Network):
            return IPv4Network((masked, network.prefixlen))
        return IPv6Network((masked, network.prefixlen))

    def text(self, text: str) -> str:
        """The text, with each public address and network replaced."""
        return text if self._key is None else _TOKEN.sub(self._token, text)

    def value(self, value: Any) -> Any:
        """A JSON value, with each text in it replaced, keys too."""
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.value(each) for each in value]
            case dict():
                return {self.text(key): self.value(each) for key, each in value.items()}
            case _:
                return value

    # -------------------------------------------------------------------------------------------

    def _first_octet(self, ip: int) -> int:
        return self._octets[ip >> 24] << 24 | ip & 0xFFFFFF

    def _scramble(self, version: int, ip: int) -> int:
        """Flip each bit of the part depending on the bits before it, as Crypto-PAn does."""
        first, end = SCRAMBLED[version]
        bits = 32 if version == 4 else 128  # noqa: PLR2004
        flips = 0
        for place in range(first, end):
            before = ip >> (bits - place)
            head = b"%d %d %d" % (version, place, before)
            flips |= (_hash(self._key or b"", head) & 1) << (bits - 1 - place)
        return ip ^ flips

    def _token(self, found: re.Match[str]) -> str:
        if found["name"]:
            replaced = self._masked(found["name"].replace("-", "."))
            name = found["name"] if replaced is None else replaced.replace(".", "-")
            return f"{found['kind']}-{name}"
        token = found[0]
        if found["v4"]:
            return self._masked(token) or token
        # A colon before or after an address is punctuation, unless it is a half of "::".
        head = ":" if re.match(r":(?!:)", token) else ""
        tail = ":" if re.search(r"(?<!:):\Z", token) else ""
        replaced = self._masked(token[len(head) : len(token) - len(tail)])
        if replaced is not None:
            return f"{head}{replaced}{tail}"
        return _V4_TOKEN.sub(lambda v4: self._masked(v4[0]) or v4[0], token)

    def _masked(self, token: str) -> str | None:
        """An address, or a network with its length, replaced; None if it is neither."""
        text, slash, length = token.partition("/")
        try:
            ip = ip_address(text)
            bits = int(length) if slash else ip.max_prefixlen
        except ValueError:
            return None
        if bits > ip.max_prefixlen:
            return None
        make: Callable[..., IPNetwork] = IPv4Network if ip.version == 4 else IPv6Network  # noqa: PLR2004
        network = make((ip.packed, bits), strict=False)
        of_network = bits < ip.max_prefixlen and network.network_address == ip
        before, after = (
            (ip, self.network(network).network_address) if of_network else (ip, self.address(ip))
        )
        return token if before == after else f"{after}{slash}{length}"


def _hash(key: bytes, text: bytes) -> int:
    return int.from_bytes(blake2b(text, key=key, digest_size=2).digest(), "big")
