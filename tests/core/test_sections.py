"""The settings of one interface, where `[[interface]]` sections say more than the general ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nicwatchd.core.evidence import Status
from nicwatchd.core.metadata import ABSENT, NOT_ASKED, Answer, EniMetadata, Unknown, Value
from nicwatchd.core.model import (
    AddRule,
    Family,
    Numbers,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
)
from nicwatchd.core.policy import AddressMode, Policy, RuleMode, Section
from nicwatchd.core.sections import keys_named, own_policy
from tests.core.build import ETH1, FULL4, FULL6, IPV4, IPV6, MAC, NET4, V4, V6, eni, nets
from tests.core.fast_motion import FastMotion
from tests.core.scenes import (
    APPLIED,
    AWAITING,
    CALM,
    ETH2,
    IGNORED,
    MAC2,
    OF_PRIMARY,
    applied,
    dhcp4,
    dhcp6,
    hot_plugged,
    quiet,
    selectors,
)
from tests.core.test_container_networks import FROM_POD, NODE_PORT, TO_POD

LAG: Final = Unknown("listed, but 404", listed=True)
IDS: Final[dict[str, Any]] = {
    "interface_id": Value("eni-1"),
    "subnet_id": Value("subnet-1"),
    "vpc_id": Value("vpc-1"),
    "security_groups": Value(("sg-1", "sg-2")),
}
TOLD: Final = eni(FULL4, FULL6, **IDS)
NOTHING: Final = EniMetadata()
UNKNOWN: Final = [NOT_ASKED, ABSENT, LAG, Unknown("503")]


def own(*sections: Section, told: EniMetadata = TOLD, **general: Any) -> Policy | str:
    """The policy of eth1, or what it waits for."""
    found = own_policy(Policy(sections=sections, **general), ETH1, told)
    return found.awaits.text if found.awaits else found.policy


def _answers(answer: Answer[Any], *fields: str) -> dict[str, Any]:
    return dict.fromkeys(fields, answer)


def applies(section: Section, told: EniMetadata = TOLD) -> bool | None:
    """Whether a section is eth1's; None: that is not known."""
    found = own(replace(section, rules=RuleMode.SUBNET), told=told)
    return None if isinstance(found, str) else found.rules is RuleMode.SUBNET


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (Section(name="eth1"), True),
        (Section(name="eth*"), True),
        (Section(name="eth[1-3]"), True),
        (Section(name="eth"), False),
        (Section(name="ETH1"), False),
        (Section(mac=MAC), True),
        (Section(mac=MAC2), False),
        (Section(eni="eni-1"), True),
        (Section(eni="eni-11"), False),
        (Section(subnet="subnet-1"), True),
        (Section(subnet="subnet-2"), False),
        (Section(vpc="vpc-1"), True),
        (Section(vpc="vpc-2"), False),
        (Section(security_group="sg-1"), True),
        (Section(security_group="sg-2"), True),
        (Section(security_group="sg-3"), False),
        (Section(name="eth1", vpc="vpc-1", security_group="sg-2"), True),
        (Section(name="eth1", vpc="vpc-1", security_group="sg-3"), False),
        (Section(name="eth2", vpc="vpc-1"), False),
    ],
    ids=str,
)
def test_all_that_a_section_names_must_match(*, section: Section, expected: bool) -> None:
    assert applies(section) is expected


@pytest.mark.parametrize("answer", UNKNOWN, ids=repr)
@pytest.mark.parametrize(
    ("section", "field"),
    [
        (Section(eni="eni-1"), "interface_id"),
        (Section(subnet="subnet-1"), "subnet_id"),
        (Section(vpc="vpc-1"), "vpc_id"),
        (Section(security_group="sg-1"), "security_groups"),
    ],
    ids=str,
)
def test_what_imds_has_not_told_is_unknown(
    section: Section, field: str, answer: Answer[Any]
) -> None:
    """Every ENI has all of them: that IMDS lists none says only that it lags."""
    told = replace(TOLD, **_answers(answer, field))
    assert applies(section, told) is None
    assert applies(replace(section, name="eth1"), told) is None
    assert applies(replace(section, name="eth2"), told) is False
    assert applies(replace(section, mac=MAC2), told) is False


