"""Ports that containers publish on the host's addresses, with `forwarded = "connmark"`."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim import containers, netns, probe
from nicwatchd.sim.parts import Peer
from nicwatchd.sim.probe import Acceptor, all_answer, paths, reach
from tests.scenarios.host import (
    WITHIN,
    HostUnderTest,
    codes,
    complete,
    ec2_host,
    numbered,
    settings,
)
from tests.scenarios.programs import IN_TUNNEL, WireGuard
from tests.scenarios.publishing import (
    FORMS,
    PUBLISHED,
    STRICT_IPV6,
    all_published,
    answering,
    docker_nftables,
    firewalld,
    kube_proxy,
    silent,
)
from tests.scenarios.software import eventually

pytestmark = pytest.mark.long


CONNMARK = settings(forwarded="connmark")
NET6 = "2001:db8:ec2:2::"
BRIDGED = (IPv4Network("172.18.0.0/24"), IPv6Network("fd00:18::/64"))


async def bridged(host: HostUnderTest) -> Peer:
    return await containers.bridged(host.vpc, *BRIDGED)


def to(host: HostUnderTest, *names: str, family: Family | None = None) -> tuple[probe.Path, ...]:
    """From everybody to all addresses of these ENIs, or to those of a family."""
    enis = [host.eni(name) for name in names]
    families = [family] if family else list(Family)
    return paths(host.vpc.peers(*enis), [ip for eni in enis for ip in eni.addresses(*families)])


@pytest.mark.parametrize("form", FORMS)
async def test_a_published_port_answers_on_every_eni(form: str) -> None:
    async with ec2_host(numbered(1), numbered(2), config=CONNMARK) as host:
        box = await bridged(host)
        await FORMS[form](host, box, "br0")
        await host.plug("eth1")
        await host.until("eth1", complete)
        async with answering(host, box):
            await all_published(host, to(host, "eth0", "eth1"))
            await host.plug("eth2")
            await host.until("eth2", complete)
            await all_published(host, to(host, "eth0", "eth1", "eth2"))


async def test_a_connection_that_began_before_is_answered() -> None:
    """Its mark comes with its next packet: here, with the caller's next try to connect."""
    async with ec2_host(numbered(1)) as host:
        box = await bridged(host)
        await docker_nftables(host, box)
        await host.plug("eth1")
        await host.until("eth1", complete)

        async def has_called() -> bool:
            listed = await host.vpc.exec(host.vpc.host, "nft", "list", "ruleset")
            called = re.findall(r"tcp dport 8080 counter packets (\d+)", listed)
            return sum(map(int, called)) == len(calls)

        async with answering(host, box):
            far, eth1 = host.vpc.far_hosts[0], host.eni("eth1")
            call = partial(reach, host.vpc, far.namespace, port=PUBLISHED, timeout=WITHIN)
            calls = [
                asyncio.create_task(call(ip, source=far.address(Family(ip.version))))
                for ip in eth1.addresses()
            ]
            await eventually(has_called)
            assert not any(each.done() for each in calls)
            host.daemon.config.write_text(CONNMARK, encoding="utf-8")
            host.daemon.process.send_signal(signal.SIGHUP)
            assert all(await asyncio.gather(*calls))


async def test_a_node_port_whose_pod_is_on_another_host() -> None:
    """What the pod answers comes back by the primary, and goes on by the ENI that was asked."""
    async with ec2_host(numbered(1), config=CONNMARK) as host:
        containers.forward(host.vpc)
        pod = host.vpc.neighbour(host.vpc.primary.subnet)
        await kube_proxy(host, pod)
        await host.plug("eth1")
        await host.until("eth1", complete)
        async with answering(host, pod):
            await all_published(host, to(host, "eth0", "eth1"))


