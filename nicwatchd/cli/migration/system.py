"""The one seam between a migration and its host: files, commands, and the daemon.

Tests give it a directory with files, and a runner that records what it is asked to run.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

COMMAND_TIMEOUT: Final = 120.0  # s; a stop of net-utils' service reloads networkd
NOT_FOUND: Final = 127  # as a shell says it


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended; `out` and `err` are its output."""

    code: int
    out: str = ""
    err: str = ""


Runner = Callable[[tuple[str, ...]], Ran]
Asker = Callable[[str, str], Any]  # method and path; raises DaemonError


class CommandError(Exception):
    """A command failed; the text is one line for the operator."""


def run_command(command: tuple[str, ...]) -> Ran:
    """Run a command on this host. One that is not installed ends with 127."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT
        )
    except FileNotFoundError:
        return Ran(NOT_FOUND, err=f"{command[0]}: not found")
    except subprocess.TimeoutExpired:
        raise CommandError(f"{' '.join(command)}: not done within {COMMAND_TIMEOUT:g} s") from None
    return Ran(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class System:
    """A host. `root` is where its files begin; `ask` sends a request to its daemon.

    `pause` waits for this many seconds.
    """

    root: Path
    run: Runner
    ask: Asker
    pause: Callable[[float], None]

    def path(self, name: str) -> Path:
        """Where the file with this absolute name is."""
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str | None:
        """The text of a file; None if there is none."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def find(self, directory: str, pattern: str) -> list[str]:
        """The absolute names of the files that match, in order."""
        found = sorted(self.path(directory).glob(pattern))
        return [f"/{path.relative_to(self.root)}" for path in found]

    def first(self, *names: str) -> str | None:
        """The first of these files that is there, a dangling link too."""
        return next((n for n in names if self.path(n).exists() or self.path(n).is_symlink()), None)

    def must(self, *command: str) -> str:
        """The output of a command that must succeed. Raises CommandError."""
        ran = self.run(command)
        if ran.code:
            why = (ran.err or ran.out).strip().splitlines()
            raise CommandError(f"{' '.join(command)}: {why[-1] if why else f'exit {ran.code}'}")
        return ran.out

    def systemctl(self, verb: str, unit: str) -> str:
        """What `systemctl is-enabled` or `is-active` says of a unit, which no exit code tells."""
        return self.run(("systemctl", verb, unit)).out.strip()
