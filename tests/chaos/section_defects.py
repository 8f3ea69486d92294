"""Defects about sections, each planted by itself, that a walk with sections has to find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nicwatchd.core import decide, sections
from nicwatchd.core.metadata import Value
from nicwatchd.core.policy import BOTH


def unknown_id_is_anothers(patch: pytest.MonkeyPatch) -> None:
    """A section whose id IMDS has not told counts as one for other interfaces."""

    def wrong(said: Any, wanted: str) -> bool:
        return not isinstance(said, Value) or wanted not in sections._listed(said.value)

    patch.setattr(sections, "_lacks", wrong)


def families_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A section that leaves a family out has no effect."""
    right = sections.own_policy

    def wrong(*arguments: Any, **named: Any) -> Any:
        own = right(*arguments, **named)
        return replace(own, policy=replace(own.policy, families=BOTH))

    patch.setattr(decide, "own_policy", wrong)


def owner_wins(patch: pytest.MonkeyPatch) -> None:
    """A container network has all ENIs, whatever sections say."""
    right = sections.own_policy

    def wrong(*arguments: Any, **named: Any) -> Any:
        own = right(*arguments, **named)
        manage = own.policy.manage and None
        return own if own.awaits else replace(own, policy=replace(own.policy, manage=manage))

    patch.setattr(decide, "own_policy", wrong)


def gap_at_a_reload(patch: pytest.MonkeyPatch) -> None:
    """While whose section applies is unknown, what stands is removed."""
    right = sections.own_policy

    def wrong(*arguments: Any, **named: Any) -> Any:
        own = right(*arguments, **named)
        return (
            replace(own, awaits=None, policy=replace(own.policy, manage=False))
            if own.awaits
            else own
        )

    patch.setattr(decide, "own_policy", wrong)
