"""What mends it: for each code that can be a cause there is a remedy, or none is needed."""

from __future__ import annotations

import re

import pytest

from nicwatchd.core import written
from nicwatchd.core.metadata import KEYS
from nicwatchd.core.model import Family, Reason
from nicwatchd.core.remedies import REMEDIES, STEMS, assigns, remedy_of
from tests.test_reasons_doc import CORE, given

# It ends by itself, whatever the operator does.
NEEDS_NONE = {
    "address-awaited",
    "in-progress",
    "name-unknown",
    "no-local-ipv4s",
    "no-subnet-ipv4-cidr-block",
    "no-subnet-ipv4-cidr-blocks",
    "no-subnet-ipv6-cidr-blocks",
    "table-taken",
}
# The reason is made with a remedy of its own, which names the address, rule or device.
BRINGS_ITS_OWN = {
    "address-missing",
    "address-unconfigured",
    "address-tentative",
    "leaves-elsewhere",
    "published-port",
    "taken-away",
}
# What others want so, or what is only worth knowing: such a code never is a cause.
NO_CAUSE = {
    "connmark",
    "egress-absent",
    "egress-elsewhere",
    "egress-without-router",
    "enslaved",
    "left-alone",
    "lease-outside-subnet-ipv4",
    "lease-outside-subnet-ipv6",
    "lives-elsewhere",
    "main-closed",
    "multus",
    "networks-left-out",
    "no-ip",
    "no-ipv4-assigned",
    "no-sign-of-ipv4",
    "no-sign-of-ipv6",
    "off-by-settings",
    "primary",
    "primary-left",
    "primary-port",
    "refused",
    "routes-not-copied",
    "shadowed",
    "split-route",
}
# Why we wrote something: that needs nothing.
WHY_WRITTEN = {each.code for each in vars(written).values() if isinstance(each, Reason)}
EVERY = sorted({code for path in CORE for code in given(path)})
NAMES = {"name": "eth1", "mac": "02:00:00:00:00:02", "eni": "eni-0a1b"}


def words(code: str) -> list[str]:
    """The codes that one in the source stands for."""
    keys = [key.name for kinds in KEYS.values() for key in kinds.values()]
    families = [family.label.lower() for family in Family]
    known = NEEDS_NONE | BRINGS_ITS_OWN | NO_CAUSE | WHY_WRITTEN | REMEDIES.keys()
    known |= {stem + end for stem in STEMS for end in (*keys, *families)}
    return [each for each in sorted(known) if re.fullmatch(code, each)]


@pytest.mark.parametrize("code", EVERY)
def test_each_code_has_a_remedy_or_needs_none(code: str) -> None:
    found = words(code)
    assert found, "say in remedies.py what mends it, or here why nothing needs to"
    for each in found:
        remedy = remedy_of(Reason(each, "x"), **NAMES)
        assert bool(remedy) is (each not in NEEDS_NONE | BRINGS_ITS_OWN | NO_CAUSE | WHY_WRITTEN)


@pytest.mark.parametrize("key", [key.name for kinds in KEYS.values() for key in kinds.values()])
def test_whatever_key_imds_lacks(key: str) -> None:
    assert f"no-{key}" in NEEDS_NONE | REMEDIES.keys() or "prefix" in key
    assert remedy_of(Reason(f"unread-{key}", "x"), **NAMES) == "nicwatchd doctor"


@pytest.mark.parametrize(("code", "remedy"), [*REMEDIES.items(), *STEMS.items()])
def test_commands_are_complete(code: str, remedy: str) -> None:
    text = remedy_of(Reason(code, "x"), **NAMES)
    assert "{name}" not in text
    assert "{eni}" not in text
    assert ("eth1" in text) is ("{name}" in remedy)
    for command in ("ip link set", "sysctl -w", "systemctl", "apt ", "dnf ", "bpftrace", "nft "):
        assert text.count(command) == text.count(f"sudo {command}"), "only root may"


def test_a_reason_s_own_remedy_comes_first() -> None:
    assert remedy_of(Reason("link-down", "x", "sudo true"), **NAMES) == "sudo true"


def test_an_eni_without_a_known_id() -> None:
    text = remedy_of(Reason("no-ipv6s", "x"), name="eth1", mac="", eni=None)
    assert text.endswith("--network-interface-id eni-...")


def test_who_removes_things() -> None:
    text = remedy_of(Reason("fought-over", "x"), **NAMES)
    assert text.startswith("sudo bpftrace -e 'kprobe:fib_nl_delrule,")
    assert '{ printf("%s %d\\n", comm, pid) }' in text


@pytest.mark.parametrize(
    ("code", "is_one"),
    [("no-ipv6s", True), ("no-ipv6-assigned", True), ("no-carrier", False), ("no-eni", False)],
)
def test_what_gives_an_eni_an_address(code: str, *, is_one: bool) -> None:
    """It is too early for that while IMDS may only lag behind the attachment."""
    assert assigns(remedy_of(Reason(code, "x"), **NAMES)) is is_one
