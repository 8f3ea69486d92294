"""The checks of `nicwatchd doctor`, by tables: facts in, findings out."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.cli import doctor
from nicwatchd.cli.diagnosis import files, software
from nicwatchd.cli.diagnosis.checks import CHECKS, examine
from nicwatchd.cli.diagnosis.facts import Asker, Daemon, Eni, Facts, Imds, Networkd, Sysctls, Tool
from nicwatchd.cli.diagnosis.findings import Finding, Severity
from nicwatchd.cli.diagnosis.firewall import Packet, refusal
from nicwatchd.cli.diagnosis.look import with_primary
from nicwatchd.cli.migration.system import Ran, System
from nicwatchd.core.firewall import Firewall
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    Address,
    Family,
    Link,
    Reason,
    Route,
    Rule,
)
from nicwatchd.core.policy import Forwarded, Policy
from nicwatchd.core.port import RouteAnswer
from nicwatchd.core.published import from_iptables, from_nft
from nicwatchd.core.shadow import FAR

RULESETS = Path(__file__).parents[1] / "core" / "rulesets"
IMDS_V4, IMDS_V6 = ip_address("169.254.169.254"), ip_address("fd00:ec2::254")
MAIN, MINE = MAIN_TABLE, 1_000_959


def eni(number: int, **changes: Any) -> Eni:
    """ethN with one address of each family, in subnets of its own."""
    index, net = number + 2, number + 1
    ips = (ip_address(f"10.0.{net}.1{number}"), ip_address(f"2001:db8:{net}::1{number}"))
    plain = Eni(
        Link(index, f"02:00:00:00:00:0{index}", f"eth{number}", up=True, mtu=9001),
        eni=f"eni-{number}",
        is_primary=number == 0,
        is_managed=number > 0,
        addresses=tuple(Address(index, ip, ip.max_prefixlen) for ip in ips),
        own=frozenset(ips),
        listed=frozenset(ips),
        subnets=(ip_network(f"10.0.{net}.0/24"), ip_network(f"2001:db8:{net}::/64")),
        vpc="vpc-1",
        sysctls=Sysctls(rp_filter=0, accept_ra=0, forwarding=0, disable_ipv6=0),
        exceeded=0,
    )
    return replace(plain, **changes)


def route(number: int, family: Family, metric: int, **changes: Any) -> Route:
    """A default route of main through ethN."""
    text = {Family.V4: "0.0.0.0/0", Family.V6: "::/0"}[family]
    plain = Route(ip_network(text), MAIN, number + 2, protocol=16, metric=metric)
    return replace(plain, **changes)


DEFAULTS = tuple(route(0, family, 100) for family in Family)
ENIS = (eni(0), eni(1))


def facts(**changes: Any) -> Facts:
    """A healthy host: eth0 is the primary, eth1 is managed, and all leaves as it must."""
    enis = changes.get("enis", ENIS)
    answers: dict[Any, Any] = {(None, far, 0): RouteAnswer(MAIN, 2) for far in FAR.values()}
    for each in enis:
        for ip in each.sources():
            answers[ip, FAR[Family(ip.version)], 0] = RouteAnswer(MINE, each.index)
    plain = Facts(
        enis=enis,
        names={each.index: each.name for each in enis},
        defaults=DEFAULTS,
        answers=answers,
        firewall=Firewall(),
        imds=Imds(endpoints=(IMDS_V4, IMDS_V6)),
        daemon=Daemon(7, 997, {"idle": None, "problems": []}, "active", "enabled"),
        networkd=Networkd(),
        kernel=(6, 18, 0),
    )
    return replace(plain, **changes)


def codes(host: Facts) -> list[tuple[str, str]]:
    return [(f.severity.value, f.code) for f in examine(host)[0]]


def one(host: Facts) -> Finding:
    (finding,) = examine(host)[0]
    return finding


def test_a_healthy_host_has_no_finding() -> None:
    findings, fine = examine(facts())
    assert findings == []
    assert fine == [check.title for check in CHECKS]
    assert len(fine) == len(set(fine))


FAIL, WARN = "FAIL", "WARN"
OURS = Rule(Family.V4, 32602, MINE, src=ip_network("10.0.2.0/24"))


def daemon(**changes: Any) -> Daemon:
    return replace(facts().daemon, **changes)


def refused(**changes: Any) -> Daemon:
    return daemon(status={"imds": {"state": "unreachable", "detail": "refused", **changes}})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"settings_error": "nicwatchd.toml: unknown key 'x'"}, [(FAIL, "settings")]),
        ({"not_ec2": "no EC2", "enis": ()}, [(WARN, "platform")]),
        ({"not_ec2": "no EC2", "enis": (), "settings_error": "x"}, [(FAIL, "settings")]),
        ({"daemon": daemon(unit="failed", pid=None, status=None)}, [(FAIL, "unit")]),
        ({"daemon": daemon(unit="inactive", pid=None, status=None)}, [(FAIL, "unit")]),
        ({"daemon": daemon(status=None)}, [(FAIL, "daemon")]),
        ({"daemon": Daemon()}, []),  # it was never enabled
        ({"daemon": Daemon(), "rules": (OURS,)}, [(WARN, "daemon")]),  # ... and was killed
        ({"rules": (OURS,)}, []),
        ({"daemon": daemon(status={"problems": ["the settings are wrong"]})}, [(FAIL, "daemon")]),
        ({"daemon": daemon(status={"released": True})}, [(WARN, "released")]),
        ({"imds": Imds("disabled", "403 on the token")}, [(FAIL, "imds-disabled")]),
        ({"imds": Imds("throttled", "429")}, [(WARN, "imds-throttled")]),
        ({"imds": Imds("failing", "302 on the token")}, [(FAIL, "imds-unreachable")]),
        ({"imds": Imds(seconds=1.5)}, [(WARN, "imds-slow")]),
        ({"daemon": refused()}, [(FAIL, "imds-daemon")]),
        # It was mended since the daemon asked last, as far as anybody knows.
        ({"imds": Imds(since=100.0), "daemon": refused(asked=99.0)}, []),
        ({"imds": Imds(since=100.0), "daemon": refused(asked=101.0)}, [(FAIL, "imds-daemon")]),
        ({"enis": (eni(0, exceeded=12), eni(1, exceeded=None))}, [(WARN, "imds-allowance")]),
        ({"kernel": (5, 15, 6)}, [(WARN, "kernel")]),
        ({"kernel": (5, 10, 83)}, [(WARN, "kernel")]),
        ({"kernel": (5, 4, 163)}, [(WARN, "kernel")]),
        ({"kernel": (5, 15, 7)}, []),
        ({"kernel": (5, 10, 84)}, []),
        ({"kernel": (5, 4, 164)}, []),
        ({"kernel": (4, 14, 0)}, [(FAIL, "kernel")]),
        ({"kernel": None}, []),
        ({"networkd": Networkd(manages_rules=True)}, [(WARN, "networkd-drop-in")]),
        ({"networkd": None}, []),
        ({"tools": (Tool("cloud-init hotplug", ("its udev rule",)),)}, [(WARN, "other-manager")]),
        ({"firewall": None}, []),
    ],
)
def test_what_is_said_of_a_host(changes: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert codes(facts(**changes)) == expected


WHO_ASKS = "sudo ss -tnp dst 169.254.169.254   # who asks it? EC2 ends it a second after they do"


@pytest.mark.parametrize(
    ("stops", "mend"),
    [
        ([], [WHO_ASKS]),
        ([""], [WHO_ASKS]),
        (
            ["sudo kill 7  # a", "", "ps -wwfp 8  # sh runs b: stop or configure it"],
            [
                "# best have it ask less: what IMDS says can be kept. To end it:",
                "sudo kill 7  # a",
                "# or: ps -wwfp 8  # sh runs b: stop or configure it",
            ],
        ),
        (["ps -wwfp 8  # sh runs b"], ["ps -wwfp 8  # sh runs b"]),
    ],
)
def test_who_asks_imds_too_much_is_named(stops: list[str], mend: list[str]) -> None:
    askers = tuple(Asker(f"p{n}", 9 - n, stop) for n, stop in enumerate(stops))
    (finding,), _ = examine(facts(imds=Imds("throttled", "429"), askers=askers))
    assert finding.mend.splitlines() == mend
    known = "; p0 asks it most: 9 connections within some seconds" if stops else ""
    assert finding.text == f"IMDS throttles this host (429){known}."


def test_without_a_daemon_its_view_is_not_called_fine() -> None:
    findings, fine = examine(facts(daemon=Daemon()))
    assert findings == []
    assert [title for title in fine if "daemon" in title] == []
    findings, fine = examine(facts(daemon=daemon(unit="inactive", pid=None, status=None)))
    assert [finding.code for finding in findings] == ["unit"]
    assert [title for title in fine if "daemon" in title] == []


@pytest.mark.parametrize(
    ("wrong", "file"),
    [
        ("/etc/nicwatchd/conf.d/x.toml: unknown key 'x'", "/etc/nicwatchd/conf.d/x.toml"),
        ("unknown key 'x'", "/etc/nicwatchd/nicwatchd.toml"),
    ],
)
def test_wrong_settings_are_told_once_with_the_file(wrong: str, file: str) -> None:
    problem = f"the new settings cannot be used: {wrong}"
    said = {"problems": [problem], "bad_settings": problem}
    finding = one(facts(settings_error=wrong, daemon=daemon(status=said)))
    assert finding.mend.splitlines()[0] == f"sudo editor {file}"
    # They were mended since, but not reloaded: the daemon alone knows.
    assert codes(facts(daemon=daemon(status=said))) == [(FAIL, "daemon")]


def with_sysctls(number: int, **changes: int) -> tuple[Eni, ...]:
    return tuple(
        replace(each, sysctls=replace(each.sysctls, **changes))
        if each.name == f"eth{number}"
        else each
        for each in ENIS
    )


def with_link(**changes: Any) -> tuple[Eni, ...]:
    return (eni(0), replace(eni(1), link=replace(eni(1).link, **changes)))


@pytest.mark.parametrize(
    ("enis", "expected"),
    [
        (with_link(up=False), [(FAIL, "link-down")]),
        (with_link(running=False), [(FAIL, "no-carrier")]),
        (with_link(mtu=1279), [(FAIL, "mtu")]),
        (with_link(mtu=1280), []),
        (with_link(mtu=1500), []),
        (with_link(mtu=0), []),
        (with_link(mtu=9002), [(WARN, "mtu")]),
        (with_sysctls(1, disable_ipv6=1), [(FAIL, "ipv6-off")]),
        (with_sysctls(0, forwarding=1, accept_ra=1), [(WARN, "accept-ra")]),
        (with_sysctls(0, forwarding=1, accept_ra=2), []),
        (with_sysctls(0, forwarding=1, accept_ra=0), []),  # networkd takes them itself
        (with_sysctls(1, forwarding=1, accept_ra=1), []),  # nicwatchd needs none
        (with_sysctls(1, rp_filter=1), []),
    ],
)
def test_what_is_said_of_links(enis: tuple[Eni, ...], expected: list[tuple[str, str]]) -> None:
    assert codes(facts(enis=enis)) == expected
    left_alone = tuple(
        each if each.is_primary else replace(each, is_managed=False) for each in enis
    )
    of_primary = [each for each in expected if each[1] == "accept-ra"]
    assert codes(facts(enis=left_alone)) == of_primary


def test_addresses_of_the_primary_that_nobody_configured() -> None:
    command = "sudo ip addr add 10.0.1.11/32 dev eth0"
    note = Reason("address-unconfigured", "IMDS lists 10.0.1.11 here", command)
    found = one(facts(enis=(eni(0, unconfigured=(note,)),)))
    assert (found.code, found.severity, found.mend) == (note.code, Severity.WARN, command)


def test_without_its_default_route_the_primary_has_lost_ipv6() -> None:
    host = facts(
        enis=with_sysctls(0, forwarding=1, accept_ra=1), defaults=(route(0, Family.V4, 100),)
    )
    assert codes(host) == [(FAIL, "accept-ra")]


# --- rules and routes --------------------------------------------------------------------------

SECOND = ip_address("10.0.2.11")
RULE = Rule(Family.V4, 100, 77, protocol=4, src=ip_network("10.0.2.0/24"))


def led(*rules: Rule, answer: RouteAnswer | int) -> Facts:
    """What 10.0.2.11 sends far away is decided so."""
    plain = facts()
    answers = {**plain.answers, (SECOND, FAR[Family.V4], 0): answer}
    return replace(plain, rules=rules, answers=answers)


@pytest.mark.parametrize(
    ("rule", "answer", "expected"),
    [
        (RULE, RouteAnswer(77, 2), [(FAIL, "rule-before")]),
        (RULE, RouteAnswer(77, 9), [(FAIL, "rule-before")]),  # by no ENI
        (RULE, RouteAnswer(77, 3), []),  # an inspection appliance in the ENI's subnet
        (RULE, RouteAnswer(78, 2), []),  # another rule decided
        (replace(RULE, protocol=PROTOCOL), RouteAnswer(77, 2), []),
        (replace(RULE, action=7), 113, [(FAIL, "rule-before")]),
        (RULE, 22, []),  # the kernel did not understand the question
        (replace(RULE, fwmark=1), RouteAnswer(77, 2), []),
        (replace(RULE, iif="eth9"), RouteAnswer(77, 2), []),
        (replace(RULE, src=None, exotic=True), RouteAnswer(77, 2), [(FAIL, "rule-before")]),
        (replace(RULE, inverted=True), RouteAnswer(77, 2), []),
        # Behind ours, and the kernel's answer is from its table all the same.
        (replace(RULE, priority=32766), RouteAnswer(77, 2), [(FAIL, "rule-before")]),
        (replace(RULE, protocol=2, src=None), RouteAnswer(77, 2), []),  # the kernel's, of a VRF
    ],
)
def test_rules_that_take_an_enis_packets(
    rule: Rule, answer: RouteAnswer | int, expected: list[tuple[str, str]]
) -> None:
    assert codes(led(rule, answer=answer)) == expected


def test_the_remedy_names_the_whole_rule() -> None:
    finding = one(led(RULE, answer=RouteAnswer(77, 2)))
    first = finding.mend.splitlines()[0]
    assert first == "sudo ip rule del pref 100 from 10.0.2.0/24 lookup 77 proto static"


OURS = Rule(Family.V4, 32765, MINE, src=ip_network("10.0.2.11/32"))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((OURS, replace(RULE, priority=32765)), [(WARN, "rule-behind")]),
        ((replace(RULE, priority=32765), OURS), []),
        ((OURS, replace(RULE, priority=32764)), []),
        ((OURS, replace(RULE, priority=32765, src=ip_network("192.0.2.0/24"))), []),
        ((OURS, replace(RULE, priority=32765, src=None)), []),
    ],
)
def test_rules_of_our_priority(rules: tuple[Rule, ...], expected: list[tuple[str, str]]) -> None:
    assert codes(facts(rules=rules)) == expected


def unbound(family: Family, number: int, *defaults: Route, **changes: Any) -> Facts:
    """What the host itself sends leaves by ethN."""
    plain = facts()
    answers = {**plain.answers, (None, FAR[family], 0): RouteAnswer(MAIN, number + 2)}
    return replace(plain, answers=answers, defaults=(*DEFAULTS, *defaults), **changes)


V4 = Family.V4


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (unbound(V4, 1, route(1, V4, 50)), [(WARN, "default-route")]),
        (unbound(V4, 0, route(1, V4, 100)), [(WARN, "default-route")]),  # they tie
        (unbound(V4, 0, route(1, V4, 200)), []),
        (unbound(V4, 0, route(1, V4, 50), route(0, V4, 20, protocol=PROTOCOL)), []),  # kept
        (unbound(V4, 1, route(1, V4, 50), policy=Policy(egress="leave")), []),
        (unbound(V4, 1, route(1, V4, 50), policy=Policy(egress="eth1")), []),
        (unbound(V4, 0, route(7, V4, 50)), []),  # by a VPN: no ENI
    ],
)
def test_default_routes(host: Facts, expected: list[tuple[str, str]]) -> None:
    assert codes(host) == expected


def test_a_default_route_that_silences_the_primary_is_a_failure() -> None:
    host = unbound(V4, 1, route(1, V4, 50, gateway=ip_address("10.0.2.1")))
    lost = (ip_address("10.0.1.10"), FAR[V4], 0)
    host = replace(host, answers={**host.answers, lost: RouteAnswer(MAIN, 3)})
    finding = one(host)
    assert finding.severity is Severity.FAIL
    assert finding.text == (
        "IPv4 leaves by eth1 (metric 50), not by eth0: 10.0.1.10 answers nobody outside its subnet."
    )
    assert finding.mend.splitlines()[0] == (
        "sudo ip route del default via 10.0.2.1 dev eth1 table main proto dhcp metric 50"
    )


def test_an_error_route_that_is_not_the_best_harms_nobody() -> None:
    error = route(0, Family.V6, 4294967295, kind=7, oif=1)
    assert codes(facts(errors=(error,))) == []
    assert codes(facts(errors=(replace(error, metric=1),))) == [(WARN, "error-route")]
    without = tuple(each for each in DEFAULTS if each.family is V4)
    assert codes(facts(errors=(error,), defaults=without)) == [(WARN, "error-route")]


def test_without_imds_the_primary_is_the_oldest_with_a_default_route() -> None:
    nobody = (eni(0, is_primary=False, is_managed=True), eni(1))
    both = (*DEFAULTS, route(1, V4, 10))
    assert [each.is_primary for each in with_primary(nobody, both)] == [True, False]
    assert with_primary(nobody, both)[1] == eni(1)
    assert with_primary(nobody, ()) == nobody
    assert with_primary(ENIS, (route(1, V4, 10),)) == ENIS


# --- IMDS and firewalls ------------------------------------------------------------------------


def ruleset(name: str) -> Firewall:
    text = (RULESETS / name).read_text()
    return from_nft(text) if name.endswith(".json") else from_iptables(text, Family.V4)


@pytest.mark.parametrize(
    ("name", "uid", "to", "chain"),
    [
        ("publishing.json", 0, IMDS_V4, None),
        ("publishing.json", 997, IMDS_V4, "output"),
        ("publishing.json", 997, IMDS_V6, None),
        ("hardening.json", 0, IMDS_V4, None),
        ("hardening.json", 997, IMDS_V4, "no"),  # where the jump leads
        ("hardening.json", 997, ip_address("10.0.0.2"), None),
        ("iptables.txt", 0, IMDS_V4, None),
        ("iptables.txt", 997, IMDS_V4, "OUTPUT"),
    ],
)
def test_who_may_talk_to_imds(name: str, uid: int, to: Any, chain: str | None) -> None:
    found = refusal(ruleset(name), Packet(uid, to))
    assert (found.chain.name if found else None) == chain


@pytest.mark.parametrize(
    ("rules", "policy", "refused"),
    [
        ("", "DROP", True),
        ("", "ACCEPT", False),
        ("-A OUTPUT -p tcp -m tcp --dport 80 -j ACCEPT", "DROP", False),
        ("-A OUTPUT -p tcp -m tcp --dport 443 -j ACCEPT", "DROP", True),
        ("-A OUTPUT -p udp -j ACCEPT", "DROP", True),
        ("-A OUTPUT -m set --match-set friends dst -j ACCEPT", "DROP", False),  # nobody knows
        ("-A OUTPUT -m set --match-set foes dst -j DROP", "ACCEPT", False),  # nor here
        ("-A OUTPUT -o lo -j DROP", "ACCEPT", False),
        ("-A OUTPUT ! -o lo -d 169.254.0.0/16 -j DROP", "ACCEPT", False),  # it may leave by any
        ("-A OUTPUT -o eth0 -d 169.254.0.0/16 -j DROP", "ACCEPT", True),
        ("-A OUTPUT -m owner --uid-owner 900-999 -j REJECT", "ACCEPT", True),
        ("-A OUTPUT -m owner ! --uid-owner 900-999 -j REJECT", "ACCEPT", False),
        ("-A OUTPUT -j RETURN\n-A OUTPUT -j DROP", "ACCEPT", False),
    ],
)
def test_a_packet_through_iptables(rules: str, policy: str, *, refused: bool) -> None:
    text = f"*filter\n:OUTPUT {policy} [0:0]\n{rules}\nCOMMIT\n"
    found = refusal(from_iptables(text, Family.V4), Packet(997, IMDS_V4))
    assert (found is not None) is refused


def test_an_owner_match_names_the_users() -> None:
    text = "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -d 169.254.169.254/32 -m owner "
    text += "! --uid-owner 0 -j REJECT --reject-with icmp-port-unreachable\n"
    host = facts(
        firewall=from_iptables(text, Family.V4),
        imds=Imds("unreachable", "connection refused on the token", endpoints=(IMDS_V4,)),
    )
    finding = one(host)
    assert finding.code == "imds-firewall"
    assert finding.text.startswith("only uid 0 may talk to 169.254.169.254 (iptables -A OUTPUT")
    assert finding.text.endswith("nicwatchd is uid 997.")
    assert finding.mend == (
        "sudo iptables -I OUTPUT -d 169.254.169.254 -m owner --uid-owner 997 -j ACCEPT"
    )


def test_one_endpoint_is_enough() -> None:
    marked = Policy(forwarded=Forwarded.CONNMARK)  # it publishes ports, too
    host = facts(firewall=ruleset("iptables.txt"), policy=marked)
    assert codes(replace(host, imds=Imds(endpoints=(IMDS_V4, IMDS_V6)))) == []
    assert codes(replace(host, imds=Imds(endpoints=(IMDS_V4,)))) == [(FAIL, "imds-firewall")]


def test_published_ports_with_and_without_marks() -> None:
    host = facts(firewall=ruleset("iptables-legacy.txt"))  # 8081 of 10.0.2.11 alone
    finding = one(host)
    assert (finding.severity, finding.code) == (Severity.WARN, "published-port")
    says = "tcp port 8081 -> 172.18.0.2 does not answer on 10.0.2.11 (eth1): a container"
    assert finding.text.startswith(says)
    assert codes(replace(host, policy=Policy(forwarded=Forwarded.CONNMARK))) == []
    alone = (eni(0), eni(1, is_managed=False))
    assert codes(facts(firewall=ruleset("iptables-legacy.txt"), enis=alone)) == []


# --- name servers ------------------------------------------------------------------------------

DNS = ip_address("10.0.0.2")


@pytest.mark.parametrize(
    ("answer", "vpc", "expected"),
    [
        (RouteAnswer(MINE, 3), "vpc-1", []),
        (RouteAnswer(0, 3), "vpc-1", [(WARN, "dns")]),  # IPv4's word for "no route"
        (101, "vpc-1", [(WARN, "dns")]),
        (RouteAnswer(MINE, 3), "vpc-2", [(WARN, "dns")]),  # the primary's, in another VPC
        (RouteAnswer(MINE, 3), None, []),
    ],
)
def test_name_servers(
    answer: RouteAnswer | int, vpc: str | None, expected: list[tuple[str, str]]
) -> None:
    host = facts(enis=(eni(0, dns=(DNS,)), eni(1, dns=(DNS,), vpc=vpc)))
    host = replace(host, answers={**host.answers, (None, DNS, 3): answer})
    assert codes(host) == expected
    link_local = ip_address("169.254.169.253")
    assert codes(facts(enis=(eni(0), eni(1, dns=(link_local,))))) == []


# --- the daemon's own verdict ------------------------------------------------------------------


def verdict(health: str | None, **changes: Any) -> Daemon:
    cause = {"code": "leaves-elsewhere", "text": "10.0.2.11 leaves by eth0", "remedy": ""}
    part = {"health": health, "causes": [cause], "addresses": ["10.0.2.11"]} | changes
    return daemon(status={"interfaces": [{"name": "eth1", "ipv4": part, "ipv6": None}]})


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        (verdict("working"), []),
        (verdict(None), []),
        (verdict("not-working", waits=True), []),
        (verdict("not-working"), [(FAIL, "leaves-elsewhere")]),
        (verdict("degraded"), [(WARN, "leaves-elsewhere")]),
    ],
)
def test_the_daemons_verdict_is_told(of: Daemon, expected: list[tuple[str, str]]) -> None:
    assert codes(facts(daemon=of)) == expected


def test_a_verdict_of_both_families_is_told_once() -> None:
    cause = {"code": "mac-unlisted", "text": "IMDS does not list it; is it attached?"}
    part = {"health": "not-working", "causes": [cause]}
    interface = {"name": "eth1", "ipv4": part, "ipv6": part}
    finding = one(facts(daemon=daemon(status={"interfaces": [interface]})))
    assert finding.text == "eth1, IPv4 and IPv6: IMDS does not list it; is it attached?"


def test_a_verdict_whose_reason_is_found_is_not_told_again() -> None:
    host = replace(led(RULE, answer=RouteAnswer(77, 2)), daemon=verdict("not-working"))
    assert codes(host) == [(FAIL, "rule-before")]


# --- what files say ----------------------------------------------------------------------------


def system(root: Path, active: str = "active") -> System:
    def nobody(*_: str) -> Any:
        raise AssertionError

    def run(_: tuple[str, ...]) -> Ran:
        return Ran(0, f"{active}\n")

    return System(root, run, nobody, lambda _: None)


def write(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("proc/version_signature", "Ubuntu 5.15.0-91.101-generic 5.15.131\n", (5, 15, 131)),
        ("proc/version", "Linux version 5.10.0-9-amd64 (x) #1 SMP Debian 5.10.70-1", (5, 10, 70)),
        ("proc/version", "Linux version 6.18.0-1-amd64 (x)", (6, 18, 0)),
        ("proc/version", "Linux version 5.10.82-83.359.amzn2.x86_64", (5, 10, 82)),
        ("proc/version", "Linux version 5.14.0-70.13.1.el9_0.x86_64", None),  # of what patches?
        ("proc/nothing", "", None),
    ],
)
def test_which_kernel_it_is(
    tmp_path: Path, name: str, text: str, expected: tuple[int, int, int] | None
) -> None:
    write(tmp_path, name, text)
    assert files.kernel(system(tmp_path)) == expected


def test_networkds_drop_ins(tmp_path: Path) -> None:
    host = system(tmp_path)
    assert files.networkd(host) is None
    write(tmp_path, "run/systemd/netif/state", "")
    assert files.networkd(system(tmp_path, "inactive")) is None
    assert files.networkd(host) == Networkd(manages_rules=True, manages_routes=True)
    ours, theirs = "usr/lib/systemd/networkd.conf.d", "etc/systemd/networkd.conf.d"
    section = "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=false\n"
    write(tmp_path, f"{ours}/10-nicwatchd.conf", section)
    assert files.networkd(host) == Networkd()
    write(tmp_path, f"{theirs}/20-mine.conf", "[Network]\nManageForeignRoutes=yes\n")
    assert files.networkd(host) == Networkd(manages_routes=True)
    write(tmp_path, f"{theirs}/10-nicwatchd.conf", "")  # it masks the one in /usr
    assert files.networkd(host) == Networkd(manages_rules=True, manages_routes=True)
    write(tmp_path, f"{theirs}/30-wrong.conf", "no section\n")
    assert files.networkd(host) == Networkd(manages_rules=True, manages_routes=True)


def test_resolveds_servers(tmp_path: Path) -> None:
    host = system(tmp_path)
    write(tmp_path, "run/systemd/netif/links/3", "ADMIN_STATE=configured\nDNS=10.0.0.2 fe80::1%3\n")
    assert files.name_servers(host, 3) == ()  # resolved does not run
    write(tmp_path, "run/systemd/resolve/resolv.conf", "")
    assert files.name_servers(host, 3) == (DNS, ip_address("fe80::1"))
    write(tmp_path, "run/systemd/resolve/netif/3", "SERVERS=[2001:db8::1]:53#name 1.1.1.1#x y\n")
    assert files.name_servers(host, 3) == (ip_address("2001:db8::1"), ip_address("1.1.1.1"))
    assert files.name_servers(host, 4) == ()


# --- what is printed ---------------------------------------------------------------------------


def test_the_text_fits_a_terminal() -> None:
    host = facts(
        networkd=Networkd(manages_rules=True, manages_routes=True),
        kernel=(5, 15, 6),
        unseen=("the firewall (run this as root)", "other managers (x: systemctl failed)"),
        enis=with_link(up=False),
    )
    findings, fine = examine(host)
    lines = list(doctor._lines(host, findings, fine))
    assert lines[0].startswith("FAIL  link-down         eth1 (eni-1) is down;")
    assert "      mend  sudo ip link set dev eth1 up" in lines
    commands = {line.strip() for finding in findings for line in finding.mend.splitlines()}
    prose = [line for line in lines if line.removeprefix(doctor.MEND).strip() not in commands]
    assert len(prose) < len(lines)
    assert max(map(len, prose)) <= 80
    assert lines[-1] == "1 failure, 2 warnings"
    assert "not looked at: the firewall (run this as root); other" in "\n".join(lines)


def test_each_code_has_one_kind_of_remedy_for_a_shell() -> None:
    """What a remedy says besides commands begins with `#`."""
    first_words = {"sudo", "aws", "journalctl", "ip", "|", "printf", "echo", "#", "nicwatchd"}
    host = facts(
        settings_error="x",
        not_ec2="x",
        daemon=daemon(unit="failed", status={"problems": ["x"], "released": True}),
        imds=Imds("failing", "x", endpoints=(IMDS_V4,)),
        networkd=Networkd(manages_rules=True),
        kernel=(5, 15, 6),
        firewall=ruleset("iptables-legacy.txt"),
        tools=(Tool("x", ("y",)),),
        enis=(eni(0, exceeded=1), with_link(running=False)[1]),
    )
    findings = examine(host)[0]
    assert len(findings) >= 10
    for finding in findings:
        for line in finding.mend.splitlines():
            assert line.split()[0] in first_words, line


def test_leaks_are_in_order() -> None:
    assert all(first < mended for first, mended in software.LEAKS)
