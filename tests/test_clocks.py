"""Nothing is decided by the time of day: it jumps, forwards and back, above all during a boot."""

import ast
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parents[1] / "nicwatchd"
WALL_CLOCKS: Final = {
    *("time.time", "time.time_ns", "time.localtime", "time.gmtime", "time.ctime", "time.strftime"),
    *("time.clock_gettime", "time.clock_gettime_ns"),
    *("datetime.now", "datetime.utcnow", "datetime.today", "date.today"),
}
# Where people and their monitoring are told times; and an HTTP date in Retry-After, which can delay
# by a minute at most.
ALLOWED: Final = {
    ("cli/diagnosis/look.py", "time.time"),  # against when the daemon asked, by the same clock
    ("cli/explain_interface.py", "time.time"),
    ("cli/files.py", "datetime.now"),
    ("cli/history.py", "time.time"),
    ("cli/history_svg.py", "time.localtime"),
    ("cli/plan.py", "time.time"),
    ("cli/status.py", "time.time"),
    ("cli/times.py", "time.localtime"),
    ("cli/times.py", "time.strftime"),
    ("service/clock.py", "time.clock_gettime"),  # the time since the boot
    ("service/daemon.py", "time.time"),
    ("service/event_stream.py", "time.time"),
    ("service/main.py", "time.time"),
    ("service/metrics.py", "time.time"),
    ("service/recorder.py", "time.time"),
    ("service/telling.py", "time.time"),
    ("imds/condition.py", "datetime.now"),
    ("imds/transport.py", "time.time"),
}


def clocks(tree: ast.AST) -> set[str]:
    """The clocks that a module names, by `module.name` or by an import of the name alone."""
    found = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    found |= {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return found & WALL_CLOCKS


def test_the_time_of_day_is_for_people_alone() -> None:
    used = {
        (str(path.relative_to(PACKAGE)), clock)
        for path in PACKAGE.rglob("*.py")
        for clock in clocks(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert used == ALLOWED


def test_a_clock_is_found_however_it_is_named() -> None:
    code = "import time\nfrom time import time_ns\nnow = time.time()\nthen = time.monotonic()"
    assert clocks(ast.parse(code)) == {"time.time", "time.time_ns"}
