"""The settings: TOML files, checked by pydantic, turned into the core's `Policy`.

`/etc/nicwatchd/nicwatchd.toml`, then `conf.d/*.toml` beside it in the order of their names; a later
file overrides single keys of earlier ones, and adds `[[interface]]` sections. Without files, the
defaults apply. An error is reported in one line that names the file, the key, and what would be
correct.
"""

from __future__ import annotations

import difflib
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PlainValidator,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.forwarding import ALL_BITS
from nicwatchd.core.model import (
    LINK_GROUP,
    RULE_PRIORITY,
    TABLE_BASE,
    TABLE_STEP,
    Numbers,
)
from nicwatchd.core.policy import (
    DEFAULT_MASK,
    AddressMode,
    Coexist,
    Forwarded,
    Ipv6Router,
    MtuMode,
    Policy,
    PrimaryMode,
    RuleMode,
)
from nicwatchd.imds.client import ImdsOptions
from nicwatchd.service.section_settings import (
    STRICT,
    TOLD,
    AddressOrCidr,
    Families,
    FamilyName,
    InterfaceSection,
    cidr,
    contradictions,
    expects_too_much,
    named,
)

DEFAULT_FILE: Final = Path("/etc/nicwatchd/nicwatchd.toml")

_SHORT: Final = reprlib.Repr()  # shortens wrong values in errors
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 80

Seconds = Annotated[float, Field(gt=0, le=86_400)]


Cidr = Annotated[IPv4Network | IPv6Network, PlainValidator(cidr)]


def _endpoint(text: str) -> str:
    """An endpoint is a scheme, a host and perhaps a port; the client adds the rest."""
    try:
        url = urlsplit(text)
        good = bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        good = False
    if not good or text != f"http://{url.netloc}" or "@" in text:
        raise ValueError("a URL without a path, such as 'http://169.254.169.254'")
    return text


Endpoint = Annotated[str, AfterValidator(_endpoint)]


def _mask(mask: int) -> int:
    """At least two bits, side by side: with one, there is nothing between none and all of them."""
    lowest = mask & -mask
    if not 0 < mask <= ALL_BITS or (mask + lowest) & mask or mask == lowest:
        raise ValueError("two or more bits side by side, such as 0x7f000000")
    return mask


class SettingsError(Exception):
    """The settings cannot be used; the text is one line for the operator."""


class _Section(BaseModel):
    model_config = STRICT


class Interfaces(_Section):
    """Which interfaces are managed, and how."""

    drivers: list[str] = ["ena", "ixgbevf", "vif"]
    exclude: list[str] = []
    exclude_subnets: list[Cidr] = []
    families: Families = ["ipv4", "ipv6"]
    expect: list[FamilyName] = []
    addresses: Literal["auto", "all", "none"] = "auto"
    leave_addresses: list[AddressOrCidr] = []
    rules: Literal["auto", "subnet", "address"] = "auto"
    ipv6_router: Literal["ec2", "ra"] = "ec2"
    coexist: Literal["beside", "force"] = "beside"
    mtu: Literal["ec2", "leave"] = "leave"
    kernel_proof: bool = True
    forwarded: Literal["off", "connmark"] = "off"
    forwarded_mask: Annotated[int, AfterValidator(_mask)] = DEFAULT_MASK

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        expects_too_much(self.expect, self.families)
        return self


class Retry(_Section):
    """How often IMDS is asked, and how long to wait for what. Seconds, except for the counts."""

    interval: Seconds = 0.25
    fast_for: Seconds = 35.0
    growth: Annotated[float, Field(ge=1, le=10)] = 2.0
    cap: Seconds = 5.0
    keep: Seconds = 60.0
    patience: Seconds = 180.0
    refresh: Seconds = 60.0
    settling: Seconds = 30.0
    address_wait: Seconds = 5.0
    doubts: Annotated[int, Field(ge=1, le=100)] = 3
    doubt_span: Seconds = 30.0


class Imds(_Section):
    """How to reach IMDS, and how many requests the whole host may send."""

    endpoints: Annotated[list[Endpoint], Field(min_length=1)] = [
        "http://169.254.169.254",
        "http://[fd00:ec2::254]",
    ]
    requests_per_second: Annotated[float, Field(gt=0, le=1000)] = 50.0
    burst: Annotated[int, Field(ge=1, le=10_000)] = 500

    def options(self) -> ImdsOptions:
        """The options for the IMDS client."""
        return ImdsOptions(
            endpoints=tuple(self.endpoints),
            budget_rate=self.requests_per_second,
            budget_burst=self.burst,
        )


class KernelNumbers(_Section):
    """Numbers of our rules, tables and link group, for hosts where other software uses the same.

    The limits: our rules must come before main's, at 32766; and a table number, which may be up to
    2^32, is the base plus 256 times the ifindex, of which the last 23 bits count.
    """

    priority: Annotated[int, Field(ge=1, le=RULE_PRIORITY)] = RULE_PRIORITY
    table_base: Annotated[int, Field(ge=TABLE_BASE, le=2_000_000_000, multiple_of=TABLE_STEP)] = (
        TABLE_BASE
    )
    group: Annotated[int, Field(ge=1, le=0x7FFF_FFFF)] = LINK_GROUP


