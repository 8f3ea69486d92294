"""Runs the daemon without all that it looks at again from time to time: only events make it look.

python only_events.py PYTHON -m MODULE ARGUMENT...
"""

from __future__ import annotations

import runpy
import sys
from typing import Final

from nicwatchd.core import agenda, decide, lookups, outside, picture

NEVER: Final = 1e6  # s


def main() -> None:
    """Run the module that the daemon's command names."""
    for where, name in (
        (agenda, "HEARTBEAT"),
        (decide, "WHOLE"),
        (lookups, "WHOLE"),
        (outside, "LOOK_AGAIN"),
        (picture, "LOOK_AGAIN"),
    ):
        assert getattr(where, name) < NEVER
        setattr(where, name, NEVER)
    _, _, _, module, *arguments = sys.argv
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
