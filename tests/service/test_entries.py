"""What the journal's entries say, by tables: the line, its priority, and the fields that count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.core.health import FamilyHealth, Health
from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import State, Transition
from nicwatchd.core.model import AddAddress, AddRoute, AddRule, Reason, Route, Rule, SetGroup
from nicwatchd.core.news import (
    Bypassed,
    EgressMoved,
    FamilyGivenUp,
    HealthChanged,
    LinkChanged,
    Lost,
    News,
    Restored,
    StateChanged,
)
from nicwatchd.core.policy import Policy
from nicwatchd.service import entries, journal
from nicwatchd.service.entries import DEBUG, INFO, NOTICE, WARNING
from nicwatchd.service.status import InterfaceStatus, ReasonStatus, of_view
from nicwatchd.service.telling import Told
from tests.core.build import ETH1, IPV4, NET4, TABLE, V4, V6, ip, ips, net

VIEW = Interface(ETH1, 5.0, Policy()).view()
DOWN = replace(VIEW, link=replace(ETH1, up=False))
STATUS = of_view(VIEW, 0.0).model_copy(update={"eni": "eni-0a1b"})
RULES = tuple(AddRule(Rule(V4, 32765, TABLE, src=net(f"10.0.2.{n}/32"))) for n in range(8))
ROUTE = AddRoute(Route(net(NET4), TABLE, 3))
ADDRESS = AddAddress(3, ip(IPV4))
IP = "port id 4711, perhaps ip (child of bash, pid 4700, unit ssh.service)"
TWO = ("port id 7, perhaps a", "port id 8, perhaps b")
NOBODY = "it is not known who did it: the kernel's notifications name nobody"
BYPASS = Reason("shadowed", "packets from 10.0.2.10 are routed by the rule at priority 100", "x")
LATE = "awaiting-imds (overdue)"
NONE6 = Reason("no-ipv6-assigned", "the subnet has IPv6, the ENI none")
SILENT = Reason("not-by-eni", "10.0.2.10 leaves by eth0", "ip rule del pref 100")


def verdict(
    health: Health, *causes: Reason, waits: bool = False, since: float = 5.0, **more: object
) -> FamilyHealth:
    return replace(FamilyHealth(V4, health, since, causes, waits), **more)  # type: ignore[arg-type]


WORKING = verdict(Health.WORKING)
WAITING = verdict(Health.NOT_WORKING, Reason("no-local-ipv4s", "IMDS lists none"), waits=True)
BROKEN = verdict(Health.NOT_WORKING, SILENT)
PARTLY = replace(BROKEN, health=Health.DEGRADED, answering=ips("10.0.2.11"))


def written(news: News, status: InterfaceStatus = STATUS) -> tuple[str, int, dict[str, str]]:
    """The entry for it."""
    found: list[tuple[str, int, dict[str, str]]] = []
    write = journal.Journal(
        lambda _, text, priority, fields: found.append((text, priority, dict(fields)))
    )
    write.observe(Told(news, status))
    (entry,) = found
    return entry


def transition(state: State, *reasons: Reason, overdue: bool = False) -> StateChanged:
    return StateChanged(VIEW, Transition(State.DETECTED, state, reasons, overdue, 9.0, 4.0))


@pytest.mark.parametrize(
    ("news", "text", "priority"),
    [
        (LinkChanged(DOWN, carries=False), "the link is down, not by nicwatchd", WARNING),
        (LinkChanged(VIEW, carries=False), "the link has no carrier, not by nicwatchd", WARNING),
        (LinkChanged(VIEW, carries=True), "the link is up again, not by nicwatchd", NOTICE),
        (
            LinkChanged(VIEW, carries=True, flapped=True),
            "the link was down for a moment, not by nicwatchd",
            NOTICE,
        ),
        (
            EgressMoved(VIEW, V4, ("eth0",), ("eth1",), by_us=False),
            "the host's own IPv4 traffic leaves by eth1 now, by eth0 before, not by nicwatchd",
            WARNING,
        ),
        (
            EgressMoved(VIEW, V6, ("eth1", "eth2"), ("eth0",), by_us=True),
            (
                "the host's own IPv6 traffic leaves by eth0 now, by eth1 and eth2 before, by "
                "nicwatchd's copy of that default route"
            ),
            NOTICE,
        ),
        (
            EgressMoved(VIEW, V4, ("eth0",), (), by_us=False),
            "the host's own IPv4 traffic leaves by no link now, by eth0 before, not by nicwatchd",
            WARNING,
        ),
        (
            HealthChanged(VIEW, V4, WAITING, WORKING, 5.5),
            "IPv4 works, 0.50 s after it was seen",
            NOTICE,
        ),
        (HealthChanged(VIEW, V4, None, WAITING, 5.5), "IPv4 waits: IMDS lists none", INFO),
        (
            HealthChanged(VIEW, V4, WORKING, BROKEN, 65.0),
            "IPv4 does not work: 10.0.2.10 leaves by eth0",
            WARNING,
        ),
        (
            HealthChanged(VIEW, V4, BROKEN, WORKING, 605.0),
            "IPv4 works again, after 10 min not working",
            NOTICE,
        ),
        (
            HealthChanged(
                VIEW,
                V4,
                WORKING,
                PARTLY,
                65.0,
            ),
            "IPv4 works only in part: 10.0.2.10 leaves by eth0",
            WARNING,
        ),
        (
            HealthChanged(VIEW, V4, WORKING, None, 65.0),
            "IPv4 is not judged any more: the interface is left alone, or it has none",
            NOTICE,
        ),
    ],
)
def test_what_is_said_after_the_name(news: News, text: str, priority: int) -> None:
    message, got, fields = written(news)
    assert message == f"eth1 eni-0a1b: {text}"
    assert got == priority
    assert (fields["INTERFACE"], fields["NICWATCHD_ENI"]) == ("eth1", "eni-0a1b")
    assert fields["NICWATCHD_CAUSE"]


@pytest.mark.parametrize(
    ("news", "text", "priority"),
    [
        (Lost(VIEW, RULES, (IP,), 9.0), f"lost 8 rules; removed by {IP}", NOTICE),
        (
            Lost(VIEW, (ROUTE, *RULES[:1], ADDRESS), (), 9.0),
            f"lost 1 route, 1 rule, 1 address; {NOBODY}",
            NOTICE,
        ),
        (
            Lost(VIEW, (ADDRESS, AddAddress(3, ip("10.0.2.9"))), ("port id 3388298734",), 9.0),
            "lost 2 addresses; removed by port id 3388298734 (no process now)",
            NOTICE,
        ),
        (
            Lost(
                VIEW,
                (SetGroup(3, 3778),),
                TWO,
                9.0,
                31,
            ),
            "lost 1 group, and 31 more before that were put back; removed by " + "; ".join(TWO),
            NOTICE,
        ),
        (Restored(VIEW, RULES, 0.11), "has 8 rules back, after 0.11 s", NOTICE),
        (Restored(VIEW, (ROUTE,), 200.0), "has 1 route back, after 3 min", NOTICE),
        (Bypassed(VIEW, (BYPASS,), ()), f"is bypassed: {BYPASS.text}", WARNING),
        (
            Bypassed(VIEW, (), (BYPASS,)),
            "is no longer bypassed: nicwatchd's rules decide again",
            NOTICE,
        ),
        (
            FamilyGivenUp(VIEW, V6, NONE6, 180.0),
            f"is taken for an interface without IPv6, 3 min after it was seen: {NONE6.text}",
            NOTICE,
        ),
        (transition(State.VALIDATED), "is validated after 4.0 s", DEBUG),
        (transition(State.APPLIED), "is applied after 4.0 s", NOTICE),
        (transition(State.AWAITING), "is awaiting-imds after 4.0 s", INFO),
        (
            transition(State.AWAITING, overdue=True),
            "is awaiting-imds (overdue) after 4.0 s",
            WARNING,
        ),
    ],
)
def test_what_is_said_of_an_interface(news: News, text: str, priority: int) -> None:
    message, got, _ = written(news)
    assert message == f"eth1 eni-0a1b {text}"
    assert got == priority


def test_before_its_eni_is_known_its_mac_names_it() -> None:
    message, _, fields = written(LinkChanged(VIEW, carries=True), of_view(VIEW, 0.0))
    assert message.startswith(f"eth1 ({ETH1.mac}): the link")
    assert fields["NICWATCHD_ENI"] == ""


def test_the_fields_of_a_loss() -> None:
    _, _, fields = written(Lost(VIEW, (*RULES, ROUTE), (IP,), 9.0))
    assert fields["NICWATCHD_OBJECTS"] == "8 rules, 1 route"
    assert len(fields["NICWATCHD_OBJECT_LIST"].splitlines()) == 9
    assert "the IPv4 rule 32765 (from 10.0.2.0/32)" in fields["NICWATCHD_OBJECT_LIST"]
    assert fields["NICWATCHD_CAUSE"] == f"removed by {IP}"
    _, _, fields = written(Lost(VIEW, RULES * 100, (), 9.0))
    assert len(fields["NICWATCHD_OBJECT_LIST"].splitlines()) == entries.LISTED


def test_the_fields_of_a_verdict() -> None:
    status = STATUS.model_copy(update={"health": Health.NOT_WORKING})
    news = HealthChanged(VIEW, V4, WORKING, BROKEN, 65.0)
    _, _, fields = written(news, status)
    assert {
        name: fields[f"NICWATCHD_{name}"]
        for name in (
            "HEALTH",
            "FAMILY",
            "FAMILY_HEALTH",
            "PREVIOUS_HEALTH",
            "LASTED_USEC",
            "CAUSE",
            "REMEDY",
            "REASON_CODES",
        )
    } == {
        "HEALTH": "not-working",
        "FAMILY": "ipv4",
        "FAMILY_HEALTH": "not-working",
        "PREVIOUS_HEALTH": "working",
        "LASTED_USEC": "60000000",
        "CAUSE": "10.0.2.10 leaves by eth0",
        "REMEDY": "ip rule del pref 100",
        "REASON_CODES": "not-by-eni",
    }


def test_codes_stand_beside_the_texts_and_only_once() -> None:
    reasons = [ReasonStatus(code=code, text=f"{code}!") for code in ("a", "b", "a")]
    fields = entries.interface_fields(STATUS, reasons)
    assert fields["NICWATCHD_REASON_CODES"] == "a b"
    assert fields["NICWATCHD_REASONS"] == "a: a!\nb: b!\na: a!"
    assert fields["NICWATCHD_CAUSE"] == "a!; b!; a!"
    assert entries.interface_fields(STATUS, [])["NICWATCHD_CAUSE"] == entries.NOTHING


@pytest.mark.parametrize("text", ["x" * 1000, "é" * 400, "\U0001f600" * 200, "a\nb\n" * 200])
def test_a_cause_is_one_line_that_the_catalog_takes(text: str) -> None:
    line = entries.clipped(text)
    assert len(line.encode()) < 256
    assert "\n" not in line
    assert line.endswith("...")


def test_a_process_may_have_any_name() -> None:
    message, _, _ = written(Lost(VIEW, RULES, ("port id 7, perhaps \x1b[31m\nevil",), 9.0))
    assert message.isprintable()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.114, "0.11 s"),
        (-1.0, "0.00 s"),
        (4.23, "4.2 s"),
        (119.0, "119 s"),
        (120.0, "2 min"),
        (7200.0, "2 h"),
        (172_800.0, "2 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert entries.duration(seconds) == text
