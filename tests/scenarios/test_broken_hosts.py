"""Broken hosts: `status`, `explain` and `doctor` name the cause, and what they say mends it.

The exit code and /readyz follow. The table is in broken_hosts.py; what does not fit into it is
here. Truth is reachability by TCP.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nicwatchd.cli.explain_interface import lines
from nicwatchd.cli.layout import Paint
from nicwatchd.core.model import Family
from nicwatchd.sim import containers, netns, probe
from nicwatchd.sim.dhcp import BEATS
from nicwatchd.sim.ec2 import SETTINGS, Ec2
from nicwatchd.sim.probe import PORT, Acceptor, all_answer, matrix, paths
from tests.scenarios.broken_hosts import (
    AFTER,
    BEFORE,
    DEFAULT,
    DOCTOR,
    ENI1,
    ETH1,
    HOSTS,
    TUNNEL,
    BrokenHost,
    Finding,
    Where,
    explained,
    pasted,
)
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.doctoring import Doctor
from tests.scenarios.doctoring import Finding as Found
from tests.scenarios.host import QUICK, WITHIN, HostUnderTest, complete, ec2_host, nothing, settings
from tests.scenarios.software import eventually
from tests.scenarios.test_hosts_rules import MANY

pytestmark = pytest.mark.long


Cause = tuple[str, str]  # the text and the remedy
WIDTH = 80


# --- what is told ------------------------------------------------------------------------------


async def readyz(host: HostUnderTest) -> int:
    async with (
        aiohttp.ClientSession(
            "http://nicwatchd", connector=aiohttp.UnixConnector(str(host.daemon.socket))
        ) as session,
        session.get("/readyz") as response,
    ):
        return response.status


async def is_well(host: HostUnderTest) -> None:
    """Wait until /readyz says so; then `status` does, too."""

    async def ready() -> bool:
        return await readyz(host) == 200

    await eventually(ready)
    said = await nicwatchd_on(host.vpc, "status")
    assert said.code == 0, said.out


async def is_not_well(host: HostUnderTest) -> str:
    """What `status` prints, which agrees with /readyz."""
    assert await readyz(host) == 503
    said = await nicwatchd_on(host.vpc, "status")
    assert said.code == 1, said.out
    return flat(said.out)


def flat(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def told(document: dict[str, Any], broken: BrokenHost, on: str | None = None) -> list[Cause]:
    """The causes of this code that the daemon tells, of one interface or all, each once."""
    found: list[dict[str, str]] = []
    for interface in document["interfaces"]:
        if on not in (None, interface["name"]):
            continue
        if broken.where is Where.CAUSES:
            parts = [interface[family] for family in ("ipv4", "ipv6") if interface[family]]
            found += [cause for part in parts for cause in part["causes"]]
        else:
            found += interface[broken.where.value]
    its = (each for each in found if each["code"] == broken.code)
    return list(dict.fromkeys((each["text"], each["remedy"]) for each in its))


async def until_told(host: HostUnderTest, broken: BrokenHost) -> list[Cause]:
    """Wait until the daemon tells the cause with all its words, and no more changes."""
    last: dict[str, Any] = {}

    async def is_told() -> bool:
        nonlocal last
        last = await host.daemon.get("/v1/status")
        return any(is_it(broken, *each) for each in told(last, broken, broken.on))

    await eventually(is_told, lambda: f"not told: {broken.code}: {last}")
    await host.daemon.post("/v1/reconcile")
    causes = told(await host.daemon.get("/v1/status"), broken, broken.on)
    assert any(is_it(broken, *each) for each in causes), causes
    return causes


def is_it(broken: BrokenHost, text: str, remedy: str) -> bool:
    """Whether this is the cause, and what mends it."""
    has_words = all(words in text for words in broken.words)
    return has_words and re.fullmatch(broken.remedy, flat(remedy)) is not None


async def shows(host: HostUnderTest, broken: BrokenHost) -> str:
    """What `status` prints, of the interface alone where all is well."""
    of = [broken.on] if broken.is_well else []
    return (await nicwatchd_on(host.vpc, "status", *of)).out


async def prints(host: HostUnderTest, broken: BrokenHost, causes: Sequence[Cause]) -> None:
    """What a person reads of it: the causes, and what mends each."""
    if broken.is_well:
        await is_well(host)
    else:
        await is_not_well(host)
    shown = await shows(host, broken)
    assert max(map(len, shown.splitlines())) <= WIDTH
    remedies = [unbroken(each) for each in pasted(shown)]
    # Of those that one remedy mends, the first is told, and how many there are more. A text on
    # IMDS may be another meanwhile: it names what was tried last.
    assert [each for each in broken.words if each not in flat(shown)] == [], shown
    for _, remedy in causes:
        assert flat(remedy) in remedies, (remedy, shown)
        assert re.fullmatch(broken.remedy, flat(remedy)), remedy


def unbroken(command: str) -> str:
    """A command that was printed in several lines, in one; its remark, too."""
    one = command.replace("\\\n", " ")
    begin, mark, remark = one.partition("#")  # each line of a remark has the mark
    return flat(begin + mark + re.sub(r"\n *# ", " ", remark))


async def tells(host: HostUnderTest, broken: BrokenHost, causes: Sequence[Cause]) -> None:
    """What `explain` and `doctor` say of it, each alone; as text and as JSON."""
    doctor = Doctor.of(host)
    explain = ("explain", broken.on, "--config", str(host.daemon.config))
    shown, findings = await asyncio.gather(nicwatchd_on(host.vpc, *explain), doctor.findings())
    assert shown.code == (0 if broken.is_well else 1), shown
    explains(shown.out, broken, causes)
    examines(findings, broken, causes)
    if sends_to_doctor(broken):
        account = json.loads((await nicwatchd_on(host.vpc, *explain, "--json")).out)
    else:  # what `--json` prints
        account = await host.daemon.get(f"/v1/explain/{broken.on}")
    explains_as_json(account, broken, causes)


def explains(shown: str, broken: BrokenHost, causes: Sequence[Cause]) -> None:
    """What a person reads who asks why: the cause, the fact, what mends it; no other command."""
    assert max(map(len, shown.splitlines())) <= WIDTH
    whole = unbroken(shown)
    wanted = [*broken.words, broken.fact]
    assert [each for each in wanted if each not in whole] == [], shown
    remedies = [unbroken(each) for each in pasted(shown)]
    if sends_to_doctor(broken):
        assert any(re.fullmatch(mend_of(broken), each) for each in remedies), shown
    to_do = whole.partition(" To do: ")[2]
    for _, remedy in () if sends_to_doctor(broken) else causes:
        due = flat(remedy) or "Nothing: it waits, and goes on by itself."
        assert due in [*remedies, to_do], (remedy, shown)
    assert re.search(r"nicwatchd (status|doctor|explain)", whole) is None, shown


def explains_as_json(account: dict[str, Any], broken: BrokenHost, causes: Sequence[Cause]) -> None:
    """The same for programs: the code, and what mends it."""
    found = told({"interfaces": [account["interface"]]}, broken)
    if not sends_to_doctor(broken):
        assert {remedy for _, remedy in causes} <= {remedy for _, remedy in found}
        assert "findings" not in account
        return
    assert [text for text, _ in found if broken.words[0] in text]
    examines(account["findings"], broken, causes)


def examines(found: Sequence[Found], broken: BrokenHost, causes: Sequence[Cause]) -> None:
    """What `doctor` finds: the thing, and the same remedy."""
    if isinstance(broken.doctor, str):
        assert found == [], broken.doctor
        return
    its = [each for each in found if each["code"] == broken.doctor.code]
    assert any(broken.doctor.words in each["text"] for each in its), found
    lines = [unbroken(line) for each in its for line in each["mend"].splitlines()]
    if broken.doctor.mend:
        assert all(re.fullmatch(broken.doctor.mend, flat(each["mend"])) for each in its), its
    else:
        assert {flat(remedy) for _, remedy in causes} <= set(lines), (causes, its)
    of_others = {each["code"] for each in found} - {broken.doctor.code}
    assert of_others <= set(broken.doctor.besides), found


def sends_to_doctor(broken: BrokenHost) -> bool:
    """Whether the daemon cannot say what mends it: it may not read the firewall, say."""
    return broken.remedy == DOCTOR


def mend_of(broken: BrokenHost) -> str:
    """The pattern of what mends it."""
    assert not isinstance(broken.doctor, str)
    return broken.doctor.mend if sends_to_doctor(broken) else broken.remedy


# --- what is true ------------------------------------------------------------------------------


def dead_paths(host: HostUnderTest, broken: BrokenHost) -> tuple[probe.Path, ...]:
    """The paths that do not answer while it is broken."""
    peers = host.vpc.far_hosts
    if not broken.from_far:
        peers = (host.vpc.neighbour(host.eni("eth1").subnet),)
    return paths(peers, map(ip_address, broken.dead))


@asynccontextmanager
async def answering(host: HostUnderTest, broken: BrokenHost) -> AsyncIterator[None]:
    """Whoever answers on the port: the host does already, a container has to."""
    if broken.port == PORT:
        yield
        return
    async with Acceptor(host.vpc, f"{host.vpc.id}-on-br0"):
        yield


async def is_dead(host: HostUnderTest, broken: BrokenHost) -> None:
    tried = dead_paths(host, broken)
    assert tried or not broken.dead
    answers = await matrix(host.vpc, tried, broken.port)
    assert [str(path) for path, reply in answers.items() if reply] == []


async def run_as_printed(host: HostUnderTest, command: str) -> None:
    """Run a remedy in the host's network namespace, where the tests are root already."""
    await Doctor.of(host).mend({"mend": command})


