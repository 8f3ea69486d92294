"""Network namespaces and what runs in them: processes, sockets, the files of a daemon.

Everything is removed at the end of the `async with`; it is an error if something was left open.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, ParamSpec, Self, TypeAlias, TypeVar
from weakref import WeakSet

from nicwatchd.sim import netns, sandbox

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from nicwatchd.core.model import Family

P = ParamSpec("P")
R = TypeVar("R")
Socket: TypeAlias = socket.socket  # `Lab.socket` takes the name

RUNTIME: Final = Path("/run/nicwatchd-sim")
PATIENCE: Final = 5.0  # seconds between SIGTERM and SIGKILL

_serial = itertools.count(1)


class LeakError(Exception):
    """Something was still open in a namespace at the end; it has been closed."""


class Lab:
    """`async with`: at the end, everything created in it is removed. Raises LeakError for leaks.

    `kind` is the prefix of `id`, which is the prefix of the namespaces' names.
    """

    def __init__(self, kind: str) -> None:
        self.id = f"{kind}{os.getpid()}-{next(_serial)}"
        self.runtime_dir = RUNTIME / self.id  # for the files of a daemon that runs on the host
        self._namespaces: list[str] = []
        self._sockets: WeakSet[Socket] = WeakSet()
        self._processes: list[Process] = []
        # One thread does all blocking work, so steps never overlap and none is interrupted.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=self.id)

    async def __aenter__(self) -> Self:
        try:
            await self._do(self._open)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        leaks = await self._close()
        if leaks and error is None:
            raise LeakError(f"{self.id}: still open at the end: {', '.join(leaks)}")

    async def _do(self, step: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        work = self._worker.submit(step, *args, **kwargs)
        return await asyncio.wrap_future(work)

    def _open(self) -> None:
        """Create what exists from the start."""
        sandbox.require()
        self.runtime_dir.mkdir(parents=True)

    def _add_namespaces(self, *names: str) -> None:
        netns.create(*names)
        self._namespaces += names

    async def _close(self) -> list[str]:
        """Stop and remove everything; returns what should have been closed before."""
        for process in self._processes:
            await _end(process)
        leaks = [repr(s) for s in self._sockets if s.fileno() >= 0]
        for left in list(self._sockets):
            left.close()
        leaks += await self._do(self._remove)
        self._worker.shutdown()
        return leaks

    def _remove(self) -> list[str]:
        strays = netns.processes(*self._namespaces)
        for pid in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._namespaces:
            netns.delete(*self._namespaces)
            self._namespaces.clear()
        shutil.rmtree(self.runtime_dir, ignore_errors=True)
        return [f"process {pid}" for pid in strays]

    # --- processes, sockets, settings ------------------------------------------------------------

    async def exec(self, namespace: str, *command: str) -> str:
        """Run a command in a namespace; returns its stdout. Raises netns.CommandError."""
        process = await self.popen(
            namespace, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            out, errors = await process.communicate()
        finally:
            await _end(process)
            self._processes.remove(process)
        if process.returncode != 0:
            raise netns.CommandError(f"`{' '.join(command)}`: {errors.decode().strip()}")
        return out.decode()

    async def popen(
        self,
        namespace: str,
        *command: str,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int = asyncio.subprocess.DEVNULL,
    ) -> Process:
        """Start a command in a namespace (with its /sys). It is stopped when the lab closes.

        The process id is that of the command itself.
        """
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", namespace, *command),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
        )
        self._processes.append(process)
        return process

    def socket(self, namespace: str, family: int, kind: int = socket.SOCK_STREAM) -> Socket:
        """A non-blocking socket of a namespace. The caller closes it."""
        opened = netns.open_socket(namespace, family, kind)
        self._sockets.add(opened)
        return opened

    def listen(self, namespace: str, address: str, port: int) -> Socket:
        """A listening TCP socket of a namespace; IPv6-only for an IPv6 address."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        opened = self.socket(namespace, family)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.listen(128)
        return opened

    async def ip(self, namespace: str, *commands: str, family: Family | None = None) -> None:
        """Run `ip` commands (without the word `ip`) in one process; rules need a `family`."""
        await self._do(netns.ip, namespace, commands, family)

    def sysctl(self, namespace: str, settings: Mapping[str, str]) -> None:
        """Set `net` sysctls by path, as `{"ipv4/conf/all/rp_filter": "1"}`."""
        netns.sysctl(namespace, settings)


async def _end(process: Process) -> None:
    """Send SIGTERM, and SIGKILL if the process does not exit."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
