"""Reads all that the checks need, once. It changes nothing.

What cannot be read is left out, with one line that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import inf
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from nicwatchd.cli.client import DaemonError
from nicwatchd.cli.diagnosis import files, managers, routing
from nicwatchd.cli.diagnosis.askers import askers
from nicwatchd.cli.diagnosis.facts import Asker, Daemon, Eni, Facts, Imds
from nicwatchd.cli.diagnosis.imds import SLOW, is_asked_too_much, is_behind
from nicwatchd.cli.migration.system import NOT_FOUND, CommandError, System
from nicwatchd.core.decision import Decision
from nicwatchd.core.firewall import Firewall, both
from nicwatchd.core.metadata import Answer, Value
from nicwatchd.core.model import ERRORS, PROTOCOL, Family, IPAddress, Route, ours
from nicwatchd.core.port import Asked, Kernel, KernelError, RouteAnswer
from nicwatchd.core.published import from_iptables, from_nft, is_compat
from nicwatchd.core.treatment import Managed, Primary
from nicwatchd.core.view import View, unconfigured_notes
from nicwatchd.imds.client import ImdsClient
from nicwatchd.netlink.capability import has_net_admin
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.service.dry_run import preview
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.platform import NOT_EC2, is_ec2
from nicwatchd.service.settings import Settings, SettingsError, load
from nicwatchd.service.status import of_view

USER: Final = "nicwatchd"
EXCEEDED: Final = re.compile(r"linklocal_allowance_exceeded:\s*(\d+)")
ADDRESSES: Final = (IPv4Address, IPv6Address)
PROGRAMS: Final = {Family.V4: "iptables", Family.V6: "ip6tables"}
LEGACY: Final = {Family.V4: "/proc/net/ip_tables_names", Family.V6: "/proc/net/ip6_tables_names"}
# What iptables-nft keeps in nftables; iptables-save tells of it in full.
OF_IPTABLES: Final = re.compile(r"ip6? (filter|nat|mangle|raw|security)$")
LOOKS: Final = 13  # at what the daemon says of IMDS: at rest it asks every 5 s
PAUSE: Final = 0.5  # s between two of them
ANSWERS: Final = 3  # of IMDS, before it is called slow


@dataclass
class Looker:
    """Reads one host."""

    system: System
    settings: Settings
    runtime_directory: Path
    unseen: list[str] = field(default_factory=list)

    async def facts(self, config: Path, settings_error: str) -> Facts:
        """Everything. Raises KernelError."""
        facts = Facts(
            policy=self.settings.policy(),
            config=config,
            settings_error=settings_error,
            daemon=self._daemon(),
            networkd=files.networkd(self.system),
            kernel=files.kernel(self.system),
            instance=(self.system.read("/sys/class/dmi/id/board_asset_tag") or "").strip(),
        )
        if self.settings.platform == "auto" and not is_ec2():
            self.unseen.append("ENIs, their rules and IMDS (this is not EC2, by the firmware)")
            return replace(facts, not_ec2=NOT_EC2, unseen=tuple(self.unseen))
        kernel = NetlinkKernel()
        try:
            decision, imds = await self._decide(kernel)
            facts = replace(facts, imds=imds, daemon=await self._asking(facts.daemon, imds))
            enis = self._enis(decision, facts.daemon)
            facts = replace(facts, enis=enis, firewall=self._firewall())
            facts = await self._of_kernel(kernel, facts)
            if is_asked_too_much(facts):
                facts = replace(facts, askers=self._askers(facts))
        finally:
            kernel.close()
        tools = self._tools(decision)
        return replace(facts, tools=tools, unseen=tuple(dict.fromkeys(self.unseen)))

    # --- nicwatchd ------------------------------------------------------------------------------

    def _daemon(self) -> Daemon:
        pid = _pid(self.runtime_directory)
        if not pid:
            self.unseen.append("the daemon (it does not run)")
        enabled, active = (
            self.system.systemctl(verb, "nicwatchd.service") for verb in ("is-enabled", "is-active")
        )
        return Daemon(pid, _uid(pid), self._status() if pid else None, active, enabled)

    def _status(self) -> Mapping[str, Any] | None:
        """What the daemon says of itself and the host; None where it does not answer."""
        status: Mapping[str, Any] | None = None
        with contextlib.suppress(DaemonError):
            status = self.system.ask("GET", "/v1/status")
        return status

    async def _asking(self, daemon: Daemon, imds: Imds) -> Daemon:
        """The daemon, once it has asked IMDS later than this command, if their words differ."""
        for _ in range(LOOKS):
            if not is_behind(imds, daemon):
                return daemon
            await asyncio.sleep(PAUSE)
            daemon = replace(daemon, status=self._status())
        if is_behind(imds, daemon):
            self.unseen.append("whether IMDS answers the daemon now (it has not asked since)")
        return daemon

    async def _decide(self, kernel: Kernel) -> tuple[Decision, Imds]:
        """What a daemon would decide now, and how IMDS answered."""
        options = self.settings.imds.options()
        endpoints = tuple(_hosts(options.endpoints))
        async with ImdsClient(options) as client:
            ledger = Ledger(self.runtime_directory)
            begun = time.time()
            decision = await preview(kernel, client, ledger, self.settings.policy())
            seconds = await _quickest(client)
            condition = client.condition
        return decision, Imds(condition.state, condition.detail, seconds, endpoints, begun)

    # --- the ENIs -------------------------------------------------------------------------------

    def _enis(self, decision: Decision, daemon: Daemon) -> tuple[Eni, ...]:
        primary = _value(decision.primary_mac) or (daemon.status or {}).get("primary_mac")
        views = [view for _, view in sorted(decision.interfaces.items())]
        known = {
            each["mac"]: frozenset(ip_address(ip) for ip in _listed(each))
            for each in (daemon.status or {}).get("interfaces", ())
        }
        return tuple(
            self._eni(view, primary, known.get(view.link.mac, frozenset()))
            for view in views
            if _may_be_eni(view)
        )

    def _eni(self, view: View, primary: str | None, known: frozenset[IPAddress]) -> Eni:
        """`known`: the daemon's word on its addresses, for when IMDS gives no answer."""
        link, believed = view.link, view.memory.believed
        is_primary = isinstance(view.treatment, Primary) or link.mac == primary
        proven = {a.ip for a in view.addresses if a.dynamic or ours(a)}
        usable = [verdict.usable for verdict in view.verdicts.values()]
        own = {ip for each in usable for ip in each.addresses} | known | proven
        if is_primary:
            own |= {a.ip for a in view.addresses if not a.ip.is_link_local}
        return Eni(
            link,
            eni=_value(believed.interface_id),
            device=_value(believed.device_number),
            is_primary=is_primary,
            is_managed=isinstance(view.treatment, Managed) and not is_primary,
            addresses=tuple(a for a in view.addresses if not a.ip.is_link_local),
            listed=frozenset(i for i in view.memory.listed if isinstance(i, ADDRESSES)),
            own=frozenset(ip for ip in own if ip not in view.elsewhere and not ip.is_link_local),
            subnets=tuple(dict.fromkeys(net for each in usable for net in each.subnets)),
            vpc=_value(believed.vpc_id),
            sysctls=files.sysctls(self.system, link.name),
            dns=files.name_servers(self.system, link.index),
            exceeded=self._exceeded(link.name),
            unconfigured=tuple(unconfigured_notes(view)),
        )

    def _exceeded(self, name: str) -> int | None:
        ran = self.system.run(("ethtool", "-S", name))
        if ran.code == NOT_FOUND:
            self.unseen.append("dropped packets to IMDS (ethtool is not installed)")
        found = EXCEEDED.search(ran.out)
        return int(found[1]) if found else None

    # --- the kernel -----------------------------------------------------------------------------

    async def _of_kernel(self, kernel: Kernel, facts: Facts) -> Facts:
        links = await kernel.links()
        held = frozenset(a.ip for eni in facts.enis for a in eni.addresses)
        closed = await kernel.closed_main(frozenset(links))
        errors = (r for routes in closed.values() for r in routes if r.kind in ERRORS and r.is_wide)
        defaults = await kernel.defaults()
        return replace(
            facts,
            enis=with_primary(facts.enis, defaults),
            names={index: link.name for index, link in links.items()},
            rules=await kernel.rules(),
            defaults=defaults,
            errors=tuple(errors),
            host_routes=await kernel.host_routes(held),
            answers=await _look_up(kernel, routing.questions(facts.enis)),
        )

    def _askers(self, facts: Facts) -> tuple[Asker, ...]:
        but = [os.getpid(), *([facts.daemon.pid] if facts.daemon.pid else [])]
        return askers(facts.imds.endpoints, self.system.path("/proc"), but=but)

    # --- others ---------------------------------------------------------------------------------

    def _tools(self, decision: Decision) -> tuple[Any, ...]:
        views = [view for _, view in sorted(decision.interfaces.items())]
        interfaces = [of_view(view, 0.0).model_dump(mode="json") for view in views]
        found, unseen = managers.tools(self.system, interfaces, _value(decision.primary_mac))
        self.unseen += [f"other managers ({each})" for each in unseen]
        return found

    def _firewall(self) -> Firewall | None:
        if not has_net_admin():
            self.unseen.append("the firewall (run this as root)")
            return None
        ran = self._run("nft", "-j", "list", "ruleset")
        if ran is None:
            return self._iptables()
        try:
            found = from_nft(ran)
        except ValueError:
            self.unseen.append("the firewall (nft's answer is not JSON)")
            return None
        if not is_compat(ran):
            return both([found, self._legacy()])
        native = tuple(c for c in found.chains if not OF_IPTABLES.match(c.table))
        return both([replace(found, chains=native), self._iptables(), self._legacy()])

    def _iptables(self) -> Firewall:
        return self._saved(dict.fromkeys(Family, ("-save", "-nft-save")))

    def _legacy(self) -> Firewall:
        """The rules of the older iptables, which nft does not show."""
        used = {f: name for f, name in LEGACY.items() if self._is_used(name)}
        return self._saved(dict.fromkeys(used, ("-legacy-save", "-save")))

    def _is_used(self, name: str) -> bool:
        try:
            return bool((self.system.read(name) or "").strip())
        except OSError:
            return False

    def _saved(self, names: Mapping[Family, tuple[str, ...]]) -> Firewall:
        """What the first of these programs that is installed tells of a family."""
        found = []
        for family, ends in names.items():
            programs = [f"{PROGRAMS[family]}{end}" for end in ends]
            there = [program for program in programs if shutil.which(program)]
            text = self._run((there or programs)[0])
            if text is not None:
                found.append(from_iptables(text, family))
        return both(found)

    def _run(self, *command: str) -> str | None:
        """What a command prints; None, and a line about it, where it fails."""
        ran = self.system.run(command)
        if ran.code == 0:
            return ran.out
        why = f"{command[0]} is not installed" if ran.code == NOT_FOUND else ran.err.strip()
        self.unseen.append(f"the firewall ({why})")
        return None


