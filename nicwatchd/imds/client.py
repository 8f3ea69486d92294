"""The IMDSv2 client that all interfaces share: one token, one budget, one condition.

`get` returns an `Answer`; it never raises because of the network or the server. IMDSv1 is never
tried: it is often disabled, and a service that refuses a token does so on purpose.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self

from nicwatchd.core.metadata import ABSENT, Answer, Unknown, Value
from nicwatchd.imds import token as tokens
from nicwatchd.imds.budget import Budget
from nicwatchd.imds.condition import Condition, retry_after_seconds
from nicwatchd.imds.parse import MAC, parse_macs
from nicwatchd.imds.token import Way
from nicwatchd.imds.transport import Failure, Reply, Timeouts, Transport

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from nicwatchd.imds.histogram import Histogram

log = logging.getLogger(__name__)

META_DATA: Final = "/latest/meta-data/"
MACS: Final = "network/interfaces/macs/"

# A 401 or 403 on a GET may mean that the token, or IMDS as a whole, is no longer usable. A request
# for a new token tells. But a single key that keeps answering so must not double our requests.
RENEW_ON_401_EVERY: Final = 1.0
RENEW_ON_403_EVERY: Final = 30.0


@dataclass(frozen=True, slots=True)
class ImdsOptions:
    """Where IMDS is and how much load we may put on it. Seconds; requests per second."""

    endpoints: tuple[str, ...] = ("http://169.254.169.254", "http://[fd00:ec2::254]")
    timeouts: Timeouts = field(default_factory=Timeouts)
    budget_rate: float = 50.0
    budget_burst: float = 500.0
    token_ttl: int = 21600  # the longest that IMDS grants
    head_start: float = 0.15  # that an endpoint has over the next one


class Detour:
    """What the client asks about the host where its routes do not lead to IMDS; here, nothing."""

    def devices(self, failures: int) -> Sequence[str]:
        """The links to bind to, by name, the best first; `failures` in a row came before."""
        del failures
        return ()

    async def route_to(self, endpoint: str) -> str:
        """How the host's routes treat a packet to this endpoint, in words; empty: not known."""
        del endpoint
        return ""


