"""Scenario files: parses TOML into a `Scenario`, and reports an error in one clear line.

[imds]
mac = "02:00:00:00:00:01"        # of the primary; an ENI with this MAC is plugged from the start

[[imds.fault]]                   # times in seconds of the server's clock
on = "leaf:ipv6s"                # token, directory, leaf, leaf:KEY, all
do = "503"                       # a status, or timeout refuse reset half redirect garbage ...
from = 0.0
to = 3.0
retry_after = 2

[[eni]]
name = "eth1"
mac = "02:00:00:00:00:02"
ipv4 = ["10.0.2.10"]
subnet_ipv4 = "10.0.2.0/24"

[[eni.step]]                     # seconds since the ENI was plugged
at = 1.0
hide = ["ipv6s"]                 # keys not listed; replaces the list of earlier steps
lag = ["interface-id"]           # keys listed, but 404; likewise
set = { device-number = "0" }    # other texts; adds to those of earlier steps

[[eni.step]]
at = 8.0
complete = true                  # undoes all of the above
"""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nicwatchd.sim.script import DOS, FOREVER, KEYS, EniScript, Fault, Scenario, Step

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

T = TypeVar("T")

_MAC: Final = re.compile(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}")
_FAULT_ON: Final = frozenset({"token", "directory", "leaf", "all"}) | {f"leaf:{k}" for k in KEYS}


class ScenarioError(ValueError):
    """An error in a scenario, and where it is, in one line."""


def load(path: Path, *, other: Mapping[str, Collection[str]] | None = None) -> Scenario:
    """Read a scenario file. See `parse`; an unreadable file raises ScenarioError too."""
    try:
        return parse(path.read_text("utf-8"), path.name, other=other)
    except OSError as error:
        raise ScenarioError(f"{path.name}: {error.strerror}") from error


def parse(
    text: str, name: str = "scenario", *, other: Mapping[str, Collection[str]] | None = None
) -> Scenario:
    """Parse a scenario from TOML text.

    `other` names what another reader handles: under "" the sections at the top level, under "eni"
    the additional keys of an ENI.
    """
    other = other or {}
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name}: {error}") from error
    top = _Table(data, name, {"imds", "eni", *other.get("", ())})
    imds = _Table(top.get("imds", dict, {}), f"{name}: imds", {"mac", "fault"})
    enis = top.tables("eni")
    scenario = Scenario(
        mac=imds.mac("mac"),
        faults=tuple(
            _fault(table, f"{name}: imds.fault {number}")
            for number, table in enumerate(imds.tables("fault"), 1)
        ),
        enis=tuple(
            _eni(table, f"{name}: eni {table.get('name', number)}", other.get("eni", ()))
            for number, table in enumerate(enis, 1)
        ),
    )
    names = [eni.name for eni in scenario.enis]
    twice = next((eni for eni in names if names.count(eni) > 1), None)
    if twice:
        raise ScenarioError(f"{name}: two ENIs are named {twice!r}")
    return scenario


class _Table:
    """A TOML table with a known set of keys; reads values by type."""

    def __init__(self, data: Mapping[str, Any], where: str, known: Collection[str]) -> None:
        self._data = data
        self._where = where
        for key in data:
            self.check(key, known, "key")

    def fail(self, why: str) -> ScenarioError:
        return ScenarioError(f"{self._where}: {why}")

    def check(self, word: str, known: Collection[str], what: str) -> str:
        """Return the word if it is known; else raise an error that suggests the nearest."""
        if word in known:
            return word
        near = difflib.get_close_matches(word, sorted(known), 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; one of {', '.join(sorted(known))}"
        raise self.fail(f"unknown {what} {word!r}{hint}")

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """A value of this type. Without a default, the key is required."""
        value = self._data.get(key, default)
        if value is None:
            raise self.fail(f"{key!r} is missing")
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.fail(f"{key!r} must be {_KINDS[kind]}, not {value!r}")
        return value

    def has(self, key: str) -> bool:
        return key in self._data

    def mac(self, key: str) -> str:
        value = self.get(key, str)
        if not _MAC.fullmatch(value):
            raise self.fail(f"{key!r} must be a MAC address in lower case, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.get(key, list, [])
        if not all(isinstance(value, str) for value in values):
            raise self.fail(f"{key!r} must be a list of texts, not {values!r}")
        return tuple(values)

    def keys(self, key: str) -> frozenset[str] | None:
        """A set of IMDS keys, or None if it is not given."""
        if not self.has(key):
            return None
        return frozenset(self.check(word, KEYS, f"IMDS key in {key!r}") for word in self.texts(key))

    def tables(self, key: str) -> list[dict[str, Any]]:
        values = self.get(key, list, [])
        if not all(isinstance(value, dict) for value in values):
            raise self.fail(f"{key!r} must be written as [[{key}]]")
        return values


_KINDS: Final[dict[type, str]] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def _fault(data: dict[str, Any], where: str) -> Fault:
    table = _Table(data, where, {"on", "do", "from", "to", "retry_after"})
    header = data.get("retry_after")
    if header is not None and (isinstance(header, bool) or not isinstance(header, int | str)):
        raise table.fail(f"'retry_after' must be seconds or an HTTP date, not {header!r}")
    do: Any = table.check(table.get("do", str), DOS, "fault")
    return Fault(
        on=table.check(table.get("on", str), _FAULT_ON, "place"),
        do=do,
        start=table.get("from", float, 0.0),
        end=table.get("to", float, FOREVER),
        retry_after=None if header is None else str(header),
    )


def _step(data: dict[str, Any], where: str) -> Step:
    table = _Table(data, where, {"at", "complete", "listed", "hide", "lag", "set"})
    texts = table.get("set", dict, {})
    for key, text in texts.items():
        table.check(key, KEYS, "IMDS key in 'set'")
        if not isinstance(text, str):
            raise table.fail(f"'set.{key}' must be a text, not {text!r}")
    return Step(
        at=table.get("at", float),
        complete=table.get("complete", bool, False),
        listed=table.get("listed", bool) if table.has("listed") else None,
        hide=table.keys("hide"),
        lag=table.keys("lag"),
        set=texts,
    )


_ENI_KEYS: Final = frozenset(EniScript.__dataclass_fields__) - {"steps"} | {"step"}


def _eni(data: dict[str, Any], where: str, other: Collection[str]) -> EniScript:
    table = _Table(data, where, _ENI_KEYS | set(other))
    case: Any = table.check(table.get("directory_case", str, "lower"), {"lower", "upper"}, "case")
    return EniScript(
        name=table.get("name", str),
        mac=table.mac("mac"),
        ipv4=table.texts("ipv4"),
        ipv6=table.texts("ipv6"),
        ipv4_prefixes=table.texts("ipv4_prefixes"),
        ipv6_prefixes=table.texts("ipv6_prefixes"),
        subnet_ipv4=table.get("subnet_ipv4", str) if table.has("subnet_ipv4") else None,
        subnet_ipv6=table.texts("subnet_ipv6"),
        device_number=table.get("device_number", int, 1),
        network_card=table.get("network_card", int) if table.has("network_card") else None,
        interface_id=table.get("interface_id", str, ""),
        subnet_id=table.get("subnet_id", str, "subnet-0123456789abcdef0"),
        directory_case=case,
        steps=tuple(
            _step(step, f"{where}, step {number}")
            for number, step in enumerate(table.tables("step"), 1)
        ),
    )