def test_a_group_may_be_in_the_damaged_part_of_the_list() -> None:
    damaged = replace(TOLD, security_groups=Value(("sg-1",), whole=False))
    assert applies(Section(security_group="sg-1"), damaged) is True
    assert applies(Section(security_group="sg-2"), damaged) is None


def test_the_first_section_that_matches_counts() -> None:
    first, second = Section(vpc="vpc-1", rules=RuleMode.ADDRESS), Section(name="eth1", manage=False)
    found = own(Section(name="eth2"), first, second)
    assert isinstance(found, Policy)
    assert (found.rules, found.manage, found.section) == (RuleMode.ADDRESS, None, first)


def test_a_later_section_waits_for_an_earlier_one() -> None:
    unknown = replace(TOLD, vpc_id=NOT_ASKED)
    said = own(Section(vpc="vpc-9"), Section(name="eth1"), told=unknown)
    assert said == (
        'whether the settings of [[interface]] vpc = "vpc-9" apply to it is known once IMDS tells '
        "its vpc-id"
    )
    assert isinstance(own(Section(name="eth1"), Section(vpc="vpc-9"), told=unknown), Policy)


def test_what_a_section_does_not_say_is_as_in_general() -> None:
    general = Policy(
        addresses=AddressMode.ALL,
        rules=RuleMode.ADDRESS,
        leave_addresses=nets("10.0.2.50/32"),
        expect=frozenset(Family),
        exclude=("eth9",),
    )
    plain = Section(name="eth1")
    with_sections = replace(general, sections=(plain,))
    assert own_policy(with_sections, ETH1, TOLD).policy == replace(with_sections, section=plain)
    section = Section(
        name="eth1",
        addresses=AddressMode.NONE,
        rules=RuleMode.SUBNET,
        leave_addresses=(),
        families=frozenset({V4}),
    )
    found = own_policy(replace(general, sections=(section,)), ETH1, TOLD).policy
    assert (found.addresses, found.rules) == (AddressMode.NONE, RuleMode.SUBNET)
    assert not found.leave_addresses
    assert found.families == {V4}
    assert found.expect == {V4}, "what is left alone is not expected"
    assert found.exclude == ("eth9",)


@pytest.mark.parametrize(
    ("section", "codes"),
    [
        (Section(name="eth1"), {"section-unknown"}),
        (Section(name="ens*"), {"section-unknown"}),
        (Section(name="ens*", vpc="vpc-1"), {"section-unknown"}),
        (Section(name="ens*", vpc="vpc-2"), set()),
        (Section(name="eth1", mac=MAC2), set()),
        (Section(mac=MAC), set()),
        (Section(vpc="vpc-1"), set()),
    ],
    ids=str,
)
def test_while_udev_may_rename_it_a_name_says_nothing(section: Section, codes: set[str]) -> None:
    found = own_policy(Policy(sections=(section,)), ETH1, TOLD, named=False)
    assert {found.awaits.code if found.awaits else None} - {None} == codes
    assert found.unnamed is bool(codes)


def test_all_that_is_awaited_is_told() -> None:
    policy = Policy(sections=(Section(name="ens*", vpc="vpc-1"),))
    found = own_policy(policy, ETH1, NOTHING, named=False)
    assert found.awaits
    assert found.awaits.text.endswith(
        "is known once IMDS tells its vpc-id, and udev is done with the link, which it may rename"
    )


