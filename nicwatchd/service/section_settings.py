"""The `[[interface]]` sections of the settings, and what of them cannot be meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nicwatchd.core.model import Family, IPNetwork
from nicwatchd.core.policy import AddressMode, RuleMode, Section

NAME_LENGTH: Final = 15  # IFNAMSIZ, without the zero at the end
MATCHES: Final = ("name", "mac", "eni", "subnet", "vpc", "security_group")
FAMILIES: Final = {"ipv4": Family.V4, "ipv6": Family.V6}
# The type of errors whose text is the whole story: no single value is wrong.
TOLD: Final = "told"

FamilyName = Literal["ipv4", "ipv6"]


# Strict: the text "60" is not a number, and 1 is not true. Guessing would hide typos.
STRICT: Final = ConfigDict(extra="forbid", frozen=True, strict=True)


def cidr(value: object) -> IPNetwork:
    """A network in canonical form. Raises ValueError with what would be right."""
    if not isinstance(value, str):
        raise ValueError("a CIDR in quotes, such as '10.0.9.0/24'")  # noqa: TRY004 (pydantic's way)
    try:
        return ip_network(value)
    except ValueError:
        raise ValueError("a CIDR, such as '10.0.9.0/24' or '2001:db8::/64'") from None


def _place(value: object) -> IPNetwork:
    try:
        return cidr(value)
    except ValueError:
        raise ValueError("an address or a CIDR, such as '10.0.9.7' or '2001:db8::/64'") from None


AddressOrCidr = Annotated[IPv4Network | IPv6Network, PlainValidator(_place)]


def _pattern(text: str) -> str:
    """A shell pattern that some name of an interface can match."""
    plain = not re.search(r"[*?\[]", text)
    closed = not re.search(r"\[(?!(?:!.|[^!])[^\]]*\])", text)
    possible = bool(text) and not re.search(r"[/\s]", text)
    if not (possible and closed) or (plain and len(text.encode()) > NAME_LENGTH):
        raise ValueError("the name of an interface, or a shell pattern such as 'eth1*'")
    return text


def _mac(text: str) -> str:
    if not re.fullmatch(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", text.lower()):
        raise ValueError("a MAC address, such as '02:00:00:00:00:01'")
    return text.lower()


def _id(kind: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(rf"{kind}-[0-9a-zA-Z]{{1,64}}", text):
            raise ValueError(f"an id, such as '{kind}-0123456789abcdef0'")
        return text

    return AfterValidator(check)


Pattern = Annotated[str, AfterValidator(_pattern)]
Mac = Annotated[str, AfterValidator(_mac)]
Families = Annotated[list[FamilyName], Field(min_length=1)]


def expects_too_much(expect: Iterable[str], families: Iterable[str]) -> None:
    """Raise the error for families that are expected and left alone, if there are such."""
    if both := sorted(set(expect) - set(families)):
        text = f"{both[0]} is in expect, but not in families, which leaves it alone"
        raise PydanticCustomError(TOLD, "{text}", {"text": text})


class InterfaceSection(BaseModel):
    """One `[[interface]]`: for which interfaces it is, and what it sets for them."""

    model_config = STRICT

    name: Pattern | None = None
    """a shell pattern for its name, such as "eth1*" """
    mac: Mac | None = None
    """its MAC"""
    eni: Annotated[str, _id("eni")] | None = None
    """the id of the ENI"""
    subnet: Annotated[str, _id("subnet")] | None = None
    """the id of its subnet"""
    vpc: Annotated[str, _id("vpc")] | None = None
    """the id of its VPC"""
    security_group: Annotated[str, _id("sg")] | None = None
    """the id of one of its security groups"""
    manage: bool | None = None
    """true: manage it, even if a container network or another program (by udev's property
    ID_NET_MANAGED_BY) owns the interfaces of this host, or `exclude` or `exclude_subnets` names it.
    false: leave it alone.
    """
    addresses: Literal["auto", "all", "none"] | None = None
    leave_addresses: list[AddressOrCidr] | None = None
    rules: Literal["auto", "subnet", "address"] | None = None
    families: Families | None = None
    expect: list[FamilyName] | None = None

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        if not self.model_fields_set & {*MATCHES}:
            text = f"it does not say for which interfaces it is; there are: {', '.join(MATCHES)}"
            raise PydanticCustomError(TOLD, "{text}", {"text": text})
        vain = [key for key in type(self).model_fields if key in self.model_fields_set]
        vain = [key for key in vain if key not in {*MATCHES, "manage"}]
        if self.manage is False and vain:
            text = f"manage = false leaves the interfaces alone, so {vain[0]} cannot be meant"
            raise PydanticCustomError(TOLD, "{text}", {"text": text})
        if self.families is not None and self.expect is not None:
            expects_too_much(self.expect, self.families)
        return self

    @property
    def matches(self) -> tuple[str | None, ...]:
        """What an interface has to match."""
        return tuple(getattr(self, name) for name in MATCHES)

    def section(self) -> Section:
        """The section as the core knows it."""
        leave, families, expect = self.leave_addresses, self.families, self.expect
        return Section(
            name=self.name,
            mac=self.mac,
            eni=self.eni,
            subnet=self.subnet,
            vpc=self.vpc,
            security_group=self.security_group,
            manage=self.manage,
            addresses=AddressMode(self.addresses) if self.addresses else None,
            leave_addresses=None if leave is None else tuple(leave),
            rules=RuleMode(self.rules) if self.rules else None,
            families=None if families is None else named(families),
            expect=None if expect is None else named(expect),
        )


def named(names: Iterable[str]) -> frozenset[Family]:
    """The families with these names."""
    return frozenset(FAMILIES[name] for name in names)


def contradictions(sections: list[InterfaceSection], families: Iterable[str]) -> Iterator[str]:
    """What of all sections together cannot be meant; `families` are those in general."""
    for place, one in enumerate(sections):
        if one.expect and one.families is None and (left := {*one.expect} - {*families}):
            text = f"{min(left)} is in expect, but interfaces.families leaves it alone"
            yield f"interface.{place}: {text}"
        for earlier, other in enumerate(sections[:place]):
            if other.matches == one.matches and other != one:
                text = f"it is for the same interfaces as interface.{earlier}, which comes first"
                yield f"interface.{place}: {text}, and sets other values"
