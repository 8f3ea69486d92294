"""Which links are seen to, and the reason why another is not."""

from dataclasses import replace

import pytest

from nicwatchd.core.metadata import ABSENT, NOT_ASKED, Answer, Value
from nicwatchd.core.model import Link, Reason
from nicwatchd.core.policy import Coexist, Policy
from nicwatchd.core.releases import Releases
from nicwatchd.core.treatment import (
    Managed,
    Primary,
    Released,
    Treatment,
    Unmanaged,
    is_asked_about,
    is_candidate,
    is_primary,
    places_of,
    reason_of,
    treat,
)
from tests.core.build import ETH0, ETH1, IPV6, MAC, NET4, PRIMARY, lease, net, nets

DEFAULT = Policy()
VETH = Policy(drivers=frozenset({"veth"}))
EVERY = Policy(exclude=("eth1",), every_link=True)
IN_NET4 = nets(NET4)


@pytest.mark.parametrize(
    ("link", "policy", "expected"),
    [
        pytest.param(ETH1, DEFAULT, True, id="hardware"),
        pytest.param(replace(ETH1, driver="e1000"), DEFAULT, True, id="other hardware"),
        pytest.param(replace(ETH1, kind="veth", driver="veth"), DEFAULT, False, id="virtual"),
        pytest.param(replace(ETH1, kind="veth", driver="veth"), VETH, True, id="in the settings"),
        pytest.param(replace(ETH1, kind="veth", driver=None), EVERY, True, id="every link"),
        pytest.param(replace(ETH1, mac=""), EVERY, False, id="every link, but it has no MAC"),
        pytest.param(replace(ETH1, mac=""), DEFAULT, False, id="no MAC"),
        pytest.param(replace(ETH1, mac="00:00:00:00:00:00"), DEFAULT, False, id="loopback"),
    ],
)
def test_candidates(*, link: Link, policy: Policy, expected: bool) -> None:
    assert is_candidate(link, policy) is expected


@pytest.mark.parametrize(
    ("link", "policy", "owner", "code"),
    [
        pytest.param(ETH1, DEFAULT, None, None, id="ours"),
        pytest.param(replace(ETH1, driver="vif"), DEFAULT, None, None, id="Xen"),
        pytest.param(replace(ETH1, driver="ixgbevf"), DEFAULT, None, None, id="Intel"),
        pytest.param(ETH1, Policy(exclude=("eth1",)), None, "excluded", id="name"),
        pytest.param(ETH1, Policy(exclude=("ens*", "eth[1-9]")), None, "excluded", id="pattern"),
        pytest.param(
            replace(ETH1, mac="02:00:00:00:00:ab"),
            Policy(exclude=("02:00:00:00:00:AB",)),
            None,
            "excluded",
            id="MAC, as anybody writes it",
        ),
        pytest.param(ETH1, Policy(exclude=("eth", "ETH1")), None, None, id="another name"),
        pytest.param(replace(ETH1, driver="e1000"), DEFAULT, None, "driver", id="driver"),
        pytest.param(replace(ETH1, driver=None), DEFAULT, None, "driver", id="unknown driver"),
        pytest.param(replace(ETH1, master=9), DEFAULT, None, "enslaved", id="enslaved"),
        pytest.param(ETH1, DEFAULT, "Cilium", "cni", id="CNI"),
        pytest.param(ETH1, Policy(coexist=Coexist.FORCE), "Cilium", None, id="CNI, forced"),
        pytest.param(replace(ETH1, driver=None, master=9), EVERY, "Cilium", None, id="every link"),
    ],
)
def test_hands_off(link: Link, policy: Policy, owner: str | None, code: str | None) -> None:
    treatment = treat(link, (), policy, Releases(), Value(PRIMARY), owner)
    assert isinstance(treatment, Unmanaged if code else Managed)
    reason = reason_of(treatment)
    assert (reason.code if reason else None) == code
    # Of those that are left, only an enslaved one shares its subnet with what is ours.
    assert is_asked_about(treatment) is (code in (None, "enslaved"))


@pytest.mark.parametrize(
    ("link", "owner", "text"),
    [
        (replace(ETH1, driver="e1000"), None, "its driver is e1000, not one of ena, ixgbevf, vif"),
        (replace(ETH1, driver=None), None, "its driver is unknown, not one of ena, ixgbevf, vif"),
        (replace(ETH1, master=9), None, "the link is a port of the interface with index 9"),
        (ETH1, "Cilium", "Cilium owns the secondary interfaces of this host"),
    ],
)
def test_why_in_words(link: Link, owner: str | None, text: str) -> None:
    reason = reason_of(treat(link, (), DEFAULT, Releases(), Value(PRIMARY), owner))
    assert reason
    assert reason.text == text