@pytest.mark.parametrize(
    ("exclude", "awaits", "remains"),
    [
        (("eth1",), True, ()),
        (("ens*",), True, ()),
        ((MAC2, "ens*"), True, (MAC2,)),
        ((MAC.upper(),), False, (MAC.upper(),)),
        ((), False, ()),
    ],
)
def test_nor_does_it_in_exclude(
    *, exclude: tuple[str, ...], awaits: bool, remains: tuple[str, ...]
) -> None:
    found = own_policy(Policy(exclude=exclude), ETH1, TOLD, named=False)
    assert (found.awaits is not None, found.unnamed) == (awaits, awaits)
    assert found.policy.exclude == remains
    # A section that says `manage` beats it.
    sections = (Section(vpc="vpc-1", manage=True),)
    found = own_policy(Policy(exclude=exclude, sections=sections), ETH1, TOLD, named=False)
    assert found.awaits is None


def test_a_release_leaves_nobody_out() -> None:
    sections = Section(vpc="vpc-1", manage=False), Section(name="eth1", manage=False)
    policy = Policy(every_link=True, sections=sections)
    assert own_policy(policy, ETH1, NOTHING).policy == policy
    assert own_policy(policy, ETH1, NOTHING, named=False).awaits is None


def test_only_the_keys_that_sections_name_are_asked() -> None:
    assert keys_named([]) == frozenset()
    assert keys_named([Section(name="eth1", mac=MAC)]) == frozenset()
    assert keys_named([Section(vpc="vpc-1"), Section(name="a", subnet="subnet-1")]) == {
        "vpc-id",
        "subnet-id",
    }
    every = [Section(eni="eni-1", security_group="sg-1"), *(Section(vpc="v"), Section(subnet="s"))]
    assert len(keys_named(every)) == 4


SECTIONS = st.builds(
    Section,
    name=st.sampled_from([None, "eth1", "eth2"]),
    subnet=st.sampled_from([None, "subnet-1", "subnet-2"]),
    vpc=st.sampled_from([None, "vpc-1", "vpc-2"]),
    security_group=st.sampled_from([None, "sg-1", "sg-3"]),
    rules=st.sampled_from(RuleMode),
    manage=st.sampled_from([None, True, False]),
)


@given(
    sections=st.lists(SECTIONS, max_size=4).map(tuple),
    fields=st.lists(st.sampled_from(sorted(IDS)), unique=True),
    answer=st.sampled_from(UNKNOWN),
    exclude=st.sampled_from([(), ("eth*",), ("ens6",), (MAC,)]),
    before=st.sampled_from(["eth1", "eth2", "ens6"]),
)
def test_what_is_decided_early_stays_decided(
    sections: tuple[Section, ...],
    fields: list[str],
    answer: Answer[Any],
    exclude: tuple[str, ...],
    before: str,
) -> None:
    """Either nothing is decided on less, or the same as when all is known.

    `before`: the name of the link before udev renames it to eth1.
    """
    policy = Policy(sections=sections, exclude=exclude)
    told, link = replace(TOLD, **_answers(answer, *fields)), replace(ETH1, name=before)
    early = own_policy(policy, link, told, named=before == "eth1")
    late = own_policy(policy, ETH1, TOLD)
    assert late.awaits is None
    assert early.awaits or early == late


# --- with a whole host -------------------------------------------------------------------------


def untouched(motion: FastMotion) -> bool:
    """Whether nothing was ever done to eth1."""
    return not [operation for _, operation in motion.written if "index=2" not in repr(operation)]


def plugged(*sections: Section, **general: Any) -> FastMotion:
    """eth1 comes down, as ENIs do, at 10 s."""
    motion = FastMotion(replace(CALM, sections=sections, **general))
    motion.udev_done.add(3)
    motion.imds("02:00:00:00:00:01", 0.0, OF_PRIMARY)
    motion.plug(10.0, replace(ETH1, up=False, running=False))
    return motion


