"""The facts of one link: what is taken in, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nicwatchd.core.facts import UDEV_PATIENCE, Facts
from nicwatchd.core.memory import Memory
from nicwatchd.core.model import AddAddress, Address, AddRoute, Item, Route
from nicwatchd.core.moves import Elsewhere
from nicwatchd.core.policy import Policy
from tests.core.build import (
    ETH1,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    NET4,
    NET6,
    TABLE,
    V4,
    added,
    eni,
    family,
    ip,
    ips,
    lease,
    net,
    on_link,
    permanent,
    static,
)

POLICY = Policy()
FULL = eni(FULL4, FULL6)
LEASE4, LEASE6 = lease(f"{IPV4}/24"), lease(f"{IPV6}/128")
SUBNET = on_link(NET4)


def test_what_is_known_at_first() -> None:
    facts = Facts(ETH1, 7.0)
    assert (facts.link, facts.seen, facts.age(9.5)) == (ETH1, 7.0, 2.5)
    assert (facts.addresses, facts.routes, facts.subnets) == ((), (), ())
    assert facts.memory == Memory()
    assert facts.elsewhere == {}
    assert (facts.flapped, facts.ipv4_ended, facts.ipv6_ended) == (False, False, False)
    assert facts.waits_for_udev is False


@pytest.mark.parametrize(
    ("up", "group", "came", "expected"),
    [
        pytest.param(True, 0, True, False, id="it is up"),
        pytest.param(False, 0, False, True, id="down, and nobody's yet"),
        pytest.param(False, 1, False, False, id="down, in somebody's care: an operator set it so"),
        pytest.param(False, 3778, False, False, id="... in ours"),
        pytest.param(False, 3778, True, True, id="it came so"),
        pytest.param(False, 0, True, True, id="it came, nobody's"),
    ],
)
def test_which_link_is_to_be_set_up(*, up: bool, group: int, came: bool, expected: bool) -> None:
    link = replace(ETH1, up=up, group=group)
    assert Facts(link, 0.0, came=came).to_bring_up is expected
    if not came:
        assert Facts(link, 0.0).to_bring_up is expected


def test_a_link_that_was_up_once_is_not_set_up_again() -> None:
    down = replace(ETH1, up=False)
    facts = Facts(down, 0.0)
    facts.update_link(replace(down, name="ens6"))
    assert facts.to_bring_up is True
    facts.update_link(ETH1)
    assert facts.link == ETH1
    facts.update_link(down)
    assert (facts.link, facts.to_bring_up) == (down, False)


def test_udev_is_waited_for_until_it_is_done_or_had_its_time() -> None:
    assert UDEV_PATIENCE == 5.0
    facts = Facts(replace(ETH1, up=False), 7.0)
    assert facts.waits_for_udev is True
    assert not facts.udev_is_over(7.0 + UDEV_PATIENCE - 0.1)
    assert facts.udev_is_over(7.0 + UDEV_PATIENCE)
    facts.note_udev(done=True)
    assert facts.udev_is_over(7.0)
    assert not facts.waits_for_udev


@pytest.mark.parametrize(
    ("addresses", "routes", "expected"),
    [
        pytest.param((LEASE4, LEASE6), (SUBNET,), False, id="the same"),
        pytest.param((LEASE6, LEASE4), (SUBNET,), False, id="in another order"),
        pytest.param((LEASE4, LEASE6, added("10.0.2.11")), (SUBNET,), False, id="ours comes"),
        pytest.param((LEASE4,), (SUBNET,), True, id="a lease goes"),
        pytest.param(
            (LEASE4, LEASE6, permanent("10.9.9.9/8")), (SUBNET,), True, id="an operator's comes"
        ),
        pytest.param(
            (replace(LEASE4, deprecated=True), LEASE6), (SUBNET,), True, id="a lease changes"
        ),
        pytest.param((LEASE4, LEASE6), (), True, id="a route goes"),
        pytest.param((LEASE4, LEASE6), (static("10.8.0.0/16"),), True, id="another route"),
    ],
)
def test_whether_others_changed_anything(
    *, addresses: tuple[Address, ...], routes: tuple[Route, ...], expected: bool
) -> None:
    facts = Facts(ETH1, 0.0)
    assert facts.update((LEASE4, LEASE6), (SUBNET,)) is True
    assert facts.update(addresses, routes) is expected
    assert (facts.addresses, facts.routes) == (addresses, routes)


ROUTE4, ROUTE6 = (AddRoute(Route(net(it), TABLE, 3)) for it in (NET4, NET6))
ADDRESS, ADDRESS6 = AddAddress(3, ip(IPV4)), AddAddress(3, ip(IPV6))


@pytest.mark.parametrize(
    ("after", "note", "taken"),
    [
        pytest.param([(LEASE4, LEASE6)], None, "", id="nothing"),
        pytest.param([(LEASE4,)], None, "", id="the last IPv6 address goes"),
        pytest.param([(LEASE6,)], None, "route4", id="the last IPv4 address goes"),
        pytest.param([(LEASE6,), (LEASE4, LEASE6)], None, "route4", id="... and is back"),
        pytest.param([(added("10.0.2.11"),)], None, "", id="another one is left"),
        pytest.param([], Facts.note_flap, "route4 route6 ip4 ip6", id="the link was down"),
        pytest.param([], Facts.note_ipv6_end, "route6 ip6", id="IPv6 was off"),
    ],
)
def test_what_the_kernel_itself_removes(
    after: list[tuple[Address, ...]], note: Callable[[Facts], None] | None, taken: str
) -> None:
    """Of routes and addresses; only until that has been counted."""
    facts = Facts(ETH1, 0.0)
    facts.update((LEASE4, LEASE6), ())
    for addresses in after:
        facts.update(addresses, ())
    if note:
        note(facts)
    lost: dict[str, AddAddress | AddRoute]
    lost = {"route4": ROUTE4, "route6": ROUTE6, "ip4": ADDRESS, "ip6": ADDRESS6}
    assert [name for name in lost if facts.was_taken_by_kernel(lost[name])] == taken.split()
    facts.count_begins_anew()
    assert not any(facts.was_taken_by_kernel(each) for each in lost.values())


def test_only_what_is_new_is_news_of_imds() -> None:
    facts = Facts(ETH1, 0.0)
    assert facts.learn(FULL, 1.0, POLICY) is True
    assert facts.memory.first_listed == 1.0
    assert facts.learn(FULL, 2.0, POLICY) is False
    assert facts.learn(eni(FULL4, family(cidrs=NET6)), 3.0, POLICY) is True
    assert facts.memory.missing == {ip(IPV6)}


def test_what_an_earlier_life_programmed_is_doubted() -> None:
    facts = Facts(ETH1, 0.0)
    facts.learn(FULL, 1.0, POLICY, (ip("10.0.2.77"),))
    assert facts.memory.missing == {ip("10.0.2.77")}


def test_subnets_are_imdss_and_the_kernels_each_once() -> None:
    facts = Facts(ETH1, 0.0)
    facts.update((LEASE4, permanent("192.168.5.1/24")), (SUBNET, on_link("192.168.5.0/24")))
    assert list(facts.subnets) == [net(NET4), net("192.168.5.0/24")]
    facts.learn(eni(v6=FULL6), 1.0, POLICY)
    assert list(facts.subnets) == [net(NET6), net(NET4), net("192.168.5.0/24")]


def test_what_ties_addresses_to_the_link() -> None:
    facts = Facts(ETH1, 0.0)
    assert facts.claims.unread == {V4, 6}
    facts.update((LEASE4, added("10.0.2.11"), permanent("10.0.2.12/24")), ())
    facts.learn(eni(family(f"{IPV4} 10.0.2.9"), FULL6), 1.0, POLICY)
    facts.learn(eni(family(IPV4), FULL6), 2.0, POLICY)
    claims = facts.claims
    assert claims.index == 3
    assert claims.listed == {ip(IPV4), ip(IPV6)}
    assert claims.doubted == {ip("10.0.2.9")}
    assert claims.leased == {ip(IPV4)}
    assert claims.added == {ip("10.0.2.11")}
    assert claims.unread == frozenset()
    assert claims.own == {ip(IPV4), ip("10.0.2.12")}


def test_what_another_eni_owns_is_told_once_and_doubted_no_more() -> None:
    facts = Facts(ETH1, 0.0)
    facts.learn(eni(family(f"{IPV4} 10.0.2.8 10.0.2.9")), 1.0, POLICY)
    facts.learn(eni(family(f"{IPV4} 10.0.2.8")), 2.0, POLICY)
    assert facts.leave({}) == frozenset()
    assert facts.memory.missing == {ip("10.0.2.9")}, "nobody else has it"
    others: dict[Item, Elsewhere] = {
        each: Elsewhere("eth2", each) for each in ips("10.0.2.7", "10.0.2.8", "10.0.2.9")
    }
    assert facts.leave(others) == {ip("10.0.2.8")}, "only that is listed here"
    assert facts.elsewhere == others
    assert facts.memory.missing == frozenset()
    assert facts.leave(others) == frozenset()
    assert facts.leave(others | {ip(IPV4): Elsewhere("eth2", ip(IPV4))}) == {ip(IPV4)}
    assert facts.leave({}) == frozenset()
    assert facts.elsewhere == {}
