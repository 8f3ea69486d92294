"""What /readyz says, from the health of the families; statuses are made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from nicwatchd.core.evidence import Status
from nicwatchd.core.health import Health
from nicwatchd.core.lifecycle import State
from nicwatchd.core.model import Family
from nicwatchd.service.answers import NotReady
from nicwatchd.service.readiness import (
    BOTH,
    find_interface,
    line,
    not_ready,
    of_host,
    stuck,
    unready,
)
from nicwatchd.service.status import (
    FamilyStatus,
    HostStatus,
    ImdsStatus,
    InterfaceStatus,
    ReasonStatus,
)

WORKING, DEGRADED, NOT = Health.WORKING, Health.DEGRADED, Health.NOT_WORKING
RULE = ReasonStatus(
    code="shadowed", text="rule 100 comes before ours", remedy="ip rule del pref 100"
)
NO_IPV6 = ReasonStatus(code="no-ipv6s", text='IMDS lists no "ipv6s"')
ADDRESSES = {"ipv4": ["10.0.2.11"], "ipv6": ["2001:db8::11"]}


def family(health: Health | None, *causes: ReasonStatus, **more: Any) -> FamilyStatus:
    return FamilyStatus(verdict=Status.READY, health=health, causes=list(causes), **more)


def interface(
    name: str = "eth1",
    ipv4: FamilyStatus | None = None,
    ipv6: FamilyStatus | None = None,
    state: State = State.APPLIED,
    **more: Any,
) -> InterfaceStatus:
    return InterfaceStatus(
        name=name,
        index=3,
        mac=f"02:00:00:00:00:0{name[-1]}",
        eni=f"eni-{name[-1]}",
        state=state,
        since=0.0,
        seen=0.0,
        table=7,
        ipv4=ipv4,
        ipv6=ipv6,
        **more,
    )


def everything(status: HostStatus) -> list[NotReady]:
    return [*not_ready(status.interfaces), *of_host(status)]


def host(*interfaces: InterfaceStatus, **more: Any) -> HostStatus:
    known: dict[str, Any] = {
        "primary_mac": "02:00:00:00:00:00",
        "imds": ImdsStatus(state="ok"),
        **more,
    }
    return HostStatus(version="1", pid=1, started=0.0, interfaces=list(interfaces), **known)


def test_all_that_works_is_ready() -> None:
    status = host(interface(ipv4=family(WORKING), ipv6=family(WORKING)))
    assert everything(status) == []
    assert unready(status.interfaces) == []


@pytest.mark.parametrize("health", [DEGRADED, NOT])
def test_what_does_not_work_is_told_with_its_cause_and_remedy(health: Health) -> None:
    status = host(interface(ipv4=family(health, RULE), ipv6=family(WORKING)))
    (entry,) = everything(status)
    assert (entry.interface, entry.eni, entry.family) == ("eth1", "eni-1", "ipv4")
    assert (entry.health, entry.causes) == (health, [RULE])
    words = f"eth1 IPv4: {health.replace('-', ' ')}: rule 100 comes before ours"
    assert unready(status.interfaces) == [f"{words} (mend: ip rule del pref 100)"]


def test_the_primary_counts() -> None:
    eth0 = interface("eth0", ipv4=family(NOT, RULE), state=State.IGNORED, primary=True)
    assert [entry.interface for entry in everything(host(eth0))] == ["eth0"]


@pytest.mark.parametrize(
    ("families", "failing"),
    [({Family.V4}, []), ({Family.V6}, ["ipv6"]), (BOTH, ["ipv6"])],
)
def test_ipv4_is_ready_whatever_ipv6_waits_for(families: set[Family], failing: list[str]) -> None:
    waits = interface(
        ipv4=family(WORKING), ipv6=family(NOT, NO_IPV6, waits=True), state=State.AWAITING
    )
    found = not_ready([waits], families)
    assert [entry.family for entry in found] == failing
    assert all(entry.waits for entry in found)


def test_a_new_one_is_not_ready_before_it_was_judged() -> None:
    new = interface(state=State.DETECTED)
    (entry,) = not_ready([new], {Family.V4})
    assert (entry.interface, entry.family, entry.health, entry.waits) == ("eth1", None, None, True)
    assert line(entry) == "eth1: waiting: nicwatchd has just found the interface"
    judged = interface(state=State.DETECTED, ipv4=family(WORKING), ipv6=family(NOT, NO_IPV6))
    assert not_ready([judged], {Family.V4}) == []


def test_what_is_left_alone_fails_nothing() -> None:
    reason = ReasonStatus(code="released", text="released")
    assert everything(host(interface(state=State.IGNORED, reasons=[reason]))) == []


@pytest.mark.parametrize(
    ("more", "codes"),
    [
        ({}, ["primary-unknown"]),
        ({"released": True}, []),
        ({"idle": "not EC2"}, []),
        ({"problems": ["the loop hangs"]}, ["daemon-problem", "primary-unknown"]),
    ],
)
def test_what_is_wrong_with_the_host(more: dict[str, Any], codes: list[str]) -> None:
    status = host(interface(ipv4=family(WORKING)), primary_mac=None, **more)
    found = everything(status)
    assert [cause.code for entry in found for cause in entry.causes] == codes
    assert all(entry.interface is None for entry in found)
    assert [line(entry) for entry in found] == [c.text for entry in found for c in entry.causes]


def test_settings_that_cannot_be_used_are_a_problem_that_no_restart_mends() -> None:
    status = host(problems=["the loop hangs", "no such key"], bad_settings="no such key")
    assert stuck(status) == ["the loop hangs"]
    assert len(of_host(status)) == 2


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("eth1", "eth1"),
        ("ETH2", "eth2"),
        ("02:00:00:00:00:02", "eth2"),
        ("eni-1", "eth1"),
        ("10.0.2.11", "eth1"),
        ("10.0.2.12", "eth1"),
        ("10.0.2.13", "eth1"),
        ("10.0.2.70", "eth1"),
        ("2001:db8:0:0::11", "eth2"),
        ("2001:DB8::11", "eth2"),
        ("10.0.2.99", None),
        ("2001:db8::12", None),
        ("eth", None),
        ("", None),
        ("10.0.2.0/24", None),
    ],
)
def test_an_interface_is_found_by_all_it_has(key: str, found: str | None) -> None:
    eth1 = interface(
        "eth1",
        ipv4=family(
            NOT,
            answering=["10.0.2.11"],
            silent=["10.0.2.12"],
            addresses=["10.0.2.13"],
            prefixes=["10.0.2.64/28"],
        ),
    )
    eth2 = interface("eth2", ipv6=family(WORKING, addresses=["2001:db8::11"]))
    one = find_interface([eth1, eth2], key)
    assert (one and one.name) == found