async def test_without_the_setting_it_does_not() -> None:
    """What the setting is for; and nothing of it is there."""
    async with ec2_host(numbered(1)) as host:
        box = await bridged(host)
        await docker_nftables(host, box)
        await host.plug("eth1")
        await host.until("eth1", complete)
        async with answering(host, box):
            await all_published(host, to(host, "eth0"))
            assert await silent(host, to(host, "eth1"))
        assert "nicwatchd" not in await host.vpc.exec(host.vpc.host, "nft", "list", "tables")
        assert "fwmark" not in await host.ip("rule")


V4, V6 = IPv4Network("10.0.2.64/28"), IPv6Network("2001:db8:ec2:2:1::/80")
WITH_PREFIX = numbered(1, ipv4_prefixes=(str(V4),), ipv6_prefixes=(str(V6),))


async def test_a_container_with_an_address_of_a_prefix_publishes_on_every_eni() -> None:
    """Its answers leave by the ENI that was asked: the primary, another, or the prefix' own."""
    async with ec2_host(WITH_PREFIX, numbered(2), config=CONNMARK) as host:
        box = await containers.delegated(host.vpc, "c-box", V4[5], V6[5])
        await docker_nftables(host, box, "c-box")
        async with answering(host, box):
            for names in (["eth1"], ["eth2"]):
                await host.plug(*names)
                await host.until(names[0], complete)
            await all_published(host, to(host, "eth0", "eth1", "eth2"))
            # It is reached by its own address, too.
            own = paths(host.vpc.peers(host.eni("eth1")), box.addresses)
            await all_answer(host.vpc, own)
            async with Acceptor(host.vpc, host.vpc.far):
                for far in host.vpc.far_hosts:
                    for peer in far.addresses:
                        reply = await reach(host.vpc, box.namespace, peer)
                        assert reply is not None
                        assert reply.seen_as == host.eni("eth1").addresses(Family(peer.version))[0]


async def test_a_container_with_an_address_that_lives_elsewhere() -> None:
    eth1 = numbered(1, ipv4=("10.0.2.11", "10.0.2.50"), ipv6=(f"{NET6}11", f"{NET6}50"))
    async with ec2_host(eth1, config=CONNMARK) as host:
        ipv4, ipv6 = IPv4Address("10.0.2.50"), IPv6Address(f"{NET6}50")
        box = await containers.delegated(host.vpc, "c-box", ipv4, ipv6)
        await docker_nftables(host, box, "c-box")
        await host.plug("eth1")
        await host.until("eth1", complete)
        async with answering(host, box):
            peers = host.vpc.peers(host.eni("eth1"))
            first = [ip for ip in host.eni("eth1").addresses() if ip not in box.addresses]
            await all_published(host, paths(peers, [*host.eni("eth0").addresses(), *first]))


async def test_the_host_and_its_containers_reach_what_is_published() -> None:
    """Hairpins, and the host's own output, go as before."""
    async with ec2_host(numbered(1), config=CONNMARK) as host:
        box = await bridged(host)
        other = await containers.bridged(
            host.vpc, IPv4Network("172.19.0.0/24"), IPv6Network("fd00:19::/64"), "br1"
        )
        await docker_nftables(host, box)
        await host.plug("eth1")
        await host.until("eth1", complete)
        async with answering(host, box), Acceptor(host.vpc, host.vpc.far):
            itself = Peer("the host", host.vpc.host, None, None)
            for name in ("eth0", "eth1"):
                eni = host.eni(name)
                here = Peer("the host", host.vpc.host, eni.ipv4[0], eni.ipv6[0])
                await all_published(host, paths([here, other], eni.addresses()))
            for far in host.vpc.far_hosts:
                for ip in far.addresses:
                    for client in (itself, box):
                        reply = await reach(host.vpc, client.namespace, ip)
                        assert reply is not None
                        assert reply.seen_as in host.eni("eth0").addresses()