async def mend(host: HostUnderTest, broken: BrokenHost) -> None:
    """Do what `explain` prints. Where more than one thing is amiss, the next shows then."""
    if broken.mend is not None:
        await broken.mend(host)
        return
    done: set[str] = set()

    async def is_mended() -> bool:
        document = await host.daemon.get("/v1/status")
        names = [
            each["name"] for each in document["interfaces"] if told(document, broken, each["name"])
        ]
        for name in names:
            for command in await explained(host, name):
                if re.fullmatch(mend_of(broken), unbroken(command)) and command not in done:
                    done.add(command)
                    await run_as_printed(host, command)
        return not names

    await eventually(is_mended)
    assert done


# --- the table -----------------------------------------------------------------------------------


def cases() -> Iterator[Any]:
    for broken in HOSTS:
        marks = [pytest.mark.lasts(broken.lasts)] if broken.lasts else []
        yield pytest.param(broken, id=broken.name, marks=marks)


async def is_named(host: HostUnderTest, broken: BrokenHost) -> list[Cause]:
    causes = await until_told(host, broken)
    await prints(host, broken, causes)
    await is_dead(host, broken)
    return causes


async def breaks(host: HostUnderTest, broken: BrokenHost) -> None:
    """It works, and breaks; the cause is named then, and by a daemon that starts meanwhile."""
    names = [eni.name for eni in broken.enis]
    await host.plug(*names)
    for name in names:
        await host.until(name, complete)
    await is_well(host)
    await broken.spoil(host.ec2)
    if BEFORE in broken.moments:
        await is_named(host, broken)
        await host.daemon.stop()
        await host.daemon.start(broken.config, broken.wrapper)


