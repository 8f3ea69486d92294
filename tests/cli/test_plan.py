"""What a dry run prints, of what it found."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.cli import plan
from nicwatchd.core.treatment import PRIMARY
from nicwatchd.service.platform import NOT_EC2

INTERFACE: dict[str, Any] = {
    "name": "eth1",
    "eni": "eni-1",
    "mac": "02:00:00:00:00:02",
    "state": "validated",
    "reasons": [],
    "notes": [],
}


def document(**changes: Any) -> dict[str, Any]:
    return {**plan._idle(), "idle": None, "interfaces": [INTERFACE]} | changes


def change(kind: str, command: str, interface: str | None = "eth1") -> dict[str, Any]:
    return {"interface": interface, "kind": kind, "command": command}


def test_notes_are_printed_below_their_interface() -> None:
    notes = [{"code": "ipv6-off", "text": "IPv6 is off"}]
    said = document(interfaces=[{**INTERFACE, "notes": notes}])
    assert list(plan._lines(said)) == [
        "eth1  eni-1  managed, nothing to change",
        "    note: IPv6 is off",
        "nothing to change",
    ]


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ([], "left alone: it is the primary"),
        (["ip link set dev eth0 group 3778"], "this keeps packets"),
        (["ip link set dev eth0 group 3778", "ip rule add pref 32765"], "this protects its"),
    ],
)
def test_what_is_done_for_the_primary_is_said_with_its_reason(
    commands: list[str], words: str
) -> None:
    primary = {**INTERFACE, "name": "eth0", "state": "ignored", "primary": True}
    primary["reasons"] = [{"code": "primary", "text": "it is the primary"}]
    changes = [change("+", command, "eth0") for command in commands]
    said = "\n".join(plan._lines(document(interfaces=[primary], changes=changes)))
    said = " ".join(said.split())
    assert words in said
    assert ("left alone" in said) is (not commands)


def test_changes_are_printed_below_their_interface() -> None:
    other = {**INTERFACE, "name": "eth2", "eni": None, "state": "ignored"}
    other["reasons"] = [{"code": "excluded", "text": "excluded by the settings"}]
    said = document(
        imds={"state": "disabled", "detail": "403 on the token"},
        interfaces=[INTERFACE, other],
        changes=[
            change("-", "ip rule del pref 100", None),
            change("+", "ip addr add 10.0.2.12/32 dev eth1"),
            change("~", "ip link set dev eth2 group 3778", "eth2"),
        ],
        counts={"add": 1, "change": 1, "remove": 1},
        beside=["cloud-init hotplug on (its rules stand before ours)"],
    )
    assert list(plan._lines(said)) == [
        "IMDS is disabled (403 on the token): what it lists is not in this plan",
        "eth1  eni-1  would be managed:",
        "  + ip addr add 10.0.2.12/32 dev eth1",
        "eth2  02:00:00:00:00:02  left alone: excluded by the settings; but this keeps",
        "    packets from other interfaces' addresses off its routes:",
        "  ~ ip link set dev eth2 group 3778",
        "the host",
        "  - ip rule del pref 100",
        "1 to add, 1 to change, 1 to remove; nothing was changed",
        "Beside: cloud-init hotplug on (its rules stand before ours)",
    ]


def test_what_is_no_command_fits_the_terminal() -> None:
    reasons = [{"code": "primary", "text": PRIMARY.text}]
    said = document(
        interfaces=[{**INTERFACE, "state": "ignored", "reasons": reasons}],
        imds={"state": "unreachable", "detail": "169.254.169.254: timed out on the token " * 3},
    )
    lines = list(plan._lines(said))
    assert len(lines) > 4
    assert max(map(len, lines)) <= 80


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
        assert json.loads(out) == plan._idle()
    else:
        *idle, last = out.splitlines()
        assert " ".join(map(str.strip, idle)) == f"idle: {NOT_EC2}"
        assert last == "nothing to change"
