"""The verdict on a family: each row is a situation that EC2 or an operator makes."""

from dataclasses import replace
from typing import Any

import pytest

from nicwatchd.core.evidence import Status, Usable, Verdict, Witness, judge, on_link_prefixes
from nicwatchd.core.metadata import ABSENT, NOT_ASKED, EniMetadata, FamilyMetadata, Unknown, Value
from nicwatchd.core.model import RTPROT_RA, RTPROT_STATIC, SCOPE_LINK, Address, Family
from nicwatchd.core.policy import Policy
from tests.core.build import (
    ERROR,
    ETH1,
    FULL4,
    FULL6,
    IPV4,
    IPV6,
    MAC,
    NET4,
    NET6,
    NONE,
    PRIMARY,
    UNLISTED,
    UNREAD,
    V4,
    V6,
    added,
    eni,
    family,
    ips,
    lease,
    nets,
    on_link,
    permanent,
)

POLICY = Policy()
WAITING, READY, IS_ABSENT = Status.WAITING, Status.READY, Status.ABSENT
OTHER = Value(PRIMARY)
BASE = Witness(ETH1, imds=eni(), primary_mac=OTHER, age=5.0, listed_for=1.0)
MANAGED = replace(ETH1, ra_received=True, ra_managed=True)
ADVERTISED = replace(ETH1, ra_received=True)
LEASE4, LEASE6 = lease(f"{IPV4}/24"), lease(f"{IPV6}/128")
ROUTE6 = on_link(NET6)
SETTLED: dict[str, Any] = {"age": 31.0, "listed_for": 30.0}
IMPATIENT: dict[str, Any] = {"age": 180.0, "listed_for": 170.0}


def codes(verdict: Verdict) -> list[str]:
    return [reason.code for reason in verdict.reasons]


def said(which: Family, metadata: FamilyMetadata) -> EniMetadata:
    return eni(v4=metadata) if which is V4 else eni(v6=metadata)


# --- IMDS alone ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "metadata", "status", "reasons"),
    [
        pytest.param(V4, FULL4, READY, [], id="IPv4 complete"),
        pytest.param(V6, FULL6, READY, [], id="IPv6 complete"),
        pytest.param(
            V6,
            family(f"{IPV6} 2001:db8:5::1", cidrs=f"{NET6} 2001:db8:5::/64"),
            READY,
            [],
            id="several CIDRs",
        ),
        pytest.param(
            V6, family(prefixes="2001:db8:0:2:1::/80", cidrs=NET6), READY, [], id="prefix only"
        ),
        pytest.param(V4, family(cidrs=NET4), WAITING, ["no-local-ipv4s"], id="IPv4 CIDR only"),
        pytest.param(V6, family(cidrs=NET6), WAITING, ["no-ipv6s"], id="IPv6 CIDR only"),
        pytest.param(
            V6, family(IPV6), WAITING, ["no-subnet-ipv6-cidr-blocks"], id="addresses without CIDR"
        ),
        pytest.param(
            V6,
            family(prefixes="2001:db8:0:2:1::/80"),
            WAITING,
            ["no-subnet-ipv6-cidr-blocks"],
            id="prefix without CIDR",
        ),
        pytest.param(
            V6,
            family(ERROR, ERROR, ERROR),
            WAITING,
            ["unread-ipv6s", "unread-ipv6-prefix", "unread-subnet-ipv6-cidr-blocks"],
            id="nothing could be read",
        ),
        pytest.param(V6, family(ERROR, cidrs=NET6), WAITING, ["unread-ipv6s"], id="listed but 404"),
        pytest.param(
            V6, family(IPV6, ERROR, NET6), WAITING, ["unread-ipv6-prefix"], id="prefixes unread"
        ),
        pytest.param(
            V6,
            family(ABSENT, ERROR, NET6),
            WAITING,
            ["unread-ipv6-prefix", "no-ipv6s"],
            id="no address, prefixes unread",
        ),
        pytest.param(
            V4,
            family(f"{IPV4} 10.9.9.9", cidrs=NET4),
            WAITING,
            ["outside-subnet-ipv4"],
            id="an address outside each CIDR",
        ),
        pytest.param(
            V6,
            family(IPV6, "2001:db8:9::/80", NET6),
            WAITING,
            ["outside-subnet-ipv6"],
            id="a prefix outside each CIDR",
        ),
        pytest.param(V6, NONE, WAITING, ["undecided-ipv6"], id="no sign yet"),
    ],
)
def test_what_imds_says(
    which: Family, metadata: FamilyMetadata, status: Status, reasons: list[str]
) -> None:
    verdict = judge(which, replace(BASE, imds=said(which, metadata)), POLICY)
    assert (verdict.family, verdict.status, codes(verdict)) == (which, status, reasons)
    assert verdict.notes == ()


