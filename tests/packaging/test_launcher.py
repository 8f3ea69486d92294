"""/usr/bin/nicwatchd: finds the libraries beside it, or says for which Python they are."""

import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "systemd/packaging/launcher.py"
COMPILED = "lib/nicwatchd/pydantic_core/_pydantic_core"
PROGRAM = "import sys\ndef main():\n    print(sys.argv[1:])\n    return 3\n"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A PREFIX with a program that prints how it was called."""
    (tmp_path / "bin").mkdir()
    shutil.copy(LAUNCHER, tmp_path / "bin/nicwatchd")
    command = tmp_path / "lib/nicwatchd/nicwatchd/cli/main.py"
    command.parent.mkdir(parents=True)
    command.write_text(PROGRAM)
    return tmp_path


def bring(prefix: Path, suffix: str) -> None:
    path = prefix / (COMPILED + suffix)
    path.parent.mkdir(exist_ok=True)
    path.touch()


def launch(prefix: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(prefix / "bin/nicwatchd"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_runs_what_lies_beside_it(prefix: Path) -> None:
    bring(prefix, EXTENSION_SUFFIXES[0])
    done = launch(prefix, "status", "eth1")
    assert (done.returncode, done.stdout, done.stderr) == (3, "['status', 'eth1']\n", "")


def test_it_may_be_called_by_a_link(prefix: Path, tmp_path: Path) -> None:
    bring(prefix, EXTENSION_SUFFIXES[0])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/bin").symlink_to(prefix / "bin")
    assert launch(tmp_path / "elsewhere").returncode == 3


def test_another_python_is_told_in_one_line(prefix: Path) -> None:
    for number in (27, 30):
        bring(prefix, f".cpython-{number}-x86_64-linux-gnu.so")
    done = launch(prefix)
    assert done.returncode == 2
    tag = EXTENSION_SUFFIXES[0].split(".")[1]
    names = "cpython-27-x86_64-linux-gnu or cpython-30-x86_64-linux-gnu"
    expected = f"nicwatchd: installed for {names}, but {sys.executable} is {tag}\n"
    assert (done.stdout, done.stderr) == ("", expected)