@pytest.mark.parametrize("broken", list(cases()))
async def test_a_broken_host_is_named_and_mended(broken: BrokenHost) -> None:
    async def before(ec2: Ec2) -> None:
        await broken.prepare(ec2)
        if AFTER not in broken.moments:
            await ec2.plug(*(eni.name for eni in broken.enis))
            await broken.spoil(ec2)

    async with ec2_host(
        *broken.enis,
        config=broken.config,
        wrapper=broken.wrapper,
        settled=AFTER in broken.moments,
        before=before,
        watched=not broken.harms_primary,
    ) as host:
        async with answering(host, broken):
            if AFTER in broken.moments:
                await breaks(host, broken)
            await tells(host, broken, await is_named(host, broken))
            await mend(host, broken)
            await is_well(host)
            if broken.then:
                await broken.then(host)
            await all_answer(host.vpc, dead_paths(host, broken), WITHIN, broken.port)
        for eni in broken.enis:
            await host.until(eni.name, complete)


# --- what does not fit into the table ------------------------------------------------------------


async def status_says(host: HostUnderTest, *words: str, of: Sequence[str] = (), code: int) -> str:
    """What `status` prints, which has these words; its exit code, and /readyz like that."""
    assert await readyz(host) == (200 if code == 0 else 503)
    said = await nicwatchd_on(host.vpc, "status", *of)
    assert said.code == code, said.out
    shown = unbroken(said.out)
    for each in words:
        assert flat(each) in shown, shown
    return shown


