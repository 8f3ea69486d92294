"""Reads back what the journal has of us: by systemd's library, or else by journalctl.

An entry is a mapping of texts, whichever way it was read and whoever wrote it: what is not a text,
or has bytes of no text, is made one. Only entries of root and of nicwatchd's own user are given:
journald vouches for the sender, and anybody can send.
"""

from __future__ import annotations

import pwd
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from nicwatchd.service import protocols

try:
    from systemd import journal as library
except ImportError:  # Amazon Linux has it for its old Python only
    library = None

NOBODY: Final = "-1"  # not the id of any user
TIME: Final = "__REALTIME_TIMESTAMP"  # microseconds of the Unix epoch
LAST: Final = 253_402_300_799_999_999  # of the year 9999

Entry = Mapping[str, str]


class JournalUnreadableError(Exception):
    """The journal has nothing for us; the text is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Range:
    """Which part of the journal: times of the Unix epoch; `boot` is one boot's id (32 digits).

    With neither `since` nor `boot` it is everything. `directory` has journal files, perhaps those
    of another host; None: this host's journal.
    """

    since: float | None = None
    until: float | None = None
    boot: str | None = None
    directory: Path | None = None


def this_boot() -> str:
    """The id of this boot."""
    text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return UUID(text.strip()).hex


def entries(matches: Sequence[str], part: Range) -> list[Entry]:
    """The matching entries of trusted senders, the oldest first.

    A match is FIELD=value; matches of one field are ORed, of several ANDed. Raises
    JournalUnreadableError.
    """
    trusted = {"0", *_own_uid()}
    try:
        read = _by_library(matches, part) if library else _by_journalctl(matches, part)
        return [each for each in map(texts, read) if each.get("_UID", NOBODY) in trusted]
    except OSError as error:
        what = "the journal" if library else "journalctl"
        how = "read" if library else "run"
        raise JournalUnreadableError(f"{what} cannot be {how}: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        raise JournalUnreadableError(f"journalctl: {error.stderr.strip()}") from None


def last_entry(boot: str, directory: Path | None) -> float | None:
    """When the last entry of a boot was written, by whomever; None: not known."""
    try:
        if library:
            with _reader(directory) as reader:
                reader.add_match(_BOOT_ID=boot)
                reader.seek_tail()
                found = reader.get_previous()
        else:
            options = (f"--boot={boot}", "--lines=1", *_where(directory))
            found = next(protocols.journal_entries((), options), {})
    except (OSError, subprocess.CalledProcessError):
        return None
    return time_of(texts(found))


def time_of(entry: Entry) -> float | None:
    """When an entry was written, in seconds of the Unix epoch; None: it does not say."""
    return seconds(entry.get(TIME, ""))


def seconds(text: str) -> float | None:
    """Microseconds as seconds; None: it is no such number, or beyond the year 9999."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(LAST)) and int(text) <= LAST:
        return int(text) / 1e6
    return None


def texts(entry: Mapping[str, Any]) -> Entry:
    """An entry with all its fields as texts."""
    return {str(name): _text(value) for name, value in entry.items()}


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case UUID():
            return value.hex
        case datetime():
            return str(round(value.timestamp() * 1e6))
        case bytes():
            return value.decode(errors="replace")
        case [int(), *_] if all(isinstance(b, int) and 0 <= b < 256 for b in value):  # noqa: PLR2004
            return bytes(value).decode(errors="replace")  # how journalctl prints what is no text
        case [first, *_]:
            return _text(first)  # a field that is there more than once
        case None:
            return ""  # a field that is too long
    return str(value)


def _reader(directory: Path | None) -> Any:
    return library.Reader(path=str(directory)) if directory else library.Reader()


def _by_library(matches: Sequence[str], part: Range) -> Iterator[Mapping[str, Any]]:
    with _reader(part.directory) as reader:
        for match in matches:
            reader.add_match(match)
        if part.boot:
            reader.add_match(_BOOT_ID=part.boot)
        if part.since is not None:
            reader.seek_realtime(part.since)
        for entry in reader:
            if part.until is not None and entry["__REALTIME_TIMESTAMP"].timestamp() > part.until:
                return
            yield entry


def _by_journalctl(matches: Sequence[str], part: Range) -> Iterator[Mapping[str, Any]]:
    options = _where(part.directory)
    options += [f"--boot={part.boot}"] if part.boot else []
    options += [f"--since=@{part.since:.6f}"] if part.since is not None else []
    options += [f"--until=@{part.until:.6f}"] if part.until is not None else []
    return protocols.journal_entries(matches, options)


def _where(directory: Path | None) -> list[str]:
    return [f"--directory={directory}"] if directory else []


def _own_uid() -> Iterator[str]:
    try:
        yield str(pwd.getpwnam("nicwatchd").pw_uid)
    except KeyError:
        return