# Others' marks, in their own numbers: Tailscale's and firewalld's on connections, the VPC CNI's.
OTHERS = """
table inet others {
  counter kept { }
  counter changed { }
  chain marking {
    type filter hook prerouting priority mangle + 1; policy accept;
    iifname "eth*" ct state new tcp dport 8080 ct mark set ct mark & 0xff00ffff | 0x00040000
    iifname "eth*" ct state new tcp dport 8080 ct mark set ct mark & 0xffffff7f | 0x00000080
  }
  chain judging {
    type filter hook postrouting priority mangle; policy accept;
    ct direction original return
    ct status & dnat == 0 return
    tcp sport 7777 ct mark & 0x80ffffff == 0x00040080 counter name kept
    tcp sport 7777 ct mark & 0x80ffffff != 0x00040080 counter name changed
  }
}
table ip filter {
  chain FORWARD {
    type filter hook forward priority filter; policy accept;
    meta mark & 0x00ff0000 == 0x00040000 counter accept
  }
}
"""


async def ruleset(host: HostUnderTest) -> tuple[str, str]:
    """What others have in nftables, handles and all but counts; and our table."""
    shown = await host.vpc.exec(host.vpc.host, "nft", "-s", "-a", "list", "ruleset")
    tables = re.split(r"^(?=table )", shown, flags=re.MULTILINE)
    ours = [table for table in tables if table.startswith("table inet nicwatchd")]
    counts = re.compile(r"packets \d+ bytes \d+")
    others = [counts.sub("", table) for table in tables if table not in ours]
    return "".join(others), "".join(ours)


async def until_ours(host: HostUnderTest, is_so: Callable[[str], bool]) -> None:
    """Wait for our table to be so."""

    async def looks() -> bool:
        return is_so((await ruleset(host))[1])

    await eventually(looks)


async def until_marked(host: HostUnderTest, *names: str) -> None:
    """Wait until our table marks what comes in by these ENIs, and no other; once each."""
    indices = sorted(host.vpc.ifindex(host.eni(name)) for name in names)

    def is_so(text: str) -> bool:
        chains = [re.findall(rf"chain {way}_(\d+) ", text) for way in ("from", "to")]
        return all(sorted(map(int, found)) == indices for found in chains)

    await until_ours(host, is_so)


@pytest.mark.lasts(20)
@pytest.mark.parametrize("form", FORMS)
async def test_what_others_have_stays_and_ours_is_healed(form: str) -> None:
    """Through attach, deletion by others, a restart, a kill, and release."""
    async with ec2_host(numbered(1), config=CONNMARK, judged=False) as host:
        box = await bridged(host)
        await FORMS[form](host, box, "br0")
        await host.vpc._do(netns.nft, host.vpc.host, OTHERS)
        await host.ip("rule add pref 5210 fwmark 0x80000/0xff0000 lookup main")
        await host.ip("rule add pref 5230 fwmark 0x80000/0xff0000 lookup default")
        before, rules = (await ruleset(host))[0], await foreign_rules(host)

        async def as_before() -> None:
            assert (await ruleset(host))[0] == before
            assert await foreign_rules(host) == rules

        await host.plug("eth1")
        await host.until("eth1", complete)
        async with answering(host, box):
            await all_published(host, to(host, "eth0", "eth1"))
            await as_before()
            for harm in ("delete table inet nicwatchd", "flush table inet nicwatchd"):
                await host.vpc.exec(host.vpc.host, "nft", *harm.split())
                await until_ours(host, lambda text: "vmap" in text)
                await all_published(host, to(host, "eth0", "eth1"))
                await as_before()
            ours = (await ruleset(host))[1]
            for end in (host.daemon.stop, host.daemon.kill):
                await end()
                await all_published(host, to(host, "eth0", "eth1"))
                await host.daemon.start(CONNMARK)
                await host.until("eth1", complete)
                await host.daemon.post("/v1/reconcile")
                assert (await ruleset(host))[1] == ours, "adopted, handles and all"
                await all_published(host, to(host, "eth1"))
            said = await host.vpc.exec(
                host.vpc.host, "nft", "list", "counters", "table", "inet", "others"
            )
            kept, changed = re.findall(r"packets (\d+)", said)
            assert int(kept) > 0
            assert int(changed) == 0
            await host.daemon.post("/v1/release")
            await as_before()
            assert (await ruleset(host))[1] == ""
            assert "proto 236" not in await host.ip("rule")
            await all_published(host, to(host, "eth0"))


