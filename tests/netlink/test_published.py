"""Ports that containers publish: whatever `nft` prints, all else of the daemon goes on."""

from __future__ import annotations

import subprocess

import pytest

from nicwatchd.core.firewall import Published
from nicwatchd.netlink import published

LISTED = """
{"nftables": [
  {"table": {"family": "ip", "name": "nat"}},
  {"chain": {"family": "ip", "table": "nat", "name": "PRE", "type": "nat", "hook": "prerouting",
             "prio": -100, "policy": "accept"}},
  {"rule": {"family": "ip", "table": "nat", "chain": "PRE", "expr": [
    {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}},
               "right": 8080}},
    {"dnat": {"addr": "172.18.0.2", "port": 80}}]}}
]}
"""


@pytest.mark.parametrize(
    ("printed", "ports"),
    [
        ("", []),
        (LISTED, [8080]),
        ("no JSON at all", []),
        ('{"nftables": [{"chain": {}}]}', []),
        ('{"nftables": [{"rule": {"family": "ip", "table": "nat", "chain": 7}}]}', []),
    ],
    ids=["nothing", "a port", "garbage", "an unknown form", "a rule without statements"],
)
async def test_what_nft_prints(
    monkeypatch: pytest.MonkeyPatch, printed: str, ports: list[int]
) -> None:
    async def output(name: str, *arguments: str) -> str:
        del name, arguments
        return printed

    monkeypatch.setattr(published, "_output", output)
    assert [each.port for each in await published._list()] == ports


# --- when it is listed --------------------------------------------------------------------------

TABLE = """
table ip ours {
  map ports { type inet_service : verdict; elements = { 81 : accept }; }
  chain there { tcp dport 80 counter dnat to 172.18.0.2; }
  chain pre { type nat hook prerouting priority dstnat; jump there; }
}
table inet filter {
  set bad { type ipv4_addr; }
  chain in { type filter hook input priority filter; }
}
"""


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)


class Listings:
    """Counts them; each costs so much CPU time."""

    def __init__(self, patch: pytest.MonkeyPatch, cost: float = 0.0) -> None:
        self.made = 0
        self._cost, self._spent = cost, 0.0
        self._right = published._list
        patch.setattr(published, "_list", self._list)
        patch.setattr(published, "_cpu", lambda: self._spent)

    async def _list(self) -> tuple[Published, ...]:
        self.made += 1
        self._spent += self._cost
        return await self._right()


@pytest.mark.usefixtures("namespace")
@pytest.mark.parametrize(
    ("change", "is_listed"),
    [
        ("add rule ip ours there udp dport 53 dnat to 172.18.0.2", True),
        ("add chain ip ours more", True),
        ("add element ip ours ports { 82 : drop }", True),
        ("delete element ip ours ports { 81 }", True),
        (f"delete table ip ours\n{TABLE.partition('table inet')[0]}", True),
        ("delete table ip ours", True),
        ("add table ip6 new\nadd chain ip6 new pre { type nat hook prerouting priority 0; }", True),
        ("add rule inet filter in drop", False),
        ("add element inet filter bad { 192.0.2.1 }", False),
        ("add table inet more", False),
        ("add chain inet filter pre { type filter hook prerouting priority 0; }", False),
        ("add chain inet filter post { type nat hook postrouting priority 0; }", False),
        ("reset counters", False),
    ],
)
async def test_it_is_listed_when_it_may_concern_a_port(
    monkeypatch: pytest.MonkeyPatch, change: str, *, is_listed: bool
) -> None:
    nft(TABLE)
    listings = Listings(monkeypatch)
    ports = published.PublishedPorts()
    for _ in range(2):
        assert [each.port for each in await ports.read()] == [80]
    assert listings.made == 1
    nft(change)
    for _ in range(2):
        await ports.read()
    assert listings.made == 1 + is_listed
    ports.close()


@pytest.mark.usefixtures("namespace")
async def test_what_is_spent_on_listing_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds are saved up; then it takes a hundred times as long as a listing to the next."""
    now = 1000.0
    monkeypatch.setattr(published, "monotonic", lambda: now)
    listings, ports = Listings(monkeypatch, cost=0.5), published.PublishedPorts()

    async def change() -> int:
        nft("flush ruleset\n" + TABLE)
        await ports.read()
        return listings.made

    assert [await change() for _ in range(7)] == [1, 2, 3, 4, 5, 5, 5]
    now += 49.0
    assert await change() == 5
    now += 1.0
    assert await change() == 6, "what was not spent is there again"
    assert await change() == 6
    now += 1000.0
    assert [await change() for _ in range(7)] == [7, 8, 9, 10, 11, 11, 11]
    ports.close()
