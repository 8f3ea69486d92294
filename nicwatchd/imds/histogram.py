"""Durations, counted by size, as Prometheus wants them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate


class Histogram:
    """How many values were at most each bound, and the sum of all. Bounds are ascending."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Each bound as text, and how many values were at most that; the last bound is +Inf."""
        bounds = [*map(str, self._bounds), "+Inf"]
        return zip(bounds, accumulate(self._counts), strict=True)
