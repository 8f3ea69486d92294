"""The key that a POST must carry: whom it keeps out, and who has it."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nicwatchd.cli.client import DaemonError, ask
from nicwatchd.cli.output import NO_RIGHT
from nicwatchd.service import handlers
from nicwatchd.service.control import Control
from nicwatchd.service.post_key import OF_PROXIES
from tests.service.test_control import Well, post, say


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    control = Control(Well(), tmp_path / "nicwatchd.sock")
    await control.start()
    yield control
    await control.close()


def error_of(answer: bytes) -> str:
    assert b" 403 Forbidden\r\n" in answer
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"])


async def test_only_its_owner_reads_it_and_it_goes_with_the_daemon(tmp_path: Path) -> None:
    key = tmp_path / "post.key"
    keys = set()
    for _ in range(2):
        key.write_text("of a daemon that died")
        key.chmod(0o644)
        key.with_suffix(".new").symlink_to(tmp_path / "elsewhere")
        control = Control(Well(), tmp_path / "nicwatchd.sock")
        await control.start()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        keys.add(key.read_text())
        await control.close()
        assert not key.exists()
    assert not (tmp_path / "elsewhere").exists()
    assert len(keys) == 2
    assert {len(each) for each in keys} == {64}


async def test_without_the_key_root_is_refused_and_told_where_it_is(control: Control) -> None:
    """As a command of an older version asks, or curl."""
    text = error_of(await say(control, b"POST /v1/release HTTP/1.0\r\n\r\n"))
    assert "the header Nicwatchd-Key is missing" in text
    assert str(control.key.path) in text
    assert "update the command" in text


@pytest.mark.parametrize("wrong", ["", "0" * 64, "\u00e9"])
async def test_another_key_is_refused(control: Control, wrong: str) -> None:
    request = f"POST /v1/release HTTP/1.0\r\nNicwatchd-Key: {wrong}\r\n\r\n".encode("latin-1")
    assert "is not the key in" in error_of(await say(control, request))


@pytest.mark.parametrize("name", OF_PROXIES)
async def test_what_a_proxy_forwards_is_refused_with_the_key_too(
    control: Control, name: str
) -> None:
    request = post(control, "/v1/release", f"{name.lower()}: 10.0.9.9\r\n")
    assert f"a proxy may not forward this (header {name})" in error_of(await say(control, request))


async def test_the_key_alone_does_not_make_anyone_root(
    control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "is_privileged", lambda _: False)
    text = error_of(await say(control, post(control, "/v1/release")))
    assert text == "only root and nicwatchd's own user may do this"


async def test_the_command_sends_it(control: Control) -> None:
    released = await asyncio.to_thread(ask, control.path.parent, "POST", "/v1/release")
    assert released["failed"] == []


async def test_the_command_passes_on_why_it_is_refused(control: Control) -> None:
    control.key.path.unlink()
    with pytest.raises(DaemonError, match=r"the header Nicwatchd-Key is missing") as raised:
        await asyncio.to_thread(ask, control.path.parent, "POST", "/v1/release")
    assert raised.value.code == NO_RIGHT
    assert "\n" not in str(raised.value)


async def test_a_daemon_without_a_key_is_asked_without_one(tmp_path: Path) -> None:
    """An older version, which takes no notice of the header, and makes no file."""
    requests = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n{}")
        writer.close()

    older = await asyncio.start_unix_server(answer, tmp_path / "nicwatchd.sock")
    async with older:
        assert await asyncio.to_thread(ask, tmp_path, "POST", "/v1/release") == {}
    assert requests == [b"POST /v1/release HTTP/1.0\r\n\r\n"]


async def through_a_proxy(control: Control, front: Path, request: bytes) -> bytes:
    """What a client gets by a proxy of root's that forwards each byte as it is."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(control.path)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    proxy = await asyncio.start_unix_server(forward, front)
    async with proxy:
        return await say(control, request, front)


async def test_who_comes_by_a_proxy_of_roots_cannot_release(
    control: Control, tmp_path: Path
) -> None:
    request = b"POST /v1/release HTTP/1.0\r\n\r\n"
    answer = await through_a_proxy(control, tmp_path / "front.sock", request)
    assert "is missing" in error_of(answer)
    status = await through_a_proxy(control, tmp_path / "f.sock", b"GET /healthz HTTP/1.0\r\n\r\n")
    assert b" 200 OK" in status
