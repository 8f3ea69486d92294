"""Writes the committed files that are made from code: `python -m tests.docs.generate`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tests.docs.completions import completions
from tests.docs.settings_texts import manual, page, shipped

ROOT: Final = Path(__file__).parents[2]

MADE: Final[dict[str, Callable[[], str]]] = {
    "systemd/nicwatchd.toml": shipped,
    "systemd/nicwatchd.toml.5": manual,
    "docs/settings.md": page,
    "systemd/completions/nicwatchd.bash": partial(completions, "bash"),
    "systemd/completions/_nicwatchd": partial(completions, "zsh"),
    "systemd/completions/nicwatchd.fish": partial(completions, "fish"),
}

if __name__ == "__main__":
    for name, make in MADE.items():
        (ROOT / name).write_text(make(), encoding="utf-8")
