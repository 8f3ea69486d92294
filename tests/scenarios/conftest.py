"""Fixtures of the scenarios."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.scenarios.own_journal import Journal, own_journal


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    """A journald of the test's own."""
    async with own_journal() as running:
        yield running
