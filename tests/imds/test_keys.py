"""The table of IMDS's keys: each is parsed, asked, read, remembered, and named nowhere else."""

from __future__ import annotations

import ast
import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

import nicwatchd
from nicwatchd.core.memory import Memory, remember
from nicwatchd.core.metadata import (
    ABSENT,
    ENI_KEYS,
    KEYS,
    NOT_ASKED,
    EniMetadata,
    FamilyMetadata,
    ImdsKey,
    Kind,
    Role,
    Value,
)
from nicwatchd.core.model import Family
from nicwatchd.core.policy import Policy
from nicwatchd.core.polling import Depth
from nicwatchd.imds.eni import EniReader
from nicwatchd.imds.parse import parse_leaf
from nicwatchd.imds.probes import Probes
from tests.imds.conftest import MAC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nicwatchd.imds.client import ImdsClient
    from nicwatchd.sim.imds import ImdsServer

SAMPLES: Final[dict[tuple[Kind, Family | None], tuple[str, Any]]] = {
    (Kind.MAC, None): (MAC, MAC),
    (Kind.ENI_ID, None): ("eni-1", "eni-1"),
    (Kind.SUBNET_ID, None): ("subnet-1", "subnet-1"),
    (Kind.VPC_ID, None): ("vpc-1", "vpc-1"),
    (Kind.SECURITY_GROUP_IDS, None): ("sg-1\nsg-2", ("sg-1", "sg-2")),
    (Kind.NUMBER, None): ("7", 7),
    (Kind.ADDRESSES, Family.V4): ("10.0.2.7", (ip_address("10.0.2.7"),)),
    (Kind.ADDRESSES, Family.V6): ("2001:db8::7", (ip_address("2001:db8::7"),)),
    (Kind.PREFIXES, Family.V4): ("10.0.2.16/28", (ip_network("10.0.2.16/28"),)),
    (Kind.PREFIXES, Family.V6): ("2001:db8:1::/80", (ip_network("2001:db8:1::/80"),)),
    (Kind.CIDRS, Family.V4): ("10.0.2.0/24", (ip_network("10.0.2.0/24"),)),
    (Kind.CIDRS, Family.V6): ("2001:db8::/64", (ip_network("2001:db8::/64"),)),
}
SOURCES: Final = sorted(
    path for part in ("core", "imds") for path in Path(nicwatchd.__file__).parent.glob(f"{part}/*")
    if path.suffix == ".py"
)  # fmt: skip
# Where the name of a key means something else.
OTHERS: Final = {
    ("client.py", "mac"),  # the host's own `meta-data/mac`
    ("account.py", "mac"),  # of the link
    ("policy.py", "mac"),  # the setting
    ("remedies.py", "mac"),  # of the link
}

each_key = pytest.mark.parametrize("key", ENI_KEYS, ids=str)


def sample(key: ImdsKey) -> tuple[str, Any]:
    """A text for the key, and the value that it means."""
    return SAMPLES[key.kind, key.family]


def reading(*keys: ImdsKey) -> EniMetadata:
    """A reading in which just these keys are listed, each with its sample."""
    answers = {key.name: Value(sample(key)[1]) if key in keys else ABSENT for key in ENI_KEYS}
    return EniMetadata.from_answers(Value(frozenset(key.name for key in keys)), answers)


def test_the_table_and_the_fields_are_the_same() -> None:
    lists = {key.field for key in ENI_KEYS if key.many}
    assert lists == set(FamilyMetadata.__dataclass_fields__)
    scalars = {key.field for key in ENI_KEYS if not key.many}
    assert scalars == EniMetadata.__dataclass_fields__.keys() - {"directory", "v4", "v6", "refused"}
    assert sum(map(len, KEYS.values())) == sum(key.many for key in ENI_KEYS)
    assert len({key.name for key in ENI_KEYS}) == len(ENI_KEYS)


def test_a_family_without_a_key_for_a_list_has_an_absent_one() -> None:
    assert FamilyMetadata.from_lists({}) == FamilyMetadata(
        **dict.fromkeys(FamilyMetadata.__dataclass_fields__, ABSENT)
    )


@each_key
def test_each_key_is_parsed(key: ImdsKey) -> None:
    text, value = sample(key)
    assert parse_leaf(key.name, text).answer == Value(value)


@each_key
def test_each_key_is_asked_in_a_sweep_once_it_is_listed(key: ImdsKey) -> None:
    unknown = dict.fromkeys((key.name for key in ENI_KEYS), NOT_ASKED)
    probes = Probes(MAC)
    probes.named = frozenset({key.name})  # the settings match by it
    assert probes.sweep(frozenset(), unknown) == []
    assert probes.sweep(frozenset({key.name}), unknown) == [key.name]


@each_key
async def test_each_key_is_read(key: ImdsKey, client: ImdsClient, server: ImdsServer) -> None:
    text, value = sample(key)
    server.step("eth1", texts={key.name: text})
    metadata = await EniReader(client, MAC).poll(
        depth=Depth.EVERYTHING, named=frozenset({key.name})
    )
    assert metadata.answer(key) == Value(value)


@each_key
def test_each_key_is_remembered(key: ImdsKey) -> None:
    before = remember(Memory(), reading(key), MAC, 0.0, Policy())
    assert before.believed == reading(key)
    assert not before.doubted
    after = remember(before, reading(), MAC, 1.0, Policy())
    about_this_reading = key.role is Role.WHOSE
    assert after.believed.answer(key) == (
        ABSENT if about_this_reading else reading(key).answer(key)
    )
    can_be_lost = key.many and key.name != "local-ipv4s"  # an ENI's first address is for its life
    assert after.doubted == can_be_lost
    doubts = {
        of: set(known.doubted) for part in (after.v4, after.v6) for of, known in part.lists.items()
    }
    assert {of: items for of, items in doubts.items() if items} == (
        {key: set(sample(key)[1])} if can_be_lost else {}
    )


# --- no second list ----------------------------------------------------------------------------


def keys_named(source: str) -> Iterator[str]:
    """Each key that a string of the source names, docstrings aside."""
    tree = ast.parse(source)
    names = {key.name for key in ENI_KEYS}
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield from names.intersection(re.findall(r"[a-z0-9-]+", node.value))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_only_the_table_names_a_key(path: Path) -> None:
    found = set(keys_named(path.read_text()))
    if path.name == "metadata.py":
        assert found == {key.name for key in ENI_KEYS}
    else:
        assert {(path.name, name) for name in found} <= OTHERS


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('get("ipv6s")', ["ipv6s"]),
        ('f"no-{x}: ipv4-prefix"', ["ipv4-prefix"]),
        ('def f():\n    """Reads ipv6s."""', []),
        ("ipv6s = 1  # ipv6s", []),
        ('"macs/"', []),
    ],
)
def test_a_named_key_is_seen(source: str, found: list[str]) -> None:
    assert list(keys_named(source)) == found
