"""How long each scenario lasts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PAUSE: Final = 10.0  # s between a detach and the next step


@dataclass(frozen=True, slots=True)
class Windows:
    """How long each scenario is observed, in s."""

    race: float = 120.0
    usual: float = 90.0
    quiet: float = 60.0
    removal: float = 150.0
    detached: float = 30.0


WINDOWS: Final = Windows()
QUICK: Final = Windows(race=45.0, usual=30.0, quiet=20.0, removal=20.0, detached=10.0)
