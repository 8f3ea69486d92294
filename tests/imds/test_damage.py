"""Damaged directories, and the trees of others: what is not sure proves nothing."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest

from nicwatchd.core.metadata import ABSENT, ENI_KEYS, Answer, Unknown, Value, contradicts
from nicwatchd.core.polling import Depth
from nicwatchd.imds.parse import LEAVES, parse_leaf
from nicwatchd.imds.probes import LISTS
from tests.imds.conftest import MAC
from tests.imds.trees import Tree, branch

if TYPE_CHECKING:
    from nicwatchd.core.metadata import EniMetadata
    from nicwatchd.imds.eni import EniReader

OTHER = "02:00:00:00:00:03"
ADDRESS6, NET6 = ip_address("2001:db8:0:2::10"), ip_network("2001:db8:0:2::/64")
both_polls = pytest.mark.parametrize("depth", list(Depth))


def answer(metadata: EniMetadata, key: str) -> Answer[Any]:
    return metadata.answer(LEAVES[key].key)


async def seen(reader: EniReader, *, depth: Depth) -> EniMetadata:
    """What is known once each name had its turn."""
    for _ in range(1 if depth is Depth.EVERYTHING else 30):
        metadata = await reader.poll(depth=depth)
    return metadata


# --- a damaged name ------------------------------------------------------------------------------


@both_polls
@pytest.mark.parametrize("key", LISTS)
async def test_a_damaged_directory_makes_no_key_absent(key: str, depth: Depth) -> None:
    tree = Tree({MAC: branch(MAC, more={"ipv4-prefix": "10.0.2.64/28", "ipv6-prefix": "::/0"})})
    eni = tree.branches[MAC]
    eni.texts["ipv6-prefix"] = "2001:db8:0:2:1::/80"
    reader = tree.reader(MAC)
    before = await seen(reader, depth=depth)
    eni.names = [name if name != key else f"{name}\ufffd" for name in eni.texts]
    metadata = await seen(reader, depth=depth)
    assert isinstance(metadata.directory, Value)
    assert not metadata.directory.whole
    assert [answer(metadata, each) for each in LISTS] == [answer(before, each) for each in LISTS]
    assert metadata.refused == (f"directory: {key + chr(0xFFFD)!a}: not a key's name",)
    eni.names = None
    del eni.texts[key]  # now it is gone indeed
    metadata = await seen(reader, depth=depth)
    assert (answer(metadata, key), metadata.refused) == (ABSENT, ())


@both_polls
@pytest.mark.parametrize("key", LISTS)
@pytest.mark.parametrize("how", ["cut", "a wrong letter", "no end of line"])
async def test_a_name_that_is_nearly_a_keys_is_damage_too(how: str, key: str, depth: Depth) -> None:
    tree = Tree({MAC: branch(MAC, more={"ipv4-prefix": "10.0.2.64/28"})})
    eni = tree.branches[MAC]
    eni.texts["ipv6-prefix"] = "2001:db8:0:2:1::/80"
    reader = tree.reader(MAC)
    before = await seen(reader, depth=depth)
    odd = {
        "cut": key[:-2],
        "a wrong letter": f"{key[:3]}x{key[4:]}",
        "no end of line": f"{key}mac",
    }[how]
    eni.names = [name if name != key else odd for name in eni.texts]
    metadata = await seen(reader, depth=depth)
    assert [answer(metadata, each) for each in LISTS] == [answer(before, each) for each in LISTS]
    assert metadata.refused == (f"directory: {odd!a}: not a key's name",)


async def test_a_new_name_is_no_damage() -> None:
    """EC2 adds keys; and a list that goes is gone, whatever else there is."""
    tree = Tree({MAC: branch(MAC, more={"ipv6-prefix": "2001:db8:0:2:1::/80"})})
    reader = tree.reader(MAC)
    await seen(reader, depth=Depth.EVERYTHING)
    texts = tree.branches[MAC].texts
    del texts["ipv6-prefix"]
    texts |= dict.fromkeys(["network-card-index", "public-ipv4s", "vpc-ipv6-cidr-blocks", "x"], "0")
    metadata = await seen(reader, depth=Depth.EVERYTHING)
    assert (metadata.v6.prefixes, metadata.refused) == (ABSENT, ())
    assert metadata.directory == Value(frozenset(texts))


@both_polls
async def test_what_a_damaged_directory_does_not_name_is_unknown(depth: Depth) -> None:
    tree = Tree({MAC: branch(MAC)})
    tree.branches[MAC].names = ["mac", "local-ipv4s", "subnet-ipv4-cidr-block", "<html>"]
    metadata = await seen(tree.reader(MAC), depth=depth)
    assert metadata.v4.addresses == Value((ip_address("10.0.2.16"),))
    for key in ("ipv6s", "subnet-ipv6-cidr-blocks", "ipv4-prefix", "subnet-id"):
        assert isinstance(answer(metadata, key), Unknown)


@both_polls
async def test_a_damaged_list_of_macs_is_no_word_on_ours(depth: Depth) -> None:
    tree = Tree({MAC: branch(MAC)}, listing="02:00:00:00\ufffd\n02:00:00:00:00:09/")
    reader = tree.reader(MAC)
    metadata = await reader.poll(depth=depth)
    assert isinstance(metadata.directory, Unknown)
    assert "garbage" in metadata.directory.why
    tree.listing = f"02:00:00:00\ufffd\n{MAC}/"
    assert (await reader.poll(depth=depth)).mac == Value(MAC)


def test_other_ends_of_lines_are_damage() -> None:
    """Otherwise the first half of a damaged address is taken for one."""
    for char in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029":
        parsed = parse_leaf("local-ipv4s", f"10.0.2.20\n10.0.2.1{char}5")
        assert parsed.answer == Value((ip_address("10.0.2.20"),), whole=False)


# --- the tree of another ENI --------------------------------------------------------------------


@both_polls
async def test_the_tree_of_another_is_not_believed_after_ours_was(depth: Depth) -> None:
    """Its lists are told together with its MAC, so that the core leaves them out."""
    tree = Tree({MAC: branch(MAC), OTHER: branch(OTHER, subnet=3)})
    reader = tree.reader(MAC)
    before = await seen(reader, depth=depth)
    tree.stands_in[MAC] = OTHER
    for _ in range(30):
        metadata = await reader.poll(depth=depth)
        same = all(answer(metadata, key) == answer(before, key) for key in LISTS)
        assert same or contradicts(metadata, MAC)
    assert contradicts(metadata, MAC)
    tree.stands_in.clear()
    for _ in range(10):
        metadata = await reader.poll(depth=depth)
        same = all(answer(metadata, key) == answer(before, key) for key in LISTS)
        assert same or contradicts(metadata, MAC)
    assert metadata == before


@both_polls
@pytest.mark.parametrize("key", ["local-ipv4s", "ipv6s", "ipv6-prefix"])
async def test_one_list_of_another_is_not_believed_either(key: str, depth: Depth) -> None:
    prefix: dict[str, str | None] = {"ipv6-prefix": "2001:db8:0:2:1::/80"}
    tree = Tree({MAC: branch(MAC, more=prefix)})
    reader = tree.reader(MAC)
    before = await seen(reader, depth=depth)
    texts = tree.branches[MAC].texts
    kept = dict(texts)
    texts |= {key: texts[key].replace("2", "3"), "mac": OTHER}  # type: ignore[union-attr] # a text
    assert contradicts(await seen(reader, depth=depth), MAC)
    texts |= kept
    assert await seen(reader, depth=depth) == before


@both_polls
async def test_a_change_is_unknown_while_the_mac_cannot_be_read(depth: Depth) -> None:
    tree = Tree({MAC: branch(MAC)})
    reader = tree.reader(MAC)
    await seen(reader, depth=depth)
    eni = tree.branches[MAC]
    eni.failing = {"mac"}
    eni.texts["ipv6s"] = "2001:db8:0:2::10\n2001:db8:0:2::11"
    for _ in range(3):
        metadata = await seen(reader, depth=depth)
        assert isinstance(metadata.v6.addresses, Unknown)
        assert metadata.v4.addresses == Value((ip_address("10.0.2.16"),))
    eni.failing = set()
    metadata = await seen(reader, depth=depth)
    assert metadata.v6.addresses == Value((ADDRESS6, ip_address("2001:db8:0:2::11")))


@both_polls
async def test_a_tree_without_the_leaf_is_believed(depth: Depth) -> None:
    """Nothing tells whose it is then; and the first answer is awaited by everybody."""
    tree = Tree({MAC: branch(MAC)})
    eni = tree.branches[MAC]
    del eni.texts["mac"]
    reader = tree.reader(MAC)
    await seen(reader, depth=depth)
    eni.texts["ipv6s"] = "2001:db8:0:2::11"
    metadata = await seen(reader, depth=depth)
    assert metadata.v6.addresses == Value((ip_address("2001:db8:0:2::11"),))


async def test_nothing_more_is_asked_while_nothing_changes() -> None:
    tree = Tree({MAC: branch(MAC)})
    reader = tree.reader(MAC)
    await seen(reader, depth=Depth.AWAITED)
    tree.asked.clear()
    for _ in range(20):
        await reader.poll(depth=Depth.AWAITED)
        await reader.poll(depth=Depth.EVERYTHING)
    assert f"{MAC}/mac" not in tree.asked
    tree.branches[MAC].texts["ipv6s"] = "2001:db8:0:2::11"
    await reader.poll(depth=Depth.EVERYTHING)
    await reader.poll(depth=Depth.EVERYTHING)
    assert tree.asked.count(f"{MAC}/mac") == 1


async def test_the_ids_of_another_are_not_kept() -> None:
    tree = Tree({MAC: branch(MAC), OTHER: branch(OTHER, subnet=3)}, stands_in={MAC: OTHER})
    reader = tree.reader(MAC)
    await seen(reader, depth=Depth.EVERYTHING)
    tree.stands_in.clear()
    await reader.poll(depth=Depth.EVERYTHING)
    metadata = await reader.poll(depth=Depth.EVERYTHING)
    assert metadata.interface_id == Value("eni-0216")
    assert metadata.subnet_id == Value("subnet-02")
    assert {key.name for key in ENI_KEYS} >= set(LISTS)
