"""Checks of the software around: nicwatchd itself, other managers, networkd, resolved, kernel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from nicwatchd.cli.diagnosis.facts import Eni, Facts
from nicwatchd.cli.diagnosis.findings import Finding, fail, warn
from nicwatchd.cli.words import sentence
from nicwatchd.core.model import PROTOCOL, IPAddress, ours
from nicwatchd.core.port import RouteAnswer
from nicwatchd.core.remedies import DOCTOR

# The kernels in which `suppress_prefixlength` leaks memory for IPv6: mainline's first and the
# first stable one with the fix ("ipv6: fix memory leak in fib6_rule_suppress").
LEAKS: Final = (
    ((5, 4, 0), (5, 4, 164)),
    ((5, 5, 0), (5, 10, 84)),
    ((5, 11, 0), (5, 15, 7)),
)
OLDEST: Final = (4, 17, 0)  # the first with protocols of rules
OF_ITSELF: Final = "# it ends once IMDS gives the right answer: nicwatchd asks again by itself"
DROP_IN: Final = "/etc/systemd/networkd.conf.d/99-nicwatchd.conf"


def settings(facts: Facts) -> Iterator[Finding]:
    """The settings are wrong."""
    if facts.settings_error:
        text = f"the settings are wrong: {sentence(facts.settings_error)} nicwatchd does not start"
        text += " with them; while it runs, it keeps the ones before."
        named = facts.settings_error.partition(": ")[0]
        file = named if named.startswith("/") else facts.config
        yield fail("settings", text, f"sudo editor {file}", "sudo systemctl reload nicwatchd")


def platform(facts: Facts) -> Iterator[Finding]:
    """A daemon would idle here. One that works has settings that say otherwise."""
    if facts.not_ec2 and not (facts.settings_error and facts.daemon.works):
        yield warn(
            "platform",
            "the firmware does not say that this is an EC2 host: nicwatchd manages nothing here.",
            f'# if it is one: platform = "ec2" in {facts.config}',
        )


def daemon(facts: Facts) -> Iterator[Finding]:
    """The daemon failed, hangs, or has problems."""
    of = facts.daemon
    look = "journalctl -u nicwatchd -n 20"
    if of.unit == "failed":
        yield fail(
            "unit", "nicwatchd.service has failed.", look, "sudo systemctl restart nicwatchd"
        )
    elif of.pid and of.status is None:
        text = f"the daemon (pid {of.pid}) does not answer: it hangs."
        yield fail("daemon", text, "sudo systemctl restart nicwatchd")
    elif of.enabled == "enabled" and of.unit == "inactive":
        text = "nicwatchd.service is enabled, and does not run."
        yield fail("unit", text, "sudo systemctl start nicwatchd")
    elif of.pid is None and (left := _left_behind(facts)):
        text = f"no daemon runs, and {left} of nicwatchd's are in the kernel: nothing heals them,"
        text += " or follows a change."
        yield warn(
            "daemon",
            text,
            "sudo systemctl start nicwatchd",
            "# or, to take them away: sudo nicwatchd release --all",
        )
    said: Any = of.status or {}
    known = {said.get("bad_settings")} if facts.settings_error else set()
    for problem in (each for each in said.get("problems", ()) if each not in known):
        yield fail("daemon", f"the daemon has a problem: {problem}.", look)
    if said.get("released"):
        text = "nicwatchd leaves this host alone: an operator released it."
        yield warn("released", text, "sudo nicwatchd reconcile")


def _left_behind(facts: Facts) -> str:
    """What nicwatchd put into the kernel; empty: nothing."""
    rules = sum(rule.protocol == PROTOCOL for rule in facts.rules)
    addresses = sum(ours(address) for eni in facts.enis for address in eni.addresses)
    parts = [(rules, "rules"), (addresses, "addresses")]
    return " and ".join(f"{count} {what}" for count, what in parts if count)


def verdicts(facts: Facts) -> Iterator[Finding]:
    """What the daemon itself says is wrong with an ENI; once, where both families have it."""
    for interface in (facts.daemon.status or {}).get("interfaces", ()):
        name = interface["name"]
        found: dict[tuple[str, str, str, str], list[str]] = {}
        for family in ("ipv4", "ipv6"):
            part = interface.get(family) or {}
            if part.get("health") in (None, "working"):
                continue
            waits = part.get("waits")
            for cause in part.get("causes", ()):
                mend = cause.get("remedy") or f"nicwatchd explain {name}"
                if cause.get("remedy") == DOCTOR:
                    if not _imds_answers(facts):
                        continue  # the checks of IMDS say why
                    mend = OF_ITSELF
                elif waits and not cause.get("remedy"):
                    continue  # it ends by itself
                how = "waits" if waits else part["health"]
                key = (how, cause["code"], sentence(cause["text"]), mend)
                found.setdefault(key, []).append(family)
        for (how, code, text, mend), families in found.items():
            say = fail if how == "not-working" else warn
            label = " and ".join(families).replace("ip", "IP")
            head = f"{name} waits for {label}" if how == "waits" else f"{name}, {label}"
            own = (ip for family in families for ip in interface[family].get("addresses", ()))
            yield replace(say(code, f"{head}: {text}", mend), about=(name, *own))


def _imds_answers(facts: Facts) -> bool:
    """Whether it answers this command, and the daemon."""
    return facts.imds.is_fine and facts.daemon.imds_is_fine


def managers(facts: Facts) -> Iterator[Finding]:
    """Another program configures new ENIs, too."""
    for tool in facts.tools:
        text = f"{tool.name} configures ENIs, too ({tool.signs[0]}). Its rules come before"
        text += " nicwatchd's, and what it takes away on its own is missing for a moment."
        yield warn(
            "other-manager",
            text,
            "sudo nicwatchd migrate --dry-run   # shows what would be done",
            "sudo nicwatchd migrate",
        )


def networkd(facts: Facts) -> Iterator[Finding]:
    """systemd-networkd removes the rules and routes of others."""
    if facts.networkd is None:
        return
    kept = [facts.networkd.manages_rules, facts.networkd.manages_routes]
    keys = ["ManageForeignRoutingPolicyRules", "ManageForeignRoutes"]
    missing = [f"{key}=no" for key, manages in zip(keys, kept, strict=True) if manages]
    if missing:
        text = f"systemd-networkd has no {' and no '.join(missing)}: whenever it configures a link"
        text += " it removes the rules or routes of all others."
        yield warn(
            "networkd-drop-in",
            text,
            f"sudo mkdir -p {DROP_IN.rpartition('/')[0]}",
            r"printf '[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n' \
  | sudo tee "
            + DROP_IN,
            "sudo systemctl restart systemd-networkd",
        )


def dns(facts: Facts) -> Iterator[Finding]:
    """systemd-resolved asks name servers by an ENI that does not lead to them."""
    for eni in facts.others:
        lost = [server for server in eni.dns if not _leads_to(facts, eni, server)]
        if lost:
            text = f"systemd-resolved asks {lost[0]} by {eni.name}, which does not lead there:"
            text += " names may take seconds, or not resolve."
            yield warn(
                "dns",
                text,
                f"sudo resolvectl revert {eni.name}",
                f"# for good: UseDNS=no under [DHCPv4] in the .network file of {eni.name}",
            )


def _leads_to(facts: Facts, eni: Eni, server: IPAddress) -> bool:
    """Whether queries by an ENI arrive: a VPC's name server is in that VPC alone."""
    if server.is_link_local:
        return True
    primary = facts.primary
    if primary and None not in (eni.vpc, primary.vpc) and eni.vpc != primary.vpc:
        return server not in primary.dns
    answer = facts.answers.get((None, server, eni.index))
    # Without a route, IPv4's answer for a bound socket is that all of the world is on the link.
    return isinstance(answer, RouteAnswer) and answer.oif == eni.index and answer.table != 0


def kernel(facts: Facts) -> Iterator[Finding]:
    """A kernel with a defect that nicwatchd's rules meet."""
    version = facts.kernel
    if version is None:
        return
    shown = ".".join(map(str, version))
    mend = "sudo apt-get install --only-upgrade linux-image-$(uname -r | sed 's/.*-//')"
    mend = f"{mend}   # or: sudo dnf upgrade kernel; then reboot"
    if version < OLDEST:
        yield fail("kernel", f"Linux {shown} is too old: nicwatchd needs 4.17 or later.", mend)
    elif any(first <= version < mended for first, mended in LEAKS):
        text = f"Linux {shown} leaks memory with rules that suppress a prefix length, for each IPv6"
        text += " packet they decide on: 5.4.164, 5.10.84, 5.15.7 and 5.16 do not."
        yield warn("kernel", text, mend)
