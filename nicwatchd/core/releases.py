"""What the operator took from us: links that are left alone until they are given back.

Reads: what the operator asked for. Gives: whether a link is released.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nicwatchd.core.model import Key


@dataclass(frozen=True, slots=True)
class Releases:
    """The links that were released; with `everything` also those that come later."""

    everything: bool = False
    exceptions: frozenset[Key] = frozenset()  # links that it is the other way round for

    def __contains__(self, key: Key) -> bool:
        """Whether a link is released."""
        return (key in self.exceptions) is not self.everything

    def plus(self, key: Key | None) -> Releases:
        """... and this link too; None is the whole host."""
        if key is None:
            return Releases(everything=True)
        return self if key in self else self._other_way_round(key)

    def minus(self, key: Key | None) -> Releases:
        """... but not this link; None is the whole host."""
        if key is None:
            return Releases()
        return self._other_way_round(key) if key in self else self

    def _other_way_round(self, key: Key) -> Releases:
        return replace(self, exceptions=self.exceptions ^ {key})

    def among(self, alive: Iterable[Key]) -> Releases:
        """... without what is said of links that are gone."""
        return replace(self, exceptions=self.exceptions & set(alive))
