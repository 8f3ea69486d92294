"""Where the host's routes do not lead to IMDS: the same requests, bound to a link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nicwatchd.core.metadata import Unknown, Value
from nicwatchd.imds.budget import Budget
from nicwatchd.imds.client import Detour, ImdsClient, ImdsOptions
from nicwatchd.imds.token import ROUTES_AGAIN
from nicwatchd.imds.transport import Failure, Reply, Transport
from tests.imds.conftest import PRIMARY, TIMEOUTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from nicwatchd.sim.imds import ImdsServer

CUT = Failure("no connection after 1 s", lost=True)


class SplitTransport(Transport):
    """By the host's routes requests end as `cut` says, unless it is None; by links they arrive."""

    cut: Failure | Reply | None = CUT

    def __init__(self, options: ImdsOptions) -> None:
        super().__init__(options.timeouts, Budget(1000.0, 1000.0, lambda: 0.0))
        self.asked: list[tuple[str, str | None]] = []

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], device: str | None = None
    ) -> Reply | Failure:
        self.asked.append((method, device))
        if device is None and self.cut is not None:
            return self.cut
        return await super().request(method, url, headers, device)


class Host(Detour):
    """A host of these links; every packet of its own leaves by tun0."""

    def __init__(self, *links: str) -> None:
        self.links = links
        self.failures: list[int] = []

    def devices(self, failures: int) -> Sequence[str]:
        self.failures.append(failures)
        return self.links

    async def route_to(self, endpoint: str) -> str:
        del endpoint
        return "by tun0"


@pytest.fixture
async def client(server: ImdsServer, clock: Any) -> AsyncIterator[ImdsClient]:
    """Its host has one link, by which the server is reached."""
    options = ImdsOptions(server.endpoints, TIMEOUTS)
    made = ImdsClient(options, clock=clock)
    made._transport = SplitTransport(options)
    made.detour = Host("lo")
    async with made:
        yield made


def transport(client: ImdsClient) -> SplitTransport:
    assert isinstance(client._transport, SplitTransport)
    return client._transport


async def test_what_leaves_by_no_route_is_asked_bound_to_a_link(client: ImdsClient) -> None:
    assert await client.get("mac") == Value(PRIMARY)
    assert transport(client).asked == [("PUT", None), ("PUT", "lo"), ("GET", "lo")]
    assert (client.condition.state, client.condition.device) == ("ok", "lo")
    assert client.condition.detail.startswith("bound to lo; by the host's routes: 127.0.0.1:")
    assert client.condition.detail.endswith("no connection after 1 s on the token (by tun0)")


async def test_the_hosts_routes_are_tried_again_now_and_then(
    client: ImdsClient, clock: Any
) -> None:
    await client.get("mac")
    detail = client.condition.detail
    clock.now += ROUTES_AGAIN - 1
    await client.get("mac")
    assert transport(client).asked[-1:] == [("GET", "lo")]
    clock.now += 2
    assert await client.get("mac") == Value(PRIMARY)
    assert transport(client).asked[-3:] == [("PUT", None), ("PUT", "lo"), ("GET", "lo")]
    assert client.condition.detail == detail  # no answer was missing, and nothing has changed
    transport(client).cut = None
    clock.now += ROUTES_AGAIN + 1
    assert await client.get("mac") == Value(PRIMARY)
    assert transport(client).asked[-2:] == [("PUT", None), ("GET", None)]
    assert (client.condition.device, client.condition.detail) == (None, "")


async def test_a_way_that_is_lost_meanwhile_is_replaced_at_once(
    client: ImdsClient, server: ImdsServer, clock: Any
) -> None:
    transport(client).cut = None
    await client.get("mac")
    assert client.condition.device is None
    transport(client).cut = CUT
    assert await client.get("mac") == Unknown("mac: no connection after 1 s")
    assert await client.get("mac") == Value(PRIMARY)
    assert client.condition.device == "lo"
    del server, clock


async def test_what_is_not_imds_at_the_other_end_is_passed_by(client: ImdsClient) -> None:
    """A tunnel may lead to something that answers, but not as IMDS does."""
    transport(client).cut = Reply(404, {}, b"")
    assert await client.get("mac") == Value(PRIMARY)
    assert "404 on the token (by tun0)" in client.condition.detail


async def test_imds_that_is_disabled_is_so_by_any_way(client: ImdsClient) -> None:
    transport(client).cut = Reply(403, {}, b"")
    await client.get("mac")
    assert transport(client).asked == [("PUT", None)]
    assert client.condition.state == "disabled"


async def test_where_no_way_leads_to_imds_the_reason_names_all(
    client: ImdsClient, clock: Any
) -> None:
    host = client.detour = Host("nowhere0", "nowhere1")
    await client.get("mac")
    clock.now += 1
    await client.get("mac")
    assert client.condition.state == "unreachable"
    assert "on the token (by tun0); nor bound to nowhere0, nowhere1 (" in client.condition.detail
    assert "no such device on the token" in client.condition.detail
    assert host.failures == [0, 1]  # other links have their turn


async def test_a_refusal_by_a_link_says_more_than_silence(
    client: ImdsClient, server: ImdsServer
) -> None:
    server.fault("token", "403")
    await client.get("mac")
    assert client.condition.state == "disabled"
