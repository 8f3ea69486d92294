"""The race, in any order and at any time of the keys: none costs more than it must."""

from __future__ import annotations

import random
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from nicwatchd.core.metadata import EniMetadata, Value
from nicwatchd.core.polling import Depth
from nicwatchd.imds.parse import LEAVES
from nicwatchd.imds.probes import LISTS, TURN
from tests.imds.conftest import MAC
from tests.imds.trees import LISTS4, LISTS6, Branch, Tree, branch

if TYPE_CHECKING:
    from nicwatchd.imds.eni import EniReader

WHOLE = branch(MAC).texts
IDS = ("mac", "interface-id", "subnet-id", "owner-id", "vpc-id")
PREFIXES = {"ipv4-prefix": "10.0.2.64/28", "ipv6-prefix": "2001:db8:0:2:1::/80"}
TEXTS: dict[str, str | None] = WHOLE | {"owner-id": "123456789012", "vpc-id": "vpc-1"}


def value(metadata: EniMetadata, key: str) -> object:
    answer = metadata.answer(LEAVES[key].key)
    return answer.value if isinstance(answer, Value) else None


def complete(metadata: EniMetadata, *keys: str) -> bool:
    return all(value(metadata, key) is not None for key in keys)


async def polls_until(reader: EniReader, *keys: str, most: int = 20) -> int:
    """How many polls it takes until the keys are known."""
    for count in range(1, most + 1):
        if complete(await reader.poll(depth=Depth.AWAITED), *keys):
            return count
    return most + 1


@pytest.mark.parametrize("some", [(), IDS[:1], IDS, ("device-number",), ("services/",)])
@pytest.mark.parametrize("wait", [0, 1, 7, 24, 120])
async def test_a_directory_of_ids_is_asked_until_there_is_more(
    some: tuple[str, ...], wait: int
) -> None:
    """The prober raised here, in every poll from the 7th, the 14th or the 27th on."""
    shown = {key: TEXTS.get(key) for key in some}
    tree = Tree({MAC: Branch(dict(shown) or {"hostname": "x"})})
    reader = tree.reader(MAC)
    for _ in range(wait):
        await reader.poll(depth=Depth.AWAITED)
    assert len(tree.asked) <= 1.25 * wait + 12
    tree.branches[MAC] = Branch(dict(TEXTS))
    assert await polls_until(reader, *LISTS4, *LISTS6) == 1


@pytest.mark.parametrize("first", [*permutations(LISTS4 + LISTS6, 2)])
@pytest.mark.parametrize("pause", [1, 5])
@pytest.mark.parametrize("how", ["unlisted", "empty"])
async def test_lists_come_in_any_order_each_in_the_next_poll(
    first: tuple[str, str], pause: int, how: str
) -> None:
    others = [key for key in LISTS4 + LISTS6 if key not in first]
    texts = dict(TEXTS)
    for key in LISTS4 + LISTS6:
        del texts[key]
        if how == "empty":
            texts[key] = ""
    tree = Tree({MAC: Branch(texts)})
    reader = tree.reader(MAC)
    for key in (*first, *others):
        for _ in range(pause):
            metadata = await reader.poll(depth=Depth.AWAITED)
            assert value(metadata, key) is None
        texts[key] = TEXTS[key]
        awaited = sum(not texts.get(other) for other in LISTS4 + LISTS6)
        # Where several keys are listed without a value, they are asked in turn.
        most = 1 if how == "unlisted" else 1 + awaited
        assert await polls_until(reader, key) <= most


@pytest.mark.parametrize("key", sorted(PREFIXES))
@pytest.mark.parametrize("there", [True, False], ids=["the other prefix is there", "no other"])
@pytest.mark.parametrize("how", ["unlisted", "empty", "404"])
async def test_a_prefix_that_comes_last_is_seen_in_two_seconds(
    key: str, how: str, there: bool
) -> None:
    """At four polls a second, whatever else there is to ask, and whenever it comes."""
    (other,) = PREFIXES.keys() - {key}
    for wait in (1, 2, 3, 10, 11, 12, 13, 14, 15, 16, 90):
        texts = TEXTS | {"network-card": "0"} | ({other: PREFIXES[other]} if there else {})
        if how != "unlisted":
            texts[key] = "" if how == "empty" else None
        tree = Tree({MAC: Branch(texts)})
        reader = tree.reader(MAC)
        for _ in range(wait):
            assert value(await reader.poll(depth=Depth.AWAITED), key) is None
        texts[key] = PREFIXES[key]
        assert await polls_until(reader, key) <= TURN <= 8


@pytest.mark.parametrize("key", LISTS4 + LISTS6)
async def test_a_list_that_grows_is_seen_in_two_seconds(key: str) -> None:
    for wait in range(1, 24):
        texts = TEXTS | PREFIXES | {"network-card": "0"}
        tree = Tree({MAC: Branch(texts)})
        reader = tree.reader(MAC)
        for _ in range(wait):
            before = value(await reader.poll(depth=Depth.AWAITED), key)
        more = {"local-ipv4s": "10.0.2.17", "ipv6s": "2001:db8:0:2::17"}
        texts[key] = f"{texts[key]}\n{more.get(key, '2001:db8:0:3::/64')}"
        for _ in range(TURN):
            metadata = await reader.poll(depth=Depth.AWAITED)
            if metadata.answer(LEAVES[key].key) != Value(before):
                break
        else:
            raise AssertionError(f"{key} is not seen after {wait}")


@pytest.mark.parametrize("seed", range(40))
async def test_any_order_at_any_time(seed: int) -> None:
    """Each family is whole in the poll after its last key, and no poll raises."""
    chance = random.Random(seed)
    keys = [*TEXTS, *(key for key in PREFIXES if chance.random() < 0.5)]
    due: dict[str, int] = {key: chance.choice([0, 0, 3, 20, 60, 90]) for key in keys}
    texts: dict[str, str | None] = {"services/": None}
    tree = Tree({MAC: Branch(texts)})
    reader = tree.reader(MAC)
    all_texts: dict[str, Any] = TEXTS | PREFIXES
    for poll in range(100):
        texts |= {key: all_texts[key] for key, when in due.items() if when == poll}
        metadata = await reader.poll(depth=Depth.AWAITED)
        for family in (LISTS4, LISTS6):
            last = max(due[key] for key in family)
            assert complete(metadata, *family) == (poll >= last), (poll, due)
        for key in PREFIXES.keys() & due.keys():
            assert complete(metadata, key) or poll < due[key] + TURN
    known = {key for key in LISTS if value(metadata, key) is not None}
    assert known == set(LISTS) & due.keys()
    assert len(tree.asked) <= 1.25 * 100 + 25
