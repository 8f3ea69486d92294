"""Session tokens: asks the endpoints for one, and takes that of the first to answer."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from nicwatchd.imds.condition import Condition, State, retry_after_seconds
from nicwatchd.imds.transport import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from nicwatchd.imds.transport import Reply, Transport

TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - a path
TTL_HEADER: Final = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER: Final = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name

THROTTLING: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})

# Characters that a header may contain: printable ASCII. EC2's tokens are 56 characters of base64.
_TOKEN: Final = re.compile(rb"[!-~]{1,1024}")

RENEW_AHEAD: Final = 300.0  # seconds before expiry; for a short-lived token, a tenth of its life
DISABLED_RETRY: Final = 30.0  # IMDS is enabled by an operator's API call: no hurry
THROTTLED_RETRY: Final = 1.0  # if the answer has no Retry-After
FIRST_RETRY: Final = 0.25  # the poll interval of a new interface: a hiccup costs one poll ...
LAST_RETRY: Final = 5.0  # ... and a dead service two requests per 5 s, however many interfaces
# s; a session that is bound to a link lives so long, then the host's routes are tried once more.
ROUTES_AGAIN: Final = 60.0


@dataclass(frozen=True, slots=True)
class Way:
    """How IMDS is asked: an endpoint, and the link to bind to; None: the host's routes decide."""

    endpoint: str
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A token and the way to the endpoint that issued it; times are monotonic.

    `detour` says why it is bound to a link; empty if it is not.
    """

    way: Way
    token: str = field(repr=False)
    since: float
    renew_at: float
    expires_at: float
    detour: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no session, and the seconds to wait before asking again (None: back off).

    `is_blocked`: no connection was made, so a firewall or a route may be in the way.
    """

    condition: Condition
    retry_in: float | None = None
    is_blocked: bool = False

    @property
    def asks_for_detour(self) -> bool:
        """Whether another way may help: nothing answered, or what answered is not IMDS."""
        return self.condition.state in ("unreachable", "failing")

    def naming_us(self) -> Refusal:
        """The same refusal; where no connection was made, with our uid.

        A firewall that hardens IMDS as AWS recommends lets only named users through: with root's
        curl IMDS answers all the same.
        """
        if not self.is_blocked:
            return self
        detail = f"{self.condition.detail}; nicwatchd asks as uid {os.geteuid()}"
        return replace(self, condition=replace(self.condition, detail=detail))

    def noting(self, words: str) -> Refusal:
        """The same refusal, with these words in parentheses after its detail."""
        detail = f"{self.condition.detail} ({words})"
        return replace(self, condition=replace(self.condition, detail=detail))


def backoff(failures: int) -> float:
    """Seconds to wait after this many failures in a row (1 or more)."""
    return min(FIRST_RETRY * 2.0 ** min(failures - 1, 10), LAST_RETRY)


async def race(
    ways: Sequence[Way],
    head_start: float,
    ask: Callable[[Way], Coroutine[None, None, Session | Refusal]],
) -> Session | Refusal:
    """Ask each way, the next one after `head_start` seconds or as soon as one has failed.

    The first session wins, and the other requests are cancelled. If there is none, returns the most
    informative refusal: an HTTP answer says more than a failed connection. Of several it is that of
    the first way, whichever came first: what is told of IMDS does not change with the moment.
    """
    waiting = list(ways)
    asked: list[asyncio.Task[Session | Refusal]] = []
    running: set[asyncio.Task[Session | Refusal]] = set()
    try:
        while waiting or running:
            if waiting:
                asked.append(asyncio.create_task(ask(waiting.pop(0))))
                running.add(asked[-1])
            done, running = await asyncio.wait(
                running,
                timeout=head_start if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                outcome = task.result()
                if isinstance(outcome, Session):
                    return outcome
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    outcomes = [task.result() for task in asked]
    return _most_informative([each for each in outcomes if isinstance(each, Refusal)])


def _most_informative(refusals: Sequence[Refusal]) -> Refusal:
    answered = [r for r in refusals if r.condition.state != "unreachable"]
    if answered:
        return answered[0]
    detail = "; ".join(r.condition.detail for r in refusals)
    is_blocked = any(r.is_blocked for r in refusals)
    return Refusal(
        Condition("unreachable", detail or "no endpoint configured"), is_blocked=is_blocked
    )


async def fetch(
    transport: Transport, way: Way, ttl: int, now: Callable[[], float]
) -> Session | Refusal:
    """Request a token from one endpoint, by one way."""
    asked_at, endpoint = now(), way.endpoint
    url, headers = endpoint + TOKEN_PATH, {TTL_HEADER: str(ttl)}
    reply = await transport.request("PUT", url, headers, way.device)
    if isinstance(reply, Failure):
        answers = reply.why.startswith("timed out")  # on the connection, but not with a token
        hint = ", perhaps the hop limit" if answers else ""
        state: State = "unreachable" if reply.lost else "failing"
        what = f"{_host(endpoint)}: {reply.why} on the token{hint}"
        return Refusal(Condition(state, what), is_blocked=reply.lost and not answers)
    if reply.status == HTTPStatus.OK and _TOKEN.fullmatch(reply.body):
        lifetime = _lifetime(reply, ttl)
        use = lifetime - min(RENEW_AHEAD, lifetime / 10)
        return Session(
            way=way,
            token=reply.body.decode("ascii"),
            since=asked_at,
            renew_at=asked_at + (use if way.device is None else min(use, ROUTES_AGAIN)),
            expires_at=asked_at + lifetime,
        )
    return _refusal(endpoint, reply)


def _refusal(endpoint: str, reply: Reply) -> Refusal:
    what = f"{_host(endpoint)}: {reply.status} on the token"
    if reply.status == HTTPStatus.FORBIDDEN:
        return Refusal(Condition("disabled", what), DISABLED_RETRY)
    if reply.status in THROTTLING:
        wait = retry_after_seconds(reply.headers.get("Retry-After"), reply.headers.get("Date"))
        return Refusal(Condition("throttled", what), THROTTLED_RETRY if wait is None else wait)
    if reply.status == HTTPStatus.OK:
        what = f"{_host(endpoint)}: garbage for a token"
    return Refusal(Condition("failing", what))


def _lifetime(reply: Reply, asked: int) -> float:
    """Seconds that the server granted, if it says so and grants no more than we asked for."""
    granted = reply.headers.get(TTL_HEADER, "")
    if granted.isascii() and granted.isdecimal() and 0 < int(granted[:9]) <= asked:
        return float(granted)
    return float(asked)


def _host(endpoint: str) -> str:
    return endpoint.removeprefix("http://")
