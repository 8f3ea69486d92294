"""Lays out the installed files of nicwatchd, libraries included, in a directory.

`make install` uses it as it is; the Debian package and the RPM are made from its result. Nothing is
compiled: the libraries come as wheels of the versions in constraints.txt. Of several versions of
Python only the compiled parts differ, and these carry the version in their names, so that one tree
serves all.
"""

import argparse
import compileall
import email
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent

# What the distribution has, or what the service does without.
LEFT_OUT: Final = {
    "systemd-python",  # the distribution's, if there; else its protocols are spoken directly
    "rich",  # for the demo alone, which asks for it
}
# glibc's versions that wheels are made for, up to the oldest of the targets (Amazon Linux: 2.34).
GLIBC: Final = ("manylinux_2_17", "manylinux2014", "manylinux_2_28", "manylinux_2_34")

# Of wheels: what is for building, checking types or testing, and records that would be wrong here.
NOT_INSTALLED: Final = re.compile(
    r"\.(pyx|pxd|pxi|pyi|c|h|hash|typed)$|/tests?/|/_testcapi\.|\.dist-info/(?!METADATA$)"
)
# What every Debian system has the text of, by the first words of that text.
COMMON_LICENSES: Final = {"Apache License": "Apache-2.0", "GNU GENERAL PUBLIC LICENSE": "GPL-2"}
LICENSE: Final = re.compile(
    r"\.dist-info/(licenses/)?.*(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", re.IGNORECASE
)


class StageError(Exception):
    """The files cannot be laid out; the text is one line."""


def requirements() -> list[str]:
    """What is to be brought along, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=~! ]", each)[0]: each for each in project["dependencies"]}
    return [each for name, each in names.items() if name not in LEFT_OUT]


def download(python: str | None, machine: str, cache: Path) -> list[Path]:
    """The wheels for a version of Python (None: the running one) on a machine (`uname -m`)."""
    folder = cache / f"{python or 'this'}-{machine}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    command += ["--dest", str(folder), "--constraint", str(ROOT / "constraints.txt")]
    if python:
        number = python.replace(".", "")
        command += ["--implementation=cp", f"--python-version={python}"]
        command += [f"--abi={abi}" for abi in (f"cp{number}", "abi3", "none")]
        command += [f"--platform={glibc}_{machine}" for glibc in GLIBC]
    shutil.rmtree(folder, ignore_errors=True)  # of an earlier constraints.txt, perhaps
    subprocess.run([*command, *requirements()], check=True)
    return sorted(folder.glob("*.whl"))


def unpack(wheel: Path, library: Path) -> None:
    """Put a wheel's modules into `library`. What is there already must be the same."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir() or NOT_INSTALLED.search(member.filename):
                continue
            path, content = library / member.filename, archive.read(member)
            if path.suffix == ".py" and content.startswith(b"#!"):
                content = b"#" + content[2:]  # a module is no command
            if path.exists() and path.read_bytes() != content:
                raise StageError(f"{member.filename} is not the same for all versions of Python")
            write(path, content)


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file, with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def license_text(text: str) -> str:
    """A license's text, or where it is."""
    for first_words, name in COMMON_LICENSES.items():
        if text.lstrip().startswith(first_words):
            place = f"/usr/share/common-licenses/{name}"
            return f"{name}: on Debian systems the full text is in {place}."
    return text


