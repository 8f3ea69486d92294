"""The shape of the code, held by reading its syntax: who imports whom, and how long things are."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nicwatchd"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each part and what it may import besides itself. Facts flow upwards: core knows nobody, imds and
# netlink do not know each other, and the imitated host never leans on the service that it tests.
MAY_IMPORT = {
    "core": set(),
    "imds": {"core"},
    "netlink": {"core"},
    "service": {"core", "imds", "netlink"},
    "sim": {"core", "imds", "netlink"},
    "cli": {"core", "imds", "netlink", "service", "sim"},
    "__main__": {"cli"},
    "__init__": set(),
}

# The core takes facts and the time as arguments; what would fetch them has no place in it.
IMPURE = {
    "asyncio",
    "http",
    "logging",
    "os",
    "pathlib",
    "selectors",
    "socket",
    "subprocess",
    "threading",
    "time",
    "urllib",
}

# ... but for tables of constants that happen to live there.
PURE = {"os.strerror"}

MODULE_LINES = 400
FUNCTION_LINES = 40


def part_of(path: Path) -> str:
    """`core` for nicwatchd/core/model.py, `__main__` for nicwatchd/__main__.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Every dotted name that a module imports, wherever in the module it does so."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*base, *filter(None, [node.module])))
            yield from (f"{source}.{alias.name}" for alias in node.names)


def parts_imported(path: Path) -> set[str]:
    names = (name.split(".") for name in imported(path))
    return {name[1] for name in names if name[0] == "nicwatchd" and name[1:2]} & MAY_IMPORT.keys()


def libraries_imported(path: Path) -> set[str]:
    names = set(imported(path)) - PURE
    return {name.split(".")[0] for name in names} - {"nicwatchd"}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.fixture(params=MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def module(request: pytest.FixtureRequest) -> Path:
    path = request.param
    assert isinstance(path, Path)
    return path


def test_every_module_belongs_to_a_known_part() -> None:
    assert {part_of(path) for path in MODULES} <= MAY_IMPORT.keys()


def test_imports_run_one_way(module: Path) -> None:
    part = part_of(module)
    assert parts_imported(module) <= MAY_IMPORT[part] | {part}


def test_libraries_have_their_homes(module: Path) -> None:
    libraries = libraries_imported(module)
    if part_of(module) == "core":
        assert libraries <= sys.stdlib_module_names - IMPURE
    if part_of(module) != "netlink":
        assert "pyroute2" not in libraries


def test_modules_fit_in_the_head(module: Path) -> None:
    assert len(module.read_text().splitlines()) < MODULE_LINES


def test_functions_fit_on_a_screen(module: Path) -> None:
    lengths = {f.name: (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions(module)}
    assert {name: n for name, n in lengths.items() if n >= FUNCTION_LINES} == {}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("import nicwatchd.service.loop", {"service"}),
        ("from nicwatchd import cli", {"cli"}),
        ("from nicwatchd.service import loop", {"service"}),
        ("from ..service import loop", {"service"}),
        ("from .. import service", {"service"}),
        ("from . import model", {"core"}),
        ("def f():\n    import nicwatchd.netlink", {"netlink"}),
        ("from nicwatchd import __version__", set()),
        ("import nicwatchd_other.service", set()),
    ],
)
def test_every_way_to_import_is_seen(
    line: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "nicwatchd" / "core" / "example.py"
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert parts_imported(path) == expected
