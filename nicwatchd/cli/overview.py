"""The status of the whole host: one line for each ENI, then only what needs a word."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from nicwatchd.cli.judgement import Document, is_judged, works
from nicwatchd.cli.layout import (
    GAP,
    Column,
    Paint,
    duration,
    line_of,
    pad,
    short_id,
    span,
    table,
    width,
    wrap,
    wrap_remedy,
)
from nicwatchd.cli.words import (
    COLOUR_OF,
    asked_text,
    condition,
    imds_text,
    is_broken,
    items_text,
    told_causes,
    worth_a_word,
)

RELEASED: Final = (
    "nicwatchd leaves this host alone, including interfaces that are attached later; "
    "to have it managed again: sudo nicwatchd reconcile"
)
COLUMNS: Final = (
    Column("LINK", 10),
    Column("ENI", 11, short_id),
    Column("STATE"),
    Column("FOR"),
    Column("IPV4", 15),
    Column("IPV6", 16),
)
STATE_COLUMN: Final = 2
WIDEST_LABEL: Final = 17  # a link's name of 15 bytes, as most are; a longer one has its own line
INDENT: Final = 6  # at least
LIST_AT_MOST: Final = 6  # names in one line; the rest is counted


def overview(document: Document, now: float, paint: Paint) -> Iterator[str]:
    """The lines for people. `document` is as served at /v1/status, or from the journal."""
    interfaces = document["interfaces"]
    yield from headline(document, now, paint)
    yield from _of_the_host(document, now)
    if interfaces:
        yield ""
        yield from _table(interfaces, now, paint)
    sections = [*(_words(each) for each in interfaces), _left_alone(interfaces)]
    sections.append(_unlinked(document, now))
    words = [line for section in sections for line in section]
    yield from ["", *words] if words else []


def headline(document: Document, now: float, paint: Paint) -> Iterator[str]:
    """The first line: the version, how many interfaces work, IMDS and when it was asked."""
    judged = [each for each in document["interfaces"] if is_judged(each)]
    count = sum(map(works, judged))
    parts = [f"nicwatchd {document['version']}" if "version" in document else "nicwatchd"]
    if document.get("idle"):
        parts.append("idle")
    elif judged:
        verb = "works" if len(judged) == 1 else "work"
        things = "interface" if len(judged) == 1 else "interfaces"
        text = f"{count} of {len(judged)} {things} {verb}"
        parts.append(paint(text, "good" if count == len(judged) else "bad"))
    elif document["interfaces"]:
        parts.append("all interfaces are left alone")
    else:
        parts.append("no EC2 network interfaces on this host")
    imds = document.get("imds")
    if imds and imds["state"] in ("ok", "unasked"):
        asked = f", {asked_text(imds, now)}" if judged and imds.get("asked") else ""
        parts.append(f"IMDS ok{asked}" if imds["state"] == "ok" else "IMDS not asked yet")
    yield "   ".join(parts)


def _of_the_host(document: Document, now: float) -> Iterator[str]:
    """What concerns the whole host: the daemon's problems come first."""
    problems = document.get("problems", [])
    for problem in problems:
        yield from wrap(problem, "problem: ")
    if all(map(works, document["interfaces"])):
        for text in document.get("unready", []):  # of no interface
            if text not in problems:
                yield from wrap(text, "not ready: ")
    if document.get("idle"):
        yield from wrap(document["idle"], "idle: ")
    if document.get("released"):
        yield from wrap(RELEASED, "released: ")
    imds = document.get("imds")
    if imds and (text := imds_text(imds, now)):
        yield from wrap(text, "IMDS is ")
        if imds["state"] not in ("ok", "unasked"):
            yield "Why: nicwatchd doctor"
    if document.get("container_network"):
        text = f"{document['container_network']} owns this host's secondary interfaces"
        yield from wrap(text, "container network: ")


def _table(interfaces: list[Document], now: float, paint: Paint) -> Iterator[str]:
    rows = [_row(each, now) for each in interfaces]
    heading, *lines = table(COLUMNS, rows)
    yield line_of(heading)
    for interface, cells in zip(interfaces, lines, strict=True):
        cells[STATE_COLUMN] = paint(cells[STATE_COLUMN], COLOUR_OF.get(condition(interface), ""))
        yield line_of(cells)


def _row(interface: Document, now: float) -> list[str]:
    parts = [interface.get("ipv4"), interface.get("ipv6")]
    since = [part["health_since"] for part in parts if part and part.get("health_since")]
    began = max(since, default=interface["since"])
    cells = [items_text(interface, part) for part in parts]
    name = interface.get("eni") or interface["mac"]
    return [interface["name"], name, condition(interface), span(now - began), *cells]


def _words(interface: Document) -> Iterator[str]:
    """What one interface needs a word for: what does not work and why, and notes of trouble."""
    name = interface["name"]
    indent = " " * min(WIDEST_LABEL, max(width(name) + len(GAP), INDENT))
    label = pad(name, len(indent))
    for cause in (*told_causes(interface), *worth_a_word(interface)):
        if width(label) > len(indent):  # a name of escapes
            yield from wrap(name)
            label = indent
        yield from wrap(cause.text, label, indent)
        label = indent
        if cause.remedy:
            yield from wrap_remedy(cause.remedy, f"{indent}Mend: ", f"{indent}      ")
    if is_broken(interface):
        yield from wrap(f"Why: nicwatchd explain {name}", label, indent)


def _left_alone(interfaces: list[Document]) -> Iterator[str]:
    """The interfaces that are left alone, by the reason: there may be dozens of one."""
    by_reason: dict[str, list[str]] = {}
    for each in interfaces:
        if not is_judged(each) and not each.get("primary"):
            for reason in each["reasons"]:
                if reason["code"] != "primary":
                    by_reason.setdefault(reason["text"], []).append(each["name"])
    for text, names in by_reason.items():
        yield from wrap(f"{names_text(names)}: left alone: {text}", "", "      ")


def names_text(names: Iterable[str]) -> str:
    """Names of interfaces, in measure."""
    every = list(names)
    more = len(every) - LIST_AT_MOST
    shown = every if more <= 1 else [*every[:LIST_AT_MOST], f"{more} more"]
    return ", ".join(shown)


def no_interface(wanted: str, document: Document) -> str:
    """There is no such interface in the document; which there are."""
    names = names_text(each["name"] for each in document["interfaces"]) or "none"
    return f"no interface {wanted!r}; there are: {names}"


def _unlinked(document: Document, now: float) -> Iterator[str]:
    """The ENIs of which this host has no link, and what /sys tells of such devices."""
    for each in document.get("unlinked", []):
        was = f" (was {each['name']})" if each["name"] else ""
        ids = " ".join(filter(None, (each["mac"], each["eni"])))
        begin = f"no link{was} for {duration(now - each['since'])}: {ids}"
        yield from wrap(begin, "", "      ")
        yield from wrap(f"{_why_unlinked(document.get('devices', []))}.", "      ")
        if each["remembered"]:
            text = "What is known of it is kept, so it is served at once when its link is back."
            yield from wrap(text, "      ")


def _why_unlinked(devices: list[Document]) -> str:
    text = "IMDS lists it, and this host has no link with its MAC"
    if not devices:
        return f"{text}; nor is there an Amazon network device without a link"
    names = ", ".join(f"{d['address']} ({d['driver'] or 'no driver'})" for d in devices)
    if len(devices) == 1:
        return f"{text}; the one Amazon network device without a link is {names}"
    return f"{text}; it may be one of {len(devices)} Amazon network devices without a link: {names}"
