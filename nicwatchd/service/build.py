"""Which build this is: the packages write the commit that they are made from into a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).parents[1] / "commit"


@cache
def commit() -> str:
    """The commit that this build was made from; empty: not known, as in a source tree."""
    try:
        return FILE.read_text(encoding="ascii").strip()
    except OSError:
        return ""