async def causes_are(host: HostUnderTest, name: str, family: str, *codes: str) -> Cause:
    """Wait until the causes of one family are these; the first of them."""

    async def are() -> bool:
        part = (await host.status(name))[family]
        return part is not None and [cause["code"] for cause in part["causes"]] == list(codes)

    await eventually(are)
    cause = (await host.status(name))[family]["causes"][0]
    return cause["text"], cause["remedy"]


async def test_d_an_eni_without_ipv6_in_a_subnet_that_has_it() -> None:
    """It is waited for, and said until when; then the ENI has none, and is well."""
    without = replace(ETH1, ipv6=())
    config = settings(QUICK | {"patience": 120.0})
    async with ec2_host(without, config=config) as host:
        await host.plug("eth1")
        text, remedy = await causes_are(host, "eth1", "ipv6", "no-ipv6s")
        assert "IMDS lists no ipv6s yet" in text
        assert remedy == "", "it may be on its way: another one would be a second"
        await host.until("eth1", lambda eni: eni["ipv4"]["health"] == "working")
        await status_says(host, "waits for IPv6", text, remedy, "IPv4 works", code=1)
        broken = BrokenHost(
            "d",
            nothing,
            "no-ipv6s",
            (text,),
            "",
            fact="ipv6s none",
            doctor="it may be on its way",
        )
        await tells(host, broken, [(text, remedy)])
        await host.reload(settings(QUICK))  # and with that the time is over
        await is_well(host)
        ipv6 = (await host.status("eth1"))["ipv6"]
        assert ipv6["verdict"] == "absent"
        assign = "aws ec2 assign-ipv6-addresses --ipv6-address-count 1 --network-interface-id"
        assert [reason["remedy"] for reason in ipv6["reasons"]] == [f"{assign} {ENI1}"]
        await host.all_reachable("eth1", addresses=host.eni("eth1").ipv4)
        await host.change(ETH1)
        await host.until("eth1", complete)
        await is_well(host)


async def test_j_no_dhcp_client() -> None:
    """Where a setting waits for one for some seconds, it works without it then."""
    async with ec2_host(ETH1, config=settings({"address_wait": 3.0})) as host:
        await host.plug("eth1")
        text, _ = await causes_are(host, "eth1", "ipv4", "address-awaited")
        assert text == "waiting up to 3 s for a DHCP client to configure 10.0.2.11"
        account = await host.daemon.get("/v1/explain/eth1")
        shown = flat("\n".join(lines(account, account["interface"]["since"], Paint())))
        assert text in shown
        assert "Nothing: it waits, and goes on by itself." in shown
        await host.until("eth1", complete)
        await is_well(host)


SECURITY_GROUP = """
table inet sg {
  chain forward {
    type filter hook forward priority filter; policy accept;
    ip daddr 10.0.2.11 drop
    ip6 daddr 2001:db8:ec2:2::11 drop
  }
}
"""


async def test_l_dropped_by_a_security_group() -> None:
    """The host cannot know; it says that its own side is right, and where to look."""
    async with ec2_host(ETH1) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.vpc._do(netns.nft, host.vpc.router, SECURITY_GROUP)
        tried = paths(host.vpc.far_hosts, host.eni("eth1").addresses())
        assert not any((await matrix(host.vpc, tried)).values())
        words = "routes, rules and sources are right: look at security groups and network ACLs"
        await status_says(host, words, of=["eth1"], code=0)
        explained = await nicwatchd_on(host.vpc, "explain", "eth1")
        assert (explained.code, words in explained.text) == (0, True), explained.out
        assert await Doctor.of(host).findings() == []  # it cannot know either
        await host.vpc._do(netns.nft, host.vpc.router, "delete table inet sg\n")
        await host.all_reachable("eth1")


