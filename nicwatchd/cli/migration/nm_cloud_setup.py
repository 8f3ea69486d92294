"""nm-cloud-setup: a service, its timer, and a script of NetworkManager that starts it.

It changes what NetworkManager applies to a device, and no profile: `nmcli device reapply` goes back
to the profile, and with it go its rules, its tables and its addresses.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from typing import Final

from nicwatchd.cli.migration.findings import Finding, Ground, Takeover, link_of
from nicwatchd.cli.migration.steps import ENABLED, RUNNING, Step
from nicwatchd.cli.migration.system import System
from nicwatchd.cli.migration.traces import SourceRule

TOOL: Final = "nm-cloud-setup"
SERVICE, TIMER = "nm-cloud-setup.service", "nm-cloud-setup.timer"
NUMBERS: Final = range(30_200, 31_000)  # of its priorities and of its tables
PROFILES: Final = (
    "/etc/NetworkManager/system-connections",
    "/run/NetworkManager/system-connections",
)
ADDRESS: Final = re.compile(r"address(es)?\d*$")


def find(ground: Ground) -> Finding | None:
    """What there is of it; None if it is not at work."""
    system = ground.system
    units = [unit for unit in (TIMER, SERVICE) if _is_on(system, unit)]
    if not units or not _is_for_ec2(system):
        return None
    takeover = _takeover(ground)
    refusals = [*_profiles_with_addresses(system), *takeover.refusals()]
    signs = tuple(f"{unit} is enabled or active, with NM_CLOUD_SETUP_EC2" for unit in units)
    return Finding(TOOL, signs, tuple(_steps(takeover)), refusals=tuple(refusals))


def _is_on(system: System, unit: str) -> bool:
    enabled, active = (system.systemctl(verb, unit) for verb in ("is-enabled", "is-active"))
    return enabled in ENABLED or active in RUNNING


def _is_for_ec2(system: System) -> bool:
    """Each cloud is off until its variable is set."""
    said = system.must("systemctl", "show", "--property=Environment", "--value", SERVICE)
    return re.search(r"NM_CLOUD_SETUP_EC2=(1|y|yes|t|true|on)\b", said) is not None


def _takeover(ground: Ground) -> Takeover:
    takeover = Takeover(ground)
    for rule in ground.kernel.foreign(_is_its):
        link = link_of(rule, ground.kernel, ground.interfaces)
        takeover.rules.setdefault(link, []).append(rule)
    enis = {interface["name"] for interface in ground.interfaces}
    for address in ground.kernel.addresses:
        # It adds what IMDS lists with the length of the subnet, for good; a lease ends.
        alone = address.prefixlen == address.ip.max_prefixlen
        if address.ip.version == 4 and address.link in enis and not (address.dynamic or alone):  # noqa: PLR2004
            takeover.addresses.setdefault(address.link, []).append(address)
    return takeover


def _is_its(rule: SourceRule) -> bool:
    return rule.table == rule.priority and rule.priority in NUMBERS


def _profiles_with_addresses(system: System) -> Iterator[str]:
    """Profiles that carry addresses themselves: whose an address is cannot be told there."""
    for directory in PROFILES:
        for name in system.find(directory, "*.nmconnection"):
            profile = configparser.ConfigParser(interpolation=None, strict=False)
            profile.read_string(system.read(name) or "")
            of_ethernet = profile.get("connection", "type", fallback="") == "ethernet"
            sections = (profile[each] for each in ("ipv4", "ipv6") if each in profile)
            carries = any(ADDRESS.match(key) for section in sections for key in section)
            if of_ethernet and carries:
                yield (
                    f"{name} carries addresses itself: NetworkManager keeps them on the link "
                    "whatever IMDS lists, and nicwatchd changes no profile"
                )


def _steps(takeover: Takeover) -> Iterator[Step]:
    start = [["systemctl", "start", SERVICE]]
    what, why = f"(for --undo: start {SERVICE})", "it then puts its own back"
    yield Step("command", what, why, {"do": [], "undo": start})
    units = [TIMER, SERVICE]
    why = "NetworkManager's script starts the service only where it is enabled"
    yield Step("units", f"disable and stop {TIMER} and {SERVICE}", why, {"units": units})
    for link in takeover.links:
        yield takeover.confirm(link, after=False)
        yield from takeover.adopt(link)
        reapply = [["nmcli", "device", "reapply", link]]
        why = "back to the profile: this removes its rules, its table and its addresses"
        args = {"do": reapply, "undo": []}
        yield Step("command", f"nmcli device reapply {link}", why, args)
        yield takeover.confirm(link, after=True)
