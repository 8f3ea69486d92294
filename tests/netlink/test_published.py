"""Ports that containers publish: whatever `nft` prints, all else of the daemon goes on."""

from __future__ import annotations

import pytest

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
