"""Addresses that others put on an ENI's link, and took away again: floating addresses of clusters.

Their manager (keepalived, Pacemaker, an operator) decides where they are. One that was taken away
is not put back until IMDS has ceased to list it, and lists it anew.

Reads: the addresses on the link, whom notifications name, and what IMDS lists. Gives: which
addresses were taken away, when and by whom. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Final

from nicwatchd.core.model import (
    SCOPE_UNIVERSE,
    Address,
    Family,
    IPAddress,
    ours,
)

# The event of a link that went down may come after a look at it, a moment later.
MOMENT: Final = 1.0
# IMDS may list an address only after it was taken away: it lags. What it lists later than this is
# assigned anew.
LAG: Final = 60.0
# Programs that manage floating addresses by themselves. Where they add an address that is there
# already, it stays ours, and yet they remove it as theirs. (Others do so with `ip`, as all do.)
MANAGERS: Final = ("keepalived", "vrrpd", "ucarp", "ctdbd")


@dataclass(frozen=True, slots=True)
class Taken:
    """An address that was taken away. `listed`: IMDS has listed it since."""

    since: float
    who: str = ""  # for people; not known if empty
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """What outlives the daemon: the others' addresses on a link, those taken away, and by whom."""

    theirs: frozenset[IPAddress] = frozenset()
    taken: frozenset[tuple[IPAddress, str]] = frozenset()
    also: frozenset[IPAddress] = frozenset()  # other IPv6 addresses beside them


NO_RECORD: Final = Record()


class Floating:
    """What others put on one link and took away."""

    def __init__(self) -> None:
        self.taken: Mapping[IPAddress, Taken] = {}
        self._theirs: frozenset[IPAddress] = frozenset()
        self._all: frozenset[IPAddress] = frozenset()  # of any kind, as last read
        self._read: tuple[Address, ...] | None = None  # None: to be looked at in any case
        self._removers: dict[IPAddress, tuple[str, bool]] = {}  # as the notifications name them
        self._adopted: frozenset[IPAddress] = frozenset()  # until they are ours, or others' again
        # Since the last look: what notifications told to be gone while the link was up, and whether
        # it went down. The kernel tells of the link first, and of what goes with it then.
        self._gone_before: set[IPAddress] = set()
        self._went_down = False
        self._sure: frozenset[IPAddress] = frozenset()  # taken, whatever is heard of the link later

    def recall(self, record: Record, now: float) -> None:
        """Continue from what an earlier run of the daemon saw."""
        self._theirs, self._all = record.theirs, record.theirs | record.also
        self._read = None
        self.taken = {ip: Taken(now, who, listed=True) for ip, who in record.taken}

    @property
    def record(self) -> Record:
        """What a later run of the daemon needs to know."""
        if not (self._theirs or self.taken):
            return NO_RECORD
        taken = frozenset((ip, each.who) for ip, each in self.taken.items())
        also = (ip for ip in self._all - self._theirs if _is_v6(ip))
        return Record(self._theirs, taken, frozenset(also))

    def suspect(self, ip: IPAddress, who: str, process: str) -> None:
        """Record whom a notification names for the removal of an address."""
        self._removers[ip] = (who, process.startswith(MANAGERS))
        if ip in self.taken and not self.taken[ip].who:  # it was read before the event came
            self.taken = {**self.taken, ip: replace(self.taken[ip], who=who)}

    def hear_gone(self, ip: IPAddress) -> None:
        """Record that a notification tells of the end of an address, before one of the link."""
        if not self._went_down:
            self._gone_before.add(ip)
            self._sure |= {ip} & self.taken.keys()

    def look(self, addresses: Iterable[Address], now: float, *, down: bool) -> bool:
        """Take the link's addresses; True if one was taken away. `down`: the link is or was."""
        addresses = tuple(addresses)
        if addresses == self._read and not (down or self._went_down or self._gone_before):
            self._removers.clear()
            return False  # nearly always: there may be a hundred
        self._read = addresses
        present = frozenset(address.ip for address in addresses)
        lost = self._all - present - self._adopted
        gone = {ip for ip in lost if ip in self._theirs or self._was_managed(ip)}
        v6_before = {ip for ip in self._all - gone if _is_v6(ip)}
        # With the link the kernel takes all IPv6 addresses, of whomever, and no IPv4 address.
        if down or (v6_before and not v6_before & present):
            gone = {ip for ip in gone if not _is_v6(ip) or self._was_gone_before(ip)}
        back = {address.ip for address in addresses if not ours(address)}
        taken = {ip: each for ip, each in self.taken.items() if ip not in back}
        for ip in gone:
            taken[ip] = Taken(now, self._removers.get(ip, ("", False))[0])
        self._sure = (self._sure | self._gone_before) & taken.keys()
        self.taken, self._all = taken, present
        self._theirs = frozenset(address.ip for address in addresses if _is_theirs(address))
        self._adopted -= {address.ip for address in addresses if ours(address)}
        self._removers.clear()
        self._gone_before.clear()
        self._went_down = False
        return bool(gone)

    def _was_gone_before(self, ip: IPAddress) -> bool:
        """Whether somebody took it before the link went down: others stayed at first, if any."""
        if not self._went_down or ip not in self._gone_before:
            return False
        others = {other for other in self._all - {ip} if _is_v6(other)}
        return not others or not others <= self._gone_before

    def _was_managed(self, ip: IPAddress) -> bool:
        return self._removers.get(ip, ("", False))[1]

    def flapped(self, now: float) -> None:
        """The link was down: nobody took the IPv6 addresses that went just now.

        But a notification of one may have come before.
        """
        self.taken = {
            ip: each
            for ip, each in self.taken.items()
            if not _is_v6(ip) or ip in self._sure or now - each.since > MOMENT
        }
        self._went_down = True

    def hear(self, listed: AbstractSet[object], unread: AbstractSet[Family], now: float) -> None:
        """Take what IMDS lists: what it has ceased to list may come again. `unread`: not asked."""
        kept = {}
        for ip, each in self.taken.items():
            if ip in listed:
                kept[ip] = replace(each, listed=True)
            elif Family(ip.version) in unread or (not each.listed and now - each.since < LAG):
                kept[ip] = each
        self.taken = kept

    def adopt(self, ips: Iterable[IPAddress]) -> None:
        """Their manager ends: put them back when it takes them away, or did so already.

        That holds until they are ours; what is taken away after that has another manager.
        """
        self._adopted |= frozenset(ips)
        self._read = None
        self.taken = {ip: each for ip, each in self.taken.items() if ip not in self._adopted}

    def forget(self) -> None:
        """The operator released the link: whatever comes then begins anew."""
        self.taken = {}


def _is_theirs(address: Address) -> bool:
    """Whether it is a permanent address of others. A lease that ends was not taken away."""
    permanent = not (address.dynamic or address.from_ra or ours(address))
    return permanent and address.scope == SCOPE_UNIVERSE and not address.ip.is_link_local


def _is_v6(ip: IPAddress) -> bool:
    return Family(ip.version) is Family.V6
