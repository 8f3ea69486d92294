"""Stages the installed files of nicwatchd, including its libraries, in a directory.

`make install` runs it for this host; the Debian package and the RPM are built from its result.
Nothing is compiled: the libraries are wheels of the versions in constraints.txt. For several
versions of Python only the compiled modules differ, and these have the version in their names, so
one tree serves all versions.
"""

import argparse
import compileall
import email
import hashlib
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

import version

ROOT: Final = Path(__file__).parents[2]
HERE: Final = Path(__file__).parent

# Dependencies that the distribution provides, or that the service does not need.
LEFT_OUT: Final = {
    "systemd-python",  # the distribution's, if installed; else we implement the protocols
    "rich",  # only for the demo, which says so if it is missing
}
# Platform tags of wheels, up to the oldest glibc of our targets (Amazon Linux: 2.34).
GLIBC: Final = ("manylinux_2_17", "manylinux2014", "manylinux_2_28", "manylinux_2_34")

# Files in wheels for building, type checking or testing, and records that would be wrong here.
NOT_INSTALLED: Final = re.compile(
    r"\.(pyx|pxd|pxi|pyi|c|h|hash|typed)$|/tests?/|/_testcapi\.|\.dist-info/(?!METADATA$)"
)
# Licenses whose text is on every Debian system, by their first words.
COMMON_LICENSES: Final = {"Apache License": "Apache-2.0", "GNU GENERAL PUBLIC LICENSE": "GPL-2"}
LICENSE: Final = re.compile(
    r"\.dist-info/(licenses/)?.*(LICEN[CS]E|COPYING|NOTICE|AUTHORS)", re.IGNORECASE
)


class StageError(Exception):
    """The files cannot be staged; the text is one line."""


def requirements() -> list[str]:
    """The libraries to include, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=~! ]", each)[0]: each for each in project["dependencies"]}
    return [each for name, each in names.items() if name not in LEFT_OUT]


def download(python: str | None, machine: str, cache: Path) -> list[Path]:
    """The wheels for a version of Python (None: the running one) on a machine (`uname -m`).

    They stay in `cache` for the next package, until the pins or the requirements change.
    """
    wanted = (ROOT / "constraints.txt").read_text() + "\n".join(requirements())
    name = f"{python or sys.implementation.cache_tag}-{machine}"
    folder = cache / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:16]}"
    if (folder / "complete").exists():
        return sorted(folder.glob("*.whl"))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:"]
    command += ["--dest", str(folder), "--constraint", str(ROOT / "constraints.txt")]
    if python:
        number = python.replace(".", "")
        command += ["--implementation=cp", f"--python-version={python}"]
        command += [f"--abi={abi}" for abi in (f"cp{number}", "abi3", "none")]
        command += [f"--platform={glibc}_{machine}" for glibc in GLIBC]
    shutil.rmtree(folder, ignore_errors=True)  # what was left of a download that failed
    subprocess.run([*command, *requirements()], check=True)
    (folder / "complete").touch()
    return sorted(folder.glob("*.whl"))


def unpack(wheel: Path, library: Path) -> None:
    """Unpack a wheel's modules into `library`. A file that already exists must be identical."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir() or NOT_INSTALLED.search(member.filename):
                continue
            path, content = library / member.filename, archive.read(member)
            if path.suffix == ".py" and content.startswith(b"#!"):
                content = b"#" + content[2:]  # a module is not a command
            if path.exists() and path.read_bytes() != content:
                raise StageError(f"{member.filename} differs between versions of Python")
            write(path, content)


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file; creates missing directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def license_text(text: str) -> str:
    """The text of a license, or where to find it."""
    for first_words, name in COMMON_LICENSES.items():
        if text.lstrip().startswith(first_words):
            place = f"/usr/share/common-licenses/{name}"
            return f"{name}: on Debian systems the full text is in {place}."
    return text


