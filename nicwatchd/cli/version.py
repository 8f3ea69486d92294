"""`nicwatchd --version`: which nicwatchd this is, and what it runs with."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from nicwatchd import __version__
from nicwatchd.service import build

SOURCE_TREE: Final = Path(__file__).parents[2]


def version_text() -> str:
    """The version, the commit, Python and pyroute2, one line each."""
    return "\n".join(
        (
            f"nicwatchd {__version__}",
            f"commit {built_from() or 'unknown'}",
            f"Python {platform.python_version()}",
            f"pyroute2 {version_of('pyroute2')}",
        )
    )


def built_from(source_tree: Path = SOURCE_TREE) -> str:
    """The commit, with `-dirty` if files differ from it; empty if it is not known.

    Packages have it in a file. A source tree asks git.
    """
    if build.commit() or not (source_tree / ".git").exists():
        return build.commit()
    command = ["git", "-C", str(source_tree), "describe", "--always", "--exclude=*"]
    command += ["--abbrev=12", "--dirty"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return run.stdout.strip()


def version_of(library: str) -> str:
    """The version of a library."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "is not installed"
