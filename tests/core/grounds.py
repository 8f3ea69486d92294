"""What the reasons' words say, told of the facts once more and apart from the code that judges.

For the tests that ask of any state: is each cause told, is each reason a cause, and on what
grounds was something removed?
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from nicwatchd.core.evidence import Status
from nicwatchd.core.interface import Interface
from nicwatchd.core.metadata import ABSENT, KEYS, Answer, EniMetadata, Unknown, Value
from nicwatchd.core.model import Family, IPAddress, IPNetwork, contains
from nicwatchd.core.policy import Policy

ADDRESSES, PREFIXES, CIDRS = range(3)  # the lists of a family
Words = Sequence[tuple[float, EniMetadata]]  # all that IMDS told of an interface, and when

# The reasons to leave an interface alone that need no word of IMDS on the lists.
HANDS_OFF = frozenset({"excluded", "driver", "enslaved", "cni", "primary"})
# ... and those to use nothing that IMDS says yet.
REFUSALS = frozenset({"wrong-mac", "primary-unknown", "imds-unread", "mac-unlisted"})


def lists(reading: EniMetadata, which: Family) -> tuple[Answer[Any], Answer[Any], Answer[Any]]:
    said = reading.of(which)
    return said.addresses, said.prefixes, said.cidrs


def items(answer: Answer[Any]) -> tuple[Any, ...]:
    return answer.value if isinstance(answer, Value) else ()


def leases(interface: Interface, which: Family) -> set[IPAddress]:
    unrouted = ip_network("169.254.0.0/16")
    return {
        a.ip
        for a in interface.facts.addresses
        if a.family is which and a.dynamic and not (a.tentative or a.from_ra)
        and not (a.family is Family.V4 and a.ip in unrouted)
    }  # fmt: skip


def strangers(interface: Interface, which: Family) -> set[IPAddress]:
    """IPv4 leases of another network than IMDS names: a note, and nothing to wait for."""
    cidrs = items(lists(interface.facts.memory.believed, which)[2])
    if which is Family.V6 or not cidrs:
        return set()
    return {
        ip
        for ip in leases(interface, which)
        if not any(contains(cidr, ip_network(ip)) for cidr in cidrs)
    }


def refusals(interface: Interface, words: Words, primary: Answer[str]) -> set[str]:
    """Why nothing of what IMDS says can be used; `words` are those of the lists."""
    believed, found = interface.facts.memory.believed, set()
    if isinstance(believed.mac, Value) and believed.mac.value != interface.link.mac:
        found.add("wrong-mac")
    if not isinstance(primary, Value):
        found.add("primary-unknown")
    if not words:
        unread = isinstance(believed.directory, Unknown)
        found.add("imds-unread" if unread else "mac-unlisted")
    return found


def causes(interface: Interface, which: Family) -> set[str]:
    """What may be waited for in one family."""
    keys, believed, name = KEYS[which], interface.facts.memory.believed, which.label.lower()
    addresses, prefixes, cidrs = lists(believed, which)
    found = {f"unread-{key}" for key, it in believed.lists(which) if isinstance(it, Unknown)}
    if addresses == ABSENT and not isinstance(prefixes, Value):
        found.add(f"no-{keys['addresses']}")
    if cidrs == ABSENT:
        found.add(f"no-{keys['cidrs']}")
    if items(cidrs) and not all(
        any(contains(cidr, ip_network(item)) for cidr in items(cidrs))
        for item in (*items(addresses), *items(prefixes))
    ):
        found.add(f"outside-subnet-{name}")
    if leases(interface, which) - set(items(addresses)) - strangers(interface, which):
        found.add(f"lease-unlisted-{name}")
    return found


def awaited(
    interface: Interface, words: Words, which: Family, now: float, policy: Policy
) -> set[str]:
    """What a family has to wait for. Asserts that whatever it does not wait for is no cause."""
    for key, answer in enumerate(lists(interface.facts.memory.believed, which)):
        assert definite(words, which, key) or isinstance(answer, Unknown), "no word, no proof"
    verdict, name = interface.verdicts[which], which.label.lower()
    addresses, prefixes, _ = lists(interface.facts.memory.believed, which)
    told_none, leased = addresses == prefixes == ABSENT, leases(interface, which)
    undecided = f"undecided-{name}"
    if verdict.status is Status.ABSENT or undecided in {r.code for r in verdict.reasons}:
        assert told_none, "absent is proven, never an unknown"
        assert not leased
        assert not still_told(words, which, (ADDRESSES, PREFIXES), policy)
        if verdict.status is Status.WAITING:
            return {undecided}
        listed = interface.facts.memory.first_listed
        assert listed is not None
        assert now - listed >= policy.settling or interface.facts.age(now) >= policy.patience
        return set()
    found = causes(interface, which)
    if interface.witness and which in interface.witness.confirmed:
        found.discard(f"lease-unlisted-{name}")  # a note by then
        if told_none and leased:  # a lease outlives an unassignment
            return set()
    return found


# --- what IMDS told, and did not take back -----------------------------------------------------


def of_the_lists(words: Words, mac: str) -> Words:
    """The readings that say anything of the lists of this MAC's ENI."""
    return [
        (at, reading)
        for at, reading in words
        if isinstance(reading.directory, Value)
        and not (isinstance(reading.mac, Value) and reading.mac.value != mac)
    ]


def definite(words: Words, which: Family, key: int) -> list[tuple[float, tuple[Any, ...]]]:
    """One list as it was each time that IMDS gave its word on it."""
    said = [(at, lists(reading, which)[key]) for at, reading in words]
    return [(at, items(answer)) for at, answer in said if not isinstance(answer, Unknown)]


def still_told(
    words: Words, which: Family, keys: tuple[int, ...], policy: Policy
) -> set[IPNetwork]:
    """What IMDS listed, and then did not leave out often enough, for long enough."""
    found: set[IPNetwork] = set()
    for key in keys:
        said = definite(words, which, key)
        for item in {item for _, listed in said for item in listed}:
            misses: list[float] = []
            for at, listed in said:
                misses = [] if item in listed else [*misses, at]
            few = len(misses) < policy.doubts
            if few or misses[-1] - misses[0] < policy.doubt_span:
                found.add(ip_network(item))
    return found


def covered(told: set[IPNetwork], sources: list[IPNetwork]) -> set[IPNetwork]:
    """The items that a rule's source selects."""
    return {item for item in told if any(contains(source, item) for source in sources)}