async def through_all(host: HostUnderTest, holds: Callable[[], Awaitable[None]]) -> None:
    """Attach, heal, restart, kill, release: what others have stays, and this holds after each."""
    before, rules = (await ruleset(host))[0], await foreign_rules(host)

    async def as_before() -> None:
        assert (await ruleset(host))[0] == before
        assert await foreign_rules(host) == rules
        await holds()

    await as_before()
    await host.plug("eth1")
    await host.until("eth1", complete)
    await until_marked(host, "eth0", "eth1")
    await as_before()
    await host.vpc.exec(host.vpc.host, "nft", "delete", "table", "inet", "nicwatchd")
    await until_marked(host, "eth0", "eth1")
    await as_before()
    for end in (host.daemon.stop, host.daemon.kill):
        await end()
        await host.daemon.start(CONNMARK)
        await host.until("eth1", complete)
        await as_before()
    await host.daemon.post("/v1/release")
    await as_before()


@pytest.mark.lasts(20)
async def test_a_full_tunnel_of_wireguard_is_untouched() -> None:
    """wireguard-go and wg-quick, whose rules come first: the host calls through the tunnel."""
    async with ec2_host(numbered(1), config=CONNMARK, judged=False) as host:
        tunnel = WireGuard(host)
        await tunnel.up()
        assert "wg-quick" in (await ruleset(host))[0]
        assert any("0xca6c" in rule for rule in await foreign_rules(host))

        async def through() -> bool:
            far = host.vpc.far_hosts[:-1]  # the last is the tunnel's other end
            calls = (reach(host.vpc, host.vpc.host, ip) for of in far for ip in of.addresses)
            replies = await asyncio.gather(*calls)
            return {str(reply and reply.seen_as) for reply in replies} == IN_TUNNEL

        async def holds() -> None:
            await eventually(through)
            await host.all_reachable("eth0")

        async with Acceptor(host.vpc, host.vpc.far):
            await through_all(host, holds)
            await tunnel.down()


# What tailscaled has on a subnet router, in its own numbers, by text; tailscale0 is c-ts0 here.
# Without its drop of 100.64.0.0/10 from elsewhere: that is the VPC's second CIDR here.
TAILSCALE = """
table {family} filter {{
  chain ts-forward {{
    iifname "c-ts0" counter meta mark set meta mark & 0xff00ffff | 0x00040000
    meta mark & 0x00ff0000 == 0x00040000 counter accept
    oifname "c-ts0" counter accept
  }}
  chain FORWARD {{ type filter hook forward priority filter; policy accept; jump ts-forward; }}
}}
table {family} nat {{
  chain ts-postrouting {{ meta mark & 0x00ff0000 == 0x00040000 counter masquerade; }}
  chain POSTROUTING {{
    type nat hook postrouting priority srcnat; policy accept;
    jump ts-postrouting
  }}
}}
"""
TAILSCALE_RULES = (
    "pref 5210 fwmark 0x80000/0xff0000 lookup main",
    "pref 5230 fwmark 0x80000/0xff0000 lookup default",
    "pref 5250 fwmark 0x80000/0xff0000 unreachable",
    "pref 5270 lookup 52",
)


