"""The core's values: frozen, so that what was decided cannot change behind anybody's back."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType

import pytest

import nicwatchd.core

MODULES = sorted(path.stem for path in Path(nicwatchd.core.__path__[0]).glob("*.py"))
# They keep books, and say so.
MUTABLE = {"Request", "_Batch", "_Losses"}


def dataclasses_of(module: ModuleType) -> Iterator[type]:
    for value in vars(module).values():
        mine = getattr(value, "__module__", None) == module.__name__
        if mine and isinstance(value, type) and dataclasses.is_dataclass(value):
            yield value


def draws_conclusions(value: type) -> bool:
    """Whether it keeps what follows from its fields: there is one for each ENI, not thousands."""
    return any(isinstance(each, cached_property) for each in vars(value).values())


@pytest.mark.parametrize("name", MODULES)
def test_every_value_is_frozen_and_has_slots(name: str) -> None:
    for value in dataclasses_of(importlib.import_module(f"nicwatchd.core.{name}")):
        frozen = vars(value)["__dataclass_params__"].frozen
        assert frozen is (value.__name__ not in MUTABLE), value
        if not draws_conclusions(value):
            assert "__slots__" in vars(value), value
            assert "__dict__" not in dir(value), value


@pytest.mark.parametrize("name", [name for name in MODULES if name != "__init__"])
def test_every_module_says_what_it_reads_and_what_it_gives(name: str) -> None:
    said = importlib.import_module(f"nicwatchd.core.{name}").__doc__ or ""
    assert re.search(r"\bReads: \S", said)
    assert re.search(r"\bGives: \S", said)


def test_the_reading_order_names_every_module() -> None:
    said = nicwatchd.core.__doc__ or ""
    assert [name for name in MODULES if not re.search(rf"\b{name}\b", said)] == ["__init__"]