@pytest.mark.parametrize("manage", [None, True, False])
@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("answer", UNKNOWN, ids=repr)
def test_an_eni_whose_section_is_unknown_is_not_touched(
    *, answer: Answer[Any], up: bool, manage: bool | None
) -> None:
    motion = plugged(Section(vpc="vpc-1", manage=manage))
    motion.plug(10.0, replace(ETH1, up=up, running=up))
    dhcp4(motion, 10.5)
    motion.imds(MAC, 10.0, replace(TOLD, vpc_id=answer))
    motion.run(100.0)
    assert untouched(motion)
    assert (motion.state(), motion.reasons()) == (AWAITING, {"section-unknown"})
    motion.imds(MAC, 100.0, TOLD)
    motion.run(200.0)
    assert motion.state() is (IGNORED if manage is False else APPLIED)
    assert untouched(motion) is (manage is False)


def test_what_stands_is_not_removed_while_the_section_is_unknown() -> None:
    """A restart while IMDS answers nothing, and a section that leaves the ENI alone, perhaps."""
    motion = applied(TOLD)
    before = motion.kernel.own_rules, motion.kernel.own_routes, motion.kernel.addresses_of(3)
    section = Section(security_group="sg-1", manage=False)
    motion.turn = motion.begin(replace(CALM, sections=(section,)))
    motion.imds(MAC, motion.now, replace(TOLD, security_groups=LAG))
    motion.run(motion.now + 400.0)
    assert motion.reasons() == {"section-unknown"}
    assert (
        motion.kernel.own_rules,
        motion.kernel.own_routes,
        motion.kernel.addresses_of(3),
    ) == before
    motion.imds(MAC, motion.now, TOLD)
    motion.run(motion.now + 100.0)
    assert (motion.state(), motion.reasons()) == (IGNORED, {"excluded"})
    assert (motion.kernel.own_rules, motion.kernel.own_routes) == ((), ())


def test_left_alone_by_a_section_and_the_reason_names_it() -> None:
    motion = plugged(Section(name="eth1", manage=False))
    motion.imds(MAC, 10.0, TOLD)
    motion.run(100.0)
    assert untouched(motion)
    (reason,) = motion.host.interfaces[3].lifecycle.reasons
    assert (reason.code, reason.text) == (
        "excluded",
        'excluded by the settings: [[interface]] name = "eth1"',
    )


@pytest.mark.parametrize(
    "general",
    [{"exclude": ("eth*",)}, {"exclude_subnets": nets(NET4)}],
    ids=["by name", "by subnet"],
)
def test_a_section_beats_what_excludes_many(general: dict[str, Any]) -> None:
    motion = plugged(Section(eni="eni-1", manage=True), **general)
    motion.imds(MAC, 10.0, TOLD)
    motion.run(100.0)
    assert motion.state() is APPLIED


@pytest.mark.parametrize("which", [V4, V6])
@pytest.mark.parametrize("by", ["general", "section"])
def test_a_family_that_is_not_named_is_left_alone(by: str, which: Family) -> None:
    """It is not waited for, nothing of it is programmed, and what is ours of it is taken back."""
    other = V6 if which is V4 else V4
    only = frozenset({which})
    change = (
        {"families": only}
        if by == "general"
        else {"sections": (Section(name="eth1", families=only),)}
    )
    motion = applied(TOLD)
    kept = selectors(motion, 3, which)
    motion.turn.set_policy(replace(CALM, **change), motion.now)
    since = len(motion.written)
    motion.run(motion.now + 20.0)
    assert motion.state() is APPLIED
    assert motion.host.interfaces[3].verdicts[other].status is Status.OFF
    assert (selectors(motion, 3, which), selectors(motion, 3, other)) == (kept, set())
    assert {route.family for route in motion.kernel.own_routes if route.oif == 3} == {which}
    assert {family_of(operation) for _, operation in motion.written[since:]} == {other}
    assert "off-by-settings" in {note.code for note in motion.host.interfaces[3].view().notes}
    assert quiet(motion)
    motion.turn.set_policy(CALM, motion.now)
    motion.run(motion.now + 20.0)
    assert selectors(motion, 3, other)