async def look(system: System, config: Path | None, runtime_directory: Path) -> Facts:
    """Look at a host. Raises KernelError."""
    error = ""
    try:
        settings = load(config)
    except SettingsError as wrong:
        settings, error = Settings(), wrong.in_one_line
    looker = Looker(system, settings, runtime_directory)
    try:
        return await looker.facts(config or Facts().config, error)
    except CommandError as failed:
        raise KernelError(str(failed)) from None


async def _quickest(client: ImdsClient) -> float:
    """How long one answer of IMDS takes (s), where it answers: the quickest of some.

    One that took long tells nothing: the host may have had other work just then.
    """
    took: list[float] = []
    while client.condition.state == "ok" and len(took) < ANSWERS and min(took, default=inf) > SLOW:
        before = time.monotonic()
        await client.get("mac")
        took.append(time.monotonic() - before)
    return min(took, default=0.0)


async def _look_up(kernel: Kernel, questions: Iterable[Asked]) -> dict[Asked, RouteAnswer | int]:
    asked = tuple(dict.fromkeys(questions))
    return dict(zip(asked, await kernel.route_gets(asked), strict=True))


def _listed(interface: Mapping[str, Any]) -> Iterator[str]:
    for family in ("ipv4", "ipv6"):
        yield from (interface.get(family) or {}).get("addresses", ())


