"""What is asked of the guest, and done to it, by other ways than its network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nicwatchd.core.model import Family, IPAddress
from tests.bench.peers import judge
from tests.vm.host import VmHost

# What an agent may leave behind, by kind; a line each.
LOOKS: Final = {
    "addresses": "ip -o address",
    "rules": "ip -4 rule; ip -6 rule",
    "routes": "ip -4 route show table all; ip -6 route show table all",
    "files": "find /run/systemd/network /etc/systemd/network /etc/netplan /run/netplan ! -type d",
}
# All but the kernel's own, one by one, by one process: as fast as what does so without being asked.
FLUSH: Final = r"""
for family in -4 -6; do
  ip $family rule show |
    sed -nE '/^(0|32766|32767):/!s/^([0-9]+):.*/rule del priority \1/p' |
    ip $family -force -batch -
done
"""
DROP_IN: Final = "/run/systemd/networkd.conf.d/10-nicwatchd.conf"  # an empty one here masks ours


async def snapshot(host: VmHost) -> dict[str, list[str]]:
    """All that LOOKS shows now."""
    return {
        kind: (await host.vm.try_run("sh", "-c", look)).out.splitlines()
        for kind, look in LOOKS.items()
    }


async def all_of_it(host: VmHost) -> str:
    """The same in one text."""
    return "\n".join(line for lines in (await snapshot(host)).values() for line in lines)


async def flush_rules(host: VmHost) -> None:
    """Delete all rules but the kernel's. Somebody else may be faster: what is gone is gone."""
    await host.vm.try_run("sh", "-c", FLUSH)


async def hold(host: VmHost, address: IPAddress) -> None:
    """Answer on an address out of a delegated prefix, as a container would."""
    await host.vm.run("ip", "address", "add", f"{address}/{address.max_prefixlen}", "dev", "lo")


async def let_go(host: VmHost, address: IPAddress) -> None:
    """End that."""
    await host.vm.run("ip", "address", "del", f"{address}/{address.max_prefixlen}", "dev", "lo")


async def mask_drop_in(host: VmHost) -> None:
    """Take away what keeps systemd-networkd from deleting others' rules."""
    await host.vm.run("install", "-D", "/dev/null", DROP_IN)
    await host.vm.run("systemctl", "restart", "systemd-networkd")


async def unmask_drop_in(host: VmHost) -> None:
    """Put it back in force."""
    await host.vm.run("rm", DROP_IN)
    await host.vm.run("systemctl", "restart", "systemd-networkd")


class RuleLog:
    """What became of the rules that were there at the beginning and are ours; known at the end."""

    missing: float | None = 0.0  # s; the longest time that one was not there; None: it stayed away


@asynccontextmanager
async def rule_log(host: VmHost) -> AsyncIterator[RuleLog]:
    """Follow our rules in the guest, by the guest's own clock."""
    log, missing = RuleLog(), []
    before = {family: await our_rules(host, family) for family in Family}
    for family in Family:  # apart: some read alike in both
        await host.vm.run(
            *("systemd-run", "--quiet", "--collect", f"--unit=rule-log-{family}"),
            f"--property=StandardOutput=file:/run/rules-{family}.log",
            *("ip", f"-{family}", "-ts", "-o", "monitor", "rule"),
        )
    yield log
    for family in Family:
        text = await host.vm.run("cat", f"/run/rules-{family}.log")
        missing.append(judge.missing(text, before[family]))
        await host.vm.run("systemctl", "stop", f"rule-log-{family}")
        await host.vm.run("rm", f"/run/rules-{family}.log")
    log.missing = judge.latest(missing)


async def our_rules(host: VmHost, family: Family) -> list[str]:
    """The rules of one family that carry nicwatchd's mark."""
    said = await host.vm.run("ip", f"-{family}", "rule")
    return [line for line in said.splitlines() if " proto 236" in line]