def family_of(operation: Any) -> Family:
    """The family of what an operation adds or removes."""
    match operation:
        case AddRule(rule=rule) | RemoveRule(rule=rule):
            return rule.family
        case _ if hasattr(operation, "route"):
            return Family(operation.route.family)
        case _:
            return Family(operation.ip.version)


def test_a_family_that_is_not_named_is_not_waited_for() -> None:
    motion = hot_plugged(eni(FULL4, **IDS), replace(CALM, families=frozenset({V4})))
    dhcp4(motion, 10.5)
    motion.run(13.0)
    assert motion.state() is APPLIED


def test_an_eni_that_has_only_what_is_left_alone() -> None:
    motion = hot_plugged(eni(FULL4, **IDS), replace(CALM, families=frozenset({V6})))
    motion.run(100.0)
    assert (motion.state(), motion.reasons()) == (IGNORED, {"no-ip"})
    (reason,) = motion.host.interfaces[3].lifecycle.reasons
    assert "IPv4 is off" in reason.text


CHANGES: Final = {
    "a section that says nothing": (Section(name="eth1"),),
    "by what IMDS told": (Section(subnet="subnet-1"), Section(vpc="vpc-1")),
    "rules": (Section(vpc="vpc-1", rules=RuleMode.SUBNET),),
    "addresses": (Section(security_group="sg-1", addresses=AddressMode.ALL),),
    "of another ENI": (Section(name="eth2", manage=False),),
    "manage": (Section(eni="eni-1", manage=True),),
}


@pytest.mark.parametrize("sections", CHANGES.values(), ids=CHANGES)
def test_a_reload_leaves_what_stays_right(sections: tuple[Section, ...]) -> None:
    motion = applied(TOLD)
    for policy in (replace(CALM, sections=sections), CALM):
        before = {*motion.kernel.own_rules, *motion.kernel.own_routes}
        since = len(motion.written)
        motion.turn.set_policy(policy, motion.now)
        motion.run(motion.now + 100.0)
        assert motion.state() is APPLIED
        after = {*motion.kernel.own_rules, *motion.kernel.own_routes}
        operations = [operation for _, operation in motion.written[since:]]
        assert not [o for o in operations if isinstance(o, RemoveAddress)]
        gone: set[Rule | Route] = {o.rule for o in operations if isinstance(o, RemoveRule)}
        gone |= {o.route for o in operations if isinstance(o, RemoveRoute)}
        assert gone <= before - after, "what stays right was removed"


def two_plugged(*sections: Section) -> FastMotion:
    """eth1 and eth2 on a host whose ENIs the VPC CNI owns."""
    motion = FastMotion(replace(CALM, sections=sections))
    motion.imds("02:00:00:00:00:01", 0.0, OF_PRIMARY)
    motion.kernel.put(NODE_PORT, TO_POD, FROM_POD)
    motion.plug(10.0, ETH1)
    motion.plug(10.0, ETH2)
    motion.imds(MAC, 10.0, TOLD)
    other = {**IDS, "interface_id": Value("eni-2"), "security_groups": Value(("sg-9",))}
    motion.imds(MAC2, 10.0, eni(mac=Value(MAC2), **other))
    dhcp4(motion, 10.5)
    dhcp6(motion, 10.6)
    return motion


