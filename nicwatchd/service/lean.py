"""Imported before all else that the daemon needs: it does without OpenSSL, which takes 8 MiB.

IMDS and the sockets are plain HTTP. asyncio and aiohttp do without `ssl` where Python has none, and
hashlib without its part of OpenSSL, if Python has the hashes itself: those of some distributions
have not. What is imported already stays.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Final, cast

MISSING: Final = cast(ModuleType, None)  # an import fails as if there were no such module
# Python's own hashes. SHA-2 is one module since 3.12.
HASHES: Final = ("_md5", "_sha1", "_sha3", "_blake2")
SHA2: Final = (("_sha2",), ("_sha256", "_sha512"))


def _without_openssl() -> None:
    if "ssl" not in sys.modules:
        sys.modules["ssl"] = MISSING
    if "_hashlib" not in sys.modules and _has_hashes():
        sys.modules["_hashlib"] = MISSING


def _has_hashes() -> bool:
    return _are_there(*HASHES) and any(_are_there(*names) for names in SHA2)


def _are_there(*names: str) -> bool:
    return all(find_spec(name) for name in names)


_without_openssl()
