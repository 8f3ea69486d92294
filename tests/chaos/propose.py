"""What may happen next, given what is true: each proposal is possible, or None."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, IPv6Network, ip_network
from itertools import permutations
from random import Random
from typing import Final, TypeAlias, TypeVar, get_args

from nicwatchd.core.metadata import KEYS
from nicwatchd.core.model import Family, Rule
from nicwatchd.sim.parts import Eni, Subnet
from nicwatchd.sim.script import Do
from tests.chaos.actions import (
    Action,
    AddCidr,
    Assign,
    Attach,
    Delay,
    Detach,
    FaultBegins,
    FaultsEnd,
    Flap,
    Foreign,
    ForeignAddress,
    ForeignRoute,
    ForeignRule,
    ImdsCatchesUp,
    ImdsLags,
    Item,
    Kill,
    Kind,
    Lease,
    LeaseComes,
    LeaseExpires,
    LeaseRenews,
    Move,
    OthersRemove,
    OthersUngroup,
    Overrun,
    Pass,
    PutForeign,
    RemoveCidr,
    Rename,
    SetDown,
    SetUpAgain,
    Start,
    Stop,
    SwitchIpv6,
    TakeForeign,
    Unassign,
)
from tests.chaos.truth import PRIMARY, Truth, cidrs, is_ipv6_on

T = TypeVar("T")
Proposal: TypeAlias = Callable[[Truth, Random], Action | None]

NAMES: Final = tuple(f"eth{n}" for n in range(1, 10))
SUBNET_KEYS: Final = tuple(key.name for family in Family for key in KEYS[family].values())
LATE_KEYS: Final = ("mac", "device-number", "subnet-id", *SUBNET_KEYS)
FAULTY: Final = ("token", "directory", "leaf", "all", *(f"leaf:{key}" for key in SUBNET_KEYS))
AT_MOST: Final = 5  # items of one kind that an ENI is given
FOREIGN_AT_MOST: Final = 8


def action(truth: Truth, random: Random) -> Action:
    """Something that is possible now."""
    while True:
        (propose,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        proposed = propose(truth, random)
        if proposed is not None:
            return proposed


def _one(random: Random, things: Iterable[T]) -> T | None:
    """One of them, whichever order they came in; None where there is none."""
    chosen = sorted(things, key=str)
    return random.choice(chosen) if chosen else None


# --- EC2 ---------------------------------------------------------------------------------------


def _attach(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, truth.enis.keys() - truth.ports.keys())
    name = _one(random, set(NAMES) - {port.name for port in truth.ports.values()})
    if mac is None or name is None:
        return None
    return Attach(mac, name, _delay(random, frozen=False))


def _detach(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, truth.secondaries)
    return None if mac is None else Detach(mac, listed=random.random() < 0.5)


def _delay(random: Random, *, frozen: bool = True) -> Delay:
    keys = frozenset(random.sample(LATE_KEYS, random.randint(1, 4)))
    kinds = [Delay(), Delay(unlisted=True), Delay(hidden=keys), Delay(lagging=keys)]
    return random.choice([*kinds, Delay(frozen=True)] if frozen else kinds)


def _lag(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, truth.ports)
    return None if mac is None else ImdsLags(mac, _delay(random))


def _catch_up(truth: Truth, random: Random) -> Action | None:
    del truth, random
    return ImdsCatchesUp()


def _fault(truth: Truth, random: Random) -> Action | None:
    if len(truth.faults) > 1:
        return None
    return FaultBegins(random.choice(FAULTY), random.choice(get_args(Do)))


def _faults_end(truth: Truth, random: Random) -> Action | None:
    del random
    return FaultsEnd() if truth.faults else None


def _free_items(truth: Truth, subnet: Subnet) -> list[Item]:
    """What EC2 could assign next in a subnet: one address and one prefix of each CIDR."""
    taken = {item for mac in truth.enis for item in truth.items(mac)}
    free: list[Item] = []
    for cidr in cidrs(subnet):
        v4 = cidr.version == 4
        addresses = (cidr[n] for n in range(10, 120))
        prefixes = (
            ip_network((int(cidr[0]) + (16 * n if v4 else n << 48), 28 if v4 else 80))
            for n in range(8, 15)
        )
        for things in (addresses, prefixes):
            free += [thing for thing in things if thing not in taken][:1]
    return free


def _like(eni: Eni, item: Item) -> int:
    """How many of this kind an ENI has."""
    return len([i for i in (*eni.addresses(), *eni.prefixes) if type(i) is type(item)])


def _has_ip(truth: Truth, mac: str) -> bool:
    """Nothing is ever assigned to an EFA-only ENI, which is not made for it."""
    return bool(truth.items(mac)) or mac != max(truth.enis)


def _assign(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, [mac for mac in truth.secondaries if _has_ip(truth, mac)])
    if mac is None:
        return None
    eni = truth.enis[mac]
    item = _one(random, [i for i in _free_items(truth, eni.subnet) if _like(eni, i) < AT_MOST])
    return None if item is None else Assign(mac, item)


def _given(truth: Truth, mac: str) -> list[Item]:
    """What can be taken from an ENI: EC2 never takes the first IPv4 address."""
    first = truth.enis[mac].ipv4[:1]
    return [item for item in truth.items(mac) if item not in first]


def _unassign(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, truth.secondaries)
    item = None if mac is None else _one(random, _given(truth, mac))
    return None if mac is None or item is None else Unassign(mac, item)


def _move(truth: Truth, random: Random) -> Action | None:
    pair = _one(
        random,
        [
            (giver, taker)
            for giver, taker in permutations(truth.secondaries, 2)
            if truth.enis[giver].subnet == truth.enis[taker].subnet and _has_ip(truth, taker)
        ],
    )
    item = None if pair is None else _one(random, _given(truth, pair[0]))
    return None if pair is None or item is None else Move(*pair, item)


def _add_cidr(truth: Truth, random: Random) -> Action | None:
    subnet = _one(random, {eni.subnet for eni in truth.enis.values()})
    if subnet is None or len(subnet.ipv6) != 1:
        return None
    number = int(subnet.name.rpartition("-")[2])
    return AddCidr(subnet.name, IPv6Network(f"2001:db8:ec2:{0x100 + number:x}::/64"))


def _remove_cidr(truth: Truth, random: Random) -> Action | None:
    subnet = _one(random, {eni.subnet for eni in truth.enis.values() if len(eni.subnet.ipv6) > 1})
    if subnet is None:
        return None
    cidr = subnet.ipv6[-1]
    items = [ip_network(item) for mac in truth.enis for item in truth.items(mac)]
    used = any(item.version == 6 and item.network_address in cidr for item in items)
    return None if used else RemoveCidr(subnet.name, cidr)


# --- the host ----------------------------------------------------------------------------------


def _up(truth: Truth) -> list[str]:
    """Secondaries whose link was set up for sure, and is up."""
    ports = truth.ports
    return [mac for mac in truth.secondaries if ports[mac].settled and ports[mac].up]


def _flap(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, _up(truth))
    return None if mac is None else Flap(mac)


def _set_down(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, _up(truth))
    return None if mac is None else SetDown(mac)


def _set_up_again(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, [mac for mac in truth.secondaries if not truth.ports[mac].up])
    return None if mac is None else SetUpAgain(mac)


def _switch_ipv6(truth: Truth, random: Random) -> Action | None:
    """Off for a link that is up; on again for any."""
    off = [mac for mac in truth.secondaries if not truth.ports[mac].ipv6]
    mac = _one(random, [*off, *_up(truth)])
    return None if mac is None else SwitchIpv6(mac, on=mac in off)


def _rename(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, truth.secondaries)
    name = _one(random, set(NAMES) - {port.name for port in truth.ports.values()})
    return None if mac is None or name is None else Rename(mac, name)


def _lease_comes(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, _up(truth))
    if mac is None:
        return None
    eni = truth.enis[mac]
    known = {(lease.mac, lease.family) for lease in truth.leases}
    free: list[Lease] = []
    if eni.ipv4 and eni.subnet.ipv4 and (mac, Family.V4) not in known:
        free.append(Lease(mac, IPv4Interface((eni.ipv4[0], eni.subnet.ipv4.prefixlen))))
    if (mac, Family.V6) not in known and truth.ports[mac].ipv6:
        free += [Lease(mac, IPv6Interface((ip, 128))) for ip in eni.ipv6]
    lease = _one(random, free)
    return None if lease is None else LeaseComes(lease)


def _lease_renews(truth: Truth, random: Random) -> Action | None:
    lease = _one(random, truth.leases)
    return None if lease is None else LeaseRenews(lease)


def _lease_expires(truth: Truth, random: Random) -> Action | None:
    lease = _one(random, truth.leases)
    return None if lease is None else LeaseExpires(lease)


def _put_foreign(truth: Truth, random: Random) -> Action | None:
    """IPv4 routes only where an operator's IPv4 address is.

    The kernel drops a link's IPv4 routes with its last IPv4 address, and that may be ours.
    """
    if len(truth.foreign) >= FOREIGN_AT_MOST:
        return None
    mac = random.choice([PRIMARY, *_up(truth)])
    number = int(mac.rpartition(":")[2], 16)
    free: list[Foreign] = [
        ForeignAddress(mac, IPv4Interface(f"198.18.{number}.1/24")),
        ForeignAddress(mac, IPv6Interface(f"fd00:98:{number}::1/64")),
        ForeignRoute(mac, ip_network(f"fd00:99:{number}::/48")),
    ]
    if free[0] in truth.foreign:
        free.append(ForeignRoute(mac, ip_network(f"198.19.{number}.0/24")))
    for priority in (100, 5210, 20000, 32000, 32650):
        source = ip_network(random.choice(["198.51.100.0/24", "2001:db8:5100::/48"]))
        rule = Rule(Family(source.version), priority, 100 + number, 4, src=source)
        free.append(ForeignRule(rule))
    if not truth.ports[mac].ipv6:
        free = [thing for thing in free if not is_ipv6_on(thing, mac)]
    thing = _one(random, set(free) - truth.foreign)
    return None if thing is None else PutForeign(thing)


def _take_foreign(truth: Truth, random: Random) -> Action | None:
    needed = {
        thing.mac
        for thing in truth.foreign
        if isinstance(thing, ForeignRoute) and thing.dst.version == 4
    }
    loose = [
        thing
        for thing in truth.foreign
        if not isinstance(thing, ForeignAddress)
        or not isinstance(thing.address.ip, IPv4Address)
        or thing.mac not in needed
    ]
    thing = _one(random, loose)
    return None if thing is None else TakeForeign(thing)


def _others_remove(truth: Truth, random: Random) -> Action | None:
    del truth
    kinds: list[Kind] = ["rule", "route", "address", "all rules"]
    return OthersRemove(random.choice(kinds), random.randrange(1000))


def _others_ungroup(truth: Truth, random: Random) -> Action | None:
    mac = _one(random, _up(truth))
    return None if mac is None else OthersUngroup(mac)


# --- the daemon, and time ----------------------------------------------------------------------


def _kill(truth: Truth, random: Random) -> Action | None:
    return (Kill() if random.random() < 0.7 else Stop()) if truth.running else None


def _start(truth: Truth, random: Random) -> Action | None:
    del random
    return None if truth.running else Start()


def _overrun(truth: Truth, random: Random) -> Action | None:
    del random
    return Overrun() if truth.running else None


def _pass(truth: Truth, random: Random) -> Action | None:
    """Mostly moments, so that things meet; at times long enough for anything."""
    del truth
    return Pass(random.random() ** random.choice([1, 4, 12]))


WEIGHTS: Final[dict[Proposal, int]] = {
    _attach: 10,
    _detach: 4,
    _lag: 5,
    _catch_up: 2,
    _fault: 5,
    _faults_end: 3,
    _assign: 8,
    _unassign: 6,
    _move: 6,
    _add_cidr: 2,
    _remove_cidr: 1,
    _flap: 4,
    _set_down: 2,
    _set_up_again: 3,
    _switch_ipv6: 3,
    _rename: 3,
    _lease_comes: 6,
    _lease_renews: 3,
    _lease_expires: 3,
    _put_foreign: 4,
    _take_foreign: 3,
    _others_remove: 10,
    _others_ungroup: 2,
    _kill: 4,
    _start: 8,
    _overrun: 2,
    _pass: 20,
}
