"""`nicwatchd explain INTERFACE`: why it is in its state, from which facts, and what to do."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

from nicwatchd.cli.client import DaemonError, ask
from nicwatchd.cli.depth import paragraph
from nicwatchd.cli.judgement import FAMILIES, WORKING, Document, find, health, works
from nicwatchd.cli.layout import Paint, duration, pad, wrap, wrap_remedy
from nicwatchd.cli.output import NO_DAEMON, NO_INTERFACE, NOT_WELL, OK, fail, say
from nicwatchd.cli.overview import no_interface
from nicwatchd.cli.words import COLOUR_OF, HOST_SIDE, Cause, condition, state_text
from nicwatchd.core.remedies import DOCTOR

LABEL: Final = 9  # columns of the labels of facts
KEYS: Final = 25  # ... of IMDS's keys
VALUES: Final = 6  # of a list that are shown
COMMANDS: Final = 6  # of the changes that are still to be made
FACTS: Final = {
    "lease": "DHCP",
    "on-link": "on-link",
    "router-advertisement": "router advertisement",
    "permanent": "permanent",
}
NOT_ASKED: Final = "not asked yet"  # as the daemon says it
VERDICTS: Final = {
    "ready": "its facts are complete",
    "waiting": "its facts are not complete",
    "absent": "the ENI does not have it",
    "off": "it is off",
}
LOOKS: Final = {
    "news": "something happened",
    "deadline": "a time runs out",
    "retry": "the kernel refused something",
    "udev": "udev is not done with a link",
    "kernel": "the kernel did not answer",
    "heartbeat": "it looks every 5 s in any case",
    "poll": "IMDS is asked",
    "start": "it has just started",
}


def explain_interface(arguments: argparse.Namespace) -> int:
    """Print the account of one interface; the exit code is by that interface."""
    try:
        account = _account(arguments)
    except DaemonError as error:
        if error.code == NO_DAEMON:
            fail(str(error), NO_DAEMON)
            text = "nicwatchd plan shows what it would do; nicwatchd status, what the journal knows"
            return fail(text, NO_DAEMON)
        return fail(str(error), error.code)
    if _asks_for_doctor(account["interface"]):
        account |= _examined(arguments)
    if arguments.json:
        say(json.dumps(account, indent=2))
    else:
        say("\n".join(lines(account, time.time(), Paint())))
    return OK if works(account["interface"]) else NOT_WELL


def _account(arguments: argparse.Namespace) -> Document:
    """The daemon's account; of an older daemon, made from its status. Raises DaemonError."""
    directory, target = arguments.runtime_directory, arguments.interface
    try:
        account: Document = ask(directory, "GET", f"/v1/explain/{quote(target, safe='')}")
    except DaemonError as error:
        if error.code != NO_INTERFACE:
            raise
        account = {}
    if "interface" in account:
        return account
    status: Document = ask(directory, "GET", "/v1/status")
    found = find(status["interfaces"], target)
    if found is None:
        raise DaemonError(no_interface(target, status), NO_INTERFACE)
    return {"interface": found}


def _asks_for_doctor(interface: Document) -> bool:
    """Whether something is amiss that the daemon cannot find out: it may not read the firewall."""
    parts = [part for key in FAMILIES if (part := interface.get(key))]
    return any(cause.get("remedy") == DOCTOR for part in parts for cause in part.get("causes", ()))


def _examined(arguments: argparse.Namespace) -> Document:
    """What the checks of IMDS find, as `nicwatchd doctor` tells it, and what they could not see."""
    from nicwatchd.cli.diagnosis.checks import OF_IMDS, examine
    from nicwatchd.cli.doctor import as_json, facts_of  # they take longer than all the rest
    from nicwatchd.core.port import KernelError

    try:
        facts = facts_of(arguments)
    except KernelError as error:
        return {"findings": [], "not_looked_at": [str(error)]}
    findings, fine = examine(facts, OF_IMDS)
    said = as_json(facts, findings, fine)
    return {key: said[key] for key in ("findings", "not_looked_at")}


