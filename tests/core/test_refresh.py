"""What changes in place, with no event on the host and with one; and that nothing else is done."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from nicwatchd.core.metadata import EniMetadata
from nicwatchd.core.model import RemoveAddress
from tests.core.build import FULL4, FULL6, IPV4, IPV6, MAC, NET4, NET6, UNLISTED, eni, family
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, ETH2, FULL, MAC2, applied, at_rest, selectors

pytestmark = pytest.mark.long


PREFIX4, PREFIX6 = "10.0.2.16/28", "2001:db8:0:2:1::/80"
CIDR6 = "2001:db8:0:9::/64"
# Each with one thing more than FULL, and where that shows.
MORE = {
    "address-v4": (eni(family(f"{IPV4} 10.0.2.11", cidrs=NET4), FULL6), "10.0.2.11"),
    "address-v6": (eni(FULL4, family(f"{IPV6} 2001:db8:0:2::11", cidrs=NET6)), "2001:db8:0:2::11"),
    "prefix-v4": (eni(family(IPV4, PREFIX4, NET4), FULL6), PREFIX4),
    "prefix-v6": (eni(FULL4, family(IPV6, PREFIX6, NET6)), PREFIX6),
    "cidr-v6": (eni(FULL4, family(IPV6, cidrs=f"{NET6} {CIDR6}")), CIDR6),
}


def shown(motion: FastMotion) -> set[str]:
    """All that is programmed, as text."""
    kernel = motion.kernel
    found = selectors(motion, 3) | selectors(motion, 3, 6)
    return found | {str(a.ip) for a in kernel.addresses} | {str(r.dst) for r in kernel.own_routes}


@pytest.mark.parametrize("which", MORE)
def test_in_place_without_an_event(which: str) -> None:
    """There with the next poll that reads it; gone after that and the doubts, which are 30 s.

    Here each poll reads everything; for which keys it asks is shown in imds/test_at_rest.py.
    """
    more, what = MORE[which]
    motion = applied()
    for changed in (300.5, 700.5):
        motion.imds(MAC, changed, more)
        motion.run(changed + at_rest() + 0.1)
        assert what in shown(motion)
        assert motion.state() is APPLIED
        motion.imds(MAC, changed + 200.0, FULL)
        motion.run(changed + 200.0 + 29.9)
        assert what in shown(motion)
        motion.run(changed + 200.0 + at_rest(more) + 0.1 + 30.1)
        assert what not in shown(motion)
        assert motion.state() is APPLIED
    assert motion.host.interfaces[3].view().notes == ()


@pytest.mark.parametrize("which", MORE)
def test_in_place_with_an_event_of_the_link(which: str) -> None:
    """Whatever changed: the event says only that something did, an MTU for example."""
    more, what = MORE[which]
    motion = applied()
    motion.run(300.0)
    motion.imds(MAC, 300.0, more)
    motion.at(300.1, partial(motion.host.hint, 3, 300.1))
    motion.run(300.2)
    assert what in shown(motion)


def test_flags_of_the_link_are_an_event_too() -> None:
    motion = applied()
    motion.run(300.0)
    motion.at(300.1, lambda: motion.kernel.set_link(replace(motion.kernel.links[3], running=False)))
    motion.run(300.2)
    assert motion.polls(3, 300.1, 300.2) == 1


def test_events_without_end_ask_now_and_then() -> None:
    motion = applied()
    motion.run(300.0)
    for tenth in range(3000):
        at = 300.0 + tenth / 10
        motion.at(at, partial(motion.host.hint, 3, at))
    motion.run(600.0)
    assert motion.polls(3, 300.0, 301.0) == 3
    assert 28 <= motion.polls(3, 301.0, 600.0) <= 31
    motion.run(700.0)
    rest = 100.0 / at_rest()
    assert rest - 1 <= motion.polls(3, 600.0, 700.0) <= rest + 1


def test_an_event_that_has_to_wait_makes_no_earlier_poll_larger() -> None:
    """While IMDS lags there are many polls: most are one request, and not seven."""
    motion = applied()
    motion.run(300.0)
    motion.plug(300.0, ETH2)
    motion.imds(MAC2, 300.0, UNLISTED)
    for tenth in range(6):
        motion.at(300.5 + tenth / 10, partial(motion.host.hint, 4, 300.5 + tenth / 10))
    motion.run(305.0)
    assert motion.polls(4, 301.1, 305.0) == 4
    assert [at for at, index in motion.swept if index == 4 and at >= 301.1] == []


def test_an_event_that_has_to_wait_is_not_forgotten_for_a_poll_in_between() -> None:
    motion = applied()
    motion.run(300.0)
    for at in (300.0, 300.1, 300.2, 300.3, 305.0):
        motion.at(at, partial(motion.host.hint, 3, at))
    motion.run(301.0)
    motion.host.interfaces[3].polling.next_at = 302.0
    motion.imds(MAC, 304.0, MORE["address-v4"][0])
    motion.run(310.1)
    assert motion.polls(3, 301.0, 310.2) == 2
    assert "10.0.2.11" in shown(motion)


def test_an_event_while_a_question_is_open_asks_once_more() -> None:
    motion = applied()
    motion.run(300.0)
    motion.at(300.1, partial(motion.host.hint, 3, 300.1))
    motion.at(300.105, partial(motion.host.hint, 3, 300.105))
    motion.imds(MAC, 300.103, MORE["address-v4"][0])
    motion.run(300.2)
    assert motion.polls(3, 300.1, 300.2) == 2
    assert "10.0.2.11" in shown(motion)


def test_an_event_of_what_is_not_asked_about_asks_nothing() -> None:
    motion = applied()
    motion.kernel.set_link(replace(motion.kernel.links[3], driver="virtio_net"))
    motion.run(301.0)
    motion.host.hint(3, 301.0)
    motion.host.hint(99, 301.0)
    motion.run(400.0)
    assert motion.polls(3, 301.0, 400.0) == 0


@pytest.mark.parametrize(
    "reading", [FULL, *(more for more, _ in MORE.values())], ids=["full", *MORE]
)
@pytest.mark.lasts(17)
def test_nothing_is_written_over_hours_of_renewals(reading: EniMetadata) -> None:
    """A renewal repeats the event of an address, with other lifetimes, which are no fact."""
    motion = applied(reading)
    motion.run(180.0)
    before, told = len(motion.written), len(motion.told)
    for minute in range(4, 484, 2):
        motion.at(60.0 * minute, lambda: None)  # an event, and all is as it was
    motion.run(8 * 3600.0)
    assert (len(motion.written), len(motion.told)) == (before, told)
    an_hour = 3600.0 / at_rest(reading)
    assert an_hour - 1 <= motion.polls(3, 3600.0, 7200.0) <= an_hour + 1, "renewals ask nothing"


def test_a_list_that_flickers_is_not_written_for() -> None:
    """Every other reading lacks the address: seen again, all doubts of it are over."""
    more, what = MORE["address-v4"]
    motion = applied(more)
    motion.run(200.0)
    before = len(motion.written)
    for step in range(200):
        motion.imds(MAC, 200.0 + 20.0 * step, more if step % 2 else FULL)
    motion.run(200.0 + 4000.0)
    assert not [o for _, o in motion.written[before:] if isinstance(o, RemoveAddress)]
    assert what in shown(motion)
