"""docs/interfaces.md knows every code of a reason that the core gives."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.source import PACKAGE, ROOT

CORE = sorted((PACKAGE / "core").glob("*.py"))
# The first cells of the tables of codes: `a`, `b-ipv4`, `-ipv6`, ...
CELLS = re.compile(r"^\| ((?:`[a-zA-Z0-9-]+`(?:, )?)+) \|", re.MULTILINE)
MAKERS = {"Reason": 0, "Failure": 2}  # and the place of the code among the arguments


def documented() -> set[str]:
    codes: set[str] = set()
    for cell in CELLS.findall((ROOT / "docs" / "interfaces.md").read_text("utf-8")):
        stem = ""
        for code in re.findall(r"`([^`]+)`", cell):
            whole = stem + code if code.startswith("-") else code
            stem = whole.removesuffix("-ipv4").removesuffix("-ipv6")
            codes.add(whole)
    return codes


def given(path: Path) -> Iterator[str]:
    """Each code as a pattern: what an f-string fills in may be anything."""
    tree = ast.parse(path.read_text("utf-8"))
    named = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            place = MAKERS.get(node.func.id)
            if place is not None and len(node.args) > place:
                argument = node.args[place]
                value = named.get(argument.id) if isinstance(argument, ast.Name) else argument
                if value is not None:
                    yield from _pattern(value)


def _pattern(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str(code)):
            yield re.escape(code)
        case ast.JoinedStr(values=parts):
            yield "".join(
                re.escape(str(p.value)) if isinstance(p, ast.Constant) else r"[\w-]+" for p in parts
            )


def test_there_are_codes_on_both_sides() -> None:
    assert len(documented()) > 25
    assert len({code for path in CORE for code in given(path)}) > 20


@pytest.mark.parametrize("code", sorted({code for path in CORE for code in given(path)}))
def test_each_code_is_explained(code: str) -> None:
    assert any(re.fullmatch(code, known) for known in documented())
