"""`nicwatchd doctor`: broken hosts, each found and mended by its own remedy; and healthy ones."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim import containers, dhcp, netns
from nicwatchd.sim.ec2 import Ec2
from nicwatchd.sim.probe import all_answer, paths
from nicwatchd.sim.script import Do, Scenario
from tests.scenarios.commands import AS_NOBODY
from tests.scenarios.doctoring import Doctor
from tests.scenarios.host import (
    DEFAULT,
    PRIMARY,
    WITHIN,
    HostUnderTest,
    complete,
    ec2_host,
    numbered,
)
from tests.scenarios.publishing import PUBLISHED, all_published, answering, docker_nftables
from tests.scenarios.software import UNPACKED, Software, eventually
from tests.scenarios.test_control import is_the_only_user

pytestmark = pytest.mark.long


PRIMARY_ADDRESSES = [ip_address(ip) for ip in (*PRIMARY.ipv4, *PRIMARY.ipv6)]
ETH1 = numbered(1, ipv4=("10.0.2.11", "10.0.2.12"))
NETWORKD = "/run/systemd/netif/state"
DROP_IN = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n"


async def leases(ec2: Ec2) -> None:
    """An ENI comes, and a DHCP client configures it, default routes and all."""
    await ec2.plug("eth1")
    for family in Family:
        await ec2.vpc.lease(ec2.eni("eth1"), family, default=True)


async def furnished(host: HostUnderTest) -> Doctor:
    """A host on which eth1 works, and its doctor."""
    await host.plug("eth1")
    await host.until("eth1", complete)
    return Doctor.of(host)


def files_in(directory: Path) -> dict[str, bytes]:
    """All files below a directory, but for the daemon's log."""
    found = (p for p in directory.rglob("*") if p.is_file() and "proc" not in p.parts)
    return {str(path): path.read_bytes() for path in found if path.suffix != ".log"}


# --- healthy hosts -----------------------------------------------------------------------------


async def networkd(doctor: Doctor, host: HostUnderTest) -> None:
    doctor.write(NETWORKD, "")
    doctor.write("/usr/lib/systemd/networkd.conf.d/10-nicwatchd.conf", DROP_IN)
    await leases(host.ec2)


async def network_manager(_: Doctor, host: HostUnderTest) -> None:
    await leases(host.ec2)


