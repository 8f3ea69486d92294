"""Conclusions that are kept while what they were drawn from is the same.

The cost of a decision is to follow what changed. So each stage compares what it is drawn from with
that of the last time, mostly by identity, and is drawn anew only where that differs. A mark of what
changed would have to be set in each place that changes a fact; a comparison cannot be forgotten.

Reads: facts, as values. Gives: the last conclusion, or a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable
from typing import Final, Generic, TypeVar

# However little changed, everything is decided and looked up anew after that time: a bound for what
# we have not thought of.
WHOLE: Final = 300.0  # s

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class Kept(Generic[T]):
    """The last conclusion of one kind."""

    def __init__(self) -> None:
        self._known: tuple[tuple[object, ...], T] | None = None

    def get(self, basis: tuple[object, ...], conclude: Callable[[], T]) -> T:
        """The conclusion; `basis` has all that it is drawn from, as values."""
        if self._known is None or self._known[0] != basis:
            self._known = (basis, conclude())
        return self._known[1]


class KeptOf(Generic[K, T]):
    """The last conclusion of one kind about each of several things."""

    def __init__(self) -> None:
        self._of: dict[K, Kept[T]] = {}

    def get(self, key: K, basis: tuple[object, ...], conclude: Callable[[], T]) -> T:
        """The conclusion about one of them; `basis` as of `Kept`."""
        return self._of.setdefault(key, Kept()).get(basis, conclude)

    def keep_only(self, keys: Container[K]) -> None:
        """Forget what is not among these: it is gone."""
        self._of = {key: kept for key, kept in self._of.items() if key in keys}
