"""Reading the tables in docs/ whose rows name the tests that prove them."""

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parent
DOCS: Final = TESTS.parent / "docs"
NAME: Final = re.compile(r"`([\w/]+\.py)::([\w:]+)`")


def table_rows(page: str, columns: Sequence[str]) -> list[list[str]]:
    """The rows of all tables of a page; each table must have these columns."""
    lines = (DOCS / page).read_text().splitlines()
    rows = [_cells(line) for line in lines if line.startswith("|") and set(line) - set("|-")]
    assert [row for row in rows if len(row) != len(columns)] == []
    assert list(columns) in rows
    return [row for row in rows if row != list(columns)]


def table_of(page: str, columns: Sequence[str]) -> list[list[str]]:
    """The rows of the one table of a page that has these columns; the page may have others."""
    lines = (DOCS / page).read_text().splitlines()
    (start,) = (
        at for at, line in enumerate(lines) if line.startswith("|") and _cells(line) == columns
    )
    found = [
        _cells(line) for line in takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    ]
    assert [row for row in found if len(row) != len(columns)] == []
    return found


def _cells(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)[|]", line.strip("|"))
    return [cell.strip().replace(r"\|", "|") for cell in cells]


def names_only_tests(cell: str) -> bool:
    """Whether a cell names at least one test, and holds nothing else."""
    return bool(NAME.search(cell)) and not NAME.sub("", cell).strip()


def missing_tests(cells: Sequence[str]) -> list[str]:
    """The tests that these cells name and that do not exist, as FILE::TEST."""
    named = {match for cell in cells for match in NAME.findall(cell)}
    return sorted("::".join(name) for name in named if not exists(*name))


def exists(file: str, test: str) -> bool:
    """Whether pytest would collect a test of this name from this file under tests/."""
    path = TESTS / file
    names = set(_defined(ast.parse(path.read_text()).body)) if path.is_file() else set()
    return test in names and test.rsplit("::", maxsplit=1)[-1].lower().startswith("test")


def _defined(nodes: list[ast.stmt]) -> Iterator[str]:
    """Functions, classes, their methods, and the test cases of state machines."""
    for node in nodes:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name, body=body):
                yield name
                yield from (f"{name}::{inner}" for inner in _defined(body))
            case ast.Assign(targets=[ast.Name(id=name)]):
                yield name