def test_all_that_is_listed_is_usable() -> None:
    prefixes = "2001:db8:0:2:1::/80"
    imds = eni(v6=family(IPV6, prefixes, f"{NET6} 2001:db8:5::/64"))
    assert judge(V6, replace(BASE, imds=imds), POLICY).usable == Usable(
        ips(IPV6), nets(prefixes), nets(NET6, "2001:db8:5::/64"), ips(IPV6)
    )


def test_the_good_part_is_usable() -> None:
    metadata = family(f"10.9.9.9 {IPV4}", "10.9.9.0/28 10.0.2.16/28", NET4)
    usable = judge(V4, replace(BASE, imds=eni(metadata)), POLICY).usable
    assert usable == Usable(ips(IPV4), nets("10.0.2.16/28"), nets(NET4), ips(IPV4))


def test_an_address_without_a_cidr_is_not_usable() -> None:
    verdict = judge(V4, replace(BASE, imds=eni(family(IPV4))), POLICY)
    assert verdict.usable == Usable()
    assert not verdict.usable


def test_a_prefix_alone_is_something_to_use() -> None:
    assert Usable(prefixes=nets(NET6))
    assert Usable(addresses=ips(IPV6))
    assert not Usable(subnets=nets(NET6))


def test_the_other_familys_keys_are_no_evidence() -> None:
    assert judge(V6, replace(BASE, imds=eni(FULL4), **SETTLED), POLICY).status is IS_ABSENT
    assert judge(V4, replace(BASE, imds=eni(v6=FULL6), **SETTLED), POLICY).status is IS_ABSENT


# --- the texts, which people read -------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "witness", "text"),
    [
        (V6, BASE, "no IPv6 in IMDS yet (ipv6s); waiting 29 s more"),
        (V6, replace(BASE, **SETTLED),
         "IMDS has listed the interface for at least 30 s, without IPv6"),
        (V6, replace(BASE, imds=eni(v6=family(cidrs=NET6))), "IMDS lists no ipv6s yet"),
        (V4, replace(BASE, imds=eni(family(IPV4))), "IMDS lists no subnet-ipv4-cidr-block yet"),
        (V6, replace(BASE, imds=eni(v6=family(cidrs=NET6)), **IMPATIENT),
         "the subnet has IPv6, but the interface has no address or prefix of it"),
        (V6, replace(BASE, imds=eni(v6=family(Unknown("ipv6s: listed, but 404"), cidrs=NET6))),
         "ipv6s: listed, but 404"),
        (V6, replace(BASE, imds=eni(v6=family(ERROR, cidrs=NET6))), "ipv6s: 503"),
        (V4, replace(BASE, imds=eni(family("10.9.9.9", cidrs=f"{NET4} 10.0.3.0/24"))),
         ("10.9.9.9 is outside the subnet's CIDRs (10.0.2.0/24, 10.0.3.0/24); "
          "nicwatchd does not use it")),
        (V4, replace(BASE, imds=eni(family(cidrs=NET4)), addresses=(LEASE4,)),
         "IMDS lists no local-ipv4s yet"),
        (V4, replace(BASE, imds=eni(family("10.0.2.11", cidrs=NET4)), addresses=(LEASE4,)),
         f"DHCP configured {IPV4}, but IMDS does not list it in local-ipv4s"),
        (V4, replace(BASE, listed_for=None, imds=UNREAD), "no usable answer from IMDS: 503"),
        (V4, replace(BASE, listed_for=None, imds=UNLISTED),
         f"IMDS does not list the MAC {MAC} yet"),
        (V4, replace(BASE, listed_for=None, imds=UNLISTED, age=180.0),
         f"IMDS does not list the MAC {MAC}; did EC2 attach this interface?"),
        (V4, replace(BASE, imds=eni(mac=Value("02:99"))),
         f"IMDS was asked about {MAC} but answered about '02:99'"),
        (V4, replace(BASE, primary_mac=ERROR), "the primary interface's MAC is not known: 503"),
        (V4, replace(BASE, primary_mac=ABSENT),
         "the primary interface's MAC is not known: IMDS does not list it"),
    ],
)  # fmt: skip
def test_the_first_reason_in_words(which: Family, witness: Witness, text: str) -> None:
    assert judge(which, witness, POLICY).reasons[0].text == text