@pytest.mark.lasts(20)
async def test_tailscale_s_tables_and_rules_are_untouched() -> None:
    """A peer of the tailnet reaches the host, and by it, as a subnet router, the far hosts."""
    async with ec2_host(numbered(1), config=CONNMARK, judged=False) as host:
        own = IPv4Address("100.101.1.2"), IPv6Address("fd7a:115c:a1e0::2")
        peer = await containers.delegated(host.vpc, "c-ts0", *own)
        for family, ip in (("ip", own[0]), ("ip6", own[1])):
            await host.vpc._do(netns.nft, host.vpc.host, TAILSCALE.format(family=family))
            v = f"-{ip.version}"
            await host.ip(f"{v} route del {ip} dev c-ts0")
            await host.ip(f"{v} route add {ip} dev c-ts0 table 52")
            for rule in TAILSCALE_RULES:
                await host.ip(f"{v} rule add {rule}")
        beyond = [ip for far in host.vpc.far_hosts for ip in far.addresses]

        async def routed() -> bool:
            calls = (reach(host.vpc, peer.namespace, ip) for ip in beyond)
            seen = {reply and reply.seen_as for reply in await asyncio.gather(*calls)}
            return seen == set(host.vpc.primary.addresses())

        async def holds() -> None:
            await all_answer(host.vpc, paths([peer], host.vpc.primary.addresses()), WITHIN)
            await eventually(routed)

        async with Acceptor(host.vpc, host.vpc.far):
            await through_all(host, holds)


async def foreign_rules(host: HostUnderTest) -> list[str]:
    """The rules of others, both families."""
    lines = [*(await host.ip("rule")).splitlines(), *(await host.ip("-6 rule")).splitlines()]
    return [line for line in lines if "proto 236" not in line]


async def test_the_table_goes_with_the_last_eni_and_with_the_setting() -> None:
    async with ec2_host(numbered(1), numbered(2), config=CONNMARK) as host:
        await host.plug("eth1", "eth2")
        for name in ("eth1", "eth2"):
            await host.until(name, complete)
        await until_marked(host, "eth0", "eth1", "eth2")
        await host.ec2.unplug("eth2")
        await until_marked(host, "eth0", "eth1")
        await host.ec2.unplug("eth1")
        await until_ours(host, lambda text: not text)
        await eventually_no_marks(host)
        await host.daemon.post("/v1/reconcile")
        assert await host.own_rules() == []
        await host.plug("eth1")
        await host.until("eth1", complete)
        await until_marked(host, "eth0", "eth1")
        # A released ENI is not marked; and with the setting off, at a reload or a restart, none is.
        await host.daemon.post("/v1/release?interface=eth1")
        assert (await ruleset(host))[1] == ""
        await host.daemon.post("/v1/reconcile")
        await until_marked(host, "eth0", "eth1")
        host.daemon.config.write_text(settings(), encoding="utf-8")
        host.daemon.process.send_signal(signal.SIGHUP)
        await until_ours(host, lambda text: not text)
        await eventually_no_marks(host)
        host.daemon.config.write_text(CONNMARK, encoding="utf-8")
        host.daemon.process.send_signal(signal.SIGHUP)
        await until_marked(host, "eth0", "eth1")
        await host.daemon.stop()
        await host.daemon.start(settings())
        await until_ours(host, lambda text: not text)
        await eventually_no_marks(host)


async def eventually_no_marks(host: HostUnderTest) -> None:
    async def none() -> bool:
        return "fwmark" not in await host.ip("rule") + await host.ip("-6 rule")

    await eventually(none)


async def test_a_release_without_a_daemon_removes_the_table() -> None:
    async with ec2_host(numbered(1), config=CONNMARK, judged=False) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await until_ours(host, bool)
        await host.daemon.stop()
        where = ("--runtime-directory", str(host.vpc.runtime_dir))
        command = (sys.executable, "-m", "nicwatchd.cli.main", "release", "--all", *where)
        await host.vpc.exec(host.vpc.host, *command)
        assert (await ruleset(host))[1] == ""
        assert "proto 236" not in await host.ip("rule") + await host.ip("-6 rule")


