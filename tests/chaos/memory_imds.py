"""The sim's metadata service without a network between it and the client."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from errno import ECONNREFUSED, ECONNRESET
from types import SimpleNamespace
from typing import Final, Self, cast

import aiohttp
from aiohttp import web

from nicwatchd.imds.budget import Budget
from nicwatchd.imds.client import ImdsOptions
from nicwatchd.imds.transport import BODY_LIMIT, Failure, Reply, Transport
from nicwatchd.sim.imds import SLOW_PAUSE, TOKEN_PATH, ImdsServer
from nicwatchd.sim.script import Fault
from nicwatchd.sim.tree import below_version, kind

ROUND_TRIP: Final = 0.002  # s from a request to its answer


class MemoryTransport(Transport):
    """The transport of the IMDS client with the server in the place of the network."""

    def __init__(self, server: ImdsServer, options: ImdsOptions, budget: Budget) -> None:
        super().__init__(options.timeouts, budget)
        self._server = server

    async def __aenter__(self) -> Self:
        return self

    async def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], device: str | None
    ) -> Reply | Failure:
        del device  # no network, no links
        await asyncio.sleep(ROUND_TRIP)
        path = "/" + url.split("/", 3)[3]
        what = "token" if path == TOKEN_PATH else kind(below_version(path) or "")
        if any(f.do == "refuse" and f.on in {"token", "all"} for f in self._server._active()):
            raise ConnectionRefusedError(ECONNREFUSED, "refused")
        request = cast(
            "web.BaseRequest", SimpleNamespace(path=path, method=method, headers=headers)
        )
        server = self._server
        right = server._token(request) if what == "token" else server._read(request)
        body = (right.text or "").encode()
        fault = server._fault_on(what)
        if fault is None:
            return Reply(right.status, right.headers, body)
        return await self._go_wrong(fault, right, body)

    async def _go_wrong(self, fault: Fault, right: web.Response, body: bytes) -> Reply | Failure:
        """What the client makes of each fault of the server's, over a real connection."""
        match fault.do:
            case "timeout":
                await asyncio.sleep(self._timeouts.read)
                raise aiohttp.SocketTimeoutError
            case "refuse":
                raise ConnectionRefusedError(ECONNREFUSED, "refused")
            case "reset":
                raise ConnectionResetError(ECONNRESET, "reset")
            case "half":
                raise aiohttp.ClientPayloadError
            case "slow":
                await asyncio.sleep(min(SLOW_PAUSE * len(body), self._timeouts.total))
                if SLOW_PAUSE * len(body) >= self._timeouts.total:
                    raise TimeoutError
                return Reply(right.status, right.headers, body)
            case "garbage":
                return Reply(200, {}, b"\x00\xff<html>\n\xfe\x01: not what you asked for\n")
            case "big":
                return Failure(f"the body is larger than {BODY_LIMIT // 1024} KiB", lost=False)
            case "redirect":
                return Reply(302, {"Location": "/latest/meta-data/mac"}, b"")
            case status:
                return Reply(int(status), {}, b"")
