"""A daemon that gives canned answers, and the commands that ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nicwatchd.service.control import SOCKET_NAME, Control
from tests.cli.statuses import Canned, eni, host


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Canned]:
    """The daemon of a host with its primary and one ENI; its socket is in tmp_path."""
    canned = Canned(host(eni(0), eni(1)))
    control = Control(canned, tmp_path / SOCKET_NAME)
    await control.start()
    yield canned
    await control.close()