async def test_without_nft_the_rest_of_the_eni_is_served() -> None:
    """A note says so; once nft is there, the ports answer."""
    hidden = 'mount --bind /dev/null /usr/sbin/nft; exec "$@"'
    wrapper = ("unshare", "-m", "sh", "-c", hidden, "sh")
    async with ec2_host(numbered(1), config=CONNMARK, wrapper=wrapper) as host:
        box = await bridged(host)
        await docker_nftables(host, box)
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        assert "nft-missing" in codes((await host.status("eth1"))["notes"])
        assert (await ruleset(host))[1] == ""
        assert "fwmark" not in await host.ip("rule")
        await host.daemon.stop()
        await host.daemon.start(CONNMARK)
        await host.until("eth1", complete)
        async with answering(host, box):
            await all_published(host, to(host, "eth0", "eth1"))
        assert "nft-missing" not in codes((await host.status("eth1"))["notes"])


@pytest.mark.parametrize("family", ["-4", "-6"])
async def test_bits_of_others_are_left_to_them(family: str) -> None:
    """Whether their rule is older or younger than ours; other bits help."""
    async with ec2_host(numbered(1), config=CONNMARK) as host:
        box = await bridged(host)
        await docker_nftables(host, box)
        await host.plug("eth1")
        await host.until("eth1", complete)
        await until_ours(host, bool)
        # A whole number takes one mark, and not the bits: WireGuard's, and one of ours.
        marks = re.findall(r"fwmark (0x[0-9a-f]+)/0x7f000000", await host.ip("rule"))
        await host.ip(f"{family} rule add pref 700 not fwmark 0xca6c lookup 99")
        await host.ip(f"{family} rule add pref 701 fwmark {marks[0]} lookup 99")
        await until_ours(host, lambda text: bool(text) and f"0x{int(marks[0], 16):08x}" not in text)
        async with answering(host, box):
            await all_published(host, to(host, "eth0", "eth1"))
            rule = "pref 5210 fwmark 0x1000000/0x3000000 lookup 99"
            await host.ip(f"{family} rule add {rule}")
            await until_ours(host, lambda text: not text)
            status = await host.until("eth1", complete)
            assert "mark-taken" in codes((await host.status("eth1"))["notes"])
            await host.all_reachable("eth1")
            config = settings(forwarded="connmark", forwarded_mask=0x7C)
            host.daemon.config.write_text(config, encoding="utf-8")
            host.daemon.process.send_signal(signal.SIGHUP)
            await until_ours(host, bool)
            await all_published(host, to(host, "eth0", "eth1"))
            assert "mark-taken" not in codes((await host.status("eth1"))["notes"])
            assert status["table"]


@pytest.mark.parametrize("first", ["filter", "eni"])
async def test_a_strict_reverse_path_filter_is_told_and_a_loose_one_passes(first: str) -> None:
    """In IPv4. By its sysctl alone, whatever else `forwarded` would do, the calls are dropped."""
    strict = {f"ipv4/conf/{name}/rp_filter": "1" for name in ("all", "default", "eth0")}
    async with ec2_host(numbered(1), config=CONNMARK) as host:
        box = await bridged(host)
        await docker_nftables(host, box)
        if first == "filter":
            host.vpc.sysctl(host.vpc.host, strict)
        await host.plug("eth1")
        await host.until("eth1", complete)
        if first == "eni":
            host.vpc.sysctl(host.vpc.host, strict)
        await notes(host, "eth1", "strict-filter", there=True)
        async with answering(host, box):
            await all_published(host, to(host, "eth0"))
            by_ipv4 = to(host, "eth1", family=Family.V4)
            await all_published(host, to(host, "eth1", family=Family.V6))
            assert len(await silent(host, by_ipv4)) == 2 * len(by_ipv4)
            await host.all_reachable("eth0", "eth1")  # all else passes it
            host.vpc.sysctl(host.vpc.host, {"ipv4/conf/all/rp_filter": "2"})
            await all_published(host, to(host, "eth0", "eth1"))
        await notes(host, "eth1", "strict-filter", there=False)