SYSTEMCTL = """#!/bin/sh
case "$1 $2" in
  "is-active nicwatchd.service") echo failed;;
  "is-enabled nicwatchd.service") echo enabled;;
  *) echo inactive;;
esac
"""


def with_systemctl(directory: Path) -> tuple[str, ...]:
    """Runs a command where systemd's word is that nicwatchd.service has failed."""
    program = directory / "systemctl"
    program.write_text(SYSTEMCTL, encoding="ascii")
    program.chmod(0o755)
    return ("env", f"PATH={directory}:{os.environ['PATH']}")


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_p_a_daemon_that_is_dead_or_hangs(how: str, tmp_path: Path) -> None:
    async with ec2_host(ETH1) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await is_well(host)
        if how == "killed":
            await host.daemon.kill()
        else:
            host.daemon.process.send_signal(signal.SIGSTOP)
        said = await nicwatchd_on(host.vpc, "status")
        assert said.code == 4
        shown, verb = flat(said.complaint), "start" if how == "killed" else "restart"
        assert ("the daemon is not running" if how == "killed" else "the daemon hangs") in shown
        assert f"sudo systemctl {verb} nicwatchd" in shown
        explained = await nicwatchd_on(host.vpc, "explain", "eth1")
        assert explained.code == 4
        assert f"sudo systemctl {verb} nicwatchd" in flat(explained.complaint)
        wrapper = with_systemctl(tmp_path) if how == "killed" else ()
        found = (await Doctor.of(host).examine(wrapper))["findings"]
        assert [each["code"] for each in found] == ["unit" if how == "killed" else "daemon"]
        assert found[0]["mend"].splitlines()[-1] == "sudo systemctl restart nicwatchd"
        await host.all_reachable("eth1")  # what is in the kernel stays
        if how == "hung":
            await host.daemon.kill()
        await host.daemon.start(DEFAULT)
        await host.until("eth1", complete)
        await is_well(host)


async def test_settings_that_cannot_be_used_are_a_problem_until_mended() -> None:
    """The daemon works on with those before, so a restart, which would fail, is not asked for."""
    async with ec2_host(ETH1) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await is_well(host)
        for wrong in ('exclud = ["eth1"]\n', "[retry]\nrefresh = -1\n"):
            host.daemon.config.write_text(SETTINGS + wrong, encoding="utf-8")
            host.daemon.process.send_signal(signal.SIGHUP)

            async def is_told() -> bool:
                problem = (await host.daemon.get("/v1/status"))["bad_settings"] or ""
                return wrong.split()[-3].strip("[]") in problem  # noqa: B023 (awaited here)

            await eventually(is_told)
            status = await host.daemon.get("/v1/status")
            assert status["problems"] == [status["bad_settings"]]
            assert (await host.daemon.get("/healthz")) == {"status": "ok", "problems": []}
            await status_says(
                host,
                "the new settings cannot be used, so the old ones remain in effect",
                "then: sudo systemctl reload nicwatchd",
                flat(status["bad_settings"]),
                code=1,
            )
            assert await Doctor.of(host).codes() == ["settings"]  # once
            await host.all_reachable("eth1")
        await host.reload(DEFAULT)
        await is_well(host)
        assert (await host.daemon.get("/v1/status"))["problems"] == []


