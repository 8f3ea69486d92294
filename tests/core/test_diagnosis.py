"""Why an ENI does not work: each cause, in each family, and what is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nicwatchd.core.diagnosis import in_use, judge, owned
from nicwatchd.core.evidence import Status, Usable, Verdict
from nicwatchd.core.floating import Taken
from nicwatchd.core.health import FamilyHealth, Health
from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import State
from nicwatchd.core.memory import Memory, remember
from nicwatchd.core.model import Family, IPAddress, Item, Plan, Reason, Rule
from nicwatchd.core.moves import Elsewhere
from nicwatchd.core.policy import Policy
from nicwatchd.core.reach import NOTHING_AMISS, Reached
from nicwatchd.core.treatment import Managed, Primary, Released, Treatment, Unmanaged
from nicwatchd.core.view import View, unconfigured
from tests.core.build import (
    ETH1,
    MAC,
    NET4,
    NET6,
    TABLE,
    V4,
    V6,
    added,
    eni,
    family,
    ip,
    ips,
    lease,
    permanent,
)

WORKING, DEGRADED, NOT_WORKING = Health.WORKING, Health.DEGRADED, Health.NOT_WORKING
READY, WAITING, ABSENT, OFF = Status.READY, Status.WAITING, Status.ABSENT, Status.OFF
BOTH_FAMILIES = pytest.mark.parametrize("which", Family, ids=lambda each: each.label)
NOW = 107.0
OWN = {V4: ips("10.0.2.10", "10.0.2.11"), V6: ips("2001:db8:0:2::10", "2001:db8:0:2::11")}
NOT_YET = Reason("imds-unread", "no usable answer from IMDS: 503")
FIGHT = Reason("fought-over", "x")
LEAVES = Reason("leaves-elsewhere", "it answers nobody", "sudo ip rule del pref 100")
PRIMARY = Primary()


def network(which: Family) -> str:
    return NET4 if which is V4 else NET6


def said(which: Family, *more: IPAddress) -> Memory:
    """IMDS lists these, too."""
    lists = family(" ".join(map(str, (*OWN[which], *more))), cidrs=network(which))
    return remember(Memory(), eni(**{f"v{which.value}": lists}), MAC, 0.0, Policy())


def verdict(which: Family, status: Status = READY, *reasons: Reason, **more: Any) -> Verdict:
    usable = more.pop("usable", Usable(addresses=OWN[which], listed=OWN[which]))
    return Verdict(which, status, reasons, usable=usable, **more)


def view(which: Family, **facts: Any) -> View:
    """An ENI of two addresses in one family, and as it is to be."""
    first, second = OWN[which]
    bits = 24 if which is V4 else 128
    rules = tuple(Rule(which, 32765, TABLE, src=each) for each in (None,))
    whole: dict[str, Any] = {
        "link": ETH1,
        "treatment": Managed(),
        "state": State.APPLIED,
        "seen": 100.0,
        "memory": said(which),
        "addresses": (lease(f"{first}/{bits}"), added(f"{second}/{second.max_prefixlen}")),
        "verdicts": {which: verdict(which)},
        "plan": Plan(3, addresses=(second,), rules=rules),
    }
    return replace(Interface(ETH1, 100.0, Policy()).view(), **whole | facts)


def found(which: Family, reached: Reached = NOTHING_AMISS, **facts: Any) -> FamilyHealth:
    health = judge(view(which, **facts), which, reached, NOW)
    assert health
    assert set(health.answering).isdisjoint(health.silent)
    return health


def codes(health: FamilyHealth) -> list[str]:
    return [cause.code for cause in health.causes]


@BOTH_FAMILIES
@pytest.mark.parametrize("treatment", [Managed(), PRIMARY], ids=["secondary", "primary"])
def test_all_addresses_answer(which: Family, treatment: Treatment) -> None:
    assert found(which, treatment=treatment) == FamilyHealth(
        which, WORKING, NOW, answering=OWN[which], worked_after=7.0
    )


# --- what has a verdict ----------------------------------------------------------------------


ALONE = Reason("no-eni", "IMDS knows no ENI with this MAC")


@BOTH_FAMILIES
@pytest.mark.parametrize(
    "facts",
    [
        pytest.param({"verdicts": {}}, id="nothing is known"),
        pytest.param({"verdicts": {f: verdict(f, ABSENT) for f in Family}}, id="absent"),
        pytest.param({"verdicts": {f: verdict(f, OFF) for f in Family}}, id="off"),
        pytest.param(
            {"verdicts": {f: verdict(f, notes=(ALONE,)) for f in Family}},
            id="of a secondary network: only bound sockets use it",
        ),
        pytest.param({"treatment": Released(ALONE)}, id="released"),
        pytest.param({"treatment": Unmanaged(ALONE)}, id="excluded"),
        pytest.param({"treatment": Unmanaged(ALONE, asked=True)}, id="a port of a bridge"),
        pytest.param({"state": State.IGNORED}, id="it has no IP"),
        pytest.param(
            {
                "treatment": PRIMARY,
                "addresses": (),
                "verdicts": {f: verdict(f, WAITING, usable=Usable()) for f in Family},
            },
            id="the primary, which has nothing so far",
        ),
    ],
)
def test_what_has_no_health(which: Family, facts: dict[str, Any]) -> None:
    assert judge(view(which, **facts), which, NOTHING_AMISS, NOW) is None


@BOTH_FAMILIES
def test_the_other_family_does_not_count(which: Family) -> None:
    other = V6 if which is V4 else V4
    undecided = verdict(other, WAITING, Reason("undecided", "not yet"), usable=Usable())
    verdicts = {which: verdict(which), other: undecided}
    assert found(which, verdicts=verdicts).health is WORKING
    waits = found(other, verdicts=verdicts, addresses=view(which).addresses)
    assert (waits.health, waits.waits, codes(waits)) == (NOT_WORKING, True, ["undecided"])


# --- causes ----------------------------------------------------------------------------------


DOWN, NO_CARRIER = replace(ETH1, up=False), replace(ETH1, running=False)


@BOTH_FAMILIES
@pytest.mark.parametrize("treatment", [Managed(), PRIMARY], ids=["secondary", "primary"])
@pytest.mark.parametrize(
    ("link", "code", "remedy"),
    [
        (DOWN, "link-down", "sudo ip link set dev eth1 up"),
        (NO_CARRIER, "no-carrier", ""),
    ],
)
def test_the_link_is_all_there_is_to_say(
    which: Family, treatment: Treatment, link: Any, code: str, remedy: str
) -> None:
    """With it go its routes, and IPv6 addresses; and nothing of that is told."""
    facts: dict[str, Any] = {"treatment": treatment, "link": link, "addresses": ()}
    health = found(which, Reached({OWN[which][0]: LEAVES}, (LEAVES,)), **facts)
    assert (health.health, health.waits, codes(health)) == (NOT_WORKING, False, [code])
    assert (health.answering, health.silent) == ((), OWN[which])
    assert health.causes[0].remedy == remedy


@BOTH_FAMILIES
@pytest.mark.parametrize("treatment", [Managed(), PRIMARY], ids=["secondary", "primary"])
def test_what_others_lead_away_is_silent(which: Family, treatment: Treatment) -> None:
    first, second = OWN[which]
    some = found(which, Reached({second: LEAVES}), treatment=treatment)
    assert (some.health, some.causes, some.waits) == (DEGRADED, (LEAVES,), False)
    assert (some.answering, some.silent) == ((first,), (second,))
    every = found(which, Reached(dict.fromkeys(OWN[which], LEAVES)), treatment=treatment)
    assert (every.health, every.causes) == (NOT_WORKING, (LEAVES,))
    assert every.silent == OWN[which]


@BOTH_FAMILIES
def test_a_subnet_that_gets_no_answer_degrades(which: Family) -> None:
    health = found(which, Reached({}, (LEAVES,)), treatment=PRIMARY)
    assert (health.health, health.causes, health.answering) == (DEGRADED, (LEAVES,), OWN[which])


def without(which: Family, *addresses: IPAddress) -> tuple[Any, ...]:
    return tuple(each for each in view(which).addresses if each.ip not in addresses)


@BOTH_FAMILIES
def test_an_address_that_nobody_brings_is_missing(which: Family) -> None:
    """The primary's first one, say, which only its own manager may add."""
    first, second = OWN[which]
    facts: dict[str, Any] = {"treatment": PRIMARY, "addresses": without(which, first)}
    facts["is_protected"] = True
    health = found(which, **facts)
    assert (health.health, codes(health), health.waits) == (DEGRADED, ["address-missing"], False)
    assert (health.answering, health.silent) == ((second,), (first,))
    v6 = "-6 " if which is V6 else ""
    add = f"sudo ip {v6}addr add {first}/{first.max_prefixlen} dev eth1"
    assert health.causes[0].remedy == add


