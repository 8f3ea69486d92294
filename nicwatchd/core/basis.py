"""What the last decision was made from, and how long it holds.

A look that finds nothing new decides nothing.

Reads: all that a decision depends on, which is compared with what it was made from. Gives: whether
it still holds. Times are monotonic seconds.
"""

from __future__ import annotations

from math import inf

from nicwatchd.core.decision import Decision
from nicwatchd.core.evidence import Status
from nicwatchd.core.facts import Facts
from nicwatchd.core.forwarder import Forwarder
from nicwatchd.core.host import Host
from nicwatchd.core.interface import ROUNDING


class Basis:
    """What the last decision of one host was made from."""

    def __init__(self, host: Host, forwarder: Forwarder) -> None:
        self._host, self._forwarder = host, forwarder
        self._inputs: tuple[object, ...] | None = None  # None: there is no decision
        self._twice = False  # whether two decisions in a row were made from the same
        self._until = -inf
        self._deadline: float | None = None

    def take(self) -> None:
        """A decision is made now, from what the host's facts are before it."""
        present = self._present()
        self._twice = present == self._inputs
        self._inputs, self._until = present, inf

    def holds(self, decision: Decision | None, now: float) -> bool:
        """Whether this decision, the last one, left nothing to do and would be the same now.

        One decision may prepare the next, so two of the same make sure. And what waits for
        something says for how long it will wait.
        """
        if decision is None or decision.operations or decision.throttled or not self._twice:
            return False
        verdicts = (v for i in self._host.interfaces.values() for v in i.verdicts.values())
        waits = any(verdict.status is Status.WAITING for verdict in verdicts)
        return now < self._until and not waits and self._inputs == self._present()

    def next_deadline(self, decided: float, now: float, *, held: bool = False) -> float | None:
        """When to decide again if nothing happens; `now` if a deadline was missed.

        `decided`: when the decision was made. `held`: it still holds, and so does its deadline.
        """
        if held and (self._deadline is None or now < self._deadline):
            return self._deadline
        interfaces, policy = self._host.interfaces.values(), self._host.policy
        found = [interface.next_deadline(decided, policy) for interface in interfaces]
        again_at = self._forwarder.next_deadline
        if again_at is not None and again_at > decided:
            found.append(again_at)
        deadline = min((max(now, time) for time in found if time is not None), default=None)
        self._deadline = deadline
        if deadline is not None:
            self._until = min(self._until, deadline - 2 * ROUNDING)
        return deadline

    def _present(self) -> tuple[object, ...]:
        host = self._host
        return (
            *(host.policy, host.releases, host.primary_mac, host.links, host.routes, host.rules),
            *(host.host_routes, host.closed_main, host.defaults, host.ruleset, host.published),
            *(host.foreign_addresses, host.above.on_layers, host.outside.known),
            *(_of_link(interface.facts) for interface in host.interfaces.values()),
        )


def _of_link(facts: Facts) -> tuple[object, ...]:
    return (
        *(facts.link, facts.addresses, facts.routes, facts.memory, facts.floating.taken),
        *(facts.moved, facts.served, facts.flapped, facts.ipv4_ended, facts.ipv6_ended),
        facts.udev_done,
    )