async def test_firewalld_s_strict_filter_for_ipv6_drops_them_and_its_loose_one_does_not() -> None:
    """`IPv6_rpfilter=loose` of firewalld.conf is what helps; it is `yes` by default."""
    async with ec2_host(numbered(1), config=CONNMARK) as host:
        box = await bridged(host)
        await firewalld(host, box, check=STRICT_IPV6)
        await host.plug("eth1")
        await host.until("eth1", complete)
        async with answering(host, box):
            await all_published(host, to(host, "eth0"))
            by_ipv6 = to(host, "eth1", family=Family.V6)
            assert len(await silent(host, by_ipv6)) == 2 * len(by_ipv6)
            await host.all_reachable("eth0", "eth1")
            await host.vpc.exec(host.vpc.host, "nft", "delete", "table", "inet", "firewalld")
            await firewalld(host, box)
            await all_published(host, to(host, "eth0", "eth1"))


async def notes(host: HostUnderTest, name: str, code: str, *, there: bool) -> None:
    """Wait until an interface has this note, or until it has it no more."""

    async def so() -> bool:
        return (code in codes((await host.status(name))["notes"])) is there

    await eventually(so)


async def test_more_enis_than_marks() -> None:
    """Two bits are two marks; the third ENI is told, and served otherwise.

    The primary gave its mark up for the second.
    """
    config = settings(forwarded="connmark", forwarded_mask=0x3000000)
    names = ["eth1", "eth2", "eth3"]
    async with ec2_host(*map(numbered, (1, 2, 3)), config=config) as host:
        box = await bridged(host)
        await docker_nftables(host, box)
        for name in names:
            await host.plug(name)
            await host.until(name, complete)
        await until_marked(host, "eth1", "eth2")
        told = [n for n in names if "marks-used-up" in codes((await host.status(n))["notes"])]
        assert told == ["eth3"]
        async with answering(host, box):
            await all_published(host, to(host, "eth0", "eth1", "eth2"))


async def end_traced(host: HostUnderTest) -> None:
    """End a daemon that is traced; its tracer, which is no child of ours, ends a little later."""
    status = await host.vpc.exec(host.vpc.host, "cat", f"/proc/{host.daemon.process.pid}/status")
    (tracer,) = re.findall(r"(?m)^TracerPid:\s+(\d+)$", status)
    process = os.pidfd_open(int(tracer))
    try:
        await host.daemon.stop()
        await asyncio.to_thread(select.select, [process], [], [])
    finally:
        os.close(process)


async def test_no_nft_runs_with_the_setting_off() -> None:
    """Nor is nftables asked anything: what costs nothing is never noticed."""
    trace_file = f"/run/trace-{os.getpid()}"
    trace = ("strace", "-D", "-f", "-qq", "-o", trace_file, "-e", "trace=execve,socket")
    async with ec2_host(numbered(1), wrapper=trace) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.daemon.post("/v1/reconcile")
        said = await host.vpc.exec(host.vpc.host, "cat", trace_file)
        await end_traced(host)
    assert "NETLINK_ROUTE" in said
    assert "NETLINK_NETFILTER" not in said
    assert '"-f", "-"' not in said


async def test_with_the_unit_s_rights() -> None:
    """`nft` gets the daemon's one capability."""
    rights = ("setpriv", "--no-new-privs", "--ambient-caps", "+net_admin")
    caps = ("--bounding-set", "-all,+net_admin", "--inh-caps", "-all,+net_admin")
    async with ec2_host(numbered(1), config=CONNMARK, wrapper=(*rights, *caps)) as host:
        box = await bridged(host)
        await docker_nftables(host, box)
        await host.plug("eth1")
        await host.until("eth1", complete)
        async with answering(host, box):
            await all_published(host, to(host, "eth0", "eth1"))
