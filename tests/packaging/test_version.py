"""The version of a package comes from one place and from git, and sorts as its commits do."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

import nicwatchd
from nicwatchd.cli import version as command
from nicwatchd.cli.parser import parser
from nicwatchd.service import build

ROOT = Path(__file__).parents[2]
TIMES = ("2026-12-01T09:30:00+09:00", "2026-12-01T00:45:00+00:00", "2026-12-02T00:00:00+00:00")


def run(folder: Path, *words: str, **environment: str) -> str:
    done = subprocess.run(
        words,
        cwd=folder,
        env=os.environ
        | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
        | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


class Tree:
    """A source tree of version 1.2.0 with what makes its version, in a repository."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "nicwatchd").mkdir(parents=True)
        (path / "nicwatchd/__init__.py").write_text('"""Doc."""\n\n__version__ = "1.2.0"\n')
        (path / "systemd/packaging").mkdir(parents=True)
        script = (ROOT / "systemd/packaging/version.py").read_text()
        (path / "systemd/packaging/version.py").write_text(script)

    def commit(self, time: str = TIMES[0]) -> str:
        """Commit everything; the abbreviated hash."""
        if not (self.path / ".git").exists():
            run(self.path, "git", "init", "-q")
        run(self.path, "git", "add", ".")
        author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        message = ("commit", "-q", "--allow-empty", "-m", time)
        dates = {"GIT_AUTHOR_DATE": time, "GIT_COMMITTER_DATE": time}
        run(self.path, "git", *author, *message, **dates)
        return run(self.path, "git", "rev-parse", "--short=7", "HEAD")

    def version(self, *words: str, **environment: str) -> str:
        script = self.path / "systemd/packaging/version.py"
        return run(self.path, sys.executable, str(script), *words, **environment)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


def before(one: str, other: str) -> bool:
    """Whether dpkg takes the first for the older version."""
    command = ["dpkg", "--compare-versions", one, "lt", other]
    return subprocess.run(command, check=False).returncode == 0


def test_a_tagged_commit_is_the_release(tree: Tree) -> None:
    tree.commit()
    run(tree.path, "git", "tag", "v1.2.0")
    assert (tree.version(), tree.version("--python")) == ("1.2.0", "1.2.0")


def test_any_other_commit_has_its_time_in_utc(tree: Tree) -> None:
    commit = tree.commit()
    run(tree.path, "git", "tag", "v1.1.0")
    for zone in ("UTC", "Asia/Tokyo"):
        assert tree.version(TZ=zone) == f"1.2.0~git20261201003000.{commit}"
        assert tree.version("--python", TZ=zone) == f"1.2.0.dev20261201003000+g{commit}"


def test_builds_sort_as_their_commits_and_before_the_release(tree: Tree) -> None:
    versions, pythons = ["1.1.0"], ["1.1.0"]
    for time in TIMES:
        tree.commit(time)
        versions.append(tree.version())
        pythons.append(tree.version("--python"))
    versions.append("1.2.0")
    pythons.append("1.2.0")
    assert all(before(one, other) for one, other in itertools.pairwise(versions))
    assert sorted(pythons, key=Version) == pythons


def test_what_is_not_committed_is_no_release(tree: Tree) -> None:
    commit = tree.commit()
    run(tree.path, "git", "tag", "v1.2.0")
    with (tree.path / "nicwatchd/__init__.py").open("a") as file:
        file.write("# changed\n")
    assert tree.version() == f"1.2.0~git20261201003000.{commit}.dirty"
    assert tree.version("--commit").endswith("-dirty")


def test_without_git_it_is_what_was_written_into_the_tree(tree: Tree, tmp_path: Path) -> None:
    commit = tree.commit()
    copy = Tree(tmp_path / "copy")
    assert copy.version() == "1.2.0"
    assert copy.version("--commit") == ""
    tree.version("--stamp", str(copy.path))
    assert copy.version() == f"1.2.0~git20261201003000.{commit}"
    assert copy.version("--python") == f"1.2.0.dev20261201003000+g{commit}"
    assert copy.version("--commit").startswith(commit)


def test_the_repository_around_a_source_tree_does_not_count(tree: Tree) -> None:
    run(tree.path.parent, "git", "init", "-q")
    assert tree.version() == "1.2.0"


def test_the_command_tells_all_four(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--version"])
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == ["nicwatchd", "commit", "Python", "pyroute2"]
    assert lines[0] == f"nicwatchd {nicwatchd.__version__}"
    assert lines[2] == f"Python {sys.version.split()[0]}"


def test_a_source_tree_knows_its_commit_from_git(tree: Tree) -> None:
    assert command.built_from(tree.path) == ""
    commit = tree.commit()
    assert command.built_from(tree.path).startswith(commit)


def test_a_package_knows_its_commit_from_a_file(
    tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.commit()
    (tmp_path / "commit").write_text("0123456789ab\n")
    monkeypatch.setattr(build, "FILE", tmp_path / "commit")
    build.commit.cache_clear()
    try:
        assert command.built_from(tree.path) == "0123456789ab"
    finally:
        build.commit.cache_clear()


def test_the_change_log_has_the_version() -> None:
    assert f"\n## [{nicwatchd.__version__}] - 20" in (ROOT / "CHANGELOG.md").read_text()
