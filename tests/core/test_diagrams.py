"""The diagrams in the documents are made from tables. `python -m tests.core.test_diagrams` does it.

docs/states.md draws the states of an interface, docs/turn.md the phases of a turn.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.core.agenda import Why
from nicwatchd.core.lifecycle import TRANSITIONS, Event, State
from nicwatchd.core.turn import TURN, Move, Phase

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)

Table = Mapping[Any, Mapping[Any, Any]]


def diagram(table: Table, first: StrEnum, last: StrEnum | None = None) -> str:
    """A table as a Mermaid state diagram; one arrow for all events with the same way."""
    names = {state: re.sub(r"\W", "_", state) for state in table}
    lines = [f'    state "{state}" as {name}' for state, name in names.items() if name != state]
    lines.append(f"    [*] --> {names[first]}")
    for state, row in table.items():
        for target in dict.fromkeys(row.values()):
            events = ", ".join(event for event, to in row.items() if to is target)
            lines.append(f"    {names[state]} --> {names[target]} : {events}")
    if last is not None:
        lines.append(f"    {names[last]} --> [*]")
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


DRAWINGS = {
    "states.md": diagram(TRANSITIONS, State.DETECTED, State.GONE),
    "turn.md": diagram(TURN, Phase.RESTING),
}
NAMES: dict[str, list[StrEnum]] = {
    "states.md": [*State, *Event],
    "turn.md": [*Phase, *Move, *Why],
}
EXPLAINED = re.compile(r"^\| `([\w -]+)` \| \S", re.MULTILINE)


@pytest.mark.parametrize("document", DRAWINGS)
def test_each_diagram_is_made_from_its_table(document: str) -> None:
    assert BLOCK.findall((DOCS / document).read_text("utf-8")) == [DRAWINGS[document]]


@pytest.mark.parametrize("document", NAMES)
def test_each_name_in_a_table_is_explained(document: str) -> None:
    assert EXPLAINED.findall((DOCS / document).read_text("utf-8")) == NAMES[document]


if __name__ == "__main__":
    for name, drawn in DRAWINGS.items():
        text = (DOCS / name).read_text("utf-8")
        (DOCS / name).write_text(BLOCK.sub(drawn.replace("\\", r"\\"), text), "utf-8")
