"""The kernel, over rtnetlink. The only home of pyroute2.

We use pyroute2's message classes and constants. Its package module imports all else that it has,
158 modules, for 0.1 s of CPU time and 9 MiB: that is done only if somebody wants it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


def _defer(name: str) -> None:
    """Have a package's modules importable, and the package's own code run at its first use."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.loader is None:
        return
    package: ModuleType = module_from_spec(spec)
    loader = spec.loader

    def load(attribute: str) -> Any:
        if find_spec(f"{name}.{attribute}"):
            return import_module(f"{name}.{attribute}")
        vars(package).pop("__getattr__", None)
        loader.exec_module(package)
        return getattr(package, attribute)

    vars(package)["__getattr__"] = load
    sys.modules[name] = package


_defer("pyroute2")
