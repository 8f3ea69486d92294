"""Metadata that looks odd and is right, and metadata that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from nicwatchd.sim.script import Do, EniScript, Step
from tests.scenarios.host import codes, complete, ec2_host, numbered, settings, waits_for

GOOD = "2001:db8:ec2:2::11"
# What is known is given up when it is absent for seconds, not for half a minute.
QUICK_TO_FORGET = {"doubts": 3, "doubt_span": 2.0}


def saying(texts: Mapping[str, str], **changes: Any) -> EniScript:
    """eth1, of which IMDS says this in other words."""
    return numbered(1, steps=(Step(0.0, set=texts),), **changes)


RIGHT = {
    "several-subnet-cidrs": numbered(
        1,
        ipv6=(GOOD, "2001:db8:ec2:92::11"),
        subnet_ipv6=("2001:db8:ec2:2::/64", "2001:db8:ec2:92::/64"),
    ),
    "uncompressed": saying(
        {
            "subnet-ipv6-cidr-blocks": "2001:db8:ec2:2:0:0:0:0/64",
            "ipv6s": "2001:0DB8:0EC2:0002:0000:0000:0000:0011",
        }
    ),
    "upper-case": saying(
        {"mac": "02:00:00:00:00:AB"}, mac="02:00:00:00:00:ab", directory_case="upper"
    ),
    "empty-strings": saying({"ipv4-prefix": "", "ipv6-prefix": "", "network-card": ""}),
    "lengths-behind-addresses": saying({"ipv6s": f"{GOOD}/64"}),
}


@pytest.mark.parametrize("eni", RIGHT.values(), ids=RIGHT)
async def test_odd_but_right(eni: EniScript) -> None:
    async with ec2_host(eni) as host:
        await host.plug("eth1")
        status = await host.until("eth1", complete)
        assert status["notes"] == []
        await host.all_reachable("eth1")


WRONG = {
    "outside-its-ipv6-cidrs": (
        {"ipv6s": f"{GOOD}\n2001:db8:bad::1"},
        "outside-subnet-ipv6",
        "2001:db8:bad::1 is outside the subnet's CIDRs",
    ),
    "outside-its-ipv4-cidr": (
        {"local-ipv4s": "10.0.2.11\n10.9.9.9"},
        "outside-subnet-ipv4",
        "10.9.9.9 is outside the subnet's CIDRs",
    ),
    "prefix-outside": (
        {"ipv6-prefix": "2001:db8:bad:1::/80"},
        "outside-subnet-ipv6",
        "2001:db8:bad:1::/80 is outside the subnet's CIDRs",
    ),
}


@pytest.mark.parametrize(("texts", "code", "words"), WRONG.values(), ids=WRONG)
async def test_what_lies_outside_is_left_out_and_the_rest_works(
    texts: dict[str, str], code: str, words: str
) -> None:
    async with ec2_host(saying(texts), config=settings(QUICK_TO_FORGET)) as host:
        await host.plug("eth1")
        status = await host.until("eth1", waits_for(code))
        assert words in status["reasons"][0]["text"]
        await host.all_reachable("eth1")  # the addresses that it really has
        host.imds.step("eth1", complete=True)
        await host.until("eth1", complete)


async def test_a_line_of_garbage_is_left_out_and_named() -> None:
    """What else the list has, nobody knows, so it is waited for; the good part works."""
    async with ec2_host(saying({"ipv6s": f"<html>\n{GOOD}"})) as host:
        await host.plug("eth1")
        status = await host.until("eth1", waits_for("unread-ipv6s"))
        assert codes(status["notes"]) == {"refused"}
        assert "ipv6s: '<html>'" in status["notes"][0]["text"]
        await host.all_reachable("eth1")
        host.imds.step("eth1", complete=True)
        status = await host.until("eth1", complete)
        assert status["notes"] == []


UNREADABLE: dict[Do, str] = {"garbage": "garbage", "big": "the body is larger than 64 KiB"}


@pytest.mark.parametrize(("do", "words"), UNREADABLE.items(), ids=UNREADABLE)
async def test_a_key_that_cannot_be_read_holds_up_its_family_only(do: Do, words: str) -> None:
    async with ec2_host(numbered(1)) as host:
        fault = host.imds.fault("leaf:ipv6s", do)
        await host.plug("eth1")
        status = await host.until("eth1", waits_for("unread-ipv6s"))
        assert words in status["reasons"][0]["text"]
        await host.all_reachable("eth1", addresses=host.eni("eth1").ipv4)
        host.imds.clear(fault)
        await host.until("eth1", complete)
        await host.all_reachable("eth1")


async def test_answers_for_another_mac_are_not_used() -> None:
    async with ec2_host(saying({"mac": "02:00:00:00:00:99"})) as host:
        await host.plug("eth1")
        status = await host.until("eth1", waits_for("wrong-mac"))
        assert "02:00:00:00:00:99" in status["reasons"][0]["text"]
        lines = [line for lines in (await host.kernel_objects()).values() for line in lines]
        its = ("eth1", str(status["table"]), "10.0.2.", "2001:db8:ec2:2:")
        assert not [line for line in lines if any(word in line for word in its)]
        host.imds.step("eth1", complete=True)
        await host.until("eth1", complete)
        await host.all_reachable("eth1")


TURNS = {name: texts for name, (texts, _, _) in WRONG.items()}
TURNS["nothing-but-outside"] = {"ipv6s": "2001:db8:bad::1", "local-ipv4s": "10.9.9.9"}
TURNS["garbage"] = {"ipv6s": "<html>", "local-ipv4s": "\x7fELF", "subnet-ipv4-cidr-block": "0/0"}
TURNS["another-mac"] = {"mac": "02:00:00:00:00:99"}
TURNS["empty"] = {"ipv6s": "", "local-ipv4s": "", "subnet-ipv6-cidr-blocks": ""}


@pytest.mark.parametrize("texts", TURNS.values(), ids=TURNS)
async def test_nothing_is_removed_when_good_metadata_turns_bad(texts: dict[str, str]) -> None:
    async with ec2_host(numbered(1), config=settings(QUICK_TO_FORGET)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.kernel_objects()
        host.imds.step("eth1", texts=texts)
        await host.daemon.post("/v1/reconcile")
        assert await host.kernel_objects() == before
        await host.all_reachable("eth1")
        host.imds.step("eth1", complete=True)
        await host.daemon.post("/v1/reconcile")
        await host.until("eth1", complete)
        assert await host.kernel_objects() == before