class ImdsClient:
    """An async context manager. `condition` is the current state of IMDS."""

    def __init__(
        self, options: ImdsOptions, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._options = options
        self._clock = clock
        budget = Budget(options.budget_rate, options.budget_burst, clock)
        self._transport = Transport(options.timeouts, budget)
        self._session: tokens.Session | None = None
        self._winner: str | None = None  # the endpoint in use, kept as long as it answers
        self._lock = asyncio.Lock()  # one token request at a time; the others wait for its outcome
        self._failures = 0
        self._renewed_on_401 = float("-inf")
        self._primary: Value[str] | None = None
        self._is_doubted = False  # the operator wants to know how IMDS is now
        self.condition = Condition()
        self.detour = Detour()  # where the host's routes do not lead to IMDS

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, including those for tokens."""
        return self._transport.requests

    @property
    def outcomes(self) -> Counter[str]:
        """Completed requests by HTTP status; "none" if there was no usable answer."""
        return self._transport.outcomes

    @property
    def durations(self) -> Histogram:
        """How long completed requests took, in seconds."""
        return self._transport.durations

    @property
    def last_request(self) -> float | None:
        """When a request was sent, in seconds of the Unix epoch; None: never."""
        return self._transport.last_request

    @property
    def last_success(self) -> float | None:
        """When a request was answered with 200, in seconds of the Unix epoch; None: never."""
        return self._transport.last_success

    def ask_afresh(self) -> bool:
        """Find out now how IMDS is; whether that ended a pause of ours. IMDS's own go on."""
        self._is_doubted = True
        if self._session is not None:
            self._session = replace(self._session, renew_at=self._clock())
        held_back = self._paused() and self.condition.state != "throttled"
        if held_back:
            self.condition = replace(self.condition, retry_at=None)
        return held_back

    async def get(self, path: str) -> Answer[str]:
        """The text at `path`, relative to the meta-data root; ABSENT for a 404."""
        key = _short_name(path)
        outcome = await self._get(path)
        if isinstance(outcome, Failure):
            return Unknown(f"{key}: {outcome.why}")
        if outcome.status == HTTPStatus.NOT_FOUND:
            return ABSENT
        if outcome.status != HTTPStatus.OK:
            return Unknown(f"{key}: {outcome.status}")
        try:
            return Value(outcome.body.decode("utf-8"))
        except UnicodeDecodeError:
            return Unknown(f"{key}: garbage (not UTF-8)")

    async def macs(self) -> Answer[frozenset[str]]:
        """The MACs of all ENIs that are listed, in lower case; not whole where one is garbage."""
        answer = await self.get(MACS)
        return parse_macs(answer.value) if isinstance(answer, Value) else answer

    async def primary_mac(self) -> Answer[str]:
        """The MAC of the primary interface, in lower case. Cached, because it never changes."""
        if self._primary is not None:
            return self._primary
        answer = await self.get("mac")
        if not isinstance(answer, Value):
            return answer
        mac = answer.value.strip().lower()
        if not MAC.fullmatch(mac):
            return Unknown("mac: garbage")
        self._primary = Value(mac)
        return self._primary

    async def _get(self, path: str) -> Reply | Failure:
        """One GET; after a 401, one more with a new token."""
        outcome: Reply | Failure = Failure("no token", lost=False)
        for _ in range(2):
            session = await self._current_session()
            if session is None:
                return Failure(str(self.condition), lost=False)
            outcome = await self._transport.request(
                "GET",
                session.way.endpoint + META_DATA + path,
                {tokens.TOKEN_HEADER: session.token},
                session.way.device,
            )
            if not self._learn(session, outcome):
                break
        return outcome

    def _learn(self, session: tokens.Session, outcome: Reply | Failure) -> bool:
        """Update the session and the condition from an outcome; whether to send the GET again."""
        now = self._clock()
        if isinstance(outcome, Failure):
            if outcome.lost:
                self._drop(session, dead=True)
            return False
        if outcome.status == HTTPStatus.UNAUTHORIZED:
            return self._renew_on_401(session, now)
        if outcome.status == HTTPStatus.FORBIDDEN and now - session.since >= RENEW_ON_403_EVERY:
            self._drop(session)
        elif outcome.status in tokens.THROTTLING:
            self._pause(session, outcome)
        elif self.condition.state != "ok" and not self._paused():
            self._set_condition(self._recovered(session))
        return False

    def _renew_on_401(self, session: tokens.Session, now: float) -> bool:
        """Whether there is a newer token to try, or may be one."""
        if self._session is session:
            if now - self._renewed_on_401 < RENEW_ON_401_EVERY:
                return False
            self._renewed_on_401 = now
            self._drop(session)
        return True

    def _drop(self, session: tokens.Session, *, dead: bool = False) -> None:
        """Give up a session, unless another request has already replaced it."""
        if self._session is session:
            self._session = None
            self._winner = None if dead else session.way.endpoint

    def _pause(self, session: tokens.Session, reply: Reply) -> None:
        """Send nothing for as long as the server asks.

        A 503 without Retry-After may only mean that this key is not ready: it delays no other key.
        """
        wait = retry_after_seconds(reply.headers.get("Retry-After"), reply.headers.get("Date"))
        if wait is None and reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            wait = tokens.THROTTLED_RETRY
        if wait:
            detail = f"{reply.status}, asked for {wait:g} s"
            retry_at = self._clock() + wait
            way = session.way
            self._set_condition(Condition("throttled", detail, way.endpoint, retry_at, way.device))

    def _paused(self) -> bool:
        retry_at = self.condition.retry_at
        return retry_at is not None and self._clock() < retry_at

    async def _current_session(self) -> tokens.Session | None:
        """A valid session. None: the condition says why there is none."""
        if self._paused():
            return None
        if self._fresh(self._session):
            return self._session
        async with self._lock:
            if self._paused():
                return None
            if not self._fresh(self._session):
                await self._renew()
            return self._session

    def _fresh(self, session: tokens.Session | None) -> bool:
        return session is not None and self._clock() < session.renew_at

    async def _renew(self) -> None:
        old = self._session
        outcome = await self._ask_for_session(old)
        is_doubted, self._is_doubted = self._is_doubted, False
        if isinstance(outcome, tokens.Session):
            self._failures = 0
            self._session, self._winner = outcome, outcome.way.endpoint
            self._set_condition(self._recovered(outcome))
            return
        self._failures += 1
        wait = outcome.retry_in
        now = self._clock()
        retry_at = now + (tokens.backoff(self._failures) if wait is None else wait)
        if old is not None and wait is None and now < old.expires_at:
            # We renew early, so a failure costs nothing: the old token remains in use.
            self._session = replace(old, renew_at=min(retry_at, old.expires_at))
            if is_doubted:  # until a GET with the old token says otherwise
                self._set_condition(outcome.naming_us().condition)
            return
        self._session = self._winner = None
        self._set_condition(replace(outcome.naming_us().condition, retry_at=retry_at))

    async def _ask_for_session(self, old: tokens.Session | None) -> tokens.Session | tokens.Refusal:
        """Ask by the host's routes; where nothing of IMDS answers, bound to one link after another.

        A session that is bound to a link is the last in the race: the host's routes come first, but
        nobody waits for them to fail.
        """
        endpoints = sorted(self._options.endpoints, key=lambda endpoint: endpoint != self._winner)
        ways = [Way(endpoint) for endpoint in endpoints]
        if old is not None and old.way.device is not None:
            ways.append(old.way)
        direct = await tokens.race(ways, self._options.head_start, self._fetch)
        if isinstance(direct, tokens.Session):
            bound = old is not None and direct.way == old.way
            return replace(direct, detour=old.detour) if old is not None and bound else direct
        if not direct.asks_for_detour:
            return direct
        devices = self.detour.devices(self._failures)
        bound_ways = [Way(endpoint, device) for device in devices for endpoint in endpoints]
        if not bound_ways:
            return direct
        outcome = await tokens.race(bound_ways, self._options.head_start, self._fetch)
        if isinstance(outcome, tokens.Session):
            return replace(outcome, detour=_why_bound(outcome.way, direct))
        if outcome.condition.state != "unreachable":
            return outcome
        tried = f"; nor bound to {', '.join(devices)} ({outcome.condition.detail.split('; ')[0]})"
        detail = direct.condition.detail + tried
        return replace(direct, condition=replace(direct.condition, detail=detail))

    async def _fetch(self, way: Way) -> tokens.Session | tokens.Refusal:
        outcome = await tokens.fetch(self._transport, way, self._options.token_ttl, self._clock)
        if isinstance(outcome, tokens.Session) or way.device or not outcome.asks_for_detour:
            return outcome
        route = await self.detour.route_to(way.endpoint)
        return outcome.noting(route) if route else outcome

    def _recovered(self, session: tokens.Session) -> Condition:
        way = session.way
        return self.condition.recovered(way.endpoint, way.device, session.detour)

    def _set_condition(self, condition: Condition) -> None:
        if str(condition) != str(self.condition):
            log.info("%s", condition)
        self.condition = condition


def _why_bound(way: Way, direct: tokens.Refusal) -> str:
    return f"bound to {way.device}; by the host's routes: {direct.condition.detail}"


def _short_name(path: str) -> str:
    """A path's name in messages: the leaf's; "directory" for the lists of MACs and of keys."""
    if not path.startswith(MACS):
        return path
    return path.removeprefix(MACS).partition("/")[2] or "directory"
