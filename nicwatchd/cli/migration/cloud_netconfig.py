"""cloud-netconfig of SUSE: a timer, a script of NetworkManager, a module of wicked's netconfig.

They add secondary IPv4 addresses, rules and tables with `ip`. Its udev rule stays: that one only
gives a new interface its DHCP configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Final

from nicwatchd.cli.migration.findings import Finding, Ground, Takeover, link_of
from nicwatchd.cli.migration.steps import ENABLED, RUNNING, Step
from nicwatchd.cli.migration.system import System
from nicwatchd.cli.migration.traces import LinkAddress, SourceRule

TOOL: Final = "cloud-netconfig"
SERVICE, TIMER = "cloud-netconfig.service", "cloud-netconfig.timer"
DEFAULT: Final = "/etc/default/cloud-netconfig"
SHIPPED_DEFAULT: Final = "/usr/etc/default/cloud-netconfig"
IFCFG: Final = "/etc/sysconfig/network"
MODULES: Final = ("/etc/netconfig.d/cloud-netconfig", "/usr/libexec/netconfig.d/cloud-netconfig")
DISPATCHERS: Final = (
    "/etc/NetworkManager/dispatcher.d",
    "/usr/lib/NetworkManager/dispatcher.d",
)
LOGS: Final = ("/run/netconfig/cloud", "/run/cloud-netconfig")  # what it added, by link
# Newer versions have priorities and tables of 30000 and up, older ones 10X00 and 10X.
NUMBERS: Final = range(30_000, 31_000)
OLD_PRIORITIES, OLD_TABLES = range(10_000, 11_000), range(100, 110)
MANAGE: Final = re.compile(r"""(?m)^(\s*CLOUD_NETCONFIG_MANAGE=)["']?yes["']?[ \t]*$""")


def find(ground: Ground) -> Finding | None:
    """What there is of it; None if it is not at work."""
    system = ground.system
    units = [unit for unit in (TIMER, SERVICE) if _is_on(system, unit)]
    scripts = list(_scripts(system))
    managed = [n for n in system.find(IFCFG, "ifcfg-*") if MANAGE.search(system.read(n) or "")]
    module = system.first(*MODULES)
    if not (units or scripts or (module and managed)):
        return None
    takeover = _takeover(ground)
    signs = [f"{unit} is enabled or active" for unit in units]
    signs += [f"the script {name}" for name in scripts]
    signs += [f"{name} has CLOUD_NETCONFIG_MANAGE=yes" for name in managed]
    return Finding(
        TOOL,
        tuple(signs),
        tuple(_steps(system, takeover, scripts, managed)),
        notes=("its udev rule stays: it gives a new interface its DHCP configuration",),
        refusals=(*_whole_prefixes(ground), *takeover.refusals()),
    )


def _is_on(system: System, unit: str) -> bool:
    enabled, active = (system.systemctl(verb, unit) for verb in ("is-enabled", "is-active"))
    return enabled in ENABLED or active in RUNNING


def _scripts(system: System) -> Iterator[str]:
    """Its scripts for NetworkManager that are in force: a file in /etc stands for the other."""
    seen: set[str] = set()
    for directory in DISPATCHERS:
        for name in system.find(directory, "*cloud-netconfig*"):
            file = name.rsplit("/", 1)[1]
            if file not in seen and (system.read(name) or "").strip():
                yield name
            seen.add(file)


def _takeover(ground: Ground) -> Takeover:
    takeover = Takeover(ground)
    for rule in ground.kernel.foreign(_is_its):
        link = link_of(rule, ground.kernel, ground.interfaces)
        takeover.rules.setdefault(link, []).append(rule)
    for link, text in _logged(ground.system):
        address = ip_interface(text)
        if address.ip in ground.kernel.on(link):
            entry = LinkAddress(link, address.ip, address.network.prefixlen)
            takeover.addresses.setdefault(link, []).append(entry)
    return takeover


def _is_its(rule: SourceRule) -> bool:
    new = rule.priority in NUMBERS and rule.table in NUMBERS
    return new or (rule.priority in OLD_PRIORITIES and rule.table in OLD_TABLES)


def _logged(system: System) -> Iterator[tuple[str, str]]:
    for directory in LOGS:
        for name in system.find(directory, "*"):
            for text in (system.read(name) or "").split():
                yield name.rsplit("/", 1)[1], text


def _whole_prefixes(ground: Ground) -> Iterator[str]:
    """It can make all addresses of a delegated prefix the host's own; nicwatchd does not."""
    for net in ground.kernel.local_prefixes:
        yield f"the whole of {net} is local to this host, which nicwatchd would not make it"


def _steps(
    system: System, takeover: Takeover, scripts: list[str], managed: list[str]
) -> Iterator[Step]:
    start = [["systemctl", "start", SERVICE]]
    what, why = f"(for --undo: start {SERVICE})", "it then puts its own back"
    yield Step("command", what, why, {"do": [], "undo": start})
    args = {"units": [TIMER, SERVICE], "mask": True}
    yield Step("units", f"stop and mask {TIMER} and {SERVICE}", "it runs every minute", args)
    for name in managed:
        text = MANAGE.sub(r'\1"no"', system.read(name) or "")
        what, why = f"set CLOUD_NETCONFIG_MANAGE=no in {name}", "wicked runs it at each lease"
        yield Step("file", what, why, {"path": name, "text": text})
    what = f"set CLOUD_NETCONFIG_MANAGE=no in {DEFAULT}"
    why = "that is what its udev rule writes for a new interface"
    yield Step("file", what, why, {"path": DEFAULT, "text": _default(system)})
    for name in scripts:
        mask = f"{DISPATCHERS[0]}/{name.rsplit('/', 1)[1]}"
        what = f"empty {mask}" if name == mask else f"mask {name} with an empty {mask}"
        yield Step("file", what, "NetworkManager runs it", {"path": mask, "text": ""})
    for link in takeover.links:
        yield from _end(link, takeover)


def _default(system: System) -> str:
    text = system.read(DEFAULT) or system.read(SHIPPED_DEFAULT) or ""
    if MANAGE.search(text):
        return MANAGE.sub(r'\1"no"', text)
    return f'{text}CLOUD_NETCONFIG_MANAGE="no"\n'


def _end(link: str, takeover: Takeover) -> Iterator[Step]:
    rules, addresses = takeover.rules.get(link, []), takeover.addresses.get(link, [])
    yield takeover.confirm(link, after=False)
    yield from takeover.adopt(link)
    if rules:
        tables = sorted({(rule.source.version, rule.table) for rule in rules})
        args = {"rules": [[r.source.version, str(r)] for r in rules], "tables": tables}
        what = f"remove its {len(rules)} rules for {link}, and flush their tables"
        yield Step("rules", what, "nicwatchd's lead the same way", args)
    if addresses:
        texts = [f"{a.ip}/{a.prefixlen}" for a in addresses]
        args = {"addresses": [[link, text] for text in texts]}
        what = f"remove {', '.join(texts)} from {link}"
        why = "nicwatchd puts them back as its own, and removes them when EC2 takes them away"
        yield Step("addresses", what, why, args)
    yield takeover.confirm(link, after=True)