def with_primary(enis: tuple[Eni, ...], defaults: Iterable[Route]) -> tuple[Eni, ...]:
    """The ENIs, with a primary where nobody names it: the oldest that has a default route."""
    routed = {route.oif for route in defaults if route.protocol != PROTOCOL}
    oldest = min((eni.index for eni in enis if eni.index in routed), default=0)
    if any(eni.is_primary for eni in enis):
        return enis
    return tuple(
        replace(eni, is_primary=True, is_managed=False) if eni.index == oldest else eni
        for eni in enis
    )


def _may_be_eni(view: View) -> bool:
    """Not what is no hardware of EC2's."""
    reason = getattr(view.treatment, "reason", None)
    return reason is None or reason.code not in ("driver", "enslaved")


def _hosts(endpoints: Iterable[str]) -> Iterator[IPAddress]:
    for endpoint in endpoints:
        with contextlib.suppress(ValueError):
            yield ip_address(urlsplit(endpoint).hostname or "")


def _value(answer: Answer[Any]) -> Any:
    return answer.value if isinstance(answer, Value) else None


def _pid(directory: Path) -> int | None:
    """The process of the daemon that holds the lock; None where none runs.

    Whether the lock is held cannot be tried without holding it, which would keep a daemon out.
    """
    try:
        pid = int((directory / "nicwatchd.lock").read_text(encoding="ascii").strip())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if any(b"nicwatchd" in word for word in words) else None


def _uid(pid: int | None) -> int | None:
    """As whom the daemon runs, or would run."""
    if pid:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}").stat().st_uid
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(USER).pw_uid
    return None
