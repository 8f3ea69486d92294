"""`nicwatchd bugreport`: all that a maintainer needs to see, in one archive.

Every part that cannot be had leaves a line that says why. So it works without the daemon, without
IMDS, with settings that are wrong, and, with less in it, without root.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from textwrap import fill, wrap
from typing import Final

from nicwatchd.cli import report_parts as parts
from nicwatchd.cli.archive import Archive, MissingError
from nicwatchd.cli.files import named, replace, time_of_day
from nicwatchd.cli.output import OK, USAGE, fail, say
from nicwatchd.cli.record import new_mask, run
from nicwatchd.imds.client import ImdsClient
from nicwatchd.service.settings import DEFAULT_FILE, Settings, SettingsError, load

RECORDED: Final = 5.0  # s
COLUMNS: Final = 80
ENDING: Final = "tar.gz"
README: Final = """\
A bug report of nicwatchd. Look at it before you send it: all files are text.

{masked}
No token of IMDS is in it, no user data, no credentials, no identity document: they are not asked
for. In it are private addresses, MACs, the ids of ENIs, subnets, VPCs and security groups, the
account's number, host names, firewall rules and the names of links.

recording.jsonl is what the kernel and IMDS said over {seconds:g} s. It can be replayed: in
nicwatchd's source, `make replay FILE=recording.jsonl`.
missing.txt, if there is one, names what could not be had, and why.
"""
MASKED: Final = """\
Public addresses are masked: each has another in its place, the same in all files, and those of one
network are in one network. The key is kept nowhere. Who wants to say more says it beside this."""
UNMASKED: Final = "Public addresses are NOT masked (--no-mask)."


def bugreport(arguments: argparse.Namespace) -> int:
    """Write the archive, and say what is in it."""
    now = time_of_day()
    path: Path = arguments.output or named("bugreport", ENDING, now)
    is_masked = not arguments.no_mask
    archive = Archive(new_mask(masked=is_masked))
    try:
        with replace(path) as file:  # before the work: perhaps it cannot be written
            _fill(archive, arguments, is_masked=is_masked)
            packed = archive.packed(path.name.removesuffix(f".{ENDING}"), int(now.timestamp()))
            file.write(packed)
    except OSError as error:
        return fail(f"{path}: {error.strerror or error}", USAGE)
    _tell(path, len(packed), archive, is_masked=is_masked)
    return OK


def _fill(archive: Archive, arguments: argparse.Namespace, *, is_masked: bool) -> None:
    masked = MASKED if is_masked else UNMASKED
    archive.add("README.txt", README.format(masked=masked, seconds=RECORDED))
    settings = _settings(archive, arguments.config)
    every = (
        *parts.of_daemon(arguments.runtime_directory, arguments.config),
        *parts.of_journal(),
        *parts.of_host(arguments.config or DEFAULT_FILE),
        ("imds.json", lambda: asyncio.run(_imds(settings))),
    )
    with ThreadPoolExecutor(1) as pool:  # while it is recorded
        collecting = pool.submit(archive.collect, every)
        _record(archive, settings, arguments.runtime_directory, is_masked=is_masked)
        collecting.result()


def _settings(archive: Archive, config: Path | None) -> Settings:
    """The settings; where they are wrong, the defaults, and a note."""
    try:
        return load(config)
    except SettingsError as error:
        archive.lack("the settings (the defaults were used)", MissingError(error.in_one_line))
        return Settings()


async def _imds(settings: Settings) -> str:
    async with ImdsClient(settings.imds.options()) as client:
        return json.dumps(await parts.imds_keys(client))


def _record(archive: Archive, settings: Settings, directory: Path, *, is_masked: bool) -> None:
    """Record for some seconds. What was recorded before an error is worth having."""
    lines: list[str] = []
    try:
        recording = run(settings, directory, lines.append, archive.mask, RECORDED, masked=is_masked)
        asyncio.run(recording)
    except Exception as error:  # noqa: BLE001 (as in Archive.collect)
        archive.lack("recording.jsonl", error)
    if lines:  # they are masked already, and that must not be done twice
        archive.files["recording.jsonl"] = "".join(f"{line}\n" for line in lines)


def _tell(path: Path, size: int, archive: Archive, *, is_masked: bool) -> None:
    """What is in it, what is not, and that one should look at it."""
    text = f"{path}, {max(1, size // 1024)} KiB: {', '.join(sorted(archive.files))}"
    say("\n".join(wrap(text, COLUMNS, break_long_words=False, break_on_hyphens=False)))
    if archive.missing:
        say("Not in it:")
        for name, why in archive.missing.items():
            say(fill(f"{name}: {why}", COLUMNS, initial_indent="  ", subsequent_indent="    "))
        if os.geteuid() != 0:
            say("Some of that only root can read: sudo nicwatchd bugreport")
    masked = "are masked (--no-mask)" if is_masked else "are NOT masked"
    say(f"No tokens, no user data; public addresses {masked}.")
    say("MACs, private addresses, host names and the ids of AWS are in it as they are.")
    say(f"Look at it before you send it: tar xzf {path}")