@pytest.mark.parametrize(
    "section",
    [
        Section(name="eth1", manage=True),
        Section(mac=MAC, manage=True),
        Section(eni="eni-1", manage=True),
        Section(security_group="sg-1", manage=True),
    ],
    ids=str,
)
def test_one_eni_of_a_container_network_s_host_is_ours(section: Section) -> None:
    motion = two_plugged(section)
    motion.run(100.0)
    assert (motion.state(3), motion.state(4)) == (APPLIED, IGNORED)
    assert motion.reasons(4) == {"cni"}
    assert {IPV4} <= {name.split("/")[0] for name in selectors(motion, 3, 4)}
    assert {IPV6} <= {name.split("/")[0] for name in selectors(motion, 3, 6)}
    assert [each for each in motion.kernel.own_rules if each.oif == "eth2"] == []
    assert motion.kernel.links[4].group == 0


def test_the_section_of_a_container_network_s_eni_comes_and_goes() -> None:
    motion = two_plugged()
    motion.run(100.0)
    assert (motion.state(3), motion.state(4)) == (IGNORED, IGNORED)
    section = Section(eni="eni-1", manage=True)
    motion.turn.set_policy(replace(CALM, sections=(section,)), motion.now)
    motion.run(motion.now + 20.0)
    assert (motion.state(3), motion.state(4)) == (APPLIED, IGNORED)
    motion.turn.set_policy(CALM, motion.now)
    motion.run(motion.now + 20.0)
    assert (motion.state(3), motion.state(4)) == (IGNORED, IGNORED)
    assert motion.kernel.own_rules == ()


def test_security_groups_that_change_in_place_are_followed() -> None:
    section = Section(security_group="sg-3", addresses=AddressMode.NONE)
    motion = applied(TOLD, replace(CALM, sections=(section,)))
    modes = []
    others: Answer[tuple[str, ...]] = Value(("sg-3",))
    for groups in (TOLD.security_groups, others, ABSENT):
        motion.imds(MAC, motion.now, replace(TOLD, security_groups=groups))
        motion.run(motion.now + 100.0)
        modes.append(motion.host.interfaces[3].own.policy.addresses)
    assert modes == [AddressMode.AUTO, AddressMode.NONE, AddressMode.NONE]


# --- Multus, and marks of udev -------------------------------------------------------------------

MULTUS: Final = ("/etc/cni/net.d/00-multus.conf",)


def ours(motion: FastMotion) -> set[str]:
    return {str(a.ip) for a in motion.kernel.addresses_of(3) if a.protocol == 236}


def test_where_multus_is_no_address_is_added() -> None:
    motion = FastMotion(CALM)
    motion.multus = MULTUS
    motion.plug(10.0, ETH1)
    motion.imds(MAC, 10.0, TOLD)
    motion.run(100.0)
    assert motion.state() is APPLIED
    assert ours(motion) == set()
    (note,) = [n for n in motion.host.interfaces[3].view().notes if n.code == "multus"]
    assert MULTUS[0] in note.text
    motion.multus = ()
    motion.run(motion.now + 10.0)
    assert ours(motion) == {IPV4, IPV6}


def test_what_was_added_before_multus_came_is_taken_off() -> None:
    motion = hot_plugged(TOLD, CALM)
    motion.run(100.0)
    assert ours(motion) == {IPV4, IPV6}
    motion.multus = MULTUS
    motion.run(motion.now + 10.0)
    assert ours(motion) == set()
    assert motion.state() is APPLIED


def test_the_operators_word_on_one_eni_counts_beside_multus() -> None:
    for addresses, expected in [(None, set()), (AddressMode.ALL, {IPV4, IPV6})]:
        section = Section(name="eth1", manage=True, addresses=addresses)
        motion = hot_plugged(TOLD, replace(CALM, sections=(section,), addresses=AddressMode.ALL))
        motion.multus = MULTUS
        motion.run(100.0)
        assert ours(motion) == expected


@pytest.mark.parametrize("who", ["", "io.systemd.Network", "nicwatchd"])
def test_marks_that_leave_it_to_us(who: str) -> None:
    motion = hot_plugged(TOLD, CALM)
    motion.managers[3] = who
    motion.run(100.0)
    assert motion.state() is APPLIED


