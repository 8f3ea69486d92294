"""What is true of the host during a chaos walk, whoever knows of it. Pure: actions lead from one
truth to the next, so the walk can choose what is possible, and the judge what must be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from nicwatchd.core.container_networks import NODE_PORT_MARK
from nicwatchd.core.model import MAIN_TABLE, Family, IPAddress, IPNetwork, Rule
from nicwatchd.core.policy import Section
from nicwatchd.sim.parts import Eni, Subnet
from nicwatchd.sim.script import EniScript, Step
from tests.chaos.actions import (
    Action,
    AddCidr,
    Assign,
    Attach,
    ContainerRoute,
    Delay,
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
    ImdsCatchesUp,
    ImdsLags,
    Item,
    Kill,
    Lease,
    LeaseComes,
    LeaseExpires,
    Move,
    OthersUngroup,
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

PRIMARY: Final = "02:00:00:00:00:01"
# By which the VPC CNI is known: all ENIs are its own then, but those of sections.
CNI: Final = Rule(Family.V4, 1024, MAIN_TABLE, 4, fwmark=NODE_PORT_MARK, fwmask=NODE_PORT_MARK)

DIVERTS: Final = 90  # the priority of foreign rules that lead an ENI's packets away
NARROWS: Final = 91  # ... of those that do so where their table has a route


@dataclass(frozen=True, slots=True)
class Port:
    """An attached ENI's link.

    `ipv6`: not switched off by sysctl. `settled`: it was set up once, and its group shows it: from
    now on "down" is an operator's wish.
    `dead`: the ENI was detached by force. `forgotten`: ... and the daemon has begun since.
    """

    name: str
    up: bool = True
    ipv6: bool = True
    settled: bool = False
    dead: bool = False
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What IMDS tells of an ENI: as of when it froze (None: now), with these gaps."""

    eni: Eni | None = None
    delay: Delay = field(default_factory=Delay)


def first_enis() -> dict[str, Eni]:
    """The primary and eight ENIs: three in one subnet, one of five addresses, one in the primary's,
    without IPv6, without IPv4, and without any address at all (EFA-only). Two have prefixes."""
    subnets = [Subnet.numbered(n) for n in range(1, 7)]
    subnets[4] = replace(subnets[4], ipv4=None)
    places = [(0, 1), (1, 1), (1, 2), (2, 5), (0, 1), (3, 3), (4, 1), (1, 1), (2, 0)]
    enis = [
        Eni.numbered(f"eth{i}", subnets[place], 10 + 8 * i, count, f"02:00:00:00:00:{i + 1:02x}")
        for i, (place, count) in enumerate(places)
    ]
    enis[5] = replace(enis[5], ipv6=())
    for number, net in ((2, 2), (4, 1)):
        v4, v6 = IPv4Network(f"10.0.{net}.128/28"), IPv6Network(f"2001:db8:ec2:{net}:8::/80")
        enis[number] = replace(enis[number], ipv4_prefixes=(v4,), ipv6_prefixes=(v6,))
    return {eni.mac: eni for eni in enis}