# --- refusals: nothing of IMDS's word can be used ----------------------------------------------

PROVEN4 = replace(BASE, addresses=(LEASE4,), imds=eni(FULL4))
PROOF4 = Usable(addresses=ips(IPV4), subnets=nets(NET4))


@pytest.mark.parametrize(
    ("witness", "reason", "usable"),
    [
        pytest.param(
            replace(PROVEN4, imds=eni(FULL4, mac=Value("02:99"))), "wrong-mac", PROOF4, id="mac"
        ),
        pytest.param(
            replace(PROVEN4, primary_mac=NOT_ASKED), "primary-unknown", Usable(), id="primary"
        ),
        pytest.param(
            replace(PROVEN4, primary_mac=ABSENT), "primary-unknown", Usable(), id="no primary"
        ),
        pytest.param(
            replace(PROVEN4, imds=UNREAD, listed_for=None), "imds-unread", PROOF4, id="unread"
        ),
        pytest.param(
            replace(PROVEN4, imds=UNLISTED, listed_for=None), "mac-unlisted", PROOF4, id="lag"
        ),
    ],
)
def test_refusals(witness: Witness, reason: str, usable: Usable) -> None:
    verdict = judge(V4, witness, POLICY)
    assert (verdict.family, verdict.status, codes(verdict)) == (V4, WAITING, [reason])
    assert verdict.usable == usable
    assert verdict.notes == ()


def test_a_mac_that_is_not_listed_any_more_is_no_refusal() -> None:
    witness = replace(BASE, imds=replace(eni(FULL4), directory=ABSENT), listed_for=0.0)
    assert judge(V4, witness, POLICY).status is READY


def test_a_wrong_mac_does_not_shrink_what_was_confirmed() -> None:
    metadata = family(f"{IPV4} 10.0.2.11", cidrs=NET4)
    imds = eni(metadata, mac=Value("02:99"))
    verdict = judge(V4, replace(BASE, imds=imds, confirmed=frozenset({V4})), POLICY)
    assert (verdict.status, codes(verdict)) == (WAITING, ["wrong-mac"])
    assert verdict.usable.listed == ips(IPV4, "10.0.2.11")


# --- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("witness", "status", "reasons"),
    [
        pytest.param(
            replace(BASE, age=1000.0, listed_for=29.9), WAITING, ["undecided-ipv6"], id="29.9 s"
        ),
        pytest.param(replace(BASE, **SETTLED), IS_ABSENT, ["no-sign-of-ipv6"], id="30 s"),
        pytest.param(
            replace(BASE, imds=eni(v6=family(cidrs=NET6)), age=179.9, listed_for=170.0),
            WAITING,
            ["no-ipv6s"],
            id="ENI without IPv6 in an IPv6 subnet, at 179.9 s",
        ),
        pytest.param(
            replace(BASE, imds=eni(v6=family(cidrs=NET6)), **IMPATIENT),
            IS_ABSENT,
            ["no-ipv6-assigned"],
            id="... at 180 s",
        ),
        pytest.param(
            replace(BASE, link=MANAGED, **SETTLED),
            WAITING,
            ["no-ipv6s", "no-subnet-ipv6-cidr-blocks"],
            id="RA with the managed flag and nothing else, at 30 s",
        ),
        pytest.param(
            replace(BASE, link=MANAGED, **IMPATIENT),
            IS_ABSENT,
            ["no-ipv6-assigned"],
            id="... at 180 s",
        ),
        pytest.param(
            replace(BASE, link=ADVERTISED, **SETTLED),
            IS_ABSENT,
            ["no-sign-of-ipv6"],
            id="RA without the managed flag is no evidence",
        ),
        pytest.param(
            replace(BASE, imds=eni(v6=family(ERROR, cidrs=NET6)), **IMPATIENT),
            WAITING,
            ["unread-ipv6s"],
            id="patience does not make an error an absence",
        ),
        pytest.param(
            replace(BASE, imds=eni(v6=family(ABSENT, ERROR, NET6)), **IMPATIENT),
            WAITING,
            ["unread-ipv6-prefix", "no-ipv6s"],
            id="... nor one of the prefixes",
        ),
        pytest.param(
            replace(BASE, imds=eni(v6=family(cidrs=ERROR)), **IMPATIENT),
            IS_ABSENT,
            ["no-ipv6-assigned"],
            id="CIDRs unread, but no address to lie in them",
        ),
        pytest.param(
            replace(BASE, imds=eni(v6=family(IPV6)), **IMPATIENT),
            WAITING,
            ["no-subnet-ipv6-cidr-blocks"],
            id="an address is never given up for want of a CIDR",
        ),
        pytest.param(
            replace(BASE, addresses=(LEASE6,), **IMPATIENT),
            WAITING,
            ["no-ipv6s", "no-subnet-ipv6-cidr-blocks", "lease-unlisted-ipv6"],
            id="a lease is more than nothing assigned",
        ),
    ],
)
def test_time_tells_late_from_never(witness: Witness, status: Status, reasons: list[str]) -> None:
    verdict = judge(V6, witness, POLICY)
    assert (verdict.family, verdict.status, codes(verdict)) == (V6, status, reasons)
    if status is IS_ABSENT:
        assert not verdict.usable


