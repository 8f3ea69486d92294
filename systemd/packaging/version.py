"""Which version this source tree is, for packages: from nicwatchd/__init__.py, and from git.

A commit with the tag v0.2.0 is 0.2.0. Any other leads there: 0.2.0~git20261201093000.abcdef0
with the time of the commit in UTC, so that builds sort as their commits do, and before the release:
dpkg and rpm read `~` in the same way. PEP 440 has it as 0.2.0.dev20261201093000+gabcdef0.
Uncommitted changes add `.dirty`. Without git, the version is what `stamp` has written.

    version.py            for dpkg and rpm
    version.py --python   for Python
    version.py --commit   the commit; empty if it is not known
    version.py --stamp FOLDER   write version and commit into the copy of the source tree in FOLDER
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

# Where the version is written, and where the commit: both are a part of the package.
VERSION_FILE: Final = "nicwatchd/__init__.py"
COMMIT_FILE: Final = "nicwatchd/commit"

ASSIGNED: Final = re.compile(r'(?m)^__version__ = "(.*)"$')
DEVELOPMENT: Final = re.compile(r"(.+)\.dev(\d+)\+g(.+)")


def git(*words: str, root: Path = ROOT) -> str:
    """What git prints; empty if it fails, or if this is not the top of a repository."""
    if not (root / ".git").exists():
        return ""
    command, utc = ["git", "-C", str(root), *words], os.environ | {"TZ": "UTC"}
    try:
        run = subprocess.run(command, env=utc, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return run.stdout.strip()


def commit(root: Path = ROOT) -> str:
    """The commit (12 digits), with `-dirty` if files differ from it; empty if it is not known."""
    found = git("describe", "--always", "--exclude=*", "--abbrev=12", "--dirty", root=root)
    try:
        return found or (root / COMMIT_FILE).read_text(encoding="ascii").strip()
    except OSError:
        return ""


def python_version(root: Path = ROOT) -> str:
    """The version as Python writes it."""
    text = (root / VERSION_FILE).read_text(encoding="utf-8")
    version = next(ASSIGNED.finditer(text))[1]
    short, _, dirty = git(
        "describe", "--always", "--exclude=*", "--abbrev=7", "--dirty", root=root
    ).partition("-")
    tags = git("tag", "--points-at", "HEAD", root=root).splitlines()
    if not short or (f"v{version}" in tags and not dirty):
        return version
    time = git("show", "--no-patch", "--format=%cd", "--date=format-local:%Y%m%d%H%M%S", root=root)
    return f"{version}.dev{time}+g{short}{dirty and '.dirty'}"


def package_version(root: Path = ROOT) -> str:
    """The version as dpkg and rpm write it."""
    return DEVELOPMENT.sub(r"\1~git\2.\3", python_version(root))


def stamp(folder: Path, version: str, built_from: str) -> None:
    """Write a version and a commit into a copy of the source tree, or of the installed package."""
    file = folder / VERSION_FILE
    file.write_text(ASSIGNED.sub(f'__version__ = "{version}"', file.read_text(encoding="utf-8")))
    if built_from:
        (folder / COMMIT_FILE).write_text(f"{built_from}\n", encoding="ascii")


def main() -> None:
    """Print or write it."""
    match sys.argv[1:]:
        case []:
            print(package_version())  # noqa: T201 (what the command is for)
        case ["--python"]:
            print(python_version())  # noqa: T201
        case ["--commit"]:
            print(commit())  # noqa: T201
        case ["--stamp", folder]:
            stamp(Path(folder), python_version(), commit())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
