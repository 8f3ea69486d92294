"""`nicwatchd release` after a daemon has run: in memory, and in real namespaces."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.core import diff
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import (
    LINK_GROUP,
    PROTOCOL,
    Address,
    Family,
    Link,
    Numbers,
    Operation,
    RemoveRule,
    Route,
    Rule,
)
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Outcome, Result
from nicwatchd.core.releases import Releases
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.offline_release import locked_ledger, release
from nicwatchd.service.platform import AlreadyRunningError, Lock
from nicwatchd.service.requests import UnknownInterfaceError
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.script import Scenario
from tests.service.conftest import AT_ONCE, ETH0, ETH1, MAC, PRIMARY, Host, eventually, until

FOREIGN_TABLE = 77


def picture(host: Host) -> list[str]:
    """Everything that a release may change, as text."""
    kernel = host.kernel
    links = kernel._state.links.values()
    seen = [f"{link.name} {link.group} {kernel.ip_addr(link.index)}" for link in links]
    for family in Family:
        seen.append(kernel.ip_rule(family))
        seen += [str(route) for route in kernel._state.routes if route.family is family]
    return seen


def furnish(host: Host) -> list[str]:
    """Plug both interfaces, and add objects of others; returns the resulting state."""
    host.plug_primary()
    index = host.plug()
    host.kernel.set_link(replace(host.link(index), up=True, running=True))
    host.kernel.put(Address(index, ip_address("10.0.2.99"), 24))  # the operator's
    foreign = ip_network("192.0.2.0/24")
    host.kernel.put(Route(foreign, FOREIGN_TABLE, index, protocol=4, scope=253))
    host.kernel.put(Rule(Family.V4, 32765, FOREIGN_TABLE, protocol=4, src=foreign))
    return picture(host)


@pytest.fixture
async def used(host: Host) -> tuple[Host, list[str]]:
    """A host on which a daemon applied eth1 and was stopped, and the state before that."""
    before = furnish(host)
    async with host.daemon() as daemon:
        await applied(daemon)
    assert picture(host) != before
    return host, before


async def test_what_is_ours_goes_and_nothing_else(used: tuple[Host, list[str]]) -> None:
    host, before = used
    released = await release(host.kernel, Ledger(host.directory))
    assert released.failed == ()
    assert picture(host) == before


async def test_a_second_release_finds_nothing(used: tuple[Host, list[str]]) -> None:
    host, _ = used
    await release(host.kernel, Ledger(host.directory))
    again = await release(host.kernel, Ledger(host.directory))
    assert (again.done, again.failed) == ((), ())


async def test_one_interface_alone(used: tuple[Host, list[str]]) -> None:
    host, before = used
    await release(host.kernel, Ledger(host.directory), only="eth1")
    groups = {link.name: link.group for link in host.kernel._state.links.values()}
    assert (groups["eth0"], groups["eth1"]) == (LINK_GROUP, 0)
    assert _without_primary(picture(host)) == _without_primary(before)


async def test_another_interface_keeps_what_is_its_own(used: tuple[Host, list[str]]) -> None:
    host, _ = used
    there = picture(host)
    await release(host.kernel, Ledger(host.directory), only=PRIMARY)
    assert picture(host) != there
    assert _without_primary(picture(host)) == _without_primary(there)
    left = [line for line in "\n".join(picture(host)).split("\n") if OF_PRIMARY.search(line)]
    assert left[0].startswith("eth0 0 "), "not in the group"
    assert not [line for line in left if "1000703" in line or "proto 236" in line]


@pytest.mark.parametrize("other", [{"master": 9}, {"driver": None}, {"kind": "veth"}])
async def test_one_that_the_settings_would_leave_alone_keeps_it_too(
    used: tuple[Host, list[str]], other: dict[str, Any]
) -> None:
    host, _ = used
    index = next(i for i, link in host.kernel._state.links.items() if link.name == "eth1")
    host.kernel.set_link(replace(host.link(index), **other))
    there = _without_primary(picture(host))
    await release(host.kernel, Ledger(host.directory), only="eth0")
    assert _without_primary(picture(host)) == there


async def test_a_move_that_was_broken_off_is_not_finished(used: tuple[Host, list[str]]) -> None:
    """Of an address: it is still on eth1, and already leads to eth0's table. IMDS knows why."""
    host, _ = used
    table = Numbers().table_of(2)
    src = ip_network("10.0.2.11/32")
    host.kernel.put(Rule(Family.V4, 32602, table, protocol=PROTOCOL, src=src))
    there = await host.kernel.addresses(3)
    await release(host.kernel, Ledger(host.directory), only="eth0")
    assert await host.kernel.addresses(3) == there


