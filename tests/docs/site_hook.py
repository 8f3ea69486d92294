"""What mkdocs.yml needs beside mkdocs: pages from other folders, diagrams as pictures."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File

ROOT: Final = Path(__file__).parents[2]
MERMAID: Final = re.compile(r"```mermaid\nstateDiagram-v2\n(.*?)```\n", re.DOTALL)
ARROW: Final = re.compile(r"    (\S+) --> (\S+)(?: : (.*))?")
TITLED: Final = re.compile(r'    state "(.+)" as (\w+)')

# Folders that pages link to as a whole: the title of the page that lists one, and what it says.
FOLDERS: Final = {
    "decisions": ("Decisions", "Why things are as they are, one short page each."),
    "fleet": ("Files for a fleet", "What they are for is in [A fleet of hosts](../fleet.md)."),
}

# Graphviz takes no name of a colour that the page decides.
COLOURS: Final = {'stroke="black"': 'stroke="currentColor"', 'fill="black"': 'fill="currentColor"'}
GRAPH: Final = """\
digraph {
bgcolor=transparent; rankdir=TB; nodesep=0.5; ranksep=0.6
node [shape=box, style=rounded, fontname="sans-serif", fontsize=13]
edge [fontname="sans-serif", fontsize=11, arrowsize=0.7]
{ rank=source; start [shape=circle, label="", width=0.15, style=filled, fillcolor=black] }
"""


def on_files(files: Any, config: Any) -> Any:
    """Add the change log, the guide for contributors, and a page for each folder of documents."""
    for name, title in (("CHANGELOG.md", "changelog.md"), ("CONTRIBUTING.md", "contributing.md")):
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        text = text.replace("](CHANGELOG.md)", "](changelog.md)")
        files.append(File.generated(config, title, content=text))
    for folder, (title, about) in FOLDERS.items():
        lines = [f"# {title}", "", about, "", *_listed(ROOT / "docs" / folder)]
        files.append(File.generated(config, f"{folder}/index.md", content="\n".join(lines)))
    return files


def _listed(folder: Path) -> Iterator[str]:
    """A link to each file of a folder; a page by its title."""
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        name = str(path.relative_to(folder))
        title = name
        if path.suffix == ".md":
            title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        yield f"- [{title}]({name})"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Draw the diagrams when the site is built, so that readers need no script for them."""
    for folder in FOLDERS:
        markdown = markdown.replace(f"]({folder}/)", f"]({folder}/index.md)")
    return MERMAID.sub(lambda match: _picture(match[1]), markdown)


def _picture(diagram: str) -> str:
    done = subprocess.run(
        ["dot", "-Tsvg"], input=_graph(diagram), capture_output=True, text=True, check=True
    )
    svg = done.stdout[done.stdout.index("<svg") :]
    for fixed, current in COLOURS.items():
        svg = svg.replace(fixed, current)
    # Without ids, which would be the same on each picture of a page; no empty lines in HTML blocks.
    svg = re.sub(r' id="[^"]*"|<!--.*?-->\n?|<title>.*?</title>\n?', "", svg, flags=re.DOTALL)
    return f'<figure class="diagram" markdown="0">\n{svg.strip()}\n</figure>\n'


def _graph(diagram: str) -> str:
    """The diagram in Graphviz's language."""
    lines = [GRAPH]
    titles = {name: title for title, name in TITLED.findall(diagram)}
    lines += [f'{name} [label="{title}"]' for name, title in titles.items()]
    for start, end, label in ARROW.findall(diagram):
        first, last = ("start" if start == "[*]" else start), ("end" if end == "[*]" else end)
        lines.append(f'{first} -> {last} [label=" {label.replace(", ", chr(92) + "n ")} "]')
    if "--> [*]" in diagram:
        lines.append('end [shape=doublecircle, label="", width=0.1, style=filled, fillcolor=black]')
    return "\n".join([*lines, "}"])
