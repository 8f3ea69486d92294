"""The server by itself: as strict as EC2's, and its controls."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import aiohttp
import pytest

from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.script import EniScript, Fault, Scenario, Step

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PRIMARY = "02:00:00:00:00:01"
ETH0 = EniScript("eth0", PRIMARY)
ETH1 = EniScript("eth1", "02:00:00:00:00:02", steps=(Step(0, listed=False), Step(9, listed=True)))
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
MACS = "/latest/meta-data/network/interfaces/macs/"


@pytest.fixture
async def server() -> AsyncIterator[ImdsServer]:
    made = ImdsServer(Scenario(PRIMARY, (ETH0, ETH1)))
    await made.start(("127.0.0.1", 0))
    yield made
    await made.stop()


@pytest.fixture
async def http(server: ImdsServer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.endpoints[0]) as session:
        yield session


async def _token(http: aiohttp.ClientSession) -> dict[str, str]:
    async with http.put("/latest/api/token", headers={TTL: "60"}) as answer:
        assert answer.headers[TTL] == "60"
        return {"X-aws-ec2-metadata-token": await answer.text()}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("PUT", {}, 400),
        ("PUT", {TTL: "0"}, 400),
        ("PUT", {TTL: "21601"}, 400),
        ("PUT", {TTL: "x"}, 400),
        ("PUT", {TTL: "21600"}, 200),
        ("PUT", {TTL: "60", "X-Forwarded-For": "192.0.2.1"}, 403),
        ("GET", {}, 405),
    ],
)
async def test_token(
    http: aiohttp.ClientSession, method: str, headers: dict[str, str], status: int
) -> None:
    async with http.request(method, "/latest/api/token", headers=headers) as answer:
        assert answer.status == status


async def test_a_token_is_needed(http: aiohttp.ClientSession, server: ImdsServer) -> None:
    token = await _token(http)
    path = "/latest/meta-data/mac"
    statuses = []
    for headers in ({}, {"X-aws-ec2-metadata-token": "x"}, token):
        async with http.get(path, headers=headers) as answer:
            statuses.append(answer.status)
    server.expire_tokens()
    async with http.get(path, headers=token) as answer:
        statuses.append(answer.status)
    assert statuses == [401, 401, 200, 401]
    assert [request.status for request in server.log] == [200, 401, 401, 200, 401]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/2021-03-23/meta-data/instance-id", 200),
        ("/2021-03-23/dynamic/instance-identity/document", 200),
        ("/latest/user-data", 404),
        ("/1999-01-01/meta-data/instance-id", 404),
    ],
)
async def test_versions(http: aiohttp.ClientSession, path: str, status: int) -> None:
    async with http.get(path, headers=await _token(http)) as answer:
        assert answer.status == status


async def test_plug_advance_unplug(http: aiohttp.ClientSession, server: ImdsServer) -> None:
    token = await _token(http)

    async def listed() -> str:
        async with http.get(MACS, headers=token) as answer:
            return await answer.text()

    assert await listed() == f"{PRIMARY}/"
    server.plug("eth1")
    assert await listed() == f"{PRIMARY}/"
    server.advance("eth1", 9)
    assert await listed() == f"{PRIMARY}/\n{ETH1.mac}/"
    server.step("eth1", listed=False)
    assert await listed() == f"{PRIMARY}/"
    server.step("eth1", complete=True)
    server.unplug("eth1")
    assert await listed() == f"{PRIMARY}/"


async def test_facts_change_in_place_and_steps_stay(
    http: aiohttp.ClientSession, server: ImdsServer
) -> None:
    token = await _token(http)
    server.plug("eth1")
    server.step("eth1", listed=True, hide={"device-number"}, texts={"subnet-id": "by hand"})
    server.change(replace(ETH1, ipv6=("2001:db8::5",)))
    for key, said in (("ipv6s", "2001:db8::5"), ("subnet-id", "by hand")):
        async with http.get(f"{MACS}{ETH1.mac}/{key}", headers=token) as answer:
            assert await answer.text() == said
    async with http.get(f"{MACS}{ETH1.mac}/device-number", headers=token) as answer:
        assert answer.status == 404


async def test_refusing_is_real_and_ends_on_the_same_port(server: ImdsServer) -> None:
    host, port = server.endpoints[0].removeprefix("http://").split(":")
    server.fault("all", "refuse")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))
    server.clear()
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    await writer.wait_closed()


async def test_on_and_off_at_once_leaves_it_refusing(server: ImdsServer) -> None:
    server.fault("all", "refuse")
    server.clear()
    server.fault("all", "refuse")
    host, port = server.endpoints[0].removeprefix("http://").split(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_a_reset_is_a_reset(server: ImdsServer) -> None:
    server.fault("all", "reset")
    host, port = server.endpoints[0].removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises(ConnectionResetError) as caught:
        await reader.read()
    assert caught.value.errno == errno.ECONNRESET
    writer.close()
    with pytest.raises(ConnectionResetError):
        await writer.wait_closed()


async def test_bound_sockets_and_scripted_faults() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    faults = (Fault("token", "503", 0, 3600, "2"), Fault("token", "404", 3600))
    server = ImdsServer(Scenario(PRIMARY, faults=faults))
    await server.start(bound)
    assert server.endpoints == (f"http://127.0.0.1:{port}",)
    async with (
        aiohttp.ClientSession(server.endpoints[0]) as http,
        http.put("/latest/api/token") as answer,
    ):
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "2"
    await server.stop()
    assert bound.fileno() == -1


async def test_wait_for(http: aiohttp.ClientSession, server: ImdsServer) -> None:
    waiting = asyncio.create_task(
        server.wait_for(lambda log: sum(request.method == "PUT" for request in log) == 2)
    )
    await _token(http)
    assert not waiting.done()
    await _token(http)
    await waiting
    assert [request.method for request in server.log] == ["PUT", "PUT"]
