"""What a dry run prints, of what it found."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import pytest

from nicwatchd.cli import plan
from nicwatchd.service.platform import NOT_EC2


def test_notes_are_printed_below_their_interface() -> None:
    interface = {"name": "eth1", "eni": "eni-1", "mac": "02:00:00:00:00:02", "state": "applied"}
    notes = [{"code": "ipv6-off", "text": "IPv6 is off"}]
    document = {
        "idle": None,
        "interfaces": [{**interface, "reasons": [], "notes": notes}],
        "commands": [],
    }
    assert list(plan._lines(document)) == [
        "eth1  eni-1  managed",
        "    note: IPv6 is off",
        "nothing to change",
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_elsewhere_it_says_that_a_daemon_would_idle(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    as_json: bool,
) -> None:
    config = tmp_path / "nicwatchd.toml"
    config.write_text("")
    monkeypatch.setattr(plan, "is_ec2", lambda: False)
    arguments = Namespace(config=config, runtime_directory=tmp_path, json=as_json)
    assert plan.plan(arguments) == 0
    out = capsys.readouterr().out
    if as_json:
        assert json.loads(out) == {"idle": NOT_EC2, "interfaces": [], "commands": []}
    else:
        assert out.splitlines() == [f"idle: {NOT_EC2}", "nothing to change"]
