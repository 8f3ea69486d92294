"""`GET /metrics`: as Prometheus reads it, and by the rules of `promtool check metrics`."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from nicwatchd import __version__
from nicwatchd.core.evidence import Status
from nicwatchd.core.health import Health
from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import State, Transition
from nicwatchd.core.model import Family
from nicwatchd.core.news import FightChanged, StateChanged
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Result
from nicwatchd.imds.histogram import Histogram
from nicwatchd.service import build as build_file
from nicwatchd.service import metrics
from nicwatchd.service.control import Control
from nicwatchd.service.counts import TO_WORKING, Counters, Counts, InUse
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.status import FamilyStatus, HostStatus, ImdsStatus, InterfaceStatus
from nicwatchd.service.telling import Told
from tests.core import build
from tests.service.conftest import Host, eventually, until

ETH0 = InterfaceStatus(
    name="eth0", index=2, mac="02:00:00:00:00:01", state=State.IGNORED, since=0.0, seen=0.0,
    table=1_000_703,
)  # fmt: skip
ETH1 = ETH0.model_copy(
    update={
        "name": "eth1",
        "index": 3,
        "eni": "eni-1",
        "subnet_id": "subnet-1",
        "state": State.AWAITING,
        "overdue": True,
        "ipv4": FamilyStatus(verdict=Status.READY, health=Health.WORKING),
        "ipv6": FamilyStatus(verdict=Status.WAITING, health=Health.DEGRADED),
    }
)
ETH2 = ETH0.model_copy(
    update={"name": "eth2", "index": 4, "state": State.APPLIED, "fought_over": True}
)
ETH3 = ETH2.model_copy(
    update={
        "name": "eth3",
        "index": 5,
        "fought_over": False,
        "shadowed": True,
        "link_up": False,
        "ipv4": FamilyStatus(verdict=Status.READY, health=Health.NOT_WORKING),
    }
)
BUSY = HostStatus(
    version="1.2", pid=1, started=0.0, surprises=1, imds=ImdsStatus(state="throttled"),
    interfaces=[ETH0, ETH1, ETH2, ETH3], problems=["stuck"],
)  # fmt: skip
TIMES = {"ipv4": Histogram(TO_WORKING), "ipv6": Histogram(TO_WORKING)}
TIMES["ipv4"].observe(0.4)
TIMES["ipv4"].observe(1000.0)
COUNTS = Counts(
    heals_of=Counter({4: 3}),
    fights_of=Counter({4: 1}),
    to_working=TIMES,
    imds_success=1234.5,
    settings=InUse(1000.5, "no such key"),
    leads={Family.V4: True, Family.V6: False},
    entries_lost=6,
    transitions=Counter({State.APPLIED: 2}),
    heals=Counter({"rule": 3}),
    operations=Counter({("add_rule", Result.DONE): 9, ("add_route", Result.RETRY): 1}),
    imds=Counter({"200": 40, "none": 2}),
    overruns=4,
    since_turn=1.5,
)
# Of few values each, the ENIs' names included.
LABELS = {"state", "kind", "operation", "result", "code", "version", "commit", "family", "le"}
LABELS |= {"interface", "eni", "mac", "subnet"}
Sample = tuple[str, frozenset[tuple[str, str]]]


ON_ETH1 = {"interface": "eth1", "eni": "eni-1"}


def families(text: bytes) -> list[Metric]:
    return list(text_string_to_metric_families(text.decode()))


def samples(text: bytes) -> dict[Sample, float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for metric in families(text)
        for sample in metric.samples
    }


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("nicwatchd_build_info", {"version": "1.2"}, 1),
        ("nicwatchd_interfaces", {"state": "applied"}, 2),
        ("nicwatchd_interfaces", {"state": "awaiting-imds"}, 1),
        ("nicwatchd_interfaces", {"state": "validated"}, 0),
        ("nicwatchd_overdue_interfaces", {}, 1),
        ("nicwatchd_shadowed_interfaces", {}, 1),
        ("nicwatchd_fought_over_interfaces", {}, 1),
        ("nicwatchd_link_down_interfaces", {}, 1),
        ("nicwatchd_ready", {}, 0),
        ("nicwatchd_healthy", {}, 0),
        ("nicwatchd_released", {}, 0),
        ("nicwatchd_idle", {}, 0),
        ("nicwatchd_primary_default_route", {"family": "ipv4"}, 1),
        ("nicwatchd_primary_default_route", {"family": "ipv6"}, 0),
        ("nicwatchd_config_last_reload_successful", {}, 0),
        ("nicwatchd_config_last_reload_success_timestamp_seconds", {}, 1000.5),
        (
            "nicwatchd_interface_info",
            {
                "interface": "eth1",
                "mac": "02:00:00:00:00:01",
                "eni": "eni-1",
                "subnet": "subnet-1",
                "state": "awaiting-imds",
            },
            1,
        ),
        ("nicwatchd_interface_working", ON_ETH1 | {"family": "ipv4"}, 1),
        ("nicwatchd_interface_working", ON_ETH1 | {"family": "ipv6"}, 0),
        (
            "nicwatchd_interface_working",
            {"interface": "eth3", "eni": "", "family": "ipv4"},
            0,
        ),
        ("nicwatchd_interface_heals_total", ON_ETH1, 0),
        ("nicwatchd_interface_heals_total", {"interface": "eth2", "eni": ""}, 3),
        ("nicwatchd_interface_fights_total", {"interface": "eth2", "eni": ""}, 1),
        ("nicwatchd_time_to_working_seconds_bucket", {"family": "ipv4", "le": "0.25"}, 0),
        ("nicwatchd_time_to_working_seconds_bucket", {"family": "ipv4", "le": "0.5"}, 1),
        ("nicwatchd_time_to_working_seconds_bucket", {"family": "ipv4", "le": "300.0"}, 1),
        ("nicwatchd_time_to_working_seconds_bucket", {"family": "ipv4", "le": "+Inf"}, 2),
        ("nicwatchd_time_to_working_seconds_count", {"family": "ipv4"}, 2),
        ("nicwatchd_time_to_working_seconds_sum", {"family": "ipv4"}, 1000.4),
        ("nicwatchd_time_to_working_seconds_count", {"family": "ipv6"}, 0),
        ("nicwatchd_imds_request_duration_seconds_count", {}, 0),
        ("nicwatchd_imds_last_success_timestamp_seconds", {}, 1234.5),
        ("nicwatchd_transitions_total", {"state": "applied"}, 2),
        ("nicwatchd_transitions_total", {"state": "gone"}, 0),
        ("nicwatchd_heals_total", {"kind": "rule"}, 3),
        ("nicwatchd_heals_total", {"kind": "address"}, 0),
        ("nicwatchd_operations_total", {"operation": "add_rule", "result": "done"}, 9),
        ("nicwatchd_operations_total", {"operation": "add_route", "result": "retry"}, 1),
        ("nicwatchd_imds_requests_total", {"code": "200"}, 40),
        ("nicwatchd_imds_requests_total", {"code": "none"}, 2),
        ("nicwatchd_imds_requests_total", {"code": "503"}, 0),
        ("nicwatchd_operations_total", {"operation": "set_group", "result": "bug"}, 0),
        ("nicwatchd_imds_state", {"state": "throttled"}, 1),
        ("nicwatchd_imds_state", {"state": "ok"}, 0),
        ("nicwatchd_netlink_overruns_total", {}, 4),
        ("nicwatchd_journal_entries_lost_total", {}, 6),
        ("nicwatchd_surprises_total", {}, 1),
        ("nicwatchd_last_pass_age_seconds", {}, 1.5),
    ],
)
def test_values(name: str, labels: dict[str, str], value: float) -> None:
    assert samples(metrics.render(BUSY, COUNTS))[name, frozenset(labels.items())] == value


def test_the_process_is_there_too() -> None:
    names = {name for name, _ in samples(metrics.render(BUSY, COUNTS))}
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total"} <= names


def test_without_the_process_nothing_collides_with_another_exporter() -> None:
    names = {name for name, _ in samples(metrics.render(BUSY, COUNTS, process=False))}
    assert all(name.startswith("nicwatchd_") for name in names)


def test_every_counter_is_there_from_the_beginning() -> None:
    """So that the first event is an increase: `rate()` does not see what is born at 1."""
    born = {
        sample
        for sample in samples(metrics.render(BUSY, Counts()))
        if sample[0].endswith(("_total", "_count", "_bucket"))
    }
    later = {
        sample
        for sample in samples(metrics.render(BUSY, COUNTS))
        if sample[0].endswith(("_total", "_count", "_bucket"))
    }
    assert born == later


def test_what_is_not_known_is_missing() -> None:
    names = {name for name, _ in samples(metrics.render(BUSY, Counts()))}
    assert "nicwatchd_imds_last_success_timestamp_seconds" not in names
    assert "nicwatchd_primary_default_route" not in names
    none = {labels for name, labels in samples(metrics.render(BUSY, COUNTS)) if "working" in name}
    assert all(("interface", "eth0") not in labels for labels in none)


def test_packages_name_their_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_file, "FILE", tmp_path / "commit")
    assert build_file.commit.__wrapped__() == ""
    (tmp_path / "commit").write_text("0123456789ab\n")
    assert build_file.commit.__wrapped__() == "0123456789ab"


def test_the_commit_is_told_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "commit", lambda: "0123456789ab")
    labels = frozenset({("version", "1.2"), ("commit", "0123456789ab")})
    assert samples(metrics.render(BUSY, COUNTS))["nicwatchd_build_info", labels] == 1


def test_conventions() -> None:
    """What promtool checks of names and help, and that nothing is said twice."""
    said = families(metrics.render(BUSY, COUNTS))
    assert len({metric.name for metric in said}) == len(said)
    for metric in said:
        assert metric.documentation.endswith(".")
        assert re.fullmatch(r"(nicwatchd|process)(_[a-z]+)+", metric.name)
        assert metric.type in {"counter", "gauge", "histogram"}
        assert metric.type not in metric.name.split("_"), "a name has no type in it"
        for sample in metric.samples:
            assert sample.name.endswith("_total") is (metric.type == "counter")
            assert set(sample.labels) <= LABELS
        assert not re.search(r"_(ms|millis|minutes|kib|mib)(_|$)", metric.name), "base units alone"


async def ask(control: Control) -> tuple[str, bytes]:
    connector = aiohttp.UnixConnector(str(control.path))
    async with (
        aiohttp.ClientSession("http://nicwatchd", connector=connector) as session,
        session.get("/metrics") as response,
    ):
        assert response.status == 200
        return response.headers["Content-Type"], await response.read()


async def test_a_daemon_counts(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        control = Control(daemon, host.directory / "nicwatchd.sock")
        await control.start()
        try:
            await _live(host, daemon, control)
        finally:
            await control.close()


async def _live(host: Host, daemon: Daemon, control: Control) -> None:
    index = host.plug()
    await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
    host.kernel.set_link(replace(host.link(index), group=0))
    await eventually(lambda: host.link(index).group == 3778)
    host.kernel.overrun()
    await daemon.reconcile()
    kind, body = await ask(control)
    assert kind.startswith("text/plain; version=")
    said = samples(body)
    assert said["nicwatchd_build_info", frozenset({("version", __version__)})] == 1
    assert said["nicwatchd_heals_total", frozenset({("kind", "group")})] == 1
    assert said["nicwatchd_netlink_overruns_total", frozenset()] == 1
    assert said["nicwatchd_interfaces", frozenset({("state", "applied")})] == 1
    assert said["nicwatchd_imds_state", frozenset({("state", "ok")})] == 1
    written = sum(v for (name, _), v in said.items() if name == "nicwatchd_operations_total")
    assert written == host.kernel.writes
    asked = sum(v for (name, _), v in said.items() if name == "nicwatchd_imds_requests_total")
    assert asked == daemon.status().imds.requests
    assert 0 <= said["nicwatchd_last_pass_age_seconds", frozenset()] < 60
    assert abs(said["nicwatchd_last_pass_timestamp_seconds", frozenset()] - time.time()) < 60
    assert (
        abs(said["nicwatchd_imds_last_success_timestamp_seconds", frozenset()] - time.time()) < 60
    )
    timed = said["nicwatchd_imds_request_duration_seconds_count", frozenset()]
    assert timed == asked
    eni = frozenset({("interface", "eth1"), ("eni", daemon.status().interfaces[1].eni or "")})
    assert said["nicwatchd_interface_heals_total", eni] == 1


def test_the_parts_are_the_whole() -> None:
    """Each part is one metric, so that nothing is said twice; the last is about the process."""
    *ours, process = [families(part) for part in metrics.parts(BUSY, COUNTS)]
    assert {len(part) for part in ours} == {1}
    names = [family.name for part in (*ours, process) for family in part]
    assert len(names) == len(set(names))
    whole = families(metrics.render(BUSY, COUNTS))
    assert [family.name for family in whole] == names


# --- what is counted from what is told -----------------------------------------------------------

VIEW = Interface(build.ETH1, 5.0, Policy()).view()  # ifindex 3


def told(previous: State | None, state: State, **worked_after: float) -> Told:
    """A transition of eth1, whose families worked after so many seconds."""
    change = Transition(previous, state, (), overdue=False, at=6.0, elapsed=1.0)
    ours = {
        name: FamilyStatus(verdict=Status.READY, worked_after=after)
        for name, after in worked_after.items()
    }
    mac = VIEW.link.mac
    return Told(
        StateChanged(VIEW, change), ETH1.model_copy(update={"mac": mac, "state": state, **ours})
    )


def counted(counters: Counters) -> dict[str, float]:
    return {name: list(times.buckets())[-1][1] for name, times in counters.to_working.items()}


def test_each_family_of_an_attached_eni_is_counted_once() -> None:
    counters = Counters()
    counters.is_running = True
    counters.observe(told(None, State.DETECTED))
    assert counted(counters) == {"ipv4": 0, "ipv6": 0}
    counters.observe(told(State.DETECTED, State.AWAITING, ipv4=0.4))
    counters.observe(told(State.AWAITING, State.APPLIED, ipv4=0.4, ipv6=8.0))
    counters.observe(told(State.APPLIED, State.APPLIED, ipv4=0.4, ipv6=8.0))
    assert counted(counters) == {"ipv4": 1, "ipv6": 1}
    assert {name: times.sum for name, times in counters.to_working.items()} == {
        "ipv4": 0.4,
        "ipv6": 8.0,
    }
    counters.observe(told(State.APPLIED, State.GONE, ipv4=0.4, ipv6=8.0))
    counters.observe(told(None, State.DETECTED))  # attached once more
    counters.observe(told(State.DETECTED, State.APPLIED, ipv4=0.2))
    assert counted(counters) == {"ipv4": 2, "ipv6": 1}


def test_what_was_there_at_the_start_was_not_attached() -> None:
    counters = Counters()
    counters.observe(told(None, State.DETECTED))
    counters.is_running = True
    counters.observe(told(State.DETECTED, State.APPLIED, ipv4=0.1))
    assert counted(counters) == {"ipv4": 0, "ipv6": 0}


def test_fights_are_counted_when_they_begin_and_go_with_the_link() -> None:
    counters = Counters()
    for began in (True, False, True):
        counters.observe(Told(FightChanged(VIEW, began=began), ETH1))
    assert counters.fights_of == {3: 2}
    counters.observe(told(State.APPLIED, State.GONE))
    assert counters.fights_of == {}
