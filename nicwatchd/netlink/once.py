"""Decodes once what every dump repeats: what did not change comes out as the very same object."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Once(Generic[T]):
    """Decodes message bodies, and remembers up to `at_most` of them.

    The time that is left to an object is part of its body: such a body comes only once and is not
    remembered (`lasts` tells), but what it was decoded to is, so it is the same object again.
    """

    def __init__(
        self, decode: Callable[[bytes], T], lasts: Callable[[bytes], bool], at_most: int
    ) -> None:
        self._decode = decode
        self._lasts = lasts
        self._at_most = at_most
        self._known: dict[bytes, T] = {}
        self._passing: dict[T, T] = {}

    def __call__(self, body: bytes) -> T:
        """What the body says."""
        try:
            return self._known[body]
        except KeyError:
            return self._anew(body)

    def _anew(self, body: bytes) -> T:
        if len(self._known) + len(self._passing) >= self._at_most:
            self._known.clear()
            self._passing.clear()
        found = self._decode(body)
        if self._lasts(body):
            self._known[body] = found
            return found
        return self._passing.setdefault(found, found)
