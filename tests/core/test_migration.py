"""A host of the first edition becomes one of today's, and no packet notices.

The first edition had guards at 32600, rules by name, prefix and address at 32601, rules by subnet
at 32602, and tables of 1,000,000 + ifindex.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import pytest

from nicwatchd.core.metadata import EniMetadata, Value
from nicwatchd.core.model import (
    LINK_GROUP,
    MAIN_TABLE,
    Family,
    IPAddress,
    Link,
    Operation,
    Route,
    Rule,
)
from nicwatchd.core.policy import Policy, RuleMode
from nicwatchd.core.port import RouteAnswer
from nicwatchd.sim.kernel_lookup import lookup
from tests.core.build import (
    ETH0,
    ETH1,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    PRIMARY,
    UNREAD,
    V4,
    V6,
    added,
    eni,
    family,
    ip,
    lease,
    net,
    on_link,
    permanent,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, CALM, ETH2, MAC2, OF_PRIMARY
from tests.core.strict_kernel import StrictKernel

pytestmark = pytest.mark.long


DOCKER: Final = Link(9, "02:42:00:00:00:01", "docker0", up=True, kind="bridge", driver="bridge")
SECOND4, SECOND6 = "10.0.2.11", "2001:db8:0:2::11"
PREFIX: Final = "2001:db8:0:2:1::/80"
SAID: Final = {
    MAC: eni(
        family(f"{IPV4} {SECOND4}", cidrs=NET4), family(f"{IPV6} {SECOND6}", PREFIX, cidrs=NET6)
    ),
    MAC2: eni(
        family("10.0.3.10", cidrs="10.0.3.0/24"),
        family("2001:db8:0:3::10", cidrs="2001:db8:0:3::/64"),
        mac=Value(MAC2),
    ),
    PRIMARY: OF_PRIMARY,
}
FAR: Final = {V4: ip("203.0.113.60"), V6: ip("2001:db8:ffff::60")}
PLACES: Final = {  # on-link in main by another link, and what the way there is to be
    V4: {
        ip("10.0.1.77"): "eth0",
        ip("10.0.3.77"): "eth2",
        ip("10.0.2.77"): "eth1",
        ip("172.17.0.5"): "docker0",
    },
    V6: {ip("2001:db8:0:3::77"): "eth2", ip("2001:db8:0:2::77"): "eth1"},
}
OF_ETH0: Final = ip("10.0.1.10")


def chain(rule: Rule) -> tuple[Rule, ...]:
    """A rule of the first edition, and its guard."""
    return (
        replace(
            rule,
            priority=32600,
            table=MAIN_TABLE,
            suppress_prefixlength=0,
            suppress_ifgroup=LINK_GROUP,
        ),
        rule,
    )


def of_first_edition(link: Link, subnets: dict[Family, str], prefixes: str = "") -> list[Rule]:
    table, rules = 1_000_000 + link.index, []
    for which, subnet in subnets.items():
        rules.append(Rule(which, 32601, table, oif=link.name))
        rules.append(Rule(which, 32602, table, iif="lo", src=net(subnet)))
    rules += [Rule(V6, 32601, table, src=net(prefix)) for prefix in prefixes.split()]
    return [each for rule in rules for each in chain(rule)]


def tables_of(link: Link, subnets: dict[Family, str], first: dict[Family, str]) -> Iterator[Route]:
    table = 1_000_000 + link.index
    for which, subnet in subnets.items():
        source = ip(first[which])
        if which is V4:
            yield Route(net(subnet), table, link.index, prefsrc=source, scope=253)
            router = net(subnet).network_address + 1
            yield Route(net("0.0.0.0/0"), table, link.index, gateway=router, prefsrc=source,
                        onlink=True)  # fmt: skip
        else:
            yield Route(net(subnet), table, link.index, prefsrc=source, metric=1024)
            yield Route(net("fe80::/64"), table, link.index, metric=1024)
            yield Route(net("::/0"), table, link.index, gateway=ip("fe80:ec2::1"), prefsrc=source,
                        metric=1024)  # fmt: skip


class Packets(StrictKernel):
    """Asks after each operation where the packets from the ENIs' addresses go."""

    watched = False
    second = 4  # the ifindex of eth2

    def run(self, operations: Iterable[Operation]) -> None:
        for operation in operations:
            super().run([operation])
            if self.watched:
                self.check()

    def check(self) -> None:
        for source, name in SOURCES.items():
            index = {"eth1": 3, "eth2": self.second}[name]
            which = Family(source.version)
            assert self.goes(source, FAR[which]) == index
            assert self.goes(source, FAR[which], bound=index) == index
            for place, link in PLACES[which].items():
                by = 9 if link == "docker0" else index
                assert self.goes(source, place) == by, (source, place)
        # Where nothing is bound, and in the primary's name, main decides.
        assert self.goes(OF_ETH0, FAR[V4]) == ETH0.index

    def twin(self) -> Packets:
        """Another host in the same state."""
        twin = Packets()
        twin.watched, twin.second = self.watched, self.second
        twin.state.links = dict(self.state.links)
        twin.state.addresses = [*self.state.addresses]
        twin.state.routes = [*self.state.routes]
        twin.state.rules = [*self.state.rules]
        return twin

    def goes(self, source: IPAddress, to: IPAddress, bound: int = 0) -> int:
        answer = lookup(self.state, source, to, bound)
        assert isinstance(answer, RouteAnswer), (source, to)
        return answer.oif


SOURCES: Final = {
    ip(IPV4): "eth1",
    ip(SECOND4): "eth1",
    ip(IPV6): "eth1",
    ip(SECOND6): "eth1",
    ip("10.0.3.10"): "eth2",
    ip("2001:db8:0:3::10"): "eth2",
}