def lines(account: Document, now: float, paint: Paint) -> Iterator[str]:
    """For people."""
    interface = account["interface"]
    word = condition(interface)
    eni = interface.get("eni") or interface["mac"]
    begin = f"{interface['name']}  {eni}  "
    since = duration(now - interface["since"])
    state = state_text(interface)
    state = f"its state is {state}" if state == interface["state"] else state
    first, *rest = wrap(f"{word}; {state}, for {since}", begin, "  ")
    yield first.replace(word, paint(word, COLOUR_OF.get(word, "")), 1)
    yield from rest
    yield from _treatment(account)
    for key, label in FAMILIES.items():
        yield ""
        yield from _family(label, interface.get(key), _asked(account, key), now)
    yield from _notes(interface)
    yield ""
    yield from _found(account)
    yield from _next(account, now)
    yield from _to_do(account)


def _treatment(account: Document) -> Iterator[str]:
    if "treatment" in account:
        yield from wrap(f"{account['treatment']}: {account['treatment_why']}", "Treated:  ")
    if account.get("settings"):
        yield from wrap(account["settings"], "Settings: ")


# --- facts ---------------------------------------------------------------------------------------


def _asked(account: Document, family: str) -> Document | None:
    """The facts of a family. No key of an ENI that IMDS does not list is asked for: say that."""
    facts: Document | None = account.get(family)
    if not facts or not _is_unlisted(account["interface"]):
        return facts
    unlisted = {"why": "IMDS does not list the MAC", "since": None}
    keys = [key | unlisted if key["why"] == NOT_ASKED else key for key in facts["keys"]]
    return facts | {"keys": keys}


def _is_unlisted(interface: Document) -> bool:
    """Whether IMDS answers, and does not list its MAC."""
    return any(reason["code"] == "mac-unlisted" for reason in interface["reasons"])


def _family(label: str, part: Document | None, facts: Document | None, now: float) -> Iterator[str]:
    """One family: its health and verdict, the facts from IMDS and the kernel, what is missing."""
    yield from wrap(_verdict(part, now), f"{label}: ")
    for number, key in enumerate((facts or {}).get("keys", ())):
        begin = pad("  IMDS" if number == 0 else "", LABEL) + pad(key["key"], KEYS)
        yield from wrap(key_text(key, now), begin)
    for number, fact in enumerate((facts or {}).get("kernel", ())):
        begin = pad("  kernel" if number == 0 else "", LABEL)
        begin += pad(FACTS.get(fact["fact"], fact["fact"]), KEYS)
        values = f"{_some(fact['values'])}: " if fact["values"] else ""
        yield from wrap(f"{values}{fact['proves']}", begin)
    told, remedies = set(), {""}
    for kind, key_name in (("cause", "causes"), ("missing", "reasons")):
        for each in (part or {}).get(key_name, ()):
            cause = Cause(each["text"], each.get("remedy", "").replace(DOCTOR, ""))
            if cause.text not in told and (not cause.remedy or cause.remedy not in remedies):
                yield from paragraph(kind, cause)
            told.add(cause.text)
            remedies.add(cause.remedy)


def _verdict(part: Document | None, now: float) -> str:
    if not part:
        return "not judged"
    verdict = VERDICTS.get(part["verdict"], str(part["verdict"]))
    told = part.get("health")
    if told is None:
        return verdict
    since = part.get("health_since")
    text = told.replace("-", " ") + (f" for {duration(now - since)}" if since else "")
    return f"{text}; {verdict}" + (f"; {_silence(part)}" if part.get("silent") else "")


def _silence(part: Document) -> str:
    silent = part["silent"]
    return f"{_some(silent)} {'answers' if len(silent) == 1 else 'answer'} nobody"


def key_text(key: Document, now: float) -> str:
    """One key: its value, none, or why it is unknown; since when."""
    age = "" if key["since"] is None else f" (for {duration(now - key['since'])})"
    if key["answer"] == "absent":
        return f"none{age}"
    if key["answer"] == "unknown":
        why = key["why"].removeprefix(f"{key['key']}: ")
        return f"unknown: {why}{age}"
    kept = key["unconfirmed"]
    lacking = f"; the last reading lacked {_some(kept)}, kept for now" if kept else ""
    return f"{_some(key['values'])}{lacking}{age}"


