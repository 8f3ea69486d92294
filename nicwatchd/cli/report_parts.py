"""The parts of a bug report that files and other programs give.

What could hold a secret is not asked for: of IMDS only `mac` and `network/interfaces/macs/`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from nicwatchd import __version__
from nicwatchd.cli.archive import MissingError, Part
from nicwatchd.cli.client import DaemonError, fetch
from nicwatchd.cli.version import built_from, version_of
from nicwatchd.core.metadata import Value
from nicwatchd.imds.client import MACS, ImdsClient

PATIENCE: Final = 15.0  # s, for one program
LARGEST: Final = 16 << 20  # characters of what one program prints
EXPLAINED: Final = 16  # interfaces, at the most
ENTRIES: Final = "5000"  # of the journal, the latest
LEAVES: Final = 2000  # of IMDS; 64 ENIs have some 1500
# Of the fields that journald adds. The others name the host, its machine id, command lines.
TRUSTED: Final = ("__REALTIME_TIMESTAMP", "__MONOTONIC_TIMESTAMP", "_BOOT_ID", "_PID", "_UID")
UNIT: Final = "nicwatchd.service"
MANAGERS: Final = (
    *("systemd-networkd", "NetworkManager", "networking", "cloud-init", "dhcpcd", "nm-cloud-setup"),
    *("cloud-netconfig", "docker", "containerd", "kubelet", "firewalld", "nftables"),
)
LIBRARIES: Final = ("pyroute2", "aiohttp", "pydantic", "prometheus-client", "systemd-python")
SYSCTLS: Final = {
    "ipv4/conf": ("rp_filter", "forwarding", "arp_ignore", "arp_announce", "src_valid_mark"),
    "ipv6/conf": ("disable_ipv6", "accept_ra", "accept_ra_defrtr", "autoconf", "forwarding"),
}
SINGLE_SYSCTLS: Final = ("ipv4/ip_forward", "ipv4/fwmark_reflect", "ipv4/tcp_fwmark_accept")

KERNEL: Final = {
    "kernel/link.json": "ip -j -d link show",
    "kernel/addr.json": "ip -j -d addr show",
    "kernel/route-ipv4.json": "ip -j -d -4 route show table all",
    "kernel/route-ipv6.json": "ip -j -d -6 route show table all",
    "kernel/rule-ipv4.json": "ip -j -d -4 rule show",
    "kernel/rule-ipv6.json": "ip -j -d -6 rule show",
    "kernel/nexthop.json": "ip -j -d nexthop show",
    "kernel/nft.txt": "nft list ruleset",
    "kernel/iptables.txt": "iptables-save",
    "kernel/ip6tables.txt": "ip6tables-save",
}


def of_daemon(runtime_directory: Path, config: Path | None) -> Iterator[Part]:
    """What the daemon says, by its socket and by the commands; what doctor finds without it."""
    yield "status.json", partial(_fetched, runtime_directory, "/v1/status")
    yield "metrics.txt", partial(_fetched, runtime_directory, "/metrics")
    where = ("--runtime-directory", str(runtime_directory))
    settings = () if config is None else ("--config", str(config))
    yield "status.txt", partial(command, "status", *where)
    yield "explain.txt", partial(_explained, runtime_directory, *where)
    yield "doctor.txt", partial(command, "doctor", *where, *settings)


def _explained(runtime_directory: Path, *where: str) -> str:
    """Each interface explained."""
    interfaces = json.loads(_fetched(runtime_directory, "/v1/status"))["interfaces"]
    names = [interface["name"] for interface in interfaces][:EXPLAINED]
    return "\n".join(command("explain", name, *where) for name in names) or "no interfaces\n"


def of_journal() -> Iterator[Part]:
    """What the daemon wrote in this boot."""
    yield "journal.jsonl", journal
    yield "history.txt", partial(command, "history")
    yield "status-journal.txt", partial(command, "status", "--journal")


def of_host(config: Path) -> Iterator[Part]:
    """The settings, the kernel's objects, units and versions."""
    for file in sorted({config, *_toml_in(config.parent / "conf.d")}):
        yield f"settings/{file.relative_to(config.parent)}", partial(_read, file)
    for name, words in KERNEL.items():
        yield name, partial(program, *words.split())
    yield "kernel/sysctl.txt", sysctls
    yield "units.txt", partial(program, "systemctl", "--no-pager", "cat", UNIT)
    yield "managers.txt", managers
    yield "versions.txt", versions


def command(*words: str) -> str:
    """What a command of nicwatchd prints, whatever its exit code says of the host."""
    run = _run(sys.executable, "-m", "nicwatchd.cli.main", *words)
    if not run.stdout:
        why = run.stderr.strip().removeprefix("nicwatchd: ")
        raise MissingError(why or f"`nicwatchd {words[0]}` prints nothing")
    return run.stdout[:LARGEST]