async def test_an_address_that_its_manager_took_away() -> None:
    """As keepalived does. It is the manager's, so only whoever put it there puts it back."""
    floating = "10.0.2.50"
    more = replace(ETH1, ipv4=(*ETH1.ipv4, floating))
    async with ec2_host(ETH1, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await host.ip(f"addr add {floating}/32 dev eth1")
        await host.change(more)
        await host.daemon.post("/v1/reconcile")
        await host.all_reachable("eth1", addresses=[ip_address(floating)])
        await is_well(host)
        await host.ip(f"addr del {floating}/32 dev eth1")
        text, remedy = await causes_are(host, "eth1", "ipv4", "taken-away")
        assert f"{floating} was on eth1 and was taken away" in text
        await status_says(host, text, remedy, "DEGRADED", code=1)
        broken = BrokenHost(
            "taken away",
            nothing,
            "taken-away",
            (text,),
            re.escape(remedy),
            fact=f"local-ipv4s 10.0.2.11, {floating}",
            doctor=Finding("taken-away", text),
        )
        await tells(host, broken, [(text, remedy)])
        assert not any(
            (await matrix(host.vpc, paths(host.vpc.far_hosts, [ip_address(floating)]))).values()
        )
        await run_as_printed(host, remedy)
        await is_well(host)
        await host.all_reachable("eth1", addresses=[ip_address(floating)])


# --- healthy hosts ------------------------------------------------------------------------------


async def has_no_finding(host: HostUnderTest, *names: str) -> None:
    """All is well, nothing is to be mended, and everybody is answered."""
    await is_well(host)
    status = await host.daemon.get("/v1/status")
    assert (status["problems"], status["unready"]) == ([], [])
    for interface in status["interfaces"]:
        parts = [interface[family] for family in ("ipv4", "ipv6") if interface[family]]
        assert [cause for part in parts for cause in part["causes"]] == []
        assert [ip for part in parts for ip in part["silent"]] == []
    said = await nicwatchd_on(host.vpc, "status")
    assert "Mend:" not in said.out
    for name in names:
        said = await nicwatchd_on(host.vpc, "status", name)
        assert (said.code, "mend:" in said.out) == (0, False), said.out
    assert await Doctor.of(host).findings() == []
    await host.everybody_reaches()


async def test_a_healthy_host() -> None:
    """One that boots, hot-plugs, and has all that an ENI can have."""
    rich = replace(MANY, ipv4_prefixes=("10.0.2.64/28",), ipv6_prefixes=("2001:db8:ec2:2:1::/80",))
    async with ec2_host(rich) as host:
        await has_no_finding(host)
        await host.plug("eth1")
        await host.until("eth1", complete)
        await has_no_finding(host, "eth1")


async def test_k_a_healthy_host_with_strict_reverse_path_filters() -> None:
    strict = {f"ipv4/conf/{name}/rp_filter": "1" for name in ("all", "default", "eth0")}
    async with ec2_host(ETH1) as host:
        host.vpc.sysctl(host.vpc.host, strict)
        await host.plug("eth1")
        await host.until("eth1", complete)
        await has_no_finding(host, "eth1")


async def test_n_and_nb_a_healthy_host_whose_manager_prefers_the_new_eni() -> None:
    """Its default route and its on-link routes are the best of main: the primary is protected."""
    async with ec2_host(ETH1, manager=BEATS) as host:
        await host.plug("eth1")
        for family in Family:
            await host.vpc.lease(host.eni("eth1"), family, default=True)
        await host.until("eth1", complete)
        await has_no_finding(host, "eth1")


async def test_a_healthy_host_with_a_full_tunnel_as_openvpn_makes_it() -> None:
    """The halves of a default route count as one: the ENIs' own addresses answer by the ENIs."""
    halves = ("0.0.0.0/1", "128.0.0.0/1", "::/3", "2000::/4", "3000::/4", "fc00::/7")
    async with ec2_host(ETH1) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        await TUNNEL(host.ec2)
        for half in halves:
            await host.ip(f"route add {half} dev c-tun")
        await host.daemon.post("/v1/reconcile")
        await has_no_finding(host, "eth1")


async def test_a_healthy_host_with_an_ipv4_only_eni_and_a_container() -> None:
    only = replace(ETH1, ipv6=(), subnet_ipv6=(), ipv4_prefixes=("10.0.2.64/28",))
    async with ec2_host(only, config=settings(QUICK)) as host:
        await host.plug("eth1")
        await host.until("eth1", "applied")
        box = await containers.delegated(host.vpc, "c-box", IPv4Network("10.0.2.64/28")[5], None)
        async with Acceptor(host.vpc, box.namespace):
            await host.all_reachable("eth1", addresses=box.addresses)
        await has_no_finding(host, "eth1")