@dataclass(frozen=True, slots=True)
class Truth:
    """`enis` are all of the account, attached or not; `ports` the links, by MAC.

    `steady` are addresses and prefixes that were right at the last quiet point, and that nobody
    has changed or denied since: whatever else happens, the daemon may not take those away.
    `rooted` is what others had then, so that the daemon saw it for sure. `departed` are addresses
    of ENIs that others had on the link and that went; `taken` those of them that the daemon knows
    to have been taken away, and so must not put back. `sections` are those of the settings.
    """

    enis: Mapping[str, Eni] = field(default_factory=first_enis)
    ports: Mapping[str, Port] = field(default_factory=lambda: {PRIMARY: Port("eth0")})
    told: Mapping[str, Told] = field(default_factory=lambda: {PRIMARY: Told()})
    foreign: frozenset[Foreign] = frozenset()
    leases: frozenset[Lease] = frozenset()
    faults: frozenset[FaultBegins] = frozenset()
    running: bool = False
    steady: frozenset[tuple[str, Item]] = frozenset()
    rooted: frozenset[Foreign] = frozenset()
    departed: frozenset[tuple[str, Item]] = frozenset()
    taken: frozenset[tuple[str, Item]] = frozenset()
    sections: Mapping[str, Section] = field(default_factory=dict)

    # --- questions ---------------------------------------------------------------------------

    @property
    def secondaries(self) -> tuple[str, ...]:
        """The MACs of the attached ENIs, the primary aside."""
        return tuple(sorted(self.ports.keys() - {PRIMARY, *self.dead}))

    @property
    def dead(self) -> tuple[str, ...]:
        """The MACs of the links that are left of ENIs."""
        return tuple(sorted(mac for mac, port in self.ports.items() if port.dead))

    def items(self, mac: str) -> tuple[Item, ...]:
        """All addresses and prefixes of an ENI."""
        return items_of(self.enis[mac])

    def shared(self, mac: str) -> tuple[IPNetwork, ...]:
        """The CIDRs that are on the links of *other* attached ENIs."""
        others = (self.enis[other].subnet for other in self.ports if other != mac)
        return tuple(dict.fromkeys(cidr for subnet in others for cidr in cidrs(subnet)))

    def usable(self, mac: str) -> Eni:
        """An attached ENI as its link is called, with what its link can have."""
        port = self.ports[mac]
        eni = replace(self.enis[mac], name=port.name)
        section = self.sections.get(mac, Section())
        families = frozenset(Family) if section.families is None else section.families
        if Family.V4 not in families:
            eni = replace(eni, ipv4=(), ipv4_prefixes=())
        has_ipv6 = port.ipv6 and Family.V6 in families
        return eni if has_ipv6 else replace(eni, ipv6=(), ipv6_prefixes=())

    def is_left(self, mac: str) -> bool:
        """Whether an ENI is not nicwatchd's: the settings say so, or a container network has it."""
        manage = self.sections.get(mac, Section()).manage
        return mac != PRIMARY and (manage is False or (self.has_cni and not manage))

    @property
    def has_cni(self) -> bool:
        """Whether there is a container network that owns the secondary ENIs."""
        return ForeignRule(CNI) in self.foreign

    @property
    def beside(self) -> tuple[str, ...]:
        """The attached ENIs that are nicwatchd's and have something of their own."""
        ours = (mac for mac in self.secondaries if not self.is_left(mac))
        usable = {mac: self.usable(mac) for mac in ours}
        return tuple(mac for mac, eni in usable.items() if items_of(eni))

    def foreign_on(self, mac: str) -> frozenset[ForeignRoute | ForeignDefault | ForeignAddress]:
        """What others have on an ENI's link, leases aside."""
        kinds = ForeignRoute | ForeignDefault | ForeignAddress
        return frozenset(f for f in self.foreign if isinstance(f, kinds) and f.mac == mac)

    @property
    def defaults(self) -> frozenset[ForeignDefault]:
        """Main's default routes beside the primary's."""
        return frozenset(f for f in self.foreign if isinstance(f, ForeignDefault))

    @property
    def chosen(self) -> frozenset[Family]:
        """The families in which an operator has the default route elsewhere on purpose."""
        return frozenset(each.family for each in self.defaults if each.chosen)

    def foreign_rules(self) -> tuple[Rule, ...]:
        """The rules of others that the walk has put, with a priority or with none (0)."""
        return tuple(f.rule for f in self.foreign if isinstance(f, ForeignRule))

    def is_diverted(self, ip: IPAddress) -> bool:
        """Whether a foreign rule leads what an address sends elsewhere, or nowhere."""
        rules = (rule for rule in self.foreign_rules() if rule.priority == DIVERTS)
        return any(rule.src is not None and ip in rule.src for rule in rules)

    @property
    def contained(self) -> frozenset[Item]:
        """The addresses that containers have."""
        return frozenset(f.ip for f in self.foreign if isinstance(f, ContainerRoute))

    def floats(self, mac: str) -> frozenset[Item]:
        """The addresses of an ENI that others have put on its link."""
        theirs = (f for f in self.foreign_on(mac) if isinstance(f, ForeignAddress))
        return frozenset(f.address.ip for f in theirs) & frozenset(self.items(mac))

    def scripts(self) -> tuple[EniScript, ...]:
        """What IMDS says of each ENI that it may list, named by MAC."""
        return tuple(self._script(mac, told) for mac, told in self.told.items())

    def _script(self, mac: str, told: Told) -> EniScript:
        eni, delay = told.eni or self.enis[mac], told.delay
        script = script_of(eni)
        facts = script.facts()
        bad = {key: spoilt(facts[key], pick) for key, pick in delay.damaged if key in facts}
        bad |= {f"{key[:-2]}\ufffd{key[-1]}": "" for key in delay.misspelt if key in facts}
        hidden = delay.hidden | delay.misspelt
        step = Step(listed=not delay.unlisted, hide=hidden, lag=delay.lagging, set=bad)
        return replace(script, name=mac, steps=(step,))

    # --- changes -----------------------------------------------------------------------------

    def after(self, action: Action) -> Truth:
        """The truth once that has happened.

        What the primary has is certain while another ENI's is: alone, it is protected no more.
        """
        truth = self._after(action)
        alone = all(mac == PRIMARY for mac, _ in truth.steady)
        return replace(truth, steady=frozenset()) if alone and truth.steady else truth

    def _after(self, action: Action) -> Truth:
        match action:
            case (
                Attach() | Detach() | Rename() | Flap() | SetDown() | SetUpAgain() | OthersUngroup()
            ):
                return self._after_link(action)
            case SwitchIpv6(mac, on):
                return self._after_switch(mac, on=on)
            case Assign() | Unassign() | Move() | AddCidr() | RemoveCidr():
                return self._after_change(action)
            case Die() | Reuse():
                return self._after_loss(action)
            case ImdsLags() | ImdsCatchesUp() | FaultBegins() | FaultsEnd():
                return self._after_imds(action)
            case PutForeign() | TakeForeign() | LeaseComes() | LeaseExpires():
                return self._after_others(action)
            case Start() | Stop() | Kill() | Reload():
                return self._after_service(action)
            case Quiet():
                return self._at_rest()
            case _:
                return self

    def _after_service(self, action: Start | Stop | Kill | Reload) -> Truth:
        match action:
            case Start():
                ports = {mac: replace(p, forgotten=p.dead) for mac, p in self.ports.items()}
                return replace(self, running=True, ports=ports)
            case Stop() | Kill():
                return replace(self, running=False)
            case Reload(changes):
                every = {**self.sections, **dict(changes)}
                sections = {mac: section for mac, section in every.items() if section is not None}
                truth = replace(self, sections=sections)
                for mac, _ in changes:
                    truth = truth._unsteady(mac)
                return truth

    def _after_link(
        self, action: Attach | Detach | Rename | Flap | SetDown | SetUpAgain | OthersUngroup
    ) -> Truth:
        mac = action.mac
        port = self.ports.get(mac)
        match action:
            case Attach(name=name, delay=delay):
                ports = {**self.ports, mac: Port(name)}
                truth = replace(self, ports=ports)
                return truth._tell(mac, delay)
            case Detach(listed=listed):
                ports = {other: p for other, p in self.ports.items() if other != mac}
                told = {m: t for m, t in self.told.items() if listed or m != mac}
                truth = self._lose(mac, everything=True)._unsteady(mac)
                departed = frozenset(each for each in truth.departed if each[0] != mac)
                truth = replace(truth, departed=departed, taken=truth.taken & departed)
                return replace(truth, ports=ports, told=told)
            case _ if port is None:
                raise KeyError(mac)
            case Rename(name=name):
                port = replace(port, name=name)
            case OthersUngroup():
                port = replace(port, settled=False)
            case SetDown():
                port = replace(port, up=False)
            case SetUpAgain():
                port = replace(port, up=True)
        truth = replace(self, ports={**self.ports, mac: port})
        return truth._lose(mac) if isinstance(action, Flap | SetDown) else truth

    def _after_switch(self, mac: str, *, on: bool) -> Truth:
        """IPv6 is off: nothing of it can be there. When it is on again, what is ours comes back."""
        truth = replace(self, ports={**self.ports, mac: replace(self.ports[mac], ipv6=on)})
        if on:
            return truth
        for item in self.items(mac):
            truth = truth._unsteady(mac, item) if item.version == 6 else truth
        return replace(
            truth,
            foreign=frozenset(f for f in truth.foreign if not is_ipv6_on(f, mac)),
            leases=frozenset(le for le in truth.leases if not is_ipv6_on(le, mac)),
        )

    def _lose(self, mac: str, *, everything: bool = False) -> Truth:
        """What goes with a link that goes down: its routes, and all of IPv6."""

        def stays(thing: Foreign | Lease) -> bool:
            if isinstance(thing, ForeignAddress | Lease):
                return thing.mac != mac or (thing.address.version == 4 and not everything)
            return not isinstance(thing, ForeignRoute | ForeignDefault) or thing.mac != mac

        stay = frozenset(filter(stays, self.foreign))
        # A daemon that was not running cannot tell that from what was taken away.
        gone = (f for f in self.foreign - stay if isinstance(f, ForeignAddress))
        departed = {(f.mac, f.address.ip) for f in gone if f.address.ip in self.floats(f.mac)}
        return replace(
            self,
            foreign=stay,
            leases=frozenset(filter(stays, self.leases)),
            departed=self.departed | departed,
        )

    def _after_change(self, action: Assign | Unassign | Move | AddCidr | RemoveCidr) -> Truth:
        match action:
            case Assign(mac, item):
                return self._put(with_item(self.enis[mac], item))
            case Unassign(mac, item):
                truth = self._put(without(self.enis[mac], item))._unsteady(mac, item)
                return replace(truth, taken=self.taken - {(mac, item)})
            case Move(giver, taker, item):
                truth = self._put(without(self.enis[giver], item))._unsteady(giver, item)
                truth = replace(truth, taken=self.taken - {(giver, item)})
                return truth._put(with_item(self.enis[taker], item))
            case AddCidr(name, cidr):
                return self._with_cidrs(name, (*self._v6(name), cidr))
            case RemoveCidr(name, cidr):
                return self._with_cidrs(name, tuple(c for c in self._v6(name) if c != cidr))

    def _after_loss(self, action: Die | Reuse) -> Truth:
        if isinstance(action, Die):
            return self._after_death(action)
        return self._after_reuse(action)

    def _after_death(self, action: Die) -> Truth:
        mac, before = action.mac, self.enis[action.mac]
        truth = self
        for item in self.given(mac):
            truth = truth._put(without(truth.enis[mac], item))
            if action.taker is not None:
                truth = truth._put(with_item(truth.enis[action.taker], item))
        ports = {**self.ports, mac: replace(self.ports[mac], dead=True)}
        told = {other: t for other, t in self.told.items() if other != mac}
        if action.listed:
            told[mac] = Told(before, Delay(frozen=True))
        return replace(truth, ports=ports, told=told)._unsteady(mac)

    def _after_reuse(self, action: Reuse) -> Truth:
        giver = self.enis[action.giver]
        truth = self._put(without(giver, action.prefix))._unsteady(action.giver, action.prefix)
        truth = truth._put(with_item(truth.enis[action.taker], action.address))
        if action.stale:
            still = self.told.get(action.giver, Told()).eni or giver
            told = {**truth.told, action.giver: Told(still, Delay(frozen=True))}
            truth = replace(truth, told=told)
        if action.taker == PRIMARY:
            truth = replace(truth, foreign=truth.foreign | {action.on_link})
        return truth

    def given(self, mac: str) -> tuple[Item, ...]:
        """What can be taken from an ENI: EC2 never takes the first IPv4 address."""
        kept = {*self.enis[mac].ipv4[:1], *self.floats(mac)}
        return tuple(item for item in self.items(mac) if item not in kept)

    def _v6(self, name: str) -> tuple[IPv6Network, ...]:
        return next(eni.subnet.ipv6 for eni in self.enis.values() if eni.subnet.name == name)

    def _with_cidrs(self, name: str, cidrs: tuple[IPNetwork, ...]) -> Truth:
        v6 = tuple(cidr for cidr in cidrs if isinstance(cidr, IPv6Network))
        enis = {
            mac: replace(eni, subnet=replace(eni.subnet, ipv6=v6))
            if eni.subnet.name == name
            else eni
            for mac, eni in self.enis.items()
        }
        return replace(self, enis=enis)

    def _put(self, eni: Eni) -> Truth:
        return replace(self, enis={**self.enis, eni.mac: eni})

    def _after_others(self, action: PutForeign | TakeForeign | LeaseComes | LeaseExpires) -> Truth:
        match action:
            case PutForeign(thing):
                truth = replace(self, foreign=self.foreign | {thing})
                if isinstance(thing, ForeignAddress):
                    return truth._back(thing)
                if thing == ForeignRule(CNI):
                    for mac in filter(truth.is_left, self.ports):
                        truth = truth._unsteady(mac)
                    primary = truth.enis[PRIMARY]  # pods may have what its manager did not bring
                    others: tuple[Item, ...] = (*primary.ipv4[1:], *primary.ipv6[1:])
                    for item in others:
                        truth = truth._unsteady(PRIMARY, item)
                if isinstance(thing, ContainerRoute):
                    contained = {each for each in self.steady if each[1] == thing.ip}
                    return replace(truth, steady=self.steady - contained)
                return truth
            case TakeForeign(thing):
                return replace(self._depart(thing), foreign=self.foreign - {thing})
            case LeaseComes(lease):
                return replace(self, leases=self.leases | {lease})._back(lease)
            case LeaseExpires(lease):
                return replace(self, leases=self.leases - {lease})

    def _back(self, thing: ForeignAddress | Lease) -> Truth:
        """An address is on the link again, by its manager or by DHCP."""
        back = {(thing.mac, thing.address.ip)}
        return replace(self, departed=self.departed - back, taken=self.taken - back)

    def _depart(self, thing: Foreign) -> Truth:
        """A floating address goes. The daemon knows for sure if IMDS has not denied it."""
        if not isinstance(thing, ForeignAddress):
            return self
        mac, ip = thing.mac, thing.address.ip
        if ip not in self.floats(mac):
            return self
        told = self.told[mac]
        denied = bool(self.faults or told.delay.hidden or told.eni)
        sure = frozenset() if denied or thing not in self.rooted else frozenset({(mac, ip)})
        truth = replace(self._unsteady(mac, ip), departed=self.departed | {(mac, ip)})
        return replace(truth, taken=self.taken | sure)

    def _after_imds(self, action: ImdsLags | ImdsCatchesUp | FaultBegins | FaultsEnd) -> Truth:
        match action:
            case ImdsLags(mac, delay):
                # A key that is not listed says "none": whoever believes that long enough is right.
                truth = self._unsteady(mac) if delay.hidden else self
                if delay.hidden or delay.frozen:
                    sure = frozenset(each for each in self.taken if each[0] != mac)
                    truth = replace(truth, taken=sure)
                return truth._tell(mac, delay)
            case ImdsCatchesUp():
                return replace(self, told={mac: Told() for mac in self.ports.keys() - {*self.dead}})
            case FaultBegins():
                return replace(self, faults=self.faults | {action}, taken=frozenset())
            case FaultsEnd():
                return replace(self, faults=frozenset())

    def _tell(self, mac: str, delay: Delay) -> Truth:
        frozen = (self.told.get(mac, Told()).eni or self.enis[mac]) if delay.frozen else None
        return replace(self, told={**self.told, mac: Told(frozen, delay)})

    def _unsteady(self, mac: str, item: Item | None = None) -> Truth:
        """No longer certain: one thing of an ENI, or all of it."""
        gone = {(m, i) for m, i in self.steady if m == mac and item in (None, i)}
        return replace(self, steady=self.steady - gone)

    def _at_rest(self) -> Truth:
        ports = {mac: replace(port, settled=True) for mac, port in self.ports.items()}
        everybody = [m for m in (PRIMARY, *self.secondaries) if not self.is_left(m)]
        usable = {mac: self.usable(mac) for mac in everybody}
        steady = {(mac, item) for mac, eni in usable.items() for item in items_of(eni)}
        return replace(
            self,
            ports=ports,
            steady=frozenset(steady),
            rooted=self.foreign,
            departed=frozenset(),
            taken=frozenset(),
        )


