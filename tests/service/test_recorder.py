"""Recordings of a host in invented time, and their replays: the same states at the same times."""

from __future__ import annotations

from pathlib import Path

import pytest

from nicwatchd.sim.compare import differences, recorded_phases, report
from nicwatchd.sim.ec2 import SCENARIOS
from nicwatchd.sim.replay import replay
from nicwatchd.sim.scenario import load
from tests.service.recorded_host import RecordedHost, recorded


@pytest.mark.parametrize("file", sorted(SCENARIOS.glob("*.toml")), ids=lambda file: file.stem)
def test_each_scenario_ends_in_the_same_states_at_the_same_times(
    file: Path, tmp_path: Path
) -> None:
    scenario = load(file)

    async def story(host: RecordedHost) -> None:
        for eni in scenario.enis:
            if eni.mac != scenario.mac:
                host.plug(eni.name)

    recording = recorded(scenario, tmp_path, story, duration=60.0)
    replayed = replay(recording)
    print("\n".join(report(recording, replayed)[0]))
    for l in recording.lines[:100]:
        print(l.model_dump_json(exclude_defaults=True))
    assert differences(recording, replayed) == []
    assert recorded_phases(recording).keys() == replayed.keys() == {e.mac for e in scenario.enis}
    assert 0
