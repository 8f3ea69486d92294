"""The manual page knows every command."""

import argparse
from pathlib import Path

from nicwatchd.cli.parser import parser

PAGE = Path(__file__).parents[2] / "systemd/nicwatchd.8"


def test_every_command_is_in_it() -> None:
    actions = parser()._actions
    [commands] = [a for a in actions if isinstance(a, argparse._SubParsersAction)]
    text = PAGE.read_text()
    missing = [
        name
        for name in commands.choices
        if f"\n.B {name}\n" not in text and f'\n.BR {name} " ' not in text
    ]
    assert missing == []
