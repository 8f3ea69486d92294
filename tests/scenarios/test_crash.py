"""The daemon's process dies, or is told to end, while it is at work; then it comes again."""

from __future__ import annotations

import signal
from contextlib import suppress

import pytest

from nicwatchd.core.model import Numbers
from nicwatchd.sim.ec2 import DaemonError
from tests.scenarios.commands import nicwatchd_on
from tests.scenarios.host import DEFAULT, HostUnderTest, complete, ec2_host, numbered
from tests.scenarios.monitor import changes
from tests.scenarios.streams import streams

pytestmark = pytest.mark.long


# Which send of the daemon: its first writing (the link's group), about the one
# with all else, and after it. (One send carries up to 128 operations, which the kernel carries out
# in one go. What if only a part of them was: that is tried with a kernel in memory.)
SENDS = (19, 66, 69)


def at_send(number: int, name: str) -> tuple[str, ...]:
    """A wrapper for the daemon: it gets a signal when it is about to send for the n-th time."""
    inject = f"inject=sendto:signal={name}:when={number}"
    return ("strace", "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", inject)


async def struck(host: HostUnderTest, number: int, name: str) -> int:
    """A daemon that gets a signal at work; its exit code."""
    with suppress(DaemonError):  # it may be dead before it can answer
        await host.ec2.start_daemon(DEFAULT, at_send(number, name))
    return await host.ec2.daemons[-1].process.wait()


async def rules_of(host: HostUnderTest, name: str) -> set[str]:
    """The rules, without the guards, that lead to an interface's table."""
    own = f" lookup {Numbers().table_of(host.vpc.ifindex(host.eni(name)))}"
    return {rule for rule in await host.own_rules() if rule.endswith(own)}


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
@pytest.mark.lasts(22)
async def test_struck_while_it_works(name: str) -> None:
    async with ec2_host(numbered(1), numbered(2)) as host:
        await host.plug("eth1", "eth2")
        await host.until("eth1", complete)
        await host.until("eth2", complete)
        await host.all_reachable("eth1", "eth2")
        await host.daemon.stop()
        before = await host.kernel_objects()
        rules = await rules_of(host, "eth2")
        assert len(rules) == 3
        async with streams(host, "eth1"):
            for number in SENDS:
                await nicwatchd_on(host.vpc, "release", "eth2")
                assert await rules_of(host, "eth2") == set()
                code = await struck(host, number, name)
                assert code == (-signal.SIGKILL if name == "SIGKILL" else 0)
                assert await rules_of(host, "eth2") in (set(), rules)
                daemon = await host.ec2.start_daemon(DEFAULT)
                await daemon.until("eth1", complete)
                await daemon.until("eth2", complete)
                await daemon.post("/v1/reconcile")
                assert await host.kernel_objects() == before, number
                await daemon.stop()
        await host.all_reachable("eth1", "eth2")


async def test_an_interface_that_went_while_it_was_down() -> None:
    async with ec2_host(numbered(1), numbered(2)) as host:
        await host.plug("eth1")
        await host.until("eth1", complete)
        before = await host.kernel_objects()
        await host.plug("eth2")
        await host.until("eth2", complete)
        await host.all_reachable("eth1", "eth2")
        async with streams(host, "eth1"):
            await host.daemon.stop()
            left = await rules_of(host, "eth2")
            assert len(left) == 3
            await host.ec2.unplug("eth2")
            async with changes(host) as changed:
                daemon = await host.ec2.start_daemon(DEFAULT)
                await daemon.until("eth1", complete)
                await daemon.post("/v1/reconcile")
            assert await host.kernel_objects() == before
        # Two families, a rule and its guard for each of two selectors: each is removed once.
        assert len(changed) == 8
        assert all(line.startswith("Deleted 32765:") for line in changed)
        assert {line for line in changed if "10.0.2." in line or "eth1" in line} == set()
