"""An IMDS as a tree of texts, without HTTP: what is in it is what the reader gets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from nicwatchd.core.metadata import ABSENT, Answer, Unknown, Value
from nicwatchd.imds.client import MACS
from nicwatchd.imds.eni import EniReader

if TYPE_CHECKING:
    from nicwatchd.imds.client import ImdsClient

LISTS4 = ("local-ipv4s", "subnet-ipv4-cidr-block")
LISTS6 = ("ipv6s", "subnet-ipv6-cidr-blocks")


@dataclass
class Branch:
    """What IMDS says of one MAC.

    `texts` by key; None is listed, but 404. `names` are the lines of the directory; None: the keys.
    """

    texts: dict[str, str | None] = field(default_factory=dict)
    names: list[str] | None = None
    failing: set[str] = field(default_factory=set)  # keys that answer 503; "" is the directory

    def get(self, key: str) -> Answer[str]:
        if key in self.failing:
            return Unknown(f"{key or 'directory'}: 503")
        if key == "":
            return Value("\n".join(self.texts if self.names is None else self.names))
        text = self.texts.get(key)
        return ABSENT if text is None else Value(text)


@dataclass
class Tree:
    """`branches` by MAC. `stands_in` says whose branch is in answer for a MAC, if not its own."""

    branches: dict[str, Branch] = field(default_factory=dict)
    listing: str | None = None  # the text of the list of MACs; None: the branches
    stands_in: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    served: dict[str, str] = field(default_factory=dict)  # MAC/key -> the last text, in any case

    async def get(self, path: str) -> Answer[str]:
        mac, _, key = path.removeprefix(MACS).partition("/")
        self.asked.append(f"{mac}/{key}" if mac else "")
        if not mac:
            return Value("\n".join(self.branches) if self.listing is None else self.listing)
        branch = self.branches.get(self.stands_in.get(mac, mac))
        answer = branch.get(key) if branch else ABSENT
        if isinstance(answer, Value):
            self.served[f"{mac}/{key}".lower()] = answer.value
        return answer

    def reader(self, mac: str) -> EniReader:
        return EniReader(cast("ImdsClient", self), mac)


def branch(
    mac: str, subnet: int = 2, host: int = 16, more: dict[str, str | None] | None = None
) -> Branch:
    """A whole ENI: 10.0.SUBNET.HOST, and the like in IPv6."""
    texts: dict[str, str | None] = {
        "mac": mac,
        "interface-id": f"eni-0{subnet}{host}",
        "subnet-id": f"subnet-0{subnet}",
        "device-number": "1",
        "local-ipv4s": f"10.0.{subnet}.{host}",
        "subnet-ipv4-cidr-block": f"10.0.{subnet}.0/24",
        "ipv6s": f"2001:db8:0:{subnet}::{host:x}",
        "subnet-ipv6-cidr-blocks": f"2001:db8:0:{subnet}::/64",
    }
    return Branch(texts | (more or {}))
