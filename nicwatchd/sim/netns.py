"""Network namespaces by name: creates, enters, configures and removes them.

Blocking but quick: each batch of commands takes one process.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import subprocess
import time
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from nicwatchd.core.model import Family

NAMES: Final = Path("/run/netns")  # where `ip netns` keeps them
CLONE_NEWNET: Final = 0x40000000  # linux/sched.h
SIOCGIFFLAGS: Final = 0x8913  # linux/sockios.h
RUNNING: Final = 0x40  # IFF_RUNNING, linux/if.h

_libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12


class CommandError(Exception):
    """A command failed; the message has the command and what it wrote to stderr."""


def run(*command: str, stdin: str | None = None) -> str:
    """Run a command and return what it wrote to stdout. Raises CommandError."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"`{' '.join(command)}`: {done.stderr.strip()}")
    return done.stdout


def create(*names: str) -> None:
    """Create namespaces, each with its loopback up and no settings inherited from the machine."""
    run("ip", "-batch", "-", stdin="".join(f"netns add {name}\n" for name in names))
    for name in names:
        # The kernel copies the machine's IPv4 settings into each new namespace: reset them.
        sysctl(
            name,
            {
                f"ipv4/conf/{which}/{key}": "0"
                for which in ("all", "default")
                for key in ("rp_filter", "forwarding", "log_martians", "accept_redirects")
            },
        )
        ip(name, ["link set lo up"])


def delete(*names: str) -> None:
    """Remove namespaces and everything in them (once no process and no socket uses them)."""
    run("ip", "-batch", "-", stdin="".join(f"netns del {name}\n" for name in names))


def ip(name: str, commands: Iterable[str], family: Family | None = None) -> None:
    """Run `ip` commands (without the word `ip`) in a namespace, all in one process.

    Commands for rules need `family`, because their arguments do not imply it.
    """
    lines = list(commands)
    flags = [f"-{family}"] if family else []
    try:
        run("ip", *flags, "-n", name, "-batch", "-", stdin="".join(f"{line}\n" for line in lines))
    except CommandError as error:
        raise CommandError(f"{error}; of these: {'; '.join(lines)}") from error


def nft(name: str, ruleset: str) -> None:
    """Load an nftables ruleset in a namespace, as one transaction."""
    run("ip", "netns", "exec", name, "nft", "-f", "-", stdin=ruleset)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Move the calling thread into a namespace and back. Never await in here."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(NAMES / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def open_socket(name: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A non-blocking socket of a namespace. It belongs to that namespace wherever it is used."""
    with inside(name):
        opened = socket.socket(family, kind, protocol)
    opened.settimeout(0)
    return opened


def sysctl(name: str, settings: Mapping[str, str]) -> None:
    """Set `net` sysctls of a namespace, by path: `ipv4/conf/all/rp_filter`."""
    with inside(name):
        for key, value in settings.items():
            Path("/proc/sys/net", key).write_text(value)


def wait_until_running(name: str, interfaces: Iterable[str], patience: float = 5.0) -> None:
    """Wait until links carry packets, a little after their other ends have come up."""
    deadline = time.monotonic() + patience
    with open_socket(name, socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for interface in interfaces:
            request = struct.pack("16sh22x", interface.encode(), 0)
            while not struct.unpack_from("16xh", ioctl(asking, SIOCGIFFLAGS, request))[0] & RUNNING:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{name}: {interface} does not come up")
                time.sleep(0.001)


def ifindex(name: str, interface: str) -> int:
    """The index of an interface in a namespace. Raises OSError if there is none."""
    with inside(name):
        return socket.if_nametoindex(interface)


def processes(*names: str) -> list[int]:
    """The ids of the processes that run in any of these namespaces."""
    wanted = {(NAMES / name).stat().st_ino for name in names}
    found = []
    for entry in Path("/proc").iterdir():
        # Processes may exit while we look, and we may not inspect those of other users.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            if entry.name.isdigit() and (entry / "ns/net").stat().st_ino in wanted:
                found.append(int(entry.name))
    return found
