"""Files: a link is not followed, a full disk loses nothing, and both are told in one line."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from nicwatchd.cli.files import create, replace
from nicwatchd.cli.migration import record as records
from nicwatchd.cli.migration.record import Record, RecordError
from nicwatchd.cli.migration.steps import _put
from nicwatchd.cli.migration.system import System
from nicwatchd.core.floating import Record as Floating
from nicwatchd.core.releases import Releases
from nicwatchd.service.files import is_open_to_others
from nicwatchd.service.ledger import Ledger
from nicwatchd.service.main import CannotRunError, run
from nicwatchd.service.platform import Lock

MAC = "02:00:00:00:00:02"
ONE, TWO = (7, MAC, ip_address("10.0.2.10")), (7, MAC, ip_address("10.0.2.11"))
FULL = "No space left on device"
SECRET = "a file of root's"


class Disk:
    """A small file system, which can be filled to the last byte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        with suppress(OSError), self._filler.open("wb", buffering=0) as file:
            while file.write(bytes(512)):
                pass

    def make_room(self) -> None:
        self._filler.unlink()

    @property
    def files(self) -> dict[str, str]:
        found = {path.name: path.read_text() for path in self.path.iterdir() if path.is_file()}
        found.pop("filler", None)
        return found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs"]
    subprocess.run(["mount", *options, mounted], check=True)
    try:
        yield Disk(mounted)
    finally:
        subprocess.run(["umount", mounted], check=True)


# --- a full disk ---------------------------------------------------------------------------------


def test_the_ledger_keeps_what_it_had(disk: Disk) -> None:
    ledger = Ledger(disk.path)
    ledger.add([ONE])
    before = disk.files
    disk.fill()
    with pytest.raises(OSError, match=FULL):
        ledger.add([TWO])
    with pytest.raises(OSError, match=FULL):
        ledger.keep_releases(Releases(everything=True))
    with pytest.raises(OSError, match=FULL):
        ledger.keep_ruleset(("table inet nicwatchd {}" * 9, ""))
    assert disk.files == before
    assert Ledger(disk.path).releases == ledger.releases == Releases()
    floating = {(7, MAC): Floating(frozenset({TWO[2]}), frozenset(), frozenset())}
    ledger.try_floating(floating)
    assert ledger.trouble == (
        f"{disk.path}/addresses.json cannot be written: {FULL}; the old one stays"
    )
    disk.make_room()
    ledger.try_floating(floating)
    assert ledger.trouble == ""
    assert "10.0.2.11" in disk.files["addresses.json"]


def test_a_report_takes_the_place_of_an_older_one_once_it_is_complete(disk: Disk) -> None:
    report = disk.path / "report.tar.gz"
    report.write_text("the older one")
    disk.fill()
    with pytest.raises(OSError, match=FULL), replace(report) as file:
        file.write(bytes(100_000))
    assert disk.files == {"report.tar.gz": "the older one"}
    disk.make_room()
    with replace(report) as file:
        file.write(b"the new one")
    assert disk.files == {"report.tar.gz": "the new one"}
    assert report.stat().st_mode & 0o777 == 0o600


def test_a_migration_goes_no_further_than_its_record(disk: Disk) -> None:
    system = System(disk.path, lambda *_: None, lambda *_: None, lambda _: None)  # type: ignore[arg-type] # not asked
    records.save(system, Record(["cloud-init"]))
    path = system.path(records.FILE)
    before = path.read_text()
    disk.fill()
    with pytest.raises(RecordError, match=f"{records.FILE}: {FULL}; nothing was done"):
        records.save(system, Record(["cloud-init"] * 2000))
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert path.read_text() == before
    assert records.load(system) == Record(["cloud-init"])


def test_a_file_of_the_tool_that_is_migrated_from_stays_whole(disk: Disk) -> None:
    file = disk.path / "80-ec2.network"
    file.write_text("[Match]")
    disk.fill()
    with pytest.raises(OSError, match=FULL) as error:
        _put(file, "x" * 100_000, 0o644)
    assert error.value.filename == str(file)
    assert disk.files == {"80-ec2.network": "[Match]"}


# --- links ---------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    return file


@pytest.mark.parametrize("name", ["addresses.json", "addresses.new"])
def test_the_ledger_follows_no_link(tmp_path: Path, secret: Path, name: str) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / name).symlink_to(secret)
    Ledger(directory).add([ONE])
    assert secret.read_text() == SECRET
    assert not (directory / "addresses.json").is_symlink()
    assert not (directory / "addresses.new").is_symlink()


def test_a_ledger_is_not_read_through_a_link_or_from_a_pipe(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    Ledger(real).keep_releases(Releases(everything=True))
    for make in (lambda path: path.symlink_to(real / "addresses.json"), os.mkfifo):
        directory = tmp_path / f"run-{make.__name__}"
        directory.mkdir()
        make(directory / "addresses.json")
        assert Ledger(directory).releases == Releases()


def test_the_lock_follows_no_link(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "nicwatchd.lock").symlink_to(secret)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        Lock(tmp_path)
    with pytest.raises(CannotRunError, match=f"{tmp_path}: Too many levels of symbolic links"):
        run(Path("/dev/null"), tmp_path)
    assert secret.read_text() == SECRET


@pytest.mark.parametrize("make", [create, replace])
def test_what_commands_write_follows_no_link(tmp_path: Path, secret: Path, make: object) -> None:
    output = tmp_path / "report.tar.gz"
    output.symlink_to(secret)
    output.with_suffix(".new").symlink_to(secret)
    with make(output) as file:  # type: ignore[operator] # both give a file
        file.write(b"a report")
    assert (secret.read_text(), output.read_text()) == (SECRET, "a report")
    assert not output.is_symlink()


@pytest.mark.parametrize("make", [create, replace])
def test_what_is_no_file_is_not_replaced(make: object) -> None:
    with pytest.raises(OSError, match="exists, and is no file") as error, make(Path("/dev/full")):  # type: ignore[operator] # as above
        pass
    assert error.value.errno == errno.EEXIST
    assert Path("/dev/full").is_char_device()


# --- the directory -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "is_open"), [(0o755, False), (0o777, True), (0o1777, False), (0o702, True)]
)
def test_who_may_replace_what_is_in_a_directory(
    tmp_path: Path, mode: int, *, is_open: bool
) -> None:
    tmp_path.chmod(mode)
    assert is_open_to_others(tmp_path) is is_open


def test_a_runtime_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    mend = f"mend that: sudo chmod go-w {tmp_path}"
    with pytest.raises(CannotRunError, match=f"others may replace what is in it; {mend}"):
        run(Path("/dev/null"), tmp_path)
    assert list(tmp_path.iterdir()) == []
