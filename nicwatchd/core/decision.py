"""One decision: what it was made from, and what it concluded. It answers every "why".

Reads: nothing; `nicwatchd.core.decide` fills it in. Gives: facts, verdicts, plans, operations, and
what is throttled or protected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nicwatchd.core.metadata import Answer
from nicwatchd.core.model import Object, Operation
from nicwatchd.core.ownership import Snapshot
from nicwatchd.core.policy import Policy
from nicwatchd.core.port import Outcome
from nicwatchd.core.releases import Releases
from nicwatchd.core.view import View


@dataclass(frozen=True, slots=True)
class Throttled:
    """An operation that is not carried out yet: others keep undoing it, or it needs what they undo.

    `until` is the earliest time to carry it out; None: together with what it depends on.
    """

    operation: Operation
    until: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision. `revision` counts from 1; `at` is monotonic seconds."""

    revision: int
    at: float
    policy: Policy
    releases: Releases
    primary_mac: Answer[str]
    container_network: str | None  # the owner of this host's secondary ENIs
    kernel: Snapshot  # as it was read
    interfaces: Mapping[int, View]  # by ifindex; each has its treatment, verdicts, plan and state
    operations: tuple[Operation, ...]  # to carry out, in order
    throttled: tuple[Throttled, ...]
    protected: tuple[Object, ...]  # in no plan, kept while their interface is undecided
    outcomes: tuple[Outcome, ...] | None = None  # None: not carried out (yet)
