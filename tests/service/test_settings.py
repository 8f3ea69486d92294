from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from nicwatchd.core.model import Family
from nicwatchd.core.policy import AddressMode, Policy, RuleMode, Section
from nicwatchd.service.settings import Settings, SettingsError, load


def test_the_defaults_are_the_core_s() -> None:
    assert Settings().policy() == Policy()


def test_later_files_override_single_keys(tmp_path: Path) -> None:
    main = tmp_path / "nicwatchd.toml"
    main.write_text('[interfaces]\naddresses = "all"\nrules = "address"\n')
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/10-a.toml").write_text('[interfaces]\naddresses = "none"\n')
    (tmp_path / "conf.d/20-b.toml").write_text(
        '[interfaces]\nexpect = ["ipv6"]\nexclude_subnets = ["10.9.0.0/16"]\n[retry]\ncap = 9\n'
    )
    policy = load(main).policy()
    assert policy.addresses is AddressMode.NONE
    assert policy.rules is RuleMode.ADDRESS
    assert policy.expect == {Family.V6}
    assert policy.exclude_subnets == (ip_network("10.9.0.0/16"),)
    assert policy.schedule.cap == 9


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("intrefaces = 1", "unknown key 'intrefaces'; did you mean 'interfaces'?"),
        ("[interfaces]\nexlude = []", "unknown key 'interfaces.exlude'; did you mean 'exclude'?"),
        ("[imds]\nzzz = 1", "unknown key 'imds.zzz'; there are: endpoints, "),
        ('[retry]\ninterval = "1"', "retry.interval: '1' is wrong; it should be a valid number"),
        ("[retry]\ninterval = 0", "retry.interval: 0 is wrong; it should be greater than 0"),
        ('platform = "gce"', "platform: 'gce' is wrong; it should be 'auto' or 'ec2'"),
        (
            '[interfaces]\nexclude_subnets = ["10.0.0.1/8"]',
            "interfaces.exclude_subnets.0: '10.0.0.1/8' is wrong; it should be a CIDR, such as",
        ),
        ("[interfaces]\nexclude_subnets = [7]", "interfaces.exclude_subnets.0: 7 is wrong"),
        (
            "[kernel]\ngroup = 0",
            "kernel.group: 0 is wrong; it should be greater than or equal to 1",
        ),
        (
            "[interfaces]\nforwarded = true",
            "interfaces.forwarded: True is wrong; it should be 'off'",
        ),
        (
            "[interfaces]\nforwarded_mask = 0",
            "interfaces.forwarded_mask: 0 is wrong; it should be two or more",
        ),
        (
            "[interfaces]\nforwarded_mask = 0x100",
            "interfaces.forwarded_mask: 256 is wrong; it should be two",
        ),
        (
            "[interfaces]\nforwarded_mask = 0x5",
            "interfaces.forwarded_mask: 5 is wrong; it should be two or",
        ),
        (
            "[interfaces]\nforwarded_mask = 0x300000000",
            "interfaces.forwarded_mask: 12884901888 is wrong",
        ),
        ("[kernel]\npriority = 0", "kernel.priority: 0 is wrong; it should be greater than or"),
        (
            "[kernel]\npriority = 32766",
            "kernel.priority: 32766 is wrong; it should be less than or",
        ),
        (
            "[kernel]\ntable_base = 0",
            "kernel.table_base: 0 is wrong; it should be greater than",
        ),
        (
            "[kernel]\ntable_base = 1000447",
            "kernel.table_base: 1000447 is wrong; it should be a multiple of 1000000",
        ),
        ("interfaces = 3", "interfaces: 3 is wrong; it should be a section, [interfaces]"),
        ("[imds]\nendpoints = []", "imds.endpoints: [] is wrong; it should be a list with"),
        *(
            (
                f'[imds]\nendpoints = ["{said}"]',
                f"imds.endpoints.0: '{said}' is wrong; it should be a URL without a path, such as",
            )
            for said in (
                "imds",
                "http://",
                "http://[::1",
                "https://h",
                "http://h/",
                "http://h:99999",
            )
        ),
        *(
            (
                f"[interfaces]\nleave_addresses = [{said}]",
                f"interfaces.leave_addresses.0: {said} is wrong; it should be an address or a CIDR",
            )
            for said in ("'10.0.2'", "'10.0.2.7/24'", "'eth1'", "7", "''")
        ),
        ("x = [", "is not TOML: "),
        (f"x = 1{'0' * 5000}", "is not TOML: "),
        (f"x = {'[' * 5000}{']' * 5000}", "is not TOML: nested too deeply"),
        (f"platform = '{'x' * 5000}'", f"platform: '{'x' * 37}...{'x' * 38}' is wrong"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "nicwatchd.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        load(file)
    assert str(error.value).startswith(f"{file}: {complaint}")
    assert "\n" not in str(error.value)


def test_a_wrong_file_of_conf_d_is_named(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    wrong = tmp_path / "conf.d/50-wrong.toml"
    wrong.write_text("[retry]\ncap = true")
    (tmp_path / "nicwatchd.toml").write_text("")
    with pytest.raises(SettingsError, match=r"50-wrong\.toml: retry\.cap: True is wrong"):
        load(tmp_path / "nicwatchd.toml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read: No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\xff")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        load(tmp_path / "latin.toml")


def test_a_conf_d_that_cannot_be_listed_is_no_empty_one(tmp_path: Path) -> None:
    (tmp_path / "nicwatchd.toml").touch()
    (tmp_path / "conf.d").touch()
    with pytest.raises(SettingsError, match=r"/conf\.d: cannot be read: Not a directory"):
        load(tmp_path / "nicwatchd.toml")


def test_endpoints_are_taken_as_written(tmp_path: Path) -> None:
    file = tmp_path / "nicwatchd.toml"
    file.write_text('[imds]\nendpoints = ["http://[fd00:ec2::254]", "http://127.0.0.1:8080"]\n')
    assert load(file).imds.endpoints == ["http://[fd00:ec2::254]", "http://127.0.0.1:8080"]


def test_addresses_to_leave_are_single_ones_or_networks(tmp_path: Path) -> None:
    file = tmp_path / "nicwatchd.toml"
    file.write_text('[interfaces]\nleave_addresses = ["10.0.2.50", "2001:db8:0:2::/80"]\n')
    networks = (ip_network("10.0.2.50/32"), ip_network("2001:db8:0:2::/80"))
    assert load(file).policy().leave_addresses == networks


FULL_SECTION = """
[[interface]]
name = "eth[1-3]*"
mac = "02:00:00:00:00:AB"
eni = "eni-0123456789abcdef0"
subnet = "subnet-0123456789abcdef0"
vpc = "vpc-0123456789abcdef0"
security_group = "sg-0123456789abcdef0"
manage = true
addresses = "none"
leave_addresses = ["10.0.2.50"]
rules = "subnet"
families = ["ipv4"]
expect = ["ipv4"]
"""


def written(directory: Path, text: str) -> Path:
    file = directory / "nicwatchd.toml"
    file.write_text(text)
    return file


def test_a_section_sets_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    (full, short) = (
        load(written(tmp_path, FULL_SECTION + '[[interface]]\neni = "eni-1"\n')).policy().sections
    )
    assert full == Section(
        name="eth[1-3]*",
        mac="02:00:00:00:00:ab",
        eni="eni-0123456789abcdef0",
        subnet="subnet-0123456789abcdef0",
        vpc="vpc-0123456789abcdef0",
        security_group="sg-0123456789abcdef0",
        manage=True,
        addresses=AddressMode.NONE,
        leave_addresses=(ip_network("10.0.2.50/32"),),
        rules=RuleMode.SUBNET,
        families=frozenset({Family.V4}),
        expect=frozenset({Family.V4}),
    )
    assert short == Section(eni="eni-1")


def test_files_of_conf_d_add_sections_in_order(tmp_path: Path) -> None:
    main = written(tmp_path, '[[interface]]\nname = "eth1"\n[[interface]]\nname = "eth2"\n')
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/20-b.toml").write_text('[[interface]]\nname = "eth4"\n')
    (tmp_path / "conf.d/10-a.toml").write_text('[[interface]]\nname = "eth3"\nmanage = false\n')
    names = [section.name for section in load(main).policy().sections]
    assert names == ["eth1", "eth2", "eth3", "eth4"]


def test_families_in_general(tmp_path: Path) -> None:
    file = written(tmp_path, '[interfaces]\nfamilies = ["ipv4"]\n[[interface]]\nvpc = "vpc-1"\n')
    assert load(file).policy().families == {Family.V4}


@pytest.mark.parametrize(
    "pattern", ["eth1", "*", "eth?", "e[tn]*", "[!l]*", "[]]x", "a" * 15, "[abcdefghij][klmnopq]*"]
)
def test_patterns_that_some_name_matches(tmp_path: Path, pattern: str) -> None:
    assert load(written(tmp_path, f'[[interface]]\nname = "{pattern}"\n'))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[interface]]\nnam = "eth1"', "unknown key 'interface.0.nam'; did you mean 'name'?"),
        (
            '[[interface]]\nname = "a"\n[[interface]]\nsecurity-group = "sg-1"',
            "unknown key 'interface.1.security-group'; did you mean 'security_group'?",
        ),
        ("[[interface]]\nzzz = 1", "unknown key 'interface.0.zzz'; there are: name, mac, eni, "),
        ('[interface]\nname = "eth1"', "interface: "),
        ("interface = 3", "interface: 3 is wrong; it should be a section with double brackets"),
        ("interface = [3]", "interface.0: 3 is wrong; it should be a section with double brackets"),
        *(
            (f'[[interface]]\nname = "{wrong}"', f"interface.0.name: '{wrong}' is wrong; it should")
            for wrong in ("", "eth[1", "eth 1", "a/b", "a" * 16, "[]", "[!]")
        ),
        ("[[interface]]\nname = 7", "interface.0.name: 7 is wrong; it should be a valid string"),
        *(
            (
                f'[[interface]]\n{key} = "{wrong}"',
                f"interface.0.{key}: '{wrong}' is wrong; it should",
            )
            for key, wrong in [
                ("mac", "02:00:00:00:00"),
                ("mac", "02-00-00-00-00-01"),
                ("eni", "eth1"),
                ("eni", "subnet-1"),
                ("subnet", "10.0.2.0/24"),
                ("vpc", "vpc-"),
                ("vpc", "vpc-*"),
                ("security_group", "default"),
            ]
        ),
        (
            "[[interface]]",
            "interface.0: it does not say for which interfaces it is; there are: name",
        ),
        ("[[interface]]\nmanage = true", "interface.0: it does not say for which interfaces it is"),
        (
            '[[interface]]\nname = "a"\nmanage = "no"',
            "interface.0.manage: 'no' is wrong; it should",
        ),
        (
            '[[interface]]\nname = "a"\nmanage = false\nrules = "auto"',
            "interface.0: manage = false leaves the interfaces alone, so rules cannot be meant",
        ),
        (
            '[[interface]]\nname = "a"\nfamilies = ["ipv4"]\nexpect = ["ipv6"]',
            "interface.0: ipv6 is in expect, but not in families, which leaves it alone",
        ),
        (
            '[[interface]]\nname = "a"\nfamilies = []',
            "interface.0.families: [] is wrong; it should be a list with something in it",
        ),
        (
            '[[interface]]\nname = "a"\nfamilies = ["ip"]',
            "interface.0.families.0: 'ip' is wrong; it should be 'ipv4' or 'ipv6'",
        ),
        (
            '[interfaces]\nfamilies = ["ipv6"]\nexpect = ["ipv4"]',
            "interfaces: ipv4 is in expect, but not in families, which leaves it alone",
        ),
        (
            '[interfaces]\nfamilies = ["ipv6"]\n[[interface]]\nname = "a"\nexpect = ["ipv4"]',
            "interface.0: ipv4 is in expect, but interfaces.families leaves it alone",
        ),
        (
            '[[interface]]\nname = "a"\n[[interface]]\nname = "a"\nmanage = false',
            "interface.1: it is for the same interfaces as interface.0, which comes first, and",
        ),
    ],
)
def test_what_is_wrong_in_a_section_is_said_in_one_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SettingsError) as error:
        load(file)
    assert str(error.value).startswith(f"{file}: {complaint}")
    assert "\n" not in str(error.value)


def test_what_contradicts_only_together_is_said_too(tmp_path: Path) -> None:
    main = written(tmp_path, '[[interface]]\nname = "eth1"\n')
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/50-more.toml").write_text('[[interface]]\nname = "eth1"\nmanage = false\n')
    with pytest.raises(SettingsError, match=r"interface\.1: it is for the same interfaces"):
        load(main)


def test_each_thing_that_is_wrong_has_its_line(tmp_path: Path) -> None:
    main = tmp_path / "nicwatchd.toml"
    main.write_text("[interfaces]\nexlude = []\n[retry]\ninterval = 0\n[imds]\nzzz = 1\n")
    with pytest.raises(SettingsError) as error:
        load(main)
    lines = str(error.value).splitlines()
    assert all(line.startswith(f"{main}: ") for line in lines)
    for words in ("did you mean 'exclude'?", "retry.interval: 0 is wrong", "'imds.zzz'"):
        assert len([line for line in lines if words in line]) == 1
    assert len(lines) == 3
    assert error.value.in_one_line.count("; ") >= 2
    assert "\n" not in error.value.in_one_line