@BOTH_FAMILIES
def test_of_the_primary_alone_what_nobody_configured_is_a_note(which: Family) -> None:
    first, second = OWN[which]
    facts: dict[str, Any] = {
        "treatment": PRIMARY,
        "plan": Plan(3),
        "addresses": without(which, second),
    }
    health = found(which, **facts)
    assert (health.health, health.answering, health.silent) == (WORKING, (first,), ())
    (note,) = view(which, **facts).notes
    assert note.code == "address-unconfigured"
    assert str(second) in note.text
    v6 = "-6 " if which is V6 else ""
    assert note.remedy == f"sudo ip {v6}addr add {second}/{second.max_prefixlen} dev eth1"
    assert unconfigured(view(which), which) == (), "of a secondary we do it"


@BOTH_FAMILIES
@pytest.mark.parametrize(
    "facts", [{"is_protected": True}, {"addresses": ()}], ids=["beside others", "none at all"]
)
def test_else_what_is_missing_of_the_primary_is_a_cause(
    which: Family, facts: dict[str, Any]
) -> None:
    second = OWN[which][1]
    alone: dict[str, Any] = {"treatment": PRIMARY, "plan": Plan(3)}
    health = found(which, **{**alone, "addresses": without(which, second), **facts})
    assert set(codes(health)) == {"address-missing"}
    assert second in health.silent


