"""`[[interface]]` sections, and hosts where others own some of the ENIs."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any, Final

import pytest

from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import Status
from nicwatchd.sim.script import EniScript, Step
from tests.scenarios.foreign_files import foreign_files
from tests.scenarios.host import (
    WITHIN,
    HostUnderTest,
    codes,
    complete,
    ec2_host,
    late,
    numbered,
    settings,
    verdicts,
    waits_for,
)
from tests.scenarios.streams import streams

pytestmark = pytest.mark.long


def config(*sections: dict[str, Any], **general: Any) -> str:
    """The sim's settings with these sections; `general` are of [interfaces]."""
    lines = [settings(**general)]
    for section in sections:
        lines += ["[[interface]]", *(f"{k} = {json.dumps(v)}" for k, v in section.items())]
    return "\n".join((*lines, ""))


async def reload(host: HostUnderTest, *sections: dict[str, Any], **general: Any) -> None:
    """Use other settings, and wait until they are used for everything."""
    before = host.daemon.log.count("settings reloaded")
    host.daemon.config.write_text(config(*sections, **general), encoding="utf-8")
    host.daemon.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(WITHIN):
        while host.daemon.log.count("settings reloaded") == before:  # noqa: ASYNC110 (a file)
            await asyncio.sleep(0.02)
    await host.daemon.post("/v1/reconcile")


def script(number: int, **changes: Any) -> EniScript:
    """ethN, with ids that name it."""
    ids = {
        "interface_id": f"eni-{number:017x}",
        "vpc_id": f"vpc-{number:017x}",
        "security_groups": ("sg-0000", f"sg-{number:017x}"),
    }
    return numbered(number, **ids | changes)


MATCHES: Final = {
    "name": "eth[2]",
    "mac": "02:00:00:00:00:03",
    "eni": f"eni-{2:017x}",
    "subnet": f"subnet-{3:017x}",
    "vpc": f"vpc-{2:017x}",
    "security_group": f"sg-{2:017x}",
}
# The VPC CNI, as it marks a host with pods of both families.
VPC_CNI: Final = (
    "rule add pref 1024 fwmark 0x80/0x80 lookup main",
    "rule add pref 512 to 10.0.2.77 lookup main",
    "rule add pref 1536 from 10.0.2.77 lookup 2",
    "-6 rule add pref 512 to 2001:db8:ec2:2::77 lookup main",
    "-6 rule add pref 1536 from 2001:db8:ec2:2::77 lookup 2",
)


async def is_left(host: HostUnderTest, name: str) -> bool:
    """Whether nothing of ours is for this link."""
    rules = [rule for rule in await host.own_rules() if f"oif {name} " in rule]
    shown = await host.ip(f"-details link show dev {name}")
    table = (await host.status(name))["table"]
    routes = [await host.ip(f"{v} route show table all proto 236") for v in ("-4", "-6")]
    return not rules and "group default" in shown and f"table {table} " not in "".join(routes)


@pytest.mark.parametrize("key", MATCHES)
@pytest.mark.parametrize("marked", ["before", "after"])
async def test_one_eni_of_an_eks_node_is_ours(key: str, marked: str) -> None:
    """The VPC CNI's node, where one of three ENIs is the operator's own; both families."""
    section = {key: MATCHES[key], "manage": True}
    enis = (script(1), script(2, steps=late(4.0)), script(3))
    async with ec2_host(*enis, config=config(section)) as host:
        if marked == "before":
            for words in VPC_CNI:
                await host.ip(words)
        await host.plug("eth1", "eth2", "eth3")
        if marked == "after":
            await host.until("eth1", complete)
            for words in VPC_CNI:
                await host.ip(words)
        status = await host.until("eth2", complete)
        assert status["section"] == f'[[interface]] {key} = "{MATCHES[key]}"'
        for name in ("eth1", "eth3"):
            left = await host.until(name, "ignored")
            assert codes(left["reasons"]) == {"cni"}
        await host.daemon.post("/v1/reconcile")
        assert await is_left(host, "eth1")
        assert await is_left(host, "eth3")
        await host.all_reachable("eth2")
        objects = await host.ip("rule") + await host.ip("-6 rule")
        assert objects.count("10.0.2.77") == 2
        assert objects.count("2001:db8:ec2:2::77") == 2


