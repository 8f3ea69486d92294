"""The open questions to IMDS."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from nicwatchd.core.metadata import EniMetadata
from nicwatchd.core.polling import Depth
from nicwatchd.core.steps import MacsReading, PrimaryReading, Question, Reading
from nicwatchd.imds.client import ImdsClient
from nicwatchd.imds.eni import EniReader
from nicwatchd.service.questions import Questions
from tests.service.conftest import MAC


async def test_a_link_that_is_back_has_one_question_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same index, same MAC: the question of its life before is answered to nobody."""
    answers: list[Reading | PrimaryReading | MacsReading] = []
    polls: list[asyncio.Future[EniMetadata]] = []

    async def poll(_self: EniReader, *, depth: Depth, named: frozenset[str]) -> EniMetadata:
        assert (depth, named) == (Depth.EVERYTHING, frozenset())
        polls.append(asyncio.get_running_loop().create_future())
        return await polls[-1]

    monkeypatch.setattr(EniReader, "poll", poll)
    asked = Questions(cast("ImdsClient", None), answers.append, lambda: float(len(polls)))
    for _ in range(2):
        asked.ask(Question(3, MAC, Depth.EVERYTHING))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    before, now = polls
    assert before.cancelled()
    assert asked.oldest() == 1.0
    now.set_result(EniMetadata())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert answers == [Reading(3, MAC, EniMetadata())]
    assert asked.oldest() is None
    await asked.close()
