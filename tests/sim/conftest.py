from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nicwatchd.sim.parts import Eni, Subnet
from nicwatchd.sim.probe import Acceptor
from nicwatchd.sim.vpc import Vpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def vpc() -> AsyncIterator[Vpc]:
    """A VPC whose host answers TCP on port 7777; the primary is ens5 in subnet 1."""
    async with Vpc() as opened, Acceptor(opened, opened.host):
        yield opened


@pytest.fixture
def eni() -> Eni:
    """An ENI that is not plugged yet: two addresses per family in subnet 2."""
    return Eni.numbered("ens6", Subnet.numbered(2), count=2)
