"""The archive of a bug report: files that are collected one by one, and why some are missing."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from nicwatchd.recording.mask import Mask

# What becomes of one file: its name in the archive, and how to get its text. Any exception is the
# reason why it is missing.
Part = tuple[str, Callable[[], str]]


class MissingError(Exception):
    """A part cannot be had; the text says why, in one line."""


@dataclass
class Archive:
    """Texts by name, masked as they come in; and one reason for each that is missing."""

    mask: Mask
    files: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def collect(self, parts: Iterable[Part]) -> None:
        """Get each part. Never raises: a report of a broken host has to come about."""
        for name, get in parts:
            try:
                self.add(name, get())
            except Exception as error:  # noqa: BLE001 (whatever is broken here is worth a report)
                self.lack(name, error)

    def add(self, name: str, text: str) -> None:
        """Put in a file; JSON is masked value by value, whatever else as text."""
        self.files[name] = masked(name, text, self.mask)

    def lack(self, name: str, error: Exception) -> None:
        """Note why a file is missing."""
        text = str(error) if isinstance(error, MissingError) else f"{type(error).__name__}: {error}"
        self.missing[name] = self.mask.text(" ".join(text.split())) or "no reason is known"

    def packed(self, directory: str, at: int) -> bytes:
        """As tar.gz, everything in one directory; `at`: the time of all files, Unix time."""
        files = dict(self.files)
        if self.missing:
            files["missing.txt"] = "".join(f"{n}: {why}\n" for n, why in self.missing.items())
        buffer = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", mtime=at) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name, text in sorted(files.items()):
                body = text.encode(errors="backslashreplace")
                entry = tarfile.TarInfo(f"{directory}/{name}")
                entry.size, entry.mtime, entry.mode = len(body), at, 0o600
                tar.addfile(entry, io.BytesIO(body))
        return buffer.getvalue()


def masked(name: str, text: str, mask: Mask) -> str:
    """The text of a file, with public addresses replaced."""
    if name.endswith(".json"):
        try:
            return json.dumps(mask.value(json.loads(text)), indent=1, ensure_ascii=False) + "\n"
        except ValueError:  # then it is text
            return mask.text(text)
    if name.endswith(".jsonl"):
        return "".join(_masked_line(line, mask) for line in text.splitlines())
    return mask.text(text)


def _masked_line(line: str, mask: Mask) -> str:
    try:
        return json.dumps(mask.value(json.loads(line)), ensure_ascii=False) + "\n"
    except ValueError:
        return mask.text(line) + "\n"
