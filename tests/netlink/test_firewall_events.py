"""That nftables changed is told; not each change, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator

import pytest

from nicwatchd.core.port import Event, FirewallEvent, Heeded
from nicwatchd.netlink import firewall_events
from nicwatchd.netlink.events import EventSocket
from tests.netlink.conftest import Heard, ip

TABLE = "add table inet t\nadd set inet t s { type mark; }\n"
HEEDED = Heeded(firewall=True)


@pytest.fixture
async def source(namespace: None, heard: Heard) -> AsyncIterator[EventSocket]:  # noqa: ARG001 (it is in it)
    source = EventSocket()
    source.start(heard.notify)
    yield source
    source.close()


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)


def is_told(event: Event) -> bool:
    return event == FirewallEvent()


async def test_changes_are_told_once_for_many(source: EventSocket, heard: Heard) -> None:
    """Far more than the buffer has place for; and the next one after that."""
    source.heed(HEEDED)
    nft(TABLE)
    for number in range(100):
        nft(f"add element inet t s {{ {number} }}")
    nft("".join(f"add element inet t s {{ {number} }}\n" for number in range(100, 5000)))
    await heard.until(is_told)
    told = len(heard.events)
    assert told < 100
    heard.events.clear()
    nft("flush set inet t s")
    await heard.until(is_told)


async def test_what_is_not_heeded_is_not_told(
    source: EventSocket, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is there a socket for it."""
    opened: list[int] = []
    right = firewall_events.open_firewall_socket

    def counted() -> object:
        opened.append(1)
        return right()

    monkeypatch.setattr(firewall_events, "open_firewall_socket", counted)
    nft(TABLE)
    source.heed(Heeded())
    assert not opened
    for _ in range(2):
        source.heed(HEEDED)
        source.heed(HEEDED)
    assert len(opened) == 1, "it is the same"
    nft("add element inet t s { 1 }")
    await heard.until(is_told)
    heard.events.clear()
    source.heed(Heeded())
    nft("add element inet t s { 2 }")
    ip("link add last type veth")
    await heard.until(lambda event: getattr(event, "name", "") == "last")
    assert not any(map(is_told, heard.events))


async def test_a_kernel_without_nftables_has_no_changes(
    source: EventSocket, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> object:
        raise PermissionError

    monkeypatch.setattr(firewall_events, "open_firewall_socket", refused)
    source.heed(HEEDED)
    source.heed(Heeded())
    assert heard.events == []