def test_many_that_nobody_configured_are_one_note_with_one_command() -> None:
    first, second = OWN[V4]
    third = ip("10.0.2.12")
    usable = Usable(addresses=(first, second, third), listed=(first, second, third))
    verdicts = {V4: verdict(V4, usable=usable)}
    alone: dict[str, Any] = {"treatment": PRIMARY, "plan": Plan(3)}
    seen = view(V4, verdicts=verdicts, addresses=without(V4, second), **alone)
    (note,) = seen.notes
    assert "10.0.2.11 and 1 more" in note.text
    assert note.remedy == (
        "for ip in 10.0.2.11 10.0.2.12; do sudo ip addr add $ip/32 dev eth1; done"
    )


@BOTH_FAMILIES
@pytest.mark.parametrize("place", ["awaited", "addresses"])
def test_an_address_that_is_to_come_is_waited_for(which: Family, place: str) -> None:
    first, second = OWN[which]
    awaited = Reason("address-awaited", "DHCP has 5 s", family=which)
    coming: dict[str, Any] = {place: (second,)}
    plan = replace(view(which).plan, **coming)
    facts: dict[str, Any] = {"plan": plan, "addresses": without(which, second)}
    if place == "awaited":
        facts["unfinished"] = (awaited,)
    health = found(which, **facts)
    code = "address-awaited" if place == "awaited" else "in-progress"
    assert (health.health, health.waits, codes(health)) == (DEGRADED, True, [code])
    assert (health.answering, health.silent) == ((first,), (second,))


