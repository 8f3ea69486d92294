"""docs/doctor.md names every code that `nicwatchd doctor` may print, with its severity."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.doc_tables import table_rows
from tests.source import PACKAGE

COLUMNS = ("code", "severity", "what it means", "what mends it")
WORDS = {"fail": "FAIL", "warn": "WARN"}


def said(path: Path) -> Iterator[tuple[str, str]]:
    """The codes of a module's findings, each with a severity."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            code = node.args[0]
            if node.func.id in WORDS and isinstance(code, ast.Constant):
                yield str(code.value), WORDS[node.func.id]


def test_each_code_is_explained() -> None:
    found: dict[str, set[str]] = {}
    for path in (PACKAGE / "cli" / "diagnosis").glob("*.py"):
        for code, severity in said(path):
            found.setdefault(code, set()).add(severity)
    explained = {
        code.strip("`"): set(severity.split(" or "))
        for code, severity, *_ in table_rows("doctor.md", COLUMNS)
    }
    assert explained == found
