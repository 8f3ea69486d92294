"""What the journal's entries say: for each news a line for people, a priority, and the fields.

`NICWATCHD_CAUSE` is why, in one line; `NICWATCHD_MEANING` and `NICWATCHD_REMEDY` are what the
catalog's texts say of this state. systemd fills them in only up to 256 bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from nicwatchd.core.fights import KINDS, WINDOW, Thing
from nicwatchd.core.health import FamilyHealth, Health
from nicwatchd.core.lifecycle import State, Transition
from nicwatchd.core.news import (
    Bypassed,
    EgressMoved,
    FamilyGivenUp,
    HealthChanged,
    LinkChanged,
    Lost,
    Restored,
    Surprised,
)
from nicwatchd.core.words import brief
from nicwatchd.service.status import InterfaceStatus, ReasonStatus, reason_statuses, shown

ERROR, WARNING, NOTICE, INFO, DEBUG = 3, 4, 5, 6, 7  # syslog's priorities

Entry: TypeAlias = tuple[str, int, dict[str, str]]  # the message, its priority, the fields

CLIP: Final = 250  # bytes; what systemd's catalog fills in is shorter than 256
LISTED: Final = 64  # of the things that were lost
NOTHING: Final = "nothing is missing"
NO_ACTION: Final = "nothing; nicwatchd does what there is to do"
UNKNOWN: Final = "it is not known who did it: the kernel's notifications name nobody"
NOT_US: Final = "not by nicwatchd"

MEANINGS: Final[Mapping[State, str]] = {
    State.DETECTED: "the kernel has the link; the metadata service (IMDS) was not read yet",
    State.AWAITING: "facts are missing or contradict each other; what is certain is configured",
    State.VALIDATED: "all facts are known, and the kernel is being programmed",
    State.APPLIED: "all that was planned is in the kernel, and was read back",
    State.IGNORED: "nicwatchd leaves it alone",
    State.GONE: "it was detached; what nicwatchd configured for it is removed",
}


def label(status: InterfaceStatus) -> str:
    """How an entry names an interface: its link, and its ENI, or its MAC as long as that is all."""
    return f"{status.name} {status.eni}" if status.eni else f"{status.name} ({status.mac})"


def clipped(text: str) -> str:
    """A text as one line, short enough for the catalog."""
    line = " ".join(text.split())
    raw = line.encode()
    return line if len(raw) <= CLIP else raw[: CLIP - 3].decode(errors="ignore") + "..."


def interface_fields(
    status: InterfaceStatus, reasons: Sequence[ReasonStatus], cause: str = ""
) -> dict[str, str]:
    """The fields of every entry about an interface. NICWATCHD_STATUS holds the complete status."""
    remedy = next((reason.remedy for reason in reasons if reason.remedy), NO_ACTION)
    why = cause or "; ".join(reason.text for reason in reasons) or NOTHING
    return {
        "INTERFACE": status.name,
        "NICWATCHD_IFINDEX": str(status.index),
        "NICWATCHD_MAC": status.mac,
        "NICWATCHD_ENI": status.eni or "",
        "NICWATCHD_STATE": status.state,
        "NICWATCHD_HEALTH": status.health or "",
        "NICWATCHD_MEANING": MEANINGS[status.state],
        "NICWATCHD_CAUSE": clipped(why),
        "NICWATCHD_REMEDY": clipped(remedy),
        "NICWATCHD_REASONS": "\n".join(f"{r.code}: {r.text}" for r in reasons),
        "NICWATCHD_REASON_CODES": " ".join(dict.fromkeys(r.code for r in reasons)),
        "NICWATCHD_STATUS": status.model_dump_json(),
    }


# --- transitions ---------------------------------------------------------------------------------


def describe(transition: Transition, status: InterfaceStatus) -> str:
    """One line for people: the interface, its new state, and why."""
    after = f"after {transition.elapsed:.1f} s"
    why = "; ".join(reason.text for reason in status.reasons)
    late = " (overdue)" if transition.overdue else ""
    if transition.state is transition.previous:
        rest = why or "nothing more to wait for"
        return f"{label(status)} still {transition.state}{late} {after}: {rest}"
    return f"{label(status)} is {transition.state}{late} {after}" + (f": {why}" if why else "")


def transition(news: Transition, status: InterfaceStatus) -> Entry:
    """A transition; `status` is the interface as it was then."""
    fields = interface_fields(status, status.reasons) | {
        "NICWATCHD_PREVIOUS_STATE": news.previous or "",
        "NICWATCHD_ELAPSED_USEC": _usec(news.elapsed),
    }
    return describe(news, status), _priority(news), fields


def _priority(news: Transition) -> int:
    if news.overdue:
        return WARNING
    if news.state is State.VALIDATED and not news.reasons:
        return DEBUG  # it lasts as long as the kernel takes
    return INFO if news.state in (State.DETECTED, State.AWAITING) else NOTICE


# --- what the host can know of whether it works --------------------------------------------------


def health(news: HealthChanged, status: InterfaceStatus) -> Entry:
    """A family of an ENI works, or not, or for another cause."""
    after, family = news.after, news.family.label
    causes = reason_statuses(after.causes, news.view) if after else []
    lasted = max(0.0, news.at - (news.before.since if news.before else news.view.seen))
    text = _health_text(news, after, family, lasted)
    fields = interface_fields(status, causes) | {
        "NICWATCHD_FAMILY": family.lower(),
        "NICWATCHD_FAMILY_HEALTH": after.health if after else "",
        "NICWATCHD_PREVIOUS_HEALTH": news.before.health if news.before else "",
        "NICWATCHD_LASTED_USEC": _usec(lasted),
    }
    return f"{label(status)}: {text}", _urgency(after), fields


def _health_text(
    news: HealthChanged, after: FamilyHealth | None, family: str, lasted: float
) -> str:
    if after is None:
        return f"{family} is not judged any more: the interface is left alone, or it has none"
    why = "; ".join(shown(cause.text) for cause in after.causes)
    why = f": {why}" if why else ""
    before = news.before.health if news.before else None
    if after.health is Health.WORKING:
        if before is None or (news.before and news.before.waits):
            return f"{family} works, {duration(news.at - news.view.seen)} after it was seen"
        was = "degraded" if before is Health.DEGRADED else "not working"
        return f"{family} works again, after {duration(lasted)} {was}"
    if after.waits:
        return f"{family} {'works so far, and waits' if after.answering else 'waits'}{why}"
    return f"{family} {'works only in part' if after.answering else 'does not work'}{why}"


def _urgency(after: FamilyHealth | None) -> int:
    if after is None or after.health is Health.WORKING:
        return NOTICE
    return INFO if after.waits else WARNING


# --- causes --------------------------------------------------------------------------------------


def lost(news: Lost, status: InterfaceStatus) -> Entry:
    """Others took something of ours; it is being put back."""
    what = counted(news.things)
    who = "; ".join(_named(shown(each)) for each in news.who)
    also = f", and {news.untold} more before that were put back" if news.untold else ""
    text = f"{label(status)} lost {what}{also}; " + (f"removed by {who}" if who else UNKNOWN)
    fields = interface_fields(status, status.reasons, f"removed by {who}" if who else UNKNOWN)
    return text, NOTICE, fields | _things(what, news.things)


def restored(news: Restored, status: InterfaceStatus) -> Entry:
    """What was lost is there again."""
    what = counted(news.things)
    text = f"{label(status)} has {what} back, after {duration(news.after)}"
    fields = interface_fields(status, status.reasons, "what was lost is there again")
    fields |= {"NICWATCHD_LASTED_USEC": _usec(news.after)}
    return text, NOTICE, fields | _things(what, news.things)


def _named(who: str) -> str:
    """Whom a notification names; a port id without a process says nothing more."""
    return who if "perhaps" in who or not who.startswith("port id") else f"{who} (no process now)"


def _things(what: str, things: Sequence[Thing]) -> dict[str, str]:
    listed = "\n".join(brief(thing) for thing in things[:LISTED])
    return {"NICWATCHD_OBJECTS": what, "NICWATCHD_OBJECT_LIST": shown_lines(listed)}


def shown_lines(text: str) -> str:
    """Lines that are safe for terminals."""
    return "\n".join(shown(line) for line in text.split("\n"))


def counted(things: Iterable[Thing]) -> str:
    """How many of each kind: `8 rules, 1 route`."""
    counts = Counter(KINDS[type(thing)] for thing in things)
    return ", ".join(f"{n} {kind if n == 1 else plural(kind)}" for kind, n in counts.items())


def plural(kind: str) -> str:
    """More than one of a kind."""
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def link(news: LinkChanged, status: InterfaceStatus) -> Entry:
    """A link went down or came up, not by us."""
    if news.flapped:
        what = "was down for a moment"
    elif news.carries:
        what = "is up again"
    else:
        what = "has no carrier" if news.view.link.up else "is down"
    remedy = "" if news.carries or news.view.link.up else f"ip link set {status.name} up"
    reason = ReasonStatus(code=f"link-{'up' if news.carries else 'down'}", text=what, remedy=remedy)
    fields = interface_fields(status, [reason], f"the link {what}, {NOT_US}")
    priority = NOTICE if news.carries else WARNING
    return f"{label(status)}: the link {what}, {NOT_US}", priority, fields


def bypassed(news: Bypassed, status: InterfaceStatus) -> Entry:
    """A foreign rule or route takes what is the interface's, or does no more."""
    if not news.by:
        text = "is no longer bypassed: nicwatchd's rules decide again"
        cause = "; ".join(shown(reason.text) for reason in news.before)
        return f"{label(status)} {text}", NOTICE, interface_fields(status, [], f"it was: {cause}")
    reasons = reason_statuses(news.by, news.view)
    text = "; ".join(reason.text for reason in reasons)
    return f"{label(status)} is bypassed: {text}", WARNING, interface_fields(status, reasons)


