"""docs/fleet/image: what makes hosts with nicwatchd, as far as it can be judged without a host.

`make test-repository` runs the user-data and the role.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import hcl2
import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
IMAGE: Final = ROOT / "docs/fleet/image"
ROLE: Final = IMAGE / "ansible/roles/nicwatchd"
PUBLISHER: Final = ROOT / "systemd/packaging/repository/build"


def user_data(kind: str) -> dict[str, Any]:
    text = (IMAGE / f"user-data.{kind}.yaml").read_text()
    assert text.startswith("#cloud-config\n")  # or else cloud-init takes it for something else
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("apt", ("Types: deb", "Suites: stable", "Components: main", "Signed-By:")),
        ("dnf", ("[nicwatchd]", "gpgcheck=1", "repo_gpgcheck=1", "enabled=1")),
    ],
)
def test_the_user_data_has_what_the_repository_writes(kind: str, words: tuple[str, ...]) -> None:
    """Line by line: what a host is told by hand is what `make repository` would tell it."""
    repository, settings = user_data(kind)["write_files"]
    written = PUBLISHER.read_text()
    for word in words:
        assert word in repository["content"].splitlines()
        assert word in written
    assert settings["path"] == "/etc/nicwatchd/conf.d/fleet.toml"
    assert user_data(kind)["packages"] == ["nicwatchd"]


def test_each_task_has_a_name_and_a_module_that_ansible_brings() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/main.yml").read_text())
    for task in tasks:
        assert task["name"]
        assert [key for key in task if key.startswith("ansible.builtin.")]


def test_the_role_uses_the_variables_that_it_has() -> None:
    defaults = set(yaml.safe_load((ROLE / "defaults/main.yml").read_text()))
    parts = [ROLE / "tasks/main.yml", ROLE / "handlers/main.yml"]
    used = set(re.findall(r"\bnicwatchd_\w+", "".join(part.read_text() for part in parts)))
    assert used == defaults
    page = (ROOT / "docs/images.md").read_text()
    assert defaults == set(re.findall(r"(?m)^\| `(nicwatchd_\w+)` \|", page))


def test_packer_runs_the_role_and_forgets_the_builder() -> None:
    template = hcl2.loads((IMAGE / "nicwatchd.pkr.hcl").read_text())
    text = str(template["build"])
    for file in ("ansible/playbook.yml", "forget"):
        assert f"${{path.root}}/{file}" in text
        assert (IMAGE / file).exists()
    assert "nicwatchd_bake=true" in text


def test_the_last_step_is_a_script_for_any_shell() -> None:
    assert subprocess.run(["sh", "-n", IMAGE / "forget"], check=False).returncode == 0
    assert (IMAGE / "forget").stat().st_mode & 0o111
