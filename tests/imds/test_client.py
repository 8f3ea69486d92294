"""The client against running servers: endpoints, tokens, limits. Odd HTTP by aioresponses."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from aioresponses import aioresponses

from nicwatchd.core.metadata import ABSENT, Unknown, Value
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.imds.condition import Condition, retry_after_seconds
from nicwatchd.imds.token import Refusal, Way, backoff, race
from nicwatchd.imds.transport import Timeouts
from nicwatchd.sim.imds import ImdsServer
from nicwatchd.sim.script import Do, Scenario

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PRIMARY = "02:00:00:00:00:01"
SHORT = Timeouts(connect=1.0, read=0.8, total=1.0)
BASE = "http://192.0.2.1"
TOKEN_URL = f"{BASE}/latest/api/token"
MAC_URL = f"{BASE}/latest/meta-data/mac"


def _methods(server: ImdsServer) -> list[str]:
    return [request.method for request in server.log]


@pytest.fixture
async def second() -> AsyncIterator[ImdsServer]:
    made = ImdsServer(Scenario(mac=PRIMARY))
    await made.start(("::1", 0))
    yield made
    await made.stop()


@pytest.fixture
async def both(server: ImdsServer, second: ImdsServer, clock: Any) -> AsyncIterator[ImdsClient]:
    options = ImdsOptions(endpoints=server.endpoints + second.endpoints, timeouts=SHORT)
    async with ImdsClient(options, clock=clock) as made:
        yield made


# --- answers ----------------------------------------------------------------------------------


async def test_value_and_absent(client: ImdsClient) -> None:
    assert client.condition == Condition("unasked")
    assert await client.get("mac") == Value(PRIMARY)
    assert await client.get("nonsense") == ABSENT
    assert client.condition.state == "ok"


async def test_a_question_without_an_answer_counts_as_asked(
    client: ImdsClient, server: ImdsServer
) -> None:
    assert (client.last_request, client.last_success) == (None, None)
    server.fault("leaf:mac", "500")
    await client.get("mac")
    assert client.last_request is not None
    assert client.last_success is not None  # the token
    asked, answered = client.last_request, client.last_success
    await client.get("mac")
    assert client.last_request > asked
    assert client.last_success == answered


async def test_the_primary_is_asked_until_it_is_known_and_then_never(
    client: ImdsClient, server: ImdsServer
) -> None:
    server.fault("leaf:mac", "500")
    assert await client.primary_mac() == Unknown("mac: 500")
    server.clear()
    assert await client.primary_mac() == Value(PRIMARY)
    before = client.requests
    assert await client.primary_mac() == Value(PRIMARY)
    assert client.requests == before


async def test_one_connection_and_one_token_serve_all(
    client: ImdsClient, server: ImdsServer
) -> None:
    answers = await asyncio.gather(*(client.get("mac") for _ in range(20)))
    assert set(answers) == {Value(PRIMARY)}
    assert _methods(server) == ["PUT"] + ["GET"] * 20
    assert client.requests == 21


# --- tokens -----------------------------------------------------------------------------------


async def test_a_token_is_renewed_before_it_ends(
    client: ImdsClient, server: ImdsServer, clock: Any
) -> None:
    await client.get("mac")
    clock.now += 21600 - 301
    await client.get("mac")
    clock.now += 2
    await client.get("mac")
    assert _methods(server) == ["PUT", "GET", "GET", "PUT", "GET"]


async def test_a_token_that_cannot_be_renewed_serves_to_its_end(
    client: ImdsClient, server: ImdsServer, clock: Any
) -> None:
    await client.get("mac")
    server.fault("token", "500")
    clock.now += 21600 - 299
    assert await client.get("mac") == Value(PRIMARY)
    clock.now += 300
    answer = await client.get("mac")
    assert isinstance(answer, Unknown)
    assert "500 on the token" in answer.why
    assert client.condition.state == "failing"


async def test_a_forgotten_token_costs_one_renewal(client: ImdsClient, server: ImdsServer) -> None:
    await client.get("mac")
    server.expire_tokens()
    assert await client.get("mac") == Value(PRIMARY)
    assert _methods(server) == ["PUT", "GET", "GET", "PUT", "GET"]


async def test_a_forgotten_token_costs_one_renewal_for_all(
    client: ImdsClient, server: ImdsServer
) -> None:
    await client.get("mac")
    server.expire_tokens()
    answers = await asyncio.gather(*(client.get("mac") for _ in range(8)))
    assert set(answers) == {Value(PRIMARY)}
    assert _methods(server).count("PUT") == 2


async def test_disabled_on_the_way_is_found_out(
    client: ImdsClient, server: ImdsServer, clock: Any
) -> None:
    await client.get("mac")
    server.fault("all", "403")
    clock.now += 31
    assert await client.get("mac") == Unknown("mac: 403")
    answer = await client.get("mac")
    assert isinstance(answer, Unknown)
    assert "IMDS is disabled" in answer.why
    assert client.condition.retry_at == clock.now + 30


async def test_no_token_in_any_log_or_repr(
    client: ImdsClient, server: ImdsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await client.get("mac")
    server.fault("leaf", "half")
    answer = await client.get("mac")
    texts = [caplog.text, repr(client._session), repr(client.condition), repr(answer)]
    assert len(server._tokens) == 1
    assert not any(token in text for token in server._tokens for text in texts)


# --- endpoints --------------------------------------------------------------------------------


async def test_the_first_endpoint_is_used_when_both_answer(
    both: ImdsClient, server: ImdsServer, second: ImdsServer
) -> None:
    await both.get("mac")
    assert both.condition.endpoint == server.endpoints[0]
    assert not second.log


async def test_the_second_starts_while_the_first_is_silent(
    both: ImdsClient, server: ImdsServer, second: ImdsServer
) -> None:
    server.fault("token", "timeout")
    assert await both.get("mac") == Value(PRIMARY)
    assert both.condition.endpoint == second.endpoints[0]
    assert [request.path for request in server.log] == ["/latest/api/token"]


async def test_the_second_starts_at_once_when_the_first_refuses(
    server: ImdsServer, second: ImdsServer
) -> None:
    server.fault("all", "refuse")
    options = ImdsOptions(endpoints=server.endpoints + second.endpoints, head_start=3600)
    async with ImdsClient(options) as client:
        assert await client.get("mac") == Value(PRIMARY)


async def test_the_winner_is_kept_when_the_other_comes_back(
    both: ImdsClient, server: ImdsServer, second: ImdsServer
) -> None:
    server.fault("all", "refuse")
    await both.get("mac")
    server.clear()
    second.expire_tokens()
    assert await both.get("mac") == Value(PRIMARY)
    assert not server.log
    assert both.condition.endpoint == second.endpoints[0]


async def test_a_dead_winner_is_given_up(
    both: ImdsClient, server: ImdsServer, second: ImdsServer
) -> None:
    await both.get("mac")
    server.fault("all", "refuse")
    assert isinstance(await both.get("mac"), Unknown)
    assert await both.get("mac") == Value(PRIMARY)
    assert both.condition == Condition("ok", endpoint=second.endpoints[0])


async def test_with_both_dead_the_condition_names_both(
    both: ImdsClient, server: ImdsServer, second: ImdsServer
) -> None:
    server.fault("all", "refuse")
    second.fault("all", "refuse")
    await both.get("mac")
    assert both.condition.state == "unreachable"
    assert both.condition.detail.count("connection refused") == 2
    # A firewall may let root through, and not us.
    assert both.condition.detail.endswith(f"; nicwatchd asks as uid {os.geteuid()}")


async def test_whoever_is_heard_and_gets_no_answer_is_not_kept_out_by_uid(
    client: ImdsClient, server: ImdsServer
) -> None:
    server.fault("token", "timeout")
    await client.get("mac")
    assert client.condition.detail.endswith("on the token, perhaps the hop limit")


async def test_an_http_answer_says_more_than_a_dead_endpoint(
    both: ImdsClient, server: ImdsServer, second: ImdsServer
) -> None:
    server.fault("all", "refuse")
    second.fault("token", "403")
    await both.get("mac")
    assert both.condition.state == "disabled"


async def test_of_two_refusals_the_first_endpoints_is_told_whichever_comes_first() -> None:
    second_refused = asyncio.Event()

    async def refuse(way: Way) -> Refusal:
        if way.endpoint == "first":
            await second_refused.wait()
        else:
            second_refused.set()
        return Refusal(Condition("throttled", way.endpoint))

    outcome = await race([Way("first"), Way("second")], 0.0, refuse)
    assert outcome == Refusal(Condition("throttled", "first"))


# --- going slow -------------------------------------------------------------------------------


async def test_the_backoff_of_a_dead_service_ends_at_5_s(
    client: ImdsClient, server: ImdsServer, clock: Any
) -> None:
    server.fault("token", "500")
    waits = []
    for _ in range(7):
        await client.get("mac")
        assert client.condition.retry_at is not None
        waits.append(client.condition.retry_at - clock.now)
        clock.now = client.condition.retry_at
    assert waits == [0.25, 0.5, 1, 2, 4, 5, 5]
    assert backoff(10_000) == 5


async def test_retry_after_holds_all_interfaces(client: ImdsClient, server: ImdsServer) -> None:
    await client.get("mac")
    server.fault("leaf:instance-id", "503", retry_after="7")
    assert await client.get("instance-id") == Unknown("instance-id: 503")
    before = client.requests
    why = "mac: IMDS throttles us (503, asked for 7 s)"
    assert [await client.get("mac") for _ in range(3)] == [Unknown(why)] * 3
    assert client.requests == before


async def test_an_empty_budget_is_an_answer(server: ImdsServer, clock: Any) -> None:
    options = ImdsOptions(server.endpoints, timeouts=SHORT, budget_rate=0.01, budget_burst=2)
    async with ImdsClient(options, clock=clock) as client:
        assert await client.get("mac") == Value(PRIMARY)
        assert await client.get("mac") == Unknown("mac: the host's request budget is used up")
    assert client.requests == 2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("7", 7), (" 0 ", 0), ("86400", 60), ("9" * 5000, 60), ("-1", None),
        ("soon", None), ("", None), ("Wed, 21 Oct 2015 07:28:30 GMT", 30),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0), ("Wed, 21 Oct 2099 07:28:00 GMT", 60),
    ],
)  # fmt: skip
def test_retry_after(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, "Wed, 21 Oct 2015 07:28:00 GMT") == seconds


def test_retry_after_as_a_date_without_the_servers_own() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert retry_after_seconds(later) == 60


# --- the environment and odd HTTP -------------------------------------------------------------


async def test_no_proxy_from_the_environment(
    client: ImdsClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:1")
    assert await client.get("mac") == Value(PRIMARY)


async def test_a_redirect_is_not_followed(client: ImdsClient, server: ImdsServer) -> None:
    server.fault("leaf:instance-id", "redirect")
    assert await client.get("instance-id") == Unknown("instance-id: 302")
    assert [request.path for request in server.log][-1].endswith("instance-id")


@pytest.mark.parametrize("token", [b"", b"two words", b"line\r\nX-Evil: 1", b"\xff", b"x" * 2000])
async def test_a_token_that_cannot_stand_in_a_header(token: bytes) -> None:
    with aioresponses() as fake:
        fake.put(TOKEN_URL, body=token)
        async with ImdsClient(ImdsOptions((BASE,))) as client:
            assert isinstance(await client.get("mac"), Unknown)
            assert client.condition.detail == "192.0.2.1: garbage for a token"


@pytest.mark.parametrize("ttl", ["0", "-5", "junk", "99999999999"])
async def test_a_nonsense_lifetime_is_ignored(ttl: str, clock: Any) -> None:
    with aioresponses() as fake:
        header = {"X-aws-ec2-metadata-token-ttl-seconds": ttl}
        fake.put(TOKEN_URL, body="token", headers=header)
        fake.get(MAC_URL, body=PRIMARY, repeat=True)
        async with ImdsClient(ImdsOptions((BASE,)), clock=clock) as client:
            await client.get("mac")
            clock.now += 21000
            assert await client.get("mac") == Value(PRIMARY)
            assert client.requests == 3


async def test_a_short_lifetime_that_the_server_grants_is_kept(clock: Any) -> None:
    with aioresponses() as fake:
        header = {"X-aws-ec2-metadata-token-ttl-seconds": "10"}
        fake.put(TOKEN_URL, body="token", headers=header, repeat=True)
        fake.get(MAC_URL, body=PRIMARY, repeat=True)
        async with ImdsClient(ImdsOptions((BASE,)), clock=clock) as client:
            await client.get("mac")
            clock.now += 9.5
            await client.get("mac")
            assert client.requests == 4


async def test_an_unexpected_status_and_bytes_that_are_not_text() -> None:
    with aioresponses() as fake:
        fake.put(TOKEN_URL, body="token")
        fake.get(MAC_URL, status=418)
        fake.get(MAC_URL, body=b"\xff\xfe")
        async with ImdsClient(ImdsOptions((BASE,))) as client:
            assert await client.get("mac") == Unknown("mac: 418")
            assert await client.get("mac") == Unknown("mac: garbage (not UTF-8)")


# --- asked by the operator --------------------------------------------------------------------


@pytest.mark.parametrize(("do", "state"), [("refuse", "unreachable"), ("403", "disabled")])
async def test_asked_afresh_it_says_how_imds_is_now(
    client: ImdsClient, server: ImdsServer, do: Do, state: str
) -> None:
    await client.get("mac")
    server.fault("all", do)
    assert not client.ask_afresh()
    assert isinstance(await client.get("mac"), Unknown)
    assert client.condition.state == state


async def test_asked_afresh_a_good_token_outlives_a_service_that_gives_none(
    client: ImdsClient, server: ImdsServer
) -> None:
    await client.get("mac")
    server.fault("token", "500")
    client.ask_afresh()
    assert await client.get("mac") == Value(PRIMARY)
    assert client.condition.state == "ok"


async def test_asked_afresh_nothing_is_held_back(client: ImdsClient, server: ImdsServer) -> None:
    server.fault("token", "403")
    await client.get("mac")
    server.clear()
    assert isinstance(await client.get("mac"), Unknown)  # there are 30 s to wait
    assert client.ask_afresh()
    assert await client.get("mac") == Value(PRIMARY)
    assert client.condition.state == "ok"


async def test_asked_afresh_a_pause_that_imds_asked_for_goes_on(
    client: ImdsClient, server: ImdsServer
) -> None:
    server.fault("token", "429", retry_after="9")
    await client.get("mac")
    server.clear()
    assert not client.ask_afresh()
    assert isinstance(await client.get("mac"), Unknown)
    assert client.condition.state == "throttled"
