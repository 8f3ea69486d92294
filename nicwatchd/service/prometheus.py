"""prometheus_client, imported for the first who asks for metrics: most hosts have no scraper.

It takes 4 MiB, and some 25 ms, in which the loop must not wait.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

LIBRARY = "prometheus_client"


def load() -> None:
    """Import the library, also where `ssl` is missing, in any thread.

    It has no use for `ssl` here, but its server and its client take their defaults from there when
    they are imported.
    """
    if LIBRARY in sys.modules or sys.modules.get("ssl", LIBRARY) is not None:
        import_module(LIBRARY)  # also waits for who imports it at this moment
        return
    sys.modules["ssl"] = names = ModuleType("ssl")
    vars(names)["__getattr__"] = lambda _name: None
    try:
        import_module(LIBRARY)
    finally:
        sys.modules["ssl"] = None  # type: ignore[assignment]  # as before: there is none
