"""The table of the comparison, its budgets, and where they are written."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nicwatchd.sim.probe import UNDISTURBED
from tests.bench import report
from tests.bench.peers.agents import AGENTS
from tests.bench.peers.measure import PROBES, PROBES_PRIMARY, Found
from tests.bench.peers.scenarios import LAG
from tests.vm.vm import QEMU

DATA: Final = report.DOCS / "peers.json"
NOTHING: Final = "-"  # not measured: it did not work before

# The scenarios about the rest of the host, which can be run alone: beside.py.
BESIDE: Final = frozenset({"unbound", "neighbour", "published port", "address of the primary"})

Results = Mapping[str, Mapping[str, Any]]  # by agent, then scenario; "versions" beside those
Cell = Callable[[Found], str]

# --- budgets -------------------------------------------------------------------------------------

# s from complete metadata to reachability: one poll, one probe, and the work in between. That is
# 0.15 s on a real machine (the 0.4 s of docs/benchmarks.md's p99 less the poll), here ten times.
POLL: Final = 0.25
WORK: Final = 1.5
REACT: Final = POLL + PROBES + WORK
COALESCED: Final = 0.1  # s that the daemon waits for more deletions before it heals
REFRESH: Final = 60.0  # s between two reads of what may change in place
RULES_MISSING: Final = 1.0  # s
UNBOUND: Final = 1.0  # s; docs/benchmarks.md's 0.1 s, here ten times


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget of nicwatchd, in s, or of things if `counts`; `value` is None: it never happened."""

    what: str
    value: float | None
    at_most: float
    counts: bool = False

    @property
    def kept(self) -> bool:
        """Whether it happened, and in time."""
        return self.value is not None and self.value <= self.at_most

    @property
    def shown(self) -> tuple[str, str]:
        """What was measured and the budget, for people."""
        unit = count if self.counts else seconds
        return unit(self.value), unit(self.at_most)

    def __str__(self) -> str:
        measured, budget = self.shown
        return f"{self.what}: {measured}, budget {budget}"


def budgets(results: Results) -> list[Budget]:
    """The budgets that apply to these results."""
    found = results.get("nicwatchd")
    if found is None:
        return []
    of_the_eni = _budgets(found) if "race" in found else ()
    return [*of_the_eni, *_beside(found)]


def _budgets(found: Mapping[str, Found]) -> Iterator[Budget]:
    race, v4_only, complete = found["race"], found["race without DHCPv6"], found["complete"]
    yield Budget("the race: IPv6, before IMDS is complete", race["IPv6"], LAG)
    yield Budget("the race without DHCPv6: IPv6", v4_only["IPv6"], LAG + REACT)
    for family in ("IPv4", "IPv6"):
        yield Budget(f"complete at once: {family}", complete[family], LAG)
    for name, seen in found.items():
        if "silence of the primary" in seen:
            silence = seen["silence of the primary"]
            yield Budget(f"{name}: silence of the primary", silence, PROBES_PRIMARY + UNDISTURBED)
        if "rules missing" in seen:
            yield Budget(f"{name}: rules missing", seen["rules missing"], RULES_MISSING)
    if "flush" in found:
        allowed = found["flush"]["flushing took"] + COALESCED + PROBES + WORK
        for family in ("IPv4", "IPv6"):
            yield Budget(f"all rules flushed: {family}", found["flush"][family], allowed)
    for what, value in found.get("in place", {}).items():
        if what != "left":
            yield Budget(f"added in place: {what}", value, REFRESH + REACT)
    left = sum(map(len, found["detach"]["left behind"].values()))
    yield Budget("left behind after detach, lines", float(left), 0.0, counts=True)


