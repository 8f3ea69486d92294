"""What the sockets answer, as one table: the handlers, `GET /` and the schema are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from nicwatchd.service.answers import (
    EventAnswer,
    HealthAnswer,
    IndexAnswer,
    ReadyAnswer,
    ReleasedAnswer,
)
from nicwatchd.service.explanation import Explanation
from nicwatchd.service.post_key import HEADER, NAME
from nicwatchd.service.status import HostStatus, InterfaceStatus

JSON: Final = "application/json"
LINES: Final = "application/x-ndjson"
TEXT: Final = "text/plain"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a request: in the query, in the path, or a header."""

    name: str
    text: str
    place: Literal["query", "path", "header"] = "query"
    values: tuple[str, ...] = ()  # empty: any text
    address: bool = False
    many: bool = False

    @property
    def required(self) -> bool:
        """Whether a request without it is refused."""
        return self.place != "query"


@dataclass(frozen=True, slots=True)
class Route:
    """One request. `answer` is the model of its answer, None for text; `errors` by HTTP status."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    summary: str
    answer: type | None
    many: bool = False  # the answer is a list of these
    media: str = JSON
    parameters: tuple[Parameter, ...] = ()
    errors: Mapping[int, str] = field(default_factory=dict)
    fails: str = ""  # the meaning of a 503 with the same model


NO_INTERFACE: Final = {404: "no such interface"}
ACTS: Final = {
    403: "permission denied, or without the key; on the read-only socket always",
    **NO_INTERFACE,
    500: "the kernel did not answer (only where the daemon is idle)",
    504: "not done within 20 s; the daemon continues",
    507: "the request could not be recorded, so nothing was done",
}
ACTS_ON: Final = Parameter(
    "interface", "act on this interface alone: its name, MAC or ENI id; default: the host"
)
KEY: Final = Parameter(
    HEADER, f"the content of /run/nicwatchd/{NAME}, which root can read", place="header"
)

ROUTES: Final = (
    Route("index", "GET", "/", "what there is", IndexAnswer),
    Route(
        "healthz",
        "GET",
        "/healthz",
        "whether every part of the daemon makes progress",
        HealthAnswer,
        fails="a part of the daemon is stuck",
    ),
    Route(
        "readyz",
        "GET",
        "/readyz",
        "whether all interfaces work, or one, or one family",
        ReadyAnswer,
        parameters=(
            Parameter("family", "only this family", values=("ipv4", "ipv6")),
            Parameter(
                "interface", "only this interface: its name, MAC, ENI id, or an address it has"
            ),
        ),
        errors={400: "no such family", **NO_INTERFACE},
        fails="something does not work; `not_ready` says what, why, and what mends it",
    ),
    Route(
        "metrics",
        "GET",
        "/metrics",
        "metrics for Prometheus",
        None,
        media=TEXT,
        parameters=(
            Parameter("process", "0: without those of the daemon's process", values=("0", "1")),
        ),
        errors={400: "neither 0 nor 1"},
    ),
    Route("status", "GET", "/v1/status", "the host with all interfaces", HostStatus),
    Route("interfaces", "GET", "/v1/interfaces", "all interfaces", InterfaceStatus, many=True),
    Route(
        "interface",
        "GET",
        "/v1/interfaces/{key}",
        "one interface",
        InterfaceStatus,
        parameters=(Parameter("key", "its name, MAC, ENI id, or an address it has", place="path"),),
        errors=NO_INTERFACE,
    ),
    Route(
        "explain",
        "GET",
        "/v1/explain/{key}",
        "why an interface is in its state, and from which facts",
        Explanation,
        parameters=(Parameter("key", "its name, MAC, ENI id, or an address it has", place="path"),),
        errors=NO_INTERFACE,
    ),
    Route(
        "events",
        "GET",
        "/v1/events",
        "a line of JSON for each interface as it is now, then one for each thing that happens",
        EventAnswer,
        media=LINES,
        errors={503: "too many event streams are open"},
    ),
    Route("openapi", "GET", "/v1/openapi.json", "this interface as OpenAPI 3.1", dict),
    Route(
        "reconcile",
        "POST",
        "/v1/reconcile",
        "reads kernel and IMDS again, ends releases; answers the status once that is done",
        HostStatus,
        parameters=(
            KEY,
            ACTS_ON,
            Parameter(
                "adopt",
                "an address whose manager ends: it is put back when the manager takes it away",
                address=True,
                many=True,
            ),
        ),
        errors={400: "`adopt` is not an address", **ACTS},
    ),
    Route(
        "release",
        "POST",
        "/v1/release",
        "removes everything nicwatchd configured, for good; answers what was removed",
        ReleasedAnswer,
        parameters=(KEY, ACTS_ON),
        errors=ACTS,
    ),
)
