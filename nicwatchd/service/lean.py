"""Imported before all else that the daemon needs: it does without TLS, which takes 4 MiB.

IMDS and the sockets are plain HTTP. asyncio and aiohttp do without `ssl` where Python has none.
prometheus_client has no use for it here, but its server and its client take their defaults from
there when they are imported. hashlib keeps its own part of OpenSSL: some distributions' Python has
no other hashes. What is imported already stays.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import cast

MISSING = cast(ModuleType, None)  # an import fails as if there were no such module


def _without_tls() -> None:
    if "ssl" in sys.modules:
        return
    sys.modules["ssl"] = names = ModuleType("ssl")
    vars(names)["__getattr__"] = lambda _name: None
    import_module("prometheus_client")
    sys.modules["ssl"] = MISSING


_without_tls()
