"""The source code as syntax trees: modules, their imports, and the length of functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeAlias

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = ROOT / "nicwatchd"
MODULES: Final = sorted(PACKAGE.rglob("*.py"))

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """`nicwatchd.core.model` for nicwatchd/core/model.py; a package has its directory's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, root: Path = ROOT) -> Iterator[str]:
    """Every dotted name that a module imports, anywhere in the module."""
    package = path.relative_to(root).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*base, *filter(None, [node.module])))
            yield from (f"{source}.{alias.name}" for alias in node.names)


def import_graph() -> dict[str, set[str]]:
    """The modules of nicwatchd that each module imports, including those only for types."""
    names = {name_of(path) for path in MODULES}
    return {
        name_of(path): {_module(name, names) for name in imported(path)} & names for path in MODULES
    }


def _module(name: str, modules: set[str]) -> str:
    """The module that an imported name is, or that contains it."""
    return name if name in modules else name.rpartition(".")[0]


def functions(path: Path) -> Iterator[Function]:
    """The functions and methods of a module, including nested ones."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def lines_of(node: ast.ClassDef | Function) -> int:
    """Its number of lines, from the line with its name to the last."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def classes(path: Path) -> Iterator[ast.ClassDef]:
    """The classes of a module, including nested ones."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            yield node