async def test_all_links_with_a_mac(used: tuple[Host, list[str]]) -> None:
    """A bond has the MAC of its port, and may be the first of the two."""
    host, before = used
    links = host.kernel._state.links
    ports = dict(links)
    links.clear()
    links |= {900: Link(900, MAC, "bond0", up=True, kind="bond", driver="bonding")} | ports
    await release(host.kernel, Ledger(host.directory), only=MAC.upper())
    del links[900]
    assert _without_primary(picture(host)) == _without_primary(before)


async def test_an_unknown_interface_is_named(used: tuple[Host, list[str]]) -> None:
    host, _ = used
    with pytest.raises(UnknownInterfaceError, match=r"no interface 'eth7'; there are: eth0, eth1"):
        await release(host.kernel, Ledger(host.directory), only="eth7")


async def test_another_link_group_is_left(host: Host) -> None:
    index = host.plug_primary()
    host.kernel.set_link(replace(host.link(index), group=5))
    await release(host.kernel, Ledger(host.directory))
    assert host.link(index).group == 5


def stubborn(host: Host, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Make the kernel refuse to remove our rules, until the event is set."""
    run, over = host.kernel.run, asyncio.Event()

    async def keep_rules(operations: list[Operation]) -> list[Outcome]:
        rules = [each for each in operations if isinstance(each, RemoveRule) and not over.is_set()]
        others = [each for each in operations if each not in rules]
        refused = [Outcome(rule, Result.REFUSED, 1, "no") for rule in rules]
        return [*refused, *await run(others)]

    monkeypatch.setattr(host.kernel, "run", keep_rules)
    return over


async def test_what_the_kernel_does_not_let_go_is_told(
    used: tuple[Host, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, before = used
    with monkeypatch.context() as patch:
        stubborn(host, patch)
        released = await release(host.kernel, Ledger(host.directory))
    assert released.failed
    assert all(" rule del" in words for words, _ in released.failed)
    await release(host.kernel, Ledger(host.directory))  # a second try knows them still
    assert picture(host) == before


async def test_a_bug_is_not_taken_for_a_release(
    used: tuple[Host, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tells that the addresses are ours must stay for a second try."""
    host, before = used
    entries = Ledger(host.directory)._entries

    def raises(*_args: object) -> None:
        raise ValueError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(diff.Differ, "diff", raises)
        with pytest.raises(RuntimeError, match="planted"):
            await release(host.kernel, Ledger(host.directory))
    assert Ledger(host.directory)._entries == entries
    await release(host.kernel, Ledger(host.directory))
    assert picture(host) == before


OTHER = Numbers(priority=31000, table_base=5_000_000, group=77)


async def test_other_numbers_are_told_by_the_rules(host: Host) -> None:
    host.plug_primary()
    host.plug()
    before = picture(host)
    async with host.daemon(replace(AT_ONCE, numbers=OTHER)) as daemon:
        await until(daemon, "eth1", lambda status: status.state is State.APPLIED)
    assert {link.group for link in host.kernel._state.links.values() if link.index > 1} == {77}
    await release(host.kernel, Ledger(host.directory))
    assert picture(host) == before


async def test_where_there_is_no_rule_the_settings_tell_the_group(host: Host) -> None:
    index = host.plug_primary()
    async with host.daemon(replace(AT_ONCE, numbers=OTHER)):
        await eventually(lambda: host.link(index).group == 77)
    await release(host.kernel, Ledger(host.directory))
    assert host.link(index).group == 77
    await release(host.kernel, Ledger(host.directory), policy=Policy(numbers=OTHER))
    assert host.link(index).group == 0


def test_not_while_a_daemon_runs(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(AlreadyRunningError), locked_ledger(tmp_path):
        pass
    lock.release()


def test_where_no_daemon_ran_nothing_is_made(tmp_path: Path) -> None:
    with locked_ledger(tmp_path / "nicwatchd"):
        pass
    assert list(tmp_path.iterdir()) == []


async def applied(daemon: Daemon) -> None:
    await until(daemon, "eth1", lambda status: status.state is State.APPLIED)


@asynccontextmanager
async def in_use(host: Host) -> AsyncIterator[tuple[Daemon, list[str]]]:
    """A daemon that has applied eth1 beside objects of others, and the state before that."""
    before = furnish(host)
    async with host.daemon() as daemon:
        await applied(daemon)
        assert picture(host) != before
        yield daemon, before


@pytest.mark.parametrize("key", ["eth1", MAC.upper(), ETH1.facts()["interface-id"]])
async def test_a_daemon_that_runs_lets_one_interface_go(host: Host, key: str) -> None:
    async with in_use(host) as (daemon, before):
        await eventually(lambda: daemon.status().interfaces[1].eni is not None)
        released = await daemon.release(key)
        assert released.failed == ()
        assert all(released.as_json()["released"].values())
        eth1 = next(i for i in daemon.status().interfaces if i.name == "eth1")
        assert [reason.code for reason in eth1.reasons] == ["released"]
        assert "`nicwatchd reconcile eth1`" in eth1.reasons[0].text
        groups = {link.name: link.group for link in host.kernel._state.links.values()}
        assert groups == {"lo": 0, "eth0": LINK_GROUP, "eth1": 0}
        assert _without_primary(picture(host)) == _without_primary(before)
        its = [each.fields for each in host.entries if each.fields.get("INTERFACE") == "eth1"]
        *_, told = filter(None, (fields.get("NICWATCHD_REASONS") for fields in its))
        assert told.startswith("released: ")
        assert (await daemon.release(key)).done == ()  # a second time finds nothing


OF_PRIMARY = re.compile(r"eth0|1000703|from 10\.0\.1\.10 |oif=2,")


def _without_primary(lines: list[str]) -> list[str]:
    every = "\n".join(lines).split("\n")
    return [line for line in every if not OF_PRIMARY.search(line)]


async def test_a_daemon_that_runs_lets_the_host_go(host: Host) -> None:
    async with in_use(host) as (daemon, before):
        await daemon.release()
        assert picture(host) == before
        status = daemon.status()
        assert status.released
        assert {reason.code for i in status.interfaces for reason in i.reasons} == {"released"}
        assert status.ready


async def test_what_is_released_stays_so_whatever_happens(host: Host) -> None:
    async with in_use(host) as (daemon, before):
        await daemon.release()
        index = next(i.index for i in daemon.status().interfaces if i.name == "eth1")
        lease = Address(index, ip_address("10.0.2.10"), 24, dynamic=True)
        host.kernel.put(lease)
        host.kernel.overrun()
        await eventually(lambda: lease in daemon.host.interfaces[index].facts.addresses)
        host.kernel.drop(lease)
        assert picture(host) == before
    written = host.kernel.writes
    async with host.daemon() as daemon:  # a crash, or an upgrade
        status = await until(daemon, "eth1", lambda status: status.state is State.IGNORED)
        assert [reason.code for reason in status.reasons] == ["released"]
    assert host.kernel.writes == written


async def test_a_link_that_went_and_came_between_two_looks_is_served_again(host: Host) -> None:
    """Into another network namespace and back: same index, same MAC; also after a restart."""
    async with in_use(host) as (daemon, _):
        await daemon.release("eth1")
        index = next(i.index for i in daemon.status().interfaces if i.name == "eth1")
        link = replace(host.link(index), up=False, running=False)
        host.kernel.remove_link(index)
        host.kernel.set_link(link)
        await applied(daemon)
    assert Ledger(host.directory).releases == Releases()


@pytest.mark.parametrize("only", ["eth1", None])
async def test_reconcile_takes_it_up_again(host: Host, only: str | None) -> None:
    async with in_use(host) as (daemon, _):
        there = picture(host)
        await daemon.release(only)
        await daemon.reconcile(only)
        await applied(daemon)
        assert sorted(picture(host)) == sorted(there)
        assert Ledger(host.directory).releases == Releases()


async def test_the_daemon_names_the_interfaces_that_there_are(host: Host) -> None:
    async with in_use(host) as (daemon, _):
        for act in (daemon.release, daemon.reconcile):
            with pytest.raises(UnknownInterfaceError, match="no interface 'eth7'; there are: eth0"):
                await act("eth7")


async def test_what_cannot_be_noted_is_not_done(host: Host) -> None:
    async with in_use(host) as (daemon, _):
        there = picture(host)
        (host.directory / "addresses.new").mkdir()  # in the way of the ledger
        with pytest.raises(IsADirectoryError):
            await daemon.release()
        assert not daemon.status().released
        assert picture(host) == there
        (host.directory / "addresses.new").rmdir()
        await daemon.release()
        (host.directory / "addresses.new").mkdir()
        with pytest.raises(IsADirectoryError):
            await daemon.reconcile()
        assert daemon.status().released


async def test_the_daemon_tells_what_the_kernel_does_not_let_go(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_use(host) as (daemon, before):
        let_go = stubborn(host, monkeypatch)
        released = await daemon.release()
        assert released.failed
        assert all(" rule del" in words for words, _ in released.failed)
        eth1 = next(i for i in daemon.status().interfaces if i.name == "eth1")
        assert {note.code for note in eth1.notes} == {"kernel-refused"}
        let_go.set()
        await eventually(lambda: picture(host) == before)  # it is tried again
        await eventually(lambda: not any(i.notes for i in daemon.status().interfaces))


async def test_without_a_daemon_the_whole_host_begins_anew(host: Host) -> None:
    async with in_use(host) as (daemon, _):
        await daemon.release()
    await release(host.kernel, Ledger(host.directory), only="eth1")
    assert Ledger(host.directory).releases.everything
    await release(host.kernel, Ledger(host.directory))
    async with host.daemon() as daemon:
        await applied(daemon)


async def test_on_a_real_kernel_by_the_command() -> None:
    async with Ec2(Scenario(mac=PRIMARY, enis=(ETH0, ETH1))) as ec2:
        vpc = ec2.vpc

        async def command(*words: str) -> Any:
            program = (sys.executable, "-m", "nicwatchd.cli.main", "release", "--all", "--json")
            directory = f"--runtime-directory={vpc.runtime_dir}"
            return json.loads(await vpc.exec(vpc.host, *program, directory, *words))

        async def left() -> str:
            seen = []
            for family in ("-4", "-6"):
                seen.append(await vpc.exec(vpc.host, "ip", family, "rule"))
                all_routes = ("route", "show", "table", "all", "proto", "236")
                seen.append(await vpc.exec(vpc.host, "ip", family, *all_routes))
            seen.append(await vpc.exec(vpc.host, "ip", "link", "show", "group", str(LINK_GROUP)))
            return "".join(seen)

        before = await left()
        daemon = await ec2.start_daemon()
        await ec2.plug("eth1")
        await daemon.until("eth1", "applied")
        await daemon.stop()
        assert "10.0.2.11/32" in await vpc.exec(vpc.host, "ip", "addr")
        said = await command()
        assert said["failed"] == []
        assert all(said["released"].values()), said
        assert await left() == before
        assert "10.0.2.11/32" not in await vpc.exec(vpc.host, "ip", "addr")
