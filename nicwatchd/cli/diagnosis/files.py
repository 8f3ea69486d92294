"""What files say: sysctls, systemd-networkd's settings, systemd-resolved's servers, the kernel."""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from nicwatchd.cli.diagnosis.facts import Networkd, Sysctls, Version
from nicwatchd.cli.migration.system import System
from nicwatchd.core.model import IPAddress

SYSCTLS: Final = "/proc/sys/net"
NETWORKD_STATE: Final = "/run/systemd/netif/state"
# In the order of precedence: of one name, the first file counts.
NETWORKD: Final = (
    "/etc/systemd/networkd.conf.d",
    "/run/systemd/networkd.conf.d",
    "/usr/local/lib/systemd/networkd.conf.d",
    "/usr/lib/systemd/networkd.conf.d",
    "/lib/systemd/networkd.conf.d",
)
MAIN_FILES: Final = ("/usr/lib/systemd/networkd.conf", "/etc/systemd/networkd.conf")
NO: Final = frozenset({"no", "false", "0", "off", "n", "f"})
ENDED: Final = frozenset({"inactive", "failed"})


def sysctls(system: System, name: str) -> Sysctls:
    """The kernel's settings of a link."""
    ipv4, ipv6 = f"{SYSCTLS}/ipv4/conf", f"{SYSCTLS}/ipv6/conf/{name}"
    filters = [_number(system, f"{ipv4}/{each}/rp_filter") for each in ("all", name)]
    known = [each for each in filters if each is not None]
    return Sysctls(
        rp_filter=max(known) if known else None,
        accept_ra=_number(system, f"{ipv6}/accept_ra"),
        forwarding=_number(system, f"{ipv6}/forwarding"),
        disable_ipv6=_number(system, f"{ipv6}/disable_ipv6"),
    )


def _number(system: System, name: str) -> int | None:
    text = (system.read(name) or "").strip()
    return int(text) if text.isdecimal() else None


def networkd(system: System) -> Networkd | None:
    """What systemd-networkd's settings say; None where it does not run."""
    if system.read(NETWORKD_STATE) is None:
        return None
    if system.systemctl("is-active", "systemd-networkd.service") in ENDED:
        return None
    said: dict[str, str] = {}
    for name in (*MAIN_FILES, *_drop_ins(system)):
        said |= _network_section(system.read(name) or "")
    return Networkd(
        manages_rules=said.get("manageforeignroutingpolicyrules", "yes").lower() not in NO,
        manages_routes=said.get("manageforeignroutes", "yes").lower() not in NO,
    )


def _drop_ins(system: System) -> Iterator[str]:
    """All drop-ins by their names; of one name, that of the first directory."""
    found: dict[str, str] = {}
    for directory in NETWORKD:
        for name in system.find(directory, "*.conf"):
            found.setdefault(name.rpartition("/")[2], name)
    return (found[name] for name in sorted(found))


def _network_section(text: str) -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    try:
        parser.read_string(text)
    except configparser.Error:
        return {}
    said = parser.items("Network") if parser.has_section("Network") else ()
    return {key: value or "" for key, value in said}


def name_servers(system: System, index: int) -> tuple[IPAddress, ...]:
    """The servers that systemd-resolved asks by a link: by networkd's word, or by others'.

    networkd's `DNS=` are those of its lease and of its files; `SERVERS=` were set by resolvectl, or
    by NetworkManager.
    """
    networkd, resolved = f"/run/systemd/netif/links/{index}", f"/run/systemd/resolve/netif/{index}"
    if system.read("/run/systemd/resolve/resolv.conf") is None:
        return ()  # resolved does not run
    set_by_others = _servers(system.read(resolved) or "", "SERVERS")
    return set_by_others or _servers(system.read(networkd) or "", "DNS")


def _servers(text: str, key: str) -> tuple[IPAddress, ...]:
    found = re.search(rf"(?m)^{key}=(.*)$", text)
    return tuple(_addresses(found[1] if found else ""))


def _addresses(text: str) -> Iterator[IPAddress]:
    """The addresses; a port, a link and a server's name may follow each."""
    for word in text.split():
        bare = word.partition("#")[0].partition("%")[0]
        bare = bare.strip("[]") if not bare.startswith("[") else bare[1:].partition("]")[0]
        try:
            yield ip_address(bare)
        except ValueError:
            continue


def kernel(system: System) -> Version | None:
    """Mainline's version that the kernel was made from; None where that cannot be told.

    Distributions keep the release (5.15.0-91-generic) while they take mainline's fixes.
    """
    signature = system.read("/proc/version_signature") or ""  # Ubuntu's
    exact = re.search(r"(\d+)\.(\d+)\.(\d+)\s*$", signature.strip())
    banner = system.read("/proc/version") or ""
    exact = exact or re.search(r"Debian (\d+)\.(\d+)\.(\d+)", banner)
    if exact is None:
        exact = re.search(r"^Linux version (\d+)\.(\d+)\.(\d+)", banner)
        if exact and exact[3] == "0" and (int(exact[1]), int(exact[2])) < (6, 0):
            return None
    return (int(exact[1]), int(exact[2]), int(exact[3])) if exact else None