RELOADS: Final[dict[str, tuple[dict[str, Any], ...]]] = {
    "a section that says nothing": ({"name": "eth1"},),
    "by its VPC": ({"vpc": f"vpc-{1:017x}"},),
    "of another": ({"security_group": "sg-9", "manage": False},),
    "the rules": ({"eni": f"eni-{1:017x}", "rules": "subnet"},),
    "the rules again": ({"subnet": f"subnet-{2:017x}", "rules": "address"},),
    "the addresses": ({"security_group": f"sg-{1:017x}", "addresses": "all"},),
    "manage": ({"mac": "02:00:00:00:00:02", "manage": True},),
    "none": (),
}


async def test_reloads_of_sections_leave_no_gap() -> None:
    """Connections of both families live through each, and what stays right is not touched."""
    async with ec2_host(script(1), config=config()) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        only_named = {"vpc-id", "security-group-ids"}
        assert not only_named & {request.path.rpartition("/")[2] for request in host.imds.log}
        async with streams(host, "eth1") as opened:
            for what, sections in RELOADS.items():
                before = await host.kernel_objects()
                async with host.changes("route", "address") as said:
                    await reload(host, *sections)
                    await host.until("eth1", complete)
                after = await host.kernel_objects()
                gone = [line for line in said if line.startswith("Deleted") and "236" in line]
                assert gone == [] or before != after, f"{what}: {gone}"
                if "rules" not in what and what not in ("none", "the addresses"):
                    assert before == after, what
                await asyncio.gather(*(stream.goes_on() for stream in opened))


@pytest.mark.parametrize("primary", ["leave", "protect"])
async def test_an_eni_whose_section_is_unknown_is_not_touched(primary: str) -> None:
    """IMDS has all but the VPC: whether the section is this ENI's nobody can tell yet.

    The primary is protected meanwhile: main may have routes by that ENI already.
    """
    steps = (Step(0.0, hide=frozenset({"vpc-id"})),)
    text = f'primary = "{primary}"\n' + config({"vpc": f"vpc-{1:017x}", "manage": False})
    async with ec2_host(script(1, steps=steps), config=text) as host:
        async with host.changes("link", "address", "route") as said:
            await host.plug("eth1")
            status = await host.until("eth1", waits_for("section-unknown"))
            assert "vpc-id" in status["reasons"][0]["text"]
            await host.daemon.post("/v1/reconcile")
            beside = await host.own_rules("eth0")
            assert bool(beside) is (primary == "protect")
            assert await host.own_rules() == beside
            host.imds.step("eth1", hide=set())
            status = await host.until("eth1", "ignored")
            await host.daemon.post("/v1/reconcile")
        assert codes(status["reasons"]) == {"excluded"}
        assert "vpc = " in status["reasons"][0]["text"]
        selectors = {f"{rule.partition(' lookup ')[0]} lookup " for rule in beside}
        ours = [line for line in said if "proto 236" in line or "group 3778" in line]
        others = [line for line in ours if not any(each in line for each in selectors)]
        assert [line for line in others if primary == "leave" or "dev eth0 " not in line] == []
        assert await is_left(host, "eth1")
        assert await host.own_rules() == [], "the primary has nothing to be protected from"


