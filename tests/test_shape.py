"""How long things are, and how deep: what has to fit in the head."""

from __future__ import annotations

from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

from tests.source import MODULES, PACKAGE, classes, functions, import_graph, lines_of

MODULE_LINES: Final = 400
CLASS_LINES: Final = 250
FUNCTION_LINES: Final = 40
CORE: Final = "nicwatchd.core."
# Whoever wants to know how the top of the core works reads down this far at most.
CORE_LAYERS: Final = 9

Graph = dict[str, set[str]]


@pytest.fixture(params=MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def module(request: pytest.FixtureRequest) -> Path:
    path = request.param
    assert isinstance(path, Path)
    return path


def test_modules_fit_in_the_head(module: Path) -> None:
    assert len(module.read_text().splitlines()) < MODULE_LINES


def test_classes_fit_in_the_head(module: Path) -> None:
    lengths = {each.name: lines_of(each) for each in classes(module)}
    assert {name: n for name, n in lengths.items() if n > CLASS_LINES} == {}


def test_functions_fit_on_a_screen(module: Path) -> None:
    lengths = {function.name: lines_of(function) for function in functions(module)}
    assert {name: n for name, n in lengths.items() if n >= FUNCTION_LINES} == {}


def bottom_up(graph: Graph) -> Iterable[str]:
    """The modules, each after those that it imports; CycleError names a circle."""
    return TopologicalSorter(graph).static_order()


def longest_chain(graph: Graph) -> list[str]:
    """The longest way down from one module to another that it needs, by imports."""
    chains: dict[str, list[str]] = {}
    for name in bottom_up(graph):
        below = (chains[other] for other in graph[name])
        chains[name] = [name, *max(below, key=len, default=[])]
    return max(chains.values(), key=len, default=[])


def test_no_imports_go_in_a_circle() -> None:
    graph = import_graph()
    assert len(list(bottom_up(graph))) == len(MODULES)


def test_the_core_has_few_layers() -> None:
    core = {
        name: {other for other in below if other.startswith(CORE)}
        for name, below in import_graph().items()
        if name.startswith(CORE)
    }
    chain = longest_chain(core)
    assert len(chain) <= CORE_LAYERS, " <- ".join(reversed(chain))


def test_the_longest_chain_is_found() -> None:
    assert longest_chain({"a": {"b", "d"}, "b": {"c"}, "c": {"d"}, "d": set()}) == list("abcd")