def test_what_udev_gives_to_another_is_his() -> None:
    motion = plugged()
    motion.managers[3] = "org.example.Fabric"
    motion.imds(MAC, 10.0, TOLD)
    motion.run(100.0)
    assert untouched(motion)
    (reason,) = motion.host.interfaces[3].lifecycle.reasons
    assert (reason.code, "org.example.Fabric" in reason.text) == ("managed-by-others", True)
    section = Section(name="eth1", manage=True)
    motion.turn.set_policy(replace(CALM, sections=(section,)), motion.now)
    motion.run(motion.now + 20.0)
    assert motion.state() is APPLIED


# --- names that udev changes -------------------------------------------------------------------

BORN: Final = replace(ETH1, name="eth7", up=False, running=False)


def renamed(final: str, **general: Any) -> FastMotion:
    """eth7 comes at 10 s; 16 ms later udev gives it its name, and soon it is done with it."""
    motion = FastMotion(replace(CALM, **general))
    motion.imds("02:00:00:00:00:01", 0.0, OF_PRIMARY)
    motion.imds(MAC, 10.0, TOLD)
    motion.plug(10.0, BORN)
    motion.plug(10.016, replace(BORN, name=final))
    motion.at(10.03, lambda: motion.udev_done.add(3))
    return motion


BY_NAME: Final = [
    lambda pattern: {"exclude": (pattern,)},
    lambda pattern: {"sections": (Section(name=pattern, manage=False),)},
]


@pytest.mark.parametrize("by", BY_NAME)
def test_the_name_that_a_link_is_born_with_excludes_nobody(by: Any) -> None:
    motion = renamed("ens6", **by("eth*"))
    motion.run(30.0)
    assert motion.state() is APPLIED
    assert IGNORED not in {told.state for told in motion.told if told.name in ("eth7", "ens6")}


@pytest.mark.parametrize("by", BY_NAME)
def test_what_udev_s_name_excludes_is_never_touched(by: Any) -> None:
    motion = renamed("ens6", **by("ens6"))
    dhcp4(motion, 10.01)
    motion.run(30.0)
    its = ("index=3", "oif=3,", f"table={Numbers().table_of(3)}")  # the primary is protected
    assert not [o for _, o in motion.written if any(word in repr(o) for word in its)]
    assert motion.state() is IGNORED


def test_a_name_counts_at_once_when_udev_is_done_and_at_last_when_it_never_is() -> None:
    section = Section(name="ens6", rules=RuleMode.SUBNET)
    motion = renamed("ens6", sections=(section,))
    motion.run(10.2)
    assert motion.state() is APPLIED
    motion = renamed("ens6", sections=(section,))
    motion.at(10.03, motion.udev_done.clear)
    motion.run(14.9)
    assert (motion.state(), motion.reasons()) == (AWAITING, {"section-unknown"})
    motion.run(15.3)
    assert motion.state() is APPLIED


def test_a_mark_that_comes_and_goes_is_followed() -> None:
    motion = applied(TOLD)
    motion.managers[3] = "org.example.Fabric"
    motion.run(motion.now + 10.0)
    assert motion.reasons() == {"managed-by-others"}
    assert motion.kernel.own_rules == ()
    assert motion.kernel.links[3].group == 0
    del motion.managers[3]
    motion.run(motion.now + 20.0)
    assert motion.state() is APPLIED


def test_a_mark_is_of_one_link_and_not_of_its_number() -> None:
    motion = applied(TOLD)
    motion.managers[3] = "org.example.Fabric"
    motion.run(motion.now + 10.0)
    motion.kernel.unplug(3)
    motion.run(motion.now + 1.0)
    del motion.managers[3]
    motion.plug(motion.now + 1.0, replace(ETH1, mac=MAC2))
    motion.imds(MAC2, motion.now, replace(TOLD, mac=Value(MAC2)))
    motion.run(motion.now + 20.0)
    assert motion.reasons() == set()
