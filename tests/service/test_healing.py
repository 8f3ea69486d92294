"""What others remove is restored: each kind and family alone, all at once, and repeatedly."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from errno import EEXIST
from ipaddress import ip_address, ip_network

import pytest

from nicwatchd.core.fights import BURST, LOSSES, WINDOW
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_STATIC,
    Address,
    AddRoute,
    AddRule,
    Family,
    Numbers,
    Operation,
    Route,
    Rule,
)
from nicwatchd.core.policy import AddressMode, RuleMode
from nicwatchd.core.port import Outcome, judge
from nicwatchd.service import journal
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.status import InterfaceStatus, headline
from nicwatchd.sim.memory_kernel import FakeKernel
from nicwatchd.sim.script import EniScript
from tests.service.conftest import AT_ONCE, ETH1, Host, eventually, until

V4, V6 = Family.V4, Family.V6
ANYWHERE = ip_network("::/0")
OTHER = 77  # somebody's port id
# Each kind of rule: also a delegated prefix of each family.
RICH = replace(ETH1, ipv4_prefixes=("10.0.2.16/28",), ipv6_prefixes=("2001:db8:0:2:1::/80",))

Object = Address | Route | Rule


@pytest.fixture
def eth1() -> EniScript:
    return RICH


def is_applied(status: InterfaceStatus) -> bool:
    return status.state is State.APPLIED


async def own(kernel: FakeKernel, index: int) -> list[Object]:
    """Everything of ours except the link group."""
    rules = [rule for rule in await kernel.rules() if rule.protocol == PROTOCOL]
    addresses = [a for a in await kernel.addresses(index) if a.protocol == PROTOCOL]
    return [*rules, *await kernel.own_routes(), *addresses]


async def as_before(host: Host, index: int, before: Iterable[Object]) -> None:
    """Wait until everything is back, and nothing else."""
    wanted = Counter(before)

    async def back() -> bool:
        there = Counter(await own(host.kernel, index)) == wanted
        return there and host.link(index).group == 3778

    await eventually(back)


def ungroup(host: Host, index: int) -> None:
    host.kernel.set_link(replace(host.link(index), group=0))


def is_guard(thing: Object) -> bool:
    return isinstance(thing, Rule) and thing.table == MAIN_TABLE


def is_rule(by: str) -> Callable[[Object], bool]:
    def holds(thing: Object) -> bool:
        if not isinstance(thing, Rule) or thing.table == MAIN_TABLE:
            return False
        host = thing.src and thing.src.prefixlen == thing.src.max_prefixlen
        kind = "oif" if thing.oif else "subnet" if thing.iif else "address" if host else "prefix"
        return kind == by

    return holds


def is_route(to: str) -> Callable[[Object], bool]:
    def holds(thing: Object) -> bool:
        if not isinstance(thing, Route):
            return False
        dst = thing.dst
        kind = "default" if not dst.prefixlen else "link-local" if dst.is_link_local else "subnet"
        return (kind if thing.metric != 7 else "copied") == to

    return holds


KINDS: dict[str, Callable[[Object], bool]] = {
    "guard": is_guard,
    "rule by device": is_rule("oif"),
    "rule by prefix": is_rule("prefix"),
    "rule by address": is_rule("address"),
    "rule by subnet": is_rule("subnet"),
    "route to the subnet": is_route("subnet"),
    "default route": is_route("default"),
    "operator's route": is_route("copied"),
    "address": lambda thing: isinstance(thing, Address),
}
CASES = [(kind, family) for kind in KINDS for family in Family] + [
    ("link-local route", V6),
]


async def ready(host: Host, daemon: Daemon) -> int:
    """eth1 applied, with an address and a route of the operator in each family."""
    host.plug_primary()
    index = host.plug()
    host.kernel.put(Address(index, ip_address("10.0.2.99"), 32))
    await until(daemon, "eth1", is_applied)
    for dst, via in (("10.9.0.0/16", "10.0.2.1"), ("2001:db8:9::/48", "fe80::9")):
        host.kernel.put(
            Route(
                ip_network(dst), MAIN_TABLE, index, RTPROT_STATIC, ip_address(via), metric=7,
                onlink=True,
            )
        )  # fmt: skip
    table = Numbers().table_of(index)
    await eventually(lambda: "10.9.0.0/16" in host.kernel.ip_route(V4, table))
    await eventually(lambda: "2001:db8:9::/48" in host.kernel.ip_route(V6, table))
    await until(daemon, "eth1", is_applied)
    return index


@pytest.mark.parametrize(("kind", "family"), CASES)
async def test_each_kind_comes_back(host: Host, kind: str, family: Family) -> None:
    holds = KINDS.get(kind) or is_route("link-local")
    rules = RuleMode.SUBNET if kind == "rule by subnet" else RuleMode.AUTO
    async with host.daemon(replace(AT_ONCE, rules=rules)) as daemon:
        index = await ready(host, daemon)
        await daemon.reconcile()  # the primary's subnets are known, too
        before = await own(host.kernel, index)
        victims = [thing for thing in before if holds(thing) and thing.family is family]
        assert victims
        written = host.kernel.writes
        for victim in victims:
            host.kernel.drop(victim, pid=OTHER)
        await as_before(host, index, before)
        # An IPv6 route forgets its source with the address, and is given it again.
        sourced = {thing.ip for thing in victims if isinstance(thing, Address)}
        forgot = [r for r in before if isinstance(r, Route) and r.prefsrc in sourced]
        more = len(forgot) if family is V6 else 0
        if kind == "guard":  # its rule is added again, behind it, and the first copy removed
            more = 2 * len(victims)
        assert host.kernel.writes == written + len(victims) + more


async def test_the_link_group_comes_back(host: Host) -> None:
    async with host.daemon() as daemon:
        index = await ready(host, daemon)
        before = await own(host.kernel, index)
        written = host.kernel.writes
        ungroup(host, index)
        await as_before(host, index, before)
        assert host.kernel.writes == written + 1


async def test_a_group_of_somebody_s_is_left_and_told(host: Host) -> None:
    async with host.daemon() as daemon:
        index = await ready(host, daemon)
        await daemon.reconcile()  # the primary's subnets are known, too
        before = await own(host.kernel, index)
        host.kernel.set_link(replace(host.link(index), group=5))
        await daemon.reconcile()
        written = host.kernel.writes
        await daemon.reconcile()
        (status,) = (i for i in daemon.status().interfaces if i.name == "eth1")
        assert "foreign-group" in [note.code for note in status.notes]
        assert (host.link(index).group, host.kernel.writes) == (5, written)
        assert status.state is State.APPLIED
        # No guard hides main's routes by it any more: the primary's traffic goes round them.
        detours = set(await own(host.kernel, index)) - set(before)
        assert {(r.table, str(r.dst)) for r in detours if isinstance(r, Rule)} == {
            (Numbers().table_of(2), "10.0.2.0/24")
        }
        assert all(isinstance(thing, Rule) for thing in detours)


class Watchful(FakeKernel):
    """Asserts that no rule of ours is ever added without its guard before it."""

    async def run(self, operations: Sequence[Operation]) -> list[Outcome]:
        outcomes = []
        for operation in operations:
            if isinstance(operation, AddRule) and not is_guard(operation.rule):
                rule = operation.rule
                same = (rule.family, rule.src, rule.iif, rule.oif)
                guards = [known for known in await self.rules() if is_guard(known)]
                assert same in [(g.family, g.src, g.iif, g.oif) for g in guards]
            outcomes += await super().run([operation])
        return outcomes


@pytest.mark.parametrize("what", ["rules", "guards", "routes", "addresses", "everything"])
async def test_all_of_them_at_once(host: Host, what: str) -> None:
    host.kernel = Watchful()
    kinds: dict[str, Callable[[Object], bool]] = {
        "rules": lambda thing: isinstance(thing, Rule),
        "guards": is_guard,
        "routes": lambda thing: isinstance(thing, Route),
        "addresses": lambda thing: isinstance(thing, Address),
        "everything": lambda _: True,
    }
    async with host.daemon() as daemon:
        index = await ready(host, daemon)
        before = await own(host.kernel, index)
        victims = [thing for thing in before if kinds[what](thing)]
        for victim in victims:
            if victim in await own(host.kernel, index):  # a route may have lost its source
                host.kernel.drop(victim, pid=OTHER)
        if what == "everything":
            ungroup(host, index)
        await as_before(host, index, before)
        await until(daemon, "eth1", is_applied)


async def test_the_last_ipv4_address_takes_the_routes_along_unheard(host: Host) -> None:
    """A lease ends and comes again: nicwatchd has nothing to add, and no event tells it more."""
    host.plug_primary()
    async with host.daemon(replace(AT_ONCE, addresses=AddressMode.NONE)) as daemon:
        index = host.plug()
        lease = Address(index, ip_address("10.0.2.10"), 24, dynamic=True)
        host.kernel.set_link(replace(host.link(index), up=True, running=True))
        host.kernel.put(lease)
        await until(daemon, "eth1", is_applied)
        before = await own(host.kernel, index)
        assert any(isinstance(thing, Route) and thing.family is V4 for thing in before)
        host.kernel.drop(lease)
        own_routes = await host.kernel.own_routes()
        assert V4 not in {route.family for route in own_routes if route.oif == index}
        host.kernel.put(lease)
        await as_before(host, index, before)


# --- a route of somebody's where ours should be ---------------------------------------------------


@pytest.mark.parametrize("family", Family)
async def test_a_route_of_somebody_s_in_the_place_of_ours(host: Host, family: Family) -> None:
    async with host.daemon() as daemon:
        index = await ready(host, daemon)
        before = await own(host.kernel, index)
        (ours,) = (
            thing
            for thing in before
            if isinstance(thing, Route) and is_route("default")(thing)
            if (thing.oif, thing.family) == (index, family)
        )
        gateway = ip_address("10.0.2.9" if family is V4 else "fe80::9")
        theirs = replace(ours, gateway=gateway, protocol=RTPROT_STATIC, onlink=True)
        host.kernel.put(theirs, pid=OTHER, replacing=True)

        status = await until(
            daemon, "eth1", lambda s: "route-in-the-way" in [r.code for r in s.reasons]
        )
        assert status.state is State.VALIDATED
        assert not status.fought_over
        text = f"{theirs.dst} via {gateway} (protocol 4) in table {ours.table}"
        assert text in status.reasons[0].text
        await daemon.reconcile()
        assert theirs in await host.kernel.table_routes(ours.table), "it is not ours to touch"
        assert set(before) - set(await own(host.kernel, index)) == {ours}

        host.kernel.drop(theirs, pid=OTHER)
        await until(daemon, "eth1", is_applied)
        assert set(await own(host.kernel, index)) == set(before)


async def test_what_is_no_route_to_anywhere_is_in_the_way_too(host: Host) -> None:
    """An `unreachable` of somebody's has the key of ours, and is not among the routes we read."""

    class Blocked(FakeKernel):
        async def run(self, operations: Sequence[Operation]) -> list[Outcome]:
            return [
                judge(operation, EEXIST)
                if isinstance(operation, AddRoute) and operation.route.dst == ANYWHERE
                else (await FakeKernel.run(self, [operation]))[0]
                for operation in operations
            ]

    host.kernel = Blocked()
    host.plug_primary()
    async with host.daemon() as daemon:
        host.plug()
        status = await until(
            daemon, "eth1", lambda s: "route-in-the-way" in [r.code for r in s.reasons]
        )
        assert status.reasons[0].text.startswith("somebody else's route to ::/0 in table ")


