#!/usr/bin/python3 -I
"""The command `nicwatchd`: runs it with the libraries that were installed with it.

They lie in lib/nicwatchd beside bin. Their compiled parts are made for certain versions of Python;
all else of them is the same for each. Written so that also a Python too old can say so.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

LIBRARY = Path(__file__).resolve().parent.parent / "lib" / "nicwatchd"
COMPILED = "pydantic_core/_pydantic_core"  # one of the compiled parts stands for all


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
    os.environ["PYTHONPATH"] = str(LIBRARY)  # the demo starts Pythons of its own
    from nicwatchd.cli.main import main

    sys.exit(main())
