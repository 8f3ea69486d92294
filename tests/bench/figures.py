"""The result of a measurement: samples in one unit, and their limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

# The printed units: the factor from the measured unit, and the number of decimals.
UNITS: Final = {"ms": (1000.0, 0), "s": (1.0, 2), "MiB": (1.0, 1), "%": (100.0, 3), "": (1.0, 1)}


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget: the upper limit of a statistic ("median", "p99" or "max")."""

    statistic: str
    at_most: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `samples` are seconds, MiB, or numbers; `unit` is how to print them.

    `suffix` follows the printed number ("/s", "x"); `show` are the statistics to print beside
    those with a limit. `details` are only in the JSON.
    """

    what: str
    samples: Sequence[float]
    unit: str = "ms"
    suffix: str = ""
    limits: tuple[Limit, ...] = ()
    show: tuple[str, ...] = ()
    note: str = ""
    details: dict[str, object] = field(default_factory=dict)

    def value(self, statistic: str) -> float:
        """A statistic of the samples; infinite without samples, so that every limit is missed."""
        if not self.samples:
            return math.inf
        match statistic:
            case "median":
                return median(self.samples)
            case "max":
                return max(self.samples)
            case _:
                return percentile(self.samples, float(statistic.removeprefix("p")))

    def text(self, value: float) -> str:
        """A value with its unit."""
        factor, digits = UNITS[self.unit]
        number = f"{value * factor:.{digits}f}" if math.isfinite(value) else "none"
        unit = f" {self.unit}" if self.unit else ""
        return f"{number}{unit}{self.suffix}"

    @property
    def met(self) -> bool:
        """Whether every limit is kept."""
        return all(self.value(limit.statistic) <= limit.at_most for limit in self.limits)

    @property
    def statistics(self) -> tuple[str, ...]:
        """The statistics to print, in a fixed order."""
        wanted = {limit.statistic for limit in self.limits} | set(self.show)
        return tuple(name for name in ("median", "p99", "max") if name in wanted)


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: always an actual sample, never an interpolation."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]
