"""`nicwatchd record` over a real hot-plug, beside the daemon; the replay comes to the same."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from nicwatchd.core.model import RULE_PRIORITY
from nicwatchd.sim.compare import Phase, recorded_objects, recorded_phases
from nicwatchd.sim.ec2 import SCENARIOS, SETTINGS, Ec2
from nicwatchd.sim.recorded import Recording, load
from nicwatchd.sim.replay import replay
from nicwatchd.sim.scenario import load as load_scenario
from nicwatchd.sim.script import Scenario
from tests.scenarios.commands import NICWATCHD, nicwatchd
from tests.scenarios.host import DEFAULT, PRIMARY, WITHIN, complete, numbered

LONG: Final = "600"
LASTING: Final = 2.0  # s; what is shorter may be over before the other one looks


class Recorder:
    """The command as a process on the VPC's host."""

    def __init__(self, ec2: Ec2, file: Path) -> None:
        self._ec2 = ec2
        self.file = file
        self._process: asyncio.subprocess.Process

    async def start(self, config: Path, *more: str) -> None:
        """Start it; returns once IMDS was asked about the primary, and told everything."""
        vpc = self._ec2.vpc
        words = ("record", "--output", str(self.file), "--config", str(config), *more)
        where = ("--runtime-directory", str(vpc.runtime_dir), "--duration", LONG)
        pipe = asyncio.subprocess.PIPE
        self._process = await vpc.popen(vpc.host, *NICWATCHD, *words, *where, stdout=pipe)
        await self.until("subnet-ipv6-cidr-blocks")

    async def until(self, text: str) -> None:
        """Return once the file has this text."""
        async with asyncio.timeout(WITHIN):
            while not self.file.exists() or text not in self.file.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def catch_up(self, marker: str) -> None:
        """Return once it saw all that is in the kernel by now; `marker` is an address for `lo`."""
        await self._ec2.vpc.ip(self._ec2.vpc.host, f"addr add {marker}/32 dev lo")
        await self.until(marker)

    async def stop(self) -> str:
        """Interrupt it, as Ctrl-C does; returns what it printed."""
        self._process.send_signal(signal.SIGINT)
        out, _ = await self._process.communicate()
        assert self._process.returncode == 0
        return out.decode()


def are_in_order(these: Sequence[Phase], among: Sequence[Phase]) -> bool:
    """Whether what lasted of these is among the others in the same order, however long it lasted.

    Both clocks are real here, so nothing is said about times.
    """
    others = iter([each.label for each in among])
    return all(each.label in others for each in these if each.end - each.start > LASTING)


async def record_all(scenario: Scenario, tmp_path: Path) -> Recording:
    """Record the hot-plug of every ENI of a scenario, until all is complete."""
    config = tmp_path / "nicwatchd.toml"
    config.write_text(SETTINGS)
    async with Ec2(scenario) as ec2:
        recorder = Recorder(ec2, tmp_path / "recording.jsonl")
        await recorder.start(config)
        daemon = await ec2.start_daemon(SETTINGS)
        others = [eni.name for eni in scenario.enis if eni.mac != scenario.mac]
        await recorder.until("daemon_since")
        await ec2.plug(*others)
        for name in others:
            await daemon.until(name, complete, WITHIN)
        await recorder.until('"state":"applied"')
        await recorder.catch_up("10.9.9.9")  # with what the daemon added last
        told = await recorder.stop()
        assert "is complete" in told
        tokens = list(ec2.imds._tokens)
        text = recorder.file.read_text()
        assert tokens
        assert not [token for token in tokens if token in text]
    assert stat.S_IMODE(recorder.file.stat().st_mode) == 0o600
    return load(recorder.file)


@pytest.mark.parametrize("file", sorted(SCENARIOS.glob("*.toml")), ids=lambda file: file.stem)
async def test_a_real_recording_replays_to_the_same_states(file: Path, tmp_path: Path) -> None:
    scenario = load_scenario(file)
    recording = await record_all(scenario, tmp_path)
    assert recording.lines[-1].end
    replayed = await asyncio.to_thread(replay, recording)
    macs = {eni.mac for eni in scenario.enis}
    recorded = recorded_phases(recording)
    assert recorded.keys() == replayed.phases.keys() == macs
    for mac in macs:
        assert are_in_order(recorded[mac], replayed.phases[mac])
        assert are_in_order(replayed.phases[mac], recorded[mac])
    assert {mac: of[-1].label for mac, of in recorded.items()} == {
        mac: of[-1].label for mac, of in replayed.phases.items()
    }
    assert replayed.objects == recorded_objects(recording)


async def test_what_others_remove_is_told_and_removed_in_the_replay(tmp_path: Path) -> None:
    config = tmp_path / "nicwatchd.toml"
    config.write_text(DEFAULT)
    async with Ec2(Scenario(PRIMARY.mac, (PRIMARY, numbered(1)))) as ec2:
        vpc = ec2.vpc
        recorder = Recorder(ec2, tmp_path / "recording.jsonl")
        await recorder.start(config)
        daemon = await ec2.start_daemon(DEFAULT)
        await ec2.plug("eth1")
        await daemon.until("eth1", complete, WITHIN)
        await recorder.until('"state":"applied"')
        await recorder.catch_up("10.9.9.8")  # what comes and goes between two looks was never there
        os.kill(daemon.process.pid, signal.SIGSTOP)  # else it may be back before anybody looks
        await vpc.exec(vpc.host, "ip", "-4", "rule", "del", "priority", str(RULE_PRIORITY))
        await recorder.until('"rule_gone"')
        os.kill(daemon.process.pid, signal.SIGCONT)
        await recorder.catch_up("10.9.9.9")
        await recorder.stop()
    recording = load(recorder.file)
    first = next(line for line in recording.lines if line.rule_gone)
    added = {line.pid for line in recording.lines if line.new and line.pid}
    assert first.pid
    assert first.pid not in added
    assert any(line.event and f"pid={first.pid}" in line.event for line in recording.lines)
    replayed = await asyncio.to_thread(replay, recording)
    assert replayed.phases.keys() == {PRIMARY.mac, numbered(1).mac}
    assert any(each.startswith("rule") for each in replayed.objects)


async def test_an_existing_file_is_replaced_and_a_bad_place_is_named(tmp_path: Path) -> None:
    config = tmp_path / "nicwatchd.toml"
    config.write_text(SETTINGS)
    words = ("record", "--config", str(config), "--runtime-directory", str(tmp_path))
    file = tmp_path / "old"
    file.write_text("old\n")
    file.chmod(0o644)
    ended = await nicwatchd(*words, "--duration", "0.2", "--output", str(file))
    assert (ended.code, ended.complaint) == (0, "")
    assert load(file).lines[-1].end
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_uid == os.geteuid()
    ended = await nicwatchd(*words, "--output", str(tmp_path / "none" / "file"))
    assert ended.code == 2
    assert ended.complaint_line.endswith("No such file or directory")
    ended = await nicwatchd(*words, "--duration", "0")
    assert (ended.code, ended.complaint_line) == (
        2,
        "nicwatchd: --duration must be more than 0 seconds",
    )
    config.write_text("nonsense = 1\n")
    ended = await nicwatchd(*words)
    assert ended.code == 2
    assert "nonsense" in ended.complaint_line