async def docker(_: Doctor, host: HostUnderTest) -> None:
    """A bridge, masquerading, forwarding, a container with an address of its own; no ports."""
    await host.plug("eth1")
    await containers.bridged(host.vpc, IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64"))
    text = """
    table ip nat {
      chain DOCKER { iifname "br0" return; }
      chain PREROUTING { type nat hook prerouting priority dstnat; jump DOCKER; }
      chain POSTROUTING {
        type nat hook postrouting priority srcnat;
        ip saddr 172.18.0.0/24 oifname != "br0" masquerade
      }
    }
    """
    await host.vpc._do(netns.nft, host.vpc.host, text)


async def primary_only(doctor: Doctor, _: HostUnderTest) -> None:
    doctor.write("/etc/hostname", "host\n")


HEALTHY: dict[str, tuple[dhcp.Manager, Callable[[Doctor, HostUnderTest], Awaitable[None]]]] = {
    "networkd": (dhcp.GOOD, networkd),
    "NetworkManager": (dhcp.BEATS, network_manager),
    "Docker": (dhcp.GOOD, docker),
    "the primary alone": (dhcp.GOOD, primary_only),
}


@pytest.mark.parametrize("kind", HEALTHY)
async def test_a_healthy_host_has_nothing_to_mend(kind: str) -> None:
    manager, furnish = HEALTHY[kind]
    async with ec2_host(ETH1, manager=manager) as host:
        doctor = Doctor.of(host)
        await furnish(doctor, host)
        if kind != "the primary alone":
            await host.until("eth1", complete)
            await host.everybody_reaches()
        said = await doctor.examine()
        assert said["findings"] == []
        assert len(said["ok"]) >= 20
        text = await doctor.text()
        assert text.splitlines()[-1] == "nothing to mend"
        assert max(map(len, text.splitlines())) <= 80


# --- broken hosts with a daemon ----------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """What breaks a host (commands of `ip`, of `sysctl`), how bad, and words of the finding."""

    code: str
    severity: str
    says: str
    ip: tuple[str, ...] = ()
    sysctl: tuple[tuple[str, str], ...] = ()


BROKEN = {
    "a foreign rule": Broken(
        "rule-before",
        "FAIL",
        "rule 100: from 10.0.2.0/24 lookup main, not nicwatchd's, leads packets out by eth0:"
        " 10.0.2.11 and 1 more answer nobody there.",
        ip=("rule add pref 100 from 10.0.2.0/24 lookup main",),
    ),
    "a foreign rule that rejects": Broken(
        "rule-before",
        "FAIL",
        "leads packets nowhere: 2001:db8:ec2:2::11 answers nobody there.",
        ip=("-6 rule add pref 100 from 2001:db8:ec2:2::11 unreachable",),
    ),
    "an error route": Broken(
        "error-route",
        "WARN",
        "the best IPv6 default route of the main table is an error route",
        ip=("-6 route add unreachable default metric 10",),
    ),
    "an error route of IPv4": Broken(
        "error-route", "WARN", "prohibit default", ip=("route add prohibit default metric 10",)
    ),
    "a link that is down": Broken(
        "link-down", "FAIL", "eth1 (eni-00000020000000002) is down", ip=("link set eth1 down",)
    ),
    "no IPv6 on the link": Broken(
        "ipv6-off",
        "FAIL",
        "IPv6 is off on eth1, but EC2 has 2001:db8:ec2:2::11 for it.",
        sysctl=(("ipv6/conf/eth1/disable_ipv6", "1"),),
    ),
    "an MTU that is too small": Broken(
        "mtu", "FAIL", "the MTU of eth1 is 1000", ip=("link set eth1 mtu 1000",)
    ),
    "an MTU that is too large": Broken(
        "mtu", "WARN", "a VPC drops packets over 9001 bytes", ip=("link set eth1 mtu 9200",)
    ),
    "forwarding": Broken(
        "accept-ra",
        "WARN",
        "eth0 forwards IPv6 and has accept_ra=1: the kernel ignores router advertisements",
        sysctl=(("ipv6/conf/all/forwarding", "1"),),
    ),
}
RULES = [kind for kind, broken in BROKEN.items() if "rule" in broken.code or "route" in broken.code]
LINKS = [kind for kind in BROKEN if kind not in RULES]


@pytest.mark.parametrize("kinds", [RULES, LINKS], ids=["ways", "links"])
async def test_what_is_broken_is_found_and_mended(kinds: list[str]) -> None:
    """One after the other on one host."""
    async with ec2_host(ETH1, watched=False) as host:
        doctor = await furnished(host)
        for kind in kinds:
            broken = BROKEN[kind]
            for words in broken.ip:
                await host.ip(words)
            for name, value in broken.sysctl:
                host.vpc.sysctl(host.vpc.host, {name: value})
            finding = await doctor.one(broken.code)
            assert finding["severity"] == broken.severity
            assert broken.says in finding["text"]
            await doctor.mend(finding)
            await host.until("eth1", complete)
            assert await doctor.codes() == [], kind


async def test_rules_of_our_priority_that_came_later_than_ours() -> None:
    """While the daemon runs, it puts its own behind them."""
    async with ec2_host(ETH1) as host:
        doctor = await furnished(host)
        await host.daemon.stop()
        await host.ip("route add default via 10.0.2.1 dev eth1 table 77")
        await host.ip("rule add pref 32765 from 10.0.2.12 lookup 77")
        assert await doctor.codes() == ["daemon", "rule-behind"], "it was not asked to stop"
        _, finding = await doctor.findings()
        assert finding["severity"] == "WARN"
        assert finding["text"].startswith("rule 32765: from 10.0.2.12 lookup 77, not nicwatchd's,")
        await doctor.mend(finding)
        assert await doctor.codes() == ["daemon"]
        assert "32764:\tfrom 10.0.2.12 lookup 77" in await host.ip("rule")


async def test_a_containers_address_on_the_hosts_own_link() -> None:
    """The host would take what is for the container."""

    async def misplaced(ec2: Ec2) -> None:
        await ec2.plug("eth1")
        await ec2.vpc.ip(
            ec2.vpc.host,
            "link add c-box type veth peer name c-far",
            "link set c-box up",
            "link set eth1 up",
            "addr add 10.0.2.12/32 dev eth1",
            "route add 10.0.2.12/32 dev c-box",
        )

    async with ec2_host(ETH1, before=misplaced, judged=False) as host:
        await host.until("eth1", complete)
        doctor = Doctor.of(host)
        finding = await doctor.one("container-address")
        assert finding["text"].startswith("10.0.2.12 is on eth1 itself, and a route leads to it by")
        await doctor.mend(finding)
        # The daemon has seen that somebody took it away, and says so.
        assert await doctor.codes() == []
        assert "10.0.2.12" not in await host.ip("addr show dev eth1")


# --- without a daemon --------------------------------------------------------------------------


async def test_an_eni_that_nobody_serves() -> None:
    """Found without a daemon; the daemon mends it."""
    async with Ec2(Scenario(PRIMARY.mac, (PRIMARY, ETH1)), dhcp.BEATS) as ec2:
        config = ec2.vpc.runtime_dir / "nicwatchd.toml"
        config.write_text(DEFAULT)
        doctor = Doctor(ec2, config)
        assert await doctor.codes() == []
        await leases(ec2)
        found = await doctor.findings()
        assert {finding["code"] for finding in found} == {"default-route", "new-subnet"}
        beaten = [f for f in found if f["code"] == "default-route"]
        assert [f["severity"] for f in beaten] == ["FAIL", "FAIL"]
        assert "IPv4 leaves by eth1 (metric 100), not by eth0: 10.0.1.10" in beaten[0]["text"]
        for finding in beaten:
            await doctor.mend(finding)
        found = await doctor.findings()
        assert {finding["code"] for finding in found} == {"unserved", "new-subnet"}
        assert await doctor.mend(found[0]) == ["enable --now nicwatchd"]
        daemon = await ec2.start_daemon(DEFAULT)
        await daemon.until("eth1", complete)
        assert await doctor.codes() == []


async def test_a_default_route_that_ties() -> None:
    async with Ec2(Scenario(PRIMARY.mac, (PRIMARY, ETH1)), dhcp.TIES) as ec2:
        config = ec2.vpc.runtime_dir / "nicwatchd.toml"
        config.write_text(DEFAULT)
        doctor = Doctor(ec2, config)
        await leases(ec2)
        found = [f for f in await doctor.findings() if f["code"] == "default-route"]
        assert "have the same metric (1024): which of them is used is chance" in found[-1]["text"]
        for finding in found:
            await doctor.mend(finding)
        assert "default-route" not in await doctor.codes()


async def test_hosts_of_a_new_subnet_that_the_settings_leave_without_the_primary() -> None:
    config = 'primary = "leave"\n' + DEFAULT
    async with ec2_host(ETH1, config=config, judged=False) as host:
        await leases(host.ec2)
        await host.until("eth1", complete)
        await host.checked()
        doctor = Doctor.of(host)
        found = await doctor.findings()
        assert [finding["code"] for finding in found] == ["new-subnet"]
        assert found[0]["text"].startswith("hosts in 10.0.2.0/24 no longer reach 10.0.1.10: ")
        assert await doctor.mend(found[0]) == ["reload nicwatchd"]
        await host.reload(host.daemon.config.read_text())
        await all_answer(host.vpc, paths(host.vpc.peers(*host.vpc.enis), PRIMARY_ADDRESSES), WITHIN)
        assert await doctor.codes() == []


# --- IMDS --------------------------------------------------------------------------------------

OWNER_MATCH = """
table inet hardening {
  chain output {
    type filter hook output priority 0;
    ip daddr 169.254.169.254 meta skuid != 65533 reject
    ip6 daddr fd00:ec2::254 meta skuid != 65533 drop
  }
}
"""
DROPS = OWNER_MATCH.replace("meta skuid != 65533 reject", "drop").replace(
    "meta skuid != 65533 drop", "drop"
)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (
            OWNER_MATCH,
            "only uid 65533 may talk to 169.254.169.254 (nft table inet hardening, chain",
        ),
        (DROPS, "the firewall drops what nicwatchd (uid 0) sends to 169.254.169.254 (nft table"),
    ],
    ids=["owner", "drop"],
)
async def test_a_firewall_before_imds(rules: str, says: str) -> None:
    async with ec2_host(ETH1) as host:
        doctor = await furnished(host)
        await host.vpc._do(netns.nft, host.vpc.host, rules)
        finding = await doctor.one("imds-firewall")
        assert finding["severity"] == "FAIL"
        assert says in finding["text"]
        await doctor.mend(finding)
        assert await doctor.codes() == []


