"""A few of docs/imds-faults.md's rows from end to end; tests/imds holds each row for the client."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from nicwatchd.sim.script import Do
from tests.scenarios.host import HostUnderTest, complete, ec2_host, numbered

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Row:
    on: str
    do: Do
    imds: str  # the condition
    words: str  # of the reason
    retry_after: str | None = None


ROWS = (
    Row("token", "403", "disabled", "IMDS is disabled"),
    Row("token", "503", "throttled", "503 on the token", retry_after="2"),
    Row("token", "timeout", "unreachable", "timed out"),
    Row("token", "refuse", "unreachable", "connection refused"),
    Row("token", "redirect", "failing", "302 on the token"),
    Row("directory", "404", "ok", "does not list the MAC"),
    Row("directory", "reset", "ok", "connection"),
    Row("directory", "half", "ok", "the body ended early"),
    Row("leaf:ipv6s", "404", "ok", "listed, but 404"),
    Row("leaf:ipv6s", "429", "throttled", "429", retry_after="2"),
    Row("leaf:ipv6s", "503", "ok", "503"),
    Row("leaf:ipv6s", "timeout", "ok", "timed out"),
)


def begin(host: HostUnderTest, row: Row) -> None:
    host.imds.fault(row.on, row.do, retry_after=row.retry_after)
    host.imds.expire_tokens()  # so that the token's faults are met, too


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.on}-{row.do}")
@pytest.mark.lasts(15)
async def test_a_fault_delays_and_takes_nothing(row: Row) -> None:
    async with ec2_host(numbered(1)) as host:
        begin(host, row)
        await host.plug("eth1")
        waiting = await host.until(
            "eth1", lambda now: any(row.words in reason["text"] for reason in now["reasons"])
        )
        assert waiting["state"] == "awaiting-imds"
        await host.imds_is(row.imds)
        assert (await host.daemon.get("/healthz"))["status"] == "ok"

        host.imds.clear()
        await host.until("eth1", complete)
        await host.all_reachable("eth1")

        before = await host.kernel_objects()
        begin(host, row)
        await host.daemon.post("/v1/reconcile")
        assert (await host.status("eth1"))["state"] == "applied"
        assert await host.kernel_objects() == before

        host.imds.clear()
        await host.daemon.post("/v1/reconcile")
        assert complete(await host.status("eth1"))
        await host.all_reachable("eth1")
