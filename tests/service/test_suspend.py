"""A host that was suspended looks at everything at once when it resumes."""

from __future__ import annotations

import time
from dataclasses import replace
from ipaddress import ip_address
from itertools import chain, repeat

import pytest

from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import PROTOCOL
from nicwatchd.service import clock, journal
from nicwatchd.service.clock import SLEEP, Sleep
from tests.service.conftest import ETH1, Host, eventually, until

NIGHT = 8 * 3600.0


class Clocks:
    """Two clocks; `suspend` sets one of them forward."""

    def __init__(self) -> None:
        self.slept = 0.0

    def awake(self) -> float:
        return time.monotonic()

    def boottime(self) -> float:
        return time.monotonic() + self.slept


@pytest.mark.lasts(6)  # nothing happens before the next heartbeat
async def test_everything_is_read_again_without_any_event(host: Host) -> None:
    clocks = Clocks()
    slept = Sleep(clocks.boottime, clocks.awake)
    async with host.daemon(clock=clocks.boottime, slept=slept) as daemon:
        host.plug_primary()
        index = host.plug()
        before = await until(
            daemon, "eth1", lambda s: s.state is State.APPLIED and s.health == "working"
        )

        # While it sleeps: a rule goes, no event is left of it, and IMDS lists one more address.
        rules = host.kernel._state.rules
        ours = [rule for rule in rules if rule.protocol == PROTOCOL]
        rules.remove(ours[-1])
        host.imds.change(replace(ETH1, ipv4=(*ETH1.ipv4, "10.0.2.12")))
        clocks.slept += NIGHT

        async def is_right() -> bool:
            added = {address.ip for address in await host.kernel.addresses(index)}
            there = [rule for rule in host.kernel._state.rules if rule.protocol == PROTOCOL]
            return ip_address("10.0.2.12") in added and set(ours) <= set(there)

        await eventually(is_right)
        after = next(each for each in daemon.status().interfaces if each.name == "eth1")
        assert daemon.problems() == []
    told = [entry.message for entry in host.entries if entry.message_id == journal.RESUMED]
    assert told == ["the host was suspended for 8 h; reading the kernel and IMDS again"]
    # The time of day went on, too, which it does not in this test.
    assert after.seen == pytest.approx(before.seen - NIGHT, abs=1.0)


def test_a_sleep_is_told_once() -> None:
    boottime = iter([100.0, 101.0, 7302.0, 7303.0])
    awake = iter([90.0, 91.0, 92.0, 93.0])
    slept = Sleep(boottime.__next__, awake.__next__)
    assert [slept(), slept(), slept()] == [0.0, 7200.0, 0.0]


def test_what_is_between_two_readings_is_no_sleep() -> None:
    late = chain([0.0], repeat(SLEEP / 2))
    slept = Sleep(late.__next__, lambda: 0.0)
    assert [slept() for _ in range(10)] == [0.0] * 10


def test_many_short_sleeps_are_one() -> None:
    ahead = (0.4 * SLEEP * count for count in range(10))
    slept = Sleep(ahead.__next__, lambda: 0.0)
    assert [round(slept() / SLEEP, 1) for _ in range(6)] == [0.0, 0.0, 1.2, 0.0, 0.0, 1.2]


def test_the_clock_counts_the_time_of_sleep() -> None:
    assert clock.now() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=1.0)