def is_ipv6_on(thing: Foreign | Lease, mac: str) -> bool:
    """Whether something is IPv6's, on this ENI's link."""
    match thing:
        case ForeignAddress() | Lease():
            return thing.mac == mac and thing.address.version == 6
        case ForeignRoute():
            return thing.mac == mac and thing.dst.version == 6
        case ForeignDefault():
            return thing.mac == mac and thing.family is Family.V6
        case _:
            return False


def spoilt(text: str, pick: int) -> str:
    """A list with one line damaged."""
    lines = text.split("\n")
    where = pick % len(lines)
    lines[where] = f"{lines[where][:-1]}\ufffd"
    return "\n".join(lines)


def items_of(eni: Eni) -> tuple[Item, ...]:
    """All addresses and prefixes of an ENI."""
    return (*eni.addresses(), *eni.prefixes)


def cidrs(subnet: Subnet) -> tuple[IPNetwork, ...]:
    """A subnet's CIDRs, both families."""
    return ((subnet.ipv4,) if subnet.ipv4 else ()) + subnet.ipv6


def with_item(eni: Eni, item: Item) -> Eni:
    """The ENI with one address or prefix more, as EC2 appends them."""
    match item:
        case IPv4Address():
            return replace(eni, ipv4=(*eni.ipv4, item))
        case IPv6Address():
            return replace(eni, ipv6=(*eni.ipv6, item))
        case IPv4Network():
            return replace(eni, ipv4_prefixes=(*eni.ipv4_prefixes, item))
        case IPv6Network():
            return replace(eni, ipv6_prefixes=(*eni.ipv6_prefixes, item))


def without(eni: Eni, item: Item) -> Eni:
    """The ENI without an address or prefix."""
    return replace(
        eni,
        ipv4=tuple(i for i in eni.ipv4 if i != item),
        ipv6=tuple(i for i in eni.ipv6 if i != item),
        ipv4_prefixes=tuple(i for i in eni.ipv4_prefixes if i != item),
        ipv6_prefixes=tuple(i for i in eni.ipv6_prefixes if i != item),
    )


def script_of(eni: Eni) -> EniScript:
    """What IMDS says of an ENI in the end."""
    return EniScript(
        eni.name,
        eni.mac,
        ipv4=tuple(map(str, eni.ipv4)),
        ipv6=tuple(map(str, eni.ipv6)),
        ipv4_prefixes=tuple(map(str, eni.ipv4_prefixes)),
        ipv6_prefixes=tuple(map(str, eni.ipv6_prefixes)),
        subnet_ipv4=str(eni.subnet.ipv4) if eni.subnet.ipv4 else None,
        subnet_ipv6=tuple(map(str, eni.subnet.ipv6)),
        device_number=0 if eni.mac == PRIMARY else 1,
    )
