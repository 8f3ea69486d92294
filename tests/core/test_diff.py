"""From what there is to what there should be, in an order in which nothing breaks on the way."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nicwatchd.core.diff import Differ
from nicwatchd.core.model import (
    INDEX_MODULUS,
    MAIN_TABLE,
    PROTOCOL,
    TABLE_BASE,
    TABLE_STEP,
    AddAddress,
    Address,
    AddRoute,
    AddRule,
    Family,
    Link,
    Numbers,
    Object,
    Operation,
    Plan,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
    ours,
)
from nicwatchd.core.ownership import Owners, Snapshot, Undecided
from tests.core.build import ETH1, IPV4, IPV6, NET4, NET6, TABLE, V4, V6, added, ip, lease, net
from tests.core.strict_kernel import StrictKernel

ETH2 = Link(4, "02:00:00:00:00:03", "eth2", up=True, driver="ena")
HOLD4, HOLD6 = frozenset({(3, V4)}), frozenset({(3, V6)})
ALL_DECIDED: Undecided = frozenset()


def rule(table: int = TABLE, priority: int = 32765, family: Family = V6, **more: Any) -> Rule:
    return Rule(family, priority, table, **more)


def guard(of: Rule) -> Rule:
    return replace(
        of, priority=32765, table=MAIN_TABLE, suppress_prefixlength=0, suppress_ifgroup=3778
    )


SUBNET6 = rule(iif="lo", src=net(NET6))
SUBNET4 = rule(family=V4, iif="lo", src=net(NET4))
OIF6 = rule(priority=32765, oif="eth1")
ROUTE6 = Route(net(NET6), TABLE, 3, metric=1024)
DEFAULT6 = Route(net("::/0"), TABLE, 3, gateway=ip("fe80:ec2::1"), metric=1024)
ROUTE4 = Route(net(NET4), TABLE, 3, prefsrc=ip(IPV4), scope=253)
PLAN = Plan(
    3,
    group=3778,
    bring_up=True,
    addresses=(ip(IPV4), ip(IPV6)),
    routes=(ROUTE4, ROUTE6, DEFAULT6),
    rules=(guard(SUBNET4), SUBNET4, guard(SUBNET6), SUBNET6, guard(OIF6), OIF6),
)
DONE = Snapshot(
    {3: replace(ETH1, group=3778)},
    {3: (added(f"{IPV4}/32"), added(f"{IPV6}/128"))},
    PLAN.routes,
    PLAN.rules,
)


def test_all_of_it_in_order() -> None:
    down = Snapshot({3: replace(ETH1, up=False)})
    assert Differ().diff([PLAN], down, ALL_DECIDED) == (
        SetUp(3),
        SetGroup(3, 3778),
        AddAddress(3, ip(IPV4)),
        AddAddress(3, ip(IPV6)),
        AddRoute(ROUTE4),
        AddRoute(ROUTE6),
        AddRoute(DEFAULT6),
        AddRule(guard(SUBNET4)),
        AddRule(SUBNET4),
        AddRule(guard(SUBNET6)),
        AddRule(SUBNET6),
        AddRule(guard(OIF6)),
        AddRule(OIF6),
    )


def test_nothing_to_do() -> None:
    assert Differ().diff([PLAN], DONE, ALL_DECIDED) == ()


def test_removal_is_the_other_way_round() -> None:
    operations = Differ().diff([Plan(3)], DONE, ALL_DECIDED)
    assert operations == (
        RemoveRule(SUBNET4),
        RemoveRule(SUBNET6),
        RemoveRule(OIF6),
        RemoveRule(guard(SUBNET4)),
        RemoveRule(guard(SUBNET6)),
        RemoveRule(guard(OIF6)),
        RemoveRoute(DEFAULT6),
        RemoveRoute(ROUTE6),
        RemoveRoute(ROUTE4),
        RemoveAddress(3, ip(IPV4), 32),
        RemoveAddress(3, ip(IPV6), 128),
    )


@pytest.mark.parametrize(
    ("plan", "kernel", "expected"),
    [
        pytest.param(Plan(3, group=3778), Snapshot({3: ETH1}), [SetGroup(3, 3778)], id="group"),
        pytest.param(Plan(3), Snapshot({3: ETH1}), [], id="the group is left"),
        pytest.param(
            Plan(3, bring_up=True), Snapshot({3: replace(ETH1, up=False)}), [SetUp(3)], id="up"
        ),
        pytest.param(Plan(3), Snapshot({3: replace(ETH1, up=False)}), [], id="down is left"),
        pytest.param(Plan(3, bring_up=True), Snapshot({3: ETH1}), [], id="up already"),
        pytest.param(
            Plan(3, addresses=(ip(IPV4),)),
            Snapshot({3: ETH1}, {3: (lease(f"{IPV4}/24"),)}),
            [],
            id="an address that others brought",
        ),
        pytest.param(
            Plan(3),
            Snapshot({3: ETH1}, {3: (lease(f"{IPV4}/24"), replace(added(IPV6), dynamic=True))}),
            [],
            id="others' addresses, and one that was taken over",
        ),
        pytest.param(
            Plan(3),
            Snapshot({3: ETH1}, {3: (lease(f"{IPV4}/24"), added(IPV4))}),
            [RemoveAddress(3, ip(IPV4), 32)],
            id="a lease beside ours",
        ),
        pytest.param(
            Plan(3, routes=(ROUTE4,)),
            Snapshot({3: ETH1}, routes=(replace(ROUTE4, prefsrc=None),)),
            [AddRoute(ROUTE4, replace=True)],
            id="a route with another source is replaced",
        ),
        pytest.param(
            Plan(3, routes=(ROUTE6,)),
            Snapshot({3: ETH1}, routes=(replace(ROUTE6, metric=512),)),
            [AddRoute(ROUTE6), RemoveRoute(replace(ROUTE6, metric=512))],
            id="another metric is another route",
        ),
        pytest.param(
            Plan(3, rules=(SUBNET6,)),
            Snapshot({3: ETH1}, rules=(replace(SUBNET6, protocol=3),)),
            [AddRule(SUBNET6)],
            id="the same rule of others is not ours",
        ),
        pytest.param(
            Plan(3),
            Snapshot({3: ETH1}, rules=(replace(SUBNET6, protocol=0), rule(52, protocol=3))),
            [],
            id="others' rules",
        ),
        pytest.param(
            Plan(3),
            Snapshot(
                {3: ETH1},
                routes=(replace(ROUTE6, table=1_002_495, oif=9),),
                rules=(guard(SUBNET6), replace(SUBNET6, table=1_002_495)),
            ),
            [
                RemoveRule(replace(SUBNET6, table=1_002_495)),
                RemoveRule(guard(SUBNET6)),
                RemoveRoute(replace(ROUTE6, table=1_002_495, oif=9)),
            ],
            id="what a link that went has left",
        ),
        pytest.param(
            Plan(3),
            Snapshot({3: ETH1}, rules=(rule(7), replace(rule(7), action=6))),
            [RemoveRule(rule(7)), RemoveRule(replace(rule(7), action=6))],
            id="whatever has our mark is ours",
        ),
    ],
)
def test_differences(plan: Plan, kernel: Snapshot, expected: list[Operation]) -> None:
    assert list(Differ().diff([plan], kernel, ALL_DECIDED)) == expected


def test_a_rule_that_moves_to_another_table_is_there_all_the_time() -> None:
    moved = replace(SUBNET6, table=1_001_215)
    kernel = Snapshot({3: ETH1, 4: ETH2}, rules=(guard(SUBNET6), SUBNET6))
    operations = Differ().diff([Plan(3), Plan(4, rules=(guard(moved), moved))], kernel, ALL_DECIDED)
    assert operations == (AddRule(moved), RemoveRule(SUBNET6))


def test_a_rule_of_two_plans_is_added_once() -> None:
    plans = [Plan(3, rules=(guard(SUBNET6), SUBNET6)), Plan(4, rules=(guard(SUBNET6),))]
    kernel = Snapshot({3: ETH1, 4: ETH2})
    assert Differ().diff(plans, kernel, ALL_DECIDED) == (AddRule(guard(SUBNET6)), AddRule(SUBNET6))


# --- undecided: still being judged -------------------------------------------------------------


@pytest.mark.parametrize(
    ("undecided", "kept"),
    [
        pytest.param(HOLD6, V6, id="IPv6"),
        pytest.param(HOLD4, V4, id="IPv4"),
    ],
)
def test_nothing_is_removed_of_what_is_undecided(undecided: Undecided, kept: Family) -> None:
    kernel = StrictKernel(*DONE.links.values())
    kernel.run(Differ().diff([PLAN], kernel.snapshot(), ALL_DECIDED))
    assert (kernel.addresses, kernel.own_routes) == (DONE.addresses[3], DONE.routes)
    kernel.run(Differ().diff([Plan(3)], kernel.snapshot(), undecided))
    assert {rule.family for rule in kernel.own_rules} == {kept}
    assert len(kernel.own_rules) == len([rule for rule in PLAN.rules if rule.family is kept])
    assert {route.family for route in kernel.routes} == {kept}
    assert {address.family for address in kernel.addresses} == {kept}


def test_both_undecided() -> None:
    assert Differ().diff([Plan(3)], DONE, HOLD4 | HOLD6) == ()


def test_another_interface_is_no_reason_to_hold() -> None:
    other = replace(DONE, links={**DONE.links, 4: ETH2})
    removed = Differ().diff([Plan(3), Plan(4)], other, frozenset({(4, V4), (4, V6)}))
    assert removed == Differ().diff([Plan(3)], DONE, ALL_DECIDED)


def test_what_is_undecided_is_added_to_and_replaced() -> None:
    kernel = replace(DONE, routes=(ROUTE4, replace(ROUTE6, scope=1)), rules=())
    operations = Differ().diff([PLAN], kernel, HOLD6)
    assert AddRoute(ROUTE6, replace=True) in operations
    assert AddRule(SUBNET6) in operations


def test_a_guard_without_its_rule_decides_nothing_and_goes() -> None:
    """Main comes next in any case. It stayed for ever where the primary was undecided so long."""
    orphan = Snapshot({3: ETH1}, rules=(guard(SUBNET6),))
    for undecided in (HOLD6, HOLD4, ALL_DECIDED):
        assert Differ().diff([Plan(3)], orphan, undecided) == (RemoveRule(guard(SUBNET6)),)


def test_a_shared_guard_is_protected_with_either_rule() -> None:
    second = replace(SUBNET6, table=1_001_215)
    kernel = Snapshot({3: ETH1, 4: ETH2}, rules=(guard(SUBNET6), second, SUBNET6))
    assert Differ().diff([Plan(3), Plan(4)], kernel, HOLD6) == (RemoveRule(second),)


def test_the_guard_of_another_selector_is_not_protected() -> None:
    other = guard(replace(SUBNET6, src=net("2001:db8:7::/64")))
    gone = replace(SUBNET6, src=net("2001:db8:7::/64"), table=1_002_495)
    kernel = Snapshot({3: ETH1}, rules=(guard(SUBNET6), other, SUBNET6, gone))
    assert Differ().diff([Plan(3)], kernel, HOLD6) == (RemoveRule(gone), RemoveRule(other))


def test_the_name_that_a_link_lost_is_not_protected() -> None:
    """The next interface may get it, and would have its bound sockets taken."""
    kernel = Snapshot(
        {3: replace(ETH1, name="ens6")}, rules=(guard(OIF6), guard(SUBNET6), OIF6, SUBNET6)
    )
    assert Differ().diff([Plan(3)], kernel, HOLD6) == (RemoveRule(OIF6), RemoveRule(guard(OIF6)))
    assert Differ().diff([Plan(3)], replace(kernel, links={3: ETH1}), HOLD6) == ()


def test_what_another_eni_owns_is_not_protected() -> None:
    """It moved there: no doubt is left, and the old rule would go on winning."""
    moved, stays = (replace(SUBNET6, src=net(f"2001:db8:0:2::{n}/128")) for n in (1, 2))
    rules = (guard(moved), guard(stays), moved, stays)
    addresses = {3: (added("2001:db8:0:2::1/128"), added("2001:db8:0:2::2/128"))}
    kernel = Snapshot({3: ETH1}, addresses, rules=rules)
    assert Differ().diff([Plan(3)], kernel, HOLD6) == ()
    wanted = [Plan(3, elsewhere=frozenset({net("2001:db8:0:2::1/128")}))]
    assert Differ().diff(wanted, kernel, HOLD6) == (
        RemoveRule(moved),
        RemoveRule(guard(moved)),
        RemoveAddress(3, ip("2001:db8:0:2::1"), 128),
    )


@pytest.mark.parametrize(
    ("index", "owners"),
    [
        pytest.param(0, set(), id="no ifindex"),
        pytest.param(1, {1}, id="the first"),
        pytest.param(3905, {3905}, id="the last that needs no link"),
        pytest.param(3906, set(), id="too far to be told by the number alone"),
        pytest.param(INDEX_MODULUS - 1, set(), id="as far as numbers go"),
    ],
)
@pytest.mark.parametrize("base", [TABLE_BASE, 2 * TABLE_STEP, 2_000_000_000])
def test_a_table_tells_whose_it_is(index: int, owners: set[int], base: int) -> None:
    numbers = Numbers(table_base=base)
    table = numbers.table_of(index)
    assert Owners(Snapshot(), numbers).of(table) == owners
    assert base < table < 2**32
    assert table % 256 == 255, "a dump of all tables goes by that: main's 254 comes first"


# --- any kernel, any plan --------------------------------------------------------------------

LINKS = (ETH1, ETH2)
SOURCES = {V4: (net(NET4), net("10.0.2.16/28")), V6: (net(NET6), net("2001:db8:0:2:1::/80"))}


def all_rules(index: int, name: str) -> list[Rule]:
    table = Numbers().table_of(index)
    return [
        made
        for family, sources in SOURCES.items()
        for made in (
            rule(table, 32765, family, oif=name),
            *(rule(table, 32765, family, src=source) for source in sources),
        )
    ]


def guarded(rules: list[Rule]) -> tuple[Rule, ...]:
    """As a plan has them: each guard before its rule."""
    return tuple(each for rule in rules for each in (guard(rule), rule))


def all_routes(index: int) -> list[Route]:
    table = Numbers().table_of(index)
    v4 = [
        Route(net(dst), table, index, prefsrc=source)
        for dst in (NET4, "0.0.0.0/0")
        for source in (None, ip(f"10.0.2.{index}"))
    ]
    v6 = [
        Route(net(dst), table, index, gateway=gateway, prefsrc=source, metric=1024)
        for dst in (NET6, "::/0")
        for gateway in (None, ip("fe80:ec2::1"))
        for source in (None, ip(f"2001:db8:0:2::{index}"))
    ]
    return v4 + v6


def all_addresses(index: int) -> list[Address]:
    return [added(f"10.0.2.{index}/32", index), added(f"2001:db8:0:2::{index}/128", index)]


FOREIGN_RULES = [
    rule(52, 5270, protocol=3),
    rule(52, 5270, V4, protocol=3),
    rule(TABLE, protocol=0),
]


def some_rules(index: int, name: str) -> st.SearchStrategy[list[Rule]]:
    return st.lists(st.sampled_from(all_rules(index, name)), unique=True)


@st.composite
def plans(draw: st.DrawFn, link: Link) -> Plan:
    routes = {r.key: r for r in draw(st.lists(st.sampled_from(all_routes(link.index))))}
    addresses = draw(st.lists(st.sampled_from(all_addresses(link.index)), unique=True))
    ips = {address.ip for address in addresses}
    return Plan(
        link.index,
        group=draw(st.sampled_from([None, 3778])),
        addresses=tuple(address.ip for address in addresses),
        routes=tuple(r for r in routes.values() if r.prefsrc is None or r.prefsrc in ips),
        rules=guarded(draw(some_rules(link.index, link.name))),
    )


PLANS = st.tuples(*(plans(link) for link in LINKS))


@st.composite
def kernels(draw: st.DrawFn) -> StrictKernel:
    """A kernel with something of ours, of links that went too, and something of others."""
    kernel = StrictKernel(*LINKS)
    kernel.run(Differ().diff(draw(PLANS), kernel.snapshot(), ALL_DECIDED))
    orphans = guarded(all_rules(9, "eth9"))
    rules = [*kernel.own_rules, *draw(st.lists(st.sampled_from(orphans), unique=True))]
    rules += draw(st.lists(st.sampled_from(FOREIGN_RULES), unique=True))
    kernel.drop(*kernel.own_rules)
    kernel.put(*draw(st.permutations(list(dict.fromkeys(rules)))))
    if draw(st.booleans()):
        kernel.put(lease("10.0.2.77/24"), Route(net("10.9.0.0/16"), MAIN_TABLE, 3, protocol=4))
    return kernel


def carry_out(
    kernel: StrictKernel, wanted: tuple[Plan, ...], undecided: Undecided
) -> tuple[Operation, ...]:
    """As the host does, which looks again; the operations of the first look.

    All is as planned after these, but for what the kernel takes along: a link's IPv4 routes go with
    its last IPv4 address.
    """
    operations = Differ().diff(wanted, kernel.snapshot(), undecided)
    kernel.run(operations)
    without_v4 = {
        o.index
        for o in operations
        if isinstance(o, RemoveAddress)
        and V4 not in {a.family for a in kernel.addresses_of(o.index)}
    }
    again = Differ().diff(wanted, kernel.snapshot(), undecided)
    for operation in again:
        assert isinstance(operation, AddRoute)
        assert operation.route.family is V4
        assert operation.route.oif in without_v4
    kernel.run(again)
    return operations


def adds(operation: Operation) -> bool:
    return isinstance(operation, SetGroup | SetUp | AddAddress | AddRoute | AddRule)


def surplus(wanted: tuple[Plan, ...], kernel: Snapshot) -> set[Object]:
    """All that is ours and in no plan; a route that is to be replaced is not."""
    keys = {route.key for plan in wanted for route in plan.routes}
    found: set[Object] = {route for route in kernel.routes if route.key not in keys}
    found |= {rule for rule in kernel.rules if rule.protocol == PROTOCOL}
    found -= {rule for plan in wanted for rule in plan.rules}
    addresses = (a for of in kernel.addresses.values() for a in of if ours(a))
    planned = {(plan.index, ip) for plan in wanted for ip in plan.addresses}
    return found | {a for a in addresses if (a.index, a.ip) not in planned}


def removed(operations: tuple[Operation, ...], kernel: Snapshot) -> set[Object]:
    found: set[Object] = {o.rule for o in operations if isinstance(o, RemoveRule)}
    found |= {o.route for o in operations if isinstance(o, RemoveRoute)}
    gone = {(o.index, o.ip) for o in operations if isinstance(o, RemoveAddress)}
    addresses = (a for of in kernel.addresses.values() for a in of)
    return found | {a for a in addresses if (a.index, a.ip) in gone}


UNDECIDED = st.frozensets(st.tuples(st.sampled_from([3, 4]), st.sampled_from(Family)))


@settings(deadline=None, max_examples=60)
@given(kernels(), PLANS)
def test_any_kernel_becomes_as_planned(kernel: StrictKernel, wanted: tuple[Plan, ...]) -> None:
    foreign = kernel.foreign
    operations = carry_out(kernel, wanted, ALL_DECIDED)
    order = [adds(operation) for operation in operations]
    assert order == sorted(order, reverse=True)
    assert kernel.foreign == foreign
    assert set(kernel.own_rules) == {rule for plan in wanted for rule in plan.rules}
    assert set(kernel.own_routes) == {route for plan in wanted for route in plan.routes}
    own = {(a.index, a.ip) for a in kernel.addresses if ours(a)}
    assert own == {(plan.index, ip) for plan in wanted for ip in plan.addresses}
    assert Differ().diff(wanted, kernel.snapshot(), ALL_DECIDED) == ()


@settings(deadline=None, max_examples=60)
@given(kernels(), PLANS, UNDECIDED)
def test_any_kernel_keeps_what_is_undecided(
    kernel: StrictKernel, wanted: tuple[Plan, ...], undecided: frozenset[tuple[int, Family]]
) -> None:
    foreign = kernel.foreign
    before = kernel.snapshot()
    operations = carry_out(kernel, wanted, undecided)
    assert set(Differ().protected(wanted, before, operations, undecided)) == surplus(
        wanted, before
    ) - removed(operations, before)
    assert kernel.foreign == foreign
    assert {rule for plan in wanted for rule in plan.rules} <= set(kernel.own_rules)
    assert {route for plan in wanted for route in plan.routes} <= set(kernel.own_routes)
    for operation in operations:
        match operation:
            case RemoveRule(rule) if rule in kernel.rules:
                assert rule in {each for plan in wanted for each in plan.rules}  # a copy of it
            case RemoveRule(rule) if rule.table != MAIN_TABLE:
                assert (Numbers().index_of(rule.table), rule.family) not in undecided
            case RemoveRoute(route):
                assert (route.oif, route.family) not in undecided
            case RemoveAddress(index, ip_):
                assert (index, Family(ip_.version)) not in undecided
    # A guard stays as long as a rule that it guards.
    selectors = {(r.family, r.src, r.oif) for r in kernel.own_rules if r.table != MAIN_TABLE}
    guards = {r for r in before.rules if r.table == MAIN_TABLE and r.protocol == PROTOCOL}
    assert {g for g in guards if (g.family, g.src, g.oif) in selectors} <= set(kernel.rules)
    assert Differ().diff(wanted, kernel.snapshot(), undecided) == ()
