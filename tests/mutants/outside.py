"""Mutants of code outside functions: tables, constants, defaults, decorators."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Protocol

PYTEST: Final = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=ci")
VALUES: Final = "tests/core/test_values.py"
TESTS: Final = (
    "tests/core",
    "--ignore=tests/core/test_machine.py",
    "--deselect=tests/core/test_refresh.py::test_nothing_is_written_over_hours_of_renewals",
)


class Tally(Protocol):
    """Where results go."""

    def add(self, change: str, *, killed: bool) -> None:
        """Count one mutant."""


def run(copy: Path, found: Mapping[str, Tally], processes: int) -> None:
    """Try every mutant. Each process changes its own copy of the tree `copy`."""
    copies: SimpleQueue[Path] = SimpleQueue()
    for number in range(processes):
        another = copy.with_name(f"{copy.name}-{number}")
        shutil.rmtree(another, ignore_errors=True)  # of a run that was interrupted
        copies.put(Path(shutil.copytree(copy, another)))

    def killed(module: str, source: str) -> bool:
        mine = copies.get()
        path = mine / "nicwatchd" / "core" / f"{module}.py"
        original = path.read_text("utf-8")
        path.write_text(source, "utf-8")
        # Those of the module itself, and of all dataclasses, come first, as they find most.
        own = f"tests/core/test_{module}.py"
        first = (VALUES, own) if (mine / own).exists() else (VALUES,)
        noticed = any(_fail(mine, tests) for tests in (first, TESTS))
        path.write_text(original, "utf-8")
        copies.put(mine)
        return noticed

    if _fail(copy, TESTS):
        raise SystemExit("the tests fail as they are")
    with ThreadPoolExecutor(processes) as pool:
        for module, tally in found.items():
            original = (copy / "nicwatchd" / "core" / f"{module}.py").read_text("utf-8")
            mutants = list(mutants_of(original))
            results = pool.map(killed, [module] * len(mutants), [it for _, it in mutants])
            for (change, _), dead in zip(mutants, results, strict=True):
                tally.add(change, killed=dead)
    while not copies.empty():
        shutil.rmtree(copies.get())


def _fail(folder: Path, tests: tuple[str, ...]) -> bool:
    command = [sys.executable, *PYTEST, *tests]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True).returncode != 0


def mutants_of(source: str) -> Iterator[tuple[str, str]]:
    """Each change as text, and the complete source with it."""
    count = sum(1 for _ in _sites(ast.parse(source)))
    for number in range(count):
        tree = ast.parse(source)
        parent, name, place, new = list(_sites(tree))[number]
        old = getattr(parent, name) if place is None else getattr(parent, name)[place]
        change = f"line {getattr(old, 'lineno', 0)}: {ast.unparse(old)} -> "
        if isinstance(parent, ast.Dict) and new is None:
            del parent.keys[place or 0], parent.values[place or 0]
        elif place is None:
            setattr(parent, name, new)
        else:
            getattr(parent, name)[place] = new
        yield change + (ast.unparse(new) if new else "nothing"), ast.unparse(tree)


Site = tuple[ast.AST, str, int | None, ast.expr | None]  # parent, field, place in it, replacement


def _sites(node: ast.AST) -> Iterator[Site]:
    """The places below a node that can be changed, except functions, annotations and docstrings."""
    for name, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for number, child in enumerate(children):
            place = number if isinstance(value, list) else None
            if not isinstance(child, ast.AST) or name == "annotation" or _is_aside(child):
                continue
            if isinstance(node, ast.Dict) and name == "values":
                yield node, name, place, None
            yield from ((node, name, place, new) for new in _replacements(child))
            yield from _sites(child)


def _is_aside(node: ast.AST) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


def _replacements(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str(value)):
            yield ast.Constant(f"XX{value}XX")
        case ast.Constant(value=None):
            yield ast.Constant("")
        case ast.Tuple(elts=[]):
            yield ast.Constant(None)
        case ast.Attribute(value=ast.Name(id="State"), attr=state):  # of the table of states
            states = ("DETECTED", "AWAITING", "VALIDATED", "APPLIED", "IGNORED", "GONE")
            other = states[(states.index(state) + 1) % len(states)]
            yield ast.Attribute(ast.Name("State", ast.Load()), other, ast.Load())
