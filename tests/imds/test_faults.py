"""docs/imds-faults.md, row by row, against a running server: each fault, and its end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nicwatchd.core.metadata import ABSENT, Absent, EniMetadata, Unknown, Value
from nicwatchd.core.polling import Depth
from nicwatchd.imds.eni import EniReader
from nicwatchd.imds.token import FIRST_RETRY

if TYPE_CHECKING:
    from nicwatchd.imds.client import ImdsClient
    from nicwatchd.sim.imds import ImdsServer

TABLE = Path(__file__).parents[2] / "docs" / "imds-faults.md"
MAC = "02:00:00:00:00:02"
RETRY = {"next poll": None, "backoff": FIRST_RETRY, "1 s": 1.0, "30 s": 30.0, "Retry-After": 4.0}
PLACES = {"token": "token", "directory": "directory", "leaf": "leaf:ipv6s"}


@dataclass(frozen=True)
class Row:
    on: str
    fault: str
    answer: str
    next_try: str
    condition: str
    not_yet_applied: str
    applied: str


def _rows() -> list[Row]:
    lines = re.findall(
        r"^\| (?:token|directory|leaf) \|.*\|$", TABLE.read_text("utf-8"), re.MULTILINE
    )
    return [Row(*(cell.strip() for cell in line.strip("|").split("|"))) for line in lines]


ROWS = pytest.mark.parametrize("row", _rows(), ids=lambda row: f"{row.on}-{row.fault}")


def _begin(server: ImdsServer, row: Row) -> None:
    do, _, header = row.fault.partition(", Retry-After ")
    what: Any = do
    server.fault(PLACES[row.on], what, retry_after=header or None)


def _subject(row: Row, metadata: EniMetadata) -> object:
    """The answer that the row speaks of."""
    return metadata.v6.addresses if row.on == "leaf" else metadata.directory


def _is_whole(metadata: EniMetadata) -> bool:
    answers = (
        metadata.directory, metadata.mac, metadata.interface_id, metadata.subnet_id,
        metadata.device_number, metadata.v4.addresses, metadata.v4.cidrs,
        metadata.v6.addresses, metadata.v6.cidrs,
    )  # fmt: skip
    return all(isinstance(answer, Value) for answer in answers)


def _holds(row: Row, answer: object) -> bool:
    if row.answer == "absent":
        return answer == ABSENT
    return isinstance(answer, Unknown) and row.answer.removeprefix("unknown: ") in answer.why


async def _recovers(
    row: Row, server: ImdsServer, client: ImdsClient, reader: EniReader, clock: Any
) -> None:
    """The condition and the next try are as the row says, and the end of the fault is the end."""
    assert client.condition.state == row.condition
    retry_at = client.condition.retry_at
    assert (None if retry_at is None else retry_at - clock.now) == RETRY[row.next_try]
    server.clear()
    if retry_at is not None:
        before = client.requests
        clock.now = retry_at - 0.001
        await reader.poll(depth=Depth.EVERYTHING)
        assert client.requests == before, "asked before its time"
        clock.now = retry_at
    assert _is_whole(await reader.poll(depth=Depth.EVERYTHING))
    assert client.condition.state == "ok"
    assert client.condition.retry_at is None


def test_the_table_is_complete() -> None:
    faults = {
        "401", "403", "404", "429", "429, Retry-After 4", "503", "503, Retry-After 4", "timeout",
        "refuse", "reset", "half", "redirect", "garbage", "big", "slow",
    }  # fmt: skip
    assert sorted((row.on, row.fault) for row in _rows()) == sorted(
        (on, fault) for on in PLACES for fault in faults
    )
    assert {(row.not_yet_applied, row.applied) for row in _rows()} == {("awaiting-imds", "stays")}


@ROWS
async def test_fault_from_the_start(
    row: Row, server: ImdsServer, client: ImdsClient, clock: Any
) -> None:
    reader = EniReader(client, MAC)
    _begin(server, row)
    metadata = await reader.poll(depth=Depth.EVERYTHING)
    if row.fault == "refuse":  # the request that met it was cut; the next one is refused
        await reader.poll(depth=Depth.EVERYTHING)
    assert _holds(row, _subject(row, metadata))
    assert not _is_whole(metadata)
    await _recovers(row, server, client, reader, clock)


@ROWS
async def test_fault_when_all_was_known(
    row: Row, server: ImdsServer, client: ImdsClient, clock: Any
) -> None:
    reader = EniReader(client, MAC)
    assert _is_whole(await reader.poll(depth=Depth.EVERYTHING))
    _begin(server, row)
    server.expire_tokens()  # so that the token's faults are met too
    metadata = await reader.poll(depth=Depth.EVERYTHING)
    if row.fault == "refuse":
        await reader.poll(depth=Depth.EVERYTHING)
    assert _holds(row, _subject(row, metadata))
    if row.answer != "absent":  # an error takes nothing away
        keys = (metadata.v4.addresses, metadata.v4.cidrs, metadata.v6.addresses, metadata.v6.cidrs)
        assert not any(isinstance(answer, Absent) for answer in keys)
    await _recovers(row, server, client, reader, clock)
