"""Which keys are read of an ENI at rest, and how often."""

from __future__ import annotations

import pytest

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.metadata import ENI_KEYS, Role
from nicwatchd.core.rota import DIRECTORY, requests, rota

IDS = {"mac", "interface-id", "subnet-id", "vpc-id", "security-group-ids", "device-number"}
V4 = {"local-ipv4s", "subnet-ipv4-cidr-block"}
V6 = {"ipv6s", "subnet-ipv6-cidr-blocks"}
PREFIXES = {"ipv4-prefix", "ipv6-prefix"}
OF_V4 = {"local-ipv4s": 1, "subnet-ipv4-cidr-block": 60}
OF_V6 = {"ipv6s": 1, "subnet-ipv6-cidr-blocks": 4}
NUMBER = {"device-number": 60}


@pytest.mark.parametrize(
    ("listed", "named", "expected", "interval"),
    [
        pytest.param(IDS | V4, set(), {DIRECTORY: 2, **OF_V4, **NUMBER}, 6.13, id="IPv4 only"),
        pytest.param(IDS | V6, set(), {DIRECTORY: 2, **OF_V6, **NUMBER}, 7.07, id="IPv6 only"),
        pytest.param(
            IDS | V4 | V6, set(), {DIRECTORY: 2, **OF_V4, **OF_V6, **NUMBER}, 11.13, id="both"
        ),
        pytest.param(
            IDS | V4 | V6 | {"ipv4-prefix"},
            set(),
            {DIRECTORY: 2, "ipv4-prefix": 2, **OF_V4, **OF_V6, **NUMBER},
            13.13,
            id="a prefix; another may come",
        ),
        pytest.param(
            IDS | V4 | V6 | PREFIXES,
            set(),
            {DIRECTORY: 4, "ipv4-prefix": 2, "ipv6-prefix": 2, **OF_V4, **OF_V6, **NUMBER},
            14.13,
            id="all that an ENI can have",
        ),
        pytest.param(
            IDS | V4,
            {"vpc-id", "security-group-ids"},
            {DIRECTORY: 2, "security-group-ids": 4, **OF_V4, **NUMBER},
            7.13,
            id="a section names what can change",
        ),
        pytest.param(
            V4, {"security-group-ids"}, {DIRECTORY: 2, **OF_V4}, 6.07, id="... and it is not there"
        ),
        pytest.param(IDS, set(), {DIRECTORY: 1, **NUMBER}, 4.07, id="no address"),
        pytest.param(set(), set(), {DIRECTORY: 1}, 4.0, id="nothing"),
    ],
)
def test_the_rota(
    listed: set[str], named: set[str], expected: dict[str, int], interval: float
) -> None:
    found = rota(listed, named)
    assert found == expected
    assert Schedule().at_rest(requests(found), 1) == pytest.approx(interval, abs=0.005)


def test_each_key_that_can_change_has_its_turn_within_a_minute() -> None:
    """Of an ENI with all there is, beside at most 15 others."""
    every = {key.name for key in ENI_KEYS}
    found = rota(every, every)
    interval = Schedule().at_rest(requests(found), 16)
    constant = {key.name for key in ENI_KEYS if key.role in (Role.WHOSE, Role.NAME, Role.ONCE)}
    assert every - found.keys() == constant | {"vpc-id"}
    slow = {name for name, polls in found.items() if polls * interval > 61.0}
    assert slow == {"subnet-ipv4-cidr-block", "device-number", "network-card"}
