"""The status of one interface in depth: what it is, what it has, since when, and what is amiss."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from nicwatchd.cli.judgement import FAMILIES, WORKING, Document, families, health, is_judged
from nicwatchd.cli.layout import Paint, duration, pad, wrap, wrap_remedy
from nicwatchd.cli.words import (
    COLOUR_OF,
    HOST_SIDE,
    Cause,
    condition,
    lacks,
    merged_causes,
    sentence,
    state_text,
)

LABELS: Final = 11  # columns of the labels
# By their names in JSON; people read the words of the history, too.
CONDITIONS: Final = {"overdue": "overdue", "shadowed": "bypassed", "fought_over": "fought over"}
DEPRECATED: Final = '"deprecated" in `ip addr`: no default source'


def depth(interface: Document, now: float, paint: Paint) -> Iterator[str]:
    """The lines for people."""
    word = condition(interface)
    eni = interface.get("eni") or "(ENI id not known yet)"
    begin = f"{interface['name']}  {eni}  "
    head = wrap(f"{word}{_since(interface, now)}", begin, "  ")
    yield head[0].replace(word, paint(word, COLOUR_OF.get(word, "")), 1)
    yield from head[1:]
    yield from field("Interface", _identity(interface))
    for key, label in FAMILIES.items():
        yield from field(label, _family(interface.get(key), interface, now))
    yield from field("Routing", _routing(interface))
    if interface.get("section"):
        yield from field("Settings", interface["section"])
    yield from _amiss(interface)


def field(label: str, text: str) -> list[str]:
    """One field with its label before it."""
    return wrap(text, f"{label:>{LABELS}}: ", " " * (LABELS + 2)) if text else []


def _since(interface: Document, now: float) -> str:
    parts = [part for key in FAMILIES if (part := interface.get(key))]
    began = [part["health_since"] for part in parts if part.get("health_since")]
    text = f" for {duration(now - max(began, default=interface['since']))}"
    after = [part["worked_after"] for part in parts if part.get("worked_after") is not None]
    if health(interface) == WORKING and after:
        text += f"; it worked after {duration(max(after))}"
    return f", working{text}" if condition(interface) == "primary" else text


def _identity(interface: Document) -> str:
    number, card = interface.get("device_number"), interface.get("network_card")
    parts = [
        interface["mac"],
        interface.get("subnet_id"),
        None if number is None else f"device {number}",
        None if not card else f"network card {card}",
        interface.get("driver"),
        None if interface.get("link_up", True) else "LINK DOWN",
    ]
    return ", ".join(part for part in parts if part)


def _family(part: Document | None, interface: Document, now: float) -> str:
    """What a family has, and whether it works."""
    if not part:
        return ""
    if none := lacks(part):
        return f"none: {none}"
    own, added = part["addresses"], set(part["added"])
    silent = part.get("silent", [])
    every = list(dict.fromkeys([*own, *silent, *part.get("answering", ())]))
    marks = list(runs(every, added, set(silent)))
    marks += [f"{prefix} (prefix)" for prefix in part["prefixes"]]
    state = (part.get("health") or part["verdict"]).replace("-", " ")
    since = part.get("health_since")
    begin = f"{state} for {duration(now - since)}" if since else state
    return f"{begin}: {', '.join(marks) or 'no address yet'}{_deprecated(part, interface)}"


def _deprecated(part: Document, interface: Document) -> str:
    """Which IPv6 addresses `ip addr` shows as deprecated: all that we added, but the ENI's first.

    The first is, too, where the ENI has others that we did not add, and on the primary.
    """
    added, every = part["added"], part["addresses"]
    if not any(":" in ip for ip in added):
        return ""
    if interface.get("primary") or set(every) - set(added):
        return f" [added ones are {DEPRECATED}]"
    return f" [all but the first are {DEPRECATED}]" if every[1:] else ""


def runs(every: list[str], added: Collection[str], silent: Collection[str]) -> Iterator[str]:
    """Addresses with what is to be said of them; those that follow each other as a range."""
    from ipaddress import ip_address

    def kind(ip: str) -> tuple[bool, bool]:
        return ip in silent, ip in added

    run: list[str] = []
    for ip in [*every, ""]:
        goes_on = run and ip and kind(ip) == kind(run[0])
        if goes_on and int(ip_address(ip)) == int(ip_address(run[-1])) + 1:
            run.append(ip)
            continue
        if run:
            yield _run(run, *kind(run[0]))
        run = [ip]


def _run(run: list[str], silent: bool, added: bool) -> str:  # noqa: FBT001 (both are one thing)
    words = [word for word, holds in (("SILENT", silent), ("added", added)) if holds]
    if len(run) == 1:
        return f"{run[0]} ({', '.join(words)})" if words else run[0]
    dot = "." if "." in run[0] else ":"
    last = f"{dot}{run[-1].rpartition(dot)[2]}"
    return f"{run[0]} to {last} ({', '.join([str(len(run)), *words])})"


def _routing(interface: Document) -> str:
    is_there = interface["state"] in ("validated", "applied") or interface.get("protected")
    marks = [word for name, word in CONDITIONS.items() if interface.get(name)]
    conditions = f" ({', '.join(marks)})" if marks else ""
    table = f"; its table is {interface['table']}" if is_there else ""
    return f"{state_text(interface)}{conditions}{table}"


def _amiss(interface: Document) -> Iterator[str]:
    """Causes with remedies, what is waited for, and all notes."""
    told = {c["text"] for part in families(interface).values() for c in part.get("causes", ())}
    for each in merged_causes(interface):
        text = f"{' and '.join(each.families)}: {each.text}"
        yield from paragraph("cause", Cause(text, each.remedy))
    for kind, key in (("reason", "reasons"), ("note", "notes")):
        for each in interface[key]:
            if each["text"] not in told:
                told.add(each["text"])
                yield from paragraph(kind, Cause(each["text"], each.get("remedy", "")))
    if health(interface) == WORKING:
        text = f"If it does not answer all the same: {HOST_SIDE}."
        yield from wrap(text, "  ", "  ")
    elif is_judged(interface):
        yield from wrap(f"Why: nicwatchd explain {interface['name']}", "  ", "  ")


def paragraph(kind: str, cause: Cause) -> Iterator[str]:
    """A text of a kind, with what mends it."""
    label = pad(f"  {kind}:", LABELS + 2)
    yield from wrap(sentence(cause.text), label)
    if cause.remedy:
        yield from wrap_remedy(cause.remedy, pad("    mend:", LABELS + 2))
