"""The archive of a bug report by itself: what is missing, what is masked, what is the same."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import pytest

from nicwatchd.cli import report_parts
from nicwatchd.cli.archive import Archive, MissingError
from nicwatchd.cli.files import create, named
from nicwatchd.cli.main import main
from nicwatchd.core.metadata import ABSENT, Answer, Unknown, Value
from nicwatchd.imds.client import ImdsClient, ImdsOptions
from nicwatchd.recording.mask import Mask

KEY = b"key"
JOURNALCTL = """\
#!/bin/sh
cat <<'END'
{"MESSAGE": "ens6 lost 54.93.7.10", "_HOSTNAME": "secret-host", "_PID": "7", "__CURSOR": "s=1"}
{"MESSAGE": [104, 105], "NICWATCHD_ENI": "eni-1", "_MACHINE_ID": "12"}
END
"""


def lacking() -> NoReturn:
    raise MissingError("not here:\nsee 54.93.7.10")


def broken() -> NoReturn:
    raise ZeroDivisionError("a bug")


def test_what_is_missing_has_its_reason_and_what_is_there_stays() -> None:
    archive = Archive(Mask(KEY))
    archive.collect([("a", lacking), ("b", broken), ("c.txt", lambda: "from 54.93.7.10")])
    masked = Mask(KEY).text("54.93.7.10")
    assert archive.missing == {
        "a": f"not here: see {masked}",
        "b": "ZeroDivisionError: a bug",
    }
    assert archive.files == {"c.txt": f"from {masked}"}


def test_json_is_masked_value_by_value() -> None:
    archive = Archive(Mask(KEY))
    archive.add("a.json", json.dumps({"ipv6s": "2600:1f18::1\n2600:1f18::2"}))
    archive.add("b.json", "no JSON, but 2600:1f18::1")
    archive.add("c.jsonl", '{"a": "x\\n54.93.7.10"}\nno JSON 54.93.7.10\n')
    texts = "".join(archive.files.values())
    assert "2600:" not in texts
    assert "54.93" not in texts
    assert json.loads(archive.files["a.json"])["ipv6s"].count("\n") == 1
    assert archive.files["c.jsonl"].count("\n") == 2


def test_the_same_files_make_the_same_archive_in_one_directory() -> None:
    archive = Archive(Mask(None))
    archive.add("b/two.txt", "2")
    archive.add("one.txt", "1 \udc80")
    archive.lack("three.txt", MissingError("why"))
    packed = archive.packed("report", 1000)
    assert packed == archive.packed("report", 1000)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        names = tar.getnames()
        modes = {member.mode for member in tar}
        missing = tar.extractfile("report/missing.txt")
        assert missing is not None
        assert missing.read() == b"three.txt: why\n"
    assert names == ["report/b/two.txt", "report/missing.txt", "report/one.txt"]
    assert modes == {0o600}


def test_only_the_owner_may_read_what_is_created(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o644)
    with create(file) as opened:
        opened.write(b"new")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == "new"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "file").symlink_to(tmp_path / "victim")
    with create(tmp_path / "file") as opened:
        opened.write(b"new")
    assert (tmp_path / "victim").read_text() == "precious"


def test_only_a_file_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match="exists, and is no file"):
            create(path)
        assert path.exists()


def test_names_have_the_time() -> None:
    at = datetime(2026, 11, 26, 10, 15, 0, tzinfo=UTC)
    assert named("bugreport", "tar.gz", at) == Path("nicwatchd-bugreport-20261126T101500Z.tar.gz")


def test_a_place_that_cannot_be_written_ends_it_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bugreport", "--output", str(tmp_path / "none" / "report.tar.gz")]) == 2
    line = capsys.readouterr().err
    assert line == f"nicwatchd: {tmp_path}/none/report.tar.gz: No such file or directory\n"


# --- parts ---------------------------------------------------------------------------------------


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "journalctl"
    file.write_text(JOURNALCTL)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return file


def test_the_journal_has_no_more_of_the_host_than_is_needed(journalctl: Path) -> None:
    assert journalctl.exists()
    first, second = map(json.loads, report_parts.journal().splitlines())
    assert first == {"MESSAGE": "ens6 lost 54.93.7.10", "_PID": "7"}
    assert second == {"MESSAGE": [104, 105], "NICWATCHD_ENI": "eni-1"}


def test_a_journal_without_entries_says_why(journalctl: Path) -> None:
    journalctl.write_text("#!/bin/sh\necho 'Hint: permission' >&2\n")
    with pytest.raises(MissingError, match="Hint: permission"):
        report_parts.journal()


def test_a_program_that_fails_hangs_or_is_missing_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingError, match="no-such-program is not installed"):
        report_parts.program("no-such-program")
    with pytest.raises(MissingError, match="`false` ends with 1"):
        report_parts.program("false")
    monkeypatch.setattr(report_parts, "PATIENCE", 0.05)
    with pytest.raises(MissingError, match=r"took more than 0\.05 s"):
        report_parts.program("sleep", "60")
    with pytest.raises(MissingError, match="No such file"):
        dict(report_parts.of_host(tmp_path / "none.toml"))["settings/none.toml"]()


def test_all_settings_files_are_in_it(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "10-more.toml").write_text("more\n")
    (tmp_path / "conf.d" / "10-more.toml.bak").write_text("old\n")
    (tmp_path / "nicwatchd.toml").write_text("main\n")
    parts = dict(report_parts.of_host(tmp_path / "nicwatchd.toml"))
    found = {name: get() for name, get in parts.items() if name.startswith("settings/")}
    assert found == {
        "settings/conf.d/10-more.toml": "more\n",
        "settings/nicwatchd.toml": "main\n",
    }


def test_sysctls_are_those_of_every_link(tmp_path: Path) -> None:
    for name in ("all", "eth1"):
        (tmp_path / "ipv4/conf" / name).mkdir(parents=True)
        (tmp_path / "ipv4/conf" / name / "rp_filter").write_text("1\n")
    (tmp_path / "ipv4/ip_forward").write_text("0\n")
    assert report_parts.sysctls(tmp_path).splitlines() == [
        "net/ipv4/ip_forward = 0",
        "net/ipv4/conf/all/rp_filter = 1",
        "net/ipv4/conf/eth1/rp_filter = 1",
    ]


class Told(ImdsClient):
    """IMDS says this; every other path is absent."""

    def __init__(self, answers: dict[str, Answer[str]]) -> None:
        super().__init__(ImdsOptions())
        self.answers = answers
        self.asked: list[str] = []

    async def get(self, path: str) -> Answer[str]:
        self.asked.append(path)
        return self.answers.get(path, ABSENT)


async def test_a_damaged_list_leads_nowhere_else() -> None:
    macs = "network/interfaces/macs/"
    told = Told(
        {
            "mac": Value("02:00:00:00:00:01"),
            macs: Value("02:00:00:00:00:01/\n../../../iam/\n\n.."),
            f"{macs}02:00:00:00:00:01/": Value("mac\n../../iam/x\nipv4-associations/\nipv6s"),
            f"{macs}02:00:00:00:00:01/mac": Value("02:00:00:00:00:01"),
            f"{macs}02:00:00:00:00:01/ipv6s": Unknown("503"),
            f"{macs}02:00:00:00:00:01/ipv4-associations/": Value("54.93.7.10"),
            f"{macs}02:00:00:00:00:01/ipv4-associations/54.93.7.10": Value("10.0.1.10"),
        }
    )
    found = await report_parts.imds_keys(told)
    assert not [path for path in told.asked if ".." in path or "iam" in path]
    assert found == {
        "mac": "02:00:00:00:00:01",
        f"{macs}02:00:00:00:00:01/mac": "02:00:00:00:00:01",
        f"{macs}02:00:00:00:00:01/ipv6s": None,
        f"{macs}02:00:00:00:00:01/ipv4-associations/54.93.7.10": "10.0.1.10",
    }


async def test_an_imds_that_does_not_answer_is_missing() -> None:
    with pytest.raises(MissingError, match="IMDS has not been asked yet"):
        await report_parts.imds_keys(Told({}))
