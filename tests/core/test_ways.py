"""By which links IMDS is asked where the host's routes do not lead to it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nicwatchd.core.interface import Interface
from nicwatchd.core.model import Link, Reason
from nicwatchd.core.policy import Policy
from nicwatchd.core.treatment import Managed, Primary, Released, Treatment, Unmanaged
from nicwatchd.core.ways import AT_ONCE, ways_to_imds
from tests.core.build import ETH1

POLICY = Policy()


def interface(index: int, treatment: Treatment | None = None, **changes: object) -> Interface:
    link: Link = replace(ETH1, index=index, name=f"eth{index}", **changes)  # type: ignore[arg-type] # a field's
    made = Interface(link, 0.0, POLICY)
    made.treat(treatment or Managed(), frozenset())
    return made


def ways(*interfaces: Interface, failures: int = 0) -> tuple[str, ...]:
    names = {i.link.index: i.link.name for i in interfaces} | {99: "br0"}
    return ways_to_imds(interfaces, POLICY, names.get, failures)


def test_the_primary_is_first() -> None:
    assert ways(interface(2), interface(3, Primary())) == ("eth3", "eth2")


def test_until_it_is_known_the_oldest_link_is_first() -> None:
    assert ways(interface(3), interface(2)) == ("eth2", "eth3")


def test_without_an_eni_there_is_none() -> None:
    assert ways() == ()


@pytest.mark.parametrize(
    "left_out",
    [
        interface(3, up=False),
        interface(3, driver="virtio_net"),
        interface(3, driver=None),
        interface(3, Unmanaged(Reason("excluded", ""))),
    ],
    ids=["down", "another driver", "no driver", "excluded"],
)
def test_what_is_no_way(left_out: Interface) -> None:
    assert ways(interface(2), left_out) == ("eth2",)


@pytest.mark.parametrize("treatment", [Unmanaged(Reason("cni", "")), Released(Reason("", ""))])
def test_an_eni_that_is_not_ours_to_configure_is_a_way(treatment: Treatment) -> None:
    assert ways(interface(2, treatment)) == ("eth2",)


def test_the_bridge_above_an_eni_stands_for_it() -> None:
    assert ways(interface(2, Primary(), master=99)) == ("br0",)


def test_others_have_their_turn() -> None:
    enis = [interface(2, Primary()), *(interface(i) for i in range(3, 8))]
    tried = [ways(*enis, failures=n) for n in range(3)]
    assert tried[0] == ("eth2", "eth3", "eth4", "eth5")
    assert tried[1] == ("eth2", "eth6", "eth7", "eth3")
    assert {name for names in tried for name in names} == {e.link.name for e in enis}
    assert all(len(names) == 1 + AT_ONCE for names in tried)
