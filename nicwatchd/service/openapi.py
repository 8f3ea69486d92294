"""`GET /v1/openapi.json`: the sockets' interface as OpenAPI 3.1.

Made from the table of requests and the models of the answers, so it cannot say anything else than
these. That takes 20 ms, so the daemon serves what was made: openapi.json, which a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from nicwatchd.service.answers import ErrorAnswer
from nicwatchd.service.routes import JSON, ROUTES, TEXT, Parameter, Route

REFERENCE: Final = "#/components/schemas/{model}"
ABOUT: Final = (
    "nicwatchd serves this over HTTP/1.1 on two Unix sockets: /run/nicwatchd/nicwatchd.sock, and "
    "/run/nicwatchd/status.sock, which answers any POST with 403. Within v1, keys are added only: "
    "none is removed, and none changes its meaning."
)


def document() -> dict[str, Any]:
    """The whole document."""
    models = {route.answer for route in ROUTES if route.answer not in (None, dict)} | {ErrorAnswer}
    ordered = sorted(models, key=lambda model: str(model.__name__))
    _, schemas = models_json_schema(
        [(model, "serialization") for model in ordered], ref_template=REFERENCE
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "nicwatchd", "version": "1", "description": ABOUT},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _operation(route: Route) -> dict[str, Any]:
    answers = {"200": _response(route.summary, route)}
    if route.fails:
        answers["503"] = _response(route.fails, route)
    for status, text in sorted(route.errors.items()):
        answers[str(status)] = {
            "description": text,
            "content": {JSON: {"schema": _reference(ErrorAnswer)}},
        }
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    if route.parameters:
        operation["parameters"] = _parameters(route.parameters)
    return {**operation, "responses": answers}


def _response(text: str, route: Route) -> dict[str, Any]:
    return {"description": text, "content": {route.media: {"schema": _schema(route)}}}


def _schema(route: Route) -> Mapping[str, Any]:
    if route.media == TEXT or route.answer is None:
        return {"type": "string"}
    if route.answer is dict:
        return {"type": "object"}
    one = _reference(route.answer)
    return {"type": "array", "items": one} if route.many else one


def _reference(model: type) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _parameters(parameters: Iterable[Parameter]) -> list[dict[str, Any]]:
    found = []
    for each in parameters:
        one: dict[str, Any] = {"type": "string"}
        if each.values:
            one["enum"] = list(each.values)
        if each.address:
            one = {"anyOf": [{**one, "format": each_format} for each_format in ("ipv4", "ipv6")]}
        schema = {"type": "array", "items": one} if each.many else one
        entry = {"name": each.name, "in": each.place, "description": each.text, "schema": schema}
        found.append({**entry, "required": each.required})
    return found
