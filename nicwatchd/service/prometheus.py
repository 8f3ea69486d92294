"""What answers `GET /metrics`, imported for the first who asks: most hosts have no scraper.

It takes 4 MiB, nearly all for prometheus_client, and some 25 ms in which the loop must not wait.
"""

from __future__ import annotations

import sys
import urllib.request
from importlib import import_module
from threading import Lock
from types import ModuleType
from typing import Final

METRICS: Final = "nicwatchd.service.metrics"
_LOCK: Final = Lock()


def load() -> None:
    """Import it, in any thread, also where `ssl` is missing.

    The library has no use for `ssl` here, but its server and its client, which we do not use, take
    names from there, and from what has none of them without it, when they are imported.
    """
    with _LOCK:
        if METRICS in sys.modules or sys.modules.get("ssl", METRICS) is not None:
            import_module(METRICS)
            return
        sys.modules["ssl"] = names = ModuleType("ssl")
        vars(names)["__getattr__"] = lambda _name: None
        vars(urllib.request).setdefault("HTTPSHandler", urllib.request.HTTPHandler)
        try:
            import_module(METRICS)
        finally:
            sys.modules["ssl"] = None  # type: ignore[assignment]  # as before: there is none
