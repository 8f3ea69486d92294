"""The bodies of what we write: pyroute2 builds the first of each shape, others are copies of it.

Messages are of one shape if they have the same fields and attributes, with values of one size each.
Then they differ in the bytes of those values alone. pyroute2 takes some 100 us to build a message;
to put the values into a copy of one takes 4 us: see docs/decisions/0002.

Where a value has its place is not known here: pyroute2 builds a template in which each byte of each
value occurs nowhere else. The first message of a shape is built whole as well, and where its copy
is another, all messages of that shape are built whole.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import islice
from struct import Struct, calcsize
from typing import Final, TypeAlias

from pyroute2.netlink import nlmsg

from nicwatchd.core.addresses import address
from nicwatchd.netlink.wire import HEADER

Structure: TypeAlias = tuple[tuple[str, int], ...]  # of numbers that all of a shape have
Value: TypeAlias = int | IPv4Address | IPv6Address | bytes | Structure
Fields: TypeAlias = Mapping[str, int]
Attributes: TypeAlias = Mapping[str, Value | None]
Write: TypeAlias = Callable[[type[nlmsg], Fields, Attributes], bytes]

FAMILY: Final = "family"  # all of a shape have it: pyroute2 builds addresses by it
# The bytes of a template's values: a rule with everything takes 90. The rest of a message, lengths
# and types above all, has few of them.
MARKS: Final = range(0x40, 0x100)


class Shape:
    """Messages of one shape: the bytes that all of them have, and between these the values."""

    def __init__(self, template: bytes, places: Iterable[tuple[int, int, str]]) -> None:
        """`places`: of each value, in order: from and to, and how `struct` has it."""
        code, at = "=", 0
        self._same: list[bytes] = []
        for start, end, value in places:
            self._same.append(template[at:start])
            code += f"{start - at}s{value}"
            at = end
        self._same.append(template[at:])
        self._layout = Struct(f"{code}{len(template) - at}s")
        self._count = 2 * len(self._same) - 1

    def copy(self, values: Sequence[int | bytes]) -> bytes:
        """The message with these values."""
        parts: list[int | bytes] = [b""] * self._count
        parts[::2] = self._same
        parts[1::2] = values
        return self._layout.pack(*parts)


# Each length that a link's name can have has some ten.
_shapes: dict[tuple[object, ...], Shape | None] = {}


def build(kind: type[nlmsg], fields: Fields, attributes: Attributes) -> bytes:
    """The body of a pyroute2 message with these fields, and the attributes that are not None.

    pyroute2 silently drops attributes whose names it does not know, so they are checked first.
    """
    unknown = attributes.keys() - _types(kind).keys()
    if unknown:
        raise KeyError(f"{kind.__name__} has no attribute {unknown}")
    message = kind()
    for name, number in fields.items():
        message[name] = number
    given = ((name, value) for name, value in attributes.items() if value is not None)
    message["attrs"] = [(name, _for_pyroute2(value)) for name, value in given]
    message.encode()
    return bytes(message.data[HEADER.size :])


def _types(kind: type[nlmsg]) -> Mapping[str, str]:
    """The name of each attribute, and of the class of what is in it."""
    return {entry[-2]: entry[-1] for entry in kind.nla_map}


def _for_pyroute2(value: Value) -> object:
    if isinstance(value, tuple):
        return dict(value)
    return value if isinstance(value, int | bytes) else str(value)


def splice(kind: type[nlmsg], fields: Fields, attributes: Attributes) -> bytes:
    """The same as `build`. The fields have the family, and are in the order of the message."""
    key: list[object] = [kind, fields[FAMILY], *fields]
    values: list[int | bytes] = [number for name, number in fields.items() if name != FAMILY]
    for name, value in attributes.items():
        if value is None:
            continue
        key.append(name)
        if isinstance(value, int):
            values.append(value)
        elif isinstance(value, tuple):
            key.append(value)
        else:
            packed = value if isinstance(value, bytes) else value.packed
            key.append(len(packed))
            values.append(packed)
    known = tuple(key)
    if known not in _shapes:
        _shapes[known] = _learn(kind, fields, attributes, values)
    shape = _shapes[known]
    return shape.copy(values) if shape else build(kind, fields, attributes)


def _learn(
    kind: type[nlmsg], fields: Fields, attributes: Attributes, values: Sequence[int | bytes]
) -> Shape | None:
    """The shape of a message; None where its copy would be another than pyroute2's."""
    unused = iter(MARKS)
    marks: list[tuple[bytes, str]] = []

    def mark(code: str) -> bytes:
        marks.append((bytes(islice(unused, calcsize(code))), code))
        return marks[-1][0]

    def number(code: str) -> int:
        return int.from_bytes(mark(code), sys.byteorder, signed=code.islower())

    def marked(name: str, value: Value | None) -> Value | None:
        if value is None or isinstance(value, tuple):
            return value
        if isinstance(value, int):
            return number(_code_of(kind, name))
        if isinstance(value, bytes):
            return mark(f"{len(value)}s")
        return address(mark(f"{len(value.packed)}s"))

    codes = dict(kind.fields)
    template = build(
        kind,
        {name: n if name == FAMILY else number(codes[name]) for name, n in fields.items()},
        {name: marked(name, value) for name, value in attributes.items()},
    )
    if any(template.count(byte) != 1 for each, _ in marks for byte in each):
        return None
    places = [(at := template.find(each), at + len(each), code) for each, code in marks]
    if places != sorted(places):
        return None
    shape = Shape(template, places)
    return shape if shape.copy(values) == build(kind, fields, attributes) else None


def _code_of(kind: type[nlmsg], attribute: str) -> str:
    """How `struct` has the number in an attribute."""
    return str(dict(getattr(kind, _types(kind)[attribute]).fields)["value"])
