"""The completions, in real shells: bash of this machine, zsh and fish from build/software."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from tests.scenarios.software import ENTER, PATH, UNPACKED

FILES = Path(__file__).parents[2] / "systemd/completions"
WITHIN = 60.0  # s; only ends what hangs

# What stands for nicwatchd and the links of a host.
COMMAND = """\
#!/bin/sh
printf '  "eni": "eni-0a1b2c3d4e5f60718",\\n'
"""
BASH = """
. "$1"
COMP_LINE=$2; COMP_POINT=${#2}; COMP_WORDS=($2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
case $2 in *' ') COMP_WORDS+=(''); COMP_CWORD=$((COMP_CWORD + 1)) ;; esac
complete -p nicwatchd >/dev/null
$(complete -p nicwatchd | sed -n 's/.* -F \\([^ ]*\\) .*/\\1/p')
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'source "$argv[1]"; complete -C "$argv[2]"'


def entering(tmp_path: Path, *command: str) -> list[str]:
    """A command that sees the programs of build/software."""
    assert (UNPACKED / "packages").exists(), f"{UNPACKED} is missing: run .ci/setup"
    run = tmp_path / "run"
    run.mkdir(exist_ok=True)
    return ["unshare", "--mount", "sh", "-c", ENTER, "sh", str(UNPACKED), str(run), *command]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home without anybody's settings, and a nicwatchd that knows one ENI."""
    program = tmp_path / "bin/nicwatchd"
    program.parent.mkdir()
    program.write_text(COMMAND)
    program.chmod(0o755)
    path = f"{program.parent}:{PATH}"
    return {"PATH": path, "HOME": str(tmp_path), "TERM": "xterm", "LC_ALL": "C.UTF-8"}


def complete(shell: str, line: str, environment: dict[str, str], tmp_path: Path) -> set[str]:
    """What a shell offers for the last word of a line."""
    command = {
        "bash": ["bash", "--norc", "-c", BASH, "bash", str(FILES / "nicwatchd.bash"), line],
        "fish": entering(
            tmp_path, "fish", "--no-config", "-c", FISH, str(FILES / "nicwatchd.fish"), line
        ),
    }[shell]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return {offer.split("\t")[0].strip() for offer in done.stdout.splitlines()} - {""}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_commands_options_and_interfaces(
    shell: str, environment: dict[str, str], tmp_path: Path
) -> None:
    def offers(line: str) -> set[str]:
        return complete(shell, line, environment, tmp_path)

    assert offers("nicwatchd re") == {"reconcile", "release", "record"}
    assert offers("nicwatchd migrate --un") == {"--undo"}
    assert offers("nicwatchd wait --for ipv") == {"ipv4", "ipv6"}
    assert offers("nicwatchd status eni-") == {"eni-0a1b2c3d4e5f60718"}
    assert offers("nicwatchd wait eni-0a1b2c3d4e5f60718 eni-") >= {"eni-0a1b2c3d4e5f60718"}
    (tmp_path / "some.toml").touch()
    assert offers(f"nicwatchd plan --config {tmp_path}/some") == {f"{tmp_path}/some.toml"}
    assert "lo" not in offers("nicwatchd explain ")


def zsh(keys: str, wanted: str, environment: dict[str, str], tmp_path: Path) -> str:
    """Type into an interactive zsh until it shows what is wanted; what it showed."""
    process, terminal = pty.fork()
    if process == 0:
        command = entering(tmp_path, "zsh", "-f", "-i")
        os.execvpe(command[0], command, {**environment, "PS1": "> ", "COLUMNS": "200"})
    shown = ""
    start = f"fpath=({FILES} $fpath); autoload -U compinit; compinit -u -D; print rea''dy\n"
    pending = [(r"> ", start), (r"ready\r\n", keys), (wanted, "\x15exit\n")]  # ^U empties the line
    deadline = time.monotonic() + WITHIN
    try:
        while pending and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                shown += os.read(terminal, 4096).decode(errors="replace")
            if re.search(pending[0][0], re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)):
                os.write(terminal, pending.pop(0)[1].encode())
    finally:
        os.close(terminal)
        os.waitpid(process, 0)
    assert not pending, shown
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ("nicwatchd stat\t", "nicwatchd status "),
        ("nicwatchd migrate --un\t", "nicwatchd migrate --undo"),
        ("nicwatchd status eni-\t", "nicwatchd status eni-0a1b2c3d4e5f60718"),
        ("nicwatchd wait --for ipv\t\t", "ipv4.*ipv6"),
    ],
)
def test_zsh(keys: str, wanted: str, environment: dict[str, str], tmp_path: Path) -> None:
    assert re.search(wanted, zsh(keys, wanted, environment, tmp_path))
