"""`nicwatchd release` while the daemon runs, beside objects of others."""

from __future__ import annotations

import asyncio
import json
import os
import re

import pytest

from tests.scenarios.commands import AS_NOBODY, NICWATCHD, nicwatchd_on
from tests.scenarios.host import HostUnderTest, codes, complete, ec2_host, numbered
from tests.scenarios.test_control import is_the_only_user

pytestmark = pytest.mark.long


ENIS = (numbered(1, ipv4=("10.0.2.11", "10.0.2.12")), numbered(2))
THEIRS = (  # near to ours
    "rule add pref 32765 from 192.0.2.0/24 lookup 77 proto static",
    "-6 rule add pref 32765 iif lo from 2001:db8:77::/64 lookup 77 proto static",
    "rule add pref 500 fwmark 0x77 lookup 77",
    "address add 10.0.2.99/32 dev eth1",
    "-6 address add 2001:db8:77::1/128 dev eth1 nodad",
    "route add 192.0.2.0/24 dev eth1 table 77 proto static",
    "-6 route add 2001:db8:77::/64 dev eth1 table 77 proto static",
)


async def lines(host: HostUnderTest) -> set[str]:
    """All rules, routes and addresses of both families; the kernel's own routes aside."""
    seen = set()
    for family in ("-4", "-6"):
        for what in ("rule", "route show table all", "-oneline address"):
            said = (await host.ip(f"{family} {what}")).splitlines()
            seen |= {f"{family} {line.strip()}" for line in said if " proto kernel " not in line}
    seen = {re.sub(r"valid_lft \d+sec preferred_lft \d+sec", "dynamic", line) for line in seen}
    return {line for line in seen if " fe80::" not in line}


async def groups(host: HostUnderTest) -> dict[str, str]:
    links = json.loads(await host.ip("-json link"))
    return {link["ifname"]: link["group"] for link in links if link["ifname"].startswith("eth")}


def is_ours(line: str, *addresses: str) -> bool:
    """Whether a line has our mark, or is of an address that we added; `ip` shows no mark of it."""
    return " proto 236" in line or any(f" {address}/" in line for address in addresses)


@pytest.mark.lasts(12)
async def test_with_the_daemon_running() -> None:
    async with ec2_host(*ENIS) as host:
        await host.plug("eth1", "eth2")
        for words in THEIRS:
            await host.ip(words)
        eth1, eth2 = [await host.until(name, complete) for name in ("eth1", "eth2")]
        await host.all_reachable("eth1", "eth2")
        added = [a for eth in (eth1, eth2) for f in ("ipv4", "ipv6") for a in eth[f]["added"]]
        assert len(added) == 5
        before = await lines(host)
        theirs = {line for line in before if not is_ours(line, *added)}
        assert len(theirs) > len(THEIRS)

        said = await nicwatchd_on(host.vpc, "release", "--json", "eth1")
        assert said.code == 0
        released = json.loads(said.out)
        assert released["failed"] == []
        assert released["released"]["addresses"] == 3
        assert all(released["released"].values())
        left = await lines(host)
        assert theirs <= left
        assert {line for line in before if str(eth2["table"]) in line} <= left
        assert not [line for line in left if str(eth1["table"]) in line]
        assert await groups(host) == {"eth0": "3778", "eth1": "default", "eth2": "3778"}
        assert codes((await host.status("eth1"))["reasons"]) == {"released"}
        await host.all_reachable("eth2", peers=host.vpc.far_hosts)

        await host.daemon.kill()
        again = await host.ec2.start_daemon()
        status = await again.until("eth1", "ignored")
        assert codes(status["reasons"]) == {"released"}
        await again.until("eth2", complete)
        assert await lines(host) == left

        said = await nicwatchd_on(host.vpc, "reconcile", "eth1")
        assert "released by the operator" not in said.out
        await again.until("eth1", complete)
        assert await lines(host) == before
        await host.all_reachable("eth1", "eth2")

        said = await nicwatchd_on(host.vpc, "release", "--all")
        assert (said.code, said.complaint) == (0, "")
        assert await lines(host) == theirs
        assert set((await groups(host)).values()) == {"default"}
        said = await nicwatchd_on(host.vpc, "status")
        assert said.code == 0
        assert "\nreleased: nicwatchd leaves this host alone, " in said.out


