"""The control socket, the commands, signals, and a daemon that ends and begins again."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import aiohttp
import pytest

from nicwatchd import __version__
from nicwatchd.sim.ec2 import SETTINGS
from tests.scenarios.commands import AS_NOBODY, nicwatchd_on
from tests.scenarios.host import (
    DEFAULT,
    WITHIN,
    HostUnderTest,
    complete,
    ec2_host,
    late,
    numbered,
    settings,
    waits_for,
)
from tests.scenarios.monitor import changes
from tests.scenarios.streams import streams

# What /readyz answers while IPv4 of eth1 works, and its IPv6 waits.
IPV4_ALONE = {
    "family=ipv4": 200,
    "family=ipv6": 503,
    "interface=eth1": 503,
    "interface=eth1&family=ipv4": 200,
    "interface=10.0.2.11&family=ipv6": 503,
    "interface=eth0": 200,
    "interface=10.0.2.99": 404,
    "family=ipx": 400,
}


async def http_status(
    host: HostUnderTest, path: str, method: str = "GET", socket: str = "nicwatchd.sock"
) -> int:
    connector = aiohttp.UnixConnector(str(host.daemon.socket.with_name(socket)))
    async with (
        aiohttp.ClientSession("http://nicwatchd", connector=connector) as session,
        session.request(method, path) as response,
    ):
        return response.status


async def test_what_the_socket_answers() -> None:
    async with ec2_host(numbered(1, steps=late(3600.0))) as host:
        await host.until("eth0", lambda status: status["health"] == "working")
        assert await http_status(host, "/readyz") == 200
        await host.plug("eth1")
        await host.until("eth1", waits_for("undecided-ipv6"))
        assert await http_status(host, "/healthz") == 200
        assert await http_status(host, "/readyz") == 503
        (entry,) = (await host.daemon.get("/readyz"))["not_ready"]
        assert (entry["interface"], entry["state"]) == ("eth1", "awaiting-imds")
        assert (entry["family"], entry["waits"]) == ("ipv6", True)
        assert "undecided-ipv6" in {cause["code"] for cause in entry["causes"]}
        for query, expected in IPV4_ALONE.items():
            assert await http_status(host, f"/readyz?{query}") == expected
        listed = await host.daemon.get("/v1/interfaces")
        assert [interface["name"] for interface in listed] == ["eth0", "eth1"]
        assert await http_status(host, "/v1/interfaces/eth9") == 404
        assert "eth9" in (await host.daemon.get("/v1/interfaces/eth9"))["error"]
        host.imds.step("eth1", complete=True)
        await host.until("eth1", complete)
        assert await http_status(host, "/readyz") == 200
        eni = host.ec2.scenario.eni("eth1").facts()["interface-id"]
        await host.shows("eth1", "eni", eni)  # it is for people, and may come last
        eth1 = await host.status("eth1")
        for key in (eth1["mac"], eth1["mac"].upper(), eni, "10.0.2.11", "2001:db8:ec2:2::11"):
            assert (await host.status(key))["index"] == eth1["index"]


async def test_the_read_only_socket_lets_nobody_write() -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.kernel_objects()
        for path in ("/v1/release", "/v1/release?interface=eth1", "/v1/reconcile"):
            assert await http_status(host, path, "POST", "status.sock") == 403
        assert await http_status(host, "/readyz", socket="status.sock") == 200
        assert await host.kernel_objects() == before


async def test_events_tell_each_transition_in_order() -> None:
    async with ec2_host(numbered(1, steps=late(2.0))) as host, host.daemon.events() as events:
        await host.plug("eth1")
        states: list[str] = []
        async with asyncio.timeout(WITHIN):
            async for status in events:
                if status["name"] == "eth1" and status["state"] not in states[-1:]:
                    states.append(status["state"])
                if states[-1:] == ["applied"]:
                    break
        assert states == ["detected", "awaiting-imds", "validated", "applied"]


async def test_the_commands() -> None:
    async with ec2_host(numbered(1, steps=late(3600.0))) as host:
        await host.plug("eth1")
        await host.until("eth1", waits_for("undecided-ipv6"))
        said = await nicwatchd_on(host.vpc, "status")
        assert said.code == 1  # not all is well
        assert "2 interfaces work IMDS ok" in said.text
        assert "eth1 waits for IPv6: no IPv6 in IMDS yet" in said.text
        assert "IPv4 works." in said.text
        said = await nicwatchd_on(host.vpc, "status", "eth1", "--json")
        (eth1,) = json.loads(said.out)["interfaces"]
        assert eth1["reasons"][0]["code"] == "undecided-ipv6"
        said = await nicwatchd_on(host.vpc, "status", "eth9")
        assert (said.code, said.complaint_line) == (
            3,
            "nicwatchd: no interface 'eth9'; there are: eth0, eth1",
        )
        host.imds.step("eth1", complete=True)
        await host.until("eth1", complete)
        said = await nicwatchd_on(host.vpc, "reconcile")
        assert said.code == 0
        assert said.text.startswith(
            f"nicwatchd {__version__} 2 of 2 interfaces work IMDS ok, asked "
        )
        await host.daemon.stop()
        said = await nicwatchd_on(host.vpc, "status")
        assert said.code == 4
        assert "the daemon is not running" in said.complaint.splitlines()[0]


async def test_anyone_may_read_and_only_root_may_write() -> None:
    async with ec2_host() as host:
        written = await nicwatchd_on(host.vpc, "reconcile")
        assert written.code == 0
        if is_the_only_user():  # in a sandbox that was made without root
            return
        read = await nicwatchd_on(host.vpc, "status", "--json", wrapper=AS_NOBODY)
        assert json.loads(read.out)["pid"] == host.daemon.process.pid
        refused = await nicwatchd_on(host.vpc, "reconcile", wrapper=AS_NOBODY)
        assert refused.code == 5
        assert "only root and nicwatchd's own user may do this" in refused.complaint_line


def is_the_only_user() -> bool:
    """Whether the user namespace has uid 0 and no other."""
    _, _, count = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    return int(count) == 1


async def test_sighup_takes_new_settings_and_refuses_bad_ones() -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        config = host.daemon.config

        config.write_text(SETTINGS + 'exclud = ["eth1"]\n')
        host.daemon.process.send_signal(signal.SIGHUP)
        await host.logged("the old ones remain in effect")
        assert "did you mean 'exclude'?" in host.daemon.log
        assert complete(await host.status("eth1"))
        assert await http_status(host, "/healthz") == 200  # a restart could not mend it
        ready = await host.daemon.get("/readyz")
        assert [entry["causes"][0]["code"] for entry in ready["not_ready"]] == ["daemon-problem"]
        assert "did you mean 'exclude'?" in ready["waiting"][0]

        config.write_text(SETTINGS.replace('"c-*"', '"c-*", "eth1"'))
        host.daemon.process.send_signal(signal.SIGHUP)
        status = await host.until("eth1", "ignored")
        assert status["reasons"][0]["code"] == "excluded"
        assert await http_status(host, "/readyz") == 200

        config.write_text(settings(rules="address"))
        host.daemon.process.send_signal(signal.SIGHUP)
        status = await host.until("eth1", complete)
        await host.all_reachable("eth1")
        assert f"from 10.0.2.11 lookup {status['table']}" in await host.own_rules()


@pytest.mark.parametrize("end", ["terminated", "killed"])
async def test_an_end_leaves_everything_and_a_start_writes_nothing(end: str) -> None:
    async with ec2_host(numbered(1)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.checked()
        before = await host.kernel_objects()
        async with changes(host) as changed, streams(host, "eth1"):
            if end == "terminated":
                assert await host.daemon.stop() == 0
            else:
                await host.daemon.kill()
            assert await host.kernel_objects() == before
            await host.all_reachable("eth1")

            again = await host.ec2.start_daemon(DEFAULT)
            await again.until("eth1", complete)
            await again.post("/v1/reconcile")
            assert await host.kernel_objects() == before
        assert changed == []
