"""An interface that IMDS knows no ENI for, as those of a secondary network may be."""

from __future__ import annotations

import pytest

from nicwatchd.core.metadata import ABSENT, EniMetadata, Value
from nicwatchd.core.model import MAIN_TABLE, RTPROT_DHCP, Address, Numbers, Route
from nicwatchd.core.policy import Policy
from tests.core.build import ETH1, MAC, PRIMARY, V4, eni, ip, lease, net, permanent
from tests.core.fast_motion import FastMotion
from tests.core.scenes import APPLIED, AWAITING, CALM, FULL, IGNORED, OF_PRIMARY, selectors

TWICE = 2 * CALM.patience
WITHOUT_KEYS = eni(
    directory=Value(frozenset({"mac", "device-number"})), mac=Value(MAC), interface_id=ABSENT
)


def notes(motion: FastMotion) -> set[str]:
    return {note.code for note in motion.host.interfaces[3].view().notes}


def plugged(policy: Policy = CALM, reading: EniMetadata | None = None) -> FastMotion:
    motion = FastMotion(policy)
    motion.imds(PRIMARY, 0.0, OF_PRIMARY)
    motion.plug(10.0, ETH1)
    if reading:
        motion.imds(MAC, 10.0, reading)
    return motion


@pytest.mark.parametrize("reading", [None, WITHOUT_KEYS], ids=["unlisted", "without its keys"])
@pytest.mark.parametrize(
    "address", [lease("10.9.0.5/16"), permanent("10.9.0.5/16")], ids=["by DHCP", "by an operator"]
)
def test_it_is_usable_by_its_device_and_never_overdue_for_ever(
    reading: EniMetadata | None, address: Address
) -> None:
    motion = plugged(reading=reading)
    motion.at(11.0, lambda: motion.kernel.put(address))
    motion.run(10.0 + TWICE + 20.0)
    assert motion.state() is APPLIED
    assert "no-eni" in notes(motion)
    assert {"eth1", "10.9.0.5/32"} <= selectors(motion, 3)
    table = Numbers().table_of(3)
    routes = {str(r.dst) for r in motion.kernel.own_routes if r.table == table}
    assert "10.9.0.0/16" in routes
    written = len(motion.written)
    motion.run(motion.now + 600.0)
    assert len(motion.written) == written


def test_without_an_address_it_is_ignored() -> None:
    motion = plugged()
    motion.run(10.0 + TWICE + 20.0)
    assert motion.state() is IGNORED


def test_before_that_it_may_be_a_lag() -> None:
    motion = plugged()
    motion.at(11.0, lambda: motion.kernel.put(lease("10.9.0.5/16")))
    motion.run(TWICE)
    assert motion.state() is AWAITING
    assert motion.host.interfaces[3].view().overdue


def test_it_never_leads_the_hosts_own_traffic() -> None:
    motion = plugged()
    motion.kernel.put(
        lease("10.0.1.10/24", index=2),
        Route(
            net("0.0.0.0/0"),
            MAIN_TABLE,
            2,
            protocol=RTPROT_DHCP,
            gateway=ip("10.0.1.1"),
            metric=512,
        ),
    )
    motion.at(11.0, lambda: motion.kernel.put(lease("10.9.0.5/16")))
    beats = Route(
        net("0.0.0.0/0"), MAIN_TABLE, 3, protocol=RTPROT_DHCP, gateway=ip("10.9.0.1"), metric=100
    )
    motion.at(12.0, lambda: motion.kernel.put(beats))
    motion.run(10.0 + TWICE + 20.0)
    copies = [r for r in motion.kernel.own_routes if r.table == MAIN_TABLE and r.family is V4]
    assert [(r.oif, r.metric) for r in copies] == [(2, 99)]


def test_an_eni_that_imds_lists_late_is_served() -> None:
    motion = plugged()
    motion.imds(MAC, TWICE + 60.0, FULL)
    motion.run(TWICE + 200.0)
    assert motion.state() is APPLIED
    assert "no-eni" not in notes(motion)


def test_what_an_earlier_life_had_is_not_given_up_for_it() -> None:
    """That IMDS does not list its MAC after a restart is IMDS's fault then."""
    before = plugged(reading=FULL)
    before.run(60.0)
    assert before.state() is APPLIED
    again = FastMotion(CALM, kernel=before.kernel, start=60.0)
    again.imds(PRIMARY, 0.0, OF_PRIMARY)
    again.run(60.0 + 3 * TWICE)
    assert again.written == []
    assert again.state() is AWAITING
