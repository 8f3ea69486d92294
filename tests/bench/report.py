"""Writes the figures as a table and as JSON, with the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

from nicwatchd import __version__
from tests.bench.figures import Figure, Limit

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGE, DATA = DOCS / "benchmarks.md", DOCS / "benchmarks.json"
LIBRARIES: Final = ("aiohttp", "pydantic", "pyroute2")


def machine() -> dict[str, str]:
    """What the figures depend on; nothing that identifies the machine."""
    return {
        "CPU": f"{os.cpu_count()} x {_cpu_model()}",
        "kernel": platform.release().split("-")[0],
        "Python": platform.python_version(),
        "nicwatchd": __version__,
        **{name: version(name) for name in LIBRARIES},
    }


def additions() -> float:
    """The CPU time of ten million additions in a loop (s): how fast a core is today.

    On a virtual machine that can be half of what it was yesterday, and CPU times go with it.
    """
    begin, total = time.process_time(), 0
    for number in range(10_000_000):
        total += number
    return time.process_time() - begin


class Others:
    """The share of the machine's CPU time that other work took, which makes figures worse."""

    def __init__(self) -> None:
        self._start, self._busy, self._ours = time.monotonic(), _busy(), _ours()

    def share(self) -> float:
        """The share since the start; 1.0 is all cores. Call it after the children have exited."""
        theirs = _busy() - self._busy - (_ours() - self._ours)
        cores = os.cpu_count() or 1
        return max(0.0, theirs / (time.monotonic() - self._start) / cores)


def _busy() -> float:
    """CPU seconds of all cores together, without idle and iowait."""
    total = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _, _, *interrupts_and_steal = map(int, total)
    return (user + nice + system + sum(interrupts_and_steal)) / os.sysconf("SC_CLK_TCK")


def _ours() -> float:
    """CPU seconds of this process and of its children that have exited."""
    return sum(os.times()[:4])


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
        budget = ", ".join(_budget(figure, limit) for limit in figure.limits)
        verdict = ("kept" if figure.met else "**missed**") if figure.limits else ""
        rows.append(f"| {figure.what} | {measured} | {budget} | {verdict} |")
    return "\n".join(rows) + "\n"


def _budget(figure: Figure, limit: Limit) -> str:
    statistic = "" if limit.statistic == "max" else f"{limit.statistic} "
    return statistic + figure.text(limit.at_most)


def write(figures: Sequence[Figure], seed: int, others: float) -> None:
    """Write the JSON, and the table into the page, between its markers."""
    on, speed = machine(), additions()
    data = {
        "machine": on,
        "additions": round(speed, 2),
        "others": round(others, 4),
        "seed": seed,
        "figures": [_as_data(figure) for figure in figures],
    }
    DATA.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    described = ", ".join(f"{name} {value}" for name, value in on.items())
    described += f". Other work took {others:.0%} of its CPU time."
    described += f" Ten million additions in a loop of Python take {speed:.2f} s there."
    fill_in("make bench", described, table(figures))


def markers(command: str) -> tuple[str, str]:
    """The markers in the page around the part that a command writes."""
    return f"<!-- written by {command}: begin -->", f"<!-- written by {command}: end -->"


def fill_in(command: str, *parts: str, page: Path | None = None) -> None:
    """Write the results of a command into its page, PAGE if not given, between its markers."""
    page = page or PAGE
    begin, end = markers(command)
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    text = "\n\n".join(part.strip() for part in (begin, *parts, end))
    page.write_text(before + text + after, encoding="utf-8")


def _as_data(figure: Figure) -> dict[str, object]:
    """A figure for the JSON, in the unit in which it was measured."""
    return {
        "what": figure.what,
        "unit": "s" if figure.unit in ("ms", "s") else figure.unit + figure.suffix,
        "values": {name: round(figure.value(name), 6) for name in ("median", "p99", "max")},
        "limits": {limit.statistic: limit.at_most for limit in figure.limits},
        "kept": figure.met,
        "samples": [round(sample, 6) for sample in figure.samples],
        **figure.details,
    }
