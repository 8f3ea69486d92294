"""A host in fast motion whose IMDS is a tree of texts: real parsing, prober and reader."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from nicwatchd.core.backoff import Schedule
from nicwatchd.core.metadata import ENI_KEYS, EniMetadata, Value
from nicwatchd.core.model import Link
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Outcome
from tests.core.build import ETH0, ETH1, MAC, PRIMARY, permanent
from tests.core.fast_motion import FastMotion
from tests.core.scenes import ETH2, MAC2
from tests.core.strict_kernel import StrictKernel
from tests.imds.trees import Branch, Tree, branch

if TYPE_CHECKING:
    from collections.abc import Callable

    from nicwatchd.core.model import Operation
    from nicwatchd.imds.eni import EniReader

QUICK: Final = Policy(
    schedule=Schedule(1.0, interval=1.0, fast_for=6.0, keep=10.0, patience=30.0, refresh=15.0),
    settling=5.0,
)
BRIDGE: Final = replace(
    ETH1, index=99, name="br-boxes", mac="02:00:00:00:00:63", kind="bridge", driver=None
)
LINKS: Final = (ETH0, ETH1, ETH2, BRIDGE)
# All in one subnet. The primary has two addresses that IMDS does not list. A bridge has more, some
# without a network: these live on the host, and an ENI's rules may be for them.
OWN: Final = (
    permanent("10.0.2.5/24", 2),
    permanent("2001:db8:0:2::5/64", 2),
    permanent("10.0.2.85/32", 2),
    permanent("2001:db8:0:2:1::85/128", 2),
    permanent("10.0.2.200/27", BRIDGE.index),
    permanent("2001:db8:0:2:2::200/72", BRIDGE.index),
    permanent("10.0.2.99/32", BRIDGE.index),
    permanent("2001:db8:0:2::99/128", BRIDGE.index),
)


def whole_tree() -> dict[str, Branch]:
    """What IMDS says when all is right."""
    primary = branch(PRIMARY, host=5)
    second: dict[str, str | None] = {
        "local-ipv4s": "10.0.2.16\n10.0.2.17",
        "ipv6s": "2001:db8:0:2::10\n2001:db8:0:2::11",
        "ipv4-prefix": "10.0.2.64/28",
        "ipv6-prefix": "2001:db8:0:2:3::/80",
    }
    return {PRIMARY: primary, MAC: branch(MAC, more=second), MAC2: branch(MAC2, host=32)}


class Word(NamedTuple):
    """A reading, and how many lines there were in each key's text when it was last read."""

    at: float
    reading: EniMetadata
    lines: dict[str, int]


class TreeMotion(FastMotion):
    """`tree` is what IMDS says from now on. `words` are the readings, by interface.

    `watch` is told of each batch of operations, before and after it.
    """

    def __init__(self, kernel: StrictKernel | None = None) -> None:
        self.tree = Tree(whole_tree())
        self.words: dict[str, list[Word]] = {}
        self.watch: Callable[[tuple[Operation, ...], bool], None] = lambda _batch, _done: None
        self._loop = asyncio.new_event_loop()
        self._readers: dict[str, EniReader] = {}
        if kernel is None:
            kernel = StrictKernel(*LINKS)
            kernel.put(*OWN)
        super().__init__(QUICK, kernel)

    def restart(self) -> None:
        """A new daemon, which knows nothing."""
        self._readers.clear()
        self.turn = self.begin(QUICK)

    def close(self) -> None:
        self._loop.close()

    def _ask(self) -> None:
        if self.turn.asks_primary and self.host.primary_mac != self.primary:
            self._answer_primary()
        for question in self.turn.questions(self.now):
            reader = self._readers.setdefault(question.mac, self.tree.reader(question.mac))
            poll = reader.poll(depth=question.depth)
            reading = self._loop.run_until_complete(poll)
            word = Word(self.now, reading, self._lines(question.mac))
            self.words.setdefault(question.mac, []).append(word)
            self._readings[question.mac] = [(self.now, reading)]
            self._answer(question.index, question.mac)

    def _lines(self, mac: str) -> dict[str, int]:
        served = {key.name: self.tree.served.get(f"{mac}/{key.name}", "") for key in ENI_KEYS}
        return {name: len({*text.split()}) for name, text in served.items()}

    def _apply(self, operations: tuple[Operation, ...]) -> list[Outcome]:
        self.watch(operations, False)
        outcomes = super()._apply(operations)
        self.watch(operations, True)
        return outcomes


def without_ours(kernel: StrictKernel) -> StrictKernel:
    """The host as it was before us."""
    links: list[Link] = [replace(link, group=0) for link in LINKS]
    fresh = StrictKernel(*links)
    fresh.put(*(a for a in kernel.addresses if a in OWN))
    return fresh


def is_about(reading: EniMetadata, mac: str) -> bool:
    """Whether a reading says anything of the lists of this ENI."""
    wrong = isinstance(reading.mac, Value) and reading.mac.value != mac
    return isinstance(reading.directory, Value) and not wrong
