"""The driver: what it asks of the host beside the kernel."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from nicwatchd.core.model import AddAddress, Address, Link, RemoveAddress
from nicwatchd.core.port import Result
from nicwatchd.core.steps import Applied, Apply
from nicwatchd.service.driver import Driver, udev_is_done
from nicwatchd.service.ledger import Ledger
from nicwatchd.sim.memory_kernel import FakeKernel
from tests.service.conftest import MAC, Old


def test_udev_that_may_not_be_looked_at_is_not_done(tmp_path: Path) -> None:
    """`exists` raises then; the core waits for as long as udev may take."""

    class Closed(type(tmp_path)):  # type: ignore[misc] # the platform's kind of path
        def exists(self) -> bool:
            raise PermissionError(13, "Permission denied")

    assert udev_is_done(3, tmp_path)
    (tmp_path / "control").touch()
    assert not udev_is_done(3, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "n3").touch()
    assert udev_is_done(3, tmp_path)
    assert not udev_is_done(3, Closed(tmp_path))


@pytest.mark.parametrize("kernel", [FakeKernel(), Old()], ids=["marks", "no marks"])
async def test_what_others_made_theirs_is_not_removed(kernel: FakeKernel, tmp_path: Path) -> None:
    """As a DHCP client does it between our look and our removal."""
    kernel.set_link(Link(3, MAC, "eth1", up=True))
    driver = Driver(kernel, Ledger(tmp_path))
    kept, left = ip_address("2001:db8::1"), ip_address("2001:db8::2")
    adds = (AddAddress(3, kept), AddAddress(3, left))
    added = await driver.carry_out(Apply(adds, {3: MAC}))
    assert isinstance(added, Applied)
    assert {each.result for each in added.outcomes} == {Result.DONE}
    kernel.put(Address(3, kept, 128, dynamic=True))
    removals = (RemoveAddress(3, kept, 128), RemoveAddress(3, left, 128))
    removed = await driver.carry_out(Apply(removals, {3: MAC}))
    assert isinstance(removed, Applied)
    assert {each.operation: each.result for each in removed.outcomes} == dict.fromkeys(
        removals, Result.DONE
    )
    assert {address.ip for address in await kernel.addresses(3)} == {kept}
