"""IMDS is silent, slow or forgetful for an hour: nothing is lost, and asking stays cheap."""

import pytest

from nicwatchd.core.metadata import EniMetadata
from nicwatchd.core.model import MAIN_TABLE, AddAddress, AddRule
from tests.core.build import (
    ETH1,
    FULL6,
    IPV4,
    MAC,
    NET4,
    PRIMARY,
    TABLE,
    UNLISTED,
    UNREAD,
    eni,
    family,
    ip,
    lease,
)
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, FULL

BEGIN, END = 300.0, 3900.0
REFRESH = 60.0
NEW = "10.0.2.99"
MORE = eni(family(f"{IPV4} {NEW}", cidrs=NET4), FULL6)


def host() -> FastMotion:
    """Applied, for minutes, when the hour begins."""
    world = FastMotion()
    world.plug(0.0, ETH1)
    world.imds(MAC, 0.0, FULL)
    world.imds(PRIMARY, 0.0, eni())
    world.run(BEGIN)
    assert world.state() is APPLIED
    return world


@pytest.mark.parametrize("said", [UNREAD, UNLISTED], ids=["silent", "forgets the interface"])
def test_an_hour_without_an_answer_changes_nothing(said: EniMetadata) -> None:
    world = host()
    written = list(world.written)
    world.imds(MAC, BEGIN, said)
    world.imds(MAC, END, MORE)
    world.run(END)
    assert world.state() is APPLIED
    assert world.written == written
    assert world.polls(3, BEGIN, END) <= (END - BEGIN) / REFRESH
    world.run(END + REFRESH + world.round_trip)
    then = [operation for _, operation in world.written[len(written) :]]
    assert then[0] == AddAddress(3, ip(NEW))
    rules = [operation.rule for operation in then[1:] if isinstance(operation, AddRule)]
    assert [(str(rule.src), rule.table) for rule in rules] == [
        (f"{NEW}/32", MAIN_TABLE),
        (f"{NEW}/32", TABLE),
    ]
    assert len(then) == 3
    assert world.state() is APPLIED


def test_answers_that_take_half_a_minute_are_waited_for_one_at_a_time() -> None:
    world = host()
    world.round_trip = 30.0
    world.imds(MAC, BEGIN + 0.1, MORE)
    world.run(END)
    assert world.state() is APPLIED
    assert (3, ip(NEW)) in {
        (operation.index, operation.ip)
        for _, operation in world.written
        if isinstance(operation, AddAddress)
    }
    assert world.polls(3, BEGIN, END) <= (END - BEGIN) / world.round_trip


def test_a_hot_plug_while_imds_is_gone_waits_and_then_finishes() -> None:
    world = FastMotion()
    world.plug(0.0, ETH1)
    world.imds(MAC, 0.0, UNREAD)
    world.imds(MAC, END, FULL)
    world.run(END)
    assert world.reasons() == {"imds-unread"}
    assert world.host.interfaces[3].lifecycle.overdue
    assert world.polls(3, BEGIN, END) <= (END - BEGIN) / REFRESH
    world.run(END + REFRESH + world.round_trip)
    assert world.state() is APPLIED


def test_a_lease_works_while_imds_is_gone() -> None:
    world = FastMotion()
    world.plug(0.0, ETH1)
    world.imds(MAC, 0.0, UNREAD)
    world.at(1.0, lambda: world.kernel.put(lease(f"{IPV4}/24")))
    world.run(END)
    tables = {rule.src for rule in world.kernel.own_rules if rule.src}
    assert {str(src) for src in tables} == {f"{IPV4}/32"}