def test_a_tentative_address_is_waited_for() -> None:
    first, second = OWN[V6]
    checked = lease(f"{second}/64", tentative=True)
    health = found(V6, addresses=(*without(V6, second), checked))
    assert (health.health, health.waits) == (DEGRADED, True)
    assert (health.answering, health.silent) == ((first,), (second,))
    (cause,) = health.causes
    assert cause.code == "address-tentative"
    again = f"sudo ip -6 addr add {second}/128 dev eth1 nodad"
    assert cause.remedy == f"sudo ip -6 addr del {second}/64 dev eth1; {again}"


@BOTH_FAMILIES
def test_what_another_link_has_is_silent(which: Family) -> None:
    first, second = OWN[which]
    elsewhere: dict[Item, Elsewhere] = {second: Elsewhere("eth2", second)}
    usable = Usable(addresses=OWN[which]).without(elsewhere)
    health = found(which, elsewhere=elsewhere, verdicts={which: verdict(which, usable=usable)})
    assert (health.health, codes(health)) == (DEGRADED, ["held-elsewhere"])
    assert (health.answering, health.silent) == ((first,), (second,))


@BOTH_FAMILIES
def test_what_another_link_has_of_the_other_family_is_none_of_this_one(which: Family) -> None:
    its = V6 if which is V4 else V4
    other, name = OWN[its][0], f"v{its.value}"
    memory = replace(said(which), **{name: getattr(said(its), name)})
    elsewhere: dict[Item, Elsewhere] = {other: Elsewhere("eth2", other)}
    assert found(which, memory=memory, elsewhere=elsewhere).health is WORKING


@BOTH_FAMILIES
def test_what_keepalived_took_away_is_silent(which: Family) -> None:
    """EC2 still sends its packets here, and nobody answers."""
    first, second = OWN[which]
    usable = Usable(addresses=(first,), listed=(first,))
    health = found(
        which,
        taken={second: Taken(90.0, "keepalived")},
        addresses=without(which, second),
        verdicts={which: verdict(which, usable=usable)},
        plan=Plan(3),
    )
    assert (health.health, codes(health)) == (DEGRADED, ["taken-away"])
    assert (health.answering, health.silent) == ((first,), (second,))


@BOTH_FAMILIES
@pytest.mark.parametrize(
    ("facts", "code", "expected"),
    [
        pytest.param(
            {"fight": FIGHT, "fought_at": 100.0}, "fought-over", DEGRADED, id="a fight"
        ),
        pytest.param(
            {"surprise": Reason("internal-error", "x")}, "internal-error", DEGRADED, id="a bug"
        ),
        pytest.param(
            {"failures": (Reason("kernel-refused", "x"),), "unequal": frozenset({None})},
            "kernel-refused",
            DEGRADED,
            id="refused",
        ),
        pytest.param(
            {"unfinished": (Reason("no-router", "x"),)}, "no-router", DEGRADED, id="no router"
        ),
        *(
            pytest.param({"remarks": Reason(code, "x")}, code, DEGRADED, id=code)
            for code in ("nft-missing", "nft-refused", "mark-taken", "marks-used-up",
                         "strict-filter", "same-address", "published-port")
        ),
    ],
)  # fmt: skip
def test_what_concerns_the_whole_family(
    which: Family, facts: dict[str, Any], code: str, expected: Health
) -> None:
    if remark := facts.get("remarks"):
        facts = {"plan": replace(view(which).plan, remarks=(remark,))}
    health = found(which, **facts)
    assert (health.health, codes(health)[0], health.waits) == (expected, code, False)
    assert health.answering == OWN[which]
    nothing = found(which, **facts, addresses=(), verdicts={which: verdict(which, usable=Usable())})
    assert nothing.health is NOT_WORKING


@BOTH_FAMILIES
def test_a_fight_counts_while_something_is_removed(which: Family) -> None:
    assert found(which, fight=FIGHT, fought_at=NOW - 14.9).causes == (FIGHT,)
    assert found(which, fight=FIGHT, fought_at=NOW - 15.0).health is WORKING


