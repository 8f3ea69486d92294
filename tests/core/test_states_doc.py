"""docs/states.md says what the table says. `python -m tests.core.test_states_doc` renews it."""

import re
from pathlib import Path

from nicwatchd.core.lifecycle import TRANSITIONS, Event, State

DOC = Path(__file__).parents[2] / "docs" / "states.md"
BLOCK = re.compile(r"```mermaid\n.*?```\n", re.DOTALL)


def diagram() -> str:
    """The table as a Mermaid state diagram; one arrow for all events with the same way."""
    names = {state: re.sub(r"\W", "_", state) for state in State}
    lines = [f'    state "{state}" as {name}' for state, name in names.items() if name != state]
    lines.append(f"    [*] --> {names[State.DETECTED]}")
    for state, row in TRANSITIONS.items():
        for target in dict.fromkeys(row.values()):
            events = ", ".join(event for event, to in row.items() if to is target)
            lines.append(f"    {names[state]} --> {names[target]} : {events}")
    lines.append(f"    {names[State.GONE]} --> [*]")
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```", ""])


def test_the_diagram_is_made_from_the_table() -> None:
    assert BLOCK.findall(DOC.read_text("utf-8")) == [diagram()]


def test_each_state_and_each_event_is_explained() -> None:
    explained = re.findall(r"^\| `([\w-]+)` \| \S", DOC.read_text("utf-8"), re.MULTILINE)
    assert explained == [*State, *Event]


if __name__ == "__main__":
    DOC.write_text(BLOCK.sub(lambda _: diagram(), DOC.read_text("utf-8")), "utf-8")
