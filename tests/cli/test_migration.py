"""Migrations on a host of files, units and a kernel as data: what is found, done and undone."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from nicwatchd.cli.migration import net_utils, progress
from nicwatchd.cli.migration import record as records
from nicwatchd.cli.migration.record import FILE, RecordError
from nicwatchd.cli.migration.steps import StepError
from nicwatchd.cli.migration.survey import Survey, survey
from tests.cli.migration_host import TABLE, Host, interface

RULE = "/usr/lib/udev/rules.d/99-vpc-policy-routes.rules"
DHCP = "/usr/lib/systemd/network/80-ec2.network"
DHCP_TEXT = "[Match]\nDriver=ena\n\n[Network]\nDHCP=yes\n\n[Route]\nGateway=_ipv6ra\n"
ALIAS = "/run/systemd/network/70-eth1.network.d/ec2net_alias.conf"
STOP = "systemctl stop policy-routes@eth1.service"
HOTPLUG = "/etc/udev/rules.d/90-cloud-init-hook-hotplug.rules"

Maker = Callable[[Path], Host]


def with_net_utils(root: Path) -> Host:
    """amazon-ec2-net-utils has configured eth1; its service is what has the rules."""
    host = Host.made(root)
    host.write(RULE, "SUBSYSTEM==...")
    host.write(DHCP, DHCP_TEXT)
    host.write(ALIAS, "[Address]\nAddress=10.0.2.12/32\nAddPrefixRoute=false\n")
    host.write("/run/systemd/network/70-eth1.network.d/eni.conf", "")
    for link in ("eth0", "eth1"):
        host.units[f"policy-routes@{link}.service"] = ["enabled", "active"]
        host.units[f"refresh-policy-routes@{link}.timer"] = ["enabled", "active"]
    _put_rules(host)
    host.hooks[STOP] = _drop_rules
    start = "systemctl start policy-routes@eth1.service"
    host.hooks[start] = _put_rules
    return host


def _put_rules(host: Host) -> None:
    for source in ("10.0.2.11", "10.0.2.12", "10.0.2.64/28", "2001:db8:ec2:2::11"):
        host.add_rule(source, 10001, 10001)
    for family in (4, 6):
        host.add_default(family, "eth1", 10001)
    host.add_address("eth1", "10.0.2.12/32")


def _drop_rules(host: Host) -> None:
    """What networkd does when the files are gone, and what nicwatchd then does."""
    host.rules = [rule for rule in host.rules if rule["protocol"] == "236"]
    host.routes = [route for route in host.routes if route["protocol"] == "236"]
    host.addresses["eth1"] = []
    for ip in host.adopted:
        host.add_address("eth1", f"{ip}/32")


def with_cloud_init(root: Path) -> Host:
    host = Host.made(root)
    host.write(HOTPLUG, "# Installed by cloud-init")
    host.write("/etc/cloud/cloud.cfg.d/99_ec2.cfg", "updates: {network: {when: [boot, hotplug]}}\n")
    return host


def with_nm_cloud_setup(root: Path) -> Host:
    host = Host.made(root)
    host.units["nm-cloud-setup.timer"] = ["enabled", "active"]
    host.units["nm-cloud-setup.service"] = ["enabled", "inactive"]
    host.environment = "NM_CLOUD_SETUP_EC2=yes"
    host.write(
        "/etc/NetworkManager/system-connections/a.nmconnection",
        "[connection]\ntype=ethernet\n[ipv4]\nmethod=auto\n",
    )

    def put(host: Host) -> None:
        host.add_rule("10.0.2.11", 30401, 30401)
        host.add_default(4, "eth1", 30401)
        host.add_address("eth1", "10.0.2.12/24")

    put(host)
    host.hooks["nmcli device reapply eth1"] = _drop_rules
    host.hooks["systemctl start nm-cloud-setup.service"] = put
    return host


def with_cloud_netconfig(root: Path) -> Host:
    host = Host.made(root)
    host.units["cloud-netconfig.timer"] = ["enabled", "active"]
    host.write("/etc/sysconfig/network/ifcfg-eth1", "A=b\nCLOUD_NETCONFIG_MANAGE='yes'\n")
    host.write("/usr/libexec/netconfig.d/cloud-netconfig", "#!/bin/sh\n")
    host.write("/usr/lib/NetworkManager/dispatcher.d/90-cloud-netconfig", "#!/bin/sh\n")
    host.write("/run/netconfig/cloud/eth1", "10.0.2.12/24\n")

    def put(host: Host) -> None:
        host.add_rule("10.0.2.11", 30400, 30401)
        host.add_rule("2001:db8:ec2:2::11", 30400, 30401)
        for family in (4, 6):
            host.add_default(family, "eth1", 30401)
        host.add_address("eth1", "10.0.2.12/24")

    put(host)
    host.hooks["systemctl start cloud-netconfig.service"] = put
    return host


ALL = pytest.mark.parametrize(
    "make",
    [with_net_utils, with_cloud_init, with_nm_cloud_setup, with_cloud_netconfig],
    ids=["net-utils", "cloud-init", "nm-cloud-setup", "cloud-netconfig"],
)


def look(host: Host, addresses: str = "auto", *, altnames: bool = False) -> Survey:
    return survey(host.system, addresses, altnames=altnames)


def migrate(host: Host, **how: Any) -> None:
    found = look(host, **how)
    assert found.refusals == ()
    progress.finish(host.system, found.record(), lambda _: None)


def undo(host: Host) -> list[str]:
    record = records.load(host.system)
    assert record is not None
    return progress.undo(host.system, record, lambda _: None)


def theirs(host: Host) -> list[Any]:
    return [rule for rule in host.rules if rule["protocol"] != "236"]


# --- all tools -----------------------------------------------------------------------------------


def test_nothing_is_at_work_on_a_plain_host(tmp_path: Path) -> None:
    assert look(Host.made(tmp_path)) == Survey()


@ALL
def test_looking_changes_nothing(make: Maker, tmp_path: Path) -> None:
    host = make(tmp_path)
    before = host.state()
    found = look(host)
    assert len(found.findings) == 1
    assert found.findings[0].signs
    assert all(step.what and step.why for step in found.steps)
    assert (host.state(), host.ran) == (before, [])


@ALL
def test_what_is_migrated_is_at_work_no_more(make: Maker, tmp_path: Path) -> None:
    host = make(tmp_path)
    migrate(host)
    assert look(host) == Survey()
    assert theirs(host) == []
    record = records.load(host.system)
    assert record
    assert record.is_finished


@ALL
def test_undo_puts_all_back(make: Maker, tmp_path: Path) -> None:
    host = make(tmp_path)
    before = host.state()
    migrate(host, altnames=True)
    assert host.state() != before
    assert undo(host) == []
    files, units, rules, _ = host.state()
    assert (files, rules) == (before[0], before[2])
    assert {u: s for u, s in units.items() if u in before[1]} == {
        # A service that was not running may have been started: it then ends by itself.
        u: (s if s[1] == "active" else [s[0], units[u][1]])
        for u, s in before[1].items()
    }
    assert host.altnames.get("eth1", []) == []
    assert records.load(host.system) is None
    assert look(host).findings


class CutShortError(Exception):
    """The power fails."""


@ALL
def test_what_is_cut_short_anywhere_can_be_finished_or_undone(make: Maker, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole")
    migrate(whole)
    count = len(whole.ran)
    for at in range(1, count + 1):
        for way in ("finish", "undo"):
            host = make(tmp_path / f"{at}-{way}")
            before = host.state()
            with pytest.raises(CutShortError):
                _cut_short(host, at)
            record = records.load(host.system)
            assert record is not None
            assert not record.is_finished
            if way == "finish":
                progress.finish(host.system, record, lambda _: None)
                assert theirs(host) == []
                assert host.files() == whole.files()
            else:
                progress.undo(host.system, record, lambda _: None)
                assert host.files() == before[0]
                assert look(host).findings


def _cut_short(host: Host, at: int) -> None:
    """Migrate, and die right after this command that changes something."""

    class Ran(list[str]):
        def append(self, command: str) -> None:
            super().append(command)
            if len(self) == at:
                raise CutShortError

    host.ran = Ran()
    try:
        migrate(host)
    finally:
        host.ran = []


@ALL
def test_an_undo_that_was_cut_short_is_finished(make: Maker, tmp_path: Path) -> None:
    host = make(tmp_path)
    before = host.state()
    migrate(host)
    host.failing = {"udevadm control --reload-rules", "systemctl unmask cloud-netconfig.timer"}
    host.failing |= {"systemctl enable nm-cloud-setup.timer nm-cloud-setup.service"}
    host.failing |= {"systemctl enable cloud-netconfig.timer"}
    with pytest.raises(StepError):
        undo(host)
    record = records.load(host.system)
    assert record
    assert record.undoing
    host.failing = set()
    undo(host)
    assert host.files() == before[0]
    assert records.load(host.system) is None


@ALL
def test_an_idle_or_released_daemon_takes_nothing_over(make: Maker, tmp_path: Path) -> None:
    host = make(tmp_path)
    host.status["idle"] = "not EC2"
    assert any("not EC2" in why for why in look(host).refusals)
    host.status |= {"idle": None, "released": True}
    assert any("released" in why for why in look(host).refusals)
    host.status |= {"released": False, "primary_mac": None}
    assert any("primary" in why for why in look(host).refusals)


# --- what nicwatchd would not do -----------------------------------------------------------------

TAKING = pytest.mark.parametrize(
    "make",
    [with_net_utils, with_nm_cloud_setup, with_cloud_netconfig],
    ids=["net-utils", "nm-cloud-setup", "cloud-netconfig"],
)


@TAKING
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "awaiting-imds"}, "awaiting-imds"),
        ({"state": "ignored"}, "ignored"),
        ({"fought_over": True}, "fought over"),
        ({"ipv4": {"addresses": ["10.0.2.12"], "prefixes": []}}, "10.0.2.11"),
        ({"table": TABLE + 1}, "nicwatchd has no rule"),
    ],
)
def test_what_nicwatchd_does_not_have_is_refused(
    changes: dict[str, Any], words: str, make: Maker, tmp_path: Path
) -> None:
    host = make(tmp_path)
    host.status["interfaces"][1] = interface(**changes)
    assert any(words in why for why in look(host).refusals)


@TAKING
def test_a_table_without_a_default_of_ours_is_refused(make: Maker, tmp_path: Path) -> None:
    host = make(tmp_path)
    host.routes = [route for route in host.routes if route["protocol"] != "236"]
    assert any("no default route" in why for why in look(host).refusals)


@TAKING
def test_an_address_of_the_primary_is_refused_while_that_is_left_alone(
    make: Maker, tmp_path: Path
) -> None:
    host = make(tmp_path)
    host.add_address("eth0", "10.0.1.12/24")
    host.write(ALIAS.replace("eth1", "eth0"), "Address=10.0.1.12/32\n")
    host.write("/run/netconfig/cloud/eth0", "10.0.1.12/24\n")
    assert any("10.0.1.12 on eth0" in why for why in look(host).refusals)


@TAKING
def test_settings_that_add_no_addresses_are_refused(make: Maker, tmp_path: Path) -> None:
    host = make(tmp_path)
    assert any('addresses = "none"' in why for why in look(host, "none").refusals)


@TAKING
def test_an_address_that_the_settings_leave_to_others_is_refused(
    make: Maker, tmp_path: Path
) -> None:
    host = make(tmp_path)
    found = survey(host.system, "auto", [ip_network("10.0.2.12/31")], altnames=False)
    assert any("leaves 10.0.2.12 to others" in why for why in found.refusals)


def test_cloud_init_is_kept_where_nicwatchd_would_add_no_addresses(tmp_path: Path) -> None:
    assert look(with_cloud_init(tmp_path), "none").refusals


@pytest.mark.parametrize("where", ["/etc", "/run"])
def test_the_users_settings_for_net_utils_files_are_refused(where: str, tmp_path: Path) -> None:
    host = with_net_utils(tmp_path)
    name = f"{where}/systemd/network/70-eth1.network.d/mine.conf"
    host.write(name, "[Link]\nMTUBytes=1500\n")
    assert any(name in why for why in look(host).refusals)


def test_net_utils_without_its_dhcp_file_is_refused(tmp_path: Path) -> None:
    host = with_net_utils(tmp_path)
    (tmp_path / DHCP.lstrip("/")).unlink()
    assert any("80-ec2.network" in why for why in look(host).refusals)


def test_profiles_of_networkmanager_with_addresses_are_refused(tmp_path: Path) -> None:
    host = with_nm_cloud_setup(tmp_path)
    text = "[connection]\ntype=ethernet\n[ipv4]\nmethod=manual\naddress1=10.0.2.12/24\n"
    host.write("/etc/NetworkManager/system-connections/b.nmconnection", text)
    assert any("b.nmconnection" in why for why in look(host).refusals)


def test_a_prefix_that_is_local_as_a_whole_is_refused(tmp_path: Path) -> None:
    host = with_cloud_netconfig(tmp_path)
    row = {"type": "local", "dst": "10.0.2.64/28", "dev": "eth1", "table": "local"}
    host.routes.append({**row, "version": 4})
    assert any("10.0.2.64/28" in why for why in look(host).refusals)


# --- make before break ---------------------------------------------------------------------------


@TAKING
def test_nothing_ends_once_nicwatchd_has_less(make: Maker, tmp_path: Path) -> None:
    """The plan was good; before the break, nicwatchd lost what the tool has."""
    host = make(tmp_path)
    found = look(host)
    host.rules = [rule for rule in host.rules if rule["protocol"] != "236"]
    with pytest.raises(StepError, match="no rule"):
        progress.finish(host.system, found.record(), lambda _: None)
    assert theirs(host)
    assert STOP not in host.ran
    assert not any(text.startswith(("nmcli", "ip ")) for text in host.ran)
    assert host.paused > 1


@TAKING
def test_addresses_are_adopted_before_the_tool_takes_them_away(make: Maker, tmp_path: Path) -> None:
    host = make(tmp_path)
    migrate(host)
    assert host.adopted == ["10.0.2.12"]
    assert [row["local"] for row in host.addresses["eth1"]] == ["10.0.2.12"]
    [adopting] = [at for at, text in enumerate(host.ran) if text.startswith("POST")]
    ending = (STOP, "nmcli device reapply eth1", "ip address del 10.0.2.12/24 dev eth1")
    assert [text for text in host.ran[:adopting] if text in ending] == []
    assert [text for text in host.ran[adopting:] if text in ending]


def test_a_daemon_that_was_restarted_is_told_again_what_to_adopt(tmp_path: Path) -> None:
    host = with_net_utils(tmp_path)

    def forget(host: Host) -> None:
        host.adopted.clear()
        host.lost = {"10.0.2.12"}
        _drop_rules(host)

    host.hooks[STOP] = forget
    migrate(host)
    assert host.adopted == ["10.0.2.12"]
    assert [row["local"] for row in host.addresses["eth1"]] == ["10.0.2.12"]


def test_each_step_is_on_record_before_it_is_done(tmp_path: Path) -> None:
    host = with_net_utils(tmp_path)
    seen = []

    def note(host: Host) -> None:
        record = records.load(host.system)
        assert record
        seen.append([entry.state for entry in record.entries].count("begun"))
        _drop_rules(host)

    host.hooks[STOP] = note
    migrate(host)
    assert seen == [1]


def test_what_cannot_be_recorded_is_not_done(tmp_path: Path) -> None:
    host = with_net_utils(tmp_path)
    (tmp_path / "var").write_text("no directory")
    before = host.files()
    with pytest.raises(RecordError, match="nothing was done"):
        migrate(host)
    assert (host.files(), host.ran) == (before, [])


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "[]", '{"format": 1, "entries": 5}'])
def test_a_record_that_cannot_be_read_is_an_error(text: str, tmp_path: Path) -> None:
    host = Host.made(tmp_path)
    host.write(FILE, text)
    with pytest.raises(RecordError):
        records.load(host.system)


def test_a_file_that_was_changed_since_is_left(tmp_path: Path) -> None:
    host = with_cloud_init(tmp_path)
    migrate(host)
    settings = "/etc/cloud/cloud.cfg.d/zz-nicwatchd.cfg"
    host.write(settings, "mine now\n")
    [left] = undo(host)
    assert settings in left
    assert host.files()[settings] == "mine now\n"


# --- what each tool needs ------------------------------------------------------------------------


def test_net_utils_udev_rule_is_masked_and_the_primary_stays_first(tmp_path: Path) -> None:
    host = with_net_utils(tmp_path)
    migrate(host)
    files = host.files()
    assert files[net_utils.MASK] == ""
    assert files[RULE]
    written = files[net_utils.PRIMARY_FILE]
    assert "[Match]\nMACAddress=02:00:00:00:00:01\n" in written
    assert "Driver=" not in written
    assert "Gateway=_ipv6ra\nMetric=512\n" in written
    assert "[DHCPv4]\nRouteMetric=512\n" in written
    # The primary is not configured anew: its service runs on, and does not come at the next boot.
    assert host.units["policy-routes@eth0.service"] == ["disabled", "active"]
    assert host.units["policy-routes@eth1.service"] == ["disabled", "inactive"]
    assert host.units["refresh-policy-routes@eth0.timer"] == ["disabled", "inactive"]


def test_net_utils_that_somebody_masked_is_not_at_work(tmp_path: Path) -> None:
    host = Host.made(tmp_path)
    host.write(RULE, "SUBSYSTEM==...")
    host.write(net_utils.MASK, "")
    assert look(host) == Survey()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("updates: {network: {when: [boot, hotplug]}}\n", "[boot]"),
        ("updates:\n  network:\n    when: ['hotplug']\n", "[]"),
        ("updates:\n  network:\n    when:\n    - boot\n    - hotplug\n", "[boot]"),
        ("other: 1\n", "[]"),
    ],
)
def test_what_else_cloud_init_does_it_does_on(text: str, kept: str, tmp_path: Path) -> None:
    host = with_cloud_init(tmp_path)
    host.write("/etc/cloud/cloud.cfg.d/99_ec2.cfg", text)
    migrate(host)
    files = host.files()
    assert HOTPLUG not in files
    written = files["/etc/cloud/cloud.cfg.d/zz-nicwatchd.cfg"]
    assert f"updates: {{network: {{when: {kept}}}}}\n" in written
    assert host.ran == ["udevadm control --reload-rules"]


def test_a_hotplug_rule_of_the_package_is_masked(tmp_path: Path) -> None:
    host = with_cloud_init(tmp_path)
    (tmp_path / HOTPLUG.lstrip("/")).unlink()
    shipped = HOTPLUG.replace("/etc", "/usr/lib")
    host.write(shipped, "# rule")
    migrate(host)
    assert host.files()[HOTPLUG] == ""
    assert host.files()[shipped] == "# rule"
    assert look(host) == Survey()


@pytest.mark.parametrize("environment", ["", "NM_CLOUD_SETUP_GCP=yes", "NM_CLOUD_SETUP_EC2=no"])
def test_nm_cloud_setup_for_other_clouds_is_not_at_work(environment: str, tmp_path: Path) -> None:
    host = with_nm_cloud_setup(tmp_path)
    host.environment = environment
    assert look(host) == Survey()


def test_cloud_netconfig_is_switched_off_everywhere_it_starts(tmp_path: Path) -> None:
    host = with_cloud_netconfig(tmp_path)
    migrate(host)
    files = host.files()
    no = 'CLOUD_NETCONFIG_MANAGE="no"\n'
    assert files["/etc/sysconfig/network/ifcfg-eth1"] == f"A=b\n{no}"
    assert files["/etc/default/cloud-netconfig"] == no
    assert files["/etc/NetworkManager/dispatcher.d/90-cloud-netconfig"] == ""
    assert host.units["cloud-netconfig.timer"] == ["masked", "inactive"]
    assert "ip -4 rule del pref 30400 from 10.0.2.11 lookup 30401" in host.ran


# --- alternative names ---------------------------------------------------------------------------


def test_each_eni_gets_its_id_as_a_name(tmp_path: Path) -> None:
    host = Host.made(tmp_path)
    host.altnames = {"eth0": ["eni-0aaaaaaaaaaaaaaaa"]}  # net-utils gave it that
    migrate(host, altnames=True)
    assert host.altnames["eth1"] == ["eni-0123456789abcdef0"]
    undo(host)
    assert host.altnames == {"eth0": ["eni-0aaaaaaaaaaaaaaaa"], "eth1": []}


def test_a_name_follows_the_mac_and_not_the_name_of_the_link(tmp_path: Path) -> None:
    host = Host.made(tmp_path)
    migrate(host, altnames=True)
    host.status["interfaces"][1]["name"] = "ens6"  # renamed since; its alternative names stay
    host.altnames["ens6"] = host.altnames.pop("eth1")
    undo(host)
    assert host.altnames["ens6"] == []
