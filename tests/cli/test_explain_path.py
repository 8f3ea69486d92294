"""`nicwatchd explain --from A --to B`: what it concludes and says, by tables."""

from __future__ import annotations

import json
from dataclasses import replace
from errno import EHOSTUNREACH, EINVAL, ENETUNREACH
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.cli.explain_path import Way, as_json, judge, lines
from nicwatchd.cli.main import main
from nicwatchd.core.model import PROTOCOL, Family, Link, Route, Rule
from nicwatchd.core.packet import Packet
from nicwatchd.core.rule_walk import walk
from nicwatchd.netlink.fib import Found
from tests.cli.statuses import eni, family, host

ETH0, ETH1, DOCKER0 = 2, 3, 9
LINKS = {
    index: Link(index, f"02:00:00:00:00:{index:02x}", name, up=True, group=group)
    for index, name, group in ((1, "lo", 0), (ETH0, "eth0", 3778), (ETH1, "eth1", 3778))
} | {DOCKER0: Link(DOCKER0, "02:42:00:00:00:01", "docker0", up=True)}
OURS = 1_000_959


def rule(priority: int, table: int, protocol: int, src: str = "", **more: Any) -> Rule:
    net = ip_network(src) if src else None
    version = Family(net.version) if net else Family.V4
    return Rule(version, priority, table, protocol, net, **more)


KERNELS = (rule(0, 255, 2), rule(32766, 254, 2), rule(32767, 253, 2))
FOREIGN = rule(100, 100, 3, "10.0.2.0/24")
BY_US = rule(32765, OURS, PROTOCOL, "10.0.2.0/24", iif="lo")
OWN_ROUTE = Route(ip_network("0.0.0.0/0"), OURS, ETH1, gateway=ip_address("10.0.2.1"))
ALL = (KERNELS[0], FOREIGN, BY_US, *KERNELS[1:])


def found(table: int, oif: int, gateway: str | None = "10.0.1.1", **more: Any) -> Found:
    via = ip_address(gateway) if gateway else None
    route = Route(ip_network(more.pop("dst", "0.0.0.0/0")), table, oif, gateway=via, **more)
    return Found(route, oif, via)


def way(
    said: Found | int,
    rules: tuple[Rule, ...] = ALL,
    src: str = "10.0.2.10",
    dst: str = "198.51.100.50",
    **packet: Any,
) -> Way:
    asked = Packet(ip_address(src), ip_address(dst), **packet)
    route = None if isinstance(said, int) else said.route
    return Way(asked, said, walk(asked, rules, route, 3778), LINKS, (OWN_ROUTE,))


OWNERS = host(eni(0), eni(1)).model_dump(mode="json")["interfaces"]


def test_ec2_drops_it() -> None:
    asked = way(found(100, ETH0))
    ruling = judge(asked, OWNERS)
    assert list(lines(asked, ruling, "the daemon")) == [
        "10.0.2.10 -> 198.51.100.50 leaves by eth0 via 10.0.1.1: EC2 DROPS IT, since eth0",
        "(eni-0a1b2c3d4e5f60701) does not own 10.0.2.10; eth1 (eni-0a1b2c3d4e5f60702)",
        "does.",
        "",
        "PRIO   RULE                     WHOSE      TABLE    SAYS",
        "0      from all                 kernel     local    nothing",
        "100    from 10.0.2.0/24         not ours   100      via 10.0.1.1  <- wins",
        "32765  from 10.0.2.0/24 iif lo  nicwatchd  1000959  via 10.0.2.1",
        "32766  from all                 kernel     main     not asked",
        "32767  from all                 kernel     default  not asked",
        "Rule 100 decides; it is not ours (boot).",
        "Mend: sudo ip rule del pref 100 from 10.0.2.0/24 lookup 100 # find who makes it",
    ]
    assert as_json(asked, ruling)["ec2"] == "drops"


def test_ec2_lets_it_pass() -> None:
    asked = way(found(OURS, ETH1, "10.0.2.1"), rules=(KERNELS[0], BY_US, *KERNELS[1:]))
    ruling = judge(asked, OWNERS)
    assert ruling.word == "passes"
    said = "\n".join(lines(asked, ruling, "the daemon"))
    assert "EC2 lets it pass: eth1 (eni-0a1b2c3d4e5f60702) owns 10.0.2.10." in said.replace(
        "\n", " "
    )
    assert said.endswith(
        "If nothing comes back: routes, rules and sources are right: look at security\n"
        "groups and network ACLs."
    )


def test_main_takes_it_without_a_foreign_rule() -> None:
    asked = way(found(254, ETH0), rules=KERNELS)
    ruling = judge(asked, OWNERS)
    assert (ruling.word, ruling.remedy) == (
        "drops",
        "no rule takes it to eth1: nicwatchd explain eth1",
    )


