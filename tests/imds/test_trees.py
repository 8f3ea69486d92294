"""Trees of IMDS, changed at random and made whole again, over the real reader and the core.

Whatever a tree says: nothing raises, nothing outside of the bounds is programmed, no rule takes
what another link of the host has, nothing goes on an unknown, and in the end all is as planned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from nicwatchd.core import asking
from nicwatchd.core.bounds import never, no_item, no_subnet
from nicwatchd.core.lifecycle import State
from nicwatchd.core.metadata import KEYS as KEYS_OF
from nicwatchd.core.metadata import Absent, Kind, Unknown, Value
from nicwatchd.core.model import (
    MAIN_TABLE,
    AddAddress,
    AddRoute,
    AddRule,
    Family,
    IPNetwork,
    Item,
    Numbers,
    Operation,
    RemoveAddress,
)
from tests.core.build import ETH0, ETH1, MAC, PRIMARY
from tests.core.scenes import ETH2, MAC2
from tests.imds.tree_motion import BRIDGE, QUICK, TreeMotion, is_about, whole_tree, without_ours
from tests.imds.trees import Branch

pytestmark = pytest.mark.long


MACS: Final = (MAC, MAC2, PRIMARY)
KEYS: Final = tuple(whole_tree()[MAC].texts)
LISTS4: Final = ("local-ipv4s", "ipv4-prefix", "subnet-ipv4-cidr-block")
LISTS6: Final = ("ipv6s", "ipv6-prefix", "subnet-ipv6-cidr-blocks")
# Lines that stand behind what there is. The first IPv4 address stays the first: it never changes,
# and a list that began with another one, then without it, would be what amnesia looks like.
LINES: Final = (
    "", "null", "\ufffd", "\ufeff10.0.2.18", "10.0.2.1\ufffd", "2001:db8::\ufffd", "<html>", "::",
    "0.0.0.0",
    "10.0.2.0", "10.0.2.1", "10.0.2.2", "10.0.2.3", "10.0.2.255", "10.0.2.5", "10.0.2.85",
    "10.0.2.200", "10.0.2.32", "10.0.2.99", "10.9.9.9", "169.254.169.254", "127.0.0.1",
    "255.255.255.255", "255.255.255.255/32", "10.0.2.0/24", "10.0.2.80/28", "10.0.2.192/28",
    "10.0.2.0/28", "10.0.2.32/28", "10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/16", "10.0.8.0/21",
    "169.0.0.0/8", "0.0.0.0/0", "10.0.2.16/31",
    "2001:db8:0:2::1", "2001:db8:0:2::5", "2001:db8:0:2:1::85", "2001:db8:0:2:2::200",
    "2001:db8:0:2::20", "2001:db8:0:2::99", "2001:db8:0:2:1::/80", "2001:db8:0:2:2::/80",
    "2001:db8:0:2::/64", "2001:db8:0:2::/80", "2001:db8::/32", "2001:db8::/48", "2001:db8:7::/64",
    "fd00:ec2::254", "fd00:ec2::/64", "fe80::1", "::ffff:10.0.2.9", "::1", "::/0",
)  # fmt: skip
DAMAGES: Final = (
    lambda text: text[:-1],
    lambda text: f"{text[:-1]}\ufffd",
    lambda text: text[1:],
    lambda text: text.replace(".", "\ufffd", 1),
    lambda text: f"\ufeff{text}",
    lambda text: text.upper(),
    lambda text: text.replace("\n", "\r\n"),
    lambda _: "",
    lambda _: "null",
)


WAITS: Final = st.sampled_from([0.0, 0.5, 2.0, 60.0])


class TreeMachine(RuleBasedStateMachine):
    """A primary, two ENIs in its subnet, and a bridge with addresses of that subnet."""

    def __init__(self) -> None:
        super().__init__()
        self.motion = TreeMotion()
        self.motion.watch = self.watch
        self.covered: set[tuple[int, Item]] = set()

    @initialize(wait=WAITS)
    def begin(self, wait: float) -> None:
        self.motion.run(wait)

    # --- the tree ----------------------------------------------------------------------------

    def branch(self, mac: str) -> Branch:
        return self.motion.tree.branches.setdefault(mac, whole_tree()[mac])

    @rule(
        mac=st.sampled_from(MACS), key=st.sampled_from(LISTS4 + LISTS6), line=st.sampled_from(LINES)
    )
    def a_line_more(self, mac: str, key: str, line: str) -> None:
        texts = self.branch(mac).texts
        texts[key] = f"{texts.get(key) or ''}\n{line}"

    @rule(mac=st.sampled_from(MACS), key=st.sampled_from(KEYS), line=st.sampled_from(LINES))
    def another_text(self, mac: str, key: str, line: str) -> None:
        self.branch(mac).texts[key] = line

    @rule(
        mac=st.sampled_from(MACS),
        key=st.sampled_from(LISTS4 + LISTS6 + ("mac",)),
        how=st.sampled_from(DAMAGES),
        wait=WAITS,
    )
    def damaged(self, mac: str, key: str, how: Callable[[str], str], wait: float) -> None:
        texts = self.branch(mac).texts
        texts[key] = how(texts.get(key) or "")
        self.motion.run(self.motion.now + wait)

    @rule(
        mac=st.sampled_from(MACS), key=st.sampled_from(KEYS), how=st.sampled_from(["404", "gone"])
    )
    def lost(self, mac: str, key: str, how: str) -> None:
        texts = self.branch(mac).texts
        if how == "404":
            texts[key] = None
        else:
            texts.pop(key, None)

    @rule(
        mac=st.sampled_from(MACS),
        keys=st.sampled_from([LISTS4, LISTS6, LISTS4 + LISTS6, KEYS[1:]]),
        wait=WAITS,
    )
    def forgotten(self, mac: str, keys: tuple[str, ...], wait: float) -> None:
        for key in keys:
            self.branch(mac).texts.pop(key, None)
        self.motion.run(self.motion.now + wait)

    @rule(
        mac=st.sampled_from(MACS),
        key=st.sampled_from(LISTS4 + LISTS6),
        how=st.sampled_from(["{}\ufffd", "{}", "{}x", "{}\nmac"]),
        wait=WAITS,
    )
    def a_damaged_name(self, mac: str, key: str, how: str, wait: float) -> None:
        branch = self.branch(mac)
        branch.names = [name if name != key else how.format(name[:-1]) for name in branch.texts]
        self.motion.run(self.motion.now + wait)

    @rule(mac=st.sampled_from(MACS), key=st.sampled_from(["", *KEYS]))
    def failing(self, mac: str, key: str) -> None:
        self.branch(mac).failing ^= {key}

    @rule(mac=st.sampled_from(MACS), key=st.sampled_from(LISTS4 + LISTS6))
    def many_lines(self, mac: str, key: str) -> None:
        texts = self.branch(mac).texts
        more = [f"10.0.2.{n}" if "4" in key else f"2001:db8:0:2::1:{n}" for n in range(20, 320)]
        texts[key] = "\n".join([texts.get(key) or "", *more])

    @rule(mac=st.sampled_from(MACS), other=st.sampled_from(MACS))
    def the_tree_of_another(self, mac: str, other: str) -> None:
        self.motion.tree.stands_in[mac] = other

    @rule(mac=st.sampled_from(MACS))
    def not_listed(self, mac: str) -> None:
        self.motion.tree.branches.pop(mac, None)

    @rule(text=st.sampled_from([None, "", "\ufffd", MAC, f"{MAC.upper()}/\n{MAC2}/", "<html>"]))
    def the_list_of_macs(self, text: str | None) -> None:
        self.motion.tree.listing = text

    @rule(mac=st.sampled_from(MACS))
    def one_is_whole(self, mac: str) -> None:
        self.motion.tree.branches[mac] = whole_tree()[mac]
        self.motion.tree.stands_in.pop(mac, None)

    # --- the host ----------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.5, 2.0, 20.0, 50.0, 120.0]))
    def time_passes(self, seconds: float) -> None:
        self.motion.run(self.motion.now + seconds)

    @rule()
    def asked_at_once(self) -> None:
        asking.poll_all(self.motion.host, self.motion.now)
        self.motion.run(self.motion.now + 0.1)

    @rule()
    def restarted(self) -> None:
        self.motion.restart()
        self.motion.run(self.motion.now + 1.0)

    # --- what always holds -------------------------------------------------------------------

    def watch(self, batch: tuple[Operation, ...], done: bool) -> None:
        if done:
            gone = self.covered - self.cover()
            assert not any(self.is_known(index, item) for index, item in gone), gone
            return
        self.covered = self.cover()
        for operation in batch:
            self.is_within_bounds(operation)
            if isinstance(operation, RemoveAddress):
                assert not self.is_known(operation.index, operation.ip), (
                    f"on what grounds? {operation}"
                )

    def is_within_bounds(self, operation: Operation) -> None:
        """Nothing is added that no VPC gives, or that takes what another link has."""
        match operation:
            case AddAddress(index, ip):
                assert not never(ip)
                assert not no_item(ip, self.subnets(index)), operation
                assert ip not in self.others(index), operation
            case AddRoute(route) if route.dst.prefixlen and not route.dst.is_link_local:
                assert not no_subnet(route.dst), operation
            case AddRule(rule) if rule.src and rule.table != MAIN_TABLE:
                owner = Numbers().index_of(rule.table)
                assert owner is not None
                assert not never(rule.src)
                others = self.others(owner, housed=False)
                assert not [ip for ip in others if ip in rule.src], operation

    def others(self, index: int, *, housed: bool = True) -> set[IPv4Address | IPv6Address]:
        """The addresses of the other links, ours aside: what they have themselves.

        `housed`: with those that a link that is no NIC has without a network, for an ENI.
        """
        own = [a for a in self.motion.kernel.addresses if a.protocol == 0 and a.index != index]
        kept = (a for a in own if a.index != BRIDGE.index or a.prefixlen < a.ip.max_prefixlen)
        return {a.ip for a in (own if housed else kept)}

    def subnets(self, index: int) -> tuple[IPNetwork, ...]:
        believed = self.motion.host.interfaces[index].facts.memory.believed
        lists = (believed.v4.cidrs, believed.v6.cidrs)
        return tuple(cidr for said in lists if isinstance(said, Value) for cidr in said.value)

    def cover(self) -> set[tuple[int, Item]]:
        """The items that IMDS told of an ENI and for which there is a rule.

        An address is of use once it is on the link; a daemon that starts goes by that, too.
        """
        found = set()
        for index, mac in ((ETH1.index, MAC), (ETH2.index, MAC2)):
            rules = [
                r for r in self.motion.kernel.own_rules if r.table == Numbers().table_of(index)
            ]
            there = {a.ip for a in self.motion.kernel.addresses_of(index)}
            for item in self.told(mac):
                family = Family(item.version)
                is_there = item in there or isinstance(item, IPv4Network | IPv6Network)
                if is_there and any(
                    r.family is family and r.src and covers(r.src, item) for r in rules
                ):
                    found.add((index, item))
        return found

    def told(self, mac: str) -> set[Item]:
        """Everything that IMDS ever listed of this ENI."""
        lists = (
            answer
            for word in self.motion.words.get(mac, ())
            if is_about(word.reading, mac)
            for said in (word.reading.v4, word.reading.v6)
            for answer in (said.addresses, said.prefixes)
        )
        return {item for answer in lists if isinstance(answer, Value) for item in answer.value}

    def is_known(self, index: int, item: Item) -> bool:
        """Whether IMDS listed it, and did not leave it out in enough whole lists, for long enough.

        What another link has, or IMDS lists for another ENI too, may go at once.
        """
        mac = {ETH0.index: PRIMARY, ETH1.index: MAC, ETH2.index: MAC2}[index]
        if any(covers(item, ip) for ip in self.others(index)) or no_item(item, self.subnets(index)):
            return False
        for other in MACS:
            if other != mac and any(covers(item, i) or covers(i, item) for i in self.told(other)):
                return False
        kind = Kind.PREFIXES if isinstance(item, IPv4Network | IPv6Network) else Kind.ADDRESSES
        (key,) = (k for k in KEYS_OF[Family(item.version)].values() if k.kind is kind)
        listed, misses = False, list[float]()
        for at, reading, lines in self.motion.words.get(mac, ()):
            answer = reading.answer(key)
            if not is_about(reading, mac) or isinstance(answer, Unknown):
                continue
            items = answer.value if isinstance(answer, Value) else ()
            if item in items:
                listed, misses = True, []
            elif isinstance(answer, Absent) or len(items) == lines[key.name]:
                misses.append(at)
        enough = len(misses) >= QUICK.doubts and misses[-1] - misses[0] >= QUICK.doubt_span
        in_subnet = any(covers(cidr, item) for cidr in self.subnets(index))
        return listed and in_subnet and not enough

    # --- the end -----------------------------------------------------------------------------

    @rule()
    def all_is_whole_again(self) -> None:
        motion = self.motion
        motion.tree.branches = whole_tree()
        motion.tree.listing = None
        motion.tree.stands_in.clear()
        motion.run(motion.now + 200.0)
        for index in (ETH1.index, ETH2.index):
            reasons = motion.host.interfaces[index].lifecycle.reasons
            assert motion.state(index) is State.APPLIED, reasons
            assert not motion.host.interfaces[index].view().notes
        straight = TreeMotion(without_ours(motion.kernel))
        straight.run(200.0)
        for pick in ("rules", "routes", "addresses"):
            assert set(getattr(motion.kernel, pick)) == set(getattr(straight.kernel, pick)), pick
        straight.close()

    def teardown(self) -> None:
        if self.motion.turn.step is None:  # else a step failed, and that is what is to be told
            self.all_is_whole_again()
        self.motion.close()


def covers(outer: Item, inner: Item) -> bool:
    (version, first, last), (other, begin, end) = span(outer), span(inner)
    return version == other and first <= begin and end <= last


@cache  # it is asked of each item and each rule before each batch
def span(item: Item) -> tuple[int, int, int]:
    """The version, and the first and the last address, as numbers."""
    network = ip_network(item)
    return network.version, int(network.network_address), int(network.broadcast_address)


TestTrees = pytest.mark.lasts(60)(TreeMachine.TestCase)
TestTrees.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