# --- fights --------------------------------------------------------------------------------------


class Clock:
    """The monotonic clock, which can be set forward."""

    ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


async def test_a_fight_is_told_once_with_whom_and_once_when_it_is_over(host: Host) -> None:
    clock = Clock()
    async with host.daemon(clock=clock) as daemon:
        index = await ready(host, daemon)
        before = await own(host.kernel, index)
        victims = [rule for rule in before if is_rule("oif")(rule) and "eth1" in str(rule)]
        assert len(victims) == 2
        for _ in range(LOSSES + 2):
            for victim in victims:
                host.kernel.drop(victim, pid=OTHER)
            await as_before(host, index, before)
        status = await until(daemon, "eth1", lambda s: s.fought_over)
        (note,) = (note for note in status.notes if note.code == "fought-over")
        assert "name port id 77" in note.text
        assert not daemon.status().ready
        lines = daemon.status().unready
        assert len(lines) == len(victims), "one of each family"
        assert all(", and 1 more of nicwatchd's objects" in line for line in lines)
        assert headline(daemon.host.interfaces.values()).startswith("1 of 2 interfaces work, ")

        clock.ahead += WINDOW
        await daemon.reconcile()
        status = await until(daemon, "eth1", lambda s: not s.fought_over)
        assert daemon.status().ready
    began, ended = (
        entry
        for entry in host.entries
        if entry.message_id in (journal.FIGHT_BEGAN, journal.FIGHT_ENDED)
    )
    assert (began.message_id, began.priority) == (journal.FIGHT_BEGAN, journal.WARNING)
    assert began.fields["NICWATCHD_REASONS"].startswith("fought-over: the IPv")
    assert "port id 77" in began.message
    assert (ended.message_id, ended.priority) == (journal.FIGHT_ENDED, journal.NOTICE)
    told = [e for e in host.entries if e.fields.get("INTERFACE") == "eth1"]
    states = [e.fields["NICWATCHD_STATE"] for e in told[told.index(began) :]]
    assert set(states) == {State.APPLIED}, "a fight is told by itself, not by the state"


