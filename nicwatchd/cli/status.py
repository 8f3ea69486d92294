"""`nicwatchd status` and `nicwatchd reconcile`."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, Final

from nicwatchd.cli.client import ACT_TIMEOUT, DaemonError, ask, query
from nicwatchd.cli.output import NO_INTERFACE, NOT_WELL, OK, fail, say

SETTLED: Final = ("applied", "ignored")
MARKS: Final = ("overdue", "shadowed", "fought_over")  # conditions beside the state
RELEASED: Final = (
    "released: nicwatchd leaves this host alone, including interfaces that are attached later; "
    "to have it managed again, run `nicwatchd reconcile`"
)


def status(arguments: argparse.Namespace) -> int:
    """Print the states; 0 if every interface is settled and the daemon has no problems."""
    try:
        document = _from_journal() if arguments.journal else _from_daemon(arguments)
    except DaemonError as error:
        return fail(str(error), error.code)
    if arguments.interface:
        wanted = arguments.interface.lower()
        found = [
            i for i in document["interfaces"] if wanted in (i["name"].lower(), i["mac"], i["eni"])
        ]
        if not found:
            return fail(
                f"no interface {arguments.interface!r}; there are: {_names(document)}", NO_INTERFACE
            )
        document["interfaces"] = found
        document.pop("unlinked", None)
    return _print(document, as_json=arguments.json)


def reconcile(arguments: argparse.Namespace) -> int:
    """Have the daemon read everything again, and print the states afterwards."""
    try:
        path = f"/v1/reconcile{query(arguments.interface)}"
        document = ask(arguments.runtime_directory, "POST", path, ACT_TIMEOUT)
    except DaemonError as error:
        return fail(str(error), error.code)
    return _print(document, as_json=arguments.json)


def _from_daemon(arguments: argparse.Namespace) -> dict[str, Any]:
    document: dict[str, Any] = ask(arguments.runtime_directory, "GET", "/v1/status")
    return document


def _from_journal() -> dict[str, Any]:
    from nicwatchd.service.journal import JournalUnreadableError, read_statuses

    try:
        statuses = read_statuses()
    except JournalUnreadableError as error:
        raise DaemonError(str(error)) from None
    return {"source": "journal", "interfaces": [s.model_dump(mode="json") for s in statuses]}


def _names(document: dict[str, Any]) -> str:
    return ", ".join(interface["name"] for interface in document["interfaces"]) or "none"


def _print(document: dict[str, Any], *, as_json: bool) -> int:
    text = json.dumps(document, indent=2) if as_json else "\n".join(_lines(document, time.time()))
    say(text)
    settled = all(i["state"] in SETTLED and not i["fought_over"] for i in document["interfaces"])
    return OK if settled and not document.get("problems") else NOT_WELL


def _lines(document: dict[str, Any], now: float) -> list[str]:
    """The status for people: first the host, then the interfaces."""
    lines = []
    if document.get("idle"):
        lines.append(f"idle: {document['idle']}")
    if document.get("released"):
        lines.append(RELEASED)
    lines += [f"problem: {problem}" for problem in document.get("problems", [])]
    imds = document.get("imds")
    if imds and (imds["state"] not in ("ok", "unasked") or imds["detail"]):
        lines.append(f"IMDS is {imds['state']}" + (f": {imds['detail']}" if imds["detail"] else ""))
    if document.get("container_network"):
        lines.append(f"{document['container_network']} owns this host's secondary interfaces")
    for interface in document["interfaces"]:
        lines += _interface_lines(interface, now)
    lines += _unlinked_lines(document, now)
    return lines or ["no EC2 network interfaces on this host"]


def _interface_lines(interface: dict[str, Any], now: float) -> list[str]:
    marks = [m.replace("_", " ") for m in MARKS if interface[m]]
    marks += [] if interface["link_up"] else ["link down"]
    state = interface["state"] + (f" ({', '.join(marks)})" if marks else "")
    ids = " ".join(filter(None, (interface["mac"], interface["eni"])))
    lines = [f"{interface['name']}  {state}  for {_duration(now - interface['since'])}  {ids}"]
    lines += [f"    reason: {reason['text']}" for reason in interface["reasons"]]
    for family in ("ipv4", "ipv6"):
        part = interface[family]
        items = [*part["addresses"], *part["prefixes"]] if part else []
        if items:
            lines.append(f"    {family}: {', '.join(items)}  (table {interface['table']})")
    lines += [f"    note: {note['text']}" for note in interface["notes"]]
    return lines


def _unlinked_lines(document: dict[str, Any], now: float) -> list[str]:
    """The ENIs of which this host has no link, and what /sys tells of such devices."""
    lines = []
    for each in document.get("unlinked", []):
        was = f" (was {each['name']})" if each["name"] else ""
        ids = " ".join(filter(None, (each["mac"], each["eni"])))
        lines.append(f"no link{was}  for {_duration(now - each['since'])}  {ids}")
        lines.append(f"    reason: {_why_unlinked(document['devices'])}")
        if each["remembered"]:
            text = "what is known of it is kept, so it is served at once when its link is back"
            lines.append(f"    note: {text}")
    return lines


def _why_unlinked(devices: list[dict[str, Any]]) -> str:
    text = "IMDS lists it, and this host has no link with its MAC"
    if not devices:
        return f"{text}; nor is there an Amazon network device without a link"
    names = ", ".join(f"{d['address']} ({d['driver'] or 'no driver'})" for d in devices)
    if len(devices) == 1:
        return f"{text}; the one Amazon network device without a link is {names}"
    return f"{text}; it may be one of {len(devices)} Amazon network devices without a link: {names}"


def _duration(seconds: float) -> str:
    """A duration for people, in one unit."""
    rounded = max(0, round(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if rounded >= size:
            return f"{rounded // size} {unit}"
    return f"{rounded} s"
