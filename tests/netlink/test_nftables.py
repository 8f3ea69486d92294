"""Our nftables table on a real kernel: read over netlink, written by `nft`."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nicwatchd.core.forwarding import Forwarding
from nicwatchd.core.model import RemoveRuleset, SetRuleset
from nicwatchd.core.port import Result
from nicwatchd.netlink import nftables, programs
from nicwatchd.netlink.rtnetlink import NetlinkKernel
from tests.netlink.conftest import network_namespace

MASK = 0x7F000000
TEXT = Forwarding(MASK, {3: 0x3000000, 4: 0x4000000}, enis=frozenset({2, 3, 4})).text()
OTHER = Forwarding(MASK, {3: 0x3000000}, enis=frozenset({2, 3})).text()
SET, REMOVE = SetRuleset(TEXT), RemoveRuleset()


@pytest.fixture
async def kernel() -> AsyncIterator[NetlinkKernel]:
    with network_namespace():
        kernel = NetlinkKernel()
        yield kernel
        kernel.close()


def nft(*words: str) -> str:
    done = subprocess.run(["nft", *words], capture_output=True, text=True, check=True)
    return done.stdout


async def test_the_seal_holds_until_something_changes(kernel: NetlinkKernel) -> None:
    assert await kernel.ruleset() is None
    assert [o.result for o in await kernel.run([SET])] == [Result.DONE]
    seal = await kernel.ruleset()
    assert isinstance(seal, str)
    nft("add", "table", "inet", "others")
    nft("add chain inet others c { type filter hook prerouting priority 0; }")
    assert await kernel.ruleset() == seal, "what others do elsewhere is nothing to us"
    seen = {seal}
    for harm in (
        "add rule inet nicwatchd prerouting counter",
        "insert rule inet nicwatchd to_3 counter",
        "flush chain inet nicwatchd to_3",
        "flush table inet nicwatchd",
    ):
        nft(harm)
        now = await kernel.ruleset()
        assert isinstance(now, str)
        assert now not in seen
        seen.add(now)
    await kernel.run([SET])
    assert await kernel.ruleset() == seal, "the same table is the same"
    nft("delete", "table", "inet", "nicwatchd")
    assert await kernel.ruleset() is None


async def test_writing_replaces_all_of_ours_and_nothing_of_others(kernel: NetlinkKernel) -> None:
    nft("add table inet others { chain c { counter; }; }")
    nft("add table ip nicwatchd { chain c { counter; }; }")
    before = nft("-a", "list", "ruleset")
    await kernel.run([SET, SetRuleset(OTHER)])
    said = nft("list", "table", "inet", "nicwatchd")
    assert "chain to_3" in said
    assert "chain to_4" not in said
    for _ in range(2):  # also where there is none any more
        assert [o.result for o in await kernel.run([REMOVE])] == [Result.DONE]
    assert nft("-a", "list", "ruleset") == before


async def test_in_one_line_it_is_a_command(kernel: NetlinkKernel) -> None:
    """As `nicwatchd plan` shows it."""
    await kernel.run([SET])
    said = nft("list", "ruleset")
    nft(" ".join(TEXT.splitlines()))
    assert nft("list", "ruleset") == said


async def test_what_nft_refuses_changes_nothing(kernel: NetlinkKernel) -> None:
    await kernel.run([SET])
    seal = await kernel.ruleset()
    (outcome,) = await kernel.run([SetRuleset(f"{TEXT}no such word\n")])
    assert outcome.result is Result.REFUSED
    assert "syntax error" in outcome.message
    assert await kernel.ruleset() == seal


async def test_without_the_program(
    kernel: NetlinkKernel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert await kernel.nft_problem() is None
    await kernel.run([SET])
    seal = await kernel.ruleset()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "MORE_PATH", "")
    assert await kernel.nft_problem() == nftables.MISSING
    outcomes = await kernel.run([SetRuleset(OTHER), REMOVE])
    assert [o.result for o in outcomes] == [Result.REFUSED, Result.REFUSED]
    assert await kernel.ruleset() == seal, "reading needs none"


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """A directory with an `nft` that never ends."""
    program = tmp_path / "nft"
    program.write_text("#!/bin/sh\nexec cat /dev/zero >/dev/null\n", encoding="utf-8")
    program.chmod(0o755)
    return tmp_path


async def test_a_program_that_hangs_is_ended(
    kernel: NetlinkKernel, monkeypatch: pytest.MonkeyPatch, hanging: Path
) -> None:
    monkeypatch.setattr(nftables, "PATIENCE", 0.1)
    monkeypatch.setenv("PATH", f"{hanging}:/usr/bin:/bin")
    (outcome,) = await kernel.run([SET])
    assert outcome.result is Result.REFUSED
    assert "did not end" in outcome.message
