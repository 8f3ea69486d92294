"""The table of all checks, in the order in which their findings are told."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from nicwatchd.cli.diagnosis import imds, links, ports, routing, software
from nicwatchd.cli.diagnosis.facts import Facts
from nicwatchd.cli.diagnosis.findings import Check, Finding, Severity


def _answers(facts: Facts) -> bool:
    return facts.daemon.status is not None


CHECKS: Final = (
    Check("settings", software.settings),
    Check("platform", software.platform),
    Check("daemon", software.daemon, lambda f: _answers(f) or any(software.daemon(f))),
    Check("links", links.down),
    Check("addresses", links.unconfigured),
    Check("rules before", routing.taken_away),
    Check("rules behind", routing.behind_ours),
    Check("default route", routing.default_route),
    Check("served", routing.unserved),
    Check("new subnets", routing.new_subnet),
    Check("error routes", routing.error_route),
    Check("IMDS", imds.condition, lambda facts: not facts.not_ec2),
    Check("IMDS firewall", imds.firewall, lambda facts: facts.firewall is not None),
    Check("IMDS of the daemon", imds.daemons_view, _answers),
    Check("IMDS allowance", imds.exceeded, lambda f: any(e.exceeded is not None for e in f.enis)),
    Check("published ports", ports.published_ports, lambda facts: facts.firewall is not None),
    Check("container addresses", ports.container_addresses),
    Check("rp_filter", links.rp_filter),
    Check("accept_ra", links.accept_ra),
    Check("IPv6 switch", links.ipv6_off),
    Check("MTU", links.mtu),
    Check("other managers", software.managers),
    Check("networkd drop-in", software.networkd),
    Check("DNS by link", software.dns),
    Check("kernel", software.kernel, lambda facts: facts.kernel is not None),
    Check("verdicts of the daemon", software.verdicts, _answers),
)
TITLES: Final = frozenset(check.title for check in CHECKS)
# Those that say why IMDS does not answer the daemon.
OF_IMDS: Final = frozenset(title for title in TITLES if title.startswith("IMDS"))
# By what other code a check tells of what the daemon tells by this one.
SAME: Final[Mapping[str, tuple[str, ...]]] = {
    "leaves-elsewhere": ("rule-before", "default-route"),
    "strict-filter": ("rp-filter",),
    "address-missing": ("container-address",),
}
OF_A_SUBNET: Final = {"new-subnet", "rule-before"}


def examine(facts: Facts, titles: Collection[str] = TITLES) -> tuple[list[Finding], list[str]]:
    """What hurts, the worst first, each once; and the titles of the checks that found nothing."""
    found = {
        check.title: list(dict.fromkeys(check.find(facts)))
        for check in CHECKS
        if check.title in titles and check.can_see(facts)
    }
    known = [finding for some in found.values() for finding in some if not finding.about]
    every = [f for some in found.values() for f in some if not _is_told(f, known)]
    findings = sorted(every, key=lambda finding: finding.severity is not Severity.FAIL)
    return findings, [title for title, some in found.items() if not some]


def _is_told(verdict: Finding, known: Iterable[Finding]) -> bool:
    """Whether a check found the reason of a verdict, or its remedy, by itself."""
    if not verdict.about:
        return False
    of_subnet = "no host of" in verdict.text
    codes = OF_A_SUBNET if of_subnet else {verdict.code, *SAME.get(verdict.code, ())}
    for finding in known:
        words = {word.strip(".,:;()") for word in finding.text.split()}
        is_same = finding.code in codes and not words.isdisjoint(verdict.about)
        if is_same or verdict.mend in finding.mend.splitlines():
            return True
    return False