async def test_nothing_that_stands_is_removed_while_the_section_is_unknown() -> None:
    async with ec2_host(script(1), config=config()) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.kernel_objects()
        fault = host.imds.fault("leaf:security-group-ids", "500")
        await host.daemon.stop()
        await host.ec2.start_daemon(config({"security_group": "sg-9", "manage": False}))
        daemon = host.ec2.daemons[-1]
        await daemon.until("eth1", waits_for("section-unknown"), WITHIN)
        assert await host.kernel_objects() == before
        host.imds.clear(fault)
        await daemon.until("eth1", complete, WITHIN)
        assert await host.kernel_objects() == before


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
@pytest.mark.parametrize("by", ["general", "section"])
async def test_a_family_that_the_settings_leave_out(by: str, family: str) -> None:
    """Nothing waits for it, nothing of it is programmed; a reload takes back and gives again."""
    other = {"ipv4": "ipv6", "ipv6": "ipv4"}[family]
    sections = ({"name": "eth1", "families": [family]},) if by == "section" else ()
    general = {"families": [family]} if by == "general" else {}
    beside = ("eth0",) if by == "section" else ()  # the section is of eth1 alone
    hidden = (Step(0.0, hide=frozenset({"ipv6s", "subnet-ipv6-cidr-blocks"})),)
    steps = hidden if family == "ipv4" else ()
    async with ec2_host(script(1, steps=steps), config=config(*sections, **general)) as host:
        await host.plug("eth1")
        status = await host.until("eth1", "applied")
        assert verdicts(status) == {family: "ready", other: "off"}
        assert codes(status[other]["reasons"]) == {"off-by-settings"}
        chosen = Family.V4 if family == "ipv4" else Family.V6
        await host.all_reachable("eth1", addresses=list(host.eni("eth1").addresses(chosen)))
        assert await of_family(host, other, *beside) == 0
        host.imds.step("eth1", hide=set())
        await reload(host)
        await host.until("eth1", complete)
        await host.all_reachable("eth1")
        async with streams(host, "eth1", chosen):
            await reload(host, *sections, **general)
            status = await host.until("eth1", lambda s: verdicts(s).get(other) == "off")
            await host.daemon.post("/v1/reconcile")
            assert await of_family(host, other, *beside) == 0
        await reload(host)
        await host.until("eth1", complete)


async def of_family(host: HostUnderTest, family: str, *beside: str) -> int:
    """How many rules, guards too, and routes of ours there are of it, but for those `beside`."""
    v = "-4" if family == "ipv4" else "-6"
    objects = await host.kernel_objects()
    rules_beside = await host.own_rules(*beside) if beside else []
    selectors = {rule.partition(" lookup ")[0] for rule in rules_beside}
    lines = [line for line in objects[{"-4": "rule", "-6": "-6 rule"}[v]] if "proto 236" in line]
    rules = [line.partition(":")[2].partition(" lookup ")[0].strip() for line in lines]
    routes = objects[f"{v} route show table all proto 236"]
    others = [r for r in routes if not any(f"dev {name} " in f"{r} " for name in beside)]
    return sum(rule not in selectors for rule in rules) + len(others)


# --- Multus, marks of udev, ECS -------------------------------------------------------------------

SECOND: Final = {
    "ipv4": ("10.0.2.11", "10.0.2.51"),
    "ipv6": ("2001:db8:ec2:2::11", "2001:db8:ec2:2::51"),
}


def added(status: Status) -> list[str]:
    return [*status["ipv4"]["added"], *status["ipv6"]["added"]]


@pytest.mark.parametrize(
    ("name", "plugins"),
    [
        ("00-multus.conf", ("multus",)),
        ("00-multus.conf", ("multus-shim",)),
        ("70-own.conflist", ("multus", "portmap")),
    ],
    ids=["thin", "thick", "in a list"],
)
async def test_pods_addresses_stay_off_the_host_where_multus_is(
    name: str, plugins: tuple[str, ...]
) -> None:
    """AWS's Multus gives pods addresses that EC2 lists as secondary ones of the host's ENI."""
    with foreign_files() as files:
        files.configure("10-aws.conflist", "aws-cni", "portmap")
        files.configure(name, *plugins)
        host_of = ec2_host(
            script(1, **SECOND), config=config(), wrapper=files.wrapper, judged=False
        )
        async with host_of as host, host.changes("address") as said:
            await host.plug("eth1")
            for family in Family:
                await host.vpc.lease(host.eni("eth1"), family)
            await host.until("eth1", complete)
            await host.daemon.post("/v1/reconcile")
            status = await host.status("eth1")
            assert added(status) == []
            assert "multus" in codes(status["notes"])
            first = [ip for ip in host.eni("eth1").addresses() if str(ip).endswith("11")]
            await host.all_reachable("eth1", addresses=first)
        assert [line for line in said if " inet" in line and "51/" in line] == []