@BOTH_FAMILIES
def test_what_concerns_the_other_family_only(which: Family) -> None:
    other = V6 if which is V4 else V4
    reason = Reason("kernel-refused", "x", family=other)
    plan = replace(view(which).plan, remarks=(Reason("same-address", "x", family=other),))
    facts: dict[str, Any] = {
        "failures": (reason,),
        "unfinished": (reason,),
        "fight": reason,
        "fought_at": NOW,
        "plan": plan,
    }
    assert found(which, **facts, unequal=frozenset({other})).health is WORKING


@BOTH_FAMILIES
@pytest.mark.parametrize("code", ["odd-mtu", "shadowed", "lives-elsewhere", "left-alone", "multus"])
def test_other_notes_are_no_cause(which: Family, code: str) -> None:
    plan = replace(view(which).plan, remarks=(Reason(code, "x"),))
    assert found(which, plan=plan).health is WORKING


# --- what is meant to be elsewhere -----------------------------------------------------------


@BOTH_FAMILIES
def test_what_containers_have_is_no_cause(which: Family) -> None:
    """Or what `leave_addresses` leaves to others."""
    first, second = OWN[which]
    plan = replace(view(which).plan, addresses=(), away=frozenset({second}))
    health = found(which, plan=plan, addresses=without(which, second))
    assert (health.health, health.answering, health.silent) == (WORKING, (first,), ())
    about_to_go = found(which, Reached({second: LEAVES}), plan=plan)
    assert (about_to_go.health, about_to_go.answering) == (WORKING, (first,))


@BOTH_FAMILIES
def test_what_another_link_of_the_host_has_for_the_eni_is_to_answer(which: Family) -> None:
    first, second = OWN[which]
    its = frozenset({second})
    plan = replace(view(which).plan, addresses=(), away=its, housed=its)
    facts: dict[str, Any] = {"plan": plan, "addresses": without(which, second)}
    assert in_use(view(which, **facts), which) == OWN[which]
    assert found(which, **facts).answering == OWN[which]
    led_away = found(which, Reached({second: LEAVES}), **facts)
    assert (led_away.health, led_away.causes) == (DEGRADED, (LEAVES,))
    assert (led_away.answering, led_away.silent) == ((first,), (second,))


@BOTH_FAMILIES
def test_what_others_put_on_the_link_is_to_answer(which: Family) -> None:
    _, second = OWN[which]
    plan = replace(view(which).plan, addresses=(), away=frozenset({second}))
    theirs = permanent(f"{second}/{second.max_prefixlen}")
    facts: dict[str, Any] = {"plan": plan, "addresses": (*without(which, second), theirs)}
    assert found(which, **facts).answering == OWN[which]
    assert found(which, Reached({second: LEAVES}), **facts).silent == (second,)


@BOTH_FAMILIES
def test_addresses_that_are_nobody_s_to_add(which: Family) -> None:
    """`addresses = "none"`, Multus, or pods of a container network behind the primary."""
    first, second = OWN[which]
    facts: dict[str, Any] = {
        "leaves_addresses": True,
        "plan": Plan(3),
        "addresses": without(which, second),
    }
    health = found(which, **facts)
    assert (health.health, health.answering, health.silent) == (WORKING, (first,), ())


@BOTH_FAMILIES
def test_an_eni_that_has_only_prefixes_works(which: Family) -> None:
    health = found(which, addresses=(), verdicts={which: verdict(which, usable=Usable())})
    assert (health.health, health.answering, health.silent) == (WORKING, (), ())


@BOTH_FAMILIES
def test_by_device_it_can_be_used_all_the_same(which: Family) -> None:
    usable = Usable(by_device=True)
    plan = replace(view(which).plan, remarks=(Reason("same-address", "x"),))
    health = found(which, addresses=(), verdicts={which: verdict(which, usable=usable)}, plan=plan)
    assert (health.health, codes(health)) == (DEGRADED, ["same-address"])


# --- while facts are missing -----------------------------------------------------------------


