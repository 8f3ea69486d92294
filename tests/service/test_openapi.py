"""The schema: what is served, what is promised, and what the handlers really answer.

`UPDATE=1` writes docs/openapi.json, and adds new keys to the promise.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from nicwatchd.core.lifecycle import State
from nicwatchd.service import handlers, post_key
from nicwatchd.service.control import Control
from nicwatchd.service.event_stream import event, present
from nicwatchd.service.openapi import document
from nicwatchd.service.post_key import HEADER
from nicwatchd.service.routes import ROUTES
from nicwatchd.service.status import HostStatus, ImdsStatus
from nicwatchd.service.telling import Stopped, Told
from tests.service.test_control import Well
from tests.service.test_readiness import NOT, RULE, WORKING, family, interface

ROOT: Final = Path(__file__).parents[2]
COMMITTED: Final = ROOT / "docs" / "openapi.json"
PROMISED: Final = Path(__file__).with_name("promised_v1.txt")
EXAMPLES: Final = 25  # for each request
PATIENCE: Final = 20.0  # s; ends what hangs
ETH1 = interface(
    "eth1",
    ipv4=family(WORKING, answering=["10.0.2.11"], worked_after=0.5),
    ipv6=family(NOT, RULE, waits=True),
    state=State.AWAITING,
    reasons=[RULE],
)


class Busy(Well):
    """A service with one interface that works by halves."""

    def status(self) -> HostStatus:
        imds = ImdsStatus(state="ok", endpoint="http://169.254.169.254", requests=7)
        return HostStatus(
            version="1", pid=1, started=0.5, imds=imds, interfaces=[ETH1], primary_mac=ETH1.mac
        )


def types(schema: dict[str, Any]) -> Iterator[str]:
    """Each type that a value may have: a model by its name."""
    match schema:
        case {"$ref": ref}:
            yield ref.rsplit("/", 1)[1]
        case {"anyOf": choices}:
            for choice in choices:
                yield from types(choice)
        case {"type": "array", "items": items}:
            yield from (f"{each}[]" for each in types(items))
        case {"enum": values}:
            yield from map(json.dumps, values)
        case {"const": value}:
            yield json.dumps(value)
        case {"type": kind}:
            yield kind


def offered(whole: dict[str, Any]) -> set[str]:
    """All that a client may rely on: requests, parameters, keys of the answers, their types."""
    found = set()
    for path, methods in whole["paths"].items():
        for method, operation in methods.items():
            request = f"{method.upper()} {path}"
            for each in operation.get("parameters", []):
                found |= {f"{request} ?{each['name']}: {t}" for t in types(each["schema"])}
            for status, answer in operation["responses"].items():
                for media, content in answer["content"].items():
                    found |= {f"{request} {status} {media} {t}" for t in types(content["schema"])}
    for name, model in whole["components"]["schemas"].items():
        for key, each in model.get("properties", {}).items():
            found |= {f"{name}.{key}: {t}" for t in types(each)}
        found |= {f"{name}: {json.dumps(value)}" for value in model.get("enum", ())}
    return found


def test_what_is_committed_is_what_is_served() -> None:
    text = json.dumps(document(), indent=1) + "\n"
    if os.environ.get("UPDATE"):
        COMMITTED.write_text(text)
    assert COMMITTED.read_text() == text, "UPDATE=1 make test ARGS='-k openapi' writes it"
    assert handlers.SCHEMA.read_text() == text


def test_nothing_that_was_promised_is_missing() -> None:
    """A new key is promised from its first commit on; a line of the file is never removed."""
    now, promised = offered(document()), set(PROMISED.read_text().splitlines())
    assert promised - now == set(), "within v1, no key is removed and no type changed"
    if os.environ.get("UPDATE"):
        PROMISED.write_text("".join(f"{line}\n" for line in sorted(now | promised)))
        promised = now
    assert now - promised == set(), "UPDATE=1 make test ARGS='-k openapi' adds them"


def test_each_request_is_in_the_schema() -> None:
    paths = document()["paths"]
    assert {(r.method.lower(), r.path) for r in ROUTES} == {
        (method, path) for path, methods in paths.items() for method in methods
    }
    assert len({route.name for route in ROUTES}) == len(ROUTES)


def test_lines_of_events_are_as_the_schema_says() -> None:
    whole = document()
    name = whole["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]
    schema = name["application/x-ndjson"]["schema"]
    validator = jsonschema_rs.validator_for({**schema, "components": whole["components"]})
    for line in (present(ETH1), event(Told(Stopped(), ETH1), ETH1)):
        validator.validate(json.loads(line.model_dump_json()))
    with pytest.raises(jsonschema_rs.ValidationError):
        validator.validate({"name": "eth1"})


# --- the handlers, by requests that the schema gives and by wrong ones ---------------------------


@contextmanager
def served(directory: Path) -> Iterator[dict[str, str]]:
    """Both sockets behind a port of loopback, in a loop of their own: URLs by name, and the key."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, loop).result(PATIENCE)

    control = Control(Busy(), directory / "nicwatchd.sock")
    bridges = []
    try:
        run(control.start())
        urls = {}
        for path in (control.path, control.read_only_path):
            bridge = run(_bridge(path))
            bridges.append(bridge)
            port = bridge.sockets[0].getsockname()[1]
            urls[path.name] = f"http://127.0.0.1:{port}"
        urls[HEADER] = post_key.read(directory)
        yield urls
    finally:
        for bridge in bridges:
            loop.call_soon_threadsafe(bridge.close)
        run(control.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


async def _bridge(path: Path) -> asyncio.Server:
    """A port of loopback that leads to a Unix socket."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(path)
        await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))

    return await asyncio.start_server(connect, "127.0.0.1", 0)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with served(tmp_path_factory.mktemp("sockets")) as found:
        yield found


WITHOUT_END: Final = "/v1/events"  # see the test of its lines
REQUESTS: Final = [(r.method, r.path) for r in ROUTES if r.path != WITHOUT_END]
CHECKS: Final = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
FAILING: Final = ("/healthz", "/readyz")  # 503 is an answer there
SCHEMA: Final = schemathesis.openapi.from_dict(document())


SOCKETS: Final = ("nicwatchd.sock", "status.sock")


@pytest.mark.parametrize("socket", SOCKETS)
@pytest.mark.parametrize("request_", REQUESTS, ids=" ".join)
def test_the_handlers_answer_as_the_schema_says(
    urls: dict[str, str], request_: tuple[str, str], socket: str
) -> None:
    method, path = request_
    seen = set()
    wanted = CHECKS if path in FAILING else [*CHECKS, not_a_server_error]

    @given(case=SCHEMA[path][method].as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case[Any]) -> None:
        headers = {HEADER: urls[HEADER]} if method == "POST" else {}
        response = case.call(base_url=urls[socket], timeout=PATIENCE, headers=headers)
        seen.add(response.status_code)
        case.validate_response(response, checks=wanted)

    ask()
    if method == "POST" and socket == "status.sock":
        assert seen == {403}
    elif "{" in path:
        assert seen == {404}
    else:
        assert seen & {200, 503}


@pytest.mark.parametrize("key", ["eth1", ETH1.mac, "eni-1", "10.0.2.11"])
def test_an_interface_that_there_is_has_its_schema(urls: dict[str, str], key: str) -> None:
    case = SCHEMA["/v1/interfaces/{key}"]["GET"].Case(path_parameters={"key": key})
    response = case.call(base_url=urls["status.sock"], timeout=PATIENCE)
    assert (response.status_code, response.json()["name"]) == (200, "eth1")
    case.validate_response(response, checks=CHECKS)