async def test_multus_comes_to_a_host_that_runs_and_goes_again() -> None:
    with foreign_files() as files:
        host_of = ec2_host(script(1, **SECOND), config=config(), wrapper=files.wrapper)
        async with host_of as host:
            await host.plug("eth1")
            for family in Family:
                await host.vpc.lease(host.eni("eth1"), family)
            await host.until("eth1", complete)
            await host.all_reachable("eth1")
            file = files.configure("00-multus.conf", "multus-shim")
            await noticed(host, [])
            file.unlink()
            await noticed(host, ["10.0.2.51", "2001:db8:ec2:2::51"])
            files.configure("00-multus.conf", "multus-shim")
            await noticed(host, [])
            await reload(host, {"name": "eth1", "addresses": "all"})
            await noticed(host, ["10.0.2.51", "2001:db8:ec2:2::51"])


async def noticed(host: HostUnderTest, addresses: list[str]) -> None:
    """Wait until the daemon has looked at the files, and has done what follows."""
    async with asyncio.timeout(WITHIN):
        while added(await host.status("eth1")) != addresses:  # noqa: ASYNC110 (files have no event)
            await asyncio.sleep(0.05)


async def test_whose_a_link_is_by_udev() -> None:
    with foreign_files() as files:
        async with ec2_host(script(1), config=config(), wrapper=files.wrapper) as host:
            await host.plug("eth1")
            index = (await host.until("eth1", complete))["index"]
            files.mark(index, "io.systemd.Network")
            await host.daemon.post("/v1/reconcile")
            assert complete(await host.status("eth1"))
            files.mark(index, "org.example.Fabric")
            status = await host.until("eth1", "ignored")
            assert codes(status["reasons"]) == {"managed-by-others"}
            assert "org.example.Fabric" in status["reasons"][0]["text"]
            await host.daemon.post("/v1/reconcile")
            assert await is_left(host, "eth1")
            await reload(host, {"name": "eth1", "manage": True})
            await host.until("eth1", complete)
            await reload(host)
            await host.until("eth1", "ignored")
            files.mark(index, None)
            await host.until("eth1", complete)


@pytest.mark.parametrize("steps", [(), late(3600.0)], ids=["applied", "awaiting IMDS"])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_task_s_eni_is_given_up_and_served_when_it_is_back(
    times: int, steps: tuple[Step, ...]
) -> None:
    """As the ECS agent does for `awsvpc`: by MAC, into a task's namespace, soon after it came."""
    state = "awaiting-imds" if steps else "applied"
    async with ec2_host(script(1, steps=steps), script(2), config=config()) as host:
        await host.plug("eth2")
        await host.until("eth2", complete)
        before = await host.footprint()
        await host.plug("eth1")
        for number in range(times):
            await host.until("eth1", state)
            task = await host.vpc.add_namespace(f"task{number}")
            await move(host, "02:00:00:00:00:02", task)
            await host.daemon.until_gone("eth1")
            await host.as_before(before)
            assert "inet" not in await host.vpc.exec(task, "ip", "address", "show", "dev", "eth1")
            assert "236" not in await host.vpc.exec(task, "ip", "rule")
            asked = len(host.imds.log)
            await host.daemon.post("/v1/reconcile")
            paths = [request.path for request in list(host.imds.log)[asked:]]
            assert [path for path in paths if "02:00:00:00:00:02" in path] == []
            await host.vpc.ip(task, f"link set eth1 netns {host.vpc.host}")
        host.imds.step("eth1", complete=True)
        await host.until("eth1", complete)
        await host.all_reachable("eth1", "eth2")


async def move(host: HostUnderTest, mac: str, namespace: str) -> None:
    """Move the link with this MAC, whatever its name."""
    links = json.loads(await host.ip("-json link show"))
    (name,) = (link["ifname"] for link in links if link["address"] == mac)
    await host.ip(f"link set dev {name} netns {namespace}")
