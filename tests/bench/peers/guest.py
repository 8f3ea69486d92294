"""Inspects and changes the guest, not through its network."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nicwatchd.core.model import Family, IPAddress
from tests.bench.peers import judge
from tests.vm.host import VmHost

# What an agent may leave behind, by kind; one item per line.
LOOKS: Final = {
    "addresses": "ip -o address",
    "rules": "ip -4 rule; ip -6 rule",
    "routes": "ip -4 route show table all; ip -6 route show table all",
    "files": "find /run/systemd/network /etc/systemd/network /etc/netplan /run/netplan ! -type d",
}
# All except the kernel's, one by one, in one process: as fast as other software would do it.
FLUSH: Final = r"""
for family in -4 -6; do
  ip $family rule show |
    sed -nE '/^(0|32766|32767):/!s/^([0-9]+):.*/rule del priority \1/p' |
    ip $family -force -batch -
done
"""
DROP_IN: Final = "/run/systemd/networkd.conf.d/10-nicwatchd.conf"  # an empty one here masks ours


async def snapshot(host: VmHost) -> dict[str, list[str]]:
    """The current output of all LOOKS."""
    return {
        kind: (await host.vm.try_run("sh", "-c", look)).out.splitlines()
        for kind, look in LOOKS.items()
    }


async def all_of_it(host: VmHost) -> str:
    """The same as one text."""
    return "\n".join(line for lines in (await snapshot(host)).values() for line in lines)


async def flush_rules(host: VmHost) -> None:
    """Delete all rules except the kernel's. Ignores rules that somebody else deletes first."""
    await host.vm.try_run("sh", "-c", FLUSH)


async def hold(host: VmHost, address: IPAddress) -> None:
    """Answer on an address of a delegated prefix, as a container would."""
    await host.vm.run("ip", "address", "add", f"{address}/{address.max_prefixlen}", "dev", "lo")


async def let_go(host: VmHost, address: IPAddress) -> None:
    """End that."""
    await host.vm.run("ip", "address", "del", f"{address}/{address.max_prefixlen}", "dev", "lo")


async def mask_drop_in(host: VmHost) -> None:
    """Disable the drop-in that keeps systemd-networkd from deleting the rules of others."""
    await host.vm.run("install", "-D", "/dev/null", DROP_IN)
    await host.vm.run("systemctl", "restart", "systemd-networkd")


async def unmask_drop_in(host: VmHost) -> None:
    """Enable the drop-in again."""
    await host.vm.run("rm", DROP_IN)
    await host.vm.run("systemctl", "restart", "systemd-networkd")


async def renew(host: VmHost, *links: str) -> None:
    """Renew the leases of links. On each of the hosts it is networkd that has them."""
    for link in links:
        await host.vm.run("networkctl", "renew", link)


async def flap(host: VmHost, link: str) -> None:
    """Take a link down and up again."""
    await host.vm.run("ip", "link", "set", link, "down")
    await host.vm.run("ip", "link", "set", link, "up")


class RuleLog:
    """What happened to our rules that existed at the beginning; known at the end."""

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