class Settings(_Section):
    """All settings. `platform`: run only if the firmware says EC2 ("auto"), or always ("ec2").

    `primary`: whether what the primary's addresses send is kept on it. `egress`: who carries the
    host's own traffic: "primary", "leave" (whoever main says), or an ENI's name, MAC or id.
    """

    platform: Literal["auto", "ec2"] = "auto"
    primary: Literal["protect", "leave"] = "protect"
    egress: Annotated[str, Field(min_length=1, max_length=64)] = "primary"
    interfaces: Interfaces = Field(default_factory=Interfaces)
    retry: Retry = Field(default_factory=Retry)
    imds: Imds = Field(default_factory=Imds)
    kernel: KernelNumbers = Field(default_factory=KernelNumbers)
    interface: list[InterfaceSection] = []

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        for text in contradictions(self.interface, self.interfaces.families):
            raise PydanticCustomError(TOLD, "{text}", {"text": text})
        return self

    def policy(self) -> Policy:
        """The settings that the core uses for its decisions."""
        of, retry = self.interfaces, self.retry
        return Policy(
            drivers=frozenset(of.drivers),
            exclude=tuple(of.exclude),
            exclude_subnets=tuple(of.exclude_subnets),
            expect=named(of.expect),
            families=named(of.families),
            sections=tuple(each.section() for each in self.interface),
            addresses=AddressMode(of.addresses),
            leave_addresses=tuple(of.leave_addresses),
            rules=RuleMode(of.rules),
            primary=PrimaryMode(self.primary),
            egress=self.egress,
            ipv6_router=Ipv6Router(of.ipv6_router),
            coexist=Coexist(of.coexist),
            mtu=MtuMode(of.mtu),
            kernel_proof=of.kernel_proof,
            forwarded=Forwarded(of.forwarded),
            forwarded_mask=of.forwarded_mask,
            numbers=Numbers(self.kernel.priority, self.kernel.table_base, self.kernel.group),
            schedule=Schedule(
                interval=retry.interval,
                fast_for=retry.fast_for,
                growth=retry.growth,
                cap=retry.cap,
                keep=retry.keep,
                patience=retry.patience,
                refresh=retry.refresh,
            ),
            settling=retry.settling,
            address_wait=retry.address_wait,
            doubts=retry.doubts,
            doubt_span=retry.doubt_span,
        )


def load(file: Path | None = None) -> Settings:
    """The settings in `file` (default: the system's) and in `conf.d` beside it.

    A file that was named must exist; the system's may be missing. Raises SettingsError.
    """
    main = file or DEFAULT_FILE
    merged: dict[str, Any] = {}
    for path in _files(main, required=file is not None):
        document = _read(path)
        _validate(document, path)  # each file by itself, so that an error can name it
        _merge(merged, document)
    return _validate(merged, main)


def _files(main: Path, *, required: bool) -> Iterator[Path]:
    try:
        if required or main.exists():
            yield main
        # Not glob(), which silently skips a directory that it may not read.
        inside = main.parent / "conf.d"
        files = inside.iterdir() if inside.exists() else ()
        yield from sorted(file for file in files if file.match("*.toml"))
    except OSError as error:
        raise SettingsError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not UTF-8 text") from None
    except ValueError as error:  # TOMLDecodeError is one; so is a number of 5000 digits
        raise SettingsError(f"{path}: is not TOML: {error}") from None
    except RecursionError:
        raise SettingsError(f"{path}: is not TOML: nested too deeply") from None


def _merge(into: dict[str, Any], document: Mapping[str, Any]) -> None:
    for key, value in document.items():
        if isinstance(value, list) and key == "interface" and key in into:
            into[key] = [*into[key], *value]  # sections of a later file come later
        elif isinstance(value, dict):
            _merge(into.setdefault(key, {}), value)
        else:
            into[key] = value


def _validate(document: Mapping[str, Any], path: Path) -> Settings:
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    """The first error, in one line."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        return _unknown_key(place)
    if first["type"] == TOLD:
        return ": ".join(part for part in (".".join(place), first["msg"]) if part)
    message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if place[0] == "interface" and first["type"] in ("model_type", "list_type"):
        message = "a section with double brackets, [[interface]]"
    elif first["type"] == "model_type":
        message = f"a section, [{place[-1]}]"
    elif first["type"] == "too_short":
        message = "a list with something in it"
    return f"{'.'.join(place)}: {_SHORT.repr(first['input'])} is wrong; it should be {message}"


def _unknown_key(place: list[str]) -> str:
    """Name the unknown key, and the one that was perhaps meant."""
    model: type[BaseModel] = Settings
    for part in place[:-1]:
        annotation = model if part.isdecimal() else model.model_fields[part].annotation
        annotation = next(iter(get_args(annotation)), annotation)  # of a list of sections
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    known = list(model.model_fields)
    near = difflib.get_close_matches(place[-1], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known)}"
    return f"unknown key {'.'.join(place)!r}; {hint}"
