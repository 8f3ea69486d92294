"""What a release refuses, and who is named in it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGING = Path(__file__).parents[2] / "systemd/packaging"
CLEAN = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
WHO = ("-c", "user.name=Ann Example", "-c", "user.email=ann@example.org")


def run(tree: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("DEB")}
    own.pop("UNTAGGED", None)
    return subprocess.run(
        words, cwd=tree, env=own | CLEAN | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository whose packages are empty files, made by its own Makefile."""
    tree = tmp_path / "tree"
    shutil.copytree(PACKAGING, tree / "systemd/packaging", ignore=shutil.ignore_patterns("__py*"))
    (tree / "nicwatchd").mkdir()
    (tree / "nicwatchd/__init__.py").write_text('__version__ = "1.2.0"\n')
    (tree / "Makefile").write_text("deb rpm:\n\t@echo no packages here >&2; exit 7\n")
    run(tree, "git", "init", "-q")
    run(tree, "git", "add", ".")
    run(tree, "git", *WHO, "commit", "-q", "-m", "First")
    return tree


def release(tree: Path, **environment: str) -> tuple[int, str]:
    done = run(tree, "systemd/packaging/release", **environment)
    return done.returncode, done.stderr.splitlines()[0]


def test_what_is_not_committed_is_not_released(tree: Path) -> None:
    run(tree, "git", "tag", "v1.2.0")
    (tree / "new").touch()
    refused = "build: there are changes that are not committed (git status)"
    assert release(tree) == (1, refused)
    assert release(tree, UNTAGGED="1") == (1, refused)


def test_a_commit_without_its_tag_is_not_released_unless_told(tree: Path) -> None:
    run(tree, "git", "tag", "v1.1.0")
    code, text = release(tree)
    assert code == 1
    assert text.startswith("build: this commit has no tag v1.2.0; UNTAGGED=1 builds 1.2.0~git")
    assert release(tree, UNTAGGED="1")[1] == "no packages here"


def test_a_tagged_commit_is_built(tree: Path) -> None:
    run(tree, "git", "tag", "v1.2.0")
    assert release(tree)[1] == "no packages here"


def maintainer(tree: Path, **environment: str) -> str:
    script = ". systemd/packaging/common.sh; maintainer"
    return run(tree, "bash", "-c", script, **environment).stdout.strip()


def test_the_maintainer_is_who_publishes_or_wrote_it(tree: Path) -> None:
    assert maintainer(tree) == "Ann Example <ann@example.org>"
    told = maintainer(tree, DEBFULLNAME="Bob", DEBEMAIL="bob@example.org")
    assert told == "Bob <bob@example.org>"


def test_no_address_is_made_up() -> None:
    texts = {path: path.read_text() for path in PACKAGING.rglob("*") if path.is_file()
             and "__pycache__" not in path.parts}  # fmt: skip
    assert len(texts) > 10
    assert [path for path, text in texts.items() if ".invalid" in text] == []