MOUNT = f'mount -t overlay software -o "lowerdir={UNPACKED}/usr:/usr" /usr; exec "$@"'
WITH_IPTABLES = ("unshare", "-m", "sh", "-c", MOUNT, "sh")


async def is_refused(host: HostUnderTest) -> bool:
    imds = (await host.daemon.get("/v1/status"))["imds"]
    return bool(imds["state"] == "unreachable")


async def test_a_firewall_of_iptables() -> None:
    """Docker's iptables publishes a port, and a rule of the old guide keeps others from IMDS."""
    async with ec2_host(ETH1) as host:
        doctor = await furnished(host)
        tables = Software(host.vpc, host.vpc.host)
        refuse = "-m owner ! --uid-owner 65533 -j REJECT"
        lines = {"iptables-nft": "169.254.169.254", "ip6tables-nft": "fd00:ec2::254"}
        for program, address in lines.items():
            await tables.run(program, "-A", "OUTPUT", "-d", address, *refuse.split())
        dnat = "-t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 172.18.0.2:80"
        await tables.run("iptables-nft", *dnat.split())
        firewall, port = (await doctor.examine(WITH_IPTABLES))["findings"]
        assert (firewall["code"], port["code"]) == ("imds-firewall", "published-port")
        assert "only uid 65533 may talk to 169.254.169.254 (iptables -A OUTPUT" in firewall["text"]
        assert firewall["mend"] == (
            "sudo iptables -I OUTPUT -d 169.254.169.254 -m owner --uid-owner 0 -j ACCEPT"
        )
        # What the daemon says of IMDS is of before, until it asks again.
        await eventually(lambda: is_refused(host))
        await tables.run(*firewall["mend"].replace("iptables", "iptables-nft").split()[1:])
        assert (await doctor.examine(WITH_IPTABLES))["findings"] == [port]


