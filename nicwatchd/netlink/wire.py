"""The wire format of rtnetlink: packs and reads messages and attributes with `struct`.

Reading a message takes 5 to 20 us, compared with 40 to 400 us by pyroute2 (which builds the
messages that we send): see docs/decisions/0002.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Final, NamedTuple

from nicwatchd.core.model import Family

if TYPE_CHECKING:
    from collections.abc import Iterator


HEADER: Final = Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
ATTRIBUTE: Final = Struct("=HH")  # nlattr: length with these four bytes, type
ATTRIBUTE_U32: Final = Struct("=HHI")
U32: Final = Struct("=I")
S32: Final = Struct("=i")

IFINFO: Final = Struct("=BxHiII")  # ifinfomsg: family, type, index, flags, change
IFADDR: Final = Struct("=BBBBI")  # ifaddrmsg: family, prefixlen, flags, scope, index
# rtmsg: family, dst_len, src_len, tos, table (8 bits: read RTA_TABLE), protocol, scope, type, flags
ROUTE: Final = Struct("=BBBBBBBBI")
# fib_rule_hdr: family, dst_len, src_len, tos, table (as above), -, -, action, flags
RULE: Final = Struct("=BBBBBBBBI")
CACHEINFO: Final = Struct("=IIII")  # ifa_cacheinfo: preferred, valid [s], created, updated
ROUTE_CACHEINFO: Final = Struct("=IIi")  # rta_cacheinfo: -, -, the time left [ticks; 0: for ever]

FOREVER: Final = 0xFFFFFFFF  # for a lifetime; for FRA_SUPPRESS_* it means none
TYPE_MASK: Final = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

# What reading a malformed message raises, one that is cut short or whose lengths lie: the decoders
# raise nothing else.
MALFORMED: Final = (struct_error, ValueError, LookupError)

ADDRESS_FAMILY: Final = {Family.V4: int(AF_INET), Family.V6: int(AF_INET6)}
FAMILY: Final = {int(AF_INET): Family.V4, int(AF_INET6): Family.V6}
FAMILY_OF_VERSION: Final = {4: int(AF_INET), 6: int(AF_INET6)}  # `ip.version` -> address family


class Message(NamedTuple):
    """One message: the fields of its header, and its body."""

    type: int
    flags: int
    sequence: int
    pid: int
    body: bytes


def pack(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A message to send. The body must be padded; one that ends with an attribute is."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def split(datagram: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """The messages of a datagram, as in `Message`. Raises ValueError at one of a wrong length."""
    offset, end = 0, len(datagram)
    while offset + HEADER.size <= end:
        length, kind, flags, sequence, pid = HEADER.unpack_from(datagram, offset)
        if not HEADER.size <= length <= end - offset:
            raise ValueError(f"a message of {length} bytes where {end - offset} are left")
        yield kind, flags, sequence, pid, datagram[offset + HEADER.size : offset + length]
        offset += (length + 3) & ~3


def unpack(datagram: bytes) -> Iterator[Message]:
    """The messages of a datagram. Raises ValueError at one of a wrong length."""
    return map(Message._make, split(datagram))


def attributes(body: bytes, offset: int) -> dict[int, bytes]:
    """The attributes of a message body (or of a nested attribute) from `offset` on, by type."""
    found = {}
    end = len(body)
    while offset + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        if length < ATTRIBUTE.size:
            break
        found[kind & TYPE_MASK] = body[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def find_attribute(body: bytes, offset: int, wanted: int) -> bytes | None:
    """One attribute; does not read those after it."""
    end = len(body)
    while offset + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(body, offset)
        if kind & TYPE_MASK == wanted:
            return body[offset + 4 : offset + length]
        if length < ATTRIBUTE.size:
            break
        offset += (length + 3) & ~3
    return None


def attribute(kind: int, payload: bytes) -> bytes:
    """An attribute, padded to four bytes."""
    length = ATTRIBUTE.size + len(payload)
    return ATTRIBUTE.pack(length, kind) + payload + bytes(-length & 3)


def attribute_u32(kind: int, value: int) -> bytes:
    """An attribute that holds a 32-bit number."""
    return ATTRIBUTE_U32.pack(8, kind, value)


def u32(payload: bytes | None, default: int = 0) -> int:
    """The number in an attribute; `default` if the attribute is missing."""
    if payload is None:
        return default
    number: int = U32.unpack_from(payload)[0]
    return number


def text(payload: bytes) -> str:
    """The string in an attribute. A link's name may contain any byte except `/` and white space."""
    return payload.rstrip(b"\0").decode(errors="surrogateescape")