async def test_who_removed_an_address_is_known_too(host: Host) -> None:
    async with host.daemon() as daemon:
        index = await ready(host, daemon)
        before = await own(host.kernel, index)
        (victim,) = (t for t in before if isinstance(t, Address) and str(t.ip) == "10.0.2.11")
        for _ in range(LOSSES):
            host.kernel.drop(victim, pid=OTHER)
            await as_before(host, index, before)
        status = await until(daemon, "eth1", lambda s: s.fought_over)
        (note,) = (note for note in status.notes if note.code == "fought-over")
        assert "the address 10.0.2.11 was removed 3 times" in note.text
        assert "port id 77" in note.text


@pytest.mark.parametrize("name", ["eth0", "eth1"])
async def test_who_is_faster_than_we_are_is_not_raced(host: Host, name: str) -> None:
    """A listener that removes a rule as soon as it appears."""
    async with host.daemon() as daemon:
        index = await ready(host, daemon)
        before = await own(host.kernel, index)
        whose = next(i for i, link in host.kernel._state.links.items() if link.name == name)
        table = Numbers().table_of(whose)
        rules = (thing for thing in before if isinstance(thing, Rule) and thing.table == table)
        (victim, *_) = filter(is_rule("address"), rules)
        listener = host.kernel.events()

        def remove(_: object) -> None:
            if victim in host.kernel._state.rules:
                host.kernel.drop(victim, pid=OTHER)

        listener.start(remove)
        written = host.kernel.writes
        remove(None)
        status = await until(daemon, name, lambda s: s.fought_over)
        assert "port id 77" in status.notes[-1].text
        fights = daemon.host.interfaces[whose].fights
        await eventually(lambda: bool(fights.throttled(time.monotonic())))
        assert host.kernel.writes - written <= BURST + 1
        listener.close()
        await as_before(host, index, before)