@pytest.mark.parametrize(
    ("asked", "owners", "word", "text"),
    [
        (way(found(255, 1, None, kind=2)), OWNERS, "stays", "198.51.100.50 is its own"),
        (way(found(254, DOCKER0, None)), OWNERS, "not-ec2", "leaves by docker0, which is no ENI"),
        (way(found(254, ETH0)), None, "unknown", "Which ENI owns 10.0.2.10 is not known"),
        (way(found(254, ETH0), src="172.17.0.2", iif="docker0"), OWNERS,
         "drops-unless-translated", "source/destination check off"),
        (way(found(254, ETH0), src="10.0.2.10", iif="docker0"), OWNERS, "drops", "EC2 DROPS IT"),
        (replace(way(EINVAL), is_own=False), OWNERS, "not-sent", "is no address of this host"),
        (way(EHOSTUNREACH, iif="docker0"), OWNERS, "not-sent", "is dropped where it comes in"),
        (way(ENETUNREACH), OWNERS, "not-sent", "is not sent: Network is unreachable"),
        (way(found(254, 0, None, kind=7)), OWNERS, "not-sent", "'unreachable'"),
    ],
)  # fmt: skip
def test_what_becomes_of_it(asked: Way, owners: Any, word: str, text: str) -> None:
    ruling = judge(asked, owners)
    assert ruling.word == word
    said = list(lines(asked, ruling, "nobody"))
    assert text in " ".join(said)
    assert max(map(len, said)) <= 80


def test_an_address_of_a_delegated_prefix_is_owned() -> None:
    part = family(["10.0.2.10"], prefixes=["10.0.2.64/28"])
    owners = host(eni(0), eni(1, ipv4=part)).model_dump(mode="json")["interfaces"]
    asked = way(found(OURS, ETH1, "10.0.2.1"), src="10.0.2.70", iif="docker0")
    assert judge(asked, owners).word == "passes"


def test_a_rule_that_blocks_is_named() -> None:
    blocks = rule(40, 0, 3, "10.0.2.0/24", action=8)
    asked = way(ENETUNREACH, rules=(KERNELS[0], blocks, *KERNELS[1:]))
    ruling = judge(asked, OWNERS)
    assert (
        ruling.remedy == "sudo ip rule del pref 40 from 10.0.2.0/24 prohibit  # find who makes it"
    )
    assert any("blocks it  <- wins" in line for line in lines(asked, ruling, ""))


def test_what_only_the_kernel_knows_is_told() -> None:
    by_user = replace(FOREIGN, exotic=True)
    asked = way(found(100, ETH0), rules=(KERNELS[0], by_user, *KERNELS[1:]))
    said = list(lines(asked, judge(asked, OWNERS), ""))
    assert any("perhaps via 10.0.1.1  <- wins" in line for line in said)
    assert any("only the kernel knows" in line for line in said)


def test_ipv6_texts_fit() -> None:
    src, net = "2001:db8:1234:5678:9abc:def0:1234:5678", "2001:db8:1234:5678::/64"
    long = rule(32765, 4_000_000_191, 3, net, iif="verylongname123", fwmark=0xFFFF, fwmask=0xFFFFFF)
    ours = rule(32765, OURS, PROTOCOL, net)
    gateway = "2001:db8:1234:5678:ffff:ffff:ffff:ffff"
    asked = way(
        found(OURS, ETH0, gateway, dst="::/0"),
        rules=(long, ours),
        src=src,
        dst="2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        mark=0xFFFF,
        iif="verylongname123",
    )
    ruling = judge(asked, OWNERS)
    said = list(lines(asked, ruling, "the daemon"))
    assert max(map(len, said)) <= 80
    document = as_json(asked, ruling)
    assert (document["mark"], document["iif"]) == (0xFFFF, "verylongname123")
    assert document["gateway"] == gateway
    assert [each["whose"] for each in document["rules"]] == ["not ours (boot)", "nicwatchd"]


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        ((), 2, "name an interface, or a packet: --from ADDRESS --to ADDRESS"),
        (("eth1", "--from", "10.0.2.10"), 2, "either one interface or a packet"),
        (("--from", "10.0.2.10"), 2, "name an interface, or a packet"),
        (("--from", "x", "--to", "10.0.2.1"), 2, "'x' does not appear to be an IPv4 or IPv6"),
        (("--from", "10.0.2.10", "--to", "::1"), 2, "10.0.2.10 and ::1 are not of one family"),
        (("--from", "10.0.2.10", "--to", "10.0.2.1", "--mark", "x"), 2, "'x' is not a number"),
        (("--from", "10.0.2.10", "--to", "10.0.2.1", "--mark=-1"), 2, "does not fit"),
        (("--from", "10.0.2.10", "--to", "10.0.2.1", "--iif", "no0"), 3, "no link 'no0'"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, complaint: str
) -> None:
    assert main(["explain", *words]) == code
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_without_a_daemon_off_ec2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", "--from", "127.0.0.1", "--to", "127.0.0.1", "--json"]
    main([*words, "--runtime-directory", str(tmp_path), "--config", "/dev/null"])
    said = json.loads(capsys.readouterr().out)
    assert said["ec2"] in ("stays", "not-sent")  # `lo` may be down in a sandbox
    assert said["owner"] is None
