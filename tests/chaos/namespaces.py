"""The walk on a real kernel: a simulated EC2 host of network namespaces, and nicwatchd on it as
a process of its own. Everything is the real thing but the ENIs, the VPC and the metadata service.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final, Self

from nicwatchd.core.model import PROTOCOL, RTPROT_KERNEL, Address, Family, Route, Rule, ours
from nicwatchd.core.policy import Section
from nicwatchd.core.port import Event, RouteEvent, RuleEvent
from nicwatchd.core.port import Overrun as Lost
from nicwatchd.netlink.events import EventSocket, open_event_socket
from nicwatchd.sim import netns
from nicwatchd.sim.ec2 import DaemonProcess
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.netns import CommandError
from nicwatchd.sim.parts import Eni
from nicwatchd.sim.probe import Acceptor, all_answer, paths
from nicwatchd.sim.script import Scenario
from nicwatchd.sim.vpc import Vpc
from tests.bench.outside import Outside, look_into
from tests.chaos import hands
from tests.chaos.actions import (
    Action,
    AddCidr,
    Assign,
    Attach,
    ContainerRoute,
    Detach,
    Die,
    FaultBegins,
    FaultsEnd,
    Flap,
    Foreign,
    ForeignAddress,
    ForeignDefault,
    ForeignRoute,
    ForeignRule,
    Kill,
    Lease,
    LeaseComes,
    LeaseExpires,
    LeaseRenews,
    Move,
    NarrowRoute,
    OthersRemove,
    OthersUngroup,
    Overrun,
    Pass,
    PutForeign,
    Quiet,
    Reload,
    RemoveCidr,
    Rename,
    Reuse,
    SetDown,
    SetUpAgain,
    Start,
    Stop,
    SwitchIpv6,
    TakeForeign,
    Unassign,
)
from tests.chaos.judge import Seen, differences, see, single
from tests.chaos.truth import PRIMARY, Truth
from tests.chaos.walk import AstrayError, wander
from tests.scenarios.host import QUICK, RELOADED, settings

# A round of everything every 2 s leaves the two cores of a small machine to several hosts.
SETTINGS: Final = settings(QUICK | {"refresh": 2.0})
LONGEST_PASS: Final = 4.0  # s: more than a refresh, doubts and settling take
INTERVAL: Final = 0.05  # s between two looks
PATIENCE: Final = 60.0  # s after which it will not come right; generous
MARKER: Final = 31_999  # a rule's priority that neither the walk nor the daemon uses
BOX: Final = "c-box"  # a link that leads to containers
LOG_TAIL: Final = 4_000  # characters
Object = Address | Route | Rule


class Namespaces:
    """One host. `truth` is what is so at last; `do` makes the world follow it."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.vpc = Vpc(truth.enis[PRIMARY])
        self.imds = ImdsServer(Scenario(PRIMARY, truth.scripts()))
        self.daemon = DaemonProcess(self.vpc)
        self._listed = {script.name for script in truth.scripts()}
        self._wrongs: list[str] = []
        self._news: list[Event] = []
        self._events = EventSocket(self._connect)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        try:
            await enter(self.vpc)
            await self.imds.start(*self.vpc.imds_sockets())
            self._stack.push_async_callback(self.imds.stop)
            await enter(Acceptor(self.vpc, self.vpc.host))
            self.outside: Outside = self._stack.enter_context(look_into(self.vpc.host))
            self._events.start(self._news.append)
            self._stack.callback(self._events.close)
            await self.vpc.ip(self.vpc.host, f"link add {BOX} type bridge", f"link set {BOX} up")
            self._at_first = await self._others()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _connect(self) -> socket.socket:
        with netns.inside(self.vpc.host):
            return open_event_socket()

    def link(self, mac: str) -> Eni:
        """A plugged ENI, as it is plugged."""
        return next(eni for eni in self.vpc.enis if eni.mac == mac)

    async def do(self, action: Action, truth: Truth) -> None:
        """Let an action happen; `truth` is what is true after it."""
        self.truth = truth
        match action:
            case FaultBegins(on=on, do=do):
                self.imds.fault(on, do)
            case FaultsEnd():
                self.imds.clear()
            case Kill() | Stop() | Start() | Overrun() | Pass() | Reload():
                await self._do_to_daemon(action)
            case _:
                await self._do_to_host(action)
        self._tell()
        if isinstance(action, Quiet):
            await self._settle()

    async def _do_to_host(self, action: Action) -> None:
        match action:
            case Attach(mac, name):
                await self.vpc.plug(replace(self.truth.enis[mac], name=name))
            case Detach(mac):
                await self.vpc.unplug(self.link(mac))
            case Assign() | Unassign() | Move() | AddCidr() | RemoveCidr() | Die() | Reuse():
                await self._reassign()
                if isinstance(action, Reuse) and action.taker == PRIMARY:
                    await self._foreign("add", action.on_link)
            case Flap() | SetDown() | SetUpAgain() | Rename() | OthersUngroup():
                await self._do_to_link(action)
            case SwitchIpv6(mac, on):
                sysctl = f"ipv6/conf/{self.link(mac).name}/disable_ipv6"
                self.vpc.sysctl(self.vpc.host, {sysctl: str(int(not on))})
            case LeaseComes(lease) | LeaseRenews(lease) | LeaseExpires(lease):
                await self._lease(lease, comes=not isinstance(action, LeaseExpires))
            case PutForeign(thing) | TakeForeign(thing):
                await self._foreign("add" if isinstance(action, PutForeign) else "del", thing)
            case OthersRemove():
                await self._others_remove(action)

    def _tell(self) -> None:
        """Let IMDS say what it is to say now."""
        scripts = {script.name: script for script in self.truth.scripts()}
        for gone in self._listed - scripts.keys():
            self.imds.unplug(gone)
        for name, script in scripts.items():
            if name in self._listed:
                self.imds.change(script)
            else:
                self.imds.plug(script)
        self._listed = set(scripts)

    async def _reassign(self) -> None:
        """What EC2 has assigned changed, in place."""
        wanted = [replace(self.truth.enis[eni.mac], name=eni.name) for eni in self.vpc.enis]
        changed = [eni for eni in wanted if eni not in self.vpc.enis]
        if changed:
            await self.vpc.update(*changed)

    async def _do_to_link(
        self, action: Flap | SetDown | SetUpAgain | Rename | OthersUngroup
    ) -> None:
        eni = self.link(action.mac)
        match action:
            case Rename(name=name):
                await self.vpc.rename(eni, name, after=0.0)
                return
            case Flap():
                ways = ["down", "up"]
            case SetDown():
                ways = ["down"]
            case SetUpAgain():
                ways = ["up"]
            case OthersUngroup():
                ways = ["group 0"]
        await self.vpc.ip(self.vpc.host, *(f"link set {eni.name} {way}" for way in ways))

    async def _lease(self, lease: Lease, *, comes: bool) -> None:
        name = self.link(lease.mac).name
        line = f"addr replace {lease.address} dev {name} valid_lft 3600 preferred_lft 3600"
        if not comes:
            line = f"addr del {lease.address} dev {name}"
        elif lease.address.version == 6:
            line += " noprefixroute"
        await self.vpc.ip(self.vpc.host, line)

    async def _foreign(self, verb: str, foreign: Foreign) -> None:
        links = await self.outside.kernel.links()
        if isinstance(foreign, ForeignRule) and foreign.is_unnamed:
            line = f"rule {verb} {foreign.selector} lookup {foreign.rule.table} protocol static"
            if verb == "del":  # the kernel takes the first that selects the same, `not` or not
                rules = await self.outside.kernel.rules()
                same = (rule for rule in rules if replace(rule, priority=0) == foreign.rule)
                line += f" pref {next(same).priority}"
            await self.vpc.ip(self.vpc.host, line, family=foreign.rule.family)
            return
        if isinstance(foreign, ForeignRoute):
            name = self.link(foreign.mac).name
            await self.vpc.ip(self.vpc.host, f"route {verb} {foreign.words(name)}")
            return
        if isinstance(foreign, ForeignDefault):
            name = self.link(foreign.mac).name if foreign.mac else BOX
            index = next(index for index, link in links.items() if link.name == name)
            routes = await self.outside.kernel.link_routes(index)
            there = any(foreign.on(index) in single(route) for route in routes)
            if verb == "del" or not there:  # see `judge._egress`
                verb = "append" if verb == "add" else verb
                await self.vpc.ip(self.vpc.host, f"route {verb} {foreign.words(name)}")
            return
        if isinstance(foreign, ForeignRule):
            await hands.run(self.vpc, verb, [foreign.rule], links)
            return
        if isinstance(foreign, ContainerRoute | NarrowRoute):
            index = next(index for index, link in links.items() if link.name == BOX)
        else:
            index = self.vpc.ifindex(self.link(foreign.mac))
        if isinstance(foreign, ForeignAddress) and verb == "add":
            verb = "replace"  # it may be there already, and the daemon's
        await hands.run(self.vpc, verb, [foreign.on(index)], links)

    async def _others_remove(self, action: OthersRemove) -> None:
        """Somebody removes one of ours, or all rules."""
        if action.what == "all rules":
            await hands.flush_rules(self.vpc)
        elif found := await self._own(action.what):
            await self._remove(action.what, found[action.pick % len(found)])

    async def _remove(self, what: str, thing: Object) -> None:
        links = await self.outside.kernel.links()
        try:
            await hands.run(self.vpc, "del", [thing], links)
        except CommandError:
            if thing in await self._own(what):  # otherwise the daemon has removed it meanwhile
                raise

    async def _own(self, what: str) -> Sequence[Object]:
        """What there is of ours, in an order that does not depend on the kernel."""
        kernel = self.outside.kernel
        found: list[Object]
        match what:
            case "route":
                found = list(await kernel.own_routes())
            case "address":
                addresses = [await kernel.addresses(index) for index in await kernel.links()]
                found = [address for of in addresses for address in of if ours(address)]
            case _:
                found = [rule for rule in await kernel.rules() if rule.protocol == PROTOCOL]
        return sorted(found, key=str)

    async def _do_to_daemon(self, action: Kill | Stop | Start | Overrun | Pass | Reload) -> None:
        match action:
            case Kill():
                await self.daemon.kill()
            case Stop():
                await self.daemon.stop()
            case Start():
                await self.daemon.start(self._settings())
            case Overrun():
                async with hands.deaf(self.vpc, self.daemon):
                    await hands.flush_rules(self.vpc)
            case Pass(share):
                await asyncio.sleep(share * LONGEST_PASS)
            case Reload() if self.truth.running:
                before = self.daemon.log.count(RELOADED)
                self.daemon.config.write_text(self._settings(), encoding="utf-8")
                self.daemon.process.send_signal(signal.SIGHUP)
                while self.daemon.log.count(RELOADED) == before:  # noqa: ASYNC110 (a file)
                    await asyncio.sleep(INTERVAL)

    def _settings(self) -> str:
        sections = (self.truth.sections[mac] for mac in sorted(self.truth.sections))
        return "\n".join([SETTINGS, *(line for each in sections for line in _lines(each)), ""])

    # --- quiet points ----------------------------------------------------------------------------

    async def look(self, truth: Truth) -> Seen:
        """What is there, read from outside; states and verdicts are the daemon's own."""
        return await see(self.outside.kernel, truth, await self.daemon.get("/v1/interfaces"))

    async def _settle(self) -> None:
        """Wait until all is right, and see that it stays so, and works.

        Nothing helps the daemon to get there: it may have missed an event, and must not. But all
        can be right by chance, and for a moment: a lease goes whose address IMDS has just ceased to
        list, and the daemon puts it back until it knows. So it must be right after IMDS was asked.
        """
        give_up = time.monotonic() + PATIENCE
        while True:
            while differences(self.truth, await self.look(self.truth)):
                if time.monotonic() > give_up:
                    return  # the judge, who looks after this, says what is wrong
                await asyncio.sleep(INTERVAL)
            await self._events_so_far()
            await self.daemon.post("/v1/reconcile")
            right = not differences(self.truth, await self.look(self.truth))
            # What a dead NIC lost just now is of no interest to the judge, but is healed.
            heals = self.truth.dead and any(map(_is_ours, await self._events_so_far()))
            if (right and not heals) or time.monotonic() > give_up:
                break
        await self._reach_all()
        written = filter(_is_ours, await self._events_so_far())
        self._wrongs += [f"needless: {event}" for event in written]
        if (there := await self._others()) != (wanted := self._at_first | self._put()):
            self._wrongs += [f"not as others left it: {thing}" for thing in there ^ wanted]

    async def _events_so_far(self) -> list[Event]:
        """What the kernel has reported since the last call, up to a change of our own."""
        for verb in ("add", "del"):
            # It takes nobody's traffic: the daemon would say so.
            line = f"rule {verb} priority {MARKER} from 192.0.2.77 lookup main"
            await self.vpc.ip(self.vpc.host, line, family=Family.V4)
        while not any(map(_is_marker, self._news)):  # noqa: ASYNC110 (the loop hears it meanwhile)
            await asyncio.sleep(INTERVAL)
        heard, self._news[:] = self._news[:], []
        return heard

    async def _reach_all(self) -> None:
        """TCP from each far host and neighbour to each ENI, the primary too."""
        served = (mac for mac in self.truth.secondaries if not self.truth.is_left(mac))
        up = [self.link(mac) for mac in served if self.truth.ports[mac].up]
        inside = self.truth.contained  # of these no container is there
        every = [ip for eni in up for ip in self.truth.usable(eni.mac).addresses()]
        reached = [ip for ip in every if not self.truth.is_diverted(ip)]
        wanted = paths(self.vpc.peers(*up), [ip for ip in reached if ip not in inside])
        # Where an operator has the default route elsewhere, the primary may be out of reach.
        primary = self.truth.usable(PRIMARY)
        its = primary.addresses()
        if not self.truth.beside or self.truth.has_cni:  # then nobody configures the others
            its = (*primary.ipv4[:1], *primary.ipv6[:1])
        theirs = [ip for ip in its if ip.version not in self.truth.chosen]
        theirs = [ip for ip in theirs if not self.truth.is_diverted(ip)]
        wanted += paths(self.vpc.peers(*up), theirs)
        try:
            await all_answer(self.vpc, wanted, PATIENCE)
        except TimeoutError as error:
            self._wrongs.append(str(error))

    async def _others(self) -> frozenset[Object]:
        """All rules but ours, and what software has put on the primary."""
        kernel, index = self.outside.kernel, self.vpc.ifindex(self.link(PRIMARY))
        addresses = [replace(a, tentative=False) for a in await kernel.addresses(index)]
        things: list[Object] = [*await kernel.rules(), *addresses]
        routes = [each for r in await kernel.link_routes(index) for each in single(r)]
        things += [r for r in routes if r.protocol != RTPROT_KERNEL and index in r.links]
        put = set(self.truth.foreign_rules())
        plain = (replace(t, priority=0) if isinstance(t, Rule) else t for t in things)
        things = [p if p in put and t not in put else t for t, p in zip(things, plain, strict=True)]
        return frozenset(thing for thing in things if thing.protocol != PROTOCOL)

    def _put(self) -> frozenset[Object]:
        """... the part of it that the walk has put there."""
        index = self.vpc.ifindex(self.link(PRIMARY))
        rules: list[Object] = list(self.truth.foreign_rules())
        return frozenset([*rules, *(f.on(index) for f in self.truth.foreign_on(PRIMARY))])

    def wrongs(self) -> list[str]:
        """What went wrong at the last quiet point, beside what `look` shows."""
        found, self._wrongs = self._wrongs, []
        return found


