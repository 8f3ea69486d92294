"""The format of a recording: JSON lines, a `Header` and then one `Line` for each change.

docs/replay.md describes it. A recording is valid at any time: a line that the recorder could not
finish, which can only be the last, counts for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from nicwatchd.core.model import Address, Link, Reason, Route, Rule
from nicwatchd.core.policy import Policy
from nicwatchd.core.published import Published
from nicwatchd.core.releases import Releases
from nicwatchd.recording.mask import Mask

FORMAT: Final = "nicwatchd-recording"
VERSION: Final = 1


class RecordingError(ValueError):
    """The file is not a recording that can be used; the text is one line, and says where."""


class _Model(BaseModel):
    # The metrics of a route are bytes that mean nothing as text.
    model_config = ConfigDict(frozen=True, ser_json_bytes="hex", val_json_bytes="hex")


class Header(_Model):
    """The first line. `policy` and `releases` are what the operator wanted then."""

    format: Literal["nicwatchd-recording"]
    version: Literal[1]
    masked: bool
    nicwatchd: str = ""
    kernel: str = ""  # its release
    policy: Policy = Policy()
    releases: Releases = Releases()


class ImdsAnswer(_Model):
    """What IMDS answered for a path below `/latest/meta-data/`: a status and a body, or neither.

    `failure`: why there was no answer that could be used.
    """

    path: str
    status: int | None = None
    body: str = ""
    failure: str = ""


class Outside(_Model):
    """What others say of links, by ifindex, in files: udev, sysctls, Multus; and in firewall rules.

    `clients`: the DHCP clients that are waited for by name. `published`: the ports that containers
    publish. `nft`: why our nftables table could not be written.
    """

    udev_done: frozenset[int] = frozenset()
    managers: dict[int, str] = {}
    clients: dict[int, str] = {}
    strict: frozenset[int] = frozenset()
    multus: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    nft: Reason | None = None


class Said(_Model):
    """What the daemon said about an interface: its state, and the codes of the reasons.

    `health` is that of each family that has one, by its name: ipv4, ipv6.
    """

    mac: str
    name: str
    state: str
    reasons: tuple[str, ...] = ()
    overdue: bool = False
    health: dict[str, str] = {}


class Line(_Model):
    """One change at `t`, in seconds since the recording began. One field beside `t` is set.

    An object that changed comes as `..._gone` and then anew, except for links and addresses, which
    are only told anew. `pid`: the netlink port that added or removed an object of ours, if that is
    known.
    """

    t: float
    link: Link | None = None
    link_gone: int | None = None
    address: Address | None = None
    address_gone: Address | None = None
    route: Route | None = None
    route_gone: Route | None = None
    rule: Rule | None = None
    rule_gone: Rule | None = None
    pid: int = 0
    event: str | None = None  # of the kernel, for people: the objects say what came of it
    imds: ImdsAnswer | None = None
    outside: Outside | None = None
    said: Said | None = None
    # The daemon answers now; it started then, before the recording if that is less than 0.
    daemon_since: float | None = None
    daemon_gone: bool = False  # ... and does not answer any more
    note: str | None = None  # for people
    end: bool = False  # the recording was ended as wanted

    @property
    def new(self) -> Address | Route | Rule | None:
        """The object that is new."""
        return self.address or self.route or self.rule

    @property
    def gone(self) -> Address | Route | Rule | None:
        """The object that is gone."""
        return self.address_gone or self.route_gone or self.rule_gone

    @property
    def is_of_kernel(self) -> bool:
        """Whether it tells what the kernel has."""
        return bool(self.new or self.gone or self.link or self.link_gone is not None)


M = TypeVar("M", Header, Line)


def written(what: Header | Line, mask: Mask) -> str:
    """One line of the file, without its end."""
    document = json.loads(what.model_dump_json(exclude_defaults=True))
    return json.dumps(mask.value(document), ensure_ascii=False, separators=(",", ":"))


def read(lines: Iterable[str], name: str = "recording") -> tuple[Header, tuple[Line, ...]]:
    """Parse a recording. Raises RecordingError."""
    numbered = iter(enumerate(lines, 1))
    number, first = next(numbered, (1, ""))
    header = _parsed(Header, first, f"{name}:{number}")
    return header, tuple(_lines(numbered, name))


def _lines(numbered: Iterator[tuple[int, str]], name: str) -> Iterator[Line]:
    before = 0.0
    for number, text in numbered:
        if not text.endswith("\n"):
            return  # it was cut short
        line = _parsed(Line, text, f"{name}:{number}")
        if line.t < before:
            raise RecordingError(f"{name}:{number}: {line.t:g} s comes after {before:g} s")
        before = line.t
        yield line


def _parsed(kind: type[M], text: str, where: str) -> M:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RecordingError(f"{where}: {place + ': ' if place else ''}{first['msg']}") from None
