"""The figures as a table and as JSON, with the machine that they were measured on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from nicwatchd import __version__
from tests.bench.figures import Figure

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE, DATA = DOCS / "benchmarks.md", DOCS / "benchmarks.json"
BEGIN, END = "<!-- written by make bench: begin -->", "<!-- written by make bench: end -->"
LIBRARIES: Final = ("aiohttp", "pydantic", "pyroute2")


def machine() -> dict[str, str]:
    """What the figures depend on, and nothing that names the machine.

    The load is that of the minute before: other work on the same cores makes figures worse.
    """
    return {
        "CPU": f"{os.cpu_count()} x {_cpu_model()}",
        "load at the start": f"{os.getloadavg()[0]:.1f}",
        "kernel": platform.release().split("-")[0],
        "Python": platform.python_version(),
        "nicwatchd": __version__,
        **{name: version(name) for name in LIBRARIES},
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def table(figures: Iterable[Figure]) -> str:
    """The figures as Markdown."""
    rows = ["| what | measured | budget | |", "|---|---|---|---|"]
    for figure in figures:
        measured = ", ".join(f"{s} {figure.text(figure.value(s))}" for s in figure.statistics)
        if len(figure.samples) == 1:
            measured = figure.text(figure.samples[0])
        if figure.note:
            measured += f" ({figure.note})"
        budget = ", ".join(_limit(figure, *limit) for limit in _limits(figure))
        verdict = ("kept" if figure.met else "**missed**") if figure.limits else ""
        rows.append(f"| {figure.what} | {measured} | {budget} | {verdict} |")
    return "\n".join(rows) + "\n"


def _limits(figure: Figure) -> list[tuple[str, float]]:
    return [(limit.statistic, limit.at_most) for limit in figure.limits]


def _limit(figure: Figure, statistic: str, at_most: float) -> str:
    return f"{'' if statistic == 'max' else statistic + ' '}{figure.text(at_most)}"


def write(figures: Sequence[Figure], seed: int, on: Mapping[str, str]) -> None:
    """Write the JSON, and the table into the page, between its markers."""
    data = {
        "machine": dict(on),
        "seed": seed,
        "figures": [_as_data(figure) for figure in figures],
    }
    DATA.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    described = ", ".join(f"{name} {said}" for name, said in on.items())
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    text = f"{before}{BEGIN}\n\n{described}.\n\n{table(figures)}\n{END}{after}"
    PAGE.write_text(text, encoding="utf-8")


def _as_data(figure: Figure) -> dict[str, object]:
    """A figure for programs, in the unit that it was measured in."""
    return {
        "what": figure.what,
        "unit": "s" if figure.unit in ("ms", "s") else figure.unit + figure.suffix,
        "values": {name: round(figure.value(name), 6) for name in ("median", "p99", "max")},
        "limits": {limit.statistic: limit.at_most for limit in figure.limits},
        "kept": figure.met,
        "samples": [round(sample, 6) for sample in figure.samples],
        **figure.details,
    }
