"""The words for the health of an interface: its condition, its addresses, what is amiss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from nicwatchd.cli.judgement import NOT_HAD, WORKING, Document, families, health, is_judged
from nicwatchd.cli.layout import duration

HOST_SIDE: Final = "routes, rules and sources are right: look at security groups and network ACLs"
# What is worth knowing where one looks at an interface in depth, and no trouble.
QUIET: Final = frozenset(
    {
        *("no-sign-of-ipv4", "no-sign-of-ipv6", "no-ipv4-assigned", "no-ipv6-assigned"),
        *("ipv6-off", "off-by-settings", "lives-elsewhere", "left-alone", "multus", "no-eni"),
        *("odd-mtu", "primary-port", "primary-left", "egress-elsewhere"),
    }
)
CAUSES_AT_MOST: Final = 3  # that the overview tells of one interface
COLOUR_OF: Final = {
    "working": "good",
    "primary": "good",
    "applied": "good",
    "waiting": "soon",
    "starting": "soon",
    "OVERDUE": "bad",
    "DEGRADED": "bad",
    "NOT WORKING": "bad",
    "FOUGHT OVER": "bad",
}


class Cause(NamedTuple):
    """Something that is amiss, and what mends it, if that is known."""

    text: str
    remedy: str = ""


# Causes that mostly end by themselves, and whose remedies are for when they do not.
PASSING: Final = frozenset({"mac-unlisted", "undecided-ipv4", "undecided-ipv6"})


def condition(interface: Document) -> str:
    """The state in one word or two. Capitals mean that somebody has to look."""
    told = health(interface)
    if told is None:
        return _by_state(interface)
    if told == WORKING:
        return "primary" if interface.get("primary") else "working"
    if interface.get("waits"):
        return "OVERDUE" if interface.get("overdue") else "waiting"
    return "DEGRADED" if told == "degraded" else "NOT WORKING"


def _by_state(interface: Document) -> str:
    """The same where no health is told: it is left alone, or the daemon is older."""
    state, codes = interface["state"], {reason["code"] for reason in interface["reasons"]}
    if interface.get("fought_over"):
        return "FOUGHT OVER"
    if state == "ignored":
        named = [word for word in ("primary", "released") if word in codes]
        return named[0] if named else "left alone"
    if interface.get("overdue"):
        return "OVERDUE"
    return {"applied": "applied", "detected": "starting"}.get(state, "waiting")


def state_text(interface: Document) -> str:
    """How far nicwatchd's own work on it has got. Of the primary it does a part."""
    state = str(interface["state"])
    if not interface.get("primary") or state != "ignored":
        return state
    is_protected = interface.get("protected")
    return f"its link is left alone{', its addresses are protected' if is_protected else ''}"


def items_text(interface: Document, part: Document | None) -> str:
    """What a family has: the first address and how many more, or what is amiss with them."""
    if not part:
        return "-"
    told = part.get("health")
    if told not in (None, WORKING) and not interface.get("link_up", True):
        return "link down"
    silent, answering = part.get("silent", []), part.get("answering", [])
    items: list[str] = [*(answering or part["addresses"]), *part["prefixes"]]
    if told not in (None, WORKING) and silent:
        return f"{len(answering)} of {len(answering) + len(silent)} answer"
    if items and told != "not-working":
        return items[0] + (f" +{len(items) - 1}" if items[1:] else "")
    if told is None:
        return "missing" if part["verdict"] == "waiting" else "-"
    return "missing"


