"""A host for the chaos walk in fast motion: the whole service, on an invented clock.

Real are the daemon, the core, the ledger, and the IMDS client down to its HTTP session; in memory
are the kernel, with its events, and the metadata service.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from unittest.mock import patch
from uuid import UUID

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.host import Host
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    RTPROT_DHCP,
    RTPROT_RA,
    Address,
    Family,
    Route,
    Rule,
    ours,
)
from nicwatchd.core.policy import Forwarded, Policy
from nicwatchd.imds.budget import Budget
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.service import daemon
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.requests import NewPolicy
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.parts import ROUTER_V6
from nicwatchd.sim.script import EniScript, Scenario
from tests.chaos.actions import (
    Action,
    Attach,
    ContainerRoute,
    Detach,
    Die,
    FaultBegins,
    FaultsEnd,
    Flap,
    Foreign,
    ForeignDefault,
    ForeignRule,
    Item,
    Kill,
    Kind,
    Lease,
    LeaseComes,
    LeaseExpires,
    LeaseRenews,
    NarrowRoute,
    OthersRemove,
    OthersUngroup,
    Overrun,
    Pass,
    PutForeign,
    Quiet,
    Reload,
    Rename,
    Reuse,
    SetDown,
    SetUpAgain,
    Start,
    Stop,
    SwitchIpv6,
    TakeForeign,
)
from tests.chaos.flattery import BEAT, Flattery
from tests.chaos.judge import Seen, see
from tests.chaos.memory_imds import MemoryTransport
from tests.chaos.truth import PRIMARY, Truth, first_enis
from tests.chaos.watched_kernel import EVENT, WatchedKernel
from tests.core.comparing_turn import ComparingTurn
from tests.promised import ANY

# As shipped in shape, and smaller: fewer questions and decisions make a faster walk.
POLICY: Final = Policy(
    schedule=Schedule(interval=0.5, fast_for=5.0, keep=10.0, patience=20.0, refresh=10.0),
    settling=5.0,
    doubt_span=5.0,
)
PUBLISHED: Final = replace(POLICY, forwarded=Forwarded.CONNMARK)
LONGEST_PASS: Final = 20.0  # s; by then IMDS was asked again, and doubted as often as it takes
# An IMDS that was disabled is asked after 30 s; then there are a poll, doubts and patience to come.
SETTLED: Final = 60.0
BOX_MAC: Final = "06:00:00:00:00:99"  # of the host's end of a container's link
KNOWS: Final = 1.0  # s within which the daemon has seen what is on the links, and done its part


class FastWorld:
    """See `tests.chaos.walk.World`. The ledger lives in `directory`."""

    def __init__(
        self, directory: Path, kernel: WatchedKernel | None = None, policy: Policy = POLICY
    ) -> None:
        self._directory = directory
        self._policy = policy
        self._clock = asyncio.get_running_loop().time
        self.kernel = kernel or WatchedKernel()
        self._imds = ImdsServer(Scenario(mac=PRIMARY), clock=self._clock)
        self._steady: frozenset[tuple[str, Item]] = frozenset()
        self._told: dict[str, EniScript] = {}
        self._indexes: dict[str, int] = {}
        self._daemon: Daemon | None = None
        self._task: asyncio.Task[None] | None = None
        self._wrongs: list[str] = []
        self._flattery = Flattery()
        self._named: dict[ForeignRule, Rule] = {}  # rules without a priority, with the kernel's
        self._started = 0.0
        self.journal: list[str] = []
        self._plug_primary()
        self._box = self.kernel.add_link("c-box", BOX_MAC, kind="veth")
        self.kernel.set_link(replace(self.kernel._state.links[self._box], up=True, running=True))

    def _plug_primary(self) -> None:
        """It has leases, and main's default routes lead out by it."""
        eni = first_enis()[PRIMARY]
        index = self._indexes[PRIMARY] = self.kernel.add_link(eni.name, eni.mac)
        self._set(PRIMARY, up=True, running=True)
        self.kernel.put(Address(index, eni.ipv4[0], 24, dynamic=True))
        self.kernel.put(Address(index, eni.ipv6[0], 128, dynamic=True))
        for protocol, family, gateway in (
            (RTPROT_DHCP, Family.V4, eni.subnet.gateway),
            (RTPROT_RA, Family.V6, ROUTER_V6),
        ):
            way = Route(ANY[family], MAIN_TABLE, index, protocol, gateway, metric=1024)
            self.kernel.put(way)

    # --- World -------------------------------------------------------------------------------

    async def do(self, action: Action, truth: Truth) -> None:
        # What a quiet point finds right is to stay from then on, not from before it.
        steady = truth.steady & self._steady
        self._steady = truth.steady
        certain = replace(truth, steady=steady)
        self.kernel.disturbed(certain, self._indexes)
        match action:
            case Start() | Stop() | Kill() | Overrun() | Reload():
                sections = tuple(truth.sections[mac] for mac in sorted(truth.sections))
                self._policy = replace(self._policy, sections=sections)
                await self._do_daemon(action)
            case Pass(share):
                await self._let_pass(LONGEST_PASS * share, certain)
                if LONGEST_PASS * share >= KNOWS:
                    self._look_for_strays(truth)
            case Quiet():
                await self._let_pass(SETTLED, certain)
                self._look_for_strays(truth)
            case FaultBegins(on, do):
                self._imds.fault(on, do)
            case FaultsEnd():
                self._imds.clear()
            case OthersRemove(what, pick):
                self._remove(what, pick)
            case _ if not self._do_link(action):
                self._do_others(action)
        self._tell(truth)

    async def look(self, truth: Truth) -> Seen:
        shown = [] if self._daemon is None else self._daemon.status().interfaces
        seen = await see(self.kernel, truth, [each.model_dump(mode="json") for each in shown])
        published = self._policy.forwarded is Forwarded.CONNMARK
        return replace(seen, ruleset=self.kernel._state.ruleset or "") if published else seen

    def wrongs(self) -> list[str]:
        self._wrongs += [*self.kernel.wrongs, *self._flattery.wrongs]
        self.kernel.wrongs.clear()
        self._flattery.wrongs.clear()
        if self._task is not None and self._task.done():
            self._wrongs.append(f"the daemon ended: {self._task.exception()!r}")
        if self._daemon is not None and self._daemon.host.surprises:
            self._wrongs.append("the state machine got input off its table")
        told, self._wrongs = self._wrongs, []
        return told

    async def _let_pass(self, seconds: float, truth: Truth) -> None:
        """Let time pass, and see that nothing is called working for long that is not."""
        end = self._clock() + seconds
        while (left := end - self._clock()) > 0:
            await asyncio.sleep(min(left, BEAT))
            self._flattery.look(self._host, self.kernel, truth, self._clock())

    @property
    def _host(self) -> Host | None:
        """What the daemon knows, once it has run for a moment."""
        is_new = self._clock() - self._started < KNOWS
        return None if is_new or self._daemon is None else self._daemon.host

    # --- the daemon --------------------------------------------------------------------------

    async def _do_daemon(self, action: Start | Stop | Kill | Overrun | Reload) -> None:
        match action:
            case Reload() if self._daemon is not None:
                self._daemon.put(NewPolicy(self._policy))
                # Until it has that: `wait_for` of Python 3.11 swallows a cancellation otherwise.
                await asyncio.sleep(EVENT)
            case Overrun():
                self.kernel.overrun()
            case Start():
                self._started = self._clock()
                self._task = asyncio.create_task(self._run())
                await asyncio.sleep(0)  # so that there is a daemon to stop
            case Stop() if self._daemon is not None:
                self._daemon.stop()
                await self._ended()
            case Kill() if self._task is not None:
                self._task.cancel()
                await self._ended()

    async def _run(self) -> None:
        options = ImdsOptions()
        client = ImdsClient(options, clock=self._clock)
        budget = Budget(options.budget_rate, options.budget_burst, self._clock)
        client._transport = MemoryTransport(self._imds, options, budget)
        with patch.object(daemon, "Turn", ComparingTurn):
            self._daemon = Daemon(
                self._policy,
                self.kernel,
                self.kernel.events(),
                client,
                Ledger(self._directory),
                self._write,
                self._clock,
            )
        await self._daemon.run()

    async def _ended(self) -> None:
        task, self._task, self._daemon = self._task, None, None
        if task is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        """End the daemon, as a crash does."""
        await self._do_daemon(Kill())

    def _write(self, _: UUID, message: str, __: int, ___: Mapping[str, str]) -> None:
        self.journal.append(f"{self._clock():10.3f}  {message}")

    # --- links -------------------------------------------------------------------------------

    def _set(self, mac: str, **changes: object) -> None:
        link = self.kernel._state.links[self._indexes[mac]]
        self.kernel.set_link(replace(link, **changes))  # type: ignore[arg-type]

    def _do_link(self, action: Action) -> bool:
        """Let something happen to a link; False if it is of another kind."""
        match action:
            case Attach(mac, name):
                self._indexes[mac] = self.kernel.add_link(name, mac)
            case Detach(mac):
                self.kernel.remove_link(self._indexes.pop(mac))
            case Rename(mac, name):
                self._set(mac, name=name)
            case OthersUngroup(mac):
                self._set(mac, group=0)
            case SetUpAgain(mac):
                self._set(mac, up=True, running=True)
            case SetDown(mac):
                self._set(mac, up=False, running=False)
            case Flap(mac):
                self._set(mac, up=False, running=False)
                self._set(mac, up=True, running=True)
            case Die(mac, carrier=carrier):
                self._set(mac, running=carrier)
            case SwitchIpv6(mac, on):
                self.kernel.disable_ipv6(self._indexes[mac], disabled=not on)
            case _:
                return False
        return True

    # --- others ------------------------------------------------------------------------------

    def _do_others(self, action: Action) -> None:
        match action:
            case LeaseComes(lease) | LeaseRenews(lease):
                self.kernel.put(self._in_kernel(lease))
            case LeaseExpires(lease):
                self.kernel.drop(self._in_kernel(lease))
            case PutForeign(ForeignRule(rule) as thing) if thing.is_unnamed:
                self._named[thing] = named = self._with_priority(rule)
                self.kernel.put(named)
            case TakeForeign(ForeignRule() as thing) if thing.is_unnamed:
                self.kernel.drop(self._named.pop(thing))
            case PutForeign(thing):
                beside = isinstance(thing, ForeignDefault)
                self.kernel.put(self._in_kernel(thing), beside=beside)
            case TakeForeign(thing):
                self.kernel.drop(self._in_kernel(thing))
            case Reuse(taker=taker) if taker == PRIMARY:
                self.kernel.put(self._in_kernel(action.on_link))
            case _:
                pass  # EC2's side: IMDS alone tells of it

    def _in_kernel(self, thing: Foreign | Lease) -> Address | Route | Rule:
        if isinstance(thing, ForeignRule):
            return thing.rule
        if isinstance(thing, ContainerRoute | NarrowRoute):
            return thing.on(self._box)
        if isinstance(thing, ForeignDefault):
            return thing.on(self._indexes[thing.mac] if thing.mac else self._box)
        return thing.on(self._indexes[thing.mac])

    def _with_priority(self, rule: Rule) -> Rule:
        """A rule without a priority as the kernel takes it: before the second that there is."""
        same = [known for known in self.kernel._state.rules if known.family is rule.family]
        return replace(rule, priority=same[1].priority - 1)

    def _look_for_strays(self, truth: Truth) -> None:
        """Time has passed: a daemon that runs for some of it knows what is on which link."""
        if self._daemon is not None and self._clock() - self._started >= KNOWS:
            self._wrongs += self.kernel.astray(truth)

    def _remove(self, what: Kind, pick: int) -> None:
        """Somebody removes something of ours."""
        state = self.kernel._state
        rules = [rule for rule in state.rules if rule.protocol == PROTOCOL]
        things: dict[Kind, Sequence[Address | Route | Rule]] = {
            "rule": rules,
            "route": [route for route in state.routes if route.protocol == PROTOCOL],
            "address": [address for address in state.addresses if ours(address)],
        }
        chosen = things.get(what, ())
        if chosen:
            self.kernel.drop(chosen[pick % len(chosen)])
        elif what == "all rules":
            for rule in rules:
                self.kernel.drop(rule)
            self.kernel.flush_ruleset()  # as a firewall that starts anew does

    # --- IMDS --------------------------------------------------------------------------------

    def _tell(self, truth: Truth) -> None:
        """Let IMDS say what it is to say now."""
        told = {script.mac: script for script in truth.scripts()}
        for mac in self._told.keys() - told.keys():
            self._imds.unplug(mac)
        for mac, script in told.items():
            if self._told.get(mac) != script:
                self._imds.plug(script)
        self._told = told
