"""What an operator gets who sets nothing, and the words that the settings are written in."""

from __future__ import annotations

from enum import StrEnum

import pytest

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.model import Numbers
from nicwatchd.core.policy import AddressMode, Coexist, Forwarded, Ipv6Router, Policy, RuleMode


def test_what_nobody_set() -> None:
    policy = Policy()
    assert policy.drivers == {"ena", "ixgbevf", "vif"}
    assert (policy.exclude, policy.exclude_subnets, policy.expect) == ((), (), frozenset())
    assert policy.addresses is AddressMode.AUTO
    assert policy.rules is RuleMode.AUTO
    assert policy.ipv6_router is Ipv6Router.EC2
    assert policy.coexist is Coexist.BESIDE
    assert (policy.forwarded, policy.forwarded_mask) == (Forwarded.OFF, 0x7F000000)
    assert policy.numbers == Numbers()
    assert (policy.kernel_proof, policy.every_link) == (True, False)
    assert (policy.settling, policy.address_wait) == (30.0, 0.0)
    assert (policy.doubts, policy.doubt_span) == (3, 30.0)
    assert policy.schedule == Schedule(
        interval=0.25, fast_for=35.0, growth=2.0, cap=5.0, keep=60.0, patience=180.0, refresh=60.0
    )
    assert policy.patience == 180.0


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (AddressMode, ["auto", "all", "none"]),
        (RuleMode, ["auto", "subnet", "address"]),
        (Ipv6Router, ["ec2", "ra"]),
        (Coexist, ["beside", "force"]),
        (Forwarded, ["off", "connmark"]),
    ],
)
def test_the_words_of_the_settings(setting: type[StrEnum], words: list[str]) -> None:
    assert [word.value for word in setting] == words