def program(*words: str) -> str:
    """What a program prints. Raises MissingError where it fails."""
    run = _run(*words)
    if run.returncode:
        raise MissingError(run.stderr.strip() or f"`{' '.join(words)}` ends with {run.returncode}")
    return run.stdout[:LARGEST]


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "LC_ALL": "C"}
    try:
        return subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=PATIENCE,
            check=False,
            env=env,
        )
    except FileNotFoundError:
        raise MissingError(f"{words[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise MissingError(f"`{' '.join(words)}` took more than {PATIENCE:g} s") from None


def _fetched(runtime_directory: Path, path: str) -> str:
    try:
        return fetch(runtime_directory, path)
    except DaemonError as error:
        raise MissingError(str(error)) from None


def journal() -> str:
    """The latest entries of this boot about the service, without what tells of the host alone."""
    words = ("-b", "-n", ENTRIES, "--all", "-o", "json")
    run = _run("journalctl", "--quiet", *words, f"_SYSTEMD_UNIT={UNIT}", "+", f"UNIT={UNIT}")
    entries = [json.loads(line) for line in run.stdout[:LARGEST].split("\n")[:-1]]
    if not entries:
        raise MissingError(run.stderr.strip() or "no entries of this boot, or not readable")
    kept = (
        {key: value for key, value in entry.items() if key[0] != "_" or key in TRUSTED}
        for entry in entries
    )
    return "".join(f"{json.dumps(entry)}\n" for entry in kept)


def _toml_in(directory: Path) -> Iterable[Path]:
    try:
        return [file for file in directory.iterdir() if file.match("*.toml")]
    except OSError:
        return []


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise MissingError(f"{file}: {error.strerror}") from None


def sysctls(root: Path = Path("/proc/sys/net")) -> str:
    """The sysctls that decide what becomes of packets, as `sysctl` prints them."""
    files = [root / name for name in SINGLE_SYSCTLS]
    for directory, names in SYSCTLS.items():
        links = sorted((root / directory).iterdir()) if (root / directory).exists() else []
        files += [link / name for link in links for name in names]
    lines = []
    for file in files:
        try:
            lines.append(f"net/{file.relative_to(root)} = {file.read_text().strip()}\n")
        except OSError:  # this kernel does not have it, or the link has just gone
            continue
    return "".join(lines)


def managers() -> str:
    """Which network managers run."""
    run = _run("systemctl", "is-active", *MANAGERS)
    states = run.stdout.split("\n")
    if len(states) < len(MANAGERS):
        raise MissingError(run.stderr.strip() or "systemctl does not tell")
    return "".join(f"{name}: {state}\n" for name, state in zip(MANAGERS, states, strict=False))


def versions() -> str:
    """The versions of everything that matters, as far as they are known."""
    lines = [
        f"nicwatchd {__version__}, commit {built_from() or 'unknown'}",
        f"Python {platform.python_version()} ({sys.executable})",
        *(f"{name} {version_of(name)}" for name in LIBRARIES),
        f"Linux {platform.release()} {platform.machine()}",
    ]
    for words in (("systemctl", "--version"), ("ip", "-V"), ("nft", "--version")):
        try:
            lines.append(program(*words).split("\n")[0])
        except MissingError as error:
            lines.append(str(error))
    try:
        lines += ["", Path("/etc/os-release").read_text(encoding="utf-8").rstrip()]
    except OSError as error:
        lines.append(f"/etc/os-release: {error.strerror}")
    return "\n".join(lines) + "\n"


async def imds_keys(client: ImdsClient) -> dict[str, str | None]:
    """The names and values of `mac` and of all below `network/interfaces/macs/`; None: no answer.

    Raises MissingError where IMDS does not answer at all.
    """
    mac = await client.get("mac")
    if not isinstance(mac, Value):
        raise MissingError(str(client.condition))
    found: dict[str, str | None] = {"mac": mac.value}
    directories = [MACS]
    while directories and len(found) < LEAVES:
        directory = directories.pop()
        listing = await client.get(directory)
        if not isinstance(listing, Value):
            found[directory] = None
            continue
        for name in listing.value.split("\n"):
            # A damaged list must not lead elsewhere.
            if not name or "/" in name[:-1] or ".." in name or len(found) >= LEAVES:
                continue
            if name.endswith("/"):
                directories.append(f"{directory}{name}")
            else:
                answer = await client.get(f"{directory}{name}")
                found[f"{directory}{name}"] = answer.value if isinstance(answer, Value) else None
    return found
