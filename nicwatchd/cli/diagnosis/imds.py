"""Checks of the instance metadata service: what keeps nicwatchd from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from nicwatchd.cli.diagnosis.facts import Daemon, Facts, Imds
from nicwatchd.cli.diagnosis.findings import Finding, fail, warn
from nicwatchd.cli.diagnosis.firewall import Packet, Refusal, refusal
from nicwatchd.core.model import Family, IPAddress

SLOW: Final = 1.0  # s for one answer; EC2 takes a few milliseconds
HOP_LIMIT: Final = "perhaps the hop limit"  # the words of nicwatchd.imds.token


def firewall(facts: Facts) -> Iterator[Finding]:
    """A firewall keeps the daemon's user, or everybody, from IMDS."""
    if facts.firewall is None or not facts.imds.endpoints:
        return
    uid = facts.daemon.uid or 0
    refused = [(ip, refusal(facts.firewall, Packet(uid, ip))) for ip in facts.imds.endpoints]
    if not all(who for _, who in refused):
        return
    ip, who = refused[0]
    if who is None:
        return
    where = who.rule.text if who.rule and who.rule.text else f"{who.chain.table} {who.chain.name}"
    if who.rule is None:
        where += " (its policy)"
    users = [each for each in who.allowed if each != uid]
    if users and any(not refusal(facts.firewall, Packet(each, ip)) for each in users):
        named = ", ".join(map(str, users))
        text = f"only uid {named} may talk to {ip} ({where}); nicwatchd is uid {uid}."
    else:
        what = "rejects" if who.rejected else "drops"
        text = f"the firewall {what} what nicwatchd (uid {uid}) sends to {ip} ({where})."
    yield fail("imds-firewall", text, _let_through(who, uid, ip))


def _let_through(who: Refusal, uid: int, ip: IPAddress) -> str:
    """The command that lets one user talk to IMDS, before the rule that refuses it."""
    is_v6 = Family(ip.version) is Family.V6
    if who.chain.table.startswith("iptables "):
        program = "ip6tables" if is_v6 else "iptables"
        return f"sudo {program} -I {who.chain.name} -d {ip} -m owner --uid-owner {uid} -j ACCEPT"
    word = "ip6" if is_v6 else "ip"
    place = f"{who.chain.table} {who.chain.name}"
    return f"sudo nft insert rule {place} {word} daddr {ip} meta skuid {uid} accept"


def condition(facts: Facts) -> Iterator[Finding]:
    """IMDS does not answer as it should."""
    imds, options = facts.imds, _options(facts)
    if imds.state == "disabled":
        text = f"IMDS is disabled ({imds.detail}): nicwatchd learns of no address."
        yield fail("imds-disabled", text, f"{options} --http-endpoint enabled")
    elif imds.state == "throttled":
        text = f"IMDS throttles this host ({imds.detail}){_by_whom(facts)}."
        yield warn("imds-throttled", text, *_stop_asking(facts))
    elif imds.state == "unreachable" and HOP_LIMIT in imds.detail:
        text = "IMDS takes connections, but gives no token: perhaps the hop limit of its answers"
        text += " is too small for the way to this host."
        yield fail("imds-hop-limit", text, f"{options} --http-put-response-hop-limit 2")
    elif not imds.is_fine and not any(firewall(facts)):
        text = f"IMDS is {imds.state}: {imds.detail}."
        yield fail(
            "imds-unreachable",
            text,
            *(f"ip route get {ip}" for ip in facts.imds.endpoints[:1]),
            "sudo nft list ruleset | grep -n -e 169.254 -e skuid",
        )
    elif imds.seconds > SLOW:
        text = f"IMDS took {imds.seconds:.1f} s for one answer; it should be milliseconds"
        yield warn("imds-slow", f"{text}{_by_whom(facts)}.", *_stop_asking(facts))


def _options(facts: Facts) -> str:
    instance = facts.instance or "INSTANCE-ID"
    return f"aws ec2 modify-instance-metadata-options --instance-id {instance}"


def is_asked_too_much(facts: Facts) -> bool:
    """Whether it matters who asks IMDS."""
    imds = facts.imds
    is_slow = imds.state == "throttled" or imds.seconds > SLOW
    return is_slow or any(eni.exceeded for eni in facts.enis)


def _by_whom(facts: Facts) -> str:
    """Who asks it most, if that is known."""
    if not facts.askers:
        return ""
    most = facts.askers[0]
    return f"; {most.name} asks it most: {most.connections} connections within some seconds"


def _stop_asking(facts: Facts) -> Iterator[str]:
    """What stops those who ask too much, the busiest first; else the command that finds them."""
    stops = [asker.stop for asker in facts.askers if asker.stop]
    if any(stop.startswith(("sudo kill", "sudo systemctl")) for stop in stops):
        yield "# best have it ask less: what IMDS says can be kept. To end it:"
    yield from stops[:1]
    yield from (f"# or: {stop}" for stop in stops[1:])
    if not stops:
        yield "sudo ss -tnp dst 169.254.169.254   # who asks it? EC2 ends it a second after they do"


def _differ(imds: Imds, daemon: Daemon) -> bool:
    """Whether IMDS answers this command, but, by its last word, not the daemon."""
    return imds.state == "ok" and not daemon.imds_is_fine


def is_behind(imds: Imds, daemon: Daemon) -> bool:
    """Whether they differ, and the daemon has not asked since: what kept it may be mended."""
    asked = daemon.imds.get("asked")
    return _differ(imds, daemon) and asked is not None and asked < imds.since


def daemons_view(facts: Facts) -> Iterator[Finding]:
    """IMDS answers this command, but not the daemon."""
    daemon, said = facts.daemon, facts.daemon.imds
    is_so = _differ(facts.imds, daemon) and not is_behind(facts.imds, daemon)
    if is_so and not any(firewall(facts)):
        text = f"IMDS answers this command, but is {said['state']} for the daemon:"
        text += f" {said.get('detail')}."
        yield fail(
            "imds-daemon",
            text,
            "sudo systemctl restart nicwatchd",
            "# if that does not help: a firewall by user or cgroup? sudo nft list ruleset",
        )


def exceeded(facts: Facts) -> Iterator[Finding]:
    """EC2 dropped packets to IMDS, DNS and NTP because there were too many."""
    for eni in facts.enis:
        if eni.exceeded:
            text = f"EC2 has dropped {eni.exceeded} packets of {eni.name} to IMDS, DNS or NTP since"
            text += f" its driver was loaded: over 1024 a second{_by_whom(facts)}."
            yield warn("imds-allowance", text, *_stop_asking(facts))
