"""The output and the exit code of `nicwatchd migrate`."""

from __future__ import annotations

import json
import os
import pty
import threading
from pathlib import Path

import pytest

from nicwatchd.cli.client import DaemonError
from nicwatchd.cli.migrate import migrate
from nicwatchd.cli.migration import record as records
from nicwatchd.cli.parser import parser
from tests.cli.migration_host import Host
from tests.cli.test_migration import HOTPLUG, STOP, with_cloud_init, with_net_utils

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)


def run(host: Host, *words: str) -> int:
    config = host.root / "settings.toml"
    config.write_text("")
    arguments = parser().parse_args(["migrate", "--config", str(config), *words])
    code = migrate(arguments, host.system)
    config.unlink()
    return code


def test_a_plan_with_its_reasons(tmp_path: Path, capsys: Capture) -> None:
    host = with_net_utils(tmp_path)
    before = host.state()
    assert run(host, "--dry-run") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("amazon-ec2-net-utils is at work here: its udev rule /usr/lib/udev")
    assert "  1. mask its udev rule with an empty /etc/udev/rules.d/" in "\n".join(out)
    steps = [line for line in out if line[:4].strip().rstrip(".").isdigit()]
    assert len([line for line in out if line.strip().startswith("why: ")]) == len(steps)
    assert (host.state(), host.ran) == (before, [])
    assert records.load(host.system) is None


def test_a_plan_as_json(tmp_path: Path, capsys: Capture) -> None:
    assert run(with_cloud_init(tmp_path), "--dry-run", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["result"] == "planned"
    assert [tool["name"] for tool in document["tools"]] == ["cloud-init hotplug"]
    assert all(step["what"] and step["why"] for step in document["steps"])


def test_without_a_terminal_it_needs_yes(tmp_path: Path, capsys: Capture) -> None:
    host = with_cloud_init(tmp_path)
    assert run(host) == 2
    assert "--yes" in capsys.readouterr().err
    assert host.ran == []
    assert run(host, "--yes") == 0
    assert HOTPLUG not in host.files()
    assert "done; `nicwatchd migrate --undo` puts all back" in capsys.readouterr().out


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_it_shows_the_plan_and_asks(
    answer: str, code: int, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = with_cloud_init(tmp_path)
    ours, theirs = pty.openpty()
    writer = threading.Thread(target=os.write, args=(ours, f"{answer}\n".encode()))
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        writer.start()
        assert run(host) == code
        writer.join()
    os.close(ours)
    out = capsys.readouterr().out
    assert out.index("  1. ") < out.index("Go on? [y/N]")
    assert (HOTPLUG in host.files()) is (code == 1)
    assert ("nothing was changed" in out) is (code == 1)


def test_a_refusal_is_told_and_nothing_done(tmp_path: Path, capsys: Capture) -> None:
    host = with_net_utils(tmp_path)
    host.status["interfaces"][1]["state"] = "awaiting-imds"
    before = host.state()
    for how in (("--dry-run",), ("--yes",)):
        assert run(host, *how) == 1
        assert "would do less than what it replaces" in capsys.readouterr().out
    assert (host.state(), host.ran) == (before, [])
    assert run(host, "--dry-run", "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["result"] == "refused"
    assert document["refusals"]


def test_nothing_to_do(tmp_path: Path, capsys: Capture) -> None:
    host = Host.made(tmp_path)
    assert run(host, "--yes") == 0
    assert "nothing to migrate" in capsys.readouterr().out
    assert run(host, "--undo", "--yes") == 0
    assert "nothing to undo" in capsys.readouterr().out


def test_undo_shows_what_it_undoes(tmp_path: Path, capsys: Capture) -> None:
    host = with_cloud_init(tmp_path)
    before = host.state()
    assert run(host, "--yes") == 0
    migrated = host.state()
    assert run(host, "--undo", "--dry-run") == 0
    assert "to be undone" in capsys.readouterr().out
    assert host.state() == migrated
    assert run(host, "--undo") == 2
    capsys.readouterr()
    assert run(host, "--undo", "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"result": "undone", "left": []}
    assert host.state() == before


def test_a_half_done_migration_is_finished(tmp_path: Path, capsys: Capture) -> None:
    host = with_net_utils(tmp_path)
    host.failing = {STOP + " refresh-policy-routes@eth1.service", STOP}
    assert run(host, "--yes") == 1
    captured = capsys.readouterr()
    assert "is broken" in captured.err
    assert "--undo" in captured.err
    host.failing = set()
    assert run(host, "--dry-run") == 0
    assert "not finished" in capsys.readouterr().out
    assert run(host, "--yes") == 0
    assert "done" in capsys.readouterr().out
    assert run(host, "--yes") == 0
    assert "nothing to migrate" in capsys.readouterr().out


def test_a_begun_undo_is_to_be_finished_first(tmp_path: Path, capsys: Capture) -> None:
    host = with_cloud_init(tmp_path)
    assert run(host, "--yes") == 0
    host.failing = {"udevadm control --reload-rules"}
    assert run(host, "--undo", "--yes") == 1
    assert "again" in capsys.readouterr().err
    host.failing = set()
    assert run(host, "--yes") == 1
    assert "--undo" in capsys.readouterr().err
    assert run(host, "--undo", "--yes") == 0


def test_no_daemon(tmp_path: Path, capsys: Capture) -> None:
    host = with_cloud_init(tmp_path)

    def ask(*_: str) -> None:
        raise DaemonError("the daemon is not running")

    arguments = parser().parse_args(["migrate", "--yes", "--config", os.devnull])
    system = type(host.system)(host.root, host._run, ask, host._pause)
    assert migrate(arguments, system) == 4
    assert "not running" in capsys.readouterr().err


def test_a_migration_that_adds_to_an_earlier_one(tmp_path: Path) -> None:
    host = with_cloud_init(tmp_path)
    before = host.state()
    assert run(host, "--yes") == 0
    assert run(host, "--yes", "--altnames") == 0
    assert host.altnames["eth1"]
    assert run(host, "--undo", "--yes") == 0
    assert host.files() == before[0]
    assert host.altnames["eth1"] == []
