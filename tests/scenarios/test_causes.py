"""What happened, and why: the journal, `history` and `watch` name each cause."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from uuid import UUID

from nicwatchd.service import journal as written
from nicwatchd.sim.ec2 import Status
from tests.scenarios.commands import NICWATCHD, nicwatchd
from tests.scenarios.host import WITHIN, HostUnderTest, complete, ec2_host, numbered
from tests.scenarios.own_journal import Journal

BY_IT = "by the rule at priority 100 (table 100)"
FOREIGN = "pref 100 from 10.0.2.0/24 lookup 100"


async def until_written(journal: Journal, message_id: UUID, words: str = "") -> None:
    """Wait for an entry of a kind about eth1, with these words in its message or its cause."""
    match = (f"MESSAGE_ID={message_id.hex}", "INTERFACE=eth1")
    async with asyncio.timeout(WITHIN):
        while True:
            entries = await journal.entries(*match)
            if any(words in entry["MESSAGE"] + entry["NICWATCHD_CAUSE"] for entry in entries):
                return
            await asyncio.sleep(0.05)


def is_down(status: Status) -> bool:
    return not status["link_up"]


async def everything_happens(host: HostUnderTest, journal: Journal) -> None:
    """A hot-plug, a flush of rules, the link down and up, a foreign rule."""
    await host.plug("eth1")
    await host.until("eth1", complete)
    await host.ip("rule flush proto 236")
    await until_written(journal, written.RESTORED)
    await host.ip("link set eth1 down")
    await host.until("eth1", is_down)
    await host.ip("link set eth1 up")
    await until_written(journal, written.LINK_CHANGED, "up again")
    await host.until("eth1", complete)
    await host.ip("route add default via 10.0.1.1 dev eth0 table 100")
    await host.ip(f"rule add {FOREIGN}")
    await until_written(journal, written.BYPASS_BEGAN, BY_IT)
    await host.ip(f"rule del {FOREIGN}")
    await until_written(journal, written.BYPASS_ENDED, BY_IT)


async def test_each_cause_has_its_entry_and_its_line(journal: Journal) -> None:
    async with ec2_host(numbered(1), wrapper=journal.wrapper) as host:
        eni = host.ec2.scenario.eni("eth1").facts()["interface-id"]
        pipe = asyncio.subprocess.PIPE
        where = ("--runtime-directory", str(host.vpc.runtime_dir))
        watch = await host.vpc.popen(
            host.vpc.host, *NICWATCHD, "watch", "eth1", *where, stdout=pipe, stderr=pipe
        )
        assert watch.stderr is not None
        async with asyncio.timeout(WITHIN):
            assert "there is no 'eth1' yet" in (await watch.stderr.readline()).decode()
        await everything_happens(host, journal)
        await host.daemon.stop()
        watched, complaint = await watch.communicate()
        assert (watch.returncode, complaint.decode()) == (4, "nicwatchd: the daemon has ended\n")

        about_eth1 = await journal.entries("INTERFACE=eth1")
        by_kind = {entry["MESSAGE_ID"]: entry for entry in about_eth1}
        (lost,) = (e for e in about_eth1 if e["MESSAGE_ID"] == written.LOST.hex)
        assert lost["MESSAGE"].startswith(f"eth1 {eni} lost ")
        assert "rules; removed by port id " in lost["MESSAGE"]
        assert by_kind[written.RESTORED.hex]["NICWATCHD_OBJECTS"] == lost["NICWATCHD_OBJECTS"]
        down = next(e for e in about_eth1 if e["MESSAGE_ID"] == written.LINK_CHANGED.hex)
        assert down["MESSAGE"] == f"eth1 {eni}: the link is down, not by nicwatchd"
        assert down["NICWATCHD_REMEDY"].startswith("ip link set")
        bypasses = [e for e in about_eth1 if e["MESSAGE_ID"] == written.BYPASS_BEGAN.hex]
        assert any(BY_IT in entry["MESSAGE"] for entry in bypasses)
        assert not [e for e in about_eth1 if "CODE_LINE" in e]
        changes = [e for e in about_eth1 if e["MESSAGE_ID"] == written.WROTE.hex]
        assert changes[0]["NICWATCHD_REASON_CODES"] == "taken-up"
        assert all(json.loads(entry["NICWATCHD_CHANGES"]) for entry in changes)
        assert any("+" in e["NICWATCHD_OBJECTS"] and "rules" in e["MESSAGE"] for e in changes)

        said = await nicwatchd("history", "eth1", "--json", wrapper=journal.wrapper)
        assert (said.code, said.complaint) == (0, "")
        history = json.loads(said.out)
        assert_in_order(
            [event["what"] for event in history["events"]],
            *("started", "attached", "changed", "lost", "restored", "link down"),
            *("NOT WORKING", "link up", "working", "bypassed", "not bypassed", "stopped"),
        )
        conditions = [i["condition"] for i in history["intervals"] if i["family"] == "ipv4"]
        assert_in_order(conditions, "working", "not working", "working", "no daemon")

        said = await nicwatchd("history", "eth1", wrapper=journal.wrapper)
        assert all(len(line) <= 80 for line in said.out.splitlines())
        lines = watched.decode().splitlines()
        assert all(len(line) <= 80 for line in lines)
        assert_in_order(lines, has("attached"), has("changed"), has("NOT WORKING"), has("working"))


def has(word: str) -> Callable[[str], bool]:
    return lambda line: f" {word} " in f"{line} "


def assert_in_order(found: list[str], *wanted: str | Callable[[str], bool]) -> None:
    """These come one after the other, perhaps with others between them."""
    rest = iter(found)
    for each in wanted:
        assert any(each(one) if callable(each) else each == one for one in rest), (each, found)
