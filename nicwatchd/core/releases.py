"""Which links the operator released. They are left alone until the operator ends that.

Reads: the operator's requests. Gives: whether a link is released.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from nicwatchd.core.model import Key


@dataclass(frozen=True, slots=True)
class Releases:
    """The links that were released; with `everything` also those that come later."""

    everything: bool = False
    exceptions: frozenset[Key] = frozenset()  # links for which the opposite holds

    def __contains__(self, key: Key) -> bool:
        """Whether a link is released."""
        return (key in self.exceptions) is not self.everything

    def plus(self, key: Key | None) -> Releases:
        """These releases and this link; None: the whole host."""
        if key is None:
            return Releases(everything=True)
        return self if key in self else self._other_way_round(key)

    def minus(self, key: Key | None) -> Releases:
        """These releases without this link; None: no releases at all."""
        if key is None:
            return Releases()
        return self._other_way_round(key) if key in self else self

    def _other_way_round(self, key: Key) -> Releases:
        return replace(self, exceptions=self.exceptions ^ {key})

    def among(self, alive: Iterable[Key]) -> Releases:
        """These releases without links that are gone."""
        return replace(self, exceptions=self.exceptions & set(alive))
