"""`nicwatchd record`: what the kernel and IMDS say, over a hot-plug, for the simulator."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nicwatchd.cli.files import create, named, time_of_day
from nicwatchd.cli.output import OK, USAGE, fail, say
from nicwatchd.imds.client import ImdsOptions
from nicwatchd.netlink.events import EventSocket
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.recording.mask import Mask
from nicwatchd.service.imds_watch import HeardClient
from nicwatchd.service.recorder import Recorder
from nicwatchd.service.settings import Settings, SettingsError, load


def record(arguments: argparse.Namespace) -> int:
    """Record until the time is over, or until SIGINT or SIGTERM."""
    if not arguments.duration > 0:
        return fail("--duration must be more than 0 seconds", USAGE)
    path: Path = arguments.output or named("recording", "jsonl", time_of_day())
    mask = new_mask(masked=not arguments.no_mask)
    try:
        settings = load(arguments.config)
        with create(path) as file:
            say(f"recording for {arguments.duration:g} s, or until Ctrl-C, into {path}")
            asyncio.run(
                run(
                    settings,
                    arguments.runtime_directory,
                    lambda line: _write(file.write, line),
                    mask,
                    arguments.duration,
                    masked=not arguments.no_mask,
                )
            )
    except SettingsError as error:
        return fail(str(error), USAGE)
    except OSError as error:
        return fail(f"{path}: {error.strerror or error}", USAGE)
    masked = "" if arguments.no_mask else "Public addresses are masked. "
    say(f"{path} is complete. {masked}Look at it before you send it: it is text.")
    return OK


def new_mask(*, masked: bool) -> Mask:
    """A mask under a new key, which is kept nowhere."""
    return Mask(secrets.token_bytes(16) if masked else None)


async def run(
    settings: Settings,
    runtime_directory: Path,
    write: Callable[[str], None],
    mask: Mask,
    duration: float,
    *,
    masked: bool,
) -> None:
    """Record this host for so many seconds. Raises OSError."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    kernel = NetlinkKernel()
    try:
        async with HeardClient(_half(settings.imds.options())) as client:
            recorder = Recorder(
                settings.policy(),
                kernel,
                EventSocket(),
                client,
                runtime_directory,
                write,
                mask,
                masked=masked,
            )
            await recorder.record(duration, stopping)
    finally:
        kernel.close()


def _half(options: ImdsOptions) -> ImdsOptions:
    """The daemon may be asking at the same time, and together we keep to one host's budget."""
    return replace(
        options, budget_rate=options.budget_rate / 2, budget_burst=options.budget_burst / 2
    )


def _write(write: Callable[[bytes], int], line: str) -> None:
    """Write a line in one go, so that the file is valid at any time."""
    rest = memoryview(f"{line}\n".encode(errors="backslashreplace"))
    while rest:
        rest = rest[write(bytes(rest)) :]
