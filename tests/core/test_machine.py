"""The lifecycle of an interface, walked by hypothesis: whatever can happen to it, in any order.

After each step: no state is without a way on or without a reason, each cause is told and nothing
else, nothing was removed on an unknown. In the end the world becomes right, and it is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from nicwatchd.core import asking
from nicwatchd.core.agenda import HEARTBEAT, RETRY_CAP
from nicwatchd.core.dhcp import (
    DHCPCD,
    DHCPCD_PATIENCE,
    NETWORK_MANAGER,
    NETWORK_MANAGER_PATIENCE,
)
from nicwatchd.core.facts import UDEV_PATIENCE
from nicwatchd.core.interface import Interface
from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import ABSENT, NOT_ASKED, Answer, EniMetadata, Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    Address,
    AddRule,
    Family,
    IPNetwork,
    Numbers,
    Operation,
    RemoveAddress,
    RemoveRoute,
    RemoveRule,
    Route,
    Rule,
    ours,
)
from nicwatchd.core.policy import AddressMode, Policy
from nicwatchd.core.port import Result
from tests.core import grounds
from tests.core.build import ERROR, ETH0, ETH1, MAC, PRIMARY, net
from tests.core.grounds import ADDRESSES, CIDRS, PREFIXES
from tests.core.happenings import (
    BROUGHT,
    CNI,
    KINDS,
    LINK_CHANGES,
    POLICIES,
    QUICK,
    READINGS,
    ROUTES,
    SECOND,
    TROUBLES,
    UNLISTED_LEASE,
)
from tests.core.rough_motion import RoughMotion, link_of
from tests.core.scenes import ETH2, FULL, MAC2
from tests.core.strict_kernel import OTHERS_PORT_ID, StrictKernel

pytestmark = pytest.mark.long


class LifecycleMachine(RuleBasedStateMachine):
    """One ENI on a host with a primary one, and now and then a neighbour in its subnet."""

    def __init__(self) -> None:
        super().__init__()
        self.motion = RoughMotion(QUICK, StrictKernel(ETH0))
        self.motion.watch = self.watch
        self.kernel = self.motion.kernel
        self.motion.imds(MAC2, 0.0, SECOND)
        self.index = 3
        self.covered: dict[Interface, set[IPNetwork]] = {}
        self.bare: set[Rule] = set()

    @initialize(primary=st.sampled_from([Value(PRIMARY)] * 3 + [NOT_ASKED]), reading=READINGS)
    def begin(self, primary: Answer[str], reading: EniMetadata) -> None:
        self.motion.primary = primary
        self.motion.imds(MAC, 0.0, reading)
        self.kernel.set_link(ETH1)
        self.settle()

    def settle(self, wait: float = 0.05) -> None:
        """Let time pass; the second run takes in what the first one heard last."""
        self.motion.run(self.motion.now + wait)
        self.motion.run(self.motion.now)

    # --- what happens to the link ------------------------------------------------------------

    @property
    def there(self) -> bool:
        return self.index in self.kernel.links

    @precondition(lambda self: not self.there)
    @rule(index=st.sampled_from([3, 7]), up=st.booleans())
    def plugged(self, index: int, up: bool) -> None:
        self.index = index
        self.kernel.set_link(replace(ETH1, index=index, up=up))
        self.settle()

    @precondition(lambda self: self.there)
    @rule()
    def unplugged(self) -> None:
        self.kernel.unplug(self.index)
        self.settle()

    @precondition(lambda self: self.there)
    @rule(changes=LINK_CHANGES)
    def link_changes(self, changes: dict[str, Any]) -> None:
        self.kernel.set_link(replace(self.kernel.links[self.index], **changes))
        self.settle()

    @precondition(lambda self: self.there)
    @rule(wait=st.sampled_from([0.0, 0.5, 3.0]))
    def flaps(self, wait: float) -> None:
        link = self.kernel.links[self.index]
        self.kernel.set_link(replace(link, up=False))
        self.settle(wait)
        if self.there:
            self.kernel.set_link(replace(self.kernel.links[self.index], up=True))
        self.settle()

    # --- what others do to it ------------------------------------------------------------------

    @precondition(lambda self: self.there)
    @rule(address=BROUGHT)
    def address_comes(self, address: Address) -> None:
        """By DHCP, an RA or the operator; a lease takes an address of ours over."""
        if address.family is Family.V6 and not self.kernel.links[self.index].up:
            return
        address = replace(address, index=self.index)
        self.kernel.put(address)
        self.settle()

    @rule()
    def addresses_expire(self) -> None:
        self.kernel.drop(*(a for a in self.kernel.addresses if not ours(a)))
        self.settle()

    @precondition(lambda self: self.there and self.kernel.links[self.index].up)
    @rule(route=ROUTES)
    def route_comes_or_goes(self, route: Route) -> None:
        route = replace(route, oif=self.index)
        known = [r for r in self.kernel.routes if r.key == route.key]
        if known:
            self.kernel.drop(*known)
        else:
            self.kernel.state.put(route, OTHERS_PORT_ID)  # its gateway may be out of reach
        self.settle()

    @rule(pick=st.sampled_from(["rules", "routes", "addresses"]), some=st.sampled_from([1, 2, 3]))
    def others_delete_ours(self, pick: str, some: int) -> None:
        for it in [it for it in getattr(self.kernel, pick) if it.protocol == PROTOCOL][::some]:
            self.kernel.drop(it)
        self.settle()

    @rule(who=st.sampled_from(["neighbour", "container network"]))
    def others_come_or_go(self, who: str) -> None:
        """An ENI in the same subnet; a CNI, which owns all secondary ENIs."""
        if who == "neighbour" and ETH2.index in self.kernel.links:
            self.kernel.unplug(ETH2.index)
        elif who == "neighbour":
            self.kernel.set_link(ETH2)
        elif CNI in self.kernel.rules:
            self.kernel.drop(CNI)
        else:
            self.kernel.put(CNI)
        self.settle()

    @rule(who=st.sampled_from(["", NETWORK_MANAGER, DHCPCD]))
    def client_runs(self, who: str) -> None:
        """One that is waited for by name, or none of them."""
        self.motion.clients = dict.fromkeys((3, 7), who)
        self.settle()

    # --- IMDS, time and the daemon itself ------------------------------------------------------

    @rule(reading=READINGS, lag=st.sampled_from([0.01, 0.01, 0.01, 0.01, 2.0]))
    def imds_says(self, reading: EniMetadata, lag: float) -> None:
        self.motion.lag = lag
        self.motion.imds(MAC, self.motion.now, reading)
        asking.poll_all(self.motion.host, self.motion.now)
        self.settle(lag + 0.01)

    @rule()
    def imds_says_it_all(self) -> None:
        self.motion.imds(MAC, self.motion.now, FULL)
        self.settle(1.0)

    @rule(primary=st.sampled_from([Value(PRIMARY), Value(PRIMARY), ERROR, ABSENT]))
    def primary_is(self, primary: Answer[str]) -> None:
        self.motion.primary = primary
        self.settle()

    @rule(wait=st.sampled_from([0.1, 1.0, 5.0]))
    def moments_pass(self, wait: float) -> None:
        self.settle(wait)

    @rule(wait=st.sampled_from([16.0, 35.0, 70.0]))
    def time_passes(self, wait: float) -> None:
        self.settle(wait)

    @rule(policy=st.sampled_from(POLICIES))
    def reloaded(self, policy: Policy) -> None:
        self.motion.turn.set_policy(policy, self.motion.now)
        self.settle()

    @rule()
    def restarted(self) -> None:
        self.motion.restart()
        self.settle()

    @rule(after=st.integers(0, 6), dies=st.booleans())
    def next_batch_is_cut(self, after: int, dies: bool) -> None:
        """The daemon dies after so many operations, or the link goes."""
        if dies:
            self.motion.dies_after = after
        else:
            self.motion.unplugs = self.index, after

    @rule(kinds=st.sets(KINDS, min_size=1), result=TROUBLES)
    def kernel_refuses(self, kinds: set[type[Operation]], result: Result) -> None:
        self.motion.refusing = dict.fromkeys(kinds, result)

    @precondition(lambda self: self.motion.refusing)
    @rule()
    def kernel_accepts(self) -> None:
        self.motion.refusing.clear()
        self.settle(1.0)

    # --- what always holds -----------------------------------------------------------------------

    @property
    def living(self) -> list[Interface]:
        return list(self.motion.host.interfaces.values())

    @invariant()
    def each_state_has_a_way_on(self) -> None:
        now, host = self.motion.now, self.motion.host
        for interface in self.living:
            polling, state = interface.polling, interface.lifecycle.state
            key = interface.link.index, interface.link.mac
            if interface.is_polled:
                asked = polling.in_flight and key in self.motion.open_questions
                assert asked or now < polling.next_at <= now + host.policy.schedule.refresh
            assert interface.is_polled or state is State.IGNORED
            codes = {reason.code for reason in interface.lifecycle.reasons}
            basis, decided = self.motion.turn._basis, self.motion.turn._decider.at
            due, deadline = self.motion.turn.next_at(), basis.next_deadline(decided, now)
            assert now < due.at <= now + HEARTBEAT
            if "address-awaited" in codes:
                assert deadline is not None
                assert due.at <= deadline
                assert interface.facts.age(now) < self.longest_wait(interface) + 0.1
            if "kernel-refused" in codes:
                assert not self.motion.turn.settled
                assert due.at <= now + RETRY_CAP

    def longest_wait(self, interface: Interface) -> float:
        """For how long a link's first addresses may wait for a DHCP client."""
        host = self.motion.host
        who, wait = host.outside.clients.get(interface.link.index), host.policy.address_wait
        if who == DHCPCD:
            return max(wait, DHCPCD_PATIENCE)
        return wait or (NETWORK_MANAGER_PATIENCE if who == NETWORK_MANAGER else 0.0)

    @invariant()
    def each_state_has_its_reasons(self) -> None:
        """Each cause is told, and nothing that is no cause (any more)."""
        now, host = self.motion.now, self.motion.host
        for interface in self.living:
            lifecycle = interface.lifecycle
            codes = {reason.code for reason in lifecycle.reasons}
            if lifecycle.state is State.IGNORED:
                assert len(codes) == 1
                assert codes <= grounds.HANDS_OFF | {"no-ip"}
                continue
            if lifecycle.state is State.DETECTED:
                assert interface.facts.memory.believed.directory == NOT_ASKED
                continue
            if self.is_unnamed(interface):
                assert (lifecycle.state, codes) == (State.AWAITING, {"name-unknown"})
                continue
            words = self.words(interface)
            refusals = grounds.refusals(interface, words, host.primary_mac)
            if refusals:
                assert lifecycle.state is State.AWAITING
                assert codes
                assert codes <= refusals
                continue
            families = [grounds.awaited(interface, words, f, now, host.policy) for f in Family]
            awaited = set[str]().union(*families)
            if lifecycle.state is State.AWAITING:
                assert codes == awaited
            else:
                assert not awaited
                assert codes <= {"address-awaited", "kernel-refused"}, codes
            assert bool(codes) == (lifecycle.state is not State.APPLIED)

    def is_unnamed(self, interface: Interface) -> bool:
        """Whether udev, which is never done here, may still give it a name that is excluded."""
        by_name = any(":" not in pattern for pattern in self.motion.host.policy.exclude)
        return by_name and interface.facts.age(self.motion.now) < UDEV_PATIENCE

    # --- nothing is removed on an unknown --------------------------------------------------------

    def watch(self, batch: Sequence[Operation], done: bool) -> None:
        """Before a batch each removal has its grounds; after it nobody lost what is his."""
        if not done:
            self.covered, self.bare = self.cover(), self.unguarded()
            for operation in batch:
                if isinstance(operation, RemoveAddress | RemoveRoute | RemoveRule):
                    copy = self.leaves_a_copy(operation, batch)
                    assert copy or self.grounded(operation), f"on what grounds? {operation}"
            return
        assert self.unguarded() <= self.bare, "a rule lost its guard by our doing"
        if AddRule not in self.motion.refusing:
            now = self.cover()
            for interface in self.covered.keys() & now.keys():
                assert self.covered[interface] <= now[interface], "an address lost its rule"

    def unguarded(self) -> set[Rule]:
        own = self.kernel.own_rules
        guards = {(r.family, r.src, r.iif, r.oif) for r in own if r.table == MAIN_TABLE}
        return {r for r in own if (r.family, r.src, r.iif, r.oif) not in guards}

    def cover(self) -> dict[Interface, set[IPNetwork]]:
        """By interface of ours: what IMDS told, did not take back, and what has a rule."""
        found = {}
        for interface in self.living:
            table = Numbers().table_of(interface.link.index)
            sources = [r.src for r in self.kernel.own_rules if r.table == table and r.src]
            if self.is_ours(interface):
                told = self.told(interface, Family.V4) | self.told(interface, Family.V6)
                # What its manager took off the link is left to him, and needs no rule meanwhile.
                told -= {net(str(ip)) for ip in interface.facts.floating.taken}
                found[interface] = grounds.covered(told, sources)
        return found

    def is_ours(self, interface: Interface | None) -> bool:
        return (
            interface is not None
            and interface.link.index in self.kernel.links
            and interface.lifecycle.state is not State.IGNORED
        )

    def words(self, interface: Interface) -> grounds.Words:
        words, mac = self.motion.words, interface.link.mac
        said, first = words[interface], interface.facts.memory.first_listed
        if first is not None and first < interface.facts.seen:  # of an earlier link with its MAC
            former = [of for of in words if of is not interface and of.link.mac == mac]
            said = [word for of in (*former, interface) for word in words[of]]
        return grounds.of_the_lists(said, mac)

    def told(
        self, interface: Interface, which: Family, keys: tuple[int, ...] = (ADDRESSES, PREFIXES)
    ) -> set[IPNetwork]:
        return grounds.still_told(self.words(interface), which, keys, self.motion.host.policy)

    def leaves_a_copy(self, operation: Operation, batch: Sequence[Operation]) -> bool:
        """Whether it removes a rule that stands again behind the guard that was put back."""
        if not isinstance(operation, RemoveRule):
            return False
        return self.kernel.rules.count(operation.rule) > list(batch).count(operation)

    def grounded(self, operation: RemoveAddress | RemoveRoute | RemoveRule) -> bool:
        """Whether the link went, is not ours, or IMDS gave its word on what is removed."""
        host = self.motion.host
        interface = host.interfaces.get(link_of(operation))
        if interface is None or not self.is_ours(interface):
            return True
        match operation:
            case RemoveAddress(ip=ip):
                which = Family(ip.version)
                brought = any(a.ip == ip and not ours(a) for a in interface.facts.addresses)
                wanted = host.policy.addresses is not AddressMode.NONE and not brought
                told = wanted and net(str(ip)) in self.told(interface, which)
            case RemoveRoute(route=route):
                which = route.family
                told = route.dst in self.told(interface, which, (CIDRS,))
                told = told and bool(self.told(interface, which))
            case RemoveRule(rule=old):
                if old.oif not in (None, interface.link.name):
                    return True  # the name is another link's now, or will be
                which, told = old.family, False  # see `watch`: what it was for has another
        words = self.words(interface)
        heard = all(grounds.definite(words, which, key) for key in (ADDRESSES, PREFIXES))
        return heard and not told and isinstance(host.primary_mac, Value)

    # --- the end ---------------------------------------------------------------------------------

    @rule()
    def the_world_becomes_right(self) -> None:
        """Then it is applied, and the kernel is as if nothing had ever happened."""
        motion = self.motion
        motion.dies_after, motion.unplugs, motion.lag = None, None, 0.01
        motion.refusing.clear()
        if CNI in self.kernel.rules:
            self.kernel.drop(CNI)
        link = replace(ETH1, index=self.index)
        group = self.kernel.links.get(self.index, link).group
        self.kernel.set_link(replace(link, group=group))
        # A lease that IMDS does not list is waited for, rightly.
        self.kernel.drop(*(a for a in self.kernel.addresses if a.ip == UNLISTED_LEASE.ip))
        motion.turn.set_policy(QUICK, motion.now)
        motion.primary = Value(PRIMARY)
        motion.imds(MAC, motion.now, FULL)
        self.settle(120.0)
        mine = motion.host.interfaces[self.index]
        assert mine.lifecycle.state is State.APPLIED, mine.lifecycle.reasons
        straight = RoughMotion(QUICK, self.kernel.without_ours())
        straight.imds(MAC, 0.0, FULL)
        straight.imds(MAC2, 0.0, SECOND)
        straight.run(120.0)
        for pick in ("rules", "routes", "addresses"):
            assert set(getattr(self.kernel, pick)) == set(getattr(straight.kernel, pick)), pick

    def teardown(self) -> None:
        if self.motion.turn.step is None:  # else a step failed, and that is what is to be told
            self.the_world_becomes_right()


TestLifecycle = pytest.mark.lasts(27)(LifecycleMachine.TestCase)
TestLifecycle.settings = settings(
    derandomize=True,  # the same walks in each run of the suite; `make chaos` walks others
    max_examples=50,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
