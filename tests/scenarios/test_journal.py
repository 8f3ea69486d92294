"""A real systemd-journald: what the daemon leaves there, and `status --journal` when it is dead.

Each test has a journald of its own; the daemon and the commands join it there.
"""

from __future__ import annotations

import asyncio
import json

from nicwatchd.core.fights import LOSSES
from nicwatchd.service.journal import FIGHT_BEGAN, STARTED, STOPPED, TRANSITION, WARNING
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.host import WITHIN, complete, ec2_host, late, numbered, waits_for
from tests.scenarios.own_journal import Journal


async def test_status_from_the_journal_when_the_daemon_was_killed(journal: Journal) -> None:
    enis = (numbered(1), numbered(2, steps=late(3600.0)), numbered(3))
    async with ec2_host(*enis, wrapper=journal.wrapper) as host:
        await host.plug("eth1", "eth2", "eth3")
        await host.until("eth1", complete)
        await host.until("eth2", waits_for("undecided-ipv6"))
        await host.until("eth3", complete)
        await host.ec2.unplug("eth3")
        await host.daemon.until_gone("eth3")
        await host.daemon.kill()
        await journal.entries()

        said = await nicwatchd_on(
            host.vpc, "status", "--journal", "--json", wrapper=journal.wrapper
        )
        assert said.code == 4, said  # the daemon is dead
        assert "the daemon is not running" in said.complaint_line
        interfaces = {one["name"]: one for one in json.loads(said.out)["interfaces"]}
        assert {name: one["state"] for name, one in interfaces.items()} == {
            "eth0": "ignored",
            "eth1": "applied",
            "eth2": "awaiting-imds",
        }
        assert [r["code"] for r in interfaces["eth2"]["reasons"]] == ["undecided-ipv6"]
        assert interfaces["eth1"]["ipv6"]["addresses"] == ["2001:db8:ec2:2::11"]

        said = await nicwatchd_on(host.vpc, "status", "eth2", "--journal", wrapper=journal.wrapper)
        assert "Routing: awaiting-imds" in said.text
        assert "no IPv6 in IMDS yet" in said.text
        said = await nicwatchd_on(host.vpc, "status", wrapper=journal.wrapper)
        assert said.code == 4
        assert said.text.startswith("THE DAEMON DOES NOT RUN: below is what the journal")
        assert "2 of 3 interfaces work" in said.text


async def test_each_transition_is_an_entry_with_its_fields(journal: Journal) -> None:
    async with ec2_host(numbered(1, steps=late(3600.0)), wrapper=journal.wrapper) as host:
        await host.plug("eth1")
        await host.until("eth1", waits_for("undecided-ipv6"))
        eni = host.ec2.scenario.eni("eth1").facts()["interface-id"]
        await host.shows("eth1", "eni", eni)  # it is for people, and may come last
        host.imds.step("eth1", complete=True)
        await host.until("eth1", complete)
        eth1 = ("INTERFACE=eth1", f"MESSAGE_ID={TRANSITION.hex}")
        entries = await journal.entries(*eth1)
        for entry in entries:
            assert entry["NICWATCHD_MAC"] == "02:00:00:00:00:02"
            assert entry["SYSLOG_IDENTIFIER"] == "nicwatchd"
            assert int(entry["NICWATCHD_ELAPSED_USEC"]) >= 0
            status = json.loads(entry["NICWATCHD_STATUS"])
            assert (status["name"], status["state"]) == ("eth1", entry["NICWATCHD_STATE"])
        states = [entry["NICWATCHD_STATE"] for entry in entries]
        assert list(dict.fromkeys(states)) == ["detected", "awaiting-imds", "validated", "applied"]
        before = [entry["NICWATCHD_PREVIOUS_STATE"] for entry in entries]
        assert before == ["", *states[:-1]]
        reasons = [entry.get("NICWATCHD_REASONS", "") for entry in entries]
        assert any(said.startswith("undecided-ipv6: no IPv6 in IMDS yet") for said in reasons)
        assert entries[-1]["NICWATCHD_ENI"] == eni

        # No entry for what did not change.
        await host.daemon.post("/v1/reconcile")
        await host.daemon.post("/v1/reconcile")
        assert len(await journal.entries(*eth1)) == len(entries)

        await host.daemon.stop()
        for message_id in (STARTED, STOPPED):
            assert len(await journal.entries(f"MESSAGE_ID={message_id.hex}")) == 1


async def test_a_fight_is_an_entry_that_names_the_other(journal: Journal) -> None:
    async with ec2_host(numbered(1), wrapper=journal.wrapper) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        rules = await host.own_rules()
        for _ in range(LOSSES):
            await host.ip("rule flush proto 236")
            async with asyncio.timeout(WITHIN):
                while await host.own_rules() != rules:  # noqa: ASYNC110 (it is healed, not told)
                    await asyncio.sleep(0.02)
        await host.until("eth1", lambda status: status["fought_over"])
        await host.daemon.stop()
        entries = await journal.entries(f"MESSAGE_ID={FIGHT_BEGAN.hex}")
        assert sorted(entry["INTERFACE"] for entry in entries) == ["eth0", "eth1"]
        (entry,) = (entry for entry in entries if entry["INTERFACE"] == "eth1")
        assert entry["PRIORITY"] == str(WARNING)
        assert entry["NICWATCHD_REASONS"].startswith("fought-over: the IPv4 rule 32765 (")
        assert "the kernel's notifications name port id " in entry["MESSAGE"]
        said = await nicwatchd_on(host.vpc, "status", "--journal", wrapper=journal.wrapper)
        assert said.code == 4
        assert "eth1 the IPv4 rule 32765 (" in said.text


async def test_an_empty_journal_is_said_to_be_one(journal: Journal) -> None:
    async with ec2_host() as host:  # whose daemon writes to standard error
        said = await nicwatchd_on(host.vpc, "status", "--journal", wrapper=journal.wrapper)
        assert said.code == 1
        assert "the journal has no entry of nicwatchd from this boot" in said.complaint_line
