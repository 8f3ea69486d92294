"""`nicwatchd explain --from A --to B`: which rule and table decide, and what EC2 does then.

The kernel's own look-up says what route a packet takes; the rules in their order say by which rule.
The daemon says which ENI owns the source; without a daemon, a dry run asks IMDS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from errno import EHOSTUNREACH, EINVAL, EXDEV
from ipaddress import ip_address
from os import strerror
from typing import TYPE_CHECKING, Final

from nicwatchd.cli.client import DaemonError, ask
from nicwatchd.cli.judgement import Document, find
from nicwatchd.cli.layout import Column, line_of, table, wrap, wrap_remedy
from nicwatchd.cli.output import NO_INTERFACE, NOT_WELL, OK, USAGE, fail, say
from nicwatchd.cli.words import HOST_SIDE
from nicwatchd.core.model import PROTOCOL, UNICAST, Family, Link, Route
from nicwatchd.core.packet import LOOPBACK, Packet
from nicwatchd.core.port import KernelError
from nicwatchd.core.rule_walk import Met, Says, walk, whose
from nicwatchd.core.words import ROUTE_KINDS, TABLES, rule_words
from nicwatchd.netlink.fib import Found, look_up
from nicwatchd.netlink.request import RequestSocket
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.service.status import shown

if TYPE_CHECKING:
    from pathlib import Path

RTN_LOCAL: Final = 2
MARKS: Final = range(2**32)
COLUMNS: Final = (
    Column("PRIO"),
    Column("RULE", 16),
    Column("WHOSE"),
    Column("TABLE"),
    Column("SAYS", 12),
)
SAYINGS: Final = {
    Says.NOTHING: "nothing",
    Says.SUPPRESSED: "too general",
    Says.MAY_JUMP: "may jump",
    Says.BLOCKS: "blocks it",
    Says.NOT_ASKED: "not asked",
}
ONLY_KERNEL: Final = (
    "Some of these rules select by what only the kernel knows (a user, a port, a VRF), or jump."
)


@dataclass(frozen=True)
class Way:
    """What the kernel says of a packet. `found` is an errno where nothing lets it pass."""

    packet: Packet
    found: Found | int
    met: tuple[Met, ...]
    links: dict[int, Link]
    own_routes: tuple[Route, ...]
    is_own: bool = True  # whether the source is an address of this host

    @property
    def decides(self) -> Met | None:
        """The rule that decides, if that can be told."""
        wins = (Says.DECIDES, Says.BLOCKS)
        sure = next((met for met in self.met if met.says in wins), None)
        maybe = [met for met in self.met if met.says is Says.MAY_DECIDE]
        return maybe[0] if maybe and not sure and len(maybe) == 1 else sure

    def name(self, index: int) -> str:
        """The name of a link."""
        link = self.links.get(index)
        return shown(link.name) if link else f"if{index}"


@dataclass(frozen=True)
class Ruling:
    """What EC2 does with the packet: a word for programs, a sentence, and what mends it."""

    word: str  # passes, drops, drops-unless-translated, stays, not-ec2, unknown, not-sent
    text: str
    remedy: str = ""
    owner: Document | None = None


def explain_path(arguments: argparse.Namespace) -> int:
    """Print the way of a packet; 1 where it does not get out, or EC2 drops it."""
    try:
        packet = _packet(arguments)
    except ValueError as error:
        return fail(str(error), USAGE)
    try:
        way = asyncio.run(_way(packet))
    except KernelError as error:
        return fail(str(error), NOT_WELL)
    if way is None:
        return fail(f"no link {arguments.iif!r}", NO_INTERFACE)
    owners, whence = _owners(arguments)
    ruling = judge(way, owners)
    if arguments.json:
        say(json.dumps(as_json(way, ruling) | {"owners_from": whence}, indent=2))
    else:
        say("\n".join(lines(way, ruling, whence)))
    return NOT_WELL if ruling.word in ("drops", "not-sent") else OK


def _packet(arguments: argparse.Namespace) -> Packet:
    """The packet that the arguments name. Raises ValueError."""
    src, dst = ip_address(arguments.source), ip_address(arguments.destination)
    if src.version != dst.version:
        raise ValueError(f"{src} and {dst} are not of one family")
    mark = 0
    if arguments.mark is not None:
        try:
            mark = int(arguments.mark, 0)
        except ValueError:
            raise ValueError(f"--mark: {arguments.mark!r} is not a number") from None
        if mark not in MARKS:
            raise ValueError(f"--mark: {arguments.mark} does not fit into 32 bits")
    return Packet(src, dst, mark, arguments.iif or LOOPBACK)


async def _way(packet: Packet) -> Way | None:
    """Ask the kernel; None where the link of the packet does not exist. Raises KernelError."""
    requests = RequestSocket()
    kernel = NetlinkKernel(requests)
    try:
        links = await kernel.links()
        rules = await kernel.rules()
        index = 0
        if packet.iif != LOOPBACK:
            index = next((n for n, each in links.items() if each.name == packet.iif), 0)
            if not index:
                return None
        found = await look_up(requests, packet.src, packet.dst, mark=packet.mark, iif=index)
        own, everywhere = await kernel.own_routes(), await kernel.all_addresses()
    finally:
        kernel.close()
    there = {each.ip for addresses in everywhere.values() for each in addresses}
    is_own = packet.src in there or packet.src.is_link_local or packet.src.is_loopback
    route = None if isinstance(found, int) else found.route
    out = None if isinstance(found, int) else links.get(found.oif)
    met = walk(packet, rules, route, out.group if out else 0)
    return Way(packet, found, met, links, own, is_own)


# --- whose the source is -------------------------------------------------------------------------


def _owners(arguments: argparse.Namespace) -> tuple[list[Document] | None, str]:
    """The interfaces with what they own, and who says so; None where nobody does."""
    try:
        status: Document = ask(arguments.runtime_directory, "GET", "/v1/status")
    except DaemonError:
        return _from_imds(arguments.config, arguments.runtime_directory)
    return status["interfaces"], "the daemon"


def _from_imds(config: Path | None, directory: Path) -> tuple[list[Document] | None, str]:
    """The same by a dry run, which asks IMDS itself."""
    from nicwatchd.imds.client import ImdsClient
    from nicwatchd.service.dry_run import preview
    from nicwatchd.service.ledger import Ledger
    from nicwatchd.service.platform import NOT_EC2, is_ec2
    from nicwatchd.service.settings import SettingsError, load
    from nicwatchd.service.status import of_view

    async def run() -> list[Document]:
        kernel = NetlinkKernel()
        try:
            async with ImdsClient(settings.imds.options()) as imds:
                decision = await preview(kernel, imds, Ledger(directory), settings.policy())
        finally:
            kernel.close()
        views = [view for _, view in sorted(decision.interfaces.items())]
        return [of_view(view, 0.0).model_dump(mode="json") for view in views]

    try:
        settings = load(config)
        if settings.platform == "auto" and not is_ec2():
            return None, NOT_EC2
        interfaces = asyncio.run(run())
    except (SettingsError, KernelError) as error:
        return None, str(error)
    if not any(each["ipv4"] or each["ipv6"] for each in interfaces):
        return None, "no daemon runs, and IMDS does not answer"
    return interfaces, "IMDS (no daemon runs)"


# --- what EC2 does -------------------------------------------------------------------------------


def judge(way: Way, owners: list[Document] | None) -> Ruling:
    """What becomes of the packet behind the kernel."""
    packet = way.packet
    if isinstance(way.found, int):
        return _not_sent(way, way.found)
    if way.found.route.kind in ROUTE_KINDS:
        kind = ROUTE_KINDS[way.found.route.kind]
        return Ruling("not-sent", f"is not sent: a route of the kind {kind!r} ends it.")
    name = way.name(way.found.oif)
    if way.found.route.kind == RTN_LOCAL or name == LOOPBACK:
        return Ruling("stays", f"stays on this host: {packet.dst} is its own.")
    leaves = f"leaves by {name}" + (f" via {way.found.gateway}" if way.found.gateway else "")
    if owners is None:
        return Ruling("unknown", f"{leaves}. Which ENI owns {packet.src} is not known.")
    link = next((each for each in owners if each["index"] == way.found.oif), None)
    if link is None:
        return Ruling("not-ec2", f"{leaves}, which is no ENI: EC2 does not judge it there.")
    owner = find(owners, str(packet.src))
    if owner is None:
        return _of_nobody(way, leaves, link)
    if owner["index"] == link["index"]:
        text = f"{leaves}. EC2 lets it pass: {_named(link)} owns {packet.src}."
        return Ruling("passes", text, f"if nothing comes back: {HOST_SIDE}", owner)
    text = f"{leaves}: EC2 DROPS IT, since {_named(link)} does not own {packet.src}; "
    return Ruling("drops", f"{text}{_named(owner)} does.", _remedy(way, owner), owner)


def _not_sent(way: Way, errno: int) -> Ruling:
    packet = way.packet
    if packet.iif == LOOPBACK and not way.is_own:
        text = f"is not sent: {packet.src} is no address of this host."
        return Ruling("not-sent", text, "for a packet of a container, name its link: --iif LINK")
    if errno in (EINVAL, EXDEV, EHOSTUNREACH) and packet.iif != LOOPBACK:
        v = Family(packet.dst.version)
        text = f"is dropped where it comes in ({strerror(errno)}): the source check (rp_filter), "
        key = "ipv4.ip_forward" if v is Family.V4 else "ipv6.conf.all.forwarding"
        return Ruling("not-sent", f"{text}no route, or no forwarding.", f"sysctl net.{key}")
    text = f"is not sent: {strerror(errno)}."
    met = way.decides
    remedy = _about_rule(met) if met and met.says is Says.BLOCKS else "ip route get, and ip rule"
    return Ruling("not-sent", text, remedy)


def _of_nobody(way: Way, leaves: str, link: Document) -> Ruling:
    text = f"{leaves}. No ENI of this host is known to own {way.packet.src}: EC2 drops it, unless "
    text += f"its source is translated on the way out, or {_named(link)} has its "
    text += "source/destination check off."
    return Ruling("drops-unless-translated", text)


def _named(interface: Document) -> str:
    eni = interface.get("eni")
    return f"{interface['name']} ({eni})" if eni else str(interface["name"])


def _remedy(way: Way, owner: Document) -> str:
    met = way.decides
    if met and whose(met.rule) not in ("kernel", "nicwatchd"):
        return _about_rule(met)
    return f"no rule takes it to {owner['name']}: nicwatchd explain {owner['name']}"


def _about_rule(met: Met) -> str:
    family = "-6 " if met.rule.family is Family.V6 else ""
    if whose(met.rule) == "nicwatchd":
        return "nicwatchd status"
    rule = f"pref {met.rule.priority} {' '.join(rule_words(met.rule))}"
    return f"sudo ip {family}rule del {rule}  # find who makes it"


# --- the output ----------------------------------------------------------------------------------


def lines(way: Way, ruling: Ruling, whence: str) -> Iterator[str]:
    """For people."""
    packet = way.packet
    more = f" mark {packet.mark:#x}" if packet.mark else ""
    more += f" from {packet.iif}" if packet.iif != LOOPBACK else ""
    yield from wrap(f"{packet.src} -> {packet.dst}{more} {ruling.text}")
    yield ""
    rows = [_row(way, met) for met in way.met]
    yield from map(line_of, table(COLUMNS, rows))
    wins = way.decides
    if wins and (owner := whose(wins.rule)) not in ("kernel", "nicwatchd"):
        yield from wrap(f"Rule {wins.rule.priority} decides; it is {owner}.")
    if any(not met.certain or met.says is Says.MAY_JUMP for met in way.met):
        yield from wrap(ONLY_KERNEL)
    if ruling.word == "unknown":
        yield from wrap(f"Owners: {whence}")
    if ruling.remedy and ruling.word == "passes":
        yield from wrap(f"{ruling.remedy[0].upper()}{ruling.remedy[1:]}.")
    elif ruling.remedy:
        yield from wrap_remedy(ruling.remedy, "Mend: ")


def _row(way: Way, met: Met) -> list[str]:
    rule = met.rule
    mark = "  <- wins" if met is way.decides else ""
    owner = whose(rule).split(" (", 1)[0]
    where = TABLES.get(rule.table, str(rule.table)) if rule.action == 1 else "-"
    return [str(rule.priority), selector(met), owner, where, f"{saying(way, met)}{mark}"]


def selector(met: Met) -> str:
    """What a rule selects by, as `ip rule` prints it."""
    words = [shown(word) for word in rule_words(met.rule)]
    for end in ("lookup", "proto"):
        words = words[: words.index(end)] if end in words else words
    text = " ".join([*(["not"] if met.rule.inverted else []), *words])
    return f"{text} ..." if met.rule.exotic else text


def saying(way: Way, met: Met) -> str:
    """What a rule says of the packet."""
    if met.says in (Says.DECIDES, Says.MAY_DECIDE) and not isinstance(way.found, int):
        maybe = "perhaps " if met.says is Says.MAY_DECIDE else ""
        return maybe + _leads(way.found.route, str(way.found.gateway or ""))
    if met.says is Says.NOT_ASKED and met.rule.protocol == PROTOCOL:
        fitting = [
            route
            for route in way.own_routes
            if route.table == met.rule.table and way.packet.dst in route.dst
        ]
        best = max(fitting, key=lambda route: route.dst.prefixlen, default=None)
        length = met.rule.suppress_prefixlength
        if best and (length is None or best.dst.prefixlen > length):
            return _leads(best, str(best.gateway or ""))
    return SAYINGS.get(met.says, "nothing")


def _leads(route: Route, gateway: str) -> str:
    if route.kind in ROUTE_KINDS:
        return ROUTE_KINDS[route.kind]
    if route.kind != UNICAST:
        return "this host" if route.kind == RTN_LOCAL else "here"
    return f"via {gateway}" if gateway else "direct"


def as_json(way: Way, ruling: Ruling) -> Document:
    """For programs."""
    packet, wins = way.packet, way.decides
    found = None if isinstance(way.found, int) else way.found
    return {
        "from": str(packet.src),
        "to": str(packet.dst),
        "mark": packet.mark,
        "iif": None if packet.iif == LOOPBACK else packet.iif,
        "error": strerror(way.found) if isinstance(way.found, int) else None,
        "leaves_by": way.name(found.oif) if found else None,
        "gateway": str(found.gateway) if found and found.gateway else None,
        "table": found.route.table if found else None,
        "route": str(found.route.dst) if found else None,
        "decided_by": wins.rule.priority if wins else None,
        "ec2": ruling.word,
        "owner": ruling.owner["name"] if ruling.owner else None,
        "text": f"{packet.src} -> {packet.dst} {ruling.text}",
        "remedy": ruling.remedy,
        "rules": [
            {
                "priority": met.rule.priority,
                "rule": selector(met),
                "whose": whose(met.rule),
                "protocol": met.rule.protocol,
                "table": met.rule.table,
                "says": met.says,
                "certain": met.certain,
            }
            for met in way.met
        ],
    }
