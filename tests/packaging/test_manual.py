"""The manual pages: every command, exit code and option, and no fault that mandoc finds."""

import argparse
import re
import subprocess
from pathlib import Path

import pytest

from nicwatchd.cli import parser as commands
from tests.scenarios.software import UNPACKED

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "systemd/nicwatchd.8", ROOT / "systemd/nicwatchd.toml.5"]
PAGE = PAGES[0].read_text()
HIDDEN = {"--help", "--root"}


def parsers() -> dict[str, argparse.ArgumentParser]:
    actions = commands.parser()._actions
    [subparsers] = [a for a in actions if isinstance(a, argparse._SubParsersAction)]
    return dict(subparsers.choices)


def plain(text: str) -> str:
    """Roff without its escapes."""
    return text.replace("\\-", "-").replace("\\fI", "").replace("\\fR", "")


def test_every_command_is_in_it() -> None:
    assert [name for name in parsers() if not re.search(rf'(?m)^\.BR? {name}( "|$)', PAGE)] == []


def test_every_option_is_in_it() -> None:
    options = {
        option
        for command in parsers().values()
        for action in command._actions
        for option in action.option_strings
        if option.startswith("--")
    }
    text = plain(PAGE)
    assert [option for option in sorted(options - HIDDEN) if option not in text] == []


def test_exit_codes_are_the_same_everywhere() -> None:
    codes = set(re.findall(r"(?m)^  (\d)  ", commands.EPILOG))
    section = PAGE.partition(".SH EXIT STATUS")[2].partition(".SH")[0]
    assert set(re.findall(r"(?m)^\.B (\d)$", section)) == codes
    documented = (ROOT / "docs/interfaces.md").read_text().partition("## Exit codes")[2]
    assert set(re.findall(r"(?m)^\| (\d) \|", documented.partition("\n## ")[0])) == codes


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mandoc_finds_no_fault(page: Path) -> None:
    program = UNPACKED / "usr/bin/mandoc"
    assert program.exists(), f"{UNPACKED} is missing: run .ci/setup"
    # Style would be lines of the source that are longer than 80 bytes.
    command = [str(program), "-T", "lint", "-W", "warning", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr).splitlines() == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_it_fits_in_80_columns(page: Path) -> None:
    program = UNPACKED / "usr/bin/mandoc"
    done = subprocess.run(
        [program, "-T", "utf8", "-O", "width=80", page], capture_output=True, text=True, check=True
    )
    lines = [re.sub(".\b", "", line) for line in done.stdout.splitlines()]
    assert len(lines) > 100
    assert [line for line in lines if len(line) > 80] == []
