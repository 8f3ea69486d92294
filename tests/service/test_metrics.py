"""`GET /metrics`: as Prometheus reads it, and by the rules of `promtool check metrics`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from nicwatchd import __version__
from nicwatchd.core.lifecycle import State
from nicwatchd.core.port import Result
from nicwatchd.service import metrics
from nicwatchd.service.control import Control
from nicwatchd.service.counts import Counts
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.status import HostStatus, ImdsStatus, InterfaceStatus
from tests.service.conftest import Host, eventually, until

ETH0 = InterfaceStatus(
    name="eth0", index=2, mac="02:00:00:00:00:01", state=State.IGNORED, since=0.0, seen=0.0,
    table=1_000_703,
)  # fmt: skip
ETH1 = ETH0.model_copy(update={"name": "eth1", "state": State.AWAITING, "overdue": True})
ETH2 = ETH0.model_copy(update={"name": "eth2", "state": State.APPLIED, "fought_over": True})
BUSY = HostStatus(
    version="1.2", pid=1, started=0.0, surprises=1, imds=ImdsStatus(state="throttled"),
    interfaces=[ETH0, ETH1, ETH2, ETH2.model_copy(update={"shadowed": True})],
)  # fmt: skip
COUNTS = Counts(
    transitions=Counter({State.APPLIED: 2}),
    heals=Counter({"rule": 3}),
    operations=Counter({("add_rule", Result.DONE): 9, ("add_route", Result.RETRY): 1}),
    imds=Counter({"200": 40, "none": 2}),
    overruns=4,
    since_turn=1.5,
)
LABELS = {"state", "kind", "operation", "result", "code", "version"}  # of few values each
Sample = tuple[str, frozenset[tuple[str, str]]]


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
        ("nicwatchd_fought_over_interfaces", {}, 2),
        ("nicwatchd_transitions_total", {"state": "applied"}, 2),
        ("nicwatchd_transitions_total", {"state": "gone"}, 0),
        ("nicwatchd_heals_total", {"kind": "rule"}, 3),
        ("nicwatchd_heals_total", {"kind": "address"}, 0),
        ("nicwatchd_operations_total", {"operation": "add_rule", "result": "done"}, 9),
        ("nicwatchd_operations_total", {"operation": "add_route", "result": "retry"}, 1),
        ("nicwatchd_imds_requests_total", {"code": "200"}, 40),
        ("nicwatchd_imds_requests_total", {"code": "none"}, 2),
        ("nicwatchd_imds_state", {"state": "throttled"}, 1),
        ("nicwatchd_imds_state", {"state": "ok"}, 0),
        ("nicwatchd_netlink_overruns_total", {}, 4),
        ("nicwatchd_surprises_total", {}, 1),
        ("nicwatchd_last_pass_age_seconds", {}, 1.5),
    ],
)
def test_values(name: str, labels: dict[str, str], value: float) -> None:
    assert samples(metrics.render(BUSY, COUNTS))[name, frozenset(labels.items())] == value


def test_the_process_is_there_too() -> None:
    names = {name for name, _ in samples(metrics.render(BUSY, COUNTS))}
    assert {"process_resident_memory_bytes", "process_cpu_seconds_total"} <= names


def test_conventions() -> None:
    """What promtool checks of names and help, and that nothing is said twice."""
    said = families(metrics.render(BUSY, COUNTS))
    assert len({metric.name for metric in said}) == len(said)
    for metric in said:
        assert metric.documentation.endswith(".")
        assert re.fullmatch(r"(nicwatchd|process)(_[a-z]+)+", metric.name)
        assert metric.type in {"counter", "gauge"}
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


def test_who_does_not_ask_does_not_pay() -> None:
    """The library is not imported with the daemon."""
    program = "import sys, nicwatchd.service.main; sys.exit('prometheus_client' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
