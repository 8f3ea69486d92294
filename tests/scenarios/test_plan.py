"""`nicwatchd plan`: a dry run of the turn, on a host where no daemon runs."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from pathlib import Path

from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.probe import Acceptor, all_answer, paths
from nicwatchd.sim.script import Scenario
from tests.scenarios.commands import NICWATCHD, nicwatchd, nicwatchd_on
from tests.scenarios.host import DEFAULT, PRIMARY, WITHIN, complete, numbered

ETH1 = numbered(1, ipv4=("10.0.2.11", "10.0.2.12"), ipv4_prefixes=("10.0.2.64/28",))


async def objects(ec2: Ec2) -> str:
    """Rules, routes, addresses and links of the host, as `ip` prints them."""
    words = ("-4 rule", "-6 rule", "-4 route show table all", "-6 route show table all", "link")
    vpc = ec2.vpc
    found = [await vpc.exec(vpc.host, "ip", *shlex.split(each)) for each in (*words, "-o addr")]
    # Lifetimes tick, and link-local addresses come when duplicate address detection is over.
    lines = re.sub(r"_lft \d+sec", "_lft", "".join(found)).splitlines()
    return "\n".join(line for line in lines if "fe80::" not in line)


async def test_what_it_prints_is_what_would_be_done_and_nothing_is_done(tmp_path: Path) -> None:
    config = tmp_path / "nicwatchd.toml"
    config.write_text(DEFAULT)
    async with Ec2(Scenario(PRIMARY.mac, (PRIMARY, ETH1))) as ec2, Acceptor(ec2.vpc, ec2.vpc.host):
        vpc = ec2.vpc
        await ec2.plug("eth1")
        before = await objects(ec2)
        planned = await nicwatchd_on(vpc, "plan", "--json", "--config", str(config))
        assert (planned.code, planned.complaint) == (0, "")
        assert await objects(ec2) == before
        said = json.loads(planned.out)
        states = {each["name"]: each["state"] for each in said["interfaces"]}
        assert states == {"eth0": "ignored", "eth1": "validated"}
        for command in said["commands"]:
            await vpc.exec(vpc.host, *shlex.split(command))
        eni = ec2.eni("eth1")
        await all_answer(vpc, paths(vpc.peers(*vpc.enis), eni.addresses()), within=WITHIN)
        again = await nicwatchd_on(vpc, "plan", "--config", str(config))
        assert again.out.splitlines()[-1] == "nothing to change"

        daemon = await ec2.start_daemon(DEFAULT)  # which decides the same, of what is there
        await daemon.until("eth1", complete, WITHIN)
        running = await nicwatchd_on(vpc, "plan", "--config", str(config))
        assert running.out.splitlines()[-1] == "nothing to change"


async def test_what_is_left_alone_is_named_with_its_reason(tmp_path: Path) -> None:
    config = tmp_path / "nicwatchd.toml"
    config.write_text(DEFAULT.replace('exclude = ["c-*"]', 'exclude = ["c-*", "eth1"]'))
    async with Ec2(Scenario(PRIMARY.mac, (PRIMARY, ETH1))) as ec2:
        await ec2.plug("eth1")
        planned = await nicwatchd_on(ec2.vpc, "plan", "--config", str(config))
    assert planned.out.splitlines() == [
        "eth0  eni-00000020000000001  the primary, which the host's own software",
        "    configures; this keeps packets from other interfaces' addresses off its",
        "    routes:",
        "  ~ ip link set dev eth0 group 3778",
        f"eth1  {ETH1.mac}  left alone: excluded by the settings (exclude: eth1)",
        "0 to add, 1 to change, 0 to remove; nothing was changed",
    ]


def files_in(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


async def test_where_the_service_was_never_enabled(tmp_path: Path) -> None:
    """It says who else is at work, what would be done for which ENI, and leaves no trace."""
    config, root, never = tmp_path / "nicwatchd.toml", tmp_path / "root", tmp_path / "never"
    config.write_text(DEFAULT)
    rules = root / "usr/lib/udev/rules.d"
    rules.mkdir(parents=True)
    (rules / "90-cloud-init-hook-hotplug.rules").write_text("a rule\n")
    before_files = files_in(tmp_path)
    where = ("--config", str(config), "--root", str(root), "--runtime-directory", str(never))
    async with Ec2(Scenario(PRIMARY.mac, (PRIMARY, ETH1))) as ec2:
        vpc = ec2.vpc
        await ec2.plug("eth1")
        old = "rule add pref 32765 from 10.0.9.9 lookup 7 proto 236"
        await vpc.exec(vpc.host, "ip", *old.split())
        before = await objects(ec2)
        text = await vpc.exec(vpc.host, *NICWATCHD, "plan", *where)
        said = json.loads(await vpc.exec(vpc.host, *NICWATCHD, "plan", "--json", *where))
        assert await objects(ec2) == before
    assert files_in(tmp_path) == before_files
    assert not never.exists()

    kinds = Counter(each["kind"] for each in said["changes"])
    assert said["counts"] == {"add": kinds["+"], "change": kinds["~"], "remove": kinds["-"]}
    assert [each["command"] for each in said["changes"]] == said["commands"]
    assert {each["interface"] for each in said["changes"]} == {"eth0", "eth1", None}
    assert said["beside"] == ["cloud-init hotplug on (its rules stand before ours)"]
    assert said["imds"] == {"state": "ok", "detail": ""}

    lines = text.splitlines()
    assert "eth1  eni-00000020000000002  would be managed:" in lines
    assert "  + ip addr add 10.0.2.12/32 dev eth1 noprefixroute" in lines
    assert lines[-4:] == [
        "the host",
        "  - ip rule del pref 32765 from 10.0.9.9 lookup 7 proto 236",
        f"{kinds['+']} to add, {kinds['~']} to change, 1 to remove; nothing was changed",
        "Beside: cloud-init hotplug on (its rules stand before ours)",
    ]


async def test_wrong_settings_are_one_line(tmp_path: Path) -> None:
    config = tmp_path / "nicwatchd.toml"
    config.write_text("[interfaces]\nexlude = []\n")
    planned = await nicwatchd("plan", "--config", str(config))
    assert planned.code == 2
    assert "exlude" in planned.complaint_line
