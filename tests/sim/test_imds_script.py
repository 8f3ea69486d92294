"""The timeline and its files, and the errors for typos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nicwatchd.sim.scenario import ScenarioError, load, parse
from nicwatchd.sim.script import EniScript, Fault, Step
from nicwatchd.sim.tree import Host, below_version, kind, lookup

SCENARIOS = Path(__file__).parents[2] / "nicwatchd" / "sim" / "scenarios"
MAC = "02:00:00:00:00:02"
ETH1 = EniScript("eth1", MAC, ipv4=("10.0.2.10",), subnet_ipv4="10.0.2.0/24")
HEAD = '[imds]\nmac = "02:00:00:00:00:01"\n'
ENI = f'[[eni]]\nname = "eth1"\nmac = "{MAC}"\n'


def test_the_race_over_time() -> None:
    eth1 = load(SCENARIOS / "race.toml").eni("eth1")
    assert eth1.at(0.0) is None
    assert eth1.at(0.999) is None
    at_1 = eth1.at(1.0)
    assert at_1 is not None
    assert at_1["device-number"] == "0"
    assert at_1["local-ipv4s"] == "10.0.2.10"
    assert "ipv6s" not in at_1
    at_3 = eth1.at(3.0)
    assert at_3 is not None
    assert at_3["device-number"] == "1"
    assert "ipv6s" not in at_3
    assert eth1.at(8.0) == eth1.facts()
    assert eth1.complete_at() == 8.0


@pytest.mark.parametrize("path", sorted(SCENARIOS.glob("*.toml")), ids=lambda path: path.stem)
def test_each_scenario_has_a_primary_and_ends_complete(path: Path) -> None:
    scenario = load(path, other={"": ("vpc", "world", "host"), "eni": ()})
    assert scenario.mac in [eni.mac for eni in scenario.enis]
    for eni in scenario.enis:
        assert eni.at(eni.complete_at()) is not None


def test_without_steps_all_is_there_at_once() -> None:
    keys = ETH1.at(0)
    assert keys is not None
    assert keys["mac"] == MAC
    assert keys["subnet-ipv4-cidr-block"] == "10.0.2.0/24"
    assert not {"ipv6s", "ipv4-prefix", "network-card"} & keys.keys()


@pytest.mark.parametrize(
    ("step", "ipv4", "device"),
    [
        (Step(hide=frozenset({"local-ipv4s"})), "hidden", "1"),
        (Step(lag=frozenset({"local-ipv4s"})), None, "1"),
        (Step(lag=frozenset({"local-ipv4s"}), hide=frozenset({"local-ipv4s"})), "hidden", "1"),
        (Step(set={"local-ipv4s": "", "device-number": "0"}), "", "0"),
        (Step(complete=True, set={"device-number": "7"}), "10.0.2.10", "7"),
    ],
)
def test_what_a_step_does(step: Step, ipv4: str | None, device: str) -> None:
    keys = ETH1.at(0, [step])
    assert keys is not None
    assert keys.get("local-ipv4s", "hidden") == ipv4
    assert keys["device-number"] == device


def test_steps_by_hand_come_after_the_scripted_ones_of_their_time() -> None:
    scripted = EniScript("eth1", MAC, steps=(Step(at=1, listed=False), Step(at=5, listed=True)))
    assert scripted.at(2, [Step(at=1, listed=True)]) is not None
    assert scripted.at(2, [Step(at=0.5, listed=True)]) is None
    assert scripted.at(6, [Step(at=5.5, listed=False)]) is None


@pytest.mark.parametrize(
    ("on", "hit", "missed"),
    [
        ("all", {"token", "directory", "leaf:ipv6s"}, set()),
        ("token", {"token"}, {"directory", "leaf:ipv6s"}),
        ("directory", {"directory"}, {"token", "leaf:ipv6s"}),
        ("leaf", {"leaf:ipv6s", "leaf:mac"}, {"token", "directory"}),
        ("leaf:ipv6s", {"leaf:ipv6s"}, {"token", "directory", "leaf:mac"}),
    ],
)
def test_what_a_fault_hits(on: str, hit: set[str], missed: set[str]) -> None:
    fault = Fault(on, "503")
    assert {what for what in hit | missed if fault.hits(what)} == hit


def test_faults_in_a_file() -> None:
    text = HEAD + '[[imds.fault]]\non="leaf:ipv6s"\ndo="503"\nfrom=1\nto=2.5\nretry_after=2\n'
    assert parse(text).faults == (Fault("leaf:ipv6s", "503", 1.0, 2.5, "2"),)


def test_sections_of_others_are_left_alone() -> None:
    text = HEAD + ENI + 'dhcp = true\n[vpc]\nrouter = "r"\n'
    assert parse(text, other={"": ["vpc"], "eni": ["dhcp"]}).eni("eth1").mac == MAC
    with pytest.raises(ScenarioError, match="unknown key 'vpc'"):
        parse(text)


FAULT = HEAD + "[[imds.fault]]\n"
STEP = HEAD + ENI + "[[eni.step]]\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[imds\n", "Expected ']' at the end of a table declaration (at line 1, column 6)"),
        ("", "imds: 'mac' is missing"),
        ("[imd]\n", "unknown key 'imd'; did you mean 'imds'?"),
        ("[imds]\nmac='02:A'", "imds: 'mac' must be a MAC address in lower case, not '02:A'"),
        (HEAD + "[imds.fault]", "imds: 'fault' must be a list, not {}"),
        (
            FAULT + "on='toke'\ndo='503'",
            "imds.fault 1: unknown place 'toke'; did you mean 'token'?",
        ),
        (
            FAULT + "on='all'\ndo='rest'",
            "imds.fault 1: unknown fault 'rest'; did you mean 'reset'?",
        ),
        (HEAD + "[[eni]]\nnam='e'", "eni 1: unknown key 'nam'; did you mean 'name'?"),
        (HEAD + ENI + "ipv4='10.0.0.1'", "eni eth1: 'ipv4' must be a list, not '10.0.0.1'"),
        (HEAD + ENI + "ipv4=[1]", "eni eth1: 'ipv4' must be a list of texts, not [1]"),
        (
            HEAD + ENI + "device_number=true",
            "eni eth1: 'device_number' must be a whole number, not True",
        ),
        (HEAD + ENI + ENI, "two ENIs are named 'eth1'"),
        (STEP + "listed=true", "eni eth1, step 1: 'at' is missing"),
        (STEP + "hiden=[]", "eni eth1, step 1: unknown key 'hiden'; did you mean 'hide'?"),
        (
            STEP + "at=1\nhide=['ipv6']",
            "eni eth1, step 1: unknown IMDS key in 'hide' 'ipv6'; did you mean 'ipv6s'?",
        ),
        (
            STEP + "at=1\nset={device-number=0}",
            "eni eth1, step 1: 'set.device-number' must be a text, not 0",
        ),
    ],
)
def test_what_is_wrong_takes_one_line(text: str, line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse(text, "x.toml")
    assert str(caught.value) == f"x.toml: {line}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"^none\.toml: No such file or directory$"):
        load(tmp_path / "none.toml")


HOST = Host("02:00:00:00:00:01", {MAC: {"mac": MAC, "ipv6s": None}})
MACS = "meta-data/network/interfaces/macs"
META_DATA = (
    *("ami-id", "ami-launch-index", "hostname", "instance-id", "instance-type"),
    *("local-hostname", "mac", "network/", "placement/"),
)


@pytest.mark.parametrize(
    ("path", "text", "what"),
    [
        ("", "dynamic/\nmeta-data/", "directory"),
        ("meta-data/", "\n".join(META_DATA), "directory"),
        ("meta-data/mac", "02:00:00:00:00:01", "leaf:mac"),
        ("meta-data/placement/region", "us-east-1", "leaf:placement/region"),
        ("meta-data/network", "interfaces/", "leaf:network"),
        ("meta-data/network/interfaces/", "macs/", "directory"),
        (f"{MACS}", f"{MAC}/", "leaf:network/interfaces/macs"),
        (f"{MACS}/", f"{MAC}/", "directory"),
        (f"{MACS}/{MAC}/", "ipv6s\nmac", "directory"),
        (f"{MACS}/{MAC}", "ipv6s\nmac", "directory"),
        (f"{MACS}/{MAC}/mac", MAC, "leaf:mac"),
        (f"{MACS}/{MAC}/ipv6s", None, "leaf:ipv6s"),
        (f"{MACS}/{MAC}/nonsense", None, "leaf:nonsense"),
        (f"{MACS}/02:00:00:00:00:03/", None, "directory"),
        ("meta-data/nonsense", None, "leaf:nonsense"),
        ("meta-data/nonsense/", None, "directory"),
        ("dynamic/instance-identity", "document", "leaf:dynamic/instance-identity"),
        ("user-data", None, "leaf:user-data"),
    ],
)
def test_paths(path: str, text: str | None, what: str) -> None:
    assert lookup(HOST, path) == text
    assert kind(path) == what


@pytest.mark.parametrize(
    ("path", "below"),
    [
        ("/latest/meta-data/", "meta-data/"),
        ("/2021-03-23/user-data", "user-data"),
        ("/latest", ""),
        ("/1999-01-01/meta-data/", None),
        ("/", None),
    ],
)
def test_versions(path: str, below: str | None) -> None:
    assert below_version(path) == below


def test_the_identity_document_agrees_with_the_meta_data() -> None:
    document = json.loads(lookup(HOST, "dynamic/instance-identity/document") or "")
    assert document["instanceId"] == lookup(HOST, "meta-data/instance-id")
    assert document["availabilityZone"] == lookup(HOST, "meta-data/placement/availability-zone")
