"""Who imports whom, held by reading the syntax of the code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.source import MODULES, PACKAGE, imported

# Each part and what it may import besides itself. Facts flow upwards: core knows nobody, imds and
# netlink do not know each other, and the simulated host never depends on the service that it tests.
MAY_IMPORT = {
    "core": set(),
    "imds": {"core"},
    "netlink": {"core"},
    "recording": {"core"},
    "service": {"core", "imds", "netlink", "recording"},
    "sim": {"core", "imds", "netlink", "recording"},
    "cli": {"core", "imds", "netlink", "recording", "service", "sim"},
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


def part_of(path: Path) -> str:
    """`core` for nicwatchd/core/model.py."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parts_imported(path: Path, root: Path = PACKAGE.parent) -> set[str]:
    names = (name.split(".") for name in imported(path, root))
    return {name[1] for name in names if name[0] == "nicwatchd" and name[1:2]} & MAY_IMPORT.keys()


def libraries_imported(path: Path) -> set[str]:
    names = set(imported(path)) - PURE
    return {name.split(".")[0] for name in names} - {"nicwatchd"}


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
        ("if TYPE_CHECKING:\n    from nicwatchd import sim", {"sim"}),
        ("from nicwatchd import __version__", set()),
        ("import nicwatchd_other.service", set()),
    ],
)
def test_every_way_to_import_is_seen(line: str, expected: set[str], tmp_path: Path) -> None:
    path = tmp_path / "nicwatchd" / "core" / "example.py"
    path.parent.mkdir(parents=True)
    path.write_text(line)
    assert parts_imported(path, tmp_path) == expected