OPTIONS = "aws ec2 modify-instance-metadata-options --instance-id INSTANCE-ID"


WHO_ASKS = "sudo ss -tnp dst 169.254.169.254   # who asks it? EC2 ends it a second after they do"


@pytest.mark.parametrize(
    ("do", "code", "mend"),
    [
        ("403", "imds-disabled", f"{OPTIONS} --http-endpoint enabled"),
        ("timeout", "imds-hop-limit", f"{OPTIONS} --http-put-response-hop-limit 2"),
        ("503", "imds-throttled", WHO_ASKS),
        ("refuse", "imds-unreachable", None),
    ],
)
async def test_imds_that_does_not_answer(do: Do, code: str, mend: str | None) -> None:
    async with ec2_host(ETH1) as host:
        doctor = await furnished(host)
        host.imds.fault("token", do)
        finding = await doctor.one(code)
        if mend:
            assert finding["mend"] == mend
        host.imds.clear()  # as the remedy has it done, outside

        async def mended() -> bool:  # the daemon asks again after a while
            return await doctor.codes() == []

        await eventually(mended)


# --- containers, software, and nicwatchd itself ------------------------------------------------


async def test_published_ports() -> None:
    async with ec2_host(ETH1) as host:
        ipv4, ipv6 = IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64")
        box = await containers.bridged(host.vpc, ipv4, ipv6)
        await docker_nftables(host, box)
        doctor = await furnished(host)
        found = await doctor.findings()
        assert [finding["code"] for finding in found] == ["published-port"] * 2
        assert [finding["severity"] for finding in found] == ["WARN"] * 2
        text = f"tcp port {PUBLISHED} -> 172.18.0.2 does not answer on 10.0.2.11 (eth1), nor do 1"
        assert found[0]["text"].startswith(text)
        assert await doctor.mend(found[0]) == ["reload nicwatchd"]
        await host.reload(host.daemon.config.read_text())
        async with answering(host, box):
            eni = host.eni("eth1")
            await all_published(host, paths(host.vpc.peers(eni), eni.addresses()))
        assert await doctor.codes() == []
        host.vpc.sysctl(host.vpc.host, {"ipv4/conf/all/rp_filter": "1"})
        strict = await doctor.findings()
        assert {finding["code"] for finding in strict} == {"rp-filter"}
        await doctor.mend(strict[0])

        async def mended() -> bool:  # the daemon looks at sysctls every few seconds
            return await doctor.codes() == []

        await eventually(mended)


async def test_networkd_without_its_drop_in() -> None:
    async with ec2_host(ETH1) as host:
        doctor = await furnished(host)
        doctor.write(NETWORKD, "")
        other = "/usr/lib/systemd/networkd.conf.d/10-other.conf"
        doctor.write(other, "[Network]\nSpeedMeter=no\n")
        finding = await doctor.one("networkd-drop-in")
        assert await doctor.mend(finding) == ["restart systemd-networkd"]
        assert await doctor.codes() == []