@BOTH_FAMILIES
@pytest.mark.parametrize(
    ("usable", "plan", "answering"),
    [
        pytest.param(Usable(), Plan(3), True, id="nothing is certain"),
        pytest.param(None, None, True, id="what DHCP proves is programmed"),
    ],
)
def test_leases_answer_while_imds_does_not(
    which: Family, usable: Usable | None, plan: Plan | None, *, answering: bool
) -> None:
    first = OWN[which][0]
    its = Usable(addresses=(first,)) if usable is None else usable
    facts: dict[str, Any] = {
        "verdicts": {which: verdict(which, WAITING, NOT_YET, usable=its)},
        "addresses": without(which, OWN[which][1]),
        "plan": replace(view(which).plan, addresses=()) if plan is None else plan,
    }
    health = found(which, **facts)
    assert (health.health, health.waits, health.causes) == (DEGRADED, True, (NOT_YET,))
    assert (health.answering == (first,)) is answering
    led = Reached({first: LEAVES}, (LEAVES,))
    away = found(which, led, **facts)
    assert (away.health, away.silent) == (NOT_WORKING, (first,))
    expected = (NOT_YET,) if usable == Usable() else (LEAVES, NOT_YET)
    assert set(away.causes) == set(expected), "what is not programmed yet leaves elsewhere"
    assert away.waits is (usable == Usable())


@BOTH_FAMILIES
def test_a_lease_that_another_eni_has_proves_nothing(which: Family) -> None:
    first = OWN[which][0]
    facts: dict[str, Any] = {
        "verdicts": {which: verdict(which, WAITING, NOT_YET, usable=Usable())},
        "elsewhere": {first: Elsewhere("eth2", first)},
        "memory": Memory(),
    }
    assert found(which, **facts).answering == ()


@BOTH_FAMILIES
def test_without_imds_the_primary_s_leases_are_its_own(which: Family) -> None:
    facts: dict[str, Any] = {
        "treatment": PRIMARY,
        "verdicts": {which: verdict(which, usable=Usable())},
        "memory": Memory(),
    }
    assert owned(view(which, **facts), which) == OWN[which][:1]
    assert found(which, **facts).health is WORKING


@BOTH_FAMILIES
def test_waiting_has_an_end(which: Family) -> None:
    verdicts = {which: verdict(which, WAITING, NOT_YET, usable=Usable())}
    facts: dict[str, Any] = {"verdicts": verdicts, "addresses": ()}
    assert found(which, **facts).waits
    overdue = found(which, **facts, overdue=True)
    assert (overdue.waits, overdue.causes) == (False, (NOT_YET,))


@BOTH_FAMILIES
def test_what_is_not_as_planned_yet(which: Family) -> None:
    other = V6 if which is V4 else V4
    for unequal in ({which}, {None}, {which, other}):
        health = found(which, unequal=frozenset(unequal))
        assert (health.waits, codes(health)) == (True, ["in-progress"])
    taken = Reason("table-taken", "x")
    health = found(which, unfinished=(taken,))
    assert (health.waits, health.causes) == (True, (taken,))
    primary = found(which, treatment=PRIMARY, unfinished=(taken,))
    assert primary.health is WORKING, "its manager sees to that"


@BOTH_FAMILIES
def test_a_cause_beside_what_is_waited_for_ends_the_waiting(which: Family) -> None:
    refused = Reason("kernel-refused", "x")
    facts: dict[str, Any] = {
        "failures": (refused,),
        "unfinished": (refused,),
        "unequal": frozenset({None}),
    }
    health = found(which, **facts)
    assert (codes(health), health.waits) == (["kernel-refused", "in-progress"], False)


def test_what_is_looked_up() -> None:
    """Only what can be a source, and is to be here."""
    first, second = OWN[V6]
    checked = lease(f"{second}/64", tentative=True)
    assert in_use(view(V6, addresses=(*without(V6, second), checked)), V6) == (first,)
    assert in_use(view(V6, verdicts={}), V6) == ()
    assert in_use(view(V4), V6) == ()
    assert ip("10.0.2.10") in in_use(view(V4), V4)