def test_the_managed_flag_is_of_ipv6() -> None:
    witness = replace(BASE, link=MANAGED, **SETTLED)
    assert judge(V4, witness, POLICY).status is IS_ABSENT


@pytest.mark.parametrize("witness", [replace(BASE, **SETTLED), replace(BASE, **IMPATIENT)])
def test_expected_families_are_waited_for(witness: Witness) -> None:
    verdict = judge(V6, witness, Policy(expect=frozenset({V6})))
    assert (verdict.status, codes(verdict)) == (
        WAITING,
        ["no-ipv6s", "no-subnet-ipv6-cidr-blocks"],
    )
    assert judge(V4, witness, Policy(expect=frozenset({V6}))).status is IS_ABSENT


def test_the_settings_say_how_long() -> None:
    policy = Policy(settling=5.0)
    assert judge(V6, replace(BASE, listed_for=4.9), policy).status is WAITING
    assert judge(V6, replace(BASE, listed_for=5.0), policy).status is IS_ABSENT
    assert judge(V6, replace(BASE, listed_for=0.0), Policy(settling=1.0)).status is WAITING


def test_efa_only_has_neither() -> None:
    witness = replace(BASE, **SETTLED)
    assert {judge(f, witness, POLICY).status for f in Family} == {IS_ABSENT}


# --- DHCP ------------------------------------------------------------------------------------

WITH_ROUTE6 = replace(BASE, addresses=(LEASE6,), routes=(ROUTE6,))


@pytest.mark.parametrize(
    ("which", "witness", "usable"),
    [
        pytest.param(V4, replace(BASE, addresses=(LEASE4,)), PROOF4, id="IPv4: its own network"),
        pytest.param(
            V4, replace(BASE, addresses=(lease(f"{IPV4}/32"),)), Usable(), id="IPv4 /32: nothing"
        ),
        pytest.param(
            V6,
            WITH_ROUTE6,
            Usable(ips(IPV6), subnets=nets(NET6)),
            id="IPv6 with the kernel's on-link prefix",
        ),
        pytest.param(
            V6,
            replace(WITH_ROUTE6, routes=(on_link(NET6, protocol=RTPROT_RA),)),
            Usable(ips(IPV6), subnets=nets(NET6)),
            id="IPv6 with networkd's on-link prefix",
        ),
        pytest.param(
            V6,
            replace(WITH_ROUTE6, routes=(on_link("2001:db8:5::/64"),)),
            Usable(),
            id="IPv6 with another prefix",
        ),
        pytest.param(
            V6,
            replace(WITH_ROUTE6, routes=(on_link(NET6, protocol=RTPROT_STATIC),)),
            Usable(),
            id="IPv6 with an operator's route",
        ),
        pytest.param(
            V6,
            replace(BASE, addresses=(LEASE6,), link=ADVERTISED),
            Usable(ips(IPV6)),
            id="IPv6 with an RA",
        ),
        pytest.param(V6, replace(BASE, addresses=(LEASE6,)), Usable(), id="IPv6 /128 alone"),
        pytest.param(
            V4,
            replace(BASE, addresses=(lease(f"{IPV4}/32"),), link=ADVERTISED),
            Usable(),
            id="an RA proves nothing of IPv4",
        ),
        pytest.param(
            V4,
            replace(BASE, addresses=(LEASE4, permanent("10.0.0.1/8"))),
            PROOF4,
            id="an operator's wider network is not the subnet",
        ),
        pytest.param(
            V4,
            replace(
                BASE,
                addresses=(LEASE4, permanent("10.0.0.1/8"), permanent("10.0.2.99/24")),
                routes=(on_link("10.0.0.0/8"), on_link(NET4)),
            ),
            PROOF4,
            id="... though its routes are the kernel's",
        ),
        pytest.param(
            V4, replace(BASE, addresses=(LEASE4,), primary_mac=Value(MAC)), Usable(), id="primary"
        ),
        pytest.param(
            V4,
            replace(BASE, addresses=(LEASE4,), link=replace(ETH1, master=9)),
            Usable(),
            id="enslaved",
        ),
    ],
)
def test_what_the_kernel_proves(which: Family, witness: Witness, usable: Usable) -> None:
    unlisted = replace(witness, imds=UNLISTED, listed_for=None)
    assert judge(which, unlisted, POLICY).usable == usable