def copyright_of(wheel: Path) -> Iterator[str]:
    """The paragraph of a wheel in a Debian copyright file; the license in its own words."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(archive.read(metadata))
        name = re.sub(r"[-.]", "_", said["Name"]).lower()
        texts = [license_text(archive.read(n).decode()) for n in names if LICENSE.search(n)]
    holders = re.findall(r"(?m)^\W*(Copyright .*\S)\s*$", "\n".join(texts))
    authors = said["Author"] or said["Author-email"] or f"the authors of {said['Name']}"
    yield f"Files: usr/lib/nicwatchd/{name}*"
    yield "Copyright: " + "\n ".join(dict.fromkeys(holders or [authors]))
    yield f"License: {name}"
    license_name = said["License-Expression"] or said["License"] or "see below"
    yield f" {said['Name']} {said['Version']}: {license_name.splitlines()[0]}"
    for line in "\n".join(texts).splitlines():
        yield f" {line}" if line.strip() else " ."
    yield ""


def stage_library(wheels: list[Path], library: Path) -> None:
    """Everything that Python imports."""
    for wheel in wheels:
        unpack(wheel, library)
    package = ROOT / "nicwatchd"
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            write(library / path.relative_to(ROOT), path.read_bytes())


def strip(library: Path, program: str) -> None:
    """Take debugging information out of the compiled parts: four fifths of their size."""
    subprocess.run([program, "--strip-unneeded", *library.rglob("*.so")], check=True)


def stage_files(destination: Path, prefix: Path, interpreter: str) -> None:
    """Everything else. What an operator may have changed is left, with ours beside it."""
    systemd, base = ROOT / "systemd", destination / prefix.relative_to("/")
    launcher = (HERE / "launcher.py").read_text()
    launcher = launcher.replace("#!/usr/bin/python3", f"#!{interpreter}", 1)
    write(base / "bin/nicwatchd", launcher.encode(), 0o755)
    unit = (systemd / "nicwatchd.service").read_text()
    unit = unit.replace("ExecStart=/usr/bin/", f"ExecStart={prefix}/bin/")
    write(base / "lib/systemd/system/nicwatchd.service", unit.encode())
    for source, target in (
        ("nicwatchd.sysusers", "lib/sysusers.d/nicwatchd.conf"),
        ("nicwatchd.networkd.conf", "lib/systemd/networkd.conf.d/10-nicwatchd.conf"),
        ("nicwatchd.catalog", "lib/systemd/catalog/nicwatchd.catalog"),
        ("nicwatchd.8", "share/man/man8/nicwatchd.8"),
    ):
        write(base / target, (systemd / source).read_bytes())
    config, content = destination / "etc/nicwatchd/nicwatchd.toml", systemd / "nicwatchd.toml"
    if config.exists() and config.read_bytes() != content.read_bytes():
        config = config.with_suffix(".toml.new")
    write(config, content.read_bytes())


def stage_copyright(wheels: list[Path], file: Path) -> None:
    """One copyright file for all that is installed, each library once."""
    once = {wheel.name.split("-")[0]: wheel for wheel in wheels}
    lines = [line for wheel in once.values() for line in copyright_of(wheel)]
    write(file, ((HERE / "copyright").read_text() + "\n" + "\n".join(lines)).encode())


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Lay out the installed files of nicwatchd.")
    parser.add_argument("destination", type=Path, help="stands for /")
    parser.add_argument("--prefix", type=Path, default=Path("/usr/local"))
    parser.add_argument("--interpreter", default=sys.executable, help="that nicwatchd runs with")
    parser.add_argument("--python", action="append", metavar="3.x", help="default: the running one")
    parser.add_argument("--machine", default=os.uname().machine, help="as uname -m says")
    parser.add_argument("--wheels", type=Path, default=ROOT / "build/wheels", help="kept there")
    parser.add_argument("--strip", metavar="PROGRAM", help="binutils' strip for that machine")
    parser.add_argument("--compile", action="store_true", help="for the running Python")
    return parser.parse_args()


def main() -> None:
    """Lay everything out."""
    said = arguments()
    os.umask(0o022)
    if not said.prefix.is_absolute():
        raise StageError(f"PREFIX must be an absolute path, not {said.prefix}")
    pythons = said.python or [None]
    wheels = [wheel for each in pythons for wheel in download(each, said.machine, said.wheels)]
    base = said.destination / said.prefix.relative_to("/")
    library = base / "lib/nicwatchd"
    shutil.rmtree(library, ignore_errors=True)  # no module of an earlier version stays
    stage_library(wheels, library)
    if said.strip:
        strip(library, said.strip)
    stage_files(said.destination, said.prefix, said.interpreter)
    stage_copyright(wheels, base / "share/doc/nicwatchd/copyright")
    if said.compile:
        compileall.compile_dir(library, stripdir=str(said.destination), prependdir="/", quiet=1)


if __name__ == "__main__":
    try:
        main()
    except StageError as error:
        sys.exit(f"stage: {error}")
