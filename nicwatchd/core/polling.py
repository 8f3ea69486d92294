"""When IMDS is polled about one interface, and for which keys.

Reads: the policy's schedule, the interface's age, what its facts lack, and what happened to its
link. Gives: when the next poll is due, and how much it reads. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from typing import Final

from nicwatchd.core.backoff import Limiter, Share, jittered
from nicwatchd.core.policy import Policy

NEVER: Final = inf
# From this interval on, each poll of what waits reads every key: there is time for it. A poll for a
# doubt always does: a partial poll says nothing about the keys it skipped.
SWEEP_INTERVAL: Final = 5.0
# The first few events of a link cause a poll at once. A link that changes all the time (an
# operator's script, a loose cable) causes at most 7 requests in HINT_INTERVAL seconds.
HINT_BURST, HINT_INTERVAL = 3, 10.0
OFTEN = 0.5  # s; who is polled more often than that needs none
# What is complete may still grow while it is young. But what waits comes first: all together, those
# that are complete are polled 20 times a second.
GIVES_WAY = 0.05  # s, for each interface that is polled
# After others took an address off a link: whoever moves it tells EC2 at about the same time.
WATCH, WATCH_INTERVAL = 60.0, 5.0


class Depth(StrEnum):
    """How much a poll reads."""

    MISSING = "missing"  # what is missing, and hardly more: these polls are the most frequent
    AWAITED = "awaited"  # what is missing, and a little more
    ROTA = "rota"  # the keys whose turn it is
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Progress:
    """How complete the facts of an interface are: what the schedule of its polls depends on."""

    age: float  # seconds since the link appeared
    complete: bool  # every family is ready, or not waited for
    doubted: bool  # something known was missing from the last reading
    is_slow: bool  # the primary, once listed: it exists since launch, so nothing lags
    listed: bool = True  # whether the last reading lists the ENI
    requests: float = 1.0  # that a poll of it costs at rest
    share: Share = field(default_factory=Share)


class Polling:
    """The polls of one interface; at most one is under way."""

    def __init__(self, now: float) -> None:
        self.next_at = now
        self.interval = 0.0
        self.sweep_at = NEVER  # from then on a poll reads every key, before that by `depth`
        self.depth = Depth.MISSING
        self.sent_at: float | None = None  # of the poll that is under way
        self.as_of = -inf  # when the last answered poll was sent
        self._again_at = NEVER  # when to poll once more after the poll that is under way
        self._hints = Limiter(HINT_BURST, HINT_INTERVAL)
        self._watched_until = now
        self._hinted_until = now  # a poll that is due then covers all hints before it

    @property
    def in_flight(self) -> bool:
        """Whether a poll is under way."""
        return self.sent_at is not None

    def send(self, now: float) -> Depth:
        """Begin a poll; how much it reads."""
        self.sent_at = now
        return Depth.EVERYTHING if self.sweep_at <= now else self.depth

    def heard(
        self, now: float, progress: Progress, policy: Policy, random: Callable[[], float]
    ) -> None:
        """The poll was answered: schedule the next one."""
        if self.sent_at is not None:
            self.as_of, self.sent_at = self.sent_at, None
        again_at, self._again_at = self._again_at, NEVER
        schedule = policy.schedule
        kept = progress.age >= min(schedule.keep, schedule.patience)
        whole = progress.is_slow or (progress.complete and kept)
        if whole and progress.listed and not progress.doubted and now >= self._watched_until:
            self._rest(now, progress, policy)
        else:
            interval = schedule.refresh
            if not whole:
                interval = schedule.after(self.interval, progress.age)
            if progress.complete:
                interval = max(interval, progress.share.of * GIVES_WAY)
            self._wait(now, interval, progress, policy, random)
        if self._hinted_until > now:  # hints until then wait for that poll
            again_at = min(again_at, self._hinted_until)
        self.at(max(now, again_at))

    def _rest(self, now: float, progress: Progress, policy: Policy) -> None:
        """Nothing is missing or in doubt."""
        self.interval = policy.schedule.at_rest(progress.requests, progress.share.of)
        self.next_at = progress.share.next_at(now, self.interval)
        if self._hinted_until > now:  # then every key is read
            self.next_at = self._hinted_until
        self.sweep_at, self.depth = NEVER, Depth.ROTA

    def _wait(
        self,
        now: float,
        interval: float,
        progress: Progress,
        policy: Policy,
        random: Callable[[], float],
    ) -> None:
        """Poll after `interval`, or earlier for what is in doubt."""
        sweep = min(SWEEP_INTERVAL, policy.schedule.refresh)
        if progress.doubted:  # enough readings within the span, and not one more
            pause = policy.doubt_span / max(1, policy.doubts - 1)
            interval, sweep = min(interval, pause), min(sweep, pause)
        if now < self._watched_until:
            interval, sweep = min(interval, WATCH_INTERVAL), min(sweep, WATCH_INTERVAL)
        self.interval = interval
        # A reading that came a moment before the doubts may end would be one too few.
        self.next_at = now + (interval if progress.doubted else jittered(interval, random))
        self.sweep_at = self.next_at if interval >= sweep else NEVER
        first = progress.age < policy.schedule.first_for
        self.depth = Depth.MISSING if first else Depth.AWAITED

    def at(self, when: float) -> None:
        """Poll every key at `when` at the latest; if a poll is under way, once more after it."""
        if self.in_flight:
            self._again_at = min(when, self._again_at)
        else:
            # A poll that is due earlier does not read more keys because of this.
            self.next_at = min(when, self.next_at)
            self.sweep_at = min(when, self.sweep_at)

    @property
    def _only_rests(self) -> bool:
        """Whether the next poll is one at rest, and nothing else."""
        return self.depth is Depth.ROTA and self.sweep_at == NEVER and not self.in_flight

    def watch(self, now: float) -> None:
        """Poll every key, at once and every few seconds for a while."""
        self._watched_until = now + WATCH
        self.at(now)

    def hint(self, now: float) -> None:
        """Something happened to the link: poll at once, IMDS may know more now. Rate-limited.

        Who is polled all the time needs no hint: at a start the first is of our own setting up.
        """
        if now > self._hinted_until and (self._only_rests or self.interval >= OFTEN):
            self._hinted_until = now + self._hints.delay(now)
            if self._only_rests:
                self.next_at = self._hinted_until  # soon enough, and it reads every key
            self.at(self._hinted_until)

    def is_due(self, now: float) -> bool:
        """Whether a poll is to be sent now."""
        return not self.in_flight and self.next_at <= now
