"""What to ask IMDS about one host, and when.

Reads: the interfaces with their polling. Gives: the questions that are due. Times are monotonic
seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from nicwatchd.core.host import Host
from nicwatchd.core.polling import Polling
from nicwatchd.core.sections import keys_named
from nicwatchd.core.steps import Question


def _polled(host: Host) -> Iterator[Polling]:
    return (i.polling for i in host.interfaces.values() if i.is_polled)


def questions(host: Host, now: float) -> list[Question]:
    """What to ask IMDS now; each is given once."""
    polled = (interface for interface in host.interfaces.values() if interface.is_polled)
    due = [interface for interface in polled if interface.polling.is_due(now)]
    if not due:
        return []
    named = keys_named(host.policy.sections)
    return [Question(*each.key, each.polling.send(now), named) for each in due]


def next_poll(host: Host) -> float | None:
    """When IMDS is to be asked next."""
    times = [host.unlinked.next_at, *(p.next_at for p in _polled(host) if not p.in_flight)]
    return min((time for time in times if time < inf), default=None)


def poll_all(host: Host, now: float) -> None:
    """Ask IMDS about everything at once."""
    for interface in host.interfaces.values():
        interface.polling.at(now)


def answered_since(host: Host, when: float) -> bool:
    """Whether every interface that is polled has an answer to a question asked since then."""
    return all(polling.as_of >= when for polling in _polled(host))