async def at_a_terminal(host: HostUnderTest, answer: str, *words: str) -> tuple[int, str]:
    """Run a command whose standard input is a terminal, and answer it; the code and the output."""
    ours, theirs = os.openpty()
    command = (*NICWATCHD, *words, "--runtime-directory", str(host.vpc.runtime_dir))
    pipe = asyncio.subprocess.PIPE
    process = await host.vpc.popen(host.vpc.host, *command, stdin=theirs, stdout=pipe)
    os.close(theirs)
    os.write(ours, answer.encode())
    out, _ = await process.communicate()
    os.close(ours)
    return await process.wait(), out.decode()


async def test_a_terminal_is_asked_first() -> None:
    config = ("--config", "/dev/null")
    async with ec2_host(*ENIS, judged=False) as host:
        await host.plug("eth1", "eth2")
        for name in ("eth1", "eth2"):
            await host.until(name, complete)
        before = await lines(host)
        said = await nicwatchd_on(host.vpc, "release", "--dry-run", "--json", *config)
        assert (said.code, said.complaint) == (0, "")
        planned = json.loads(said.out)
        assert {"eth1", "eth2"} <= set(planned["interfaces"])
        text = (await nicwatchd_on(host.vpc, "release", "--dry-run", *config)).out.splitlines()
        assert text[1:-1] == [f"  - {command}" for command in planned["commands"]]
        alone = await nicwatchd_on(host.vpc, "release", "eth2", "--dry-run", "--json", *config)
        assert json.loads(alone.out)["interfaces"] == ["eth2"]
        said = await nicwatchd_on(host.vpc, "release")
        assert (said.code, said.out) == (2, "")
        for answer in ("\n", "n\n", "no\n"):
            code, out = await at_a_terminal(host, answer, "release", *config)
            assert (code, out.splitlines()[-1]) == (1, "nothing was changed")
        assert await lines(host) == before

        counts = planned["would_release"]
        code, out = await at_a_terminal(host, "y\n", "release", *config)
        assert code == 0
        *_, question, done = out.splitlines()
        assert max(map(len, out.splitlines())) <= 80
        asked = " ".join(out.split())
        goes = f"{counts['rules']} rules, {counts['routes']} routes"
        assert asked.startswith(f"This takes {goes}, ")
        breaks = "Connections from outside their subnets will break."
        assert f" eth1 and eth2 out of the kernel. {breaks} " in asked
        assert question == "Continue? [y/N]"
        assert done.startswith(f"released: {goes}, ")
        assert not [line for line in await lines(host) if " proto 236" in line]
        assert (await host.daemon.get("/v1/status"))["released"]
        code, out = await at_a_terminal(host, "n\n", "release", *config)
        assert out.startswith("There is nothing of nicwatchd's in the kernel.\n")


async def test_a_dry_run_counts_what_goes() -> None:
    """With the last ENI goes the primary's protection, too."""
    config = ("--config", "/dev/null")
    async with ec2_host(*ENIS, judged=False) as host:
        await host.plug("eth1", "eth2")
        for name in ("eth1", "eth2"):
            await host.until(name, complete)
        for name in ("eth2", "eth1"):
            dry = await nicwatchd_on(host.vpc, "release", name, "--dry-run", "--json", *config)
            done = await nicwatchd_on(host.vpc, "release", name, "--json", *config)
            counts = json.loads(dry.out)["would_release"]
            assert counts == json.loads(done.out)["released"], name
            assert counts["rules"], name


async def test_what_is_asked_of_it_in_vain() -> None:
    async with ec2_host() as host:
        said = await nicwatchd_on(host.vpc, "release", "eth9")
        assert (said.code, said.complaint_line) == (
            3,
            "nicwatchd: no interface 'eth9'; there are: eth0",
        )
        if is_the_only_user():  # in a sandbox that was made without root
            return
        said = await nicwatchd_on(host.vpc, "release", "--all", wrapper=AS_NOBODY)
        assert (said.code, said.complaint_line) == (
            5,
            "nicwatchd: only root and nicwatchd's own user may do this",
        )
        assert not (await host.daemon.get("/v1/status"))["released"]