def given_up(news: FamilyGivenUp, status: InterfaceStatus) -> Entry:
    """An ENI is taken for one that does not have the family."""
    (reason,) = reason_statuses((news.reason,), news.view)
    family = news.family.label
    text = f"is taken for an interface without {family}, {duration(news.after)} after it was seen"
    fields = interface_fields(status, [reason]) | {"NICWATCHD_FAMILY": family.lower()}
    return f"{label(status)} {text}: {reason.text}", NOTICE, fields


def egress(news: EgressMoved, status: InterfaceStatus | None) -> Entry:
    """The host's own traffic leaves by another link."""
    now = shown(" and ".join(news.after))
    before = shown(" and ".join(news.before)) or "no link"
    family = news.family.label
    by = "by nicwatchd's copy of that default route" if news.by_us else NOT_US
    text = f"the host's own {family} traffic leaves by {now} now, by {before} before"
    if not now:
        text = f"the host's own {family} traffic leaves by no link now, by {before} before"
    cause = f"main's best default route changed, {by}"
    about = f"{label(status)}: " if status else ""
    fields = interface_fields(status, [], cause) if status else {"NICWATCHD_CAUSE": cause}
    fields |= {"NICWATCHD_FAMILY": family.lower(), "NICWATCHD_EGRESS": now}
    return f"{about}{text}, {by}", NOTICE if news.by_us else WARNING, fields


