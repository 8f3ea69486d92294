"""The commands that README and docs show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = ("README.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")))

FENCED: Final = re.compile(r"(?ms)^( *)```(\w*)\n(.*?)^\1```$")
INDENTED: Final = re.compile(r"(?m)(?<=\n\n)(?:    \S.*\n)+(?:\n*(?:    .*\n)+)*")
INLINE: Final = re.compile(r"`((?:sudo )?nicwatchd [a-z][^`\n]*)`")
OPERATORS: Final = frozenset({"&&", "||", "|", ";", ">", "&"})
SHELL: Final = ("sh", "console")


@dataclass(frozen=True)
class Shown:
    """One command, and the page that shows it."""

    page: str
    command: str

    def __str__(self) -> str:
        return f"{self.page}: {self.command}"

    @property
    def nicwatchd(self) -> Iterator[list[str]]:
        """The arguments of each call of nicwatchd in it."""
        lexer = shlex.shlex(self.command, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in OPERATORS:
                words.append(word)
                continue
            bare = words[1:] if words[:1] == ["sudo"] else words
            if bare[:1] == ["nicwatchd"]:
                yield bare[1:]
            words = []


def commands(page: str) -> list[Shown]:
    """The commands of a page, in order: in blocks, and those of nicwatchd in running text."""
    text = (ROOT / page).read_text("utf-8")
    found = [Shown(page, command) for block in blocks(page) for command in _commands(block)]
    prose = FENCED.sub("", text)
    return [*found, *(Shown(page, command) for command in INLINE.findall(prose))]


def blocks(page: str) -> list[str]:
    """The blocks of a page that are for a shell, without prompts and output."""
    text = (ROOT / page).read_text("utf-8")
    found = [_shell(language, block) for _, language, block in FENCED.findall(text)]
    found += [re.sub(r"(?m)^    ", "", each) for each in INDENTED.findall(FENCED.sub("", text))]
    return [block for block in found if block and _is_shell(block)]


def _shell(language: str, block: str) -> str:
    if language not in SHELL:
        return ""
    lines = [line.strip() for line in block.splitlines()]
    if language == "sh":
        return "\n".join(lines)
    kept, goes_on = [], False
    for line in lines:
        if goes_on or line.startswith("$ "):
            kept.append(line.removeprefix("$ "))
            goes_on = line.endswith("\\")
    return "\n".join(kept)


def _is_shell(block: str) -> bool:
    """Whether an indented block is commands: not code, nor what a command prints."""
    programs = r"sudo|nicwatchd(?! \d)|curl|make|ip|journalctl|systemctl|aws"
    return bool(re.match(rf"(?:{programs}) |\w+=\S", block))


def _commands(block: str) -> Iterator[str]:
    for line in block.replace("\\\n", " ").splitlines():
        if command := re.sub(r"(^|\s)#.*", "", line).strip():
            yield " ".join(command.split())
