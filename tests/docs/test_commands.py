"""What README and docs show works: commands parse, targets exist, and the main ones are run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence

import aiohttp
import pytest

from nicwatchd.cli.parser import parser, words
from nicwatchd.core.model import Family
from nicwatchd.sim.ec2 import SCENARIOS, DaemonProcess, Ec2
from nicwatchd.sim.probe import Acceptor, all_answer, paths
from nicwatchd.sim.scenario import load
from tests.docs.shown import PAGES, ROOT, Shown, blocks, commands
from tests.scenarios.own_journal import own_journal

ALL = [each for page in PAGES for each in commands(page)]
OURS = [" ".join(call) for each in ALL for call in each.nicwatchd]
CURL = re.compile(r"curl --unix-socket /run/nicwatchd/(\w+)\.sock (?:-\S+ )*http://localhost(/\S*)")

# What the pages name, and what it is in the scenario.
STANDS_FOR = {
    "eni-0a1b2c3d4e5f60718": "02:00:00:00:00:02",
    "ens6": "eth1",
    "10.0.2.11": "10.0.2.10",
}
# What a host that works answers. doctor's word depends on the host.
ANSWERS = {
    "plan": {0},
    "status": {0},
    "wait": {0},
    "explain": {0},
    "history": {0},
    "doctor": {0, 1},
    "release": {0},
}


def test_commands_are_found() -> None:
    assert Shown("README.md", "nicwatchd status") in ALL
    assert (
        Shown("docs/getting-started.md", "nicwatchd wait eni-0a1b2c3d4e5f60718 --timeout 90") in ALL
    )
    assert Shown("docs/troubleshooting.md", "nicwatchd explain 10.0.2.11") in ALL
    assert len(OURS) > 50


@pytest.mark.parametrize("text", sorted(set(OURS)))
def test_each_command_of_nicwatchd_is_one(text: str) -> None:
    arguments = parser().parse_args(words(text.split()))
    assert arguments.module


@pytest.mark.parametrize("page", PAGES)
def test_what_is_for_a_shell_is_its_syntax(page: str) -> None:
    for block in blocks(page):
        done = subprocess.run(
            ["bash", "-n"], input=block, text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), block


def test_each_target_of_make_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = {name for each in ALL for name in re.findall(r"\bmake ([a-z][a-z-]*)", each.command)}
    assert named
    assert named - targets == set()


async def call(
    ec2: Ec2, daemon: DaemonProcess, command_line: list[str], wrapper: Sequence[str]
) -> tuple[int, str]:
    """Run nicwatchd on the host as a user would, but with the daemon's own files and journal."""
    given = [STANDS_FOR.get(word, word) for word in command_line]
    if command_line[0] != "history":  # which reads the journal alone
        given += ["--runtime-directory", str(daemon.socket.parent)]
    if command_line[0] in ("plan", "release", "doctor", "explain"):
        given += ["--config", str(daemon.config)]
    command = f'"{sys.executable}" -m nicwatchd.cli.main "$@" 2>&1 || echo "exit code $?"'
    said = await ec2.vpc.exec(ec2.vpc.host, *wrapper, "sh", "-c", command, "sh", *given)
    code = re.search(r"exit code (\d+)\n$", said)
    return int(code[1]) if code else 0, said


async def test_getting_started_goes_as_it_says() -> None:
    page = commands("docs/getting-started.md")
    ours = [shown for each in page for shown in each.nicwatchd]
    steps = [shown[0] for shown in ours]
    assert steps[:6] == ["plan", "wait", "status", "explain", "history", "doctor"]
    assert steps[6:8] == ["release", "reconcile"]
    async with own_journal() as journal, Ec2(load(SCENARIOS / "race.toml")) as ec2:
        daemon = await ec2.start_daemon(wrapper=journal.wrapper)
        await ec2.plug("eth1")
        await ec2.vpc.lease(ec2.eni("eth1"), Family.V4)
        await daemon.until("eth1", "applied")
        await journal.entries()  # all that was sent is there from now on
        answers = {}
        for shown in ours[:7]:
            code, answers[shown[0]] = await call(ec2, daemon, shown, journal.wrapper)
            assert code in ANSWERS[shown[0]], answers[shown[0]]
        assert "attached" in answers["history"]
        assert "changed" in answers["history"]
        code, said = await call(ec2, daemon, ours[7], journal.wrapper)
        assert "eth1" in said
        assert code in (0, 1)  # 1: it is not applied again yet


async def test_each_path_of_the_socket_that_is_shown_answers() -> None:
    shown = {match.groups() for each in ALL if (match := CURL.search(each.command))}
    assert ("status", "/metrics") in shown
    async with Ec2(load(SCENARIOS / "race.toml")) as ec2:
        daemon = await ec2.start_daemon()
        await ec2.plug("eth1")
        await daemon.until("eth1", "awaiting-imds")
        for name, path in sorted(shown):
            connector = aiohttp.UnixConnector(str(daemon.socket.with_name(f"{name}.sock")))
            async with (
                aiohttp.ClientSession("http://nicwatchd", connector=connector) as session,
                session.get(path) as response,
            ):
                assert response.status in ({200, 503} if path == "/readyz" else {200}), path


async def test_what_is_done_by_hand_works() -> None:
    script = [block for block in blocks("docs/without-nicwatchd.md") if block.startswith("ip ")]
    assert len(script) == 3
    async with Ec2(load(SCENARIOS / "race.toml")) as ec2, Acceptor(ec2.vpc, ec2.vpc.host):
        await ec2.plug("eth1")
        await ec2.vpc.exec(ec2.vpc.host, "sh", "-ec", "\n".join(script))
        eni = ec2.eni("eth1")
        everybody = ec2.vpc.peers(eni)
        await all_answer(
            ec2.vpc, paths(everybody, [*eni.addresses(), *ec2.vpc.primary.addresses()])
        )
