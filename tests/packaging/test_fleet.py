"""docs/fleet: judged by promtool and systemd, and held to the metrics that the daemon has."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from nicwatchd.cli.parser import parser
from nicwatchd.service import metrics
from nicwatchd.service.control import Control
from tests.scenarios.software import UNPACKED, eventually
from tests.service.test_control import Well
from tests.service.test_metrics import BUSY, COUNTS, families, samples

ROOT: Final = Path(__file__).parents[2]
FLEET: Final = ROOT / "docs" / "fleet"
PROMETHEUS: Final = FLEET / "prometheus"
UNITS: Final = FLEET / "systemd"
PROMTOOL: Final = UNPACKED / "usr" / "bin" / "promtool"
# `systemd-analyze security` counts in tenths: 11 is its 1.1.
MOST_EXPOSURE: Final = 11
PROXY: Final = Path("/usr/lib/systemd/systemd-socket-proxyd")
METRIC: Final = re.compile(r"\b(?:nicwatchd|process)_\w+")
COMMAND: Final = re.compile(r"\bnicwatchd ([a-z]+)")


def promtool(*words: str | Path, cwd: Path = PROMETHEUS) -> str:
    result = subprocess.run(
        [PROMTOOL, *words], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def known() -> set[str]:
    """The names of all series that the daemon can have."""
    return {name for name, _ in samples(metrics.render(BUSY, COUNTS))}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


# --- Prometheus ----------------------------------------------------------------------------------


def test_the_configuration_is_valid() -> None:
    assert "12 rules found" in promtool("check", "config", "prometheus.yml")


def test_the_alerts_fire_for_their_host_and_for_no_other() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")


def test_the_metrics_are_named_as_they_should_be() -> None:
    body = metrics.render(BUSY, COUNTS, process=False)
    result = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=body, capture_output=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_each_alert_is_tested() -> None:
    tests = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text())["tests"]
    fired = {
        one["alertname"]
        for test in tests
        for one in test["alert_rule_test"]
        if one.get("exp_alerts")
    }
    quiet = {
        one["alertname"]
        for test in tests
        for one in test["alert_rule_test"]
        if not one.get("exp_alerts")
    }
    assert fired == quiet == {rule["alert"] for rule in rules()}


def test_each_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert set(rule["annotations"]) == {"summary", "action"}


@pytest.mark.parametrize("path", ["prometheus/alerts.yml", "grafana/nicwatchd.json", "../fleet.md"])
def test_what_is_asked_for_exists(path: str) -> None:
    """No metric is named that the daemon does not have; a family of them counts for its series."""
    named = set(METRIC.findall((FLEET / path).read_text()))
    both = known() | {metric.name for metric in families(metrics.render(BUSY, COUNTS))}
    assert named - both - {"process_"} == set()
    assert len(named) > 3


def test_the_commands_that_the_alerts_name_exist() -> None:
    names = {name for rule in rules() for name in COMMAND.findall(rule["annotations"]["action"])}
    assert names >= {"explain", "status", "doctor"}
    (commands,) = (a.choices for a in parser()._actions if a.dest == "==SUPPRESS==")
    assert names <= set(commands or ())


# --- Grafana -------------------------------------------------------------------------------------


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FLEET / "grafana" / "nicwatchd.json").read_text())
    return found


def queries() -> Iterator[str]:
    for panel in dashboard()["panels"]:
        if panel["datasource"]["type"] == "prometheus":
            yield from (target["expr"] for target in panel["targets"])


def test_each_query_of_the_dashboard_is_valid(tmp_path: Path) -> None:
    found = [
        query.replace("$instance", ".*").replace("$__rate_interval", "5m") for query in queries()
    ]
    assert all("$" not in query for query in found)
    group = [{"record": f"query:{n}", "expr": query} for n, query in enumerate(found)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": group}]}))
    assert f"{len(found)} rules found" in promtool("check", "rules", file, cwd=tmp_path)


def test_no_panel_lies_on_another() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        own = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not own & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= own
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids)


# --- units ---------------------------------------------------------------------------------------


def test_the_units_are_correct() -> None:
    units = [path for path in UNITS.iterdir() if path.suffix in {".service", ".socket", ".timer"}]
    assert len(units) == 4
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["nicwatchd-proxy.service", "nicwatchd-textfile.service"])
def test_the_units_have_no_rights(name: str) -> None:
    unit = (UNITS / name).read_text()
    for line in ("DynamicUser=yes", "CapabilityBoundingSet=", "PrivateNetwork=yes"):
        assert line in unit.splitlines()
    command = next(line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert "/run/nicwatchd/status.sock" in command
    assert "nicwatchd.sock" not in command
    result = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true",
         f"--threshold={MOST_EXPOSURE}", UNITS / name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_the_group_and_the_directory_are_those_of_the_unit() -> None:
    unit = (UNITS / "nicwatchd-textfile.service").read_text()
    (line,) = re.findall("(?m)^g .*$", (UNITS / "nicwatchd-textfile.sysusers").read_text())
    assert f"SupplementaryGroups={line.split()[1]}" in unit.splitlines()
    tmpfiles = (UNITS / "nicwatchd-textfile.tmpfiles").read_text()
    directory, link = re.findall("(?m)^[dL].*$", tmpfiles)
    path = directory.split()[1]
    assert f"ReadWritePaths={path}" in unit.splitlines()
    assert link.split()[-1] == f"{path}/nicwatchd.prom"


@pytest.fixture
async def control(tmp_path: Path) -> Any:
    control = Control(Well(), tmp_path / "nicwatchd.sock")
    await control.start()
    yield control
    await control.close()


async def run(*command: str) -> tuple[int | None, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_the_textfile_is_written_at_once_and_is_for_node_exporter(
    control: Control, tmp_path: Path
) -> None:
    unit = (UNITS / "nicwatchd-textfile.service").read_text()
    (command,) = re.findall("(?m)^ExecStart=(.*)$", unit)
    command = command.replace("/run/nicwatchd/status.sock", str(control.read_only_path))
    command = command.replace("/run/nicwatchd-textfile", str(tmp_path))
    for _ in range(2):
        assert await run(*shlex.split(command)) == (0, "")
        body = (tmp_path / "nicwatchd.prom").read_bytes()
        assert {name for name, _ in samples(body)} >= {"nicwatchd_build_info", "nicwatchd_ready"}
        assert b"process_" not in body
    await control.close()
    code, said = await run(*shlex.split(command))
    assert code != 0
    assert "curl: (7)" in said
    assert (tmp_path / "nicwatchd.prom").read_bytes() == body  # its own time stamp tells its age


async def test_behind_the_proxy_nobody_may_write_though_it_is_root(control: Control) -> None:
    unit = (UNITS / "nicwatchd-proxy.service").read_text()
    (command,) = re.findall("(?m)^ExecStart=(.*)$", unit)
    words = shlex.split(command.replace("/run/nicwatchd/status.sock", str(control.read_only_path)))
    assert Path(words[0]) == PROXY
    (port,) = re.findall(
        r"(?m)^ListenStream=(\d+)$", (UNITS / "nicwatchd-proxy.socket").read_text()
    )
    assert f"port: {port}" in (PROMETHEUS / "prometheus.yml").read_text()
    proxy = await asyncio.create_subprocess_exec(
        "systemd-socket-activate", f"--listen=127.0.0.1:{port}", *words,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        return (await run("curl", "--silent", "--fail", f"{url}/healthz"))[0] == 0

    try:
        await eventually(answers)
        code, said = await run("curl", "--silent", f"{url}/metrics")
        assert (code, "nicwatchd_build_info" in said) == (0, True)
        for path in ("/v1/release", "/v1/reconcile", "/v1/release?interface=eth1"):
            code, said = await run("curl", "--silent", "--request", "POST", f"{url}{path}")
            assert (code, "this socket is read-only" in said) == (0, True)
    finally:
        proxy.terminate()
        await proxy.wait()


# --- logs ----------------------------------------------------------------------------------------


def test_the_examples_of_log_shippers_are_valid() -> None:
    vector = tomllib.loads((FLEET / "logs" / "vector.toml").read_text())
    assert vector["sources"]["nicwatchd"]["include_units"] == ["nicwatchd.service"]
    telegraf = tomllib.loads((FLEET / "logs" / "telegraf.conf").read_text())
    (source,) = telegraf["inputs"]["prometheus"]
    assert source["urls"] == ["unix:///run/nicwatchd/status.sock?path=/metrics"]
    promtail = yaml.safe_load((FLEET / "logs" / "promtail.yml").read_text())
    assert promtail["scrape_configs"][0]["journal"]["matches"] == "_SYSTEMD_UNIT=nicwatchd.service"


def test_the_fields_that_log_shippers_read_are_in_the_document() -> None:
    document = (ROOT / "docs" / "interfaces.md").read_text()
    for path in (FLEET / "logs").iterdir():
        for name in re.findall(r"NICWATCHD_[A-Z_]+|nicwatchd_state", path.read_text()):
            assert f"`{name.upper()}`" in document, f"{path.name}: {name}"
