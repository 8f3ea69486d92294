"""The pass stands once: who may call the planner and the diff, and who drives the turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.source import MODULES, ROOT, imported, name_of

# Each of these, and the only modules that may import it.
MAKERS = {
    "nicwatchd.core.eni_plan.plan": {"nicwatchd.core.host_plan"},
    "nicwatchd.core.eni_plan.nothing_for": {"nicwatchd.core.host_plan"},
    "nicwatchd.core.host_plan.HostPlan": {"nicwatchd.core.decide"},
    "nicwatchd.core.diff.Differ": {"nicwatchd.core.earlier"},
    "nicwatchd.core.earlier.Earlier": {"nicwatchd.core.decide"},
    "nicwatchd.core.decide.Decider": {"nicwatchd.core.turn"},
    "nicwatchd.core.turn.Turn": {
        "nicwatchd.service.daemon",
        "nicwatchd.service.offline_release",
        "nicwatchd.service.dry_run",
        "nicwatchd.service.explanation",  # this and the next only read what it concluded
        "nicwatchd.service.reporting",
        "nicwatchd.sim.replay",
    },
}
# What drives turns in tests: each through `Turn`, or through the daemon.
DRIVERS = {
    "tests/core/fast_motion.py": "nicwatchd.core.turn.Turn",
    "tests/core/rough_motion.py": "tests.core.fast_motion.FastMotion",
    "tests/chaos/fast.py": "nicwatchd.service.daemon.Daemon",
    "tests/chaos/namespaces.py": "nicwatchd.sim.ec2.DaemonProcess",
}


@pytest.mark.parametrize("maker", MAKERS)
def test_only_the_turn_plans_and_compares(maker: str) -> None:
    module, _, _ = maker.rpartition(".")  # imported as a whole, it gives everything
    users = {name_of(path) for path in MODULES if {maker, module} & set(imported(path))}
    assert users == MAKERS[maker]


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_tests_drive_is_the_same_turn(driver: str) -> None:
    names = set(imported(Path(ROOT, driver)))
    assert DRIVERS[driver] in names
    assert not names & (MAKERS.keys() - {DRIVERS[driver]})
