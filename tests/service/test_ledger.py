from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from nicwatchd.core.floating import Record
from nicwatchd.core.model import PROTOCOL, Address
from nicwatchd.core.releases import Releases
from nicwatchd.service.ledger import Ledger

IP = ip_address("2001:db8::1")
MAC = "02:00:00:00:00:02"
PLAIN = Address(7, IP, 128)


def noted(directory: Path) -> Ledger:
    Ledger(directory).add([(7, MAC, IP)])
    return Ledger(directory)


def test_what_was_added_is_marked(tmp_path: Path) -> None:
    assert noted(tmp_path).mark(MAC, [PLAIN]) == (replace(PLAIN, protocol=PROTOCOL),)


def test_what_is_another_s_is_not(tmp_path: Path) -> None:
    others = [
        replace(PLAIN, ip=ip_address("2001:db8::2")),
        replace(PLAIN, index=8),
        replace(PLAIN, dynamic=True),
        replace(PLAIN, prefixlen=64),
        replace(PLAIN, protocol=2),
    ]
    assert noted(tmp_path).mark(MAC, others) == tuple(others)
    assert noted(tmp_path).mark("02:00:00:00:00:99", [PLAIN]) == (PLAIN,)


def test_links_that_are_gone_are_forgotten(tmp_path: Path) -> None:
    noted(tmp_path).keep_only([(8, MAC)])
    assert Ledger(tmp_path).mark(MAC, [PLAIN]) == (PLAIN,)


def test_what_is_released_is_kept_until_it_is_given_back(tmp_path: Path) -> None:
    releases = Releases().plus((7, MAC)).plus((8, MAC))
    noted(tmp_path).keep_releases(releases)
    assert Ledger(tmp_path).releases == releases
    assert Ledger(tmp_path).mark(MAC, [PLAIN]) != (PLAIN,)
    Ledger(tmp_path).keep_only([(8, MAC)])
    assert Ledger(tmp_path).releases == Releases().plus((8, MAC))
    Ledger(tmp_path).keep_releases(Releases().plus(None))
    assert Ledger(tmp_path).releases == Releases(everything=True)


def test_a_file_of_before_there_were_releases(tmp_path: Path) -> None:
    noted(tmp_path)
    file = tmp_path / "addresses.json"
    said = json.loads(file.read_text())
    del said["released"]
    file.write_text(json.dumps(said))
    assert Ledger(tmp_path).mark(MAC, [PLAIN]) != (PLAIN,)
    assert Ledger(tmp_path).releases == Releases()


def test_what_is_gone_is_no_more_ours_when_others_add_it(tmp_path: Path) -> None:
    ledger = noted(tmp_path)
    ledger.keep_needed({(8, MAC): ()})
    ledger.keep_needed({(7, MAC): (PLAIN,)})
    assert ledger.mark(MAC, [PLAIN]) != (PLAIN,)
    ledger.keep_needed({(7, MAC): (replace(PLAIN, ip=ip_address("2001:db8::2")),)})
    assert Ledger(tmp_path).mark(MAC, [PLAIN]) == (PLAIN,)


def test_what_the_kernel_marks_is_theirs_once_others_replace_it(tmp_path: Path) -> None:
    noted(tmp_path).keep_needed({(7, MAC): (replace(PLAIN, protocol=PROTOCOL),)})
    assert Ledger(tmp_path).mark(MAC, [PLAIN]) == (PLAIN,)


def test_what_others_have_and_took_away_is_kept(tmp_path: Path) -> None:
    record = Record(
        frozenset({IP}), frozenset({(ip_address("10.0.0.9"), "port id 7")}), frozenset({IP})
    )
    ledger = noted(tmp_path)
    ledger.keep_floating({(7, MAC): record, (8, MAC): record})
    assert Ledger(tmp_path).floating == {(7, MAC): record, (8, MAC): record}
    Ledger(tmp_path).keep_only([(8, MAC)])
    assert Ledger(tmp_path).floating == {(8, MAC): record}
    file = tmp_path / "addresses.json"
    said = json.loads(file.read_text())
    damages: list[object] = [[{"link": 7}], [{}], 7, [{"link": [7, MAC], "theirs": ["x"]}]]
    for damage in damages:
        file.write_text(json.dumps(said | {"floating": damage}))
        assert Ledger(tmp_path).floating == {}


def test_another_boot_and_a_damaged_file_prove_nothing(tmp_path: Path) -> None:
    noted(tmp_path).keep_releases(Releases().plus(None))
    file = tmp_path / "addresses.json"
    for text in (file.read_text().replace('"boot": "', '"boot": "x'), "{", '{"boot": 1}', ""):
        file.write_text(text)
        assert Ledger(tmp_path).mark(MAC, [PLAIN]) == (PLAIN,)
        assert Ledger(tmp_path).releases == Releases()


def test_what_our_nftables_table_was_made_from_is_kept(tmp_path: Path) -> None:
    assert Ledger(tmp_path).ruleset is None
    Ledger(tmp_path).keep_ruleset(("table ...", ""))
    Ledger(tmp_path).keep_ruleset(("table ...", "seal"))
    assert Ledger(tmp_path).ruleset == ("table ...", "seal")
    file = tmp_path / "nftables.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"boot": "another"}))
    assert Ledger(tmp_path).ruleset is None, "a boot takes the table along"
    file.write_text("{")
    ledger = Ledger(tmp_path)
    assert ledger.ruleset is None
    ledger.keep_ruleset(("other", "seal"))
    ledger.keep_ruleset(None)
    assert Ledger(tmp_path).ruleset is None
    assert not file.exists()
