"""Entries of the journal, as readers give them, for tests."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

from nicwatchd.service import journal
from nicwatchd.service.journal_reader import Entry

BOOT, LATER_BOOT = "1" * 32, "2" * 32
MAC: Final = "02:00:00:00:00:02"
ENI: Final = "eni-0a1b"
START: Final = 1_795_600_000.0


def entry(at: float, message_id: UUID, message: str = "", **fields: str) -> Entry:
    """An entry, so many seconds after START."""
    return {
        "__REALTIME_TIMESTAMP": str(round((START + at) * 1e6)),
        "_BOOT_ID": BOOT,
        "_UID": "0",
        "MESSAGE_ID": message_id.hex,
        "MESSAGE": message,
        **fields,
    }


def family(health: str | None, *, waits: bool = False, cause: str = "") -> dict[str, Any]:
    """A family of a status."""
    causes = [{"code": "x", "text": cause, "remedy": ""}] if cause else []
    verdict = "ready" if health else "absent"
    return {"health": health, "waits": waits, "causes": causes, "verdict": verdict}


def about(
    at: float,
    message_id: UUID,
    message: str = "",
    *,
    ipv4: dict[str, Any] | None = None,
    ipv6: dict[str, Any] | None = None,
    state: str = "applied",
    eni: str = ENI,
    **fields: str,
) -> Entry:
    """An entry about eth1."""
    status: dict[str, Any] = {
        "name": "eth1",
        "mac": MAC,
        "eni": eni,
        "state": state,
        "ipv4": ipv4,
        "ipv6": ipv6,
    }
    status["seen"] = at
    status["health"] = next((f["health"] for f in (ipv4, ipv6) if f and f["health"]), None)
    return entry(
        at,
        message_id,
        f"eth1 {eni}{message}" if eni else f"eth1 ({MAC}){message}",
        INTERFACE="eth1",
        NICWATCHD_MAC=MAC,
        NICWATCHD_ENI=eni,
        NICWATCHD_STATE=state,
        NICWATCHD_STATUS=json.dumps(status),
        **fields,
    )


WORKS = family("working")
STORY: Final = (
    entry(0.0, journal.STARTED, "nicwatchd 0.2.0 started"),
    about(60.0, journal.TRANSITION, " is detected after 0.0 s", state="detected", eni=""),
    about(
        60.1,
        journal.TRANSITION,
        state="awaiting-imds",
        eni="",
        ipv4=family("not-working", waits=True, cause="IMDS does not list the MAC"),
        NICWATCHD_REASONS="mac-unlisted: IMDS does not list the MAC",
    ),
    about(61.0, journal.TRANSITION, state="validated", ipv4=WORKS),
    about(61.1, journal.TRANSITION, ipv4=WORKS, NICWATCHD_ELAPSED_USEC="1100000"),
    about(
        61.2,
        journal.HEALTH_CHANGED,
        ": IPv4 works, 1.2 s after it was seen",
        ipv4=WORKS,
        NICWATCHD_FAMILY_HEALTH="working",
    ),
    about(
        120.0,
        journal.LOST,
        " lost 8 rules; removed by port id 3388298734 (no process now)",
        ipv4=WORKS,
        NICWATCHD_OBJECTS="8 rules",
        NICWATCHD_CAUSE="removed by port id 3388298734 (no process now)",
    ),
    about(120.0, journal.TRANSITION, state="validated", ipv4=WORKS),
    about(
        120.1,
        journal.RESTORED,
        ipv4=WORKS,
        NICWATCHD_OBJECTS="8 rules",
        NICWATCHD_LASTED_USEC="110000",
    ),
    about(120.1, journal.TRANSITION, ipv4=WORKS, NICWATCHD_ELAPSED_USEC="60100000"),
    about(
        300.0,
        journal.LINK_CHANGED,
        ": the link is down, not by nicwatchd",
        ipv4=WORKS,
        NICWATCHD_REASON_CODES="link-down",
        NICWATCHD_CAUSE="the link is down, not by nicwatchd",
    ),
    about(
        300.0,
        journal.HEALTH_CHANGED,
        ": IPv4 does not work: the link is down",
        ipv4=family("not-working", cause="the link is down"),
        NICWATCHD_FAMILY_HEALTH="not-working",
    ),
    about(
        360.0,
        journal.HEALTH_CHANGED,
        ": IPv4 works again, after 60 s not working",
        ipv4=WORKS,
        NICWATCHD_FAMILY_HEALTH="working",
    ),
    entry(400.0, journal.STOPPED, "nicwatchd stopped"),
    entry(410.0, journal.STARTED, "nicwatchd 0.2.0 started"),
    about(410.1, journal.TRANSITION, state="detected", ipv4=None),
    about(410.5, journal.TRANSITION, ipv4=WORKS),
)