def told_causes(interface: Document) -> Iterator[Cause]:
    """Why it does not work, or not yet; each cause once, with the families that it concerns.

    While only time is missing there is nothing to mend: the view in depth says what may be.
    """
    told = health(interface)
    if told is None:
        yield from _open_reasons(interface)
    if told in (None, WORKING):
        return
    parts = families(interface)
    works = [label for label, part in parts.items() if part.get("health") == WORKING]
    causes = merged_causes(interface)
    told_now = causes[:CAUSES_AT_MOST] if len(causes) > CAUSES_AT_MOST + 1 else causes
    for each in told_now:
        waits = all(parts[label].get("waits") for label in each.families)
        whole = f"waits for {' and '.join(each.families)}: {each.text}" if waits else each.text
        also = f" {' and '.join(works)} works." if works and each is told_now[-1] else ""
        yield Cause(
            f"{sentence(whole)}{also}", "" if waits and each.code in PASSING else each.remedy
        )
    if left := len(causes) - len(told_now):
        yield Cause(f"And {left} more causes: nicwatchd status {interface['name']}.")


def is_broken(interface: Document) -> bool:
    """Whether something does not work, and will not by itself."""
    return health(interface) not in (None, WORKING) and not interface.get("waits")


class Merged(NamedTuple):
    """A cause, for each of the families that it concerns."""

    families: list[str]
    text: str
    remedy: str
    code: str


def merged_causes(interface: Document) -> list[Merged]:
    """The causes of both families, once for what is the same in both, or has one remedy.

    A rule of others is a cause for each address that it takes.
    """
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for label, part in families(interface).items():
        for cause in part.get("causes", []):
            remedy = cause.get("remedy", "")
            key = (cause["code"], remedy or cause["text"])
            found.setdefault(key, []).append((label, cause["text"]))
    causes = []
    for (code, mends), told in found.items():
        texts = list(dict.fromkeys(text for _, text in told))
        more = len(texts) - 1
        also = f" ({more} more likewise)" if more else ""
        remedy = "" if mends in texts else mends
        labels = list(dict.fromkeys(label for label, _ in told))
        causes.append(Merged(labels, f"{texts[0].rstrip('.')}{also}", remedy, code))
    return causes


def _open_reasons(interface: Document) -> Iterator[Cause]:
    """What an interface waits for, by a daemon that tells no health, or none yet."""
    if is_judged(interface) and interface["state"] != "ignored":
        for reason in interface["reasons"]:
            text = f"waits: {reason['text'].rstrip('.')}."
            yield Cause(text, reason.get("remedy", ""))


def worth_a_word(interface: Document) -> Iterator[Cause]:
    """The notes that speak of trouble, but for what was told as a cause."""
    told = {c["code"] for part in families(interface).values() for c in part.get("causes", [])}
    if "leaves-elsewhere" in told:
        told.add("shadowed")  # the same, rule by rule
    for note in interface["notes"]:
        # Elsewhere by somebody's choice is quiet; what can be mended is not.
        is_quiet = note["code"] in QUIET and not (
            note["code"] == "egress-elsewhere" and note.get("remedy")
        )
        if not is_quiet and note["code"] not in told:
            yield Cause(sentence(note["text"]), note.get("remedy", ""))


def imds_text(imds: Document, now: float) -> str:
    """What there is to say of IMDS; nothing while it answers as it should."""
    state, detail = imds["state"], imds["detail"]
    if state in ("ok", "unasked"):
        return f"{state}: {detail}" if detail else ""
    text = f"{state}: {detail}" if detail else str(state)
    if not imds.get("asked"):  # of a daemon of an earlier version, perhaps
        return text
    answered = imds.get("answered")
    since = f"{duration(now - answered)} ago" if answered else "never since the daemon started"
    return f"{text}; {asked_text(imds, now)}, answered {since}"


def asked_text(imds: Document, now: float) -> str:
    """When IMDS was asked last."""
    return f"asked {duration(now - imds['asked'])} ago"


def lacks(part: Document) -> str:
    """Why an ENI does not have a family; empty where it may have it."""
    if part.get("health") is not None or part["verdict"] not in NOT_HAD:
        return ""
    return "; ".join(reason["text"] for reason in part["reasons"])


def sentence(text: str) -> str:
    """A text of the daemon as a sentence. Names and commands keep their letters."""
    return text if text.endswith((".", "?", ":")) else f"{text}."
