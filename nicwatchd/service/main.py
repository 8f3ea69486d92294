"""`nicwatchd run`: checks the preconditions, assembles the daemon, and serves until stopped."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import shlex
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from pathlib import Path

from nicwatchd import __version__
from nicwatchd.core.agenda import HEARTBEAT
from nicwatchd.core.model import IPAddress
from nicwatchd.core.policy import Policy
from nicwatchd.imds.client import ImdsClient
from nicwatchd.netlink.capability import has_net_admin
from nicwatchd.netlink.events import EventSocket
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from nicwatchd.service import clock, journal, systemd
from nicwatchd.service.control import SOCKET_NAME, Control
from nicwatchd.service.counts import Counts, InUse
from nicwatchd.service.daemon import Daemon
from nicwatchd.service.explanation import explainer
from nicwatchd.service.files import is_open_to_others
from nicwatchd.service.journal_sender import outlet
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.offline_release import release
from nicwatchd.service.platform import NOT_EC2, Lock, is_ec2
from nicwatchd.service.released import Released
from nicwatchd.service.settings import Settings, SettingsError, load
from nicwatchd.service.status import HostStatus, ImdsStatus
from nicwatchd.service.telling import Observer


class CannotRunError(Exception):
    """The daemon cannot run here; the text is one line for the operator."""


class NotPermittedError(CannotRunError):
    """The daemon lacks a privilege."""


def run(config: Path | None, runtime_directory: Path) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises SettingsError, CannotRunError or AlreadyRunningError before anything has been changed.
    """
    faulthandler.enable()  # so that the watchdog's SIGABRT leaves a traceback
    settings = load(config)
    if not has_net_admin():
        raise NotPermittedError(
            "CAP_NET_ADMIN is missing: run this command as root, or start nicwatchd.service "
            "(which has AmbientCapabilities=CAP_NET_ADMIN)"
        )
    try:
        runtime_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if is_open_to_others(runtime_directory):
            raise CannotRunError(
                f"{runtime_directory}: others may replace what is in it; mend that: "
                f"sudo chmod go-w {shlex.quote(str(runtime_directory))}"
            )
        lock = Lock(runtime_directory)
    except OSError as error:
        raise CannotRunError(f"{runtime_directory}: {error.strerror}") from None
    try:
        if settings.platform == "auto" and not is_ec2():
            asyncio.run(_idle(settings.policy(), runtime_directory))
        else:
            asyncio.run(_serve(settings, config, runtime_directory))
    finally:
        lock.release()


async def _serve(settings: Settings, config: Path | None, runtime_directory: Path) -> None:
    send = outlet()
    kernel = NetlinkKernel()
    try:
        async with ImdsClient(settings.imds.options(), clock=clock.now) as imds:
            ledger = Ledger(runtime_directory)
            daemon = Daemon(settings.policy(), kernel, EventSocket(), imds, ledger, send)
            daemon.reporting.entries_lost = lambda: send.lost
            explain = explainer(daemon.turn, clock.now, time.time)
            control = Control(
                daemon,
                runtime_directory / SOCKET_NAME,
                explain=explain,
                is_busy=lambda: daemon.turn.step is not None,
            )
            _on_signals(daemon.stop, lambda: _reload(daemon, config, send))
            await _with_control(control, daemon.run)
    finally:
        kernel.close()
        send.close()


async def _with_control(control: Control, serve: Callable[[], Awaitable[None]]) -> None:
    try:
        await control.start()
    except OSError as error:  # without strerror if, for example, the path exceeds 107 bytes
        raise CannotRunError(f"{control.path}: {error.strerror or error}") from None
    try:
        await serve()
    finally:
        systemd.stopping()
        await control.close()


def _on_signals(stop: Callable[[], None], reload: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)


def _reload(daemon: Daemon, config: Path | None, send: journal.Sink) -> None:
    """Read the settings again; if they are wrong, nothing changes but that this is a problem."""
    systemd.reloading()
    try:
        daemon.use(load(config).policy())
        text = "settings reloaded; changes to [imds] and `platform` take effect at the next start"
        send(journal.RELOADED, text, journal.INFO, {})
    except SettingsError as error:
        text = "the new settings cannot be used, so the old ones remain in effect: "
        text += error.in_one_line
        daemon.keep_settings(f"{text}; mend that, then: sudo systemctl reload nicwatchd")
        send(journal.RELOAD_FAILED, text, journal.ERROR, {})
    systemd.notify(ready=True, status=text)


class _Idle:
    """The service on a host that is not EC2: it manages nothing."""

    def __init__(self, policy: Policy, runtime_directory: Path) -> None:
        self._started = time.time()
        self._policy = policy
        self._directory = runtime_directory

    def status(self) -> HostStatus:
        return HostStatus(
            version=__version__,
            pid=os.getpid(),
            started=self._started,
            idle=NOT_EC2,
            imds=ImdsStatus(state="unasked"),
        )

    def counts(self) -> Counts:
        return Counts(settings=InUse(self._started))

    async def reconcile(
        self, interface: str | None = None, adopt: Iterable[IPAddress] = ()
    ) -> None:
        del interface, adopt  # nothing is managed here

    async def release(self, interface: str | None = None) -> Released:
        """Remove what is left from a time when the settings were different; nothing restores it."""
        kernel = NetlinkKernel()
        try:
            return await release(kernel, Ledger(self._directory), interface, self._policy)
        finally:
            kernel.close()

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        del observer  # there are no events
        return lambda: None


async def _idle(policy: Policy, runtime_directory: Path) -> None:
    """Serve the control socket, and say why nothing is managed. Nothing failed, so do not exit."""
    with closing(outlet()) as send:
        send(journal.IDLE, f"idle: {NOT_EC2}", journal.NOTICE, {})
    stopping = asyncio.Event()
    _on_signals(stopping.set, lambda: None)

    async def wait() -> None:
        systemd.notify(ready=True, status="idle: not an EC2 host")
        while not stopping.is_set():
            systemd.notify(watchdog=True, status="idle: not an EC2 host")
            try:
                await asyncio.wait_for(stopping.wait(), HEARTBEAT)
            except TimeoutError:
                continue

    service = _Idle(policy, runtime_directory)
    await _with_control(Control(service, runtime_directory / SOCKET_NAME), wait)