def test_proof_can_be_switched_off() -> None:
    witness = replace(BASE, addresses=(LEASE4,), imds=UNLISTED, listed_for=None)
    assert judge(V4, witness, Policy(kernel_proof=False)).usable == Usable()


def test_imds_extends_what_the_kernel_proves() -> None:
    second = "2001:db8:0:2::11"
    metadata = family(f"{second} {IPV6}", cidrs=NET6)
    verdict = judge(V6, replace(WITH_ROUTE6, imds=eni(v6=metadata)), POLICY)
    assert verdict.status is READY
    assert verdict.usable == Usable(ips(second, IPV6), (), nets(NET6), ips(second, IPV6))


@pytest.mark.parametrize(
    ("metadata", "reasons"),
    [
        pytest.param(
            NONE,
            ["no-ipv6s", "no-subnet-ipv6-cidr-blocks", "lease-unlisted-ipv6"],
            id="before IMDS knows anything",
        ),
        pytest.param(
            family("2001:db8:0:2::11", cidrs=NET6), ["lease-unlisted-ipv6"], id="another address"
        ),
        pytest.param(FULL6, [], id="confirmed"),
    ],
)
def test_a_lease_is_waited_for(metadata: FamilyMetadata, reasons: list[str]) -> None:
    verdict = judge(V6, replace(WITH_ROUTE6, imds=eni(v6=metadata), **SETTLED), POLICY)
    assert codes(verdict) == reasons
    assert verdict.status is (WAITING if reasons else READY)
    assert ips(IPV6)[0] in verdict.usable.addresses


NO_LEASES = {
    "permanent": permanent(f"{IPV6}/64"),
    "ours": added(f"{IPV6}/128"),
    "SLAAC": lease(f"{IPV6}/64", from_ra=True),
    "tentative": lease(f"{IPV6}/128", tentative=True),
    "link scope": lease("fe80::1/64", scope=SCOPE_LINK),
    "IPv4 link-local": lease("169.254.7.7/16"),
}


@pytest.mark.parametrize("address", NO_LEASES.values(), ids=NO_LEASES.keys())
def test_no_evidence(address: Address) -> None:
    witness = replace(BASE, addresses=(address,), routes=(ROUTE6,), link=ADVERTISED, **SETTLED)
    assert {judge(f, witness, POLICY).status for f in Family} == {IS_ABSENT}


def test_addresses_around_ipv4_link_local_are_evidence() -> None:
    witness = replace(BASE, addresses=(lease("169.253.255.255/24"),), **SETTLED)
    assert judge(V4, witness, POLICY).status is WAITING


@pytest.mark.parametrize(
    ("metadata", "status", "reasons"),
    [
        pytest.param(family("2001:db8:0:2::11", cidrs=NET6), READY, [], id="one of two went"),
        pytest.param(family(cidrs=NET6), READY, [], id="all went"),
        pytest.param(NONE, READY, [], id="the subnet's CIDR, too"),
        pytest.param(
            family(ABSENT, ERROR, NET6),
            WAITING,
            ["unread-ipv6-prefix", "no-ipv6s"],
            id="what cannot be read is not gone",
        ),
        pytest.param(
            family("2001:db8:0:2::11 2001:db8:9::1", cidrs=NET6),
            WAITING,
            ["outside-subnet-ipv6"],
            id="a stray is waited for all the same",
        ),
    ],
)
def test_a_lease_that_outlives_its_address_is_a_note(
    metadata: FamilyMetadata, status: Status, reasons: list[str]
) -> None:
    witness = replace(WITH_ROUTE6, imds=eni(v6=metadata), confirmed=frozenset({V6}), **IMPATIENT)
    verdict = judge(V6, witness, POLICY)
    assert (verdict.status, codes(verdict)) == (status, reasons)
    assert [note.code for note in verdict.notes] == ["lease-unlisted-ipv6"]
    assert ips(IPV6)[0] in verdict.usable.addresses


