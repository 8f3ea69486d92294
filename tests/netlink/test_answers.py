"""What an errno means, what this process may do, and what driver a link has."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from nicwatchd.core.model import (
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    SetGroup,
    SetUp,
)
from nicwatchd.core.port import Result, judge
from nicwatchd.netlink.capability import has_net_admin
from nicwatchd.netlink.driver import Drivers
from nicwatchd.netlink.rtnetlink import NetlinkKernel

if TYPE_CHECKING:
    from pathlib import Path

IP = ip_address("10.0.0.5")
ROUTE = Route(ip_network("10.0.0.0/24"), 1001983, 7)
RULE = Rule(Family.V4, 32765, 1001983)
OPERATIONS: tuple[Operation, ...] = (
    SetGroup(7, 3778),
    SetUp(7),
    AddAddress(7, IP),
    RemoveAddress(7, IP, 32),
    AddRoute(ROUTE),
    RemoveRoute(ROUTE),
    AddRule(RULE),
    RemoveRule(RULE),
)


def names(operation: Operation) -> str:
    return type(operation).__name__


@pytest.mark.parametrize("operation", OPERATIONS, ids=names)
def test_answers_that_mean_the_same_for_all(operation: Operation) -> None:
    meanings = {
        0: Result.DONE,
        errno.ENODEV: Result.GONE,
        errno.ENETDOWN: Result.RETRY,
        errno.ENETUNREACH: Result.RETRY,
        errno.EHOSTUNREACH: Result.RETRY,
        errno.EBUSY: Result.RETRY,
        errno.ENOMEM: Result.RETRY,
        errno.EPERM: Result.REFUSED,
        errno.EACCES: Result.REFUSED,
        errno.EOPNOTSUPP: Result.REFUSED,  # no IPv6 on the whole host
        errno.EAFNOSUPPORT: Result.REFUSED,
        errno.ERANGE: Result.BUG,
    }
    assert {code: judge(operation, code).result for code in meanings} == meanings


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EEXIST, {"AddAddress": "done", "AddRule": "done", "AddRoute": "retry"}),
        (errno.ENOENT, {"RemoveRule": "done"}),
        (errno.ESRCH, {"RemoveRoute": "done"}),
        (errno.EADDRNOTAVAIL, {"RemoveAddress": "done"}),
        # The preferred source went, or the link's MTU is now too small for IPv6.
        (errno.EINVAL, {"AddAddress": "retry", "AddRoute": "retry"}),
    ],
)
def test_answers_that_mean_something_to_one_verb(code: int, expected: dict[str, str]) -> None:
    results = {names(operation): judge(operation, code).result.value for operation in OPERATIONS}
    assert results == dict.fromkeys(results, "bug") | expected


def test_an_outcome_has_words() -> None:
    assert judge(SetUp(7), 0).message == ""
    assert judge(SetUp(7), errno.EPERM).message == "Operation not permitted"
    assert judge(SetUp(7), errno.EPERM, "the kernel's own").message == "the kernel's own"


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("000001ffffffffff", True),
        ("0000000000001000", True),
        ("0000000000000000", False),
        ("0000000000002000", False),  # CAP_NET_RAW
    ],
)
def test_the_capability_that_it_takes(tmp_path: Path, mask: str, *, expected: bool) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tnicwatchd\nCapPrm:\t0000000000000000\nCapEff:\t{mask}\n")
    assert has_net_admin(status) is expected


def test_this_process_has_it_or_no_test_here_could_pass() -> None:
    assert has_net_admin()


@pytest.mark.usefixtures("namespace")
def test_drivers_come_from_ethtool(add_veth: str) -> None:
    drivers = Drivers()
    index = socket.if_nametoindex(add_veth)
    assert drivers.driver(index, add_veth) == "veth"
    assert drivers.driver(1, add_veth) is None, "it is another link's name by now"
    assert drivers.driver(1, "lo") is None
    assert drivers.driver(index, "missing") is None
    drivers.close()


@pytest.mark.usefixtures("namespace")
async def test_a_driver_that_cannot_be_told_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """udev renames a link between our two questions; what is known is not asked for again."""
    netlink = NetlinkKernel()
    answers = [None, "ena"]
    monkeypatch.setattr(Drivers, "driver", lambda *_: answers.pop(0))
    assert [(await netlink.links())[1].driver for _ in range(3)] == [None, "ena", "ena"]
    assert answers == []
    netlink.close()
