"""The timeline of a simulated IMDS: the keys and faults at a given time. Pure.

`EniScript.at(t)` applies the steps up to `t` (seconds since the ENI was plugged), and returns what
IMDS then says about the ENI. A text of None means that the key lags: it is listed, but answers 404.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Do: TypeAlias = Literal[
    "400", "401", "403", "404", "429", "500", "503",  # an HTTP status
    "timeout", "refuse", "reset", "half", "redirect", "garbage", "big", "slow",
]  # fmt: skip
DOS: Final[frozenset[str]] = frozenset(get_args(Do))

FOREVER: Final = float("inf")

KEYS: Final = frozenset(
    {
        "device-number",
        "interface-id",
        "ipv4-prefix",
        "ipv6-prefix",
        "ipv6s",
        "local-hostname",
        "local-ipv4s",
        "mac",
        "network-card",
        "owner-id",
        "security-group-ids",
        "security-groups",
        "subnet-id",
        "subnet-ipv4-cidr-block",
        "subnet-ipv6-cidr-blocks",
        "vpc-id",
        "vpc-ipv4-cidr-block",
        "vpc-ipv4-cidr-blocks",
        "vpc-ipv6-cidr-blocks",
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault from `start` to `end`, in seconds of the server's clock.

    `on` is "token", "directory", "leaf" (any), "leaf:KEY" or "all".
    """

    on: str
    do: Do
    start: float = 0.0
    end: float = FOREVER
    retry_after: str | None = None  # the header as it is sent: seconds or an HTTP date

    def hits(self, what: str) -> bool:
        """Whether this fault affects a request for `what`: "token", "directory" or "leaf:KEY"."""
        return self.on in {"all", what} or (self.on == "leaf" and what.startswith("leaf:"))


@dataclass(frozen=True, slots=True)
class Step:
    """A change at a given time. What a step does not name stays; `complete` undoes all steps."""

    at: float = 0.0
    complete: bool = False
    listed: bool | None = None
    hide: frozenset[str] | None = None  # keys not listed; replaces those of earlier steps
    lag: frozenset[str] | None = None  # keys listed that answer 404; likewise
    set: Mapping[str, str] = field(default_factory=dict)  # key -> text; adds to earlier steps


@dataclass(frozen=True, slots=True)
class EniScript:
    """An ENI: the facts that IMDS lists in the end, and the steps until then."""

    name: str
    mac: str
    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()
    ipv4_prefixes: tuple[str, ...] = ()
    ipv6_prefixes: tuple[str, ...] = ()
    subnet_ipv4: str | None = None
    subnet_ipv6: tuple[str, ...] = ()
    device_number: int = 1
    network_card: int | None = None
    interface_id: str = ""
    subnet_id: str = "subnet-0123456789abcdef0"
    vpc_id: str = "vpc-0123456789abcdef0"
    security_groups: tuple[str, ...] = ("sg-0123456789abcdef0",)
    directory_case: Literal["lower", "upper"] = "lower"
    steps: tuple[Step, ...] = ()

    @property
    def directory(self) -> str:
        """The MAC as IMDS lists it."""
        return self.mac.upper() if self.directory_case == "upper" else self.mac

    def facts(self) -> dict[str, str]:
        """The keys in the final state. Keys without a value are not listed, as on EC2."""
        vpc_ipv4 = self.subnet_ipv4 or "10.0.0.0/16"
        texts = {
            "device-number": str(self.device_number),
            "interface-id": self.interface_id or f"eni-{self.mac.replace(':', ''):0>17}",
            "ipv4-prefix": "\n".join(self.ipv4_prefixes),
            "ipv6-prefix": "\n".join(self.ipv6_prefixes),
            "ipv6s": "\n".join(self.ipv6),
            "local-hostname": f"{self.name}.ec2.internal",
            "local-ipv4s": "\n".join(self.ipv4),
            "mac": self.mac,
            "network-card": "" if self.network_card is None else str(self.network_card),
            "owner-id": "123456789012",
            "security-group-ids": "\n".join(self.security_groups),
            "security-groups": "default",
            "subnet-id": self.subnet_id,
            "subnet-ipv4-cidr-block": self.subnet_ipv4 or "",
            "subnet-ipv6-cidr-blocks": "\n".join(self.subnet_ipv6),
            "vpc-id": self.vpc_id,
            "vpc-ipv4-cidr-block": vpc_ipv4,
            "vpc-ipv4-cidr-blocks": vpc_ipv4,
            "vpc-ipv6-cidr-blocks": "\n".join(self.subnet_ipv6),
        }
        return {key: text for key, text in texts.items() if text}

    def at(self, seconds: float, by_hand: Iterable[Step] = ()) -> dict[str, str | None] | None:
        """The listed keys with their texts (None: it lags); None if the MAC is not listed.

        `by_hand` are steps that a test added; they come after scripted ones of the same time.
        """
        steps = sorted((*self.steps, *by_hand), key=lambda step: step.at)
        listed = True
        hidden: frozenset[str] = frozenset()
        lagging: frozenset[str] = frozenset()
        texts: dict[str, str | None] = dict(self.facts())
        for step in steps:
            if step.at > seconds:
                break
            if step.complete:
                listed, hidden, lagging, texts = True, frozenset(), frozenset(), dict(self.facts())
            listed = listed if step.listed is None else step.listed
            hidden = hidden if step.hide is None else step.hide
            lagging = lagging if step.lag is None else step.lag
            texts.update(step.set)
        if not listed:
            return None
        texts.update(dict.fromkeys(lagging))
        return {key: text for key, text in texts.items() if key not in hidden}

    def complete_at(self) -> float:
        """The time of the last step, in seconds after the plug: nothing changes after that."""
        return max((step.at for step in self.steps), default=0.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything IMDS will say: the primary's MAC, the ENIs, and the faults."""

    mac: str
    enis: tuple[EniScript, ...] = ()
    faults: tuple[Fault, ...] = ()

    def eni(self, name: str) -> EniScript:
        """The ENI with this name. Raises KeyError if there is none."""
        for eni in self.enis:
            if eni.name == name:
                return eni
        raise KeyError(name)
