"""What may happen next, given what is true: each proposal is possible, or None."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface, IPv6Network, ip_network
from itertools import permutations
from random import Random
from typing import Final, TypeAlias, TypeVar, get_args

from nicwatchd.core.metadata import KEYS
from nicwatchd.core.model import Family, IPNetwork, contains
from nicwatchd.sim.parts import Eni, Subnet
from nicwatchd.sim.script import Do
from tests.chaos.actions import (
    Action,
    AddCidr,
    Assign,
    Attach,
    Delay,
    Detach,
    Die,
    FaultBegins,
    FaultsEnd,
    Flap,
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
    RemoveCidr,
    Rename,
    Reuse,
    SetDown,
    SetUpAgain,
    Start,
    Stop,
    SwitchIpv6,
    Unassign,
)
from tests.chaos.propose_foreign import (
    container_comes,
    manager_comes,
    manager_goes,
    one,
    put_foreign,
    take_foreign,
    up,
)
from tests.chaos.truth import PRIMARY, Truth, cidrs, items_of, script_of

T = TypeVar("T")
Proposal: TypeAlias = Callable[[Truth, Random], Action | None]

NAMES: Final = tuple(f"eth{n}" for n in range(1, 10))
SUBNET_KEYS: Final = tuple(key.name for family in Family for key in KEYS[family].values())
LATE_KEYS: Final = ("mac", "device-number", "subnet-id", *SUBNET_KEYS)
FAULTY: Final = ("token", "directory", "leaf", "all", *(f"leaf:{key}" for key in SUBNET_KEYS))
AT_MOST: Final = 5  # items of one kind that an ENI is given


def action(truth: Truth, random: Random) -> Action:
    """Something that is possible now."""
    while True:
        (propose,) = random.choices(list(WEIGHTS), list(WEIGHTS.values()))
        proposed = propose(truth, random)
        if proposed is not None:
            return proposed


# --- EC2 ---------------------------------------------------------------------------------------


def _attach(truth: Truth, random: Random) -> Action | None:
    mac = one(random, truth.enis.keys() - truth.ports.keys())
    name = one(random, set(NAMES) - {port.name for port in truth.ports.values()})
    if mac is None or name is None:
        return None
    return Attach(mac, name, _delay(random, frozen=False))


def _detach(truth: Truth, random: Random) -> Action | None:
    mac = one(random, (*truth.secondaries, *truth.dead))
    return None if mac is None else Detach(mac, listed=random.random() < 0.5)


def _die(truth: Truth, random: Random) -> Action | None:
    """Of an ENI that the daemon knows: the rest of what it had is certain then."""
    steady = [mac for mac in up(truth) if {(mac, i) for i in truth.items(mac)} <= truth.steady]
    strange = [mac for mac in steady if truth.floats(mac) or not truth.ports[mac].ipv6]
    strange += [mac for mac in steady if truth.contained & {*truth.items(mac)}]
    mac = (
        None
        if truth.dead
        else one(random, [m for m in steady if truth.items(m) and m not in strange])
    )
    if mac is None:
        return None
    taker = one(random, _beside(truth, mac)) if random.random() < 0.8 else None
    return Die(mac, taker, carrier=random.random() < 0.6, listed=random.random() < 0.5)


def _beside(truth: Truth, mac: str) -> list[str]:
    """The other attached ENIs of a subnet."""
    subnet = truth.enis[mac].subnet
    others = (other for other in truth.secondaries if other != mac and _has_ip(truth, other))
    return [other for other in others if truth.enis[other].subnet == subnet]


def _reuse(truth: Truth, random: Random) -> Action | None:
    """A freed prefix, of which an address is in use elsewhere at once."""
    pairs = [(mac, prefix) for mac in truth.secondaries for prefix in truth.enis[mac].prefixes]
    pair = one(random, pairs)
    if pair is None:
        return None
    giver, prefix = pair
    takers = _beside(truth, giver)
    if truth.enis[PRIMARY].subnet == truth.enis[giver].subnet:
        takers.append(PRIMARY)
    address = prefix[5]
    taker = one(random, [mac for mac in takers if _like(truth.enis[mac], address) < AT_MOST])
    if taker is None or any(address in truth.items(mac) for mac in truth.enis):
        return None
    return Reuse(giver, taker, prefix, address, stale=random.random() < 0.6)


def _delay(random: Random, *, frozen: bool = True) -> Delay:
    keys = frozenset(random.sample(LATE_KEYS, random.randint(1, 4)))
    spoilt = frozenset((key, random.randrange(4)) for key in random.sample(SUBNET_KEYS, 3))
    names = frozenset(random.sample(SUBNET_KEYS, 2))
    kinds = [Delay(), Delay(unlisted=True), Delay(hidden=keys), Delay(lagging=keys)]
    kinds += [Delay(damaged=spoilt), Delay(misspelt=names)]
    return random.choice([*kinds, Delay(frozen=True)] if frozen else kinds)


def _lag(truth: Truth, random: Random) -> Action | None:
    mac = one(random, truth.ports.keys() - {*truth.dead})
    return None if mac is None else ImdsLags(mac, _delay(random))


def _damage(truth: Truth, random: Random) -> Action | None:
    """Damage that can bite: in lists of several lines."""
    mac = one(random, truth.secondaries)
    facts = {} if mac is None else script_of(truth.enis[mac]).facts()
    long = [key for key in SUBNET_KEYS if "\n" in facts.get(key, "")]
    if mac is None or not long:
        return None
    spoilt = frozenset((key, random.randrange(4)) for key in long)
    return ImdsLags(mac, Delay(damaged=spoilt))


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


def free_items(truth: Truth, subnet: Subnet) -> list[Item]:
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
        free += [thing for thing in addresses if thing not in taken][:1]
        free += [net for net in prefixes if not any(overlaps(net, item) for item in taken)][:1]
    return free


def overlaps(prefix: IPNetwork, item: Item) -> bool:
    """Whether a prefix is, or holds, what somebody has."""
    return contains(prefix, ip_network(item))


def _like(eni: Eni, item: Item) -> int:
    """How many of this kind an ENI has."""
    return len([i for i in items_of(eni) if type(i) is type(item)])


def _has_ip(truth: Truth, mac: str) -> bool:
    """Nothing is ever assigned to an EFA-only ENI, which is not made for it."""
    return bool(truth.items(mac)) or mac != max(truth.enis)


def _assign(truth: Truth, random: Random) -> Action | None:
    mac = one(random, [mac for mac in truth.secondaries if _has_ip(truth, mac)])
    if mac is None:
        return None
    eni = truth.enis[mac]
    item = one(random, [i for i in free_items(truth, eni.subnet) if _like(eni, i) < AT_MOST])
    return None if item is None else Assign(mac, item)


def _unassign(truth: Truth, random: Random) -> Action | None:
    mac = one(random, truth.secondaries)
    item = None if mac is None else one(random, truth.given(mac))
    return None if mac is None or item is None else Unassign(mac, item)


def _move(truth: Truth, random: Random) -> Action | None:
    pair = one(
        random,
        [
            (giver, taker)
            for giver, taker in permutations(truth.secondaries, 2)
            if taker in _beside(truth, giver)
        ],
    )
    item = None if pair is None else one(random, truth.given(pair[0]))
    return None if pair is None or item is None else Move(*pair, item)


def _add_cidr(truth: Truth, random: Random) -> Action | None:
    subnet = one(random, {eni.subnet for eni in truth.enis.values()})
    if subnet is None or len(subnet.ipv6) != 1:
        return None
    number = int(subnet.name.rpartition("-")[2])
    return AddCidr(subnet.name, IPv6Network(f"2001:db8:ec2:{0x100 + number:x}::/64"))


def _remove_cidr(truth: Truth, random: Random) -> Action | None:
    subnet = one(random, {eni.subnet for eni in truth.enis.values() if len(eni.subnet.ipv6) > 1})
    if subnet is None:
        return None
    cidr = subnet.ipv6[-1]
    items = [ip_network(item) for mac in truth.enis for item in truth.items(mac)]
    used = any(item.version == 6 and item.network_address in cidr for item in items)
    return None if used else RemoveCidr(subnet.name, cidr)


# --- the host ----------------------------------------------------------------------------------


def _flap(truth: Truth, random: Random) -> Action | None:
    mac = one(random, up(truth))
    return None if mac is None else Flap(mac)


def _set_down(truth: Truth, random: Random) -> Action | None:
    mac = one(random, up(truth))
    return None if mac is None else SetDown(mac)


def _set_up_again(truth: Truth, random: Random) -> Action | None:
    mac = one(random, [mac for mac in truth.secondaries if not truth.ports[mac].up])
    return None if mac is None else SetUpAgain(mac)


def _switch_ipv6(truth: Truth, random: Random) -> Action | None:
    """Off for a link that is up; on again for any."""
    off = [mac for mac in truth.secondaries if not truth.ports[mac].ipv6]
    mac = one(random, [*off, *up(truth)])
    return None if mac is None else SwitchIpv6(mac, on=mac in off)


def _rename(truth: Truth, random: Random) -> Action | None:
    mac = one(random, truth.secondaries)
    name = one(random, set(NAMES) - {port.name for port in truth.ports.values()})
    return None if mac is None or name is None else Rename(mac, name)


def _lease_comes(truth: Truth, random: Random) -> Action | None:
    mac = one(random, up(truth))
    if mac is None:
        return None
    eni = truth.enis[mac]
    known = {(lease.mac, lease.family) for lease in truth.leases}
    free: list[Lease] = []
    if eni.ipv4 and eni.subnet.ipv4 and (mac, Family.V4) not in known:
        free.append(Lease(mac, IPv4Interface((eni.ipv4[0], eni.subnet.ipv4.prefixlen))))
    if (mac, Family.V6) not in known and truth.ports[mac].ipv6:
        free += [Lease(mac, IPv6Interface((ip, 128))) for ip in eni.ipv6]
    taken = truth.contained | truth.floats(mac)
    free = [lease for lease in free if lease.address.ip not in taken]
    lease = one(random, free)
    return None if lease is None else LeaseComes(lease)


def _lease_renews(truth: Truth, random: Random) -> Action | None:
    lease = one(random, truth.leases)
    return None if lease is None else LeaseRenews(lease)


def _lease_expires(truth: Truth, random: Random) -> Action | None:
    lease = one(random, truth.leases)
    return None if lease is None else LeaseExpires(lease)


def _others_remove(truth: Truth, random: Random) -> Action | None:
    del truth
    kinds: list[Kind] = ["rule", "route", "address", "all rules"]
    return OthersRemove(random.choice(kinds), random.randrange(1000))


def _others_ungroup(truth: Truth, random: Random) -> Action | None:
    mac = one(random, up(truth))
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
    _die: 5,
    _reuse: 5,
    _lag: 5,
    _damage: 3,
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
    put_foreign: 8,
    take_foreign: 5,
    container_comes: 4,
    manager_comes: 6,
    manager_goes: 8,
    _others_remove: 10,
    _others_ungroup: 2,
    _kill: 4,
    _start: 8,
    _overrun: 2,
    _pass: 20,
}