def _beside(found: Mapping[str, Found]) -> Iterator[Budget]:
    """What it must not cost the rest of the host, and must give it."""
    for family in ("IPv4", "IPv6"):
        for scenario, what in (
            ("neighbour", "the new subnet's neighbour does not reach the primary"),
            ("published port", "a published port is not reached by everybody"),
        ):
            if scenario in found:
                lost = float(not found[scenario][family])
                yield Budget(f"{what}: {family}", lost, 0.0, counts=True)
        if "unbound" in found:
            longest = found["unbound"][family]
            yield Budget(f"unbound traffic not by the primary: {family}", longest, UNBOUND)
        if "address of the primary" in found:
            after = found["address of the primary"][family]
            yield Budget(f"an address added to the primary: {family}", after, REFRESH + REACT)


# --- the table -----------------------------------------------------------------------------------


def seconds(value: float | None) -> str:
    """A time for people."""
    if value is None:
        return "never"
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def count(value: float | None) -> str:
    """A number of things, for people."""
    return "never" if value is None else f"{value:.0f}"


def both(found: Found) -> str:
    """IPv4 and IPv6, one after the other."""
    return f"{seconds(found['IPv4'])}, {seconds(found['IPv6'])}"


def elsewhere(found: Found) -> str:
    """IPv4 and IPv6: the longest stretch by another link; one without an end stays there."""
    times = (found[family] for family in ("IPv4", "IPv6"))
    return ", ".join("stays there" if time is None else seconds(time) for time in times)


def yes_no(found: Found) -> str:
    """IPv4 and IPv6, as yes or no."""
    return ", ".join("yes" if found[family] else "no" for family in ("IPv4", "IPv6"))


def time_of(key: str) -> Cell:
    """A time that may be missing."""
    return lambda found: seconds(found[key]) if key in found else NOTHING


def cpu(found: Found) -> str:
    """CPU until both families stayed reachable, and in the whole window."""
    never = found["IPv4"] is None or found["IPv6"] is None
    until = "" if never else f"{found['cpu until then']:.1f} s of "
    return f"{until}{found['cpu']:.1f} s"


def requests(found: Found) -> str:
    """Requests, like `cpu`."""
    never = found["IPv4"] is None or found["IPv6"] is None
    until = "" if never else f"{found['requests until then']} of "
    return f"{until}{found['requests']}"


def pair(what: str) -> Cell:
    """The times for both families of something that was added."""
    return lambda f: f"{seconds(f[f'{what}, IPv4'])}, {seconds(f[f'{what}, IPv6'])}"


def taken(what: str) -> Cell:
    """When the objects of a kind were gone."""

    def cell(found: Found) -> str:
        times = [value for name, value in found["left"].items() if name.startswith(what)]
        texts = ["stays" if time is None else seconds(time) for time in times]
        return ", ".join(texts) or NOTHING

    return cell


def left(found: Found) -> str:
    """The number of lines of each kind."""
    kinds = found["left behind"]
    return ", ".join(f"{kind}: {len(lines)}" for kind, lines in kinds.items()) or "nothing"


REACHED: Final = "IPv4, IPv6 stay reachable after"
ROWS: Final[tuple[tuple[str, str, Cell], ...]] = (
    (f"the race: {REACHED}", "race", both),
    ("the race: IMDS requests", "race", requests),
    ("the race: CPU", "race", cpu),
    ("the race: silence of the primary", "race", time_of("silence of the primary")),
    (f"the race without DHCPv6: {REACHED}", "race without DHCPv6", both),
    ("the race without DHCPv6: IMDS requests", "race without DHCPv6", requests),
    ("the race without DHCPv6: CPU", "race without DHCPv6", cpu),
    (f"complete at once: {REACHED}", "complete", both),
    ("complete at once: IMDS requests", "complete", requests),
    ("complete at once: CPU", "complete", cpu),
    ("a quiet minute: IMDS requests", "quiet", lambda f: f"{f['requests']:.0f}"),
    ("a quiet minute: CPU", "quiet", lambda f: f"{f['cpu']:.1f} s"),
    ("the new subnet's neighbour reaches the primary", "neighbour", yes_no),
    (f"a second address of the primary: {REACHED}", "address of the primary", both),
    ("unbound traffic of the host: longest not by the primary, IPv4, IPv6", "unbound", elsewhere),
    ("a port that a container publishes, on the ENI: IPv4, IPv6", "published port", yes_no),
    ("all rules flushed: longest silence of IPv4, IPv6", "flush", both),
    (f"a second address of each family added: {REACHED}", "in place", pair("address")),
    (f"a prefix of each family added: {REACHED}", "in place", pair("prefix")),
    ("the addresses removed: gone after", "in place", taken("address")),
    ("the prefixes removed: gone after", "in place", taken("prefix")),
    ("second hot-plug: silence of the first ENI", "second", time_of("silence of the first")),
    ("second hot-plug: rules of the first ENI missing", "second", time_of("rules missing")),
    (
        "the same without the networkd drop-in",
        "second without the drop-in",
        time_of("rules missing"),
    ),
    ("detach: left behind", "detach", left),
    ("detach: silence of the primary", "detach", time_of("silence of the primary")),
)


