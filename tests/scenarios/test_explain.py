"""`nicwatchd explain` on a host with a foreign rule: what it says is what mends it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.probe import Acceptor, all_answer, paths
from nicwatchd.sim.script import Scenario
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.host import DEFAULT, PRIMARY, WITHIN, complete, ec2_host, numbered

ETH1 = numbered(1, ipv4_prefixes=("10.0.2.64/28",))
FAR = "198.51.100.50"


async def test_a_foreign_rule_is_named_and_its_removal_mends_it() -> None:
    async with ec2_host(ETH1) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        words = ("explain", "--from", "10.0.2.11", "--to", FAR)
        well = await nicwatchd_on(host.vpc, *words)
        assert well.code == 0, well
        assert "EC2 lets it pass: eth1" in well.text

        await host.ip("route add default via 10.0.1.1 dev eth0 table 100")
        await host.ip("rule add pref 100 from 10.0.2.0/24 lookup 100")
        await host.daemon.until("eth1", lambda status: status["health"] != "working", WITHIN)
        said = await nicwatchd_on(host.vpc, *words)
        assert said.code == 1
        text = said.text
        assert text.startswith(f"10.0.2.11 -> {FAR} leaves by eth0 via 10.0.1.1: EC2 DROPS IT")
        assert "Rule 100 decides; it is not ours" in said.out
        (row,) = (line for line in said.out.splitlines() if "<- wins" in line)
        assert row.split()[:2] == ["100", "from"]
        ours = [line.split() for line in said.out.splitlines() if " nicwatchd " in line]
        assert any("10.0.2.1" in line for line in ours)  # what it would do else

        status = await nicwatchd_on(host.vpc, "status")
        why = await nicwatchd_on(host.vpc, "explain", "10.0.2.11")
        for each in (status, why):
            assert each.code == 1
            assert "leave by eth0" in each.text
            assert max(map(len, each.out.splitlines())) <= 80

        mend = re.search(r"sudo ip (rule del pref 100)", said.out)
        assert mend
        await host.ip(mend[1])
        await host.daemon.until("eth1", lambda status: status["health"] == "working", WITHIN)
        assert (await nicwatchd_on(host.vpc, *words)).code == 0
        await host.all_reachable("eth1")


async def test_what_a_container_sends_and_ipv6() -> None:
    async with ec2_host(ETH1) as host:
        vpc = host.vpc
        await host.plug("eth1")
        await host.until("eth1", complete)
        await vpc.exec(vpc.host, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        await host.ip("link add docker0 type bridge")
        await host.ip("addr add 172.17.0.1/16 dev docker0")
        await host.ip("link set docker0 up")
        await host.ip("route add 10.0.2.70/32 dev docker0")
        command = ("explain", "--json", "--to", FAR, "--iif", "docker0", "--from")
        own = json.loads((await nicwatchd_on(vpc, *command, "10.0.2.70")).out)
        assert (own["ec2"], own["leaves_by"], own["owner"]) == ("passes", "eth1", "eth1")
        hidden = json.loads((await nicwatchd_on(vpc, *command, "172.17.0.2")).out)
        assert (hidden["ec2"], hidden["leaves_by"]) == ("drops-unless-translated", "eth0")
        v6 = ("explain", "--json", "--from", "2001:db8:ec2:2::11", "--to", "2001:db8:ff::1")
        said = json.loads((await nicwatchd_on(vpc, *v6)).out)
        assert (said["ec2"], said["leaves_by"]) == ("passes", "eth1")
        decided = [each for each in said["rules"] if each["says"] == "decides"]
        assert [each["whose"] for each in decided] == ["nicwatchd"]
        none = await nicwatchd_on(vpc, "explain", "--from", "10.0.9.9", "--to", FAR)
        assert none.code == 1
        assert "is no address of this host" in none.text


async def test_without_a_daemon_imds_says_who_owns_it(tmp_path: Path) -> None:
    config = tmp_path / "nicwatchd.toml"
    config.write_text(DEFAULT)
    async with Ec2(Scenario(PRIMARY.mac, (PRIMARY, ETH1))) as ec2, Acceptor(ec2.vpc, ec2.vpc.host):
        vpc = ec2.vpc
        await ec2.plug("eth1")
        await vpc.exec(vpc.host, *["ip", "link", "set", "eth1", "up"])
        await vpc.exec(vpc.host, *["ip", "addr", "add", "10.0.2.11/24", "dev", "eth1"])
        words = ("explain", "--from", "10.0.2.11", "--to", FAR, "--config", str(config))
        said = await nicwatchd_on(vpc, *words)
        assert said.code == 1, said
        assert "EC2 DROPS IT" in said.out
        assert "no rule takes it to eth1" in said.text
        document = json.loads((await nicwatchd_on(vpc, *words, "--json")).out)
        assert document["owners_from"] == "IMDS (no daemon runs)"
        daemon = await ec2.start_daemon(DEFAULT)
        await daemon.until("eth1", complete, WITHIN)
        assert (await nicwatchd_on(vpc, *words)).code == 0
        await all_answer(vpc, paths(vpc.peers(*vpc.enis), [ec2.eni("eth1").ipv4[0]]), WITHIN)
