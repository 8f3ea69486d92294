"""What the IMDS client is told about the host where its routes do not lead to IMDS."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import MAIN_TABLE, RTPROT_STATIC, SCOPE_LINK, Family, Route, Rule
from nicwatchd.core.port import KernelError
from nicwatchd.imds.condition import Condition
from nicwatchd.service import journal
from nicwatchd.service.detour import HostDetour
from nicwatchd.service.telling import ImdsChanged, Told
from tests.service.conftest import Host, until

IMDS = {Family.V4: "http://169.254.169.254", Family.V6: "http://[fd00:ec2::254]:80"}
NETS = {Family.V4: ip_network("169.254.169.254/32"), Family.V6: ip_network("fd00:ec2::254/128")}


@pytest.mark.parametrize("family", Family, ids=lambda family: family.label)
async def test_where_the_hosts_routes_lead_in_words(host: Host, family: Family) -> None:
    index = host.plug_primary()
    async with host.daemon() as daemon:
        await until(daemon, "eth0", lambda status: status.state is State.IGNORED)
        detour = HostDetour(daemon.host, host.kernel)
        assert await detour.route_to(IMDS[family]) == "no route"
        scope = SCOPE_LINK if family is Family.V4 else 0
        host.kernel.put(Route(NETS[family], MAIN_TABLE, index, RTPROT_STATIC, scope=scope))
        assert await detour.route_to(IMDS[family]) == "by eth0"
        for action, words in ((6, "a blackhole route or rule"), (8, "a prohibit route or rule")):
            host.kernel.put(rule := Rule(family, 100 - action, 0, 3, action=action))
            assert await detour.route_to(IMDS[family]) == words
            host.kernel.drop(rule)


async def test_what_cannot_be_told_is_left_out(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async with host.daemon() as daemon:
        detour = HostDetour(daemon.host, host.kernel)
        assert await detour.route_to("http://imds.example") == ""

        async def fails(*_args: object) -> None:
            raise KernelError("no answer")

        monkeypatch.setattr(host.kernel, "route_get", fails)
        assert await detour.route_to(IMDS[Family.V4]) == ""


async def test_the_links_are_those_of_the_host(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        index = host.plug()
        await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
        detour = HostDetour(daemon.host, host.kernel)
        assert detour.devices(0) == ("eth0", "eth1")
        host.kernel.set_link(replace(host.link(index), up=False))
        await daemon.reconcile()
        assert detour.devices(0) == ("eth0",)


def test_a_way_by_a_link_of_any_name_is_told(host: Host) -> None:
    """The kernel allows nearly any byte in a link's name, and journald only text."""
    odd = b"eth\xff".decode(errors="surrogateescape")
    condition = Condition("ok", f"bound to {odd}; by the host's routes: ...", device=odd)
    journal.Journal(host.write).observe(Told(ImdsChanged(condition)))
    assert [entry.message for entry in host.entries] == [
        "IMDS answers (bound to eth\\xff; by the host's routes: ...)"
    ]
