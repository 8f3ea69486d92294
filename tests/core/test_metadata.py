"""IMDS's keys, as EC2's manual spells them, and a reading made of an answer for each."""

from __future__ import annotations

from typing import Any, Final

from nicwatchd.core.metadata import (
    ABSENT,
    ENI_KEYS,
    KEYS,
    NOT_ASKED,
    Answer,
    EniMetadata,
    FamilyMetadata,
    Unknown,
    Value,
)
from tests.core.build import V4, V6

SPELLED: Final = [
    ("mac", "mac", None),
    ("interface-id", "interface_id", None),
    ("subnet-id", "subnet_id", None),
    ("vpc-id", "vpc_id", None),
    ("security-group-ids", "security_groups", None),
    ("device-number", "device_number", None),
    ("network-card", "network_card", None),
    ("local-ipv4s", "addresses", V4),
    ("ipv4-prefix", "prefixes", V4),
    ("subnet-ipv4-cidr-block", "cidrs", V4),
    ("ipv6s", "addresses", V6),
    ("ipv6-prefix", "prefixes", V6),
    ("subnet-ipv6-cidr-blocks", "cidrs", V6),
]
SINGLE: Final = (
    "mac",
    "interface_id",
    "subnet_id",
    "vpc_id",
    "security_groups",
    "device_number",
    "network_card",
)
LISTS: Final = ("addresses", "prefixes", "cidrs")


def test_the_keys_are_spelled_as_imds_spells_them() -> None:
    assert [(key.name, key.field, key.family) for key in ENI_KEYS] == SPELLED
    assert [str(key) for key in ENI_KEYS] == [name for name, _, _ in SPELLED]
    assert [key.name for key in ENI_KEYS if key.many] == [name for name, _, of in SPELLED if of]
    assert {key.field for key in ENI_KEYS if key.assigned} == {"addresses", "prefixes"}
    for family in (V4, V6):
        assert {field: key.name for field, key in KEYS[family].items()} == {
            field: name for name, field, of in SPELLED if of is family
        }


def test_a_reading_has_each_answer_in_its_place() -> None:
    answers: dict[str, Answer[Any]] = {key.name: Value(key.name) for key in ENI_KEYS}
    directory = Value(frozenset(answers))
    reading = EniMetadata.from_answers(directory, answers, ("ipv6s: x",))
    assert (reading.directory, reading.refused) == (directory, ("ipv6s: x",))
    said = [getattr(reading, field) for field in SINGLE]
    said += [getattr(reading.v4, field) for field in LISTS]
    said += [getattr(reading.v6, field) for field in LISTS]
    assert said == [Value(name) for name, _, _ in SPELLED]
    assert [reading.answer(key) for key in ENI_KEYS] == said
    for family in (V4, V6):
        assert list(reading.lists(family)) == [
            (key, Value(key.name)) for key in ENI_KEYS if key.family is family
        ]
    assert EniMetadata.from_answers(ABSENT, answers).refused == ()


def test_a_list_that_a_family_has_no_key_for_is_absent() -> None:
    cidrs = KEYS[V4]["cidrs"]
    assert FamilyMetadata.from_lists({cidrs: Value(())}) == FamilyMetadata(
        ABSENT, ABSENT, Value(())
    )


def test_before_the_first_reading_nothing_is_known() -> None:
    reading = EniMetadata()
    assert Unknown("not asked yet") == NOT_ASKED
    assert {reading.answer(key) for key in ENI_KEYS} == {NOT_ASKED}
    assert (reading.directory, reading.refused) == (NOT_ASKED, ())