def _lines(section: Section) -> list[str]:
    """A section as the settings file has it."""
    keys = {name: getattr(section, name) for name in Section.__slots__}
    if section.families is not None:
        keys["families"] = [family.label.lower() for family in sorted(section.families)]
    said = (f"{name} = {json.dumps(value)}" for name, value in keys.items() if value is not None)
    return ["[[interface]]", *said]


def _is_ours(event: Event) -> bool:
    return isinstance(event, RouteEvent | RuleEvent) and event.protocol == PROTOCOL


def _is_marker(event: Event) -> bool:
    """The end of the change; or so many that it may be among the lost."""
    marked = isinstance(event, RuleEvent) and event.priority == MARKER and event.deleted
    return marked or isinstance(event, Lost)


async def walk_in_namespaces(seed: int, steps: int) -> None:
    """One walk on a host of its own. Raises AstrayError, with the daemon's last words as a note."""
    async with Namespaces(Truth()) as world:
        try:
            await wander(world, seed, steps)
        except AstrayError as error:
            error.add_note(world.daemon.log[-LOG_TAIL:])
            again = f"--worlds namespaces --seed {seed} --steps {steps} --walks 1"
            error.add_note(f"the same walk: make chaos ARGS='{again}'")
            raise
        if surprises := (await world.daemon.get("/v1/status"))["surprises"]:
            raise AstrayError(f"seed {seed}: {surprises} conclusions that no state has a way for")
        await world.daemon.stop()
