"""A dry run: the decision that the current facts lead to. Nothing is applied or recorded."""

from __future__ import annotations

import asyncio
from typing import Final

from nicwatchd.core.decision import Decision
from nicwatchd.core.policy import Policy
from nicwatchd.core.polling import Depth
from nicwatchd.core.port import Kernel
from nicwatchd.core.steps import Apply, PrimaryReading, Question, Reading
from nicwatchd.core.turn import Turn
from nicwatchd.imds.client import ImdsClient
from nicwatchd.imds.eni import EniReader
from nicwatchd.service.detour import HostDetour
from nicwatchd.service.driver import Driver
from nicwatchd.service.ledger import Ledger

NOW: Final = 0.0


async def preview(kernel: Kernel, imds: ImdsClient, ledger: Ledger, policy: Policy) -> Decision:
    """The decision that the current facts lead to once every wait has timed out.

    Asks IMDS once about each interface. Raises KernelError.
    """
    turn = Turn(policy, lambda: 0.0, NOW)
    turn.host.releases = ledger.releases
    driver = Driver(kernel, ledger, read_only=True)
    imds.detour = HostDetour(turn.host, kernel)
    await _decide(turn, driver, NOW)
    turn.take_reading(PrimaryReading(await imds.primary_mac()), NOW)
    questions = turn.questions(NOW)
    for reading in await asyncio.gather(*(_ask(imds, question) for question in questions)):
        turn.take_reading(reading, NOW)
    # At this invented time, we no longer wait for a DHCP client or for IMDS.
    return await _decide(turn, driver, NOW + policy.patience + policy.settling)


async def _decide(turn: Turn, driver: Driver, now: float) -> Decision:
    """Take a turn, up to the point where it would write."""
    turn.start(now)
    while turn.step and not isinstance(turn.step, Apply):
        turn.answer(await driver.carry_out(turn.step), now)
    if turn.step:
        turn.fail(now)
    if turn.broken or not turn.decision:
        raise RuntimeError(f"internal error, nothing is decided: {turn.broken}")
    return turn.decision


async def _ask(imds: ImdsClient, question: Question) -> Reading:
    reader = EniReader(imds, question.mac)
    metadata = await reader.poll(depth=Depth.EVERYTHING, named=question.named)
    return Reading(question.index, question.mac, metadata)