async def test_a_name_server_that_an_eni_does_not_reach() -> None:
    async with Ec2(Scenario(PRIMARY.mac, (PRIMARY, ETH1))) as ec2:
        config = ec2.vpc.runtime_dir / "nicwatchd.toml"
        config.write_text(DEFAULT)
        doctor = Doctor(ec2, config)
        await ec2.plug("eth1")
        await ec2.vpc.exec(ec2.vpc.host, "ip", "link", "set", "eth1", "up")
        file = f"/run/systemd/resolve/netif/{ec2.vpc.ifindex(ec2.eni('eth1'))}"
        doctor.write("/run/systemd/resolve/resolv.conf", "")
        doctor.write(file, "SERVERS=10.0.0.2\n")
        finding = await doctor.one("dns")
        assert finding["text"].startswith("systemd-resolved asks 10.0.0.2 by eth1, which does not")
        assert await doctor.mend(finding) == ["resolvectl revert eth1"]
        daemon = await ec2.start_daemon(DEFAULT)  # ... or by this: its rules lead there
        await daemon.until("eth1", complete)
        assert await doctor.codes() == []


async def test_cloud_inits_hotplug() -> None:
    async with ec2_host(ETH1) as host:
        doctor = await furnished(host)
        rule = "/usr/lib/udev/rules.d/90-cloud-init-hook-hotplug.rules"
        doctor.write(rule, "a rule\n")
        finding = await doctor.one("other-manager")
        assert finding["severity"] == "WARN"
        says = f"cloud-init hotplug configures ENIs, too (its udev rule {rule})"
        assert finding["text"].startswith(says)
        assert finding["mend"].splitlines()[-1] == "sudo nicwatchd migrate"
        doctor.write(rule.replace("/usr/lib", "/etc"), "")  # as a migration masks it
        assert await doctor.codes() == []


async def test_a_daemon_that_hangs_or_has_nothing_to_do() -> None:
    async with ec2_host(ETH1, watched=False, judged=False) as host:
        doctor = await furnished(host)
        await host.daemon.post("/v1/release")
        found = {finding["code"]: finding for finding in await doctor.findings()}
        assert {"released"} <= found.keys() <= {"released", "unserved"}
        await doctor.mend(found["released"])
        await host.until("eth1", complete)
        assert await doctor.codes() == []
        host.daemon.process.send_signal(signal.SIGSTOP)
        finding = await doctor.one("daemon")
        assert await doctor.mend(finding) == ["restart nicwatchd"]
        host.daemon.process.send_signal(signal.SIGCONT)
        assert await doctor.codes() == []


async def test_wrong_settings() -> None:
    async with ec2_host(ETH1) as host:
        doctor = await furnished(host)
        config = host.daemon.config
        config.write_text(DEFAULT.replace("drivers", "driverz"))
        finding = (await doctor.findings())[0]
        assert (finding["code"], finding["severity"]) == ("settings", "FAIL")
        assert "did you mean 'drivers'?" in finding["text"]
        config.write_text(DEFAULT)
        assert await doctor.codes() == []


async def test_a_nic_without_a_carrier() -> None:
    async with ec2_host(ETH1, judged=False) as host:
        doctor = await furnished(host)
        await host.vpc.kill(host.eni("eth1"), carrier=False)
        finding = await doctor.one("no-carrier")
        eni = ETH1.facts()["interface-id"]
        attach = f"aws ec2 attach-network-interface --network-interface-id {eni} --instance-id "
        assert finding["mend"].startswith(attach)


async def test_what_a_plain_user_can_see() -> None:
    """What needs root is named, and no reason to fail."""
    if is_the_only_user():
        return
    async with ec2_host(ETH1) as host:
        doctor = await furnished(host)
        said = await doctor.examine(wrapper=AS_NOBODY)
        assert said["findings"] == []
        assert "the firewall (run this as root)" in said["not_looked_at"]
        assert "published ports" not in said["ok"]


async def test_it_changes_nothing() -> None:
    async with ec2_host(ETH1) as host:
        doctor = await furnished(host)
        directory = host.vpc.runtime_dir
        await host.checked()
        before = (await host.kernel_objects(), files_in(directory))
        async with host.changes("link", "address", "route", "rule") as changes:
            await doctor.text()
            await doctor.examine()
        assert changes == []
        assert (await host.kernel_objects(), files_in(directory)) == before
