"""`make mutants`: does a test notice each change to the core's decisions? Writes docs/mutants.md.

mutmut makes one change at a time inside functions, and runs the core's fast tests that execute it.
It leaves out code outside functions (the table of states, constants, defaults), so `outside` does
the same there. All changes are made in a copy in build/, never in the tree.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.mutants import outside

ROOT: Final = Path(__file__).parents[2]
COPY: Final = ROOT / "build" / "mutants"
PAGE: Final = ROOT / "docs" / "mutants.md"
BEGIN, END = "<!-- written by make mutants: begin -->", "<!-- written by make mutants: end -->"
# All of the core but the port: what a kernel may answer is for the contract tests to hold.
ASIDE: Final = ("__init__", "port")
MODULES: Final = tuple(
    sorted(
        path.stem for path in (ROOT / "nicwatchd" / "core").glob("*.py") if path.stem not in ASIDE
    )
)
LEAST: Final = 0.9  # of the mutants of each module are to be killed,
LEAST_OF_ALL: Final = 0.97  # and so many of all of them
RESULT: Final = re.compile(r"^\s*(nicwatchd\.core\.(\w+)\.\S+): (.+)$", re.MULTILINE)
# A mutant that never ends, or that kills the process, is one that the tests noticed.
KILLED: Final = frozenset({"killed", "timeout", "segfault"})


@dataclass
class Module:
    """The results for the mutants of one module."""

    mutants: int = 0
    killed: int = 0
    survivors: list[str] = field(default_factory=list)

    def add(self, change: str, *, killed: bool) -> None:
        self.mutants += 1
        self.killed += killed
        self.survivors += [] if killed else [change]

    @property
    def rate(self) -> float:
        return self.killed / self.mutants if self.mutants else 0.0


def main() -> int:
    """Run all, print the survivors, and write the table; returns 1 if a module has too many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(MODULES)}; all by default")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    chosen = arguments.modules or MODULES
    if not set(chosen) <= set(MODULES):
        parser.error(f"the modules are {', '.join(MODULES)}")
    shutil.rmtree(COPY, ignore_errors=True)
    for part in ("nicwatchd", "tests", "docs"):
        shutil.copytree(ROOT / part, COPY / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", COPY)
    found = {module: Module() for module in chosen}
    _inside(found, arguments.processes)
    outside.run(COPY, found, arguments.processes)
    for module, result in found.items():
        for change in result.survivors:
            sys.stdout.write(f"survived in {module}:\n{change}\n\n")
    sys.stdout.write(f"{table(found)}\n")
    if set(found) == set(MODULES):
        _write(table(found))
    every = Module(
        sum(result.mutants for result in found.values()),
        sum(result.killed for result in found.values()),
    )
    good = all(result.rate >= LEAST for result in found.values() if result.mutants)
    return 0 if good and every.rate >= LEAST_OF_ALL else 1


def _inside(found: dict[str, Module], processes: int) -> None:
    patterns = [f"nicwatchd.core.{module}.*" for module in found]
    mutmut = [sys.executable, "-m", "mutmut"]
    subprocess.run(
        [*mutmut, "run", "--max-children", str(processes), *patterns], cwd=COPY, check=True
    )
    listing = _output([*mutmut, "results", "--all", "true"])
    for name, module, status in RESULT.findall(listing):
        if module in found:
            killed = status in KILLED
            change = (
                "" if killed else f"{name}: {status}\n{_change(_output([*mutmut, 'show', name]))}"
            )
            found[module].add(change, killed=killed)


def _output(command: list[str]) -> str:
    return subprocess.run(command, cwd=COPY, check=True, capture_output=True, text=True).stdout


def _change(difference: str) -> str:
    """The lines of a unified diff that changed."""
    lines = difference.splitlines()
    return "\n".join(x for x in lines if x[:1] in "+-" and x[:3] not in ("+++", "---"))


def table(found: dict[str, Module]) -> str:
    """The summary, as Markdown."""
    rows = ["| module | mutants | killed | survived | rate |", "|---|---:|---:|---:|---:|"]
    total = Counter[str]()
    for module, result in found.items():
        survived = result.mutants - result.killed
        total.update(mutants=result.mutants, killed=result.killed)
        rows.append(
            f"| `core/{module}.py` | {result.mutants} | {result.killed} | {survived} "
            f"| {result.rate:.1%} |"
        )
    mutants, killed = total["mutants"], total["killed"]
    rows.append(f"| all | {mutants} | {killed} | {mutants - killed} | {killed / mutants:.1%} |")
    return "\n".join(rows)


def _write(rows: str) -> None:
    page = PAGE.read_text("utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n\n{rows}\n\n{END}{rest.split(END)[1]}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
