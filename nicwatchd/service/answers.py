"""The answers of the sockets that are not a status, as models: the schema is made from them."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from nicwatchd.core.health import Health
from nicwatchd.core.lifecycle import State
from nicwatchd.service.status import InterfaceStatus, ReasonStatus

FamilyName: TypeAlias = Literal["ipv4", "ipv6"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class ErrorAnswer(_Model):
    """Why a request failed, in one line for people."""

    error: str


class RequestEntry(_Model):
    """One request that the socket answers."""

    method: str
    path: str
    summary: str


class IndexAnswer(_Model):
    """What the socket answers. `read_only`: no POST is allowed here, whoever asks."""

    name: str = "nicwatchd"
    version: str
    read_only: bool
    requests: list[RequestEntry]


class HealthAnswer(_Model):
    """Whether every part of the daemon makes progress; `problems`: what is wrong."""

    status: Literal["ok", "failing"]
    problems: list[str] = []


class NotReady(_Model):
    """One thing that does not work: a family of an interface, or the host (`interface` is null).

    `family` is null where it is not known yet which families the interface has. `waits`: all
    `causes` are expected to end by themselves.
    """

    interface: str | None = None
    eni: str | None = None
    state: State | None = None
    family: FamilyName | None = None
    health: Health | None = None
    waits: bool = False
    causes: list[ReasonStatus] = []


class ReadyAnswer(_Model):
    """Whether all that was asked about works; `waiting` has the lines of `not_ready` for people."""

    status: Literal["ok", "failing"]
    waiting: list[str] = []
    not_ready: list[NotReady] = []


class ReleasedCounts(_Model):
    """How many objects were removed, by kind."""

    rules: int
    routes: int
    addresses: int
    link_groups: int


class RefusedRemoval(_Model):
    """What the kernel refused to remove, as an `ip` command; the daemon tries again."""

    operation: str
    error: str


class ReleasedAnswer(_Model):
    """What a release removed."""

    released: ReleasedCounts
    failed: list[RefusedRemoval] = []


class EventAnswer(InterfaceStatus):
    """One line of /v1/events: the interface as it is now, and what happened to it.

    `type` is `present` in the lines at the beginning. `time`: seconds of the Unix epoch. `previous`
    is the state, or for the type `health` the health, before. `family`: whose health changed.
    `changed`: for the type `changed`, what nicwatchd changed in the kernel: "+9 routes, -1 rule".
    `missed`: how many lines before this one were dropped, since the client reads too slowly.
    """

    type: str = Field(examples=["present", "transition", "fight", "health"])
    time: float
    previous: str | None = None
    cause: ReasonStatus | None = None
    family: FamilyName | None = None
    changed: str | None = None
    missed: int = 0