def old_host(second: int = 4) -> Packets:
    """Two ENIs, the primary and containers, as the first edition left them.

    `second` is the ifindex of eth2.
    """
    kernel = Packets()
    kernel.second, eth2 = second, replace(ETH2, index=second)
    for link in (ETH0, ETH1, eth2):
        kernel.set_link(replace(link, group=LINK_GROUP))
    kernel.set_link(DOCKER)
    kernel.put(permanent("172.17.0.1/16", 9), permanent("10.0.1.10/24", 2))
    kernel.put(Route(net("0.0.0.0/0"), MAIN_TABLE, 2, protocol=16, gateway=ip("10.0.1.1")))
    kernel.put(lease(f"{IPV4}/24"), lease(f"{IPV6}/128"), on_link(NET6))
    kernel.put(lease("10.0.3.10/24", second), lease("2001:db8:0:3::10/128", second))
    kernel.put(on_link("2001:db8:0:3::/64", second))
    kernel.put(added(f"{SECOND4}/32"), added(f"{SECOND6}/128"))
    for link, subnets, first, prefixes in (
        (ETH1, {V4: NET4, V6: NET6}, {V4: IPV4, V6: IPV6}, PREFIX),
        (
            eth2,
            {V4: "10.0.3.0/24", V6: "2001:db8:0:3::/64"},
            {V4: "10.0.3.10", V6: "2001:db8:0:3::10"},
            "",
        ),
    ):
        kernel.put(*tables_of(link, subnets, first))
        kernel.put(*of_first_edition(link, subnets, prefixes))
    kernel.check()
    kernel.watched = True
    return kernel


def started(
    kernel: StrictKernel, policy: Policy = CALM, said: Mapping[str, EniMetadata] = SAID
) -> FastMotion:
    motion = FastMotion(policy, kernel, start=1000.0)
    for mac, reading in said.items():
        motion.imds(mac, 0.0, reading)
    return motion


def picture(kernel: StrictKernel) -> tuple[object, ...]:
    """All but the order of rules of different selectors."""
    return (
        dict(kernel.links),
        set(kernel.addresses),
        set(kernel.routes),
        sorted(map(str, kernel.rules)),
    )


POLICIES: Final = {mode.value: replace(CALM, rules=mode) for mode in RuleMode}


# The first edition's table of ifindex 959, base + 959, is today's table of ifindex 3.
SAME_TABLE: Final = 959
SECONDS: Final = pytest.mark.parametrize(
    "second", [4, SAME_TABLE], ids=["tables apart", "one table was another's"]
)


@SECONDS
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_no_packet_notices(policy: Policy, second: int) -> None:
    motion = started(old_host(second), policy)
    motion.run(1100.0)
    assert {motion.state(3), motion.state(second)} == {APPLIED}
    assert {rule.priority for rule in motion.kernel.own_rules} == {32765}
    tables = {MAIN_TABLE, 1_000_703, 1_000_959, 1_000_191 + 256 * second}
    assert {rule.table for rule in motion.kernel.own_rules} == tables
    assert {route.table for route in motion.kernel.own_routes} == tables - {MAIN_TABLE}
    # As on a host that never had anything else.
    fresh = old_host(second)
    fresh.watched = False
    fresh.drop(*fresh.own_rules, *fresh.own_routes)
    fresh.drop(*(a for a in fresh.addresses if a.protocol == 236))
    again = started(fresh, policy)
    again.run(1100.0)
    assert picture(again.kernel) == picture(motion.kernel)


@SECONDS
def test_nothing_goes_while_imds_is_silent(second: int) -> None:
    kernel = old_host(second)
    before = {*kernel.own_rules}, {*kernel.own_routes}
    motion = started(kernel, said={MAC: UNREAD, MAC2: UNREAD})
    motion.run(1000.0 + 3600.0)
    assert before[0] <= {*kernel.own_rules}
    assert before[1] <= {*kernel.own_routes}


def test_who_waits_for_its_table_says_so_and_keeps_what_it_has() -> None:
    """Of eth2 nothing is known, so that nothing of it goes: eth1 stays as it was."""
    kernel = old_host(SAME_TABLE)
    motion = started(kernel, said={**SAID, MAC2: UNREAD})
    kernel.drop(*(a for a in kernel.addresses_of(SAME_TABLE) if a.dynamic))
    kernel.watched = False
    motion.run(1050.0)
    assert motion.state(3) is not APPLIED
    assert motion.reasons(3) == {"table-taken"}
    assert {r.table for r in kernel.own_rules if r.src == net(NET4)} == {MAIN_TABLE, 1_000_003}
    motion.imds(MAC2, motion.now, SAID[MAC2])
    motion.run(1200.0)
    assert {motion.state(3), motion.state(SAME_TABLE)} == {APPLIED}


@SECONDS
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.lasts(14)
def test_killed_after_any_operation(policy: Policy, second: int) -> None:
    """The next daemon goes on from there, and no packet notices that either."""
    motion = started(old_host(second), policy)
    motion.run(1100.0)
    operations, wanted = [o for _, o in motion.written], picture(motion.kernel)
    assert len(operations) >= 50
    kernel = old_host(second)
    for survived, operation in enumerate(operations):
        again = started(kernel.twin(), policy)
        again.run(1100.0)
        assert picture(again.kernel) == wanted, survived
        kernel.run([operation])


def test_back_to_the_first_editions_numbers_is_not_needed_to_take_all_away() -> None:
    kernel = old_host()
    kernel.watched = False
    motion = started(kernel)
    motion.host.releases = motion.host.releases.plus(None)
    motion.run(1010.0)
    assert (kernel.own_rules, kernel.own_routes) == ((), ())
    assert {link.group for link in kernel.links.values()} == {0}
