"""Where the time goes: `make profile` profiles a start, a quiet minute and deleted rules.

The host is that of the crowd: 64 ENIs of 50 + 50 addresses. A profiler takes most of the time
itself, so shares are printed, beside the CPU time that the same takes without one.
"""

from __future__ import annotations

import argparse
import asyncio
import pstats
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from nicwatchd.sim import sandbox
from tests.bench import crowd, growth, heal, host, outside, report
from tests.bench.quiet import Process

# The second of the four phases, between a start and the time of rest, is not shown.
PHASES: Final = {0: "start", 2: "a quiet minute, with renewals", 3: "one deleted rule"}
RULES: Final = 8
SETTLE, MINUTE = 65.0, 60.0  # s
PAGE: Final = Path("docs/performance.md")

# The parts of a turn, and what is around it. A call counts for the innermost of these.
PARTS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "judging, planning, comparing": (("core/decide.py", "decide"),),
    "looking up, and the verdict": (("core/turn.py", "_end"), ("core/lookups.py", "wanted")),
    "reading the kernel": (
        ("service/driver.py", "_read_links"),
        ("service/driver.py", "_read_objects"),
    ),
    "writing to the kernel": (("service/driver.py", "_apply"),),
    "events of the kernel": (("netlink/events.py", "_drain"), ("core/turn.py", "take_event")),
    "what IMDS said": (("core/turn.py", "take_reading"),),
    "asking IMDS: HTTP, parsing": (("imds/eni.py", "poll"),),
    "whom to ask, and when": (
        ("service/questions.py", "ask_due"),
        ("core/turn.py", "next_at"),
    ),
    "telling: status, journal": (("service/daemon.py", "_report"),),
    "imports": (("<frozen importlib._bootstrap>", "_find_and_load"),),
}


def shares(path: Path) -> dict[str, float]:
    """How much of the profiled time each of the parts took; `all else` is the rest."""
    stats = pstats.Stats(str(path))
    cumulative: dict[tuple[str, str], float] = {
        (file, name): its[3]
        for (file, _, name), its in stats.stats.items()  # type: ignore[attr-defined]
    }
    found = {
        part: sum(
            seconds
            for (file, name), seconds in cumulative.items()
            if any(file.endswith(end) and name == function for end, function in wanted)
        )
        for part, wanted in PARTS.items()
    }
    total: float = stats.total_tt  # type: ignore[attr-defined]
    found["all else"] = max(0.0, total - sum(found.values()))
    return {part: time_ / total for part, time_ in found.items()}


async def _run(enis: int, base: str | None) -> list[float]:
    """The CPU seconds of each phase; with a profile at `base`, if given."""
    scripts = [crowd.script(number) for number in range(1, enis + 1)]
    names = [script.name for script in scripts]
    path = Path(__file__).parent / "profiled"
    wrapper = ("env", f"PYTHONPATH={path}:.", f"PROFILED={base}") if base else ()
    spent: list[float] = []

    async with host.host(*scripts) as ec2:
        await crowd.plug_all(ec2, scripts)
        daemon = await ec2.start_daemon(wrapper=wrapper)
        process = Process(daemon.process.pid)

        def end(before: float) -> float:
            spent.append(process.cpu() - before)
            if base:
                daemon.process.send_signal(signal.SIGUSR2)
            return process.cpu()

        await crowd.all_applied(daemon, enis)
        before = end(0.0)
        renewing = asyncio.create_task(growth.renewals(ec2, names, MINUTE))
        await asyncio.sleep(SETTLE)
        before = end(before)
        await asyncio.sleep(MINUTE)
        before = end(before)
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        with outside.look_into(ec2.vpc.host) as probe:
            for rule in (await growth.own_rules(probe))[:: max(1, enis // RULES)][:RULES]:
                await heal.delete(probe, rule)
                await asyncio.sleep(growth.APART)
        end(before)
        await daemon.stop()
    return spent


def table(found: Sequence[Mapping[str, float]], spent: Sequence[float]) -> str:
    """The shares as Markdown; `spent` is without the profiler."""
    rows = ["| | " + " | ".join(PHASES.values()) + " |", "|---" * (len(PHASES) + 1) + "|"]
    cpu = [f"{1000 * spent[n] / (RULES if n == 3 else 1):.0f} ms" for n in PHASES]
    rows.append("| CPU, without the profiler | " + " | ".join(cpu) + " |")
    rows += [
        f"| {part} | " + " | ".join(f"{100 * each.get(part, 0.0):.0f} %" for each in found) + " |"
        for part in (*PARTS, "all else")
    ]
    return "\n".join(rows) + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="profile", description=__doc__)
    parser.add_argument("--enis", type=int, default=crowd.ENIS, help="writes nothing if given")
    arguments = parser.parse_args()
    sandbox.require()
    spent = asyncio.run(_run(arguments.enis, None))
    with tempfile.TemporaryDirectory() as directory:
        base = f"{directory}/profile"
        asyncio.run(_run(arguments.enis, base))
        found = [shares(Path(f"{base}.{number}")) for number in PHASES]
    text = table(found, spent)
    sys.stdout.write(text)
    if arguments.enis == crowd.ENIS:
        report.fill_in("make profile", text, page=PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
