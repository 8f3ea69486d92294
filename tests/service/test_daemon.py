"""The loop, with a kernel in memory: what it writes, what it survives, what it reports."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    Address,
    Family,
    Numbers,
    Operation,
    Reason,
    Route,
    Rule,
)
from nicwatchd.core.port import KernelError, Outcome, Result
from nicwatchd.service import journal
from nicwatchd.service.status import InterfaceStatus, reason_statuses
from nicwatchd.sim.memory_kernel import FakeKernel
from nicwatchd.sim.script import Do
from tests.service.conftest import AT_ONCE, MAC, Host, Old, eventually, until


def is_applied(status: InterfaceStatus) -> bool:
    return status.state is State.APPLIED


async def test_from_plug_to_applied_and_away(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        index = host.plug()
        status = await until(daemon, "eth1", is_applied)
        assert status.mac == MAC
        assert host.kernel.ip_rule(Family.V6).count("from 2001:db8:0:2::10 ") == 2
        assert "via fe80:ec2::1" in host.kernel.ip_route(Family.V6, Numbers().table_of(index))
        host.imds.unplug("eth1")
        host.kernel.remove_link(index)
        await eventually(lambda: PROTOCOL not in protocols(host.kernel))
        assert [i.name for i in daemon.status().interfaces] == ["eth0"]
        assert daemon.status().surprises == 0


def protocols(kernel: FakeKernel) -> set[int]:
    return {rule.protocol for rule in kernel._state.rules}


async def test_the_primary_gets_the_link_group_and_nothing_else(host: Host) -> None:
    index = host.plug_primary()
    async with host.daemon() as daemon:
        await until(daemon, "eth0", lambda status: status.state is State.IGNORED)
        await eventually(lambda: host.link(index).group == 3778)
        assert host.kernel.writes == 1


async def test_a_jump_of_the_clock_makes_no_interface_older(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        await until(daemon, "eth0", lambda status: status.state is State.IGNORED)
        later = time.time() + 3600.0
        monkeypatch.setattr(time, "time", lambda: later)
        (eth0,) = daemon.status().interfaces
        assert later - eth0.since < 3600.0


async def test_a_start_adopts_what_is_there(host: Host) -> None:
    host.plug_primary()
    host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
    written = host.kernel.writes
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
        await daemon.reconcile()
    assert host.kernel.writes == written


@pytest.mark.parametrize("table", ["main", "its own"])
async def test_a_rule_that_somebody_removes_comes_back(host: Host, table: str) -> None:
    host.plug_primary()
    host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
        rules = await host.kernel.rules()
        victim = next(
            rule
            for rule in rules
            if rule.protocol == PROTOCOL and (rule.table == MAIN_TABLE) is (table == "main")
        )
        host.kernel.drop(victim, pid=77)

        async def back() -> bool:
            return victim in await host.kernel.rules()

        await eventually(back)


async def test_what_others_have_is_not_touched(host: Host) -> None:
    host.plug_primary()
    index = host.plug()
    theirs = (
        Rule(Family.V4, 100, 77, protocol=3),
        Address(index, ip_address("10.0.2.99"), 32),
    )
    for thing in theirs:
        host.kernel.put(thing)
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
    assert theirs[0] in await host.kernel.rules()
    assert theirs[1] in await host.kernel.addresses(index)


async def test_lost_events_are_made_good(host: Host) -> None:
    host.plug_primary()
    host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
        listeners, host.kernel._listeners = host.kernel._listeners, []
        rules = await host.kernel.rules()
        host.kernel.drop(next(rule for rule in rules if rule.protocol == PROTOCOL))
        host.kernel._listeners = listeners
        host.kernel.overrun()

        async def back() -> bool:
            return set(rules) == set(await host.kernel.rules())

        await eventually(back)


class Moody(FakeKernel):
    """A kernel that does not answer for a while."""

    silent = 0

    async def own_routes(self) -> tuple[Route, ...]:
        if self.silent:
            self.silent -= 1
            raise KernelError("no answer from the kernel in 5 s")
        return await super().own_routes()


async def test_a_kernel_that_does_not_answer_is_told_and_asked_again(host: Host) -> None:
    host.kernel = Moody()
    host.kernel.silent = 1
    host.plug_primary()
    host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
        assert daemon.problems() == []
    troubles = [e for e in host.entries if e.message_id == journal.KERNEL_TROUBLE]
    assert [entry.priority for entry in troubles] == [journal.WARNING]


class Forbidding(FakeKernel):
    """A kernel that refuses IPv6 routes, as a host with IPv6 disabled does."""

    async def run(self, operations: Sequence[Operation]) -> list[Outcome]:
        outcomes = []
        for operation in operations:
            route = getattr(operation, "route", None)
            if route is not None and route.family is Family.V6:
                outcomes.append(Outcome(operation, Result.REFUSED, 13, "Permission denied"))
            else:
                outcomes += await super().run([operation])
        return outcomes


async def test_what_the_kernel_refuses_is_a_reason_and_the_rest_works(host: Host) -> None:
    host.kernel = Forbidding()
    host.plug_primary()
    index = host.plug()
    async with host.daemon() as daemon:
        status = await until(
            daemon, "eth1", lambda s: "kernel-refused" in [r.code for r in s.reasons]
        )
        assert status.state is State.VALIDATED
        assert "Permission denied" in status.reasons[0].text
        assert "default via 10.0.2.1" in host.kernel.ip_route(Family.V4, Numbers().table_of(index))


async def test_an_old_kernel_s_addresses_are_known_by_the_ledger(host: Host) -> None:
    host.kernel = Old()
    host.plug_primary()
    index = host.plug()
    host.kernel.put(Address(index, ip_address("10.0.2.99"), 32))
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
    written = host.kernel.writes
    policy = replace(daemon.host.policy, doubts=1, doubt_span=0.0)
    async with host.daemon(policy) as daemon:
        status = await until(daemon, "eth1", is_applied)
        assert status.ipv4 is not None
        assert status.ipv4.added == ["10.0.2.10", "10.0.2.11"]
        assert host.kernel.writes == written
        host.imds.step("eth1", texts={"local-ipv4s": "10.0.2.10"})
        await daemon.reconcile()

        async def removed() -> bool:
            left = {str(a.ip) for a in await host.kernel.addresses(index) if a.prefixlen == 32}
            return left == {"10.0.2.10", "10.0.2.99"}

        await eventually(removed)


async def test_transitions_are_told_once_each(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        host.plug()
        await until(daemon, "eth1", is_applied)
        await daemon.reconcile()
        await daemon.reconcile()
    told = [
        (entry.fields["NICWATCHD_PREVIOUS_STATE"], entry.fields["NICWATCHD_STATE"])
        for entry in host.entries
        if entry.fields.get("INTERFACE") == "eth1" and entry.message_id == journal.TRANSITION
    ]
    assert told[0] == ("", "detected")
    assert told[-1] == ("validated", "applied")
    assert len(told) == len(set(told))
    assert [e.message_id for e in host.entries][:1] == [journal.STARTED]
    assert [e.message_id for e in host.entries][-1:] == [journal.STOPPED]


async def test_imds_that_is_disabled_is_told_and_nothing_is_lost(host: Host) -> None:
    host.plug_primary()
    host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
        written = host.kernel.writes
        host.imds.fault("all", "403")
        host.imds.expire_tokens()
        await daemon.reconcile()
        assert is_applied(daemon.status().interfaces[1])
    assert host.kernel.writes == written


@pytest.mark.parametrize(("do", "state"), [("refuse", "unreachable"), ("403", "disabled")])
async def test_a_reconcile_finds_out_how_imds_is(host: Host, do: Do, state: str) -> None:
    host.plug_primary()
    host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
        host.imds.fault("all", do)
        await daemon.reconcile()
        assert daemon.status().imds.state == state
        host.imds.clear()
        await daemon.reconcile()
        assert daemon.status().imds.state == "ok"


@pytest.mark.parametrize("how", ["reconcile", "reload"])
async def test_whoever_has_just_enabled_imds_waits_for_no_pause_of_ours(
    host: Host, how: str
) -> None:
    host.plug_primary()
    host.plug()
    host.imds.fault("all", "403")
    async with host.daemon() as daemon:  # its pause of 30 s is longer than a test lasts
        await eventually(lambda: daemon.status().imds.state == "disabled")
        host.imds.clear()
        if how == "reconcile":
            await daemon.reconcile()
        else:
            daemon.use(AT_ONCE)
        await until(daemon, "eth1", is_applied)
        assert daemon.status().imds.state == "ok"


async def test_nothing_is_to_be_changed_at_ec2_while_it_may_only_lag(host: Host) -> None:
    host.plug_primary()
    index = host.plug()
    async with host.daemon() as daemon:
        await until(daemon, "eth1", is_applied)
        view = daemon.host.interfaces[index].view()
    assert view.is_young
    for is_young in (True, False):
        reasons = [Reason("no-ipv6s", "IMDS forgot it"), Reason("released", "by the operator")]
        no_ipv6s, released = reason_statuses(reasons, replace(view, is_young=is_young))
        assert bool(no_ipv6s.remedy) is not is_young
        assert released.remedy


async def test_a_name_may_hold_any_byte(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        index = host.plug()
        await until(daemon, "eth1", is_applied)
        host.kernel.set_link(replace(host.link(index), name="e\udcff\x1b[3"))
        status = await until(daemon, r"e\xff\x1b[3", is_applied)
        assert status.index == index
        assert host.entries[-1].fields["INTERFACE"] == r"e\xff\x1b[3"
        assert "e\udcff\x1b[3" in {rule.oif for rule in host.kernel._state.rules}


async def test_a_full_disk_does_not_end_the_daemon(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        index = host.plug()
        await until(daemon, "eth1", is_applied)
        (host.directory / "addresses.new").mkdir()  # so that the ledger cannot be written
        host.kernel.remove_link(index)
        await eventually(lambda: PROTOCOL not in protocols(host.kernel))
        assert daemon.problems() == []


async def test_a_ledger_that_cannot_be_written_holds_back_addresses_only(host: Host) -> None:
    host.plug_primary()
    async with host.daemon() as daemon:
        await until(daemon, "eth0", lambda status: status.state is State.IGNORED)
        in_the_way = host.directory / "addresses.new"
        in_the_way.mkdir()
        index = host.plug()
        status = await until(
            daemon, "eth1", lambda s: any(r.code == "kernel-refused" for r in s.reasons)
        )
        assert "the ledger cannot be written: Is a directory" in status.reasons[0].text
        assert PROTOCOL in protocols(host.kernel)
        assert not await host.kernel.addresses(index)
        assert daemon.problems() == []
        in_the_way.rmdir()
        status = await until(daemon, "eth1", is_applied)
        assert status.ipv4 is not None
        assert status.ipv4.added == ["10.0.2.10", "10.0.2.11"]
