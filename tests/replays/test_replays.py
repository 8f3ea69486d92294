"""Recordings of hosts, from the sim and from users: each must come to what was recorded.

To add one, put the file here: `nicwatchd record` and `nicwatchd bugreport` make such files. What a
mended bug changes on purpose is changed in the file, by hand: the lines with "said".
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from nicwatchd.sim.compare import differences
from nicwatchd.sim.recorded import load
from nicwatchd.sim.replay import replay

FILES = sorted(Path(__file__).parent.glob("*.jsonl"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recording_comes_to_the_same_today(file: Path) -> None:
    recording = load(file)
    assert recording.daemon_since is not None
    replayed = replay(recording)
    assert replayed.phases
    assert differences(recording, replayed) == []


def test_there_are_recordings() -> None:
    assert len(FILES) > 1


def test_make_replays_a_file() -> None:
    words = ("make", "--dry-run", "--no-print-directory", "replay", "FILE=recording.jsonl")
    root = Path(__file__).parents[2]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=True)
    assert (
        done.stdout.splitlines()[-1] == ".venv/bin/python -m nicwatchd.sim.replay recording.jsonl"
    )
