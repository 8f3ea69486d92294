"""amazon-ec2-net-utils 2: a udev rule starts `policy-routes@LINK.service` and its refresh timer.

They write /run/systemd/network/70-LINK.network.d, from which systemd-networkd makes the rules, the
table and the IPv4 addresses of the link. All of that ends with the service. The package stays: its
80-ec2.network is what runs DHCP, on the primary too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Final

from nicwatchd.cli.migration.findings import Finding, Ground, Takeover, link_of
from nicwatchd.cli.migration.steps import Step
from nicwatchd.cli.migration.system import System
from nicwatchd.cli.migration.traces import LinkAddress, SourceRule

TOOL: Final = "amazon-ec2-net-utils"
RULES: Final = "udev/rules.d/99-vpc-policy-routes.rules"
MASK: Final = f"/etc/{RULES}"
SHIPPED: Final = (f"/usr/lib/{RULES}", f"/lib/{RULES}")
DHCP: Final = "systemd/network/80-ec2.network"
# Sorts before 80-ec2.network, and after what the tool itself writes for a link.
PRIMARY_FILE: Final = "/etc/systemd/network/79-nicwatchd-primary.network"
PRIMARY_METRIC: Final = 512  # the tool's own
# Its priorities and tables: 10000 + 100 x card + device number.
NUMBERS: Final = range(10_000, 20_000)
DROP_INS: Final = ("/run/systemd/network", "/etc/systemd/network")
OWN_DROP_INS: Final = frozenset(
    {"eni.conf", "ec2net_alias.conf", "ec2net_policy_4.conf", "ec2net_policy_6.conf"}
)
UNITS: Final = ("policy-routes@*.service", "refresh-policy-routes@*.timer")
INSTANCE: Final = re.compile(r"@(.+)\.(?:service|timer)$")


def find(ground: Ground) -> Finding | None:
    """What there is of it; None if it is not at work."""
    system = ground.system
    links = sorted(set(_links(system, ground.primary)))
    watching = _is_watching(system)
    if not (links or watching):
        return None
    signs = [f"its udev rule {system.first(*SHIPPED)}"] if watching else []
    signs += [f"its units for {link}" for link in links]
    takeover = _takeover(ground)
    return Finding(
        TOOL,
        tuple(signs),
        tuple(_steps(ground, links, takeover)),
        notes=(
            "the package stays installed: its 80-ec2.network is what runs DHCP",
            "the files of the primary in /run/systemd/network stay until the next boot",
        ),
        refusals=(*_users_settings(system), *_no_dhcp(system), *takeover.refusals()),
    )


def _is_watching(system: System) -> bool:
    """Whether its udev rule is there, and is not masked by an empty file."""
    return system.first(*SHIPPED) is not None and system.read(MASK) != ""


def _links(system: System, primary: str | None) -> Iterator[str]:
    """The links of its units that run, or that the next boot starts.

    That the primary's service "runs" says only that it ran: a migration lets it be.
    """
    shown = system.must("systemctl", "list-units", "--all", "--plain", "--no-legend", *UNITS)
    rows = (line.split() for line in shown.splitlines())
    names = [row[0] for row in rows if row[2:3] == ["active"]]
    names = [name for name in names if name != f"policy-routes@{primary}.service"]
    names += [name for unit in UNITS for name in system.find("/etc/systemd/system", f"*/{unit}")]
    for name in names:
        found = INSTANCE.search(name)
        if found:
            yield found[1]


def _takeover(ground: Ground) -> Takeover:
    takeover = Takeover(ground)
    for rule in ground.kernel.foreign(_is_its):
        link = link_of(rule, ground.kernel, ground.interfaces)
        takeover.rules.setdefault(link, []).append(rule)
    for link, ip in _aliases(ground.system):
        takeover.addresses.setdefault(link, []).append(LinkAddress(link, ip.ip, 32))
    return takeover


def _is_its(rule: SourceRule) -> bool:
    return rule.table == rule.priority and rule.priority in NUMBERS


def _aliases(system: System) -> Iterator[tuple[str, IPv4Interface | IPv6Interface]]:
    """The IPv4 addresses that it gives to links."""
    for name in system.find("/run/systemd/network", "70-*.network.d/ec2net_alias.conf"):
        link = name.split("/")[-2].removeprefix("70-").removesuffix(".network.d")
        for address in re.findall(r"(?m)^Address=(\S+)$", system.read(name) or ""):
            yield link, ip_interface(address)


def _users_settings(system: System) -> Iterator[str]:
    """Settings of the user's for the tool's own files: they would end with those files."""
    for directory in DROP_INS:
        for name in system.find(directory, "70-*.network.d/*.conf"):
            if name.rsplit("/", 1)[1] not in OWN_DROP_INS:
                yield (
                    f"{name} adds settings to a file that the tool makes, and that would go: "
                    "move them to a .network file of your own"
                )


def _no_dhcp(system: System) -> Iterator[str]:
    if _dhcp_file(system) is None:
        yield "its 80-ec2.network is not there: nothing would run DHCP after the next boot"


def _dhcp_file(system: System) -> str | None:
    return system.first(f"/etc/{DHCP}", f"/usr/lib/{DHCP}", f"/lib/{DHCP}")


def _steps(ground: Ground, links: list[str], takeover: Takeover) -> Iterator[Step]:
    reload = [["udevadm", "control", "--reload-rules"]]
    yield Step(
        "file",
        f"mask its udev rule with an empty {MASK}",
        "so that it does not start for the next interface",
        {"path": MASK, "text": ""},
    )
    why = "udev reads its rules again"
    yield Step("command", "udevadm control --reload-rules", why, {"do": reload, "undo": reload})
    yield from _keep_the_primary_first(ground)
    timers = [f"refresh-policy-routes@{link}.timer" for link in links]
    if timers:
        why = "it writes its configuration anew every minute"
        yield Step("units", f"disable and stop {', '.join(timers)}", why, {"units": timers})
    for link in links:
        yield from _end(link, takeover, is_primary=link == ground.primary)


def _end(link: str, takeover: Takeover, *, is_primary: bool) -> Iterator[Step]:
    service = f"policy-routes@{link}.service"
    if is_primary:
        why = "stopping it would configure the primary anew; nothing runs of it but at the boot"
        args = {"units": [service], "keep": True}
        yield Step("units", f"disable {service}, but let it be", why, args)
        return
    yield takeover.confirm(link, after=False)
    yield from takeover.adopt(link)
    units = [service, f"refresh-policy-routes@{link}.service"]
    why = "this removes its rules, its table and its addresses, by systemd-networkd"
    yield Step("units", f"disable and stop {service}", why, {"units": units})
    yield takeover.confirm(link, after=True)


def _keep_the_primary_first(ground: Ground) -> Iterator[Step]:
    """Without the tool, networkd would give all ENIs' default routes one metric."""
    mac, name = ground.status["primary_mac"], _dhcp_file(ground.system)
    if not (mac and name):
        return
    text = primary_network(ground.system.read(name) or "", mac)
    yield Step(
        "file",
        f"write {PRIMARY_FILE}, a copy of {name} for the primary with metric {PRIMARY_METRIC}",
        "the tool gave its default route this metric; at the next boot nothing else would keep "
        "the routes of other interfaces behind it",
        {"path": PRIMARY_FILE, "text": text},
    )


def primary_network(shipped: str, mac: str) -> str:
    """The tool's .network file, for the primary alone and with its metrics."""
    lines = ["# Written by `nicwatchd migrate`.", "[Match]", f"MACAddress={mac}"]
    section = ""
    for line in shipped.splitlines():
        section = line if line.startswith("[") else section
        if section != "[Match]":
            lines.append(line)
            if section == "[Route]" and line.startswith("Gateway="):
                lines.append(f"Metric={PRIMARY_METRIC}")
    for name in ("DHCPv4", "IPv6AcceptRA"):
        lines += ["", f"[{name}]", f"RouteMetric={PRIMARY_METRIC}"]
    return "\n".join(lines) + "\n"