@pytest.mark.parametrize(
    ("age", "status", "reasons"),
    [(179.0, WAITING, ["no-ipv6s"]), (180.0, IS_ABSENT, ["no-ipv6-assigned"])],
)
def test_a_family_that_was_unassigned_ends(age: float, status: Status, reasons: list[str]) -> None:
    imds = eni(v6=family(cidrs=NET6))
    witness = replace(BASE, imds=imds, age=age, confirmed=frozenset({V6}))
    verdict = judge(V6, witness, POLICY)
    assert (verdict.status, codes(verdict)) == (status, reasons)


def test_the_status_shows_verdicts_by_these_names() -> None:
    assert [status.value for status in Status] == ["ready", "waiting", "absent"]


# --- the kernel's prefixes ---------------------------------------------------------------------


def test_on_link_prefixes() -> None:
    addresses = (
        lease(f"{IPV4}/24"),
        permanent("10.7.0.1/16"),
        added("10.0.2.11/32"),
        permanent("fe80::3/64", scope=SCOPE_LINK),
        lease(f"{IPV6}/128"),
    )
    routes = (
        on_link(NET4),
        on_link(NET6),
        on_link(f"{IPV6}/128"),  # the kernel's, for an address without a subnet
        on_link("fe80::/64"),
        on_link("2001:db8:5::/64", protocol=RTPROT_RA),
        on_link("2001:db8:6::/64", protocol=RTPROT_STATIC),
        replace(on_link("0.0.0.0/0"), protocol=RTPROT_RA),
        replace(on_link("2001:db8:7::/64"), gateway=ips("fe80::1")[0]),
    )
    assert on_link_prefixes(V4, addresses, routes) == nets(NET4, "10.7.0.0/16")
    assert on_link_prefixes(V6, addresses, routes) == nets(NET6, "2001:db8:5::/64")


# --- a lease of another network ----------------------------------------------------------------

STRANGER = "192.168.50.23"


@pytest.mark.parametrize("confirmed", [True, False])
@pytest.mark.parametrize("said", [IPV4, f"{IPV4} 10.0.2.11"])
def test_a_lease_of_another_network_is_left_to_main(said: str, *, confirmed: bool) -> None:
    """A table has one router."""
    witness = replace(
        BASE,
        addresses=(lease(f"{IPV4}/24"), lease(f"{STRANGER}/24")),
        imds=eni(family(said, cidrs=NET4)),
        confirmed=frozenset({V4}) if confirmed else frozenset(),
    )
    verdict = judge(V4, witness, POLICY)
    assert verdict.status is READY
    assert [note.code for note in verdict.notes] == ["lease-outside-subnet-ipv4"]
    assert f"{STRANGER}, which is in none of the subnet's CIDRs ({NET4})" in verdict.notes[0].text
    assert verdict.usable == Usable(ips(*said.split()), (), nets(NET4), ips(*said.split()))


def test_until_imds_names_the_subnet_it_is_all_there_is() -> None:
    for imds in (UNLISTED, eni(family(IPV4))):
        witness = replace(BASE, addresses=(lease(f"{STRANGER}/24"),), imds=imds)
        usable = judge(V4, witness, POLICY).usable
        assert (usable.addresses, usable.subnets) == (ips(STRANGER), nets("192.168.50.0/24"))


def test_what_imds_lists_is_the_enis_whatever_the_cidr() -> None:
    imds = eni(family(f"{IPV4} {STRANGER}", cidrs=NET4))
    witness = replace(BASE, addresses=(lease(f"{STRANGER}/24"),), imds=imds)
    assert ips(STRANGER)[0] in judge(V4, witness, POLICY).usable.addresses


def test_ipv6_has_one_router_for_all_subnets() -> None:
    other = "2001:db8:0:9::23"
    witness = replace(WITH_ROUTE6, addresses=(LEASE6, lease(f"{other}/64")), imds=eni(v6=FULL6))
    assert ips(other)[0] in judge(V6, witness, POLICY).usable.addresses
