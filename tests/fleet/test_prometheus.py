"""The alerts of docs/fleet in a real Prometheus, which scrapes daemons on hosts that break.

Each host is behind the proxy of docs/fleet on a loopback address of its own. Prometheus has a copy
of the alerts whose `for:` is divided by 20: a minute becomes 3 s. Nothing else of them is changed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml

from tests.fleet.hosts import CASES, Case, goes_on, on_port
from tests.scenarios.host import HostUnderTest, ec2_host
from tests.scenarios.software import UNPACKED, eventually

PROMETHEUS: Final = UNPACKED / "usr" / "bin" / "prometheus"
ALERTS: Final = Path(__file__).parents[2] / "docs" / "fleet" / "prometheus" / "alerts.yml"
LISTEN: Final = "127.0.0.1:9090"
FASTER: Final = 20
UNITS: Final = {"s": 1, "m": 60, "h": 3600}
PATIENCE: Final = 90.0  # s; ends what hangs
LONGER: Final = 20.0  # s in which no other may fire, once all do that should: more than any `for:`


def faster(duration: str) -> str:
    """A duration such as 5m, divided."""
    number, unit = re.fullmatch(r"(\d+)([smh])", duration).groups()  # type: ignore[union-attr] # else it fails
    return f"{int(number) * UNITS[unit] * 1000 // FASTER}ms"


def alerts() -> dict[str, Any]:
    """The alerts, with shorter times."""
    found: dict[str, Any] = yaml.safe_load(ALERTS.read_text())
    for group in found["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = faster(rule["for"])
    return found


@dataclass(frozen=True)
class Prometheus:
    """One that runs. `seen`: all alerts that fired at any time, as (host, name)."""

    session: aiohttp.ClientSession
    seen: set[tuple[str, str]]

    async def get(self, path: str, **query: str) -> Any:
        async with self.session.get(f"/api/v1/{path}", params=query) as response:
            return (await response.json())["data"]

    async def look(self) -> set[tuple[str, str]]:
        """The alerts that fire now; remembers them."""
        said = (await self.get("alerts"))["alerts"]
        firing = {
            (each["labels"]["instance"], each["labels"]["alertname"])
            for each in said
            if each["state"] == "firing"
        }
        self.seen.update(firing)
        return firing

    async def scrapes(self, names: Iterable[str]) -> bool:
        """Whether it has scraped all of these."""
        said = (await self.get("query", query='up{job="nicwatchd"} == 1'))["result"]
        return {each["metric"]["instance"] for each in said} == set(names)


@asynccontextmanager
async def prometheus(directory: Path, targets: dict[str, str]) -> AsyncIterator[Prometheus]:
    """Run Prometheus; `targets` gives addresses by the names of hosts."""
    assert PROMETHEUS.exists(), f"{PROMETHEUS} is missing: run .ci/setup"
    (directory / "alerts.yml").write_text(yaml.safe_dump(alerts()))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {
                "job_name": "nicwatchd",
                "static_configs": [
                    {"targets": [address], "labels": {"instance": name}}
                    for name, address in targets.items()
                ],
            }
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            PROMETHEUS,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={LISTEN}",
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession(f"http://{LISTEN}") as session:
            yield Prometheus(session, set())
    finally:
        process.terminate()
        await process.wait()


async def answers(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("/-/ready") as response:
            return response.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def test_each_alert_fires_for_its_host_and_for_no_other(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        hosts: list[tuple[Case, HostUnderTest]] = []
        targets: dict[str, str] = {}
        for case in CASES:
            host = await stack.enter_async_context(
                ec2_host(*case.enis, judged=False, watched=False, **case.options)
            )
            stack.push_async_callback(goes_on, host)
            targets[case.name] = f"127.0.1.{len(hosts) + 1}:9936"
            await stack.enter_async_context(on_port(host, targets[case.name]))
            hosts.append((case, host))
        server = await stack.enter_async_context(prometheus(tmp_path, targets))
        await eventually(lambda: answers(server.session), (tmp_path / "log").read_text)
        await eventually(lambda: server.scrapes(targets))
        await asyncio.gather(*(case.happens(host) for case, host in hosts))
        await judge(server)


async def judge(server: Prometheus) -> None:
    """Wait until all alerts fire that are to; then, and for a while, none fires besides."""
    wanted = {(case.name, alert) for case in CASES for alert in case.alerts}
    allowed = wanted | {(case.name, alert) for case in CASES for alert in case.also}
    try:
        async with asyncio.timeout(PATIENCE):
            while not await server.look() >= wanted:  # noqa: ASYNC110 (Prometheus tells no event)
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise AssertionError(f"did not fire: {wanted - await server.look()}") from None
    loop = asyncio.get_running_loop()
    until = loop.time() + LONGER
    while loop.time() < until:
        assert await server.look() <= allowed
        await asyncio.sleep(0.5)
    assert server.seen <= allowed, server.seen - allowed
    assert {name for name, _ in wanted} == {case.name for case in CASES if case.alerts}
    assert [case.name for case in CASES if not case.alerts], "some hosts are well"


def test_every_alert_has_a_host() -> None:
    (group,) = alerts()["groups"]
    fired = {alert for case in CASES for alert in case.alerts}
    assert fired == {rule["alert"] for rule in group["rules"]}
