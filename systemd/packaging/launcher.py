#!/usr/bin/python3 -I
"""The command `nicwatchd`: runs nicwatchd with the libraries that were installed with it.

They are in lib/nicwatchd, beside bin. Their compiled modules are for certain versions of Python;
the rest is the same for all. This file also runs in a Python that is too old, and says so.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent.parent / "lib" / "nicwatchd"
COMPILED = "pydantic_core/_pydantic_core"  # one compiled module stands for all


def complaint(library: Path, suffix: str) -> str:
    """Why this Python cannot run what is in `library`; empty when it can."""
    if library.joinpath(COMPILED + suffix).exists():
        return ""
    names = sorted(path.name.split(".")[1] for path in library.glob(COMPILED + ".cpython-*"))
    known = " or ".join(names) or "no Python at all"
    return f"nicwatchd: installed for {known}, but {sys.executable} is {suffix.split('.')[1]}\n"


if __name__ == "__main__":
    problem = complaint(LIBRARY, EXTENSION_SUFFIXES[0])
    if problem:
        sys.stderr.write(problem)
        sys.exit(2)
    sys.path.insert(0, str(LIBRARY))
    os.environ["PYTHONPATH"] = str(LIBRARY)  # the demo starts other Python processes
    from nicwatchd.cli.main import main

    sys.exit(main())