# --- trouble -------------------------------------------------------------------------------------


def fight_began(status: InterfaceStatus, fight: ReasonStatus) -> Entry:
    """Somebody keeps removing what is ours."""
    text = f"{label(status)} is fought over: {fight.text}"
    return text, WARNING, interface_fields(status, [fight])


def fight_ended(status: InterfaceStatus) -> Entry:
    """... or has stopped."""
    text = f"{label(status)} is no longer fought over: no repeated removals for {WINDOW:g} s"
    return text, NOTICE, interface_fields(status, status.reasons)


def surprise(news: Surprised, status: InterfaceStatus | None) -> Entry:
    """We caught an internal error; with its traceback."""
    about = f"{label(status)}: " if status else ""
    fields = interface_fields(status, status.reasons) if status else {}
    text = f"{about}internal error in {news.where}: {news.error}; everything else continues"
    return text, ERROR, fields | {"NICWATCHD_TRACEBACK": news.trace}


def duration(seconds: float) -> str:
    """A duration for people: `0.11 s`, `4.2 s`, `42 s`, `3 min`, `2 h`, `5 d`."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    digits = 2 if seconds < 1.0 else 1 if seconds < 10.0 else 0  # noqa: PLR2004 (three digits)
    return f"{seconds:.{digits}f} s"


def _usec(seconds: float) -> str:
    return str(round(seconds * 1e6))