def copyright_of(wheel: Path) -> Iterator[str]:
    """The paragraph for a wheel in a Debian copyright file, with the license text."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        fields = email.message_from_bytes(archive.read(metadata))
        name = re.sub(r"[-.]", "_", fields["Name"]).lower()
        texts = [license_text(archive.read(n).decode()) for n in names if LICENSE.search(n)]
    holders = re.findall(r"(?m)^\W*(Copyright .*\S)\s*$", "\n".join(texts))
    authors = fields["Author"] or fields["Author-email"] or f"the authors of {fields['Name']}"
    yield f"Files: usr/lib/nicwatchd/{name}*"
    yield "Copyright: " + "\n ".join(dict.fromkeys(holders or [authors]))
    yield f"License: {name}"
    license_name = fields["License-Expression"] or fields["License"] or "see below"
    yield f" {fields['Name']} {fields['Version']}: {license_name.splitlines()[0]}"
    for line in "\n".join(texts).splitlines():
        yield f" {line}" if line.strip() else " ."
    yield ""


def stage_library(wheels: list[Path], library: Path) -> None:
    """Stage everything that Python imports."""
    for wheel in wheels:
        unpack(wheel, library)
    package = ROOT / "nicwatchd"
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            write(library / path.relative_to(ROOT), path.read_bytes())
    version.stamp(library, version.package_version(), version.commit())


def strip(library: Path, program: str) -> None:
    """Remove debugging information from the compiled modules: four fifths of their size."""
    subprocess.run([program, "--strip-unneeded", *library.rglob("*.so")], check=True)


def stage_files(destination: Path, prefix: Path, interpreter: str) -> None:
    """Stage everything else. Settings that the operator changed stay, with ours beside them."""
    systemd, base = ROOT / "systemd", destination / prefix.relative_to("/")
    launcher = (HERE / "launcher.py").read_text()
    launcher = launcher.replace("#!/usr/bin/python3", f"#!{interpreter}", 1)
    write(base / "bin/nicwatchd", launcher.encode(), 0o755)
    for name in ("nicwatchd.service", "nicwatchd-wait@.service"):
        unit = (systemd / name).read_text()
        unit = unit.replace("ExecStart=/usr/bin/", f"ExecStart={prefix}/bin/")
        write(base / "lib/systemd/system" / name, unit.encode())
    for source, target in (
        ("nicwatchd-online.target", "lib/systemd/system/nicwatchd-online.target"),
        ("nicwatchd.sysusers", "lib/sysusers.d/nicwatchd.conf"),
        ("nicwatchd.networkd.conf", "lib/systemd/networkd.conf.d/10-nicwatchd.conf"),
        ("nicwatchd.catalog", "lib/systemd/catalog/nicwatchd.catalog"),
        ("nicwatchd.8", "share/man/man8/nicwatchd.8"),
        ("nicwatchd.toml.5", "share/man/man5/nicwatchd.toml.5"),
        ("completions/nicwatchd.bash", "share/bash-completion/completions/nicwatchd"),
        ("completions/_nicwatchd", "share/zsh/site-functions/_nicwatchd"),
        ("completions/nicwatchd.fish", "share/fish/vendor_completions.d/nicwatchd.fish"),
    ):
        write(base / target, (systemd / source).read_bytes())
    config, content = destination / "etc/nicwatchd/nicwatchd.toml", systemd / "nicwatchd.toml"
    if config.exists() and config.read_bytes() != content.read_bytes():
        config = config.with_suffix(".toml.new")
    write(config, content.read_bytes())


def stage_copyright(wheels: list[Path], file: Path) -> None:
    """Write one copyright file for everything that is installed, with each library once."""
    once = {wheel.name.split("-")[0]: wheel for wheel in wheels}
    lines = [line for wheel in once.values() for line in copyright_of(wheel)]
    write(file, ((HERE / "copyright").read_text() + "\n" + "\n".join(lines)).encode())


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Stage the installed files of nicwatchd.")
    parser.add_argument("destination", type=Path, help="the directory that stands for /")
    parser.add_argument("--prefix", type=Path, default=Path("/usr/local"))
    parser.add_argument("--interpreter", default=sys.executable, help="to run nicwatchd with")
    parser.add_argument("--python", action="append", metavar="3.x", help="default: this one")
    parser.add_argument("--machine", default=os.uname().machine, help="as in uname -m")
    parser.add_argument(
        "--wheels", type=Path, default=ROOT / "build/wheels", help="download directory"
    )
    parser.add_argument("--strip", metavar="PROGRAM", help="binutils' strip for that machine")
    parser.add_argument("--compile", action="store_true", help="for this Python")
    return parser.parse_args()


def main() -> None:
    """Stage everything."""
    options = arguments()
    os.umask(0o022)
    if not options.prefix.is_absolute():
        raise StageError(f"PREFIX must be an absolute path, not {options.prefix}")
    pythons = options.python or [None]
    wheels = [
        wheel for each in pythons for wheel in download(each, options.machine, options.wheels)
    ]
    base = options.destination / options.prefix.relative_to("/")
    library = base / "lib/nicwatchd"
    shutil.rmtree(library, ignore_errors=True)  # removes modules of an earlier version
    stage_library(wheels, library)
    if options.strip:
        strip(library, options.strip)
    stage_files(options.destination, options.prefix, options.interpreter)
    stage_copyright(wheels, base / "share/doc/nicwatchd/copyright")
    if options.compile:
        compileall.compile_dir(library, stripdir=str(options.destination), prependdir="/", quiet=1)


if __name__ == "__main__":
    try:
        main()
    except StageError as error:
        sys.exit(f"stage: {error}")
