"""Carries out the steps of a turn on a kernel. It decides nothing.

Everything that takes a turn with real I/O uses it: the daemon, `nicwatchd release`, a dry run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from errno import EADDRNOTAVAIL
from pathlib import Path
from typing import TYPE_CHECKING

from nicwatchd.core.model import (
    AddAddress,
    Key,
    Operation,
    Reason,
    RemoveAddress,
    Ruleset,
    SetRuleset,
    ours,
)
from nicwatchd.core.port import Kernel, KernelError, Outcome, Result
from nicwatchd.core.steps import (
    Applied,
    Apply,
    LinksRead,
    LookedUp,
    LookUp,
    ObjectsRead,
    ReadLinks,
    ReadObjects,
    Step,
    StepAnswer,
)
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.outside import UDEV, Outside

if TYPE_CHECKING:
    from nicwatchd.core.firewall import Published


class Driver:
    """Drives turns on one kernel. `read_only`: records nothing, and refuses to apply anything."""

    def __init__(self, kernel: Kernel, ledger: Ledger, *, read_only: bool = False) -> None:
        self._kernel = kernel
        self._ledger = ledger
        self._read_only = read_only
        self._outside = Outside()
        self._known: frozenset[Key] = frozenset()

    async def carry_out(self, step: Step) -> StepAnswer:
        """Carry out a step; returns its answer. Raises KernelError."""
        match step:
            case ReadLinks():
                return await self._read_links(step)
            case ReadObjects():
                return await self._read_objects(step)
            case Apply():
                return await self._apply(step)
            case LookUp(probes=probes):
                asked = [(each.src, each.dst, each.oif) for each in probes]
                return LookedUp(tuple(await self._kernel.route_gets(asked)))

    async def _read_links(self, step: ReadLinks) -> LinksRead:
        self._forget_all_but(step.known)
        if step.indices is None:
            return LinksRead(await self._kernel.links())
        links = {index: await self._kernel.link(index) for index in step.indices}
        return LinksRead({index: link for index, link in links.items() if link is not None})

    async def _read_objects(self, step: ReadObjects) -> ObjectsRead:
        self._forget_all_but(step.known)
        kernel = self._kernel
        found, routes = {}, {}
        for index, mac in step.links:
            found[index, mac] = await kernel.addresses(index)
            routes[index] = await kernel.link_routes(index)
        if not self._read_only:
            with contextlib.suppress(OSError):  # tried again with the next read
                self._ledger.keep_needed(found)
        addresses = {index: self._ledger.mark(mac, on) for (index, mac), on in found.items()}
        return ObjectsRead(
            addresses=addresses,
            routes=routes,
            everywhere=await kernel.all_addresses() if step.everywhere else None,
            own=await kernel.own_routes() if step.own else None,
            rules=await kernel.rules() if step.rules else None,
            tables={table: await kernel.table_routes(table) for table in step.tables},
            hosts=await kernel.host_routes(step.hosts) if step.hosts else None,
            closed=None if step.closed is None else await kernel.closed_main(step.closed),
            defaults=await kernel.defaults() if step.defaults else None,
            ruleset=await self._read_ruleset() if self._may_have_ruleset(step) else None,
            udev_done=frozenset(index for index in step.udev if udev_is_done(index)),
            # After the line above: what udev has finished with has its marks.
            managers={index: self._outside.manager_of(index) for index in step.marked},
            clients=self._outside.clients_of(step.marked),
            multus=self._outside.multus() if step.cni else None,
            published=await self._read_published() if step.published else None,
            strict={index: self._outside.is_strict(index) for index in step.filtered},
        )

    async def _read_published(self) -> tuple[Published, ...] | None:
        try:
            return await self._kernel.published()
        except KernelError:  # others change theirs all the time, perhaps
            return None

    def _may_have_ruleset(self, step: ReadObjects) -> bool:
        """Whether to read our nftables table; what was recorded is to be removed at some time."""
        return step.ruleset or self._ledger.ruleset is not None

    async def _read_ruleset(self) -> Ruleset | None:
        """Our nftables table; None: the kernel did not answer, so what was known holds."""
        try:
            seal = await self._kernel.ruleset()
        except KernelError:  # others change theirs all the time, perhaps
            return None
        known = self._ledger.ruleset
        if isinstance(seal, Reason):
            return Ruleset(None if known is None else "", seal)
        if seal is None:
            self._forget_ruleset()
            return Ruleset(None, await self._kernel.nft_problem())
        text = known[0] if known and known[1] == seal else ""
        return Ruleset(text, await self._kernel.nft_problem())

    def _forget_ruleset(self) -> None:
        if not self._read_only:
            with contextlib.suppress(OSError):  # tried again with the next read
                self._ledger.keep_ruleset(None)

    async def _apply(self, step: Apply) -> Applied:
        if self._read_only:
            raise RuntimeError("a dry run applies nothing")
        operations, failed = self._record_additions(step)
        theirs = await self._theirs_by_now(step)
        gone: list[Outcome] = []
        if theirs:
            gone = [Outcome(o, Result.DONE, EADDRNOTAVAIL) for o in operations if o in theirs]
            operations = [each for each in operations if each not in theirs]
        outcomes = (*failed, *gone, *await self._kernel.run(operations))
        for each in outcomes:
            if isinstance(each.operation, SetRuleset) and each.result is Result.DONE:
                await self._seal(each.operation.text)
        return Applied(outcomes)

    async def _theirs_by_now(self, step: Apply) -> set[Operation]:
        """The removals of addresses that others have made theirs since they were read.

        A request for a removal cannot say whose the address has to be. systemd-networkd replaces
        an address of ours where its own settings have it, and does not add it again later.
        """
        removals = {each for each in step.operations if isinstance(each, RemoveAddress)}
        found: set[Operation] = set()
        for index in {each.index for each in removals}:
            on = self._ledger.mark(step.macs[index], await self._kernel.addresses(index))
            found |= {RemoveAddress(index, a.ip, a.prefixlen) for a in on if not ours(a)}
        return found & removals

    async def _seal(self, text: str) -> None:
        """Record what the kernel made of our nftables table; without, it is written once more."""
        with contextlib.suppress(OSError, KernelError):
            seal = await self._kernel.ruleset()
            if isinstance(seal, str):
                self._ledger.keep_ruleset((text, seal))

    def _record_additions(self, step: Apply) -> tuple[Sequence[Operation], list[Outcome]]:
        """Record what is to be added; returns the operations to run, and those that failed.

        An address that cannot be recorded is not added: nothing would tell it from those of others.
        Nor is our nftables table made: nobody would remove it.
        """
        additions = [each for each in step.operations if isinstance(each, AddAddress)]
        rulesets = [each for each in step.operations if isinstance(each, SetRuleset)]
        try:
            self._ledger.add((each.index, step.macs[each.index], each.ip) for each in additions)
            for each in rulesets:
                self._ledger.keep_ruleset((each.text, ""))
        except OSError as error:
            text = f"the ledger cannot be written: {error.strerror}"
            lost: list[Operation] = [*additions, *rulesets]
            failed = [Outcome(o, Result.REFUSED, error.errno or 0, text) for o in lost]
            return [o for o in step.operations if o not in lost], failed
        return step.operations, []

    def _forget_all_but(self, known: frozenset[Key]) -> None:
        """Remove the records of links that are gone."""
        if self._known != known and not self._read_only:
            self._known = known
            with contextlib.suppress(OSError):  # a stale record does no harm: its link is gone
                self._ledger.keep_only(known)


def udev_is_done(index: int, udev: Path = UDEV) -> bool:
    """Whether udev has processed a link, so that it no longer renames it; true without udev.

    Not, where that cannot be told: then the core waits for as long as udev may take.
    """
    try:
        return not (udev / "control").exists() or (udev / "data" / f"n{index}").exists()
    except OSError:  # exists() hides only that there is no such file
        return False
