"""The state of the metadata service, as one frozen value for health, status and metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["unasked", "ok", "disabled", "unreachable", "throttled", "failing"]

# We ask again after this many seconds even if the server demands more: the slow refresh of an
# interface is as rare, and a wrong Retry-After must not stop the daemon for hours.
RETRY_AFTER_CAP: Final = 60.0


@dataclass(frozen=True, slots=True)
class Condition:
    """The state of IMDS. Nothing is sent before `retry_at` (monotonic); None: no such limit."""

    state: State = "unasked"
    detail: str = ""
    endpoint: str | None = None  # the one in use
    retry_at: float | None = None
    device: str | None = None  # the link that requests are bound to; None: the host's routes decide

    def recovered(self, endpoint: str, device: str | None = None, detail: str = "") -> Condition:
        """The condition after an answer from `endpoint`, by `device`; `detail`: why that way."""
        return replace(
            self, state="ok", detail=detail, endpoint=endpoint, retry_at=None, device=device
        )

    def __str__(self) -> str:
        """One line for people, without a countdown, so that it changes only when IMDS does."""
        words = {
            "unasked": "IMDS has not been asked yet",
            "ok": "IMDS answers",
            "disabled": "IMDS is disabled",
            "unreachable": "IMDS is unreachable",
            "throttled": "IMDS throttles us",
            "failing": "IMDS fails",
        }[self.state]
        return f"{words} ({self.detail})" if self.detail else words


def retry_after_seconds(header: str | None, date_header: str | None = None) -> float | None:
    """Seconds that a Retry-After demands, 0 to the cap; None if it is missing or invalid.

    An HTTP date is compared with the answer's own Date, if there is one, because the host's clock
    may be wrong before NTP has run.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdecimal():
        # 9 digits already exceed the cap; int() of thousands of digits would raise.
        return min(float(text[:9]), RETRY_AFTER_CAP)
    until = _http_date(text)
    if until is None:
        return None
    now = _http_date(date_header or "") or datetime.now(UTC)
    return min(max((until - now).total_seconds(), 0.0), RETRY_AFTER_CAP)


def _http_date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
