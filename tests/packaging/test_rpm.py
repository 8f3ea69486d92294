"""One specification for all families of hosts with RPMs: rpm's own tools resolve it for each."""

import itertools
import re
import subprocess
from pathlib import Path

import pytest

RPM = Path(__file__).parents[2] / "systemd/packaging/rpm"
COMMON = {"systemd >= 252", "libc.so.6(GLIBC_2.34)(64bit)"}
FAMILIES = {
    "amzn2023": {"python3.11", "/usr/bin/python3.11"},
    "el9": {"python3.12", "/usr/bin/python3.12"},
    "el10": {"python3", "/usr/bin/python3.12"},
    "sles16": {"python313", "/usr/bin/python3.13"},
}


def rpmspec(*words: str, macros: dict[str, str]) -> subprocess.CompletedProcess[str]:
    always = {"version": "1.2.0~git1.a", "staged": "/x", "maintainer": "A <a@example.org>"}
    always["changed"] = "Tue Dec 01 2026"
    defines = [f"--define={name} {value}" for name, value in (always | macros).items()]
    command = ["rpmspec", *words, *defines, str(RPM / "nicwatchd.spec")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def macros_of(family: str) -> dict[str, str]:
    lines = [line.split() for line in (RPM / "families").read_text().splitlines()]
    return {macro: value for name, macro, value in lines if name == family}


def test_every_family_is_here() -> None:
    names = {line.split()[0] for line in (RPM / "families").read_text().splitlines()}
    assert names == FAMILIES.keys()


@pytest.mark.parametrize("family", FAMILIES)
def test_each_requires_the_python_of_its_family(family: str) -> None:
    done = rpmspec("--query", "--requires", macros=macros_of(family))
    required = set(done.stdout.splitlines())
    assert {each for each in required if "python" in each} == FAMILIES[family]
    assert required >= COMMON


@pytest.mark.parametrize("family", FAMILIES)
def test_the_release_has_its_family(family: str) -> None:
    done = rpmspec("--query", "--queryformat=%{VERSION} %{RELEASE}", macros=macros_of(family))
    assert done.stdout == f"1.2.0~git1.a 1.{family}"


@pytest.mark.parametrize("family", FAMILIES)
def test_no_macro_is_left_over(family: str) -> None:
    done = rpmspec("--parse", macros=macros_of(family))
    assert done.returncode == 0
    text = re.sub(r"%%|\$\{[^}]*\}", "", done.stdout)  # the shell's own %
    sections = (
        r"%(description|install|post|posttrans|preun|postun|files|changelog|dir|license|config)"
    )
    assert re.findall(r"%\w*", re.sub(sections, "", text)) == []


@pytest.mark.parametrize("macros", [{}, {"fedora": "44"}, {"rhel": "8"}], ids=str)
def test_another_family_is_refused(macros: dict[str, str]) -> None:
    done = rpmspec("--parse", macros=macros)
    assert done.returncode == 1
    assert "no such family of hosts" in done.stderr


def test_builds_between_releases_sort_before_the_release() -> None:
    versions = ["1.1.0", "1.2.0~git20261201003000.a", "1.2.0~git20261201004500.0", "1.2.0"]
    script = "".join(
        f'print(rpm.vercmp("{one}", "{other}")) ' for one, other in itertools.pairwise(versions)
    )
    done = subprocess.run(
        ["rpm", "--eval", f"%{{lua: {script}}}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["-1-1-1"]
