"""How remedies are laid out: what is a command can be pasted from a terminal of 80 columns."""

from __future__ import annotations

import shlex

import pytest

from nicwatchd.cli.layout import WIDTH, wrap, wrap_remedy
from nicwatchd.core.remedies import REMEDIES

LONG = "sudo ip -6 rule add pref 32764 iif lo from 2001:db8:ec2:2::11 lookup 1002751"
BEGINNINGS = ("Mend: ", "eth1  Mend: ", " " * 17 + "Mend: ")


def commands() -> list[str]:
    names = {
        "name": "enp0s31f6",
        "mac": "02:00:00:00:00:02",
        "eni": "eni-0a1b2c3d4e5f60718",
        "instance": "i-0a1b",
        "device": "1",
    }
    every = [text.format(**names) for text in REMEDIES.values()]
    return [LONG, f"{LONG}; {LONG}", *(text for text in every if text.split()[0] == "sudo")]


@pytest.mark.parametrize("first", BEGINNINGS)
@pytest.mark.parametrize("command", commands())
def test_a_shell_reads_what_is_pasted_as_the_command(command: str, first: str) -> None:
    lines = wrap_remedy(command, first)
    assert max(map(len, lines)) <= WIDTH
    assert lines[0].startswith(first)
    pasted = "\n".join(line[len(first) :] for line in lines)
    words = [" ".join(word.split()) for word in shlex.split(pasted, comments=True)]
    assert words == shlex.split(command, comments=True)


def test_a_sentence_is_wrapped_without_backslashes() -> None:
    text = REMEDIES["excluded"]
    assert wrap_remedy(text, "Mend: ") == wrap(text, "Mend: ")
    assert "\\" not in "".join(wrap(text, "Mend: "))


def test_what_fits_into_a_line_is_one() -> None:
    assert wrap_remedy("sudo ip link set dev eth1 up", "Mend: ") == [
        "Mend: sudo ip link set dev eth1 up"
    ]