def _some(values: list[str]) -> str:
    """Values, in measure."""
    shown = values[:VALUES]
    more = len(values) - len(shown)
    return ", ".join([*shown, f"and {more} more"] if more else shown)


def _notes(interface: Document) -> Iterator[str]:
    """What is worth knowing of the interface, but for what was told as a cause."""
    parts = [part for key in FAMILIES if (part := interface.get(key))]
    told = {cause["text"] for part in parts for cause in part.get("causes", ())}
    notes = [note for note in interface["notes"] if note["text"] not in told]
    yield from [""] if notes else []
    for note in notes:
        yield from paragraph("note", Cause(note["text"], note.get("remedy", "")))


# --- what comes next -----------------------------------------------------------------------------


def _found(account: Document) -> Iterator[str]:
    """What was found beside the daemon's account."""
    if "findings" not in account:
        return
    findings = account["findings"]
    for finding in findings:
        yield from wrap(finding["text"], "Found:    ")
        for number, line in enumerate(finding["mend"].splitlines()):
            yield from wrap_remedy(line, "          " if number else "  mend:   ")
    if not findings:
        yield from wrap("IMDS answers this command, and no firewall is in its way.", "Found:    ")
    firewall = [text for text in account["not_looked_at"] if "firewall" in text]
    if firewall:
        yield from wrap(f"Not looked at: {'; '.join(firewall)}.", "          ")


def _next(account: Document, now: float) -> Iterator[str]:
    if "next_look" not in account:
        return
    asked, again = account["asked"], account["next_question"]
    told = "never asked about it yet" if asked is None else f"asked {duration(now - asked)} ago"
    when = "not asked again" if again is None else f"next question in {duration(again - now)}"
    listed = account["listed_since"]
    unlisted = _is_unlisted(account["interface"])
    first = "does not list its MAC" if unlisted else "has told nothing of its MAC"
    first = first if listed is None else f"lists it for {duration(now - listed)}"
    yield from wrap(f"{first}; {told}, {when}", "IMDS:     ")
    why = LOOKS.get(account["next_look_why"], account["next_look_why"])
    look = f"nicwatchd looks again in {duration(account['next_look'] - now)}: {why}"
    yield from wrap(look, "Next:     ")
    yield from wrap(_kernel(account), "Kernel:   ")
    for command in account["undone"][:COMMANDS]:
        yield from wrap(command, "  + ", "      ")
    if len(account["undone"]) > COMMANDS:
        yield f"  and {len(account['undone']) - COMMANDS} more"
    for each in account["throttled"]:
        until = each["until"]
        when = "with what it needs" if until is None else f"in {duration(until - now)}"
        yield from wrap(f"{each['command']}: {when}; others keep undoing it", "  wait: ")


def _kernel(account: Document) -> str:
    text = f"table {account['table']}: {account['routes']} routes, {account['rules']} rules"
    if account["undone"]:
        return f"{text}; {len(account['undone'])} changes are still to be made:"
    return f"{text}, all in place" if account["rules"] else f"{text}: nothing is needed"


def _to_do(account: Document) -> Iterator[str]:
    yield from wrap(_task(account), "To do:    ")


def _task(account: Document) -> str:
    interface = account["interface"]
    mended = _has_remedy(account)
    if health(interface) == WORKING:
        begin = "See `mend` above." if mended else "Nothing."
        return f"{begin} If it does not answer all the same: {HOST_SIDE}."
    if interface["state"] == "ignored" and health(interface) is None:
        remedies = [reason.get("remedy", "") for reason in interface["reasons"]]
        return next(filter(None, remedies), "") or "Nothing: it is left alone."
    if interface.get("waits"):
        begin = "See `mend` above; then it" if mended else "Nothing: it waits, and"
        return f"{begin} goes on by itself."
    return "See `mend` above." if mended else f"nicwatchd status {interface['name']}"


def _has_remedy(account: Document) -> bool:
    """Whether something that mends it was told."""
    interface = account["interface"]
    parts = [part for key in FAMILIES if (part := interface.get(key))]
    told = [each for part in parts for key in ("causes", "reasons") for each in part.get(key, ())]
    remedies = [each.get("remedy", "").replace(DOCTOR, "") for each in (*interface["notes"], *told)]
    return any(remedies) or bool(account.get("findings"))