def test_what_the_settings_exclude_says_by_what() -> None:
    for policy, text in (
        (Policy(exclude=("eth0", "eth*")), "excluded by the settings (exclude: eth*)"),
        (
            Policy(exclude_subnets=nets(NET4)),
            f"its subnet is excluded by the settings (exclude_subnets: {NET4})",
        ),
    ):
        treatment = treat(ETH1, IN_NET4, policy, Releases(), Value(PRIMARY), None)
        assert treatment == Unmanaged(Reason("excluded", text), asked=False)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(Value(PRIMARY), True), (Value(MAC), False), (ABSENT, False), (NOT_ASKED, False)],
)
def test_the_primary_is_the_one_that_imds_names(*, answer: Answer[str], expected: bool) -> None:
    assert is_primary(ETH0, answer) is expected


RELEASED = Releases().plus((ETH1.index, MAC))
OUTSIDE = replace(ETH1, driver="e1000", master=9)
EXCLUDED = Policy(exclude=("eth*",), exclude_subnets=nets("10.0.0.0/8"))


@pytest.mark.parametrize(
    ("link", "policy", "releases", "primary", "owner", "expected"),
    [
        pytest.param(ETH1, EXCLUDED, RELEASED, MAC, "Cilium", Released, id="released"),
        pytest.param(
            OUTSIDE, DEFAULT, RELEASED, MAC, None, Released, id="released, whatever it is"
        ),
        pytest.param(ETH1, EXCLUDED, Releases(), MAC, "Cilium", Primary, id="the primary"),
        pytest.param(OUTSIDE, DEFAULT, Releases(), MAC, None, Primary, id="... whatever it is"),
        pytest.param(ETH1, EXCLUDED, Releases(), PRIMARY, "Cilium", Unmanaged, id="excluded"),
        pytest.param(ETH1, DEFAULT, Releases(), PRIMARY, None, Managed, id="ours"),
        pytest.param(ETH1, DEFAULT, RELEASED.minus(None), PRIMARY, None, Managed, id="taken back"),
    ],
)
def test_what_comes_before_what(
    link: Link,
    policy: Policy,
    releases: Releases,
    primary: str,
    owner: str | None,
    expected: type[Treatment],
) -> None:
    assert type(treat(link, IN_NET4, policy, releases, Value(primary), owner)) is expected


def test_what_is_released_says_how_to_have_it_back() -> None:
    reason = reason_of(treat(ETH1, (), DEFAULT, RELEASED, Value(MAC), None))
    assert reason
    assert reason.code == "released"
    assert "`nicwatchd reconcile eth1`" in reason.text


def test_the_primary_says_whose_it_is() -> None:
    assert Primary().reason == Reason(
        "primary", "this is the primary interface, which the host's own software configures"
    )
    assert not is_asked_about(Unmanaged(Reason("x", "y")))


def test_released_and_primary_are_asked_about() -> None:
    """One for its neighbours' subnets, which the other's guards need too."""
    for releases in (RELEASED, Releases()):
        assert is_asked_about(treat(ETH1, (), DEFAULT, releases, Value(MAC), None))
    reason = reason_of(treat(ETH1, (), DEFAULT, Releases(), Value(MAC), None))
    assert reason
    assert reason.code == "primary"


@pytest.mark.parametrize(
    ("excluded", "left"),
    [("10.0.0.0/8", True), (NET4, True), ("10.0.2.0/25", False), ("10.0.3.0/24", False),
     (f"{IPV6}/128", True), ("2001:db8:7::/64", False)],
)  # fmt: skip
def test_an_excluded_subnet(*, excluded: str, left: bool) -> None:
    """The whole place has to lie in it. An address without its subnet is a place, too."""
    places = places_of(nets(NET4), [lease(f"{IPV6}/128")])
    policy = Policy(exclude_subnets=(net("192.0.2.0/24"), net(excluded)))
    treatment = treat(ETH1, places, policy, Releases(), Value(PRIMARY), None)
    assert isinstance(treatment, Unmanaged if left else Managed)
    assert is_asked_about(treatment) is not left
