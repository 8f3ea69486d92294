"""Keeps the core's picture of the kernel fresh: which parts to read again, and reading them.

An event never carries a fact into the core. It only marks what it is about as stale; `refresh`
reads that from the kernel. So a lost, late or repeated event can cost a look, and nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from nicwatchd.core.fights import Place
from nicwatchd.core.host import Host
from nicwatchd.core.model import (
    MAIN_TABLE,
    PROTOCOL,
    AddAddress,
    AddRoute,
    AddRule,
    Link,
    Operation,
    RemoveAddress,
    SetGroup,
    SetUp,
)
from nicwatchd.core.port import (
    AddressEvent,
    Event,
    Kernel,
    LinkEvent,
    Overrun,
    RouteEvent,
    RuleEvent,
)
from nicwatchd.core.treatment import CILIUM_LINK
from nicwatchd.service.ledger import Ledger

AT_ONCE: Final = 0.0
# Whoever removes one object of ours often removes many: one look for all of them.
COALESCE: Final = 0.1
UDEV: Final = Path("/run/udev")


class World:
    """What is stale, and how to read it. `refresh` raises KernelError; then all is stale."""

    def __init__(
        self, kernel: Kernel, host: Host, ledger: Ledger, clock: Callable[[], float]
    ) -> None:
        self._kernel = kernel
        self._host = host
        self._ledger = ledger
        self._clock = clock
        self._links: dict[int, Link] = {}
        self._known: set[tuple[int, str]] = set()  # interfaces whose addresses were read
        self._stale_links: set[int] = set()
        self._gone_links: set[int] = set()
        self._stale_addresses: set[int] = set()
        self._own_is_stale = True
        self._all_is_stale = True
        self.overruns = 0  # how often events were lost
        self.rules_changed = False  # since the last look at who wins

    def forget(self) -> None:
        """Everything is stale, and so is who wins."""
        self._all_is_stale = self.rules_changed = True

    def note(self, event: Event) -> float | None:
        """Mark what an event is about. Seconds until it is to be looked at; None: no need."""
        match event:
            case Overrun():
                self.overruns += 1
                self.forget()
                return AT_ONCE
            case LinkEvent():
                return self._note_link(event)
            case AddressEvent(index=index, deleted=deleted):
                self._suspect(event, Place(AddAddress, index))
                # The last IPv4 address takes all IPv4 routes along, and no event tells of these.
                self._own_is_stale |= deleted and index in self._host.interfaces
                noted = self._note_addresses(index)
                return COALESCE if deleted and noted is not None else noted
            case RouteEvent(pid=pid) | RuleEvent(pid=pid) if pid == self._kernel.port_id:
                return None  # the echo of our own work, which is read back anyway
            case RouteEvent(table=table, protocol=protocol) if (
                table == MAIN_TABLE and protocol != PROTOCOL
            ):
                return self._note_addresses(event.oif)
            case RouteEvent(family=family, oif=oif):
                self._suspect(event, Place(AddRoute, oif, family))
                self._own_is_stale = True
                return COALESCE
            case RuleEvent(family=family, priority=priority):
                self._suspect(event, Place(AddRule, priority, family))
                self._own_is_stale = self.rules_changed = True
                return COALESCE

    def _suspect(self, event: AddressEvent | RouteEvent | RuleEvent, where: Place) -> None:
        """Take down who removed something of ours. What the kernel took, it took for a reason."""
        if event.culprit and event.pid not in (0, self._kernel.port_id):
            self._host.suspect(where, event.culprit)

    def _note_link(self, event: LinkEvent) -> float | None:
        known = event.index in self._host.interfaces or event.index in self._links
        told = event.name is not None
        of_interest = told and (
            event.kind is None
            or event.kind in self._host.policy.drivers
            or event.name == CILIUM_LINK
        )
        if not known and not of_interest:
            return None
        if event.down:
            self._host.flapped(event.index)
        self._stale_links.add(event.index)
        if event.gone:
            self._gone_links.add(event.index)
        self._own_is_stale = True  # a flap drops IPv4 routes, and no event of theirs tells
        self._note_addresses(event.index)
        self._host.hint(event.index, self._clock())  # of what is not in our picture, too: MTU
        return AT_ONCE

    def _note_addresses(self, index: int) -> float | None:
        if index not in self._host.interfaces:
            return None
        self._stale_addresses.add(index)
        return AT_ONCE

    def touched(self, operations: Iterable[Operation]) -> None:
        """Mark what operations of ours have changed, so that it is read back."""
        for operation in operations:
            match operation:
                case SetGroup(index=i) | SetUp(index=i):
                    self._stale_links.add(i)
                case AddAddress(index=i) | RemoveAddress(index=i):
                    self._stale_addresses.add(i)
            self._own_is_stale = True  # routes go with addresses, and come with links

    def about_to_run(self, operations: Iterable[Operation]) -> None:
        """Note the addresses that are about to be added. Raises OSError when that is impossible."""
        additions = [operation for operation in operations if isinstance(operation, AddAddress)]
        macs = {index: i.link.mac for index, i in self._host.interfaces.items()}
        self._ledger.add((a.index, macs[a.index], a.ip) for a in additions)

    async def refresh(self) -> None:
        """Read what is stale, and give it to the host."""
        everything, self._all_is_stale = self._all_is_stale, False
        try:
            await self._refresh_links(everything=everything)
            await self._refresh_addresses(everything=everything)
            if everything or self._own_is_stale:
                self._own_is_stale = False
                self._host.see_own(await self._kernel.own_routes(), await self._kernel.rules())
        except Exception:
            self._all_is_stale = True
            raise

    async def _refresh_links(self, *, everything: bool) -> None:
        stale, self._stale_links = self._stale_links, set()
        gone, self._gone_links = self._gone_links, set()
        if gone & self._host.interfaces.keys():
            # One that is back from another network namespace already may look as if it had been
            # set down: same index, same MAC. But it has lost all, and is a new one.
            self._links = {i: link for i, link in self._links.items() if i not in gone}
            self._host.see_links(dict(self._links), self._clock())
            self._note_known()
        if everything:
            self._links = await self._kernel.links()
        else:
            for index in stale:
                link = await self._kernel.link(index)
                if link is not None:
                    self._links[index] = link
                else:
                    self._links.pop(index, None)
        self._host.see_links(dict(self._links), self._clock())
        for index, interface in self._host.interfaces.items():
            if interface.waits_for_udev:
                interface.udev_done = udev_is_done(index)

    async def _refresh_addresses(self, *, everything: bool) -> None:
        stale, self._stale_addresses = self._stale_addresses, set()
        interfaces = {index: i.link.mac for index, i in self._host.interfaces.items()}
        for index, mac in interfaces.items():
            if everything or index in stale or (index, mac) not in self._known:
                addresses = await self._kernel.addresses(index)
                routes = await self._kernel.link_routes(index)
                marked = self._ledger.mark(mac, addresses)
                self._host.see_addresses(index, marked, routes, self._clock())
        self._note_known()

    def _note_known(self) -> None:
        """Forget what is noted of links that are gone."""
        known = {interface.key for interface in self._host.interfaces.values()}
        if self._known != known:
            self._known = known
            with contextlib.suppress(OSError):  # a note too many marks nothing: its link is gone
                self._ledger.keep_only(known)


def udev_is_done(index: int, udev: Path = UDEV) -> bool:
    """Whether udev has finished with a link, so that a rename by it is past; true without udev."""
    return not (udev / "control").exists() or (udev / "data" / f"n{index}").exists()
