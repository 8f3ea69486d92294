"""The shipped systemd files, judged by systemd itself."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from nicwatchd.cli.parser import parser
from tests.doc_tables import table_of
from tests.vm.channels import Entry
from tests.vm.denied import DEADLY, denied

SYSTEMD = Path(__file__).parent.parent.parent / "systemd"
UNIT = SYSTEMD / "nicwatchd.service"
WAIT, ONLINE = SYSTEMD / "nicwatchd-wait@.service", SYSTEMD / "nicwatchd-online.target"

# `systemd-analyze security` counts in tenths here: 16 is its 1.6.
MOST_EXPOSURE = 16
MOST_EXPOSURE_OF_WAIT = 6


def settings(path: Path) -> dict[str, str]:
    """Each `Key=value` of a unit or drop-in; of a repeated key all values, joined."""
    found: dict[str, str] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", path.read_text(), re.MULTILINE):
        found[key] = f"{found[key]} {value}" if key in found else value
    return found


@pytest.fixture
def runnable_unit(tmp_path: Path) -> Path:
    """A copy that starts something that exists everywhere; `verify` fails without it."""
    copy = tmp_path / UNIT.name
    text, replaced = re.subn(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text())
    assert replaced == 1
    copy.write_text(text)
    return copy


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_unit_is_correct(runnable_unit: Path) -> None:
    result = run("systemd-analyze", "verify", "--man=no", runnable_unit)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_mistake_in_the_unit_would_be_seen(runnable_unit: Path) -> None:
    runnable_unit.write_text(runnable_unit.read_text().replace("[Service]", "[Service]\nTpye=x"))
    assert "Tpye" in run("systemd-analyze", "verify", "--man=no", runnable_unit).stderr


def test_the_unit_is_confined() -> None:
    result = run(
        *("systemd-analyze", "security", "--no-pager"),
        *("--offline=true", f"--threshold={MOST_EXPOSURE}", UNIT),
    )
    assert "Overall exposure level for nicwatchd.service" in result.stdout
    assert result.returncode == 0, result.stdout


def test_what_stays_open_has_its_reason_in_the_docs() -> None:
    result = run(
        *("systemd-analyze", "security", "--no-pager", "--json=short"),
        *("--offline=true", UNIT),
    )
    stays = {each["name"].rstrip("=") for each in json.loads(result.stdout) if each["exposure"]}
    rows = table_of("security.md", ["directive", "why it stays open"])
    assert {name.strip("`") for name, _ in rows} == stays
    assert all(reason for _, reason in rows)


def test_the_machines_run_the_unit_with_a_filter_that_kills(runnable_unit: Path) -> None:
    directory = runnable_unit.with_name(f"{runnable_unit.name}.d")
    directory.mkdir()
    (directory / "deadly.conf").write_text(DEADLY)
    result = run("systemd-analyze", "verify", "--man=no", runnable_unit)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


KERNELS = (
    "audit: type=1326 audit(1764166500.123:7): auid=4294967295 uid={uid} gid=997 ses=4294967295 "
    'subj=unconfined pid=412 comm="nicwatchd" exe="/usr/bin/python3.13" sig=0 arch=c000003e '
    "syscall=425 compat=0 ip=0x7f0 code=0x7ffc0000"
)


@pytest.mark.parametrize(
    ("fields", "count"),
    [
        pytest.param({"MESSAGE": KERNELS.format(uid=997)}, 1, id="the kernel's"),
        pytest.param(
            {"_AUDIT_TYPE": "1326", "MESSAGE": "SECCOMP auid=4294967295 uid=997 gid=997"},
            1,
            id="journald's",
        ),
        pytest.param({"MESSAGE": KERNELS.format(uid=0)}, 0, id="of another unit"),
        pytest.param({"MESSAGE": "audit: type=1130 audit(1.2:3): pid=1 uid=997"}, 0, id="another"),
        pytest.param({"MESSAGE": "nicwatchd 0.2.0 started"}, 0, id="no such thing"),
    ],
)
def test_a_denied_call_is_recognised(fields: dict[str, str], count: int) -> None:
    assert len(denied([Entry(0.0, fields)])) == count


# No address with colons, for which `verify` has a meaning of its own: FILE:ALIAS.
@pytest.mark.parametrize("instance", ["eni-0a1b2c3d4e5f60720", "10.0.2.10", r"eth1\x2d0"])
def test_the_unit_that_waits_is_correct(instance: str, tmp_path: Path) -> None:
    for path in (UNIT, WAIT, ONLINE):
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", path.read_text())
        (tmp_path / path.name.replace("@", f"@{instance}")).write_text(text)
    result = run("systemd-analyze", "verify", "--man=no", *sorted(tmp_path.iterdir()))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_unit_that_waits_has_no_rights() -> None:
    result = run(
        *("systemd-analyze", "security", "--no-pager"),
        *("--offline=true", f"--threshold={MOST_EXPOSURE_OF_WAIT}", WAIT),
    )
    assert "Overall exposure level for nicwatchd-wait@i.service" in result.stdout
    assert result.returncode == 0, result.stdout
    unit = settings(WAIT)
    assert (unit["DynamicUser"], unit["CapabilityBoundingSet"]) == ("yes", "")
    assert unit["RestrictAddressFamilies"] == "AF_UNIX"


def test_the_unit_that_waits_calls_the_command_as_it_is() -> None:
    unit = settings(WAIT)
    defaults = dict(pair.split("=") for pair in unit["Environment"].split())
    words = unit["ExecStart"].replace("%i", r"eth1\x2d0").split()[1:]
    words = [defaults.get(word.strip("${}"), word) for word in words]
    arguments = parser().parse_args(words)
    assert (arguments.family, arguments.timeout, arguments.escaped) == ("all", 180.0, True)
    assert arguments.targets == [r"eth1\x2d0"]


def test_the_target_waits_for_what_is_enabled() -> None:
    unit = settings(WAIT)
    assert unit["RequiredBy"] == unit["Before"] == ONLINE.name


def test_one_capability_and_two_addresses() -> None:
    unit = settings(UNIT)
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == "CAP_NET_ADMIN"
    assert unit["IPAddressDeny"] == "any"
    assert unit["IPAddressAllow"].split() == ["169.254.169.254", "fd00:ec2::254"]


def test_the_user_of_the_unit_is_made_by_sysusers(tmp_path: Path) -> None:
    shipped = tmp_path / "usr/lib/sysusers.d/nicwatchd.conf"
    shipped.parent.mkdir(parents=True)
    shipped.write_text((SYSTEMD / "nicwatchd.sysusers").read_text())
    (tmp_path / "etc").mkdir()
    result = run("systemd-sysusers", f"--root={tmp_path}")
    assert result.returncode == 0, result.stderr
    users = [line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()]
    assert [(user[0], Path(user[6]).name) for user in users] == [
        (settings(UNIT)["User"], "nologin"),
    ]


def test_networkd_leaves_foreign_objects_alone() -> None:
    drop_in = SYSTEMD / "nicwatchd.networkd.conf"
    assert settings(drop_in) == {
        "ManageForeignRoutes": "no",
        "ManageForeignRoutingPolicyRules": "no",
    }
    assert re.findall(r"(?m)^\[.*\]$", drop_in.read_text()) == ["[Network]"]
