"""Recordings of a host in invented time, and their replays: the same states at the same times."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest

from nicwatchd.core.model import PROTOCOL, Address, Family, Reason, Rule
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import KernelError
from nicwatchd.recording.format import Line, RecordingError, read, written
from nicwatchd.recording.mask import Mask
from nicwatchd.service.kernel_watch import KernelWatch
from nicwatchd.sim import compare
from nicwatchd.sim.compare import Replayed, differences, recorded_phases, report
from nicwatchd.sim.ec2 import SCENARIOS
from nicwatchd.sim.memory_kernel import FakeKernel
from nicwatchd.sim.recorded import KernelSteps, Recording
from nicwatchd.sim.replay import main, replay
from nicwatchd.sim.scenario import load
from nicwatchd.sim.script import EniScript, Fault, Scenario, Step
from tests.service.recorded_host import RecordedHost, Story, recorded

RACE = load(SCENARIOS / "race.toml")
OTHERS = 777  # a netlink port of another program
IPV6 = frozenset({"ipv6s", "subnet-ipv6-cidr-blocks", "vpc-ipv6-cidr-blocks"})


def late(seconds: float) -> Scenario:
    """IPv6 comes so late to eth1."""
    steps = (Step(0.0, hide=IPV6), Step(seconds, complete=True))
    return with_eth1(replace(RACE.eni("eth1"), steps=steps))


def with_eth1(eni: EniScript) -> Scenario:
    return replace(RACE, enis=(RACE.eni("eth0"), eni))


AT_ONCE = late(0.0)
WORKING: Final = ("applied", (), ("ipv4 working", "ipv6 working"))
HEADER: Final = '{"format":"nicwatchd-recording","version":1,"masked":true}\n'
ONLY_IPV4 = with_eth1(replace(AT_ONCE.eni("eth1"), ipv6=(), subnet_ipv6=(), steps=()))


async def plug(host: RecordedHost) -> None:
    host.plug("eth1")


async def lease(host: RecordedHost) -> None:
    """DHCP proves IPv4 before IMDS knows anything."""
    index = host.plug("eth1")
    await asyncio.sleep(0.3)
    host.lease(index, host.scenario.eni("eth1"))


async def flap(host: RecordedHost) -> None:
    index = host.plug("eth1")
    await asyncio.sleep(20.0)
    host.set_up(index, up=False)
    await asyncio.sleep(2.0)
    host.set_up(index, up=True)


async def unplug(host: RecordedHost) -> None:
    index = host.plug("eth1")
    await asyncio.sleep(20.0)
    host.imds.unplug("eth1")
    host.kernel.remove_link(index)
    await asyncio.sleep(10.0)
    host.plug("eth1")


async def assign(host: RecordedHost) -> None:
    """One more address, after a while."""
    host.plug("eth1")
    await asyncio.sleep(20.0)
    more = (*host.scenario.eni("eth1").ipv4, "10.0.2.77")
    host.imds.step("eth1", texts={"local-ipv4s": "\n".join(more)})


async def robbed(host: RecordedHost) -> None:
    """Another program removes all rules, once."""
    host.plug("eth1")
    await asyncio.sleep(20.0)
    host.remove_ours(OTHERS)


def faulty(*faults: Fault) -> Scenario:
    return replace(AT_ONCE, faults=faults)


STORIES: dict[str, tuple[Scenario, Story, float]] = {
    "at-once": (AT_ONCE, plug, 40.0),
    "late-8": (late(8.0), plug, 40.0),
    "late-20": (late(20.0), plug, 60.0),
    "late-90": (late(90.0), plug, 150.0),
    "only-ipv4": (ONLY_IPV4, plug, 220.0),
    "lease": (RACE, lease, 40.0),
    "flap": (AT_ONCE, flap, 60.0),
    "unplug": (AT_ONCE, unplug, 60.0),
    "assign": (AT_ONCE, assign, 40.0),
    "robbed": (AT_ONCE, robbed, 40.0),
    "errors": (faulty(Fault("leaf", "503", 1.0, 12.0)), plug, 40.0),
    "no-imds": (faulty(Fault("all", "refuse", 1.0, 12.0)), plug, 60.0),
}


def tell(recording: Recording, replayed: Replayed) -> str:
    return "\n".join(report(recording, replayed)[0])


@pytest.mark.parametrize("file", sorted(SCENARIOS.glob("*.toml")), ids=lambda file: file.stem)
def test_each_scenario_of_the_race_ends_in_the_same_states_at_the_same_times(
    file: Path, tmp_path: Path
) -> None:
    scenario = load(file)

    async def story(host: RecordedHost) -> None:
        for eni in scenario.enis:
            if eni.mac != scenario.mac:
                host.plug(eni.name)

    same(recorded(scenario, tmp_path, story, duration=60.0))


@pytest.mark.parametrize("name", STORIES)
def test_a_recording_ends_in_the_same_states_at_the_same_times(name: str, tmp_path: Path) -> None:
    scenario, story, duration = STORIES[name]
    same(recorded(scenario, tmp_path, story, duration))


def same(recording: Recording) -> Replayed:
    replayed = replay(recording)
    assert differences(recording, replayed) == [], tell(recording, replayed)
    both = recorded_phases(recording), replayed.phases
    ends = [{mac: each[-1].label for mac, each in phases.items()} for phases in both]
    assert ends[0] == ends[1] != {}
    assert replayed.objects
    return replayed


@pytest.fixture(scope="module")
def race(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return recorded(RACE, tmp_path_factory.mktemp("race"), plug, 30.0)


def without(recording: Recording, unwanted: Callable[[Line], bool]) -> Recording:
    return replace(recording, lines=tuple(li for li in recording.lines if not unwanted(li)))


def test_what_is_not_the_same_is_found(race: Recording) -> None:
    def tells_ipv6(line: Line) -> bool:
        return bool(line.imds and "ipv6s" in line.imds.body + line.imds.path and line.t > 5.0)

    damaged = without(race, tells_ipv6)
    found = differences(damaged, replay(damaged))
    assert any("applied" in line and "undecided-ipv6" in line for line in found)
    assert any("not in the replay: address 2001:db8:0:2::10" in line for line in found)


def test_a_transition_that_comes_too_late_is_found(race: Recording) -> None:
    def delayed(line: Line) -> Line:
        late = line.imds is not None and line.t > 5.0
        return line.model_copy(update={"t": line.t + 5.0}) if late else line

    lines = sorted(map(delayed, race.lines), key=lambda line: line.t)
    found = differences(race, replay(replace(race, lines=tuple(lines))))
    assert len(found) == 1
    assert found[0].startswith("eth1: applied; ipv4 working; ipv6 working from 9.")


@pytest.mark.parametrize(
    ("age", "complete", "seconds"),
    [
        (0.0, False, 1.0),  # twice two polls of a quarter of a second
        (34.0, True, 1.0),
        (36.0, False, 10.0),
        (59.0, True, 10.0),
        (61.0, True, 120.0),
        (61.0, False, 10.0),
        (181.0, False, 120.0),
    ],
)
def test_how_late_a_transition_may_come(age: float, complete: bool, seconds: float) -> None:
    assert compare.late(Policy(), age, complete=complete) == seconds + compare.SLACK


def test_without_a_daemon_the_replay_tells_the_states(tmp_path: Path) -> None:
    recording = recorded(RACE, tmp_path, plug, 30.0, watched=False)
    assert recorded_phases(recording) == {}
    assert recording.daemon_since is None
    replayed = replay(recording)
    assert replayed.phases["02:00:00:00:00:02"][-1].label == WORKING
    lines, is_same = report(recording, replayed)
    assert is_same
    assert lines[-1] == "no daemon was running, so there is nothing to compare with"


def test_imds_is_asked_no_more_than_by_the_daemon(tmp_path: Path) -> None:
    both: list[str] = []
    alone: list[str] = []
    recorded(RACE, tmp_path, plug, 120.0, asked=both)
    recorded(RACE, tmp_path, plug, 120.0, asked=alone, watched=False)
    assert 0 < len(alone) <= (len(both) - len(alone)) * 1.1
    roots = ("/latest/api/token", "/latest/meta-data/mac", "/latest/meta-data/network/interfaces/")
    assert all(path.startswith(roots) for path in alone)


def test_on_an_old_kernel_the_ledger_tells_which_addresses_are_ours(tmp_path: Path) -> None:
    class Old(FakeKernel):
        """Linux before 5.18: no IFA_PROTO."""

        async def all_addresses(self) -> dict[int, tuple[Address, ...]]:
            found = await super().all_addresses()
            return {i: tuple(replace(a, protocol=0) for a in on) for i, on in found.items()}

        async def addresses(self, index: int) -> tuple[Address, ...]:
            return tuple(replace(a, protocol=0) for a in await super().addresses(index))

    same(recorded(AT_ONCE, tmp_path, plug, 20.0, kernel=Old()))


def test_what_the_kernel_does_not_answer_is_noted_and_read_again(tmp_path: Path) -> None:
    class Busy(FakeKernel):
        busy = False

        async def all_addresses(self) -> dict[int, tuple[Address, ...]]:
            if self.busy:
                self.busy = False
                raise KernelError("busy")
            return await super().all_addresses()

    async def story(host: RecordedHost) -> None:
        kernel.busy = True
        await plug(host)

    kernel = Busy()
    recording = recorded(AT_ONCE, tmp_path, story, 20.0, kernel=kernel, watched=False)
    (note,) = [line.note for line in recording.lines if line.note]
    assert note == "the kernel did not answer: busy"
    assert any(line.event for line in recording.lines)
    assert [line.link.name for line in recording.lines if line.link][-1] == "eth1"


def test_a_full_disk_ends_the_recording(tmp_path: Path) -> None:
    lines: list[str] = []

    def write(line: str) -> None:
        if len(lines) == 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        lines.append(line)

    with pytest.raises(OSError, match="No space left"):
        recorded(AT_ONCE, tmp_path, plug, 20.0, write=write)
    assert len(lines) == 20


def test_a_daemon_that_comes_and_goes_is_told(tmp_path: Path) -> None:
    async def story(host: RecordedHost) -> None:
        host.plug("eth1")
        async with host.daemon():
            await asyncio.sleep(10.0)
        await asyncio.sleep(10.0)
        async with host.daemon():
            await asyncio.sleep(10.0)

    recording = recorded(AT_ONCE, tmp_path, story, 40.0, watched=False)
    told = [li for li in recording.lines if li.daemon_since is not None or li.daemon_gone]
    assert [line.daemon_gone for line in told] == [False, True, False, True]
    first, second = (line for line in told if line.daemon_since is not None)
    assert round(first.daemon_since or 0.0, 3) == 0.5
    assert first.t <= told[1].t < (second.daemon_since or 0.0) <= second.t


async def test_only_what_others_remove_of_ours_is_removed(tmp_path: Path) -> None:
    recording = await asyncio.to_thread(recorded, AT_ONCE, tmp_path, robbed, 40.0)
    kernel = FakeKernel()
    steps = KernelSteps(recording, kernel)
    removed = [line for line in recording.lines if line.gone and line.pid == OTHERS]
    assert removed
    for line in recording.lines:
        if line in removed and line.rule_gone:
            kernel.put(line.rule_gone)
            await steps.take([line])
            assert line.rule_gone not in await kernel.rules()
        elif line.t < removed[0].t:
            await steps.take([line])
    assert await kernel.own_routes() == ()  # these are for the turn to make


async def test_events_tell_who(tmp_path: Path) -> None:
    recording = await asyncio.to_thread(recorded, AT_ONCE, tmp_path, robbed, 30.0)
    events = [line.event for line in recording.lines if line.event]
    assert any(
        e.startswith("RuleEvent") and f"pid={OTHERS}" in e and "deleted" in e for e in events
    )


class RobbedWhileRead(FakeKernel):
    """Another program removes a rule of ours during a read, after the rules were read."""

    async def nft_problem(self) -> Reason | None:
        for rule in [rule for rule in self._state.rules if rule.protocol == PROTOCOL]:
            self.drop(rule, pid=OTHERS)
            await asyncio.sleep(0)  # its event comes now
        return await super().nft_problem()


async def test_who_removed_something_during_a_read_is_told(tmp_path: Path) -> None:
    loop, told = asyncio.get_running_loop(), asyncio.Queue[Line]()
    kernel = RobbedWhileRead()
    kernel.put(Rule(Family.V4, 32765, 1000003))
    say = told.put_nowait
    watch = KernelWatch(kernel, kernel.events(), Policy(), tmp_path, say, loop.time)
    task = asyncio.create_task(watch.run())
    while not (line := await told.get()).rule_gone:
        pass
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert line.pid == OTHERS


PUBLIC: Final = replace(
    AT_ONCE,
    enis=(
        RACE.eni("eth0"),
        replace(
            AT_ONCE.eni("eth1"),
            ipv4=("54.93.7.10", "54.93.7.11"),
            subnet_ipv4="54.93.7.0/24",
            ipv6=("2600:1f18:1:2::10",),
            subnet_ipv6=("2600:1f18:1:2::/64",),
            ipv6_prefixes=("2600:1f18:1:2:7::/80",),
        ),
    ),
)


def test_a_masked_recording_has_no_public_address_and_replays_alike(tmp_path: Path) -> None:
    async def story(host: RecordedHost) -> None:
        index = host.plug("eth1", up=True)
        await asyncio.sleep(0.3)
        host.kernel.put(Address(index, ip_address("54.93.7.10"), 24, dynamic=True))

    recording = recorded(PUBLIC, tmp_path, story, 20.0, mask=Mask(b"key"))
    texts = "".join(line.model_dump_json(exclude_defaults=True) for line in recording.lines)
    assert "54.93." not in texts
    assert "2600:" not in texts
    assert "10.0.1.10" in texts
    assert recording.header.masked
    replayed = same(recording)
    assert replayed.phases["02:00:00:00:00:02"][-1].label == WORKING
    # Ours of IPv4's first stays before the other one of IPv4; and there is IPv6's.
    assert sum(each.startswith("address") for each in replayed.objects) == 3


# --- the file ------------------------------------------------------------------------------------


def text_of(recording: Recording) -> str:
    mask = Mask(None)
    lines = [written(recording.header, mask), *(written(each, mask) for each in recording.lines)]
    return "".join(f"{line}\n" for line in lines)


def test_a_recording_is_valid_at_any_time(race: Recording) -> None:
    text = text_of(race)
    header, lines = read(text.splitlines(keepends=True))
    assert (header, lines) == (race.header, race.lines)
    cut = text[: len(text) // 2]
    assert read(cut.splitlines(keepends=True))[1] == race.lines[: cut.count("\n") - 1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "x:1: Invalid JSON"),
        ("{}\n", "x:1: format: Field required"),
        (
            '{"format":"nicwatchd-recording","version":2,"masked":true}\n',
            "x:1: version: Input should be 1",
        ),
        (f"{HEADER}no\n", "x:2: Invalid JSON"),
        (f'{HEADER}{{"t":1}}\n{{"t":0.5}}\n', "x:3: 0.5 s comes after 1 s"),
        (f'{HEADER}{{"t":1,"address":{{"index":1}}}}\n', "x:2: address.ip: Field required"),
    ],
)
def test_what_is_no_recording_is_refused_in_a_line(text: str, why: str) -> None:
    with pytest.raises(RecordingError) as error:
        read(text.splitlines(keepends=True), "x")
    assert str(error.value).startswith(why)
    assert "\n" not in str(error.value)


def test_the_command_compares(
    race: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "race.jsonl"
    file.write_text(text_of(race))
    assert main([str(file)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == compare.SAME
    assert max(map(len, out)) <= 80
    file.write_text(text_of(without(race, lambda line: bool(line.imds and line.t > 5.0))))
    assert main([str(file)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert any("applied" in line for line in out)
    assert "undecided-ipv6" in "".join(out)
    assert compare.SAME not in out


def test_the_command_says_what_is_wrong_with_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2
    assert main([str(tmp_path / "none")]) == 2
    (tmp_path / "some").write_text("no\n")
    assert main([str(tmp_path / "some")]) == 2
    usage, missing, bad = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage:")
    assert "No such file" in missing
    assert "some:1: Invalid JSON" in bad