def markdown(results: Results) -> str:
    """The table: a column for each agent."""
    names = list(results)
    lines = [
        "| | " + " | ".join(AGENTS[name].title for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for title, scenario, cell in ROWS:
        cells = [
            cell(results[name][scenario]) if scenario in results[name] else NOTHING
            for name in names
        ]
        if set(cells) != {NOTHING}:
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def described(
    results: Results, machine: Mapping[str, str], beside: Mapping[str, str] | None = None
) -> str:
    """The machine, and the versions on each of the machines that it emulated.

    `beside`: another one, on which the rows about the rest of the host were measured.
    """
    lines = [_machine(machine) + "."]
    if beside is not None and beside != machine:
        rows = "; ".join(title for title, scenario, _ in ROWS if scenario in BESIDE)
        lines[0] += f" Measured later, on {_machine(beside)}: {rows}."
    lines.append("")
    for name, found in results.items():
        versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
        lines.append(f"- {AGENTS[name].title}: {versions}")
    return "\n".join(lines)


def _machine(machine: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def emulator() -> dict[str, str]:
    """The host and the emulator of the machines."""
    output = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version ([\d.]+)", output)
    on = report.machine()
    return {"CPU": on["CPU"], "kernel": on["kernel"], "QEMU": version[1] if version else output}


def verdicts(results: Results) -> str:
    """nicwatchd's budgets, each kept or missed."""
    lines = ["| nicwatchd's budgets | measured | budget | |", "|---|---|---|---|"]
    for budget in budgets(results):
        verdict = "kept" if budget.kept else "**missed**"
        row = (budget.what, *budget.shown, verdict)
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def write(results: Results, machine: Mapping[str, str], *, beside: bool = False) -> None:
    """Write the JSON, and the tables into the page, between their markers.

    Agents that were left out this time keep their earlier results from the same machine. With
    `beside`, which is about the rows of BESIDE alone, the other rows stay, whatever machine they
    are from.
    """
    known = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
    agents = known.get("agents", {})
    if known.get("beside") != machine:
        agents = {name: _others(found) for name, found in agents.items()}
    if beside:
        agents |= {name: {**agents.get(name, {}), **found} for name, found in results.items()}
    else:
        agents = {**(agents if known.get("machine") == machine else {}), **results}
    agents = {name: agents[name] for name in AGENTS if name in agents}
    of_others = known.get("machine", machine) if beside else machine
    data = {"machine": of_others, "beside": machine, "agents": agents}
    DATA.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    report.fill_in("make bench-peers", *parts(data))


def parts(data: Mapping[str, Any]) -> tuple[str, str, str]:
    """What the page says of the data: the machines, the rows, and nicwatchd's budgets."""
    agents = data["agents"]
    on = described(agents, data["machine"], data["beside"])
    return on, markdown(agents), verdicts(agents)


def _others(found: Mapping[str, Any]) -> dict[str, Any]:
    return {scenario: seen for scenario, seen in found.items() if scenario not in BESIDE}
